// SPDX-License-Identifier: Apache-2.0

package spectrumkv

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
	"unsafe"

	"github.com/spectrumkv/libspectrumkv/bindings/go/internal/abi"
)

// DefaultTimeout is the deadline of operations whose context has none: nothing waits for ever.
const DefaultTimeout = 30 * time.Second

// Calls that wait return so often, to see whether their context ended.
const slice = 100 * time.Millisecond

// deadline is a point of CLOCK_MONOTONIC so far from now.
func deadline(in time.Duration) uint64 {
	milliseconds := (max(in, 0) + time.Millisecond - 1) / time.Millisecond
	return abi.Lib.DeadlineMs(uint64(milliseconds))
}

// remaining is what the context leaves.
func remaining(ctx context.Context) time.Duration {
	if at, ok := ctx.Deadline(); ok {
		return time.Until(at)
	}
	return DefaultTimeout
}

// ended wraps a failure with what ended the context.
func ended(ctx context.Context, err error) error {
	if cause := ctx.Err(); cause != nil && err != nil && !errors.Is(err, cause) {
		return fmt.Errorf("%w (%w)", err, cause)
	}
	return err
}

// NowNS is CLOCK_MONOTONIC in nanoseconds, the clock of the library's deadlines.
func NowNS() (uint64, error) {
	if err := ready(); err != nil {
		return 0, err
	}
	return abi.Lib.NowNs(), nil
}

// Endpoint is a local end: it listens, connects, and carries requests. Closing it closes every conn; live requests end as
// cancelled.
type Endpoint struct {
	o        *owned
	mu       sync.Mutex
	requests map[unsafe.Pointer]func() *Request
}

// NewEndpoint makes an endpoint with default options and a thread that moves the bytes.
//
// Errors: ErrNoMemory, ErrNoResource, ErrUnavailable (no library).
func NewEndpoint() (e *Endpoint, err error) {
	if err := ready(); err != nil {
		return nil, err
	}
	err = do(func(at *frame) int32 {
		status := abi.Lib.EndpointCreate(&at.handle, &at.err)
		if status == 0 {
			e = &Endpoint{requests: map[unsafe.Pointer]func() *Request{}}
			e.o = own(e, "endpoint", at.handle, true, infallible(abi.Lib.EndpointDestroy))
		}
		return status
	})
	return e, err
}

func (e *Endpoint) owner() *owned { return e.o }

// Close closes every conn and releases the endpoint. Calling it again does nothing.
func (e *Endpoint) Close() error { return e.o.close() }

func (e *Endpoint) do(f func(endpoint unsafe.Pointer, at *frame) int32) error {
	return with(e, func(endpoint unsafe.Pointer) error {
		return do(func(at *frame) int32 { return f(endpoint, at) })
	})
}

// Set sets an option, before the first Listen or Connect. Errors: ErrKey, ErrRange, ErrState.
func (e *Endpoint) Set(key EndpointKey, value int64) error {
	return e.do(func(endpoint unsafe.Pointer, at *frame) int32 {
		return abi.Lib.EndpointSet(endpoint, int32(key), value, &at.err)
	})
}

// SetModel sets the model served here. Two ends whose fingerprints differ refuse each other with ErrModel. Errors: ErrState.
func (e *Endpoint) SetModel(fingerprint Fingerprint) error {
	copied := &fingerprint
	return e.do(func(endpoint unsafe.Pointer, at *frame) int32 {
		return abi.Lib.EndpointSetModel(endpoint, &copied[0], &at.err)
	})
}

// SetPSK sets a shared key of 16 to 1024 random bytes for every TCP and Unix conn, with SecurityPsk (both ends prove it, bytes travel
// in the clear) or SecurityTlsPsk (TLS 1.3 on TCP). Copied. Errors: ErrRange, ErrState.
func (e *Endpoint) SetPSK(security Security, key []byte) error {
	return e.do(func(endpoint unsafe.Pointer, at *frame) int32 {
		return abi.Lib.EndpointSetPsk(endpoint, int32(security), unsafe.SliceData(key), uintptr(len(key)), &at.err)
	})
}

// Certificates are PEM files: this end's chain and key, and the authority that must have signed the peer's.
type Certificates struct {
	Certificate, Key, Authority string
	// What the peer's certificate must be for; "": the host of the URI when connecting, anything when accepting.
	PeerName string
}

// SetTLS sets certificates for the TCP conns, read now. Errors: ErrState, ErrAuth (names the file that cannot be used).
func (e *Endpoint) SetTLS(c Certificates) error {
	certificate, err1 := cText(c.Certificate, "certificate")
	key, err2 := cText(c.Key, "key")
	authority, err3 := cText(c.Authority, "authority")
	name, err4 := cText(c.PeerName, "peer name")
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return err
	}
	if c.PeerName == "" {
		name = nil
	}
	return e.do(func(endpoint unsafe.Pointer, at *frame) int32 {
		return abi.Lib.EndpointSetTls(endpoint, certificate, key, authority, name, &at.err)
	})
}

// Drain says goodbye to every peer and stops listening; what is under way goes on until every transfer has ended.
//
// Errors: ErrTimedOut (not all ended in time), ErrClosed, the context's.
func (e *Endpoint) Drain(ctx context.Context) error {
	end := time.Now().Add(remaining(ctx))
	for {
		left := time.Until(end)
		var status Status
		err := with(e, func(endpoint unsafe.Pointer) (err error) {
			status, err = call(func(at *frame) int32 {
				return abi.Lib.EndpointDrain(endpoint, deadline(min(left, slice)), &at.err)
			})
			return err
		})
		if err != nil || status == OK {
			return ended(ctx, err)
		}
		if left <= slice || ctx.Err() != nil {
			return ended(ctx, fail(ErrTimedOut, "transfers are still under way"))
		}
	}
}

// Listen starts listening and returns the URI with the real port: inproc://NAME, unix:///PATH, unix://@NAME or
// tcp://HOST:PORT (port 0: any).
//
// Errors: ErrAddress, ErrPermitted (non-loopback TCP without EndpointAllowOpenTCP), ErrIO.
func (e *Endpoint) Listen(uri string) (bound string, err error) {
	c, err := cText(uri, "URI")
	if err != nil {
		return "", err
	}
	buffer := make([]byte, 512)
	err = e.do(func(endpoint unsafe.Pointer, at *frame) int32 {
		return abi.Lib.Listen(endpoint, c, &buffer[0], uintptr(len(buffer)), &at.err)
	})
	if err != nil {
		return "", err
	}
	return text(&buffer[0]), nil
}

// Accept waits for the next peer that finished its handshake. Errors: ErrTimedOut, ErrClosed, ErrState (not listening), the
// context's.
func (e *Endpoint) Accept(ctx context.Context) (c *Conn, err error) {
	end := time.Now().Add(remaining(ctx))
	for {
		left := time.Until(end)
		err = e.do(func(endpoint unsafe.Pointer, at *frame) int32 {
			status := abi.Lib.Accept(endpoint, deadline(min(left, slice)), &at.handle, &at.err)
			if status == 0 {
				c = newConn(at.handle, e)
			}
			return status
		})
		if !errors.Is(err, ErrTimedOut) || left <= slice || ctx.Err() != nil {
			return c, ended(ctx, err)
		}
	}
}

// Connect connects and shakes hands.
//
// Errors: ErrAddress, ErrTimedOut, ErrPeerLost, ErrProtocol, ErrVersion, ErrModel, ErrNoResource, the context's.
func (e *Endpoint) Connect(ctx context.Context, uri string) (*Conn, error) {
	c, err := cText(uri, "URI")
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", uri, err)
	}
	until := deadline(remaining(ctx))
	type result struct {
		conn *Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		var r result
		r.err = e.do(func(endpoint unsafe.Pointer, at *frame) int32 {
			status := abi.Lib.Connect(endpoint, c, until, &at.handle, &at.err)
			if status == 0 {
				r.conn = newConn(at.handle, e)
			}
			return status
		})
		done <- r
	}()
	select {
	case r := <-done:
		return r.conn, ended(ctx, r.err)
	case <-ctx.Done():
		go func() { // nobody wants it any more
			if r := <-done; r.conn != nil {
				_ = r.conn.Close()
			}
		}()
		status := ErrCancelled
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			status = ErrTimedOut
		}
		return nil, fmt.Errorf("%w (%w)", fail(status, "connecting to %s", uri), ctx.Err())
	}
}

// FD is a descriptor that becomes readable when [Endpoint.Poll] has something, or, without a progress thread, when
// [Endpoint.Progress] has work. It belongs to the endpoint.
func (e *Endpoint) FD() (fd int, err error) {
	err = e.do(func(endpoint unsafe.Pointer, at *frame) int32 {
		status := abi.Lib.EndpointFd(endpoint, &at.i32, &at.err)
		fd = int(at.i32)
		return status
	})
	return fd, err
}

// Progress runs I/O until something completed (true) or so much time passed (false). Without a progress thread only
// (EndpointProgressThread 0). Errors: ErrState.
func (e *Endpoint) Progress(timeout time.Duration) (completed bool, err error) {
	err = e.do(func(endpoint unsafe.Pointer, at *frame) int32 {
		status := abi.Lib.EndpointProgress(endpoint, deadline(timeout), &at.err)
		completed = status == 0
		return status
	})
	return completed, err
}

// Poll returns the requests that ended, or have an offer to decide on, since they were last reported. It never waits.
func (e *Endpoint) Poll() (found []*Request, err error) {
	out := make([]unsafe.Pointer, 64)
	for {
		count := 0
		err := e.do(func(endpoint unsafe.Pointer, at *frame) int32 {
			at.size = 0
			status := abi.Lib.EndpointPoll(endpoint, &out[0], uintptr(len(out)), &at.size, &at.err)
			count = int(at.size)
			return status
		})
		if err != nil {
			return found, err
		}
		e.mu.Lock()
		for _, handle := range out[:count] {
			if request := e.requests[handle]; request != nil {
				if r := request(); r != nil {
					found = append(found, r)
				}
			}
		}
		e.mu.Unlock()
		if count < len(out) {
			return found, nil
		}
	}
}

// Conn is one peer. It keeps its endpoint from being collected.
type Conn struct {
	o        *owned
	endpoint *Endpoint
}

func newConn(handle unsafe.Pointer, endpoint *Endpoint) *Conn {
	c := &Conn{endpoint: endpoint}
	c.o = own(c, "conn", handle, true, infallible(abi.Lib.ConnDestroy))
	return c
}

func (c *Conn) owner() *owned { return c.o }

// Close says goodbye; live requests end as cancelled here, and as peer lost or cancelled there. Calling it again does nothing.
func (c *Conn) Close() error { return c.o.close() }

// Get is a fact about the conn. Errors: ErrKey.
func (c *Conn) Get(key ConnKey) (value int64, err error) {
	err = with(c, func(conn unsafe.Pointer) error {
		return do(func(at *frame) int32 {
			status := abi.Lib.ConnGet(conn, int32(key), &at.i64, &at.err)
			value = at.i64
			return status
		})
	})
	return value, err
}

// Send offers a payload under a key of the caller's choice, and sends it once the peer accepts. The payload may be closed at
// once; the request keeps its bytes. The context's deadline is the request's, and its end cancels the request.
//
// Errors: ErrClosed, ErrState (payload incomplete), ErrTimedOut (deadline already past), ErrNoResource.
func (c *Conn) Send(ctx context.Context, key uint64, payload *Payload) (r *Request, err error) {
	err = use([]holder{payload, c}, func(h []unsafe.Pointer) error {
		return do(func(at *frame) int32 {
			status := abi.Lib.Send(h[1], key, h[0], deadline(remaining(ctx)), &at.handle, &at.err)
			if status == 0 {
				r = newRequest(ctx, at.handle, c, payload.o.shared())
			}
			return status
		})
	})
	return r, ended(ctx, err)
}

// SendLayers is Send for a payload under construction ([NewPayload]): each layer leaves once [Engine.EncodeLayer] made it. Closing
// the payload before its last layer is encoded ends the request in ErrCancelled; so does forgetting it.
//
// Errors: as Send.
func (c *Conn) SendLayers(ctx context.Context, key uint64, payload *Payload) (r *Request, err error) {
	err = use([]holder{payload, c}, func(h []unsafe.Pointer) error {
		return do(func(at *frame) int32 {
			status := abi.Lib.SendLayers(h[1], key, h[0], deadline(remaining(ctx)), &at.handle, &at.err)
			if status == 0 {
				r = newRequest(ctx, at.handle, c, payload.o.shared())
			}
			return status
		})
	})
	return r, ended(ctx, err)
}

// RecvOffer starts waiting for the peer's next offer: wait for the request, look at it, then accept or reject it. The context is
// the request's, as in Send.
//
// Errors: ErrClosed, ErrTimedOut (deadline already past).
func (c *Conn) RecvOffer(ctx context.Context) (r *Request, err error) {
	err = with(c, func(conn unsafe.Pointer) error {
		return do(func(at *frame) int32 {
			status := abi.Lib.RecvOffer(conn, deadline(remaining(ctx)), &at.handle, &at.err)
			if status == 0 {
				r = newRequest(ctx, at.handle, c, nil)
			}
			return status
		})
	})
	return r, ended(ctx, err)
}

// Receive accepts the peer's next offer and waits for it: the simple way.
//
// Errors: ErrClosed, every terminal status of a request, the context's.
func (c *Conn) Receive(ctx context.Context) (*Payload, error) {
	request, err := c.RecvOffer(ctx)
	if err != nil {
		return nil, err
	}
	defer request.Close()
	if err := request.Wait(ctx); err != nil {
		return nil, err
	}
	if err := request.Accept(ctx); err != nil {
		return nil, err
	}
	if err := request.Wait(ctx); err != nil {
		return nil, err
	}
	return request.Payload()
}
