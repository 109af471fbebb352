// SPDX-License-Identifier: Apache-2.0

// Package stress is the stress program in Go, built with cgo and without; see tests/stress/watch.py for its arguments and for what
// each operation does.
package stress

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"runtime"
	"strconv"
	"time"

	skv "github.com/spectrumkv/libspectrumkv/bindings/go"
)

const (
	layers = 2
	tokens = 64
	dim    = 64
	plane  = tokens * dim * 2
	soon   = time.Minute
)

// check fails with the place of its caller.
func check(err error) {
	if err != nil {
		_, _, line, _ := runtime.Caller(1)
		log.Fatalf("stress.go:%d: %v", line, err)
	}
}

func try[T any](value T, err error) T {
	if err != nil {
		_, _, line, _ := runtime.Caller(1)
		log.Fatalf("stress.go:%d: %v", line, err)
	}
	return value
}

// is fails unless the error is one of these.
func is(err error, wanted ...skv.Status) {
	for _, status := range wanted {
		if errors.Is(err, status) || err == nil && status == skv.OK {
			return
		}
	}
	_, _, line, _ := runtime.Caller(1)
	log.Fatalf("stress.go:%d: got %v, wanted %v", line, err, wanted)
}

func second(_ any, err error) error { return err }

type closer interface{ Close() error }

func closeAll(all ...closer) {
	for _, one := range all {
		check(one.Close())
	}
}

func view(memory []byte) *skv.Cache {
	cache := try(skv.NewCache(layers))
	check(errors.Join(cache.SetTokens(skv.All, 0, tokens), cache.SetLayer(skv.All, 1, dim, dim, skv.F16)))
	for i := range 2 * layers {
		check(cache.SetPlane(i/2, skv.Half(i%2), memory[i*plane:(i+1)*plane], skv.TokenMajor(1, dim, 2)))
	}
	return cache
}

type ends struct {
	a, b        *skv.Endpoint
	here, there *skv.Conn
}

func openEnds(ctx context.Context, number int) *ends {
	name := fmt.Sprintf("stress-%d-%d", os.Getpid(), number)
	uri := []string{"inproc://" + name, "unix://@" + name, "tcp://127.0.0.1:0"}[number%3]
	e := &ends{a: try(skv.NewEndpoint()), b: try(skv.NewEndpoint())}
	for _, endpoint := range []*skv.Endpoint{e.a, e.b} { // a busy machine is no lost peer
		check(errors.Join(endpoint.Set(skv.EndpointHeartbeatMS, 60000), endpoint.Set(skv.EndpointHandshakeMS, 60000)))
	}
	e.here = try(e.a.Connect(ctx, try(e.b.Listen(uri))))
	e.there = try(e.b.Accept(ctx))
	return e
}

func (e *ends) close() { closeAll(e.a, e.b, e.here, e.there, e.a, e.there) }

func (e *ends) offered(ctx context.Context) *skv.Request {
	request := try(e.there.RecvOffer(ctx))
	check(request.Wait(ctx))
	return request
}

type program struct {
	engine             *skv.Engine
	memory, target     []byte
	cache, destination *skv.Cache
	plan               *skv.Plan
	payload            *skv.Payload
	sent, damaged      []byte
	leak               string
	kept               []any
}

func (p *program) solved(cache *skv.Cache) *skv.Plan {
	plan := try(skv.NewPlan(p.engine))
	check(errors.Join(plan.Set(skv.PlanUnproven, 1), plan.SetBudget(0.5), plan.Solve(cache, nil)))
	return plan
}

func (p *program) codec(into bool) {
	first, target := view(p.memory), view(p.target)
	plan := p.solved(first)
	var encoded *skv.Payload
	if into {
		encoded = try(p.engine.EncodeInto(first, plan, skv.AlignedBytes(len(p.sent))))
	} else {
		encoded = try(p.engine.Encode(first, plan))
	}
	got := try(encoded.Bytes())
	if !bytes.Equal(got, p.sent) {
		log.Fatal("other bytes")
	}
	clear(p.target)
	opened := try(skv.Open(got))
	check(p.engine.Decode(opened, target))
	if p.target[len(p.target)-1] == 0 {
		log.Fatal("nothing was decoded")
	}
	if p.leak == "memory" {
		p.kept = append(p.kept, encoded)
	} else {
		closeAll(encoded)
	}
	closeAll(opened, plan, target, first)
}

func (p *program) refused() {
	is(second(p.engine.EncodeInto(p.cache, p.plan, skv.AlignedBytes(64))), skv.ErrTooSmall)
	is(second(skv.Open(p.sent[:len(p.sent)/2])), skv.ErrTruncated)
	opened := try(skv.Open(p.damaged))
	is(p.engine.Decode(opened, p.destination), skv.ErrChecksum)
	closeAll(opened)
}

func (p *program) closed() {
	gone, other := try(skv.Open(p.sent)), view(p.memory)
	closeAll(gone, gone, other, other)
	is(gone.Verify(), skv.ErrClosed)
	is(p.engine.Decode(gone, p.destination), skv.ErrClosed)
	is(p.plan.Solve(other, nil), skv.ErrClosed)
}

func (p *program) transfer(ctx context.Context, e *ends, into bool) {
	sending, receiving := try(e.here.Send(ctx, 1, p.payload)), e.offered(ctx)
	if into {
		is(receiving.AcceptInto(ctx, skv.AlignedBytes(len(p.sent)-1)), skv.ErrTooSmall)
		check(receiving.AcceptInto(ctx, skv.AlignedBytes(len(p.sent))))
	} else {
		check(receiving.Accept(ctx))
	}
	check(receiving.Wait(ctx))
	check(sending.Wait(ctx))
	got := try(receiving.Payload())
	closeAll(receiving, sending)
	if !bytes.Equal(try(got.Bytes()), p.sent) {
		log.Fatal("other bytes")
	}
	closeAll(got)
}

func (p *program) rejected(ctx context.Context, e *ends) {
	sending, receiving := try(e.here.Send(ctx, 1, p.payload)), e.offered(ctx)
	check(receiving.Reject("no room"))
	is(sending.Wait(ctx), skv.ErrRejected)
	is(receiving.Wait(ctx), skv.ErrRejected)
	closeAll(receiving, sending)
}

func (p *program) cancelled(ctx context.Context, e *ends, accepted bool) {
	sendCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	sending, receiving := try(e.here.Send(sendCtx, 1, p.payload)), e.offered(ctx)
	if accepted {
		check(receiving.AcceptInto(ctx, skv.AlignedBytes(len(p.sent))))
		receiving.Cancel()
	} else {
		cancel()
	}
	is(sending.Wait(ctx), skv.ErrCancelled, skv.OK)
	is(receiving.Wait(ctx), skv.ErrCancelled, skv.OK)
	closeAll(receiving, sending)
}

func (p *program) layers(ctx context.Context, e *ends) {
	building := try(skv.NewPayload(p.cache, p.plan))
	sending, receiving := try(e.here.SendLayers(ctx, 1, building)), e.offered(ctx)
	check(receiving.Accept(ctx))
	check(p.engine.EncodeLayer(p.cache, p.plan, 0, building))
	closeAll(building)
	is(sending.Wait(ctx), skv.ErrCancelled)
	is(receiving.Wait(ctx), skv.ErrCancelled)
	closeAll(receiving, sending)
}

// dropped leaves everything to the garbage collector; only the context is the caller's.
func (p *program) dropped(ctx context.Context, e *ends, number int) {
	try(e.here.Send(ctx, 1, try(skv.Open(bytes.Clone(p.sent)))))
	check(e.offered(ctx).Accept(ctx))
	_ = view(bytes.Clone(p.memory))
	if number%64 == 0 {
		runtime.GC()
	}
}

func (p *program) renewed(ctx context.Context, e *ends, number int) *ends {
	waiting, sending := try(e.here.RecvOffer(ctx)), try(e.here.Send(ctx, 1, p.payload))
	if p.leak == "ends" {
		p.kept = append(p.kept, e)
	} else {
		e.close()
		is(sending.Wait(ctx), skv.ErrCancelled)
		is(waiting.Wait(ctx), skv.ErrCancelled)
		is(second(e.here.Send(ctx, 1, p.payload)), skv.ErrClosed)
	}
	closeAll(waiting, sending)
	return openEnds(ctx, number)
}

func (p *program) operation(n int, e *ends) *ends {
	ctx, stop := context.WithTimeout(context.Background(), soon)
	defer stop()
	switch kind, number := n%16, n/16; kind {
	case 6:
		p.refused()
	case 7:
		p.closed()
	case 8, 9:
		p.transfer(ctx, e, kind == 9)
	case 10:
		p.rejected(ctx, e)
	case 11, 12:
		p.cancelled(ctx, e, kind == 12)
	case 13:
		p.layers(ctx, e)
	case 14:
		p.dropped(ctx, e, number)
	case 15:
		return p.renewed(ctx, e, number+1)
	default:
		p.codec(n%2 == 1)
	}
	return e
}

// settle lets the garbage collector end what was dropped: cleanups run after it, some of them on goroutines of their own.
func settle() {
	for range 4 {
		runtime.GC()
		time.Sleep(20 * time.Millisecond)
	}
}

// Main runs the program.
func Main() {
	if len(os.Args) < 3 {
		log.Fatal("usage: stress OPERATIONS EVERY [memory|ends]")
	}
	operations, every := try(strconv.Atoi(os.Args[1])), try(strconv.Atoi(os.Args[2]))
	p := &program{memory: make([]byte, 2*layers*plane), target: make([]byte, 2*layers*plane)}
	if len(os.Args) > 3 {
		p.leak = os.Args[3]
	}
	for i := range len(p.memory) / 2 { // float16 between 1 and 2, of either sign
		value := uint32(i) * 2654435761 >> 8
		p.memory[2*i], p.memory[2*i+1] = byte(value), byte(0x3C|value>>8&0x83)
	}
	p.engine = try(skv.NewEngine(skv.DeviceCPU))
	check(p.engine.Set(skv.EngineThreads, 1))
	p.cache, p.destination = view(p.memory), view(p.target)
	p.plan = p.solved(p.cache)
	p.payload = try(p.engine.Encode(p.cache, p.plan))
	p.sent = try(p.payload.Bytes())
	p.damaged = bytes.Clone(p.sent)
	p.damaged[len(p.damaged)-40] ^= 1
	ctx, stop := context.WithTimeout(context.Background(), soon)
	e := openEnds(ctx, 0)
	stop()
	stdin := bufio.NewReader(os.Stdin)
	for n := range operations {
		e = p.operation(n, e)
		if (n+1)%every == 0 {
			settle()
			fmt.Printf("sample %d\n", n+1)
			_, _ = stdin.ReadString('\n') // without anybody at the other end it goes on
		}
	}
	e.close()
}
