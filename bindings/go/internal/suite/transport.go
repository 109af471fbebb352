// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	skv "github.com/spectrumkv/libspectrumkv/bindings/go"
)

var unique atomic.Int64

func uri(scheme string) string {
	n := unique.Add(1)
	switch scheme {
	case "tcp":
		return "tcp://127.0.0.1:0"
	case "unix":
		return fmt.Sprintf("unix://@skv-go-%d-%d", os.Getpid(), n)
	}
	return fmt.Sprintf("inproc://go-%d-%d", os.Getpid(), n)
}

// ends are two ends of a conn.
type ends struct {
	a, b        *skv.Endpoint
	here, there *skv.Conn
}

func connected(t *testing.T, scheme string) ends {
	t.Helper()
	e := ends{a: must[*skv.Endpoint](t)(skv.NewEndpoint()), b: must[*skv.Endpoint](t)(skv.NewEndpoint())}
	bound := must[string](t)(e.b.Listen(uri(scheme)))
	ctx := long(t)
	got := make(chan error, 1)
	go func() {
		var err error
		e.here, err = e.a.Connect(ctx, bound)
		got <- err
	}()
	e.there = must[*skv.Conn](t)(e.b.Accept(ctx))
	ok(t, <-got)
	return e
}

func (e ends) close(t *testing.T) {
	t.Helper()
	ok(t, errors.Join(e.here.Close(), e.there.Close(), e.a.Close(), e.b.Close()))
}

func planes(t *testing.T) {
	for _, scheme := range []string{"tcp", "unix", "inproc"} {
		e, ctx, payload := connected(t, scheme), long(t), Payload(t)
		wanted := must[[]byte](t)(payload.Bytes())
		opened := must[*skv.Payload](t)(skv.Open(bytes.Clone(wanted)))
		request := must[*skv.Request](t)(e.here.Send(ctx, 7, opened))
		ok(t, opened.Close()) // the request keeps the bytes
		got := must[*skv.Payload](t)(e.there.Receive(ctx))
		ok(t, request.Wait(ctx))
		if !bytes.Equal(must[[]byte](t)(got.Bytes()), wanted) {
			t.Errorf("%s: other bytes", scheme)
		}
		plane := must[int64](t)(e.here.Get(skv.ConnPlane))
		if receipt := must[skv.Receipt](t)(got.Receipt()); int64(receipt.Plane) != plane || receipt.WireNS == 0 {
			t.Errorf("%+v", receipt)
		}
		ok(t, request.Close())
		e.close(t)
		to := zeros()
		ok(t, Engine(t).Decode(got, View(t, to)))
		if worst(Tensors(), to) > 0.6 {
			t.Error("decoded to something else")
		}
	}
}

func intoMemory(t *testing.T) {
	e, ctx, payload := connected(t, "tcp"), long(t), Payload(t)
	wanted := must[[]byte](t)(payload.Bytes())
	sent := must[*skv.Request](t)(e.here.Send(ctx, 1<<63+5, payload))
	request := must[*skv.Request](t)(e.there.RecvOffer(ctx))
	ok(t, request.Wait(ctx))
	offer := must[skv.Offer](t)(request.Offer())
	if offer.Key != 1<<63+5 || offer.Bytes != int64(len(wanted)) || offer.Layers != layers {
		t.Errorf("%+v", offer)
	}
	is(t, request.AcceptInto(ctx, skv.AlignedBytes(len(wanted)-1)), skv.ErrTooSmall)
	is(t, request.AcceptInto(ctx, skv.AlignedBytes(len(wanted) + 1)[1:]), skv.ErrArgument)
	buffer := skv.AlignedBytes(len(wanted) + 100)
	ok(t, request.AcceptInto(ctx, buffer))
	ok(t, request.WaitLayer(ctx, layers-1))
	ok(t, request.Wait(ctx))
	ok(t, sent.Wait(ctx))
	got := must[*skv.Payload](t)(request.Payload())
	_, err := request.Payload()
	is(t, err, skv.ErrState)
	ok(t, errors.Join(request.Close(), sent.Close()))
	e.close(t)
	runtime.GC()
	if !bytes.Equal(must[[]byte](t)(got.Bytes()), wanted) || !bytes.Equal(buffer[:len(wanted)], wanted) {
		t.Error("other bytes")
	}
}

func refusals(t *testing.T) {
	e, ctx := connected(t, "tcp"), long(t)
	sent := must[*skv.Request](t)(e.here.Send(ctx, 1, Payload(t)))
	is(t, sent.Accept(ctx), skv.ErrState)
	request := must[*skv.Request](t)(e.there.RecvOffer(ctx))
	ok(t, request.Wait(ctx))
	ok(t, request.Reject("no room here"))
	err := sent.Wait(ctx)
	is(t, err, skv.ErrRejected)
	if !strings.Contains(err.Error(), "no room here") {
		t.Error(err)
	}
	is(t, request.Wait(ctx), skv.ErrRejected)
	if state := must[skv.RequestState](t)(request.State()); state != skv.RequestEnded {
		t.Error(state)
	}
	stranger := must[*skv.Endpoint](t)(skv.NewEndpoint())
	ok(t, stranger.SetModel(skv.Fingerprint{7}))
	_, err = stranger.Connect(ctx, must[string](t)(e.b.Listen(uri("unix"))))
	is(t, err, skv.ErrModel)
	for _, bad := range []string{"", "http://x", "tcp://127.0.0.1"} {
		_, err = stranger.Listen(bad)
		is(t, err, skv.ErrAddress)
	}
	_, err = must[*skv.Endpoint](t)(skv.NewEndpoint()).Listen("tcp://0.0.0.0:0")
	is(t, err, skv.ErrPermitted)
	is(t, stranger.Set(skv.EndpointChunk, 65536), skv.ErrState)
	if stats := must[skv.EndpointStats](t)(e.a.Stats()); stats.Failed != 1 || stats.HandshakesOK != 1 {
		t.Errorf("%+v", stats)
	}
}

func contexts(t *testing.T) {
	e, payload := connected(t, "unix"), Payload(t)
	// A deadline ends the request.
	short, stop := context.WithTimeout(context.Background(), 30*time.Millisecond)
	defer stop()
	late := must[*skv.Request](t)(e.here.Send(short, 1, payload))
	err := late.Wait(long(t))
	if !errors.Is(err, skv.ErrTimedOut) && !errors.Is(err, skv.ErrCancelled) {
		t.Error(err)
	}
	// Cancelling the context of the request ends it, whoever waits.
	ctx, cancel := context.WithCancel(context.Background())
	sent := must[*skv.Request](t)(e.here.Send(ctx, 2, payload))
	time.AfterFunc(20*time.Millisecond, cancel)
	is(t, sent.Wait(long(t)), skv.ErrCancelled)
	// So does the context of the wait, and says so.
	ctx, cancel = context.WithCancel(context.Background())
	sent = must[*skv.Request](t)(e.here.Send(long(t), 3, payload))
	time.AfterFunc(20*time.Millisecond, cancel)
	err = sent.Wait(ctx)
	is(t, err, skv.ErrCancelled)
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	// Nobody comes.
	short, stop = context.WithTimeout(context.Background(), 30*time.Millisecond)
	defer stop()
	_, err = e.b.Accept(short)
	is(t, err, skv.ErrTimedOut)
	ctx, cancel = context.WithCancel(context.Background())
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err = e.b.Accept(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err = e.a.Connect(ctx, uri("unix")); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	done, stop := context.WithTimeout(context.Background(), -time.Second)
	defer stop()
	if _, err = e.here.Send(done, 4, payload); !errors.Is(err, skv.ErrTimedOut) || !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	lost := must[*skv.Request](t)(e.here.Send(long(t), 5, payload))
	ok(t, e.there.Close())
	if err = lost.Wait(long(t)); !errors.Is(err, skv.ErrPeerLost) && !errors.Is(err, skv.ErrCancelled) {
		t.Error(err)
	}
	_, err = e.here.Send(long(t), 6, payload)
	is(t, err, skv.ErrClosed)
	if open := must[int64](t)(e.here.Get(skv.ConnOpen)); open != 0 {
		t.Error("still open")
	}
	e.close(t)
}

func poll(t *testing.T) {
	e, ctx := connected(t, "inproc"), long(t)
	sent := must[*skv.Request](t)(e.here.Send(ctx, 1, Payload(t)))
	request := must[*skv.Request](t)(e.there.RecvOffer(ctx))
	ok(t, request.Wait(ctx))
	found := must[[]*skv.Request](t)(e.b.Poll())
	if len(found) != 1 || found[0] != request {
		t.Error(found)
	}
	if must[int](t)(e.b.FD()) < 0 {
		t.Error("no descriptor")
	}
	ok(t, request.Accept(ctx))
	ok(t, request.Wait(ctx))
	ok(t, sent.Wait(ctx))
	if done := must[bool](t)(sent.Test()); !done {
		t.Error("not done")
	}
	found = must[[]*skv.Request](t)(e.a.Poll())
	if len(found) != 1 || found[0] != sent {
		t.Error(found)
	}
	e.close(t)
}

func driven(t *testing.T) {
	a, b := must[*skv.Endpoint](t)(skv.NewEndpoint()), must[*skv.Endpoint](t)(skv.NewEndpoint())
	_, err := b.Progress(0)
	is(t, err, skv.ErrState)
	ok(t, a.Set(skv.EndpointProgressThread, 0))
	ctx := long(t)
	bound := must[string](t)(b.Listen(uri("tcp")))
	got := make(chan error, 1)
	go func() {
		conn, err := b.Accept(ctx)
		if err == nil {
			_, err = conn.Receive(ctx)
		}
		got <- err
	}()
	here := must[*skv.Conn](t)(a.Connect(ctx, bound))
	request := must[*skv.Request](t)(here.Send(ctx, 1, Payload(t)))
	for {
		if _, err := a.Progress(20 * time.Millisecond); err != nil {
			t.Fatal(err)
		}
		if done := must[bool](t)(request.Test()); done {
			break
		}
	}
	for waiting := true; waiting; {
		select {
		case err := <-got:
			ok(t, err)
			waiting = false
		default:
			must[bool](t)(a.Progress(20 * time.Millisecond))
		}
	}
}

// large is raw rows of many segments: takes long enough to be stopped half-way.
func large(t *testing.T) []byte {
	const many, rows = 32, 4096
	engine := Engine(t)
	cache := must[*skv.Cache](t)(skv.NewCache(many))
	defer cache.Close()
	ok(t, cache.SetTokens(skv.All, 0, rows))
	ok(t, cache.SetLayer(skv.All, 2, dim, 0, skv.F32))
	for l := range many {
		ok(t, cache.SetPlane(l, skv.K, skv.Bytes(make([]float32, rows*2*dim)), skv.TokenMajor(2, dim, 4)))
	}
	plan := must[*skv.Plan](t)(skv.NewPlan(engine))
	ok(t, plan.SetStrategy("raw"))
	ok(t, plan.Solve(cache, nil))
	payload := must[*skv.Payload](t)(engine.Encode(cache, plan))
	defer payload.Close()
	return must[[]byte](t)(payload.Bytes())
}

// early closes requests at every moment of a transfer, on either side, and writes to the memory afterwards.
func early(t *testing.T) {
	encoded := large(t)
	for round := range 12 {
		e, ctx := connected(t, []string{"tcp", "unix", "inproc"}[round%3]), long(t)
		own := bytes.Clone(encoded)
		payload := must[*skv.Payload](t)(skv.Open(own))
		sent := must[*skv.Request](t)(e.here.Send(ctx, 1, payload))
		ok(t, payload.Close())
		request := must[*skv.Request](t)(e.there.RecvOffer(ctx))
		buffer := skv.AlignedBytes(len(encoded))
		if round%4 != 0 {
			ok(t, request.Wait(ctx))
			ok(t, request.AcceptInto(ctx, buffer))
			for must[int64](t)(request.Get(skv.RequestMoved)) == 0 && must[skv.RequestState](t)(request.State()) == skv.RequestMoving {
				runtime.Gosched()
			}
		}
		switch round % 4 {
		case 0, 1:
			ok(t, sent.Close())
		case 2:
			ok(t, request.Close())
			clear(buffer) // nobody writes to it any more
			for _, x := range buffer {
				if x != 0 {
					t.Fatal("written after its request was closed")
				}
			}
		default:
			ok(t, errors.Join(request.Close(), sent.Close()))
		}
		clear(own)
		runtime.GC()
		ok(t, errors.Join(sent.Close(), request.Close()))
		e.close(t)
	}
}

// collected forgets everything and lets the garbage collector end it, in the middle of transfers.
func collected(t *testing.T) {
	encoded := large(t)
	for range 6 {
		func() {
			e, ctx := connected(t, "tcp"), long(t)
			_ = must[*skv.Request](t)(e.here.Send(ctx, 1, must[*skv.Payload](t)(skv.Open(bytes.Clone(encoded)))))
			request := must[*skv.Request](t)(e.there.RecvOffer(ctx))
			_ = request.AcceptInto(ctx, skv.AlignedBytes(len(encoded)))
			_ = View(t, Tensors())
		}()
		runtime.GC()
	}
	for range 20 {
		runtime.GC()
		time.Sleep(5 * time.Millisecond)
	}
}

// Round is one transfer with everything that it takes, closed at its end.
func Round(t *testing.T) {
	e, ctx, payload := connected(t, "tcp"), long(t), Payload(t)
	sent := must[*skv.Request](t)(e.here.Send(ctx, 1, payload))
	dropped := must[*skv.Request](t)(e.here.Send(ctx, 2, payload))
	got := must[*skv.Payload](t)(e.there.Receive(ctx))
	ok(t, sent.Wait(ctx))
	engine, target := Engine(t), View(t, zeros())
	ok(t, engine.Decode(got, target))
	encoded := must[[]byte](t)(got.Bytes())
	_, err := skv.Open(encoded[1:])
	is(t, err, skv.ErrMalformed)
	ok(t, errors.Join(dropped.Close(), sent.Close(), got.Close(), payload.Close(), engine.Close(), target.Close()))
	e.close(t)
}

func security(t *testing.T) {
	endpoint := func() *skv.Endpoint { return must[*skv.Endpoint](t)(skv.NewEndpoint()) }
	a, b, stranger := endpoint(), endpoint(), endpoint()
	is(t, a.SetPSK(skv.SecurityPsk, []byte("short")), skv.ErrRange)
	key := []byte("0123456789abcdef")
	ok(t, errors.Join(a.SetPSK(skv.SecurityTlsPsk, key), b.SetPSK(skv.SecurityTlsPsk, key)))
	ok(t, stranger.SetPSK(skv.SecurityTlsPsk, []byte("another key 0123")))
	err := endpoint().SetTLS(skv.Certificates{Certificate: "/nowhere/c.pem", Key: "/nowhere/k.pem", Authority: "/nowhere/a.pem"})
	is(t, err, skv.ErrAuth)
	ctx, bound := long(t), must[string](t)(b.Listen(uri("tcp")))
	_, err = stranger.Connect(ctx, bound)
	is(t, err, skv.ErrAuth)
	here := must[*skv.Conn](t)(a.Connect(ctx, bound))
	there := must[*skv.Conn](t)(b.Accept(ctx))
	if s := must[int64](t)(here.Get(skv.ConnSecurity)); skv.Security(s) != skv.SecurityTlsPsk {
		t.Error(skv.Security(s))
	}
	sent := must[*skv.Request](t)(here.Send(ctx, 9, Payload(t)))
	must[*skv.Payload](t)(there.Receive(ctx))
	ok(t, sent.Wait(ctx))
	ok(t, b.Drain(ctx))
	failed, finished := false, false
	for _, event := range must[[]skv.Event](t)(b.Events()) {
		failed = failed || event.Kind == skv.EventHandshakeFailed && event.Status == skv.ErrAuth
		finished = finished || event.Kind == skv.EventEnded && event.Key == 9 && event.Status == skv.OK
	}
	if !failed || !finished {
		t.Error(failed, finished)
	}
	if stats := must[skv.EndpointStats](t)(b.Stats()); stats.ReceivedOK != 1 || stats.AuthErrors == 0 {
		t.Errorf("%+v", stats)
	}
}

func earlyLayers(t *testing.T) {
	e, ctx := connected(t, "tcp"), long(t)
	engine, from, to := Engine(t), Tensors(), zeros()
	cache, target := View(t, from), View(t, to)
	plan := solved(t, engine, cache, 0.4)
	building := must[*skv.Payload](t)(skv.NewPayload(cache, plan))
	sent := must[*skv.Request](t)(e.here.SendLayers(ctx, 1, building))
	request := must[*skv.Request](t)(e.there.RecvOffer(ctx))
	ok(t, request.Wait(ctx))
	ok(t, request.Set(skv.RequestEarlyLayers, 1))
	ok(t, request.Accept(ctx))
	ok(t, engine.EncodeLayer(cache, plan, 0, building))
	ok(t, request.WaitLayer(ctx, 0))
	got := must[*skv.Payload](t)(request.Payload())
	ok(t, engine.DecodeLayer(got, target, 0))
	is(t, engine.DecodeLayer(got, target, 1), skv.ErrState)
	ok(t, engine.EncodeLayer(cache, plan, 1, building))
	ok(t, errors.Join(request.Wait(ctx), sent.Wait(ctx)))
	ok(t, engine.DecodeLayer(got, target, 1))
	if w := worst(from, to); w > 0.6 {
		t.Error(w)
	}
	never := must[*skv.Payload](t)(skv.NewPayload(cache, plan))
	lost := must[*skv.Request](t)(e.here.SendLayers(ctx, 2, never))
	ok(t, never.Close())
	is(t, lost.Wait(ctx), skv.ErrCancelled)
	e.close(t)
}
