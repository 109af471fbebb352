// SPDX-License-Identifier: Apache-2.0

package spectrumkv

import (
	"unsafe"

	"github.com/spectrumkv/libspectrumkv/bindings/go/internal/abi"
)

// Fingerprint is the identity of a model: weights, tokenizer, RoPE, in the caller's scheme.
type Fingerprint [FingerprintBytes]byte

// RequestID is the identity of a request.
type RequestID [RequestIDBytes]byte

// Strides says how far apart neighbours lie in a plane, in bytes. Element (token t, head h, channel c) is at
// block * Block + (t % blockTokens) * Token + h * Head + c * Elem.
type Strides struct {
	Block int64 // not used without a block table
	Token int64
	Head  int64
	Elem  int64
}

// TokenMajor is the strides of [tokens, heads, dim] of elements of so many bytes.
func TokenMajor(heads, dim, bytes int) Strides {
	return Strides{Token: int64(heads * dim * bytes), Head: int64(dim * bytes), Elem: int64(bytes)}
}

// HeadMajor is the strides of [heads, tokens, dim] of elements of so many bytes.
func HeadMajor(tokens, dim, bytes int) Strides {
	return Strides{Token: int64(dim * bytes), Head: int64(tokens * dim * bytes), Elem: int64(bytes)}
}

// Cache is a view of KV memory that the caller owns: the source of scoring and encoding, the destination of decoding. The
// setters may be called in any order. The memory stays pinned until the cache is closed.
type Cache struct{ o *owned }

func newCache(handle unsafe.Pointer, keep ...*memory) *Cache {
	c := new(Cache)
	c.o = own(c, "cache", handle, false, infallible(abi.Lib.CacheDestroy))
	c.o.keep = keep
	return c
}

// NewCache makes a view of 1 to 4096 layers. Errors: ErrRange, ErrNoMemory, ErrUnavailable (no library).
func NewCache(layers int) (c *Cache, err error) {
	if err := ready(); err != nil {
		return nil, err
	}
	err = do(func(at *frame) int32 {
		status := abi.Lib.CacheCreate(c32(layers), &at.handle, &at.err)
		if status == 0 {
			c = newCache(at.handle)
		}
		return status
	})
	return c, err
}

func (c *Cache) owner() *owned { return c.o }

// Close releases the view and unpins its memory. Calling it again does nothing.
func (c *Cache) Close() error { return c.o.close() }

func (c *Cache) do(f func(cache unsafe.Pointer, at *frame) int32) error {
	return with(c, func(cache unsafe.Pointer) error {
		return do(func(at *frame) int32 { return f(cache, at) })
	})
}

// SetTokens sets the token range of a layer (or All). Layers may differ (sliding windows). Errors: ErrRange, ErrEmpty.
func (c *Cache) SetTokens(layer int, firstPosition, tokens int64) error {
	return c.do(func(cache unsafe.Pointer, at *frame) int32 {
		return abi.Lib.CacheSetTokens(cache, c32(layer), firstPosition, tokens, &at.err)
	})
}

// SetLayer sets the geometry of a layer (or All): dims are channels of one head, multiples of 8; vDim 0 means no V.
//
// Errors: ErrRange, ErrGeometry, ErrDType.
func (c *Cache) SetLayer(layer, kvHeads, kDim, vDim int, dtype DType) error {
	return c.do(func(cache unsafe.Pointer, at *frame) int32 {
		return abi.Lib.CacheSetLayer(cache, c32(layer), c32(kvHeads), c32(kDim), c32(vDim), int32(dtype), &at.err)
	})
}

// SetFirstHead says that this view's head 0 is the layer's head firstHead (tensor-parallel slices). Errors: ErrRange.
func (c *Cache) SetFirstHead(layer, firstHead int) error {
	return c.do(func(cache unsafe.Pointer, at *frame) int32 {
		return abi.Lib.CacheSetFirstHead(cache, c32(layer), c32(firstHead), &at.err)
	})
}

// SetGroup sets the KV-cache group of a layer (or All), 0 to 255. It travels with the payload. Errors: ErrRange.
func (c *Cache) SetGroup(layer, group int) error {
	return c.do(func(cache unsafe.Pointer, at *frame) int32 {
		return abi.Lib.CacheSetGroup(cache, c32(layer), c32(group), &at.err)
	})
}

// SetPlane sets the memory of a layer's K or V (see [Bytes]). It is pinned, not copied. Memory that Go did not allocate, such as
// a mapped file's, is fine too.
//
// Errors: ErrNull, ErrRange, ErrStride.
func (c *Cache) SetPlane(layer int, half Half, plane []byte, strides Strides) error {
	m := pinned(plane)
	err := c.do(func(cache unsafe.Pointer, at *frame) int32 {
		status := abi.Lib.CacheSetPlane(cache, c32(layer), int32(half), unsafe.Pointer(unsafe.SliceData(plane)),
			uintptr(len(plane)), strides.Block, strides.Token, strides.Head, strides.Elem, &at.err)
		if status == 0 {
			c.o.keeping(m)
		}
		return status
	})
	if err != nil {
		m.release()
	}
	return err
}

// SetBlocks sets the block table of a layer (or All), copied: token t is slot t % blockTokens of block ids[t / blockTokens].
//
// Errors: ErrNull, ErrRange, ErrBlockID.
func (c *Cache) SetBlocks(layer int, ids []int32, blockTokens int) error {
	return c.do(func(cache unsafe.Pointer, at *frame) int32 {
		return abi.Lib.CacheSetBlocks(cache, c32(layer), unsafe.SliceData(ids), uintptr(len(ids)), c32(blockTokens), &at.err)
	})
}

// SetIdentity says what this cache belongs to; nil is all zero. A destination accepts only a payload of an equal fingerprint,
// and of an equal request id unless its own is all zero.
func (c *Cache) SetIdentity(fingerprint *Fingerprint, request *RequestID) error {
	return c.do(func(cache unsafe.Pointer, at *frame) int32 {
		return abi.Lib.CacheSetIdentity(cache, (*byte)(unsafe.Pointer(fingerprint)), (*byte)(unsafe.Pointer(request)), &at.err)
	})
}

// Set sets an option. Errors: ErrKey, ErrRange.
func (c *Cache) Set(key CacheKey, value int64) error {
	return c.do(func(cache unsafe.Pointer, at *frame) int32 {
		return abi.Lib.CacheSet(cache, int32(key), value, &at.err)
	})
}

// Check checks the whole view, as every call that uses it does. Errors: ErrEmpty, ErrStride, ErrBlockID, ErrOverlap, ErrRange.
func (c *Cache) Check() error {
	return c.do(func(cache unsafe.Pointer, at *frame) int32 { return abi.Lib.CacheCheck(cache, &at.err) })
}

// RawBytes is the size of the same elements at 16 bits each: what ratios and budget fractions refer to. Errors: ErrEmpty.
func (c *Cache) RawBytes() (bytes uint64, err error) {
	err = c.do(func(cache unsafe.Pointer, at *frame) int32 {
		status := abi.Lib.CacheRawBytes(cache, &at.u64, &at.err)
		bytes = at.u64
		return status
	})
	return bytes, err
}

// FromLlama makes a view of a llama.cpp sequence state (llama_state_seq_get_data), pinned. heads: kv-heads of each layer in
// the blob's order (full-attention cache first, then the sliding-window one).
//
// Errors: ErrMalformed, ErrTruncated, ErrTrailing, ErrFeature, ErrGeometry, ErrRange, ErrEmpty.
func FromLlama(blob []byte, heads []int32) (c *Cache, err error) {
	if err := ready(); err != nil {
		return nil, err
	}
	m := pinned(blob)
	err = do(func(at *frame) int32 {
		status := abi.Lib.CacheFromLlama(unsafe.Pointer(unsafe.SliceData(blob)), uintptr(len(blob)), unsafe.SliceData(heads),
			c32(len(heads)), &at.handle, &at.err)
		if status == 0 {
			c = newCache(at.handle, m)
		}
		return status
	})
	if err != nil {
		m.release()
	}
	return c, err
}

// ToLlama frames a llama.cpp blob for a payload (everything but the tensors) and returns the view whose decoding completes it.
// vTrans: false for a context with flash attention. The view refuses a payload of another fingerprint.
//
// Errors: ErrDType, ErrLayout (not the shape of a llama.cpp cache), ErrTooSmall.
func ToLlama(payload *Payload, vTrans bool, dtype DType, fingerprint *Fingerprint, blob []byte) (c *Cache, err error) {
	m := pinned(blob)
	err = with(payload, func(p unsafe.Pointer) error {
		return do(func(at *frame) int32 {
			status := abi.Lib.CacheToLlama(p, flag(vTrans), int32(dtype), (*byte)(unsafe.Pointer(fingerprint)),
				unsafe.Pointer(unsafe.SliceData(blob)), uintptr(len(blob)), &at.handle, &at.err)
			if status == 0 {
				c = newCache(at.handle, m)
			}
			return status
		})
	})
	if err != nil {
		m.release()
	}
	return c, err
}

// LlamaBlobBytes is the size of the blob that holds a payload's cells. Errors: ErrDType, ErrLayout.
func LlamaBlobBytes(payload *Payload, vTrans bool, dtype DType) (bytes uint64, err error) {
	err = with(payload, func(p unsafe.Pointer) error {
		return do(func(at *frame) int32 {
			status := abi.Lib.LlamaBlobBytes(p, flag(vTrans), int32(dtype), &at.u64, &at.err)
			bytes = at.u64
			return status
		})
	})
	return bytes, err
}

func flag(value bool) int32 {
	if value {
		return 1
	}
	return 0
}
