// SPDX-License-Identifier: Apache-2.0

package spectrumkv

import (
	"context"
	"time"
	"unsafe"
	"weak"

	"github.com/spectrumkv/libspectrumkv/bindings/go/internal/abi"
)

// How long closing a live request may wait for it to let go of its memory, as in the other bindings.
const letGo = 2 * time.Second

// Request is one asynchronous operation: a payload on its way out, or the wait for an offer and what follows. It reaches exactly
// one terminal status, and until then keeps the memory that it reads or fills.
type Request struct {
	o    *owned
	conn *Conn
	stop func() bool // ends the link to the context that it was made with
}

func newRequest(ctx context.Context, handle unsafe.Pointer, conn *Conn, keep []*memory) *Request {
	r := &Request{conn: conn}
	endpoint := conn.endpoint
	r.o = own(r, "request", handle, true, func(handle unsafe.Pointer) error {
		endpoint.mu.Lock() // before its address can become another's
		delete(endpoint.requests, handle)
		endpoint.mu.Unlock()
		return endRequest(handle)
	})
	r.o.keep = keep
	endpoint.mu.Lock()
	endpoint.requests[handle] = weak.Make(r).Value
	endpoint.mu.Unlock()
	o := r.o
	r.stop = context.AfterFunc(ctx, func() { cancel(o) })
	return r
}

func cancel(o *owned) {
	_ = with(o, func(request unsafe.Pointer) error {
		return do(func(at *frame) int32 { return abi.Lib.RequestCancel(request, &at.err) })
	})
}

// endRequest destroys a request; one that moves bytes is cancelled first, and waited for.
func endRequest(handle unsafe.Pointer) error {
	destroy := func(at *frame) int32 { return abi.Lib.RequestDestroy(handle, &at.err) }
	if err := do(destroy); err == nil {
		return nil
	}
	_ = do(func(at *frame) int32 { return abi.Lib.RequestCancel(handle, &at.err) })
	_ = do(func(at *frame) int32 { return abi.Lib.RequestWait(handle, deadline(letGo), &at.err) })
	return do(destroy)
}

func (r *Request) owner() *owned { return r.o }

// Close releases the request. One that is live is cancelled; when it moves bytes this waits, at most two seconds, until nothing
// touches its memory any more. Calling it again does nothing.
//
// Errors: ErrBusy: it could not be ended, and its memory is never freed.
func (r *Request) Close() error {
	r.stop()
	return r.o.close()
}

func (r *Request) do(f func(request unsafe.Pointer, at *frame) int32) (status Status, err error) {
	err = with(r, func(request unsafe.Pointer) error {
		status, err = call(func(at *frame) int32 { return f(request, at) })
		return err
	})
	return status, err
}

// Get is a fact about it. Errors: ErrKey.
func (r *Request) Get(key RequestKey) (value int64, err error) {
	_, err = r.do(func(request unsafe.Pointer, at *frame) int32 {
		status := abi.Lib.RequestGet(request, int32(key), &at.i64, &at.err)
		value = at.i64
		return status
	})
	return value, err
}

// State is where it stands.
func (r *Request) State() (RequestState, error) {
	value, err := r.Get(RequestStateKey)
	return RequestState(value), err
}

// Offer is what a peer offers.
type Offer struct {
	Key         uint64 // the sender's
	Bytes       int64
	Layers      int64
	Fingerprint Fingerprint
	RequestID   RequestID
}

// Offer is what is on offer. Errors: ErrState (no offer yet).
func (r *Request) Offer() (Offer, error) {
	offer := new(Offer)
	_, err := r.do(func(request unsafe.Pointer, at *frame) int32 {
		return abi.Lib.RequestIdentity(request, &offer.Fingerprint[0], &offer.RequestID[0], &at.err)
	})
	if err != nil {
		return Offer{}, err
	}
	key, err := r.Get(RequestKeyKey)
	if err != nil {
		return Offer{}, err
	}
	offer.Key = uint64(key)
	if offer.Bytes, err = r.Get(RequestBytes); err != nil {
		return Offer{}, err
	}
	offer.Layers, err = r.Get(RequestLayers)
	return *offer, err
}

// Set sets an option, before the offer is accepted: RequestEarlyLayers 1 lets [Request.Payload] be taken once the first layer
// arrived, and each layer be decoded once [Request.WaitLayer] said so. If the transfer fails later, what was decoded is the
// caller's to discard.
//
// Errors: ErrKey, ErrRange, ErrState (a send, or already accepted).
func (r *Request) Set(key RequestKey, value int64) error {
	_, err := r.do(func(request unsafe.Pointer, at *frame) int32 {
		return abi.Lib.RequestSet(request, int32(key), value, &at.err)
	})
	return err
}

// Accept takes the offer; the library allocates. The context's deadline is the transfer's.
//
// Errors: ErrState (no offer), ErrNoMemory, ErrClosed.
func (r *Request) Accept(ctx context.Context) error {
	_, err := r.do(func(request unsafe.Pointer, at *frame) int32 {
		return abi.Lib.OfferAccept(request, nil, 0, deadline(remaining(ctx)), &at.err)
	})
	return err
}

// AcceptInto takes the offer into the caller's memory, 16-byte aligned (see [AlignedBytes]), pinned until the request, and the
// payload that reads it, are closed. Do not touch it before the request ended.
//
// Errors: ErrState (no offer), ErrTooSmall, ErrArgument (alignment), ErrClosed.
func (r *Request) AcceptInto(ctx context.Context, buffer []byte) error {
	m := pinned(buffer)
	_, err := r.do(func(request unsafe.Pointer, at *frame) int32 {
		status := abi.Lib.OfferAccept(request, unsafe.Pointer(unsafe.SliceData(buffer)), uintptr(len(buffer)),
			deadline(remaining(ctx)), &at.err)
		if status == 0 {
			r.o.keeping(m)
		}
		return status
	})
	if err != nil {
		m.release()
	}
	return err
}

// Reject declines the offer. The sender ends in ErrRejected with the reason (at most 200 bytes), and so does this request.
//
// Errors: ErrState (no offer).
func (r *Request) Reject(reason string) error {
	c, err := cText(reason, "reason")
	if err != nil {
		return err
	}
	_, err = r.do(func(request unsafe.Pointer, at *frame) int32 { return abi.Lib.OfferReject(request, c, &at.err) })
	return err
}

// Test says whether it has an offer to decide on, or ended well. It never waits. Errors: its terminal status.
func (r *Request) Test() (bool, error) {
	status, err := r.do(func(request unsafe.Pointer, at *frame) int32 { return abi.Lib.RequestTest(request, &at.err) })
	return status == OK && err == nil, err
}

// Wait waits until it has an offer to decide on, or ended. When the context ends first the request is cancelled, and its terminal
// status is waited for.
//
// Errors: its terminal status, joined by the context's error when that ended it.
func (r *Request) Wait(ctx context.Context) error {
	return r.wait(ctx, func(request unsafe.Pointer, until uint64, at *frame) int32 {
		return abi.Lib.RequestWait(request, until, &at.err)
	})
}

// WaitLayer waits until the leading layer + 1 layers arrived and verified, otherwise as Wait.
//
// Errors: as Wait, ErrState, ErrRange.
func (r *Request) WaitLayer(ctx context.Context, layer int) error {
	return r.wait(ctx, func(request unsafe.Pointer, until uint64, at *frame) int32 {
		return abi.Lib.RequestWaitLayer(request, c32(layer), until, &at.err)
	})
}

func (r *Request) wait(ctx context.Context, f func(request unsafe.Pointer, until uint64, at *frame) int32) error {
	stop := context.AfterFunc(ctx, func() { cancel(r.o) })
	defer stop()
	end := time.Now().Add(remaining(ctx))
	if _, has := ctx.Deadline(); has {
		end = end.Add(letGo) // the context's end cancels; this is for the case that cancelling does not help
	}
	for {
		left := time.Until(end)
		status, err := r.do(func(request unsafe.Pointer, at *frame) int32 {
			return f(request, deadline(min(left, slice)), at)
		})
		if err != nil {
			return ended(ctx, err)
		}
		if status == OK {
			return nil
		}
		if left <= 0 {
			r.Cancel()
			return ended(ctx, fail(ErrTimedOut, "the request is still in progress"))
		}
	}
}

// Cancel asks for an early end. It still reaches one terminal status: ErrCancelled, unless it had ended.
func (r *Request) Cancel() { cancel(r.o) }

// Payload is the received payload of a request that ended well, opened and validated. Once.
//
// Errors: ErrState (not ended, or taken already), and those of [Open].
func (r *Request) Payload() (p *Payload, err error) {
	_, err = r.do(func(request unsafe.Pointer, at *frame) int32 {
		status := abi.Lib.RequestPayload(request, &at.handle, &at.err)
		if status == 0 {
			p = newPayload(at.handle, r.o.shared()...)
		}
		return status
	})
	return p, err
}
