// SPDX-License-Identifier: Apache-2.0

package spectrumkv

import (
	"bytes"
	"fmt"
	"sync"
	"syscall"
	"unsafe"

	"github.com/spectrumkv/libspectrumkv/bindings/go/internal/abi"
)

// Error is what the library said no with.
type Error struct {
	Status  Status
	Native  int    // errno, CUDA or NCCL code behind it, else 0
	Message string // what was got and what is wanted
}

// Error is the status's name and the message.
func (e *Error) Error() string { return e.Status.String() + ": " + e.Message }

// Is compares with a Status, so that errors.Is(err, ErrBudget) works.
func (e *Error) Is(target error) bool {
	status, ok := target.(Status)
	return ok && status == e.Status
}

// Unwrap is the operating system's error behind ErrIO, else nil.
func (e *Error) Unwrap() error {
	if e.Status == ErrIO && e.Native != 0 {
		return syscall.Errno(e.Native)
	}
	return nil
}

// Error makes a status usable with errors.Is.
func (x Status) Error() string { return x.String() }

func nameOf[T ~int32](value T, names map[T]string) string {
	if name, ok := names[value]; ok {
		return name
	}
	return fmt.Sprintf("%d", int32(value))
}

// frame holds what a call writes: it must lie in memory that does not move.
type frame struct {
	err     abi.Error
	handle  unsafe.Pointer
	pointer unsafe.Pointer
	i32     int32
	i64     int64
	u64     uint64
	f64     float64
	three   [3]int32
	size    uintptr
}

var frames = sync.Pool{New: func() any { return new(frame) }}

// call calls a fallible function with a place for its outputs and its error.
func call(f func(*frame) int32) (Status, error) {
	at := frames.Get().(*frame)
	defer func() {
		at.handle, at.pointer = nil, nil // may point to Go memory that is pinned no longer
		frames.Put(at)
	}()
	return at.call(f)
}

func (at *frame) call(f func(*frame) int32) (Status, error) {
	status := Status(f(at))
	if status >= 0 {
		return status, nil
	}
	text := at.err.Message[:]
	if end := bytes.IndexByte(text, 0); end >= 0 {
		text = text[:end]
	}
	return status, &Error{Status: status, Native: int(at.err.Native), Message: string(text)}
}

// do is call without its status.
func do(f func(*frame) int32) error {
	_, err := call(f)
	return err
}

func fail(status Status, format string, arguments ...any) error {
	return &Error{Status: status, Message: fmt.Sprintf(format, arguments...)}
}

var checkABI = sync.OnceValue(func() error {
	if abi.Lib == nil {
		return fail(ErrUnavailable, "built without cgo and without the module purego: import one that finds libspectrumkv")
	}
	if found := abi.Lib.AbiVersion(); found != abi.ABIVersion {
		return fail(ErrUnavailable, "libspectrumkv of ABI version %d, this module needs %d", found, abi.ABIVersion)
	}
	return nil
})

// ready says whether the library can be called. Asked by everything that makes a handle.
func ready() error {
	if err := abi.Ready(); err != nil {
		return &Error{Status: ErrUnavailable, Message: err.Error()}
	}
	return checkABI()
}

// c32 and c64: counts and indices for C. What does not fit is out of every range that the library accepts.
func c32(value int) int32 {
	const most = 1<<31 - 1
	return int32(min(max(value, -most), most))
}

func text(p *byte) string {
	if p == nil {
		return ""
	}
	n := 0
	for *(*byte)(unsafe.Add(unsafe.Pointer(p), n)) != 0 {
		n++
	}
	return string(unsafe.Slice(p, n))
}

// cText is a NUL-terminated copy.
func cText(s, what string) (*byte, error) {
	b := append([]byte(s), 0)
	if bytes.IndexByte(b, 0) != len(s) {
		return nil, fail(ErrArgument, "%s %q: a NUL in it", what, s)
	}
	return &b[0], nil
}

// Version is the loaded library's version, e.g. "0.1.0".
func Version() (string, error) {
	if err := ready(); err != nil {
		return "", err
	}
	return text(abi.Lib.VersionString()), nil
}

// VersionNumber is the same as major * 10000 + minor * 100 + patch.
func VersionNumber() (int, error) {
	if err := ready(); err != nil {
		return 0, err
	}
	return int(abi.Lib.Version()), nil
}

// WireVersion is the payload format that the loaded library writes.
func WireVersion() (major, minor int, err error) {
	if err := ready(); err != nil {
		return 0, 0, err
	}
	value := abi.Lib.WireVersion()
	return int(value >> 8), int(value & 255), nil
}

// StatusName is the loaded library's name of a status, "SKV_UNKNOWN" for one that it does not define.
func StatusName(status Status) (string, error) {
	if err := ready(); err != nil {
		return "", err
	}
	return text(abi.Lib.StatusName(int32(status))), nil
}
