// SPDX-License-Identifier: Apache-2.0

package spectrumkv

import (
	"unsafe"

	"github.com/spectrumkv/libspectrumkv/bindings/go/internal/abi"
)

// Engine is a device with its threads and scratch, which scores, encodes and decodes.
type Engine struct{ o *owned }

// NewEngine makes an engine on a device: DeviceCPU, or a CUDA ordinal.
//
// Errors: ErrRange, ErrUnavailable (no library, no such device), ErrNoMemory.
func NewEngine(device int) (*Engine, error) {
	if err := ready(); err != nil {
		return nil, err
	}
	e := new(Engine)
	_, err := call(func(at *frame) int32 {
		status := abi.Lib.EngineCreate(c32(device), &at.handle, &at.err)
		if status == 0 {
			e.o = own(e, "engine", at.handle, false, infallible(abi.Lib.EngineDestroy))
		}
		return status
	})
	if err != nil {
		return nil, err
	}
	return e, nil
}

func (e *Engine) owner() *owned { return e.o }

// Close releases the engine. Calling it again does nothing.
func (e *Engine) Close() error { return e.o.close() }

// Set sets an option, before or between calls. Errors: ErrKey, ErrRange, ErrUnavailable (a target that this CPU lacks).
func (e *Engine) Set(key EngineKey, value int64) error {
	return with(e, func(engine unsafe.Pointer) error {
		return do(func(at *frame) int32 { return abi.Lib.EngineSet(engine, int32(key), value, &at.err) })
	})
}

// Get is an option's value in force. Errors: ErrKey.
func (e *Engine) Get(key EngineKey) (value int64, err error) {
	err = with(e, func(engine unsafe.Pointer) error {
		return do(func(at *frame) int32 {
			status := abi.Lib.EngineGet(engine, int32(key), &at.i64, &at.err)
			value = at.i64
			return status
		})
	})
	return value, err
}

// Describe is a line such as "cpu avx512 2 threads".
func (e *Engine) Describe() (line string, err error) {
	buffer := make([]byte, 256)
	err = with(e, func(engine unsafe.Pointer) error {
		return do(func(at *frame) int32 {
			return abi.Lib.EngineDescribe(engine, &buffer[0], uintptr(len(buffer)), &at.err)
		})
	})
	if err != nil {
		return "", err
	}
	return text(&buffer[0]), nil
}

// Score computes every weight that the caller did not give, from the queries set, else from keys and values.
//
// Errors: those of the view, ErrGeometry (queries that do not fit the cache), ErrNonFinite.
func (e *Engine) Score(cache *Cache, scores *Scores) error {
	return use([]holder{e, cache, scores}, func(h []unsafe.Pointer) error {
		return do(func(at *frame) int32 { return abi.Lib.Score(h[0], h[1], h[2], &at.err) })
	})
}

// Encode encodes the whole cache by a solved plan, into a payload that owns its bytes.
//
// Errors: those of the view, ErrState (plan not solved), ErrLayout (not the cache that was planned for), ErrNonFinite,
// ErrOverflow, ErrNoMemory.
func (e *Engine) Encode(cache *Cache, plan *Plan) (p *Payload, err error) {
	err = use([]holder{e, cache, plan}, func(h []unsafe.Pointer) error {
		return do(func(at *frame) int32 {
			status := abi.Lib.Encode(h[0], h[1], h[2], nil, &at.handle, &at.err)
			if status == 0 {
				p = newPayload(at.handle)
			}
			return status
		})
	})
	return p, err
}

// Pack gives the same payload packed: without loss 6 to 16 % fewer bytes, for slow links. Used like any other.
//
// Errors: ErrState (layers missing, or packed already).
func (e *Engine) Pack(payload *Payload) (p *Payload, err error) {
	err = use([]holder{e, payload}, func(h []unsafe.Pointer) error {
		return do(func(at *frame) int32 {
			status := abi.Lib.PayloadPack(h[0], h[1], &at.handle, &at.err)
			if status == 0 {
				p = newPayload(at.handle)
			}
			return status
		})
	})
	return p, err
}

// EncodeInto does the same into the caller's memory of [Plan.Bytes] bytes, 16-byte aligned (see [AlignedBytes]), which stays
// pinned until the payload is closed.
//
// Errors: as Encode, ErrTooSmall, ErrArgument (alignment).
func (e *Engine) EncodeInto(cache *Cache, plan *Plan, buffer []byte) (p *Payload, err error) {
	m := pinned(buffer)
	err = use([]holder{e, cache, plan}, func(h []unsafe.Pointer) error {
		return do(func(at *frame) int32 {
			base := unsafe.Pointer(unsafe.SliceData(buffer))
			status := abi.Lib.EncodeInto(h[0], h[1], h[2], nil, base, uintptr(len(buffer)), &at.handle, &at.err)
			if status == 0 {
				p = newPayload(at.handle, m)
			}
			return status
		})
	})
	if err != nil {
		m.release()
	}
	return p, err
}

// EncodeLayer encodes one layer into its place in a payload of [NewPayload], while others are still being computed.
//
// Errors: as Encode, ErrState (already encoded, or not under construction).
func (e *Engine) EncodeLayer(cache *Cache, plan *Plan, layer int, payload *Payload) error {
	return use([]holder{e, cache, plan, payload}, func(h []unsafe.Pointer) error {
		return do(func(at *frame) int32 {
			return abi.Lib.EncodeLayer(h[0], h[1], h[2], c32(layer), nil, h[3], &at.err)
		})
	})
}

// EncodeUpgrade makes a payload of what a plan solved by [Plan.Upgrade] adds to the base. The cache must still hold what the base
// was encoded from: every raised row is compared with the base's.
//
// Errors: those of the view, ErrState (plan not solved by Upgrade), ErrBase (solved for another payload, or a row changed),
// ErrLayout, ErrModel, ErrRequest, ErrNonFinite, ErrOverflow, ErrChecksum, ErrNoMemory.
func (e *Engine) EncodeUpgrade(cache *Cache, base *Payload, plan *Plan) (p *Payload, err error) {
	err = use([]holder{e, cache, base, plan}, func(h []unsafe.Pointer) error {
		return do(func(at *frame) int32 {
			status := abi.Lib.EncodeUpgrade(h[0], h[1], h[2], h[3], &at.handle, &at.err)
			if status == 0 {
				p = newPayload(at.handle)
			}
			return status
		})
	})
	return p, err
}

// Decode decodes every layer into the cache, whose layout, block size, dtype and head range may differ from the source's.
// Digests, identity, geometry and view are checked before the first byte is written; on any error the destination is
// untouched.
//
// Errors: those of the view, ErrModel, ErrRequest, ErrLayout, ErrChecksum, ErrPermitted (dropped tokens and the cache cannot
// mask), ErrState, ErrMalformed.
func (e *Engine) Decode(payload *Payload, cache *Cache) error {
	return use([]holder{e, cache, payload}, func(h []unsafe.Pointer) error {
		return do(func(at *frame) int32 { return abi.Lib.Decode(h[0], h[2], h[1], nil, &at.err) })
	})
}

// DecodeLayer is Decode for one layer.
func (e *Engine) DecodeLayer(payload *Payload, cache *Cache, layer int) error {
	return use([]holder{e, cache, payload}, func(h []unsafe.Pointer) error {
		return do(func(at *frame) int32 { return abi.Lib.DecodeLayer(h[0], h[2], h[1], c32(layer), nil, &at.err) })
	})
}
