// SPDX-License-Identifier: Apache-2.0

package spectrumkv

import (
	"cmp"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"
)

// memory is Go memory that C reads or writes: pinned until the last handle that uses it lets go.
type memory struct {
	mu   sync.Mutex
	pin  runtime.Pinner
	uses int
}

// pinned pins the bytes, for one user.
func pinned(bytes []byte) *memory {
	m := &memory{uses: 1}
	if len(bytes) > 0 {
		m.pin.Pin(unsafe.SliceData(bytes))
	}
	return m
}

func (m *memory) retain() *memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.uses++
	return m
}

func (m *memory) release() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.uses--; m.uses == 0 {
		m.pin.Unpin()
	}
}

// owned is a C handle with its users counted: it is destroyed when closed and no call uses it any more.
type owned struct {
	kind    string
	serial  uint64 // handles in the order they were made: the order in which calls with several take them
	destroy func(unsafe.Pointer) error
	turn    *sync.Mutex // calls take turns; nil for handles that the library makes thread-safe

	mu     sync.Mutex
	handle unsafe.Pointer
	users  int
	closed bool
	keep   []*memory
	lost   bool // its memory is never let go
}

var serials atomic.Uint64

// own wraps a handle for an object; the garbage collector closes what its owner forgets.
func own[T any](object *T, kind string, handle unsafe.Pointer, shared bool, destroy func(unsafe.Pointer) error) *owned {
	o := &owned{kind: kind, serial: serials.Add(1), destroy: destroy, handle: handle}
	if !shared {
		o.turn = new(sync.Mutex)
	}
	runtime.AddCleanup(object, func(o *owned) {
		if shared { // may wait for a transfer to let go
			go o.close()
			return
		}
		_ = o.close()
	}, o)
	return o
}

func infallible(destroy func(unsafe.Pointer)) func(unsafe.Pointer) error {
	return func(handle unsafe.Pointer) error {
		destroy(handle)
		return nil
	}
}

// acquire is the handle for one call; release must follow. Calls with several handles take them by [use].
func (o *owned) acquire() (unsafe.Pointer, error) {
	if o.turn != nil {
		o.turn.Lock()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		if o.turn != nil {
			o.turn.Unlock()
		}
		return nil, fail(ErrClosed, "the %s is closed", o.kind)
	}
	o.users++
	return o.handle, nil
}

func (o *owned) release() {
	if o.turn != nil {
		defer o.turn.Unlock()
	}
	o.leave()
}

// leave is the end of a use whose turn has ended already.
func (o *owned) leave() {
	o.mu.Lock()
	o.users--
	last := o.closed && o.users == 0
	o.mu.Unlock()
	if last {
		_ = o.end()
	}
}

// keeping adds memory that lives until the handle is destroyed.
func (o *owned) keeping(m *memory) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.keep = append(o.keep, m)
}

// shared retains the memory for another user.
func (o *owned) shared() []*memory {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := make([]*memory, len(o.keep))
	for i, m := range o.keep {
		out[i] = m.retain()
	}
	return out
}

func (o *owned) close() error {
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		return nil
	}
	o.closed = true
	last := o.users == 0
	o.mu.Unlock()
	if last {
		return o.end()
	}
	return nil
}

// Memory of requests that could not be ended: lost on purpose, because a late write must not hit reused memory.
var lost struct {
	mu     sync.Mutex
	memory []*memory
}

func (o *owned) end() error {
	err := o.destroy(o.handle)
	o.mu.Lock()
	keep := o.keep
	o.keep = nil
	o.mu.Unlock()
	if err != nil {
		lost.mu.Lock()
		defer lost.mu.Unlock()
		lost.memory = append(lost.memory, keep...)
		return err
	}
	for _, m := range keep {
		m.release()
	}
	return nil
}

// holder is an object with a handle. What a call holds is the object, not only what it owns: the garbage collector closes an
// object that nothing refers to any more.
type holder interface{ owner() *owned }

// use calls f with the handles of several objects. They are taken in the order of their serials, and each once, so that neither two
// calls nor one with the same object twice can wait for each other; f gets them in the order given.
func use(objects []holder, f func(handles []unsafe.Pointer) error) error {
	defer runtime.KeepAlive(objects)
	order := make([]*owned, 0, 4)
	for _, object := range objects {
		order = append(order, object.owner())
	}
	slices.SortFunc(order, func(a, b *owned) int { return cmp.Compare(a.serial, b.serial) })
	order = slices.Compact(order)
	for i, o := range order {
		if _, err := o.acquire(); err != nil {
			for _, taken := range order[:i] {
				taken.release()
			}
			return err
		}
	}
	defer func() {
		for _, o := range order {
			o.release()
		}
	}()
	handles := make([]unsafe.Pointer, 0, 4)
	for _, object := range objects {
		handles = append(handles, object.owner().handle)
	}
	return f(handles)
}

// with calls f with one object's handle.
func with(object holder, f func(handle unsafe.Pointer) error) error {
	defer runtime.KeepAlive(object)
	handle, err := object.owner().acquire()
	if err != nil {
		return err
	}
	defer object.owner().release()
	return f(handle)
}

// owner lets an owned be used where its object is not at hand.
func (o *owned) owner() *owned { return o }

// Element is what slices of KV memory hold: float16 and bfloat16 as their bits in uint16, float32, or plain bytes.
type Element interface {
	~uint8 | ~uint16 | ~float32
}

// Bytes is a slice's memory, not a copy.
func Bytes[T Element](s []T) []byte {
	if len(s) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(s))), len(s)*int(unsafe.Sizeof(s[0])))
}

// AlignedBytes is zero memory at an address that is a multiple of 64, for EncodeInto and AcceptInto.
func AlignedBytes(size int) []byte {
	const alignment = 64
	store := make([]byte, size+alignment)
	skip := -int(uintptr(unsafe.Pointer(unsafe.SliceData(store)))) & (alignment - 1)
	return store[skip : skip+size : skip+size]
}
