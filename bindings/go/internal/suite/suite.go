// SPDX-License-Identifier: Apache-2.0

// Package suite is the tests of package spectrumkv, run once through cgo and once through purego.
package suite

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"sync"
	"testing"
	"time"

	skv "github.com/spectrumkv/libspectrumkv/bindings/go"
)

const (
	layers = 2
	tokens = 320
	heads  = 2
	dim    = 64
	count  = tokens * heads * dim
)

// Run runs all tests.
func Run(t *testing.T) {
	for name, test := range map[string]func(*testing.T){
		"a cache comes back within its budget":            budget,
		"layer by layer and into memory equal at once":    parts,
		"weights and queries steer the plan":              scores,
		"tiers can be read and replaced":                  tiers,
		"every wrong call gives its status":               statuses,
		"damage leaves the destination untouched":         damage,
		"malformed payloads give their statuses":          malformed,
		"using what is closed is an error":                closed,
		"a view's function may do what it wants":          views,
		"calls with several objects do not wait for ever": crossed,
		"a payload travels over every plane":              planes,
		"an offer is taken into own memory":               intoMemory,
		"refusals reach both ends":                        refusals,
		"contexts end what waits":                         contexts,
		"poll reports requests":                           poll,
		"forgotten requests and views are collected":      collected,
		"requests closed early let go of their memory":    early,
		"one engine serves many goroutines in turns":      turns,
		"closing while another goroutine calls is safe":   closing,
		"versions and names are those of the header":      versions,
		"low tiers need a verdict":                        verdicts,
		"keys are asked for and conns drained":            security,
		"layers leave and arrive early":                   earlyLayers,
		"precision follows and is given up":               precision,
		"an endpoint without a progress thread is driven": driven,
	} {
		t.Run(name, test)
	}
}

func must[T any](t *testing.T) func(T, error) T {
	return func(value T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func is(t *testing.T, err error, wanted skv.Status) {
	t.Helper()
	if !errors.Is(err, wanted) {
		t.Errorf("got %v, wanted %v", err, wanted)
	}
	var e *skv.Error
	if errors.As(err, &e) && e.Message == "" {
		t.Errorf("%v has no message", err)
	}
}

// Memory is K and V of each layer.
type Memory [][2][]float32

// Tensors are deterministic values about as large as keys and values are.
func Tensors() Memory {
	state := uint64(0x9E3779B97F4A7C15)
	next := func() float32 {
		state ^= state << 13
		state ^= state >> 7
		state ^= state << 17
		return float32(state>>40) / (1 << 24)
	}
	m := zeros()
	for l := range m {
		for half := range m[l] {
			for i := range m[l][half] {
				m[l][half][i] = (next() + next() + next() - 1.5) * 2
			}
		}
	}
	return m
}

func zeros() Memory {
	m := make(Memory, layers)
	for l := range m {
		m[l] = [2][]float32{make([]float32, count), make([]float32, count)}
	}
	return m
}

// View is a cache of the memory.
func View(t testing.TB, m Memory) *skv.Cache {
	t.Helper()
	cache, err := skv.NewCache(layers)
	if err == nil {
		err = errors.Join(cache.SetTokens(skv.All, 0, tokens), cache.SetLayer(skv.All, heads, dim, dim, skv.F32))
	}
	for l := range m {
		for half := range m[l] {
			if err == nil {
				err = cache.SetPlane(l, skv.Half(half), skv.Bytes(m[l][half]), skv.TokenMajor(heads, dim, 4))
			}
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return cache
}

// Engine has one thread.
func Engine(t testing.TB) *skv.Engine {
	t.Helper()
	engine, err := skv.NewEngine(skv.DeviceCPU)
	if err == nil {
		err = engine.Set(skv.EngineThreads, 1)
	}
	if err != nil {
		t.Fatal(err)
	}
	return engine
}

func solved(t testing.TB, engine *skv.Engine, cache *skv.Cache, budget float64) *skv.Plan {
	t.Helper()
	plan, err := skv.NewPlan(engine)
	if err == nil {
		err = errors.Join(plan.Set(skv.PlanUnproven, 1), plan.SetBudget(budget), plan.Solve(cache, nil))
	}
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// Payload is the tensors encoded.
func Payload(t testing.TB) *skv.Payload {
	t.Helper()
	engine, cache := Engine(t), View(t, Tensors())
	defer engine.Close()
	defer cache.Close()
	payload, err := engine.Encode(cache, solved(t, engine, cache, 0.4))
	if err != nil {
		t.Fatal(err)
	}
	return payload
}

func worst(a, b Memory) float64 {
	most := 0.0
	for l := range a {
		for half := range a[l] {
			for i := range a[l][half] {
				most = max(most, math.Abs(float64(a[l][half][i]-b[l][half][i])))
			}
		}
	}
	return most
}

func budget(t *testing.T) {
	engine, from, to := Engine(t), Tensors(), zeros()
	cache := View(t, from)
	plan := solved(t, engine, cache, 0.4)
	payload := must[*skv.Payload](t)(engine.Encode(cache, plan))
	encoded := must[[]byte](t)(payload.Bytes())
	raw := must[uint64](t)(cache.RawBytes())
	if uint64(len(encoded)) > raw*4/10 || len(encoded) != must[int](t)(plan.Bytes()) {
		t.Errorf("%d bytes of %d", len(encoded), raw)
	}
	opened := must[*skv.Payload](t)(skv.Open(encoded))
	ok(t, engine.Decode(opened, View(t, to)))
	if w := worst(from, to); w > 0.6 || w == 0 {
		t.Errorf("worst error %f", w)
	}
	receipt := must[skv.Receipt](t)(payload.Receipt())
	if receipt.PayloadBytes != uint64(len(encoded)) || receipt.RawBytes != raw || receipt.EncodeNS == 0 {
		t.Errorf("%+v", receipt)
	}
	line := must[string](t)(engine.Describe())
	if threads := must[int64](t)(engine.Get(skv.EngineThreads)); threads != 1 || line[:3] != "cpu" {
		t.Errorf("%q, %d threads", line, threads)
	}
	for _, o := range []interface{ Close() error }{opened, payload, plan, cache, engine, engine} {
		ok(t, o.Close())
	}
}

func precision(t *testing.T) {
	engine, from, low, high := Engine(t), Tensors(), zeros(), zeros()
	cache := View(t, from)
	base := must[*skv.Payload](t)(engine.Encode(cache, solved(t, engine, cache, 0.3)))
	more := must[*skv.Plan](t)(skv.NewPlan(engine))
	ok(t, more.SetBudget(0.1))
	_, err := engine.EncodeUpgrade(cache, base, more)
	is(t, err, skv.ErrState)
	ok(t, more.Upgrade(base, cache, nil))
	upgrade := must[*skv.Payload](t)(engine.EncodeUpgrade(cache, base, more))
	if size := len(must[[]byte](t)(upgrade.Bytes())); size != must[int](t)(more.Bytes()) {
		t.Errorf("%d bytes", size)
	}
	better := must[*skv.Payload](t)(base.Apply(upgrade))
	_, err = better.Apply(upgrade)
	is(t, err, skv.ErrBase)
	is(t, engine.Decode(upgrade, View(t, low)), skv.ErrState)
	ok(t, engine.Decode(base, View(t, low)))
	ok(t, engine.Decode(better, View(t, high)))
	if worst(from, high) >= worst(from, low) {
		t.Errorf("worst error %f, before %f", worst(from, high), worst(from, low))
	}
	less := must[*skv.Plan](t)(skv.NewPlan(engine))
	ok(t, less.SetStrategy("uniform-4"))
	ok(t, less.Truncate(base, nil))
	cut := must[*skv.Payload](t)(base.Truncate(less))
	if size := len(must[[]byte](t)(cut.Bytes())); size != must[int](t)(less.Bytes()) {
		t.Errorf("%d bytes", size)
	}
	_, err = better.Truncate(less)
	is(t, err, skv.ErrBase)
	for _, o := range []interface{ Close() error }{cut, less, better, upgrade, more, base, cache, engine} {
		ok(t, o.Close())
	}
}

// crossed calls with the same objects in different orders from several goroutines, and with one object twice.
func crossed(t *testing.T) {
	engine, cache := Engine(t), View(t, Tensors())
	base := must[*skv.Payload](t)(engine.Encode(cache, solved(t, engine, cache, 0.3)))
	more, less := must[*skv.Plan](t)(skv.NewPlan(engine)), must[*skv.Plan](t)(skv.NewPlan(engine))
	ok(t, errors.Join(more.SetBudget(0.1), more.Upgrade(base, cache, nil), less.SetStrategy("uniform-4")))
	upgrade := must[*skv.Payload](t)(engine.EncodeUpgrade(cache, base, more))
	stop := time.AfterFunc(2*time.Minute, func() { panic("two calls wait for each other") })
	defer stop.Stop()
	var all sync.WaitGroup
	for _, call := range []func() error{
		func() error { return less.Truncate(base, nil) },
		func() error { _, err := base.Truncate(less); return err },
		func() error { _, err := base.Apply(upgrade); return err },
		func() error { _, err := upgrade.Apply(base); return err },
		func() error { _, err := base.Apply(base); return err },
		func() error { return more.Upgrade(base, cache, nil) },
		func() error { _, err := engine.EncodeUpgrade(cache, base, more); return err },
	} {
		all.Add(1)
		go func() {
			defer all.Done()
			for range 40 {
				if err := call(); err != nil && !errors.Is(err, skv.ErrState) && !errors.Is(err, skv.ErrBase) {
					t.Error(err)
				}
			}
		}()
	}
	all.Wait()
}

// views calls the payload, closes it and panics in the function that View calls.
func views(t *testing.T) {
	payload := Payload(t)
	wanted := must[[]byte](t)(payload.Bytes())
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_ = payload.View(func([]byte) error { panic("a writer's defect") })
	}()
	stop := time.AfterFunc(time.Minute, func() { panic("a call inside a view waits for itself") })
	defer stop.Stop()
	ok(t, payload.View(func(seen []byte) error {
		ok(t, payload.Verify())
		ok(t, payload.View(func([]byte) error { return nil }))
		ok(t, payload.Close())
		is(t, payload.Verify(), skv.ErrClosed)
		if !bytes.Equal(seen, wanted) {
			t.Error("the bytes went with the payload, while they were looked at")
		}
		return nil
	}))
	is(t, payload.View(func([]byte) error { return nil }), skv.ErrClosed)
}

func parts(t *testing.T) {
	engine, cache := Engine(t), View(t, Tensors())
	plan := solved(t, engine, cache, 0.3)
	whole := must[[]byte](t)(must[*skv.Payload](t)(engine.Encode(cache, plan)).Bytes())
	building := must[*skv.Payload](t)(skv.NewPayload(cache, plan))
	for layer := layers - 1; layer >= 0; layer-- {
		_, err := building.Bytes()
		is(t, err, skv.ErrState)
		ok(t, engine.EncodeLayer(cache, plan, layer, building))
	}
	if !bytes.Equal(must[[]byte](t)(building.Bytes()), whole) {
		t.Error("layer by layer differs")
	}
	buffer := skv.AlignedBytes(must[int](t)(plan.Bytes()))
	into := must[*skv.Payload](t)(engine.EncodeInto(cache, plan, buffer))
	ok(t, into.Verify())
	if !bytes.Equal(buffer, whole) {
		t.Error("into memory differs")
	}
	var written bytes.Buffer
	if n := must[int64](t)(into.WriteTo(&written)); n != int64(len(whole)) || !bytes.Equal(written.Bytes(), whole) {
		t.Error("written differs")
	}
	a, b := zeros(), zeros()
	ok(t, engine.Decode(into, View(t, a)))
	target := View(t, b)
	for layer := range layers {
		ok(t, engine.DecodeLayer(building, target, layer))
	}
	if worst(a, b) != 0 {
		t.Error("decoded layer by layer differs")
	}
	packed := must[*skv.Payload](t)(engine.Pack(into))
	small := must[[]byte](t)(packed.Bytes())
	if receipt := must[skv.Receipt](t)(packed.Receipt()); len(small) >= len(whole) || receipt.UnpackedBytes != uint64(len(whole)) {
		t.Errorf("packed to %d of %d bytes, receipt %d", len(small), len(whole), receipt.UnpackedBytes)
	}
	c := zeros()
	ok(t, engine.Decode(must[*skv.Payload](t)(skv.Open(small)), View(t, c)))
	if worst(a, c) != 0 {
		t.Error("decoded from the packed form differs")
	}
	_, err := engine.Pack(packed)
	is(t, err, skv.ErrState)
	_, err = engine.EncodeInto(cache, plan, buffer[:len(buffer)-16])
	is(t, err, skv.ErrTooSmall)
}

func scores(t *testing.T) {
	engine, cache := Engine(t), View(t, Tensors())
	s := must[*skv.Scores](t)(skv.NewScores())
	_, err := s.Get(0, skv.K, tokens)
	is(t, err, skv.ErrState)
	weights := make([]float32, tokens)
	for i := range weights {
		weights[i] = 1e-4
		if i < tokens/2 {
			weights[i] = 1e4
		}
	}
	ok(t, s.SetWeights(skv.All, skv.K, weights))
	ok(t, s.SetWeights(skv.All, skv.V, weights))
	ok(t, engine.Score(cache, s))
	if got := must[[]float32](t)(s.Get(1, skv.V, tokens)); got[0] != 1e4 || got[tokens-1] != 1e-4 {
		t.Error(got[0], got[tokens-1])
	}
	plan := must[*skv.Plan](t)(skv.NewPlan(engine))
	ok(t, plan.Set(skv.PlanUnproven, 1))
	ok(t, plan.SetBudgetBytes(must[uint64](t)(cache.RawBytes())*2/5))
	ok(t, plan.Set(skv.PlanSinks, 0))
	ok(t, plan.Solve(cache, s))
	chosen := must[[]skv.Tier](t)(plan.Tiers(0, skv.K, tokens))
	if chosen[5] <= chosen[tokens-5] {
		t.Errorf("%v for an important token, %v for an unimportant one", chosen[5], chosen[tokens-5])
	}
	receipt := must[skv.Receipt](t)(must[*skv.Payload](t)(engine.Encode(cache, plan)).Receipt())
	if receipt.Scored != skv.ScoredCaller {
		t.Error(receipt.Scored)
	}
	queries := Tensors()[0][0][:64*4*dim/2]
	byQuery := must[*skv.Scores](t)(skv.NewScores())
	for l := range layers {
		ok(t, byQuery.SetQueries(l, skv.Bytes(queries), skv.Queries{
			DType: skv.F32, Count: 32, Heads: 4, QueryStride: 4 * dim * 4, HeadStride: dim * 4, ElemStride: 4,
		}))
	}
	ok(t, engine.Score(cache, byQuery))
	ok(t, plan.Solve(cache, byQuery))
	receipt = must[skv.Receipt](t)(must[*skv.Payload](t)(engine.Encode(cache, plan)).Receipt())
	if receipt.Scored != skv.ScoredQueries {
		t.Error(receipt.Scored)
	}
}

func tiers(t *testing.T) {
	engine, cache := Engine(t), View(t, Tensors())
	plan := must[*skv.Plan](t)(skv.NewPlan(engine))
	ok(t, plan.Set(skv.PlanUnproven, 1))
	ok(t, plan.SetStrategy("uniform-8"))
	ok(t, plan.Solve(cache, nil))
	wanted := make([]skv.Tier, tokens)
	for i := range wanted {
		wanted[i] = skv.Tier4Bit
	}
	ok(t, plan.SetTiers(0, skv.V, wanted))
	payload := must[*skv.Payload](t)(engine.Encode(cache, plan))
	for _, tier := range must[[]skv.Tier](t)(payload.Tiers(0, skv.V)) {
		if tier != skv.Tier4Bit {
			t.Fatal(tier)
		}
	}
	is(t, plan.SetTiers(0, skv.K, make([]skv.Tier, tokens)), skv.ErrPermitted)
	wanted[0] = 99
	is(t, plan.SetTiers(0, skv.K, wanted), skv.ErrRange)
	if s := fmt.Sprint(skv.Tier4Bit, skv.Tier(99)); s != "SKV_TIER_4BIT 99" {
		t.Error(s)
	}
}

func statuses(t *testing.T) {
	second := func(_ any, err error) error { return err }
	one := must[*skv.Cache](t)(skv.NewCache(1))
	plane := make([]float32, count)
	rows := skv.TokenMajor(heads, dim, 4)
	engine := Engine(t)
	plan := must[*skv.Plan](t)(skv.NewPlan(engine))
	ok(t, plan.Set(skv.PlanUnproven, 1))
	cache := View(t, Tensors())
	is(t, second(skv.NewCache(0)), skv.ErrRange)
	is(t, second(skv.NewCache(math.MaxInt)), skv.ErrRange)
	is(t, second(skv.NewEngine(9)), skv.ErrUnavailable)
	is(t, engine.Set(99, 1), skv.ErrKey)
	is(t, engine.Set(skv.EngineThreads, 1000), skv.ErrRange)
	is(t, one.SetTokens(3, 0, 5), skv.ErrRange)
	is(t, one.SetTokens(0, 0, 0), skv.ErrEmpty)
	is(t, one.SetLayer(0, 1, 12, 8, skv.F16), skv.ErrGeometry)
	is(t, one.SetLayer(0, 1, 8, 8, 9), skv.ErrDType)
	is(t, one.Set(99, 1), skv.ErrKey)
	is(t, one.Check(), skv.ErrEmpty)
	is(t, one.SetPlane(0, skv.K, nil, rows), skv.ErrNull)
	is(t, one.SetBlocks(0, nil, 16), skv.ErrNull)
	ok(t, one.SetTokens(0, 0, tokens))
	ok(t, one.SetLayer(0, heads, dim, 0, skv.F32))
	ok(t, one.SetGroup(0, 3))
	ok(t, one.SetFirstHead(0, 1))
	ok(t, one.SetPlane(0, skv.K, skv.Bytes(plane[:count-1]), rows))
	is(t, one.Check(), skv.ErrStride)
	ok(t, one.SetPlane(0, skv.K, skv.Bytes(plane), skv.Strides{Block: rows.Token * 64, Token: rows.Token, Head: rows.Head, Elem: 4}))
	ok(t, one.SetBlocks(0, []int32{0, 1, 2, 3, 3}, 64))
	is(t, one.Check(), skv.ErrBlockID)
	ok(t, one.SetBlocks(0, []int32{4, 1, 2, 3, 0}, 64))
	ok(t, one.Check())
	is(t, plan.Solve(cache, nil), skv.ErrState)
	is(t, second(plan.Bytes()), skv.ErrState)
	is(t, second(engine.Encode(cache, plan)), skv.ErrState)
	is(t, plan.SetBudget(-1), skv.ErrRange)
	is(t, plan.SetStrategy("best"), skv.ErrKey)
	is(t, plan.SetStrategy("a\x00b"), skv.ErrArgument)
	ok(t, plan.SetBudget(0.01))
	is(t, plan.Solve(cache, nil), skv.ErrBudget)
	ok(t, plan.SetBudget(0.5))
	ok(t, plan.Solve(cache, nil))
	is(t, second(engine.Encode(one, plan)), skv.ErrLayout)
	bad := Tensors()
	bad[1][0][7777] = float32(math.NaN())
	ok(t, plan.SetStrategy("uniform-4"))
	view := View(t, bad)
	ok(t, plan.Solve(view, nil))
	is(t, second(engine.Encode(view, plan)), skv.ErrNonFinite)
	is(t, second(skv.Open(nil)), skv.ErrTruncated)
	is(t, second(skv.FromLlama([]byte("no state"), []int32{1})), skv.ErrMalformed)
	payload := Payload(t)
	is(t, second(payload.Get(99, skv.PayloadBytes)), skv.ErrRange)
	is(t, second(payload.Get(0, 99)), skv.ErrKey)
	is(t, second(skv.LlamaBlobBytes(payload, false, 9)), skv.ErrDType)
	size := must[uint64](t)(skv.LlamaBlobBytes(payload, true, skv.F16))
	is(t, second(skv.ToLlama(payload, true, skv.F16, nil, make([]byte, size-1))), skv.ErrTooSmall)
	blob := make([]byte, size)
	framed := must[*skv.Cache](t)(skv.ToLlama(payload, true, skv.F16, nil, blob))
	ok(t, engine.Decode(payload, framed))
	ok(t, must[*skv.Cache](t)(skv.FromLlama(blob, []int32{heads, heads})).Check())
}

func damage(t *testing.T) {
	engine, model, request := Engine(t), skv.Fingerprint{1}, skv.RequestID{2}
	cache := View(t, Tensors())
	ok(t, cache.SetIdentity(&model, &request))
	payload := must[*skv.Payload](t)(engine.Encode(cache, solved(t, engine, cache, 0.4)))
	f, r, err := payload.Identity()
	if err != nil || f != model || r != request {
		t.Error(f, r, err)
	}
	spoiled := must[[]byte](t)(payload.Bytes())
	spoiled[len(spoiled)-40] ^= 1
	damaged := must[*skv.Payload](t)(skv.Open(spoiled))
	is(t, damaged.Verify(), skv.ErrChecksum)
	for _, c := range []struct {
		payload *skv.Payload
		model   byte
		request byte
		wanted  skv.Status
	}{{payload, 9, 2, skv.ErrModel}, {payload, 1, 9, skv.ErrRequest}, {damaged, 1, 2, skv.ErrChecksum}} {
		to := zeros()
		target := View(t, to)
		ok(t, target.SetIdentity(&skv.Fingerprint{c.model}, &skv.RequestID{c.request}))
		is(t, engine.Decode(c.payload, target), c.wanted)
		if worst(to, zeros()) != 0 {
			t.Errorf("%v wrote to the destination", c.wanted)
		}
	}
}

// Root is the project's folder, or "" where the module is alone.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	root := filepath.Join(filepath.Dir(file), "..", "..", "..", "..")
	if _, err := os.Stat(filepath.Join(root, "include", "spectrumkv.h")); err != nil {
		return ""
	}
	return root
}

func malformed(t *testing.T) {
	if Root() == "" {
		t.Skip("SKIPPED: the module alone, without the project's malformed payloads")
	}
	golden := filepath.Join(Root(), "tests", "golden")
	list := map[string]string{}
	ok(t, json.Unmarshal(must[[]byte](t)(os.ReadFile(filepath.Join(golden, "malformed.json"))), &list))
	if len(list) < 100 {
		t.Fatalf("only %d malformed payloads", len(list))
	}
	for name, wanted := range list {
		payload, err := skv.Open(must[[]byte](t)(os.ReadFile(filepath.Join(golden, "malformed", name))))
		if err == nil {
			err = payload.Verify()
			payload.Close()
		}
		got := "SKV_OK"
		var e *skv.Error
		if errors.As(err, &e) {
			got = e.Status.String()
		}
		if got != wanted {
			t.Errorf("%s: got %s, wanted %s", name, got, wanted)
		}
	}
}

func closed(t *testing.T) {
	engine, cache := Engine(t), View(t, Tensors())
	plan := solved(t, engine, cache, 0.5)
	payload := must[*skv.Payload](t)(engine.Encode(cache, plan))
	ok(t, plan.Close())
	ok(t, plan.Close())
	_, err := plan.Bytes()
	is(t, err, skv.ErrClosed)
	_, err = engine.Encode(cache, plan)
	is(t, err, skv.ErrClosed)
	ok(t, cache.Close())
	is(t, engine.Decode(payload, cache), skv.ErrClosed)
	ok(t, payload.Verify()) // the others are not held by a call that failed
	ok(t, engine.Close())
	_, err = engine.Describe()
	is(t, err, skv.ErrClosed)
}

func versions(t *testing.T) {
	wanted := fmt.Sprintf("%d.%d.%d", skv.VersionMajor, skv.VersionMinor, skv.VersionPatch)
	if got := must[string](t)(skv.Version()); got != wanted {
		t.Errorf("%s, wanted %s", got, wanted)
	}
	if got := must[int](t)(skv.VersionNumber()); got != skv.VersionMajor*10000+skv.VersionMinor*100+skv.VersionPatch {
		t.Error(got)
	}
	if major, minor, err := skv.WireVersion(); err != nil || major != skv.WireMajor || minor != skv.WireMinor {
		t.Error(major, minor, err)
	}
	for status := skv.Status(-200); status <= 1; status++ {
		name := must[string](t)(skv.StatusName(status))
		if name != "SKV_UNKNOWN" && name != status.String() {
			t.Errorf("%d is %s here, %s in the library", status, status, name)
		}
	}
	first := must[uint64](t)(skv.NowNS())
	if must[uint64](t)(skv.NowNS()) < first {
		t.Error("the clock runs backwards")
	}
}

func turns(t *testing.T) {
	engine, cache := Engine(t), View(t, Tensors())
	plan := solved(t, engine, cache, 0.4)
	wanted := must[[]byte](t)(must[*skv.Payload](t)(engine.Encode(cache, plan)).Bytes())
	var group sync.WaitGroup
	for range 8 {
		group.Add(1)
		go func() {
			defer group.Done()
			payload, err := engine.Encode(cache, plan)
			if err != nil {
				t.Error(err)
				return
			}
			if got, err := payload.Bytes(); err != nil || !bytes.Equal(got, wanted) {
				t.Error("differs", err)
			}
			if err := engine.Decode(payload, View(t, zeros())); err != nil {
				t.Error(err)
			}
		}()
	}
	group.Wait()
}

func closing(t *testing.T) {
	for range 20 {
		engine, cache := Engine(t), View(t, Tensors())
		plan := must[*skv.Plan](t)(skv.NewPlan(engine))
		ok(t, plan.Set(skv.PlanUnproven, 1))
		ok(t, plan.SetBudget(0.5))
		done := make(chan error)
		go func() { done <- plan.Solve(cache, nil) }()
		ok(t, errors.Join(plan.Close(), cache.Close(), engine.Close()))
		if err := <-done; err != nil {
			is(t, err, skv.ErrClosed)
		}
	}
}

func long(t *testing.T) context.Context {
	ctx, stop := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(stop)
	return ctx
}

func verdicts(t *testing.T) {
	engine, cache, model := Engine(t), View(t, Tensors()), skv.Fingerprint{5}
	ok(t, cache.SetIdentity(&model, nil))
	plan := must[*skv.Plan](t)(skv.NewPlan(engine))
	ok(t, plan.SetBudget(0.4))
	is(t, plan.Solve(cache, nil), skv.ErrPermitted)
	probe := must[*skv.NeedleProbe](t)(skv.NewNeedleProbe(200))
	_, err := probe.Prompt(skv.NeedleTrials)
	is(t, err, skv.ErrRange)
	profile := must[*skv.Profile](t)(skv.NewProfile(model, layers, skv.CodeEmbedded))
	is(t, probe.Verdict(profile), skv.ErrState)
	number := regexp.MustCompile(`\d{4,}`)
	for trial := range skv.NeedleTrials {
		answer := number.FindString(must[string](t)(probe.Prompt(trial)))
		if !must[bool](t)(probe.Answer(trial, "It was "+answer+".")) {
			t.Errorf("%q was not the number", answer)
		}
		_, err := probe.Answer(trial, "again")
		is(t, err, skv.ErrState)
	}
	ok(t, probe.Verdict(profile))
	if verdict, passed, trials, err := profile.Verdict(skv.ProbeNeedle); verdict != skv.VerdictYes || passed != 3 || trials != 3 || err != nil {
		t.Error(verdict, passed, trials, err)
	}
	encoded := must[[]byte](t)(profile.JSON())
	opened := must[*skv.Profile](t)(skv.OpenProfile(encoded))
	_, err = skv.OpenProfile(encoded[1:])
	is(t, err, skv.ErrMalformed)
	ok(t, plan.SetProfile(opened))
	ok(t, plan.Solve(cache, nil))
	if cost := must[float64](t)(plan.Cost(0, skv.K)); cost <= 0 {
		t.Error(cost)
	}
	receipt := must[skv.Receipt](t)(must[*skv.Payload](t)(engine.Encode(cache, plan)).Receipt())
	if receipt.Proof != skv.ProofProfile || receipt.Int4 != skv.VerdictYes {
		t.Errorf("%+v", receipt)
	}
	ok(t, opened.Calibrate(0, skv.K, skv.ScoredKV, 1, 0.01))
	ok(t, opened.SetVerdict(skv.ProbeLogits, skv.VerdictNo, 0, 1))
	ok(t, plan.SetProfile(opened))
	ok(t, plan.SetStrategy("uniform-4"))
	is(t, plan.Solve(cache, nil), skv.ErrPermitted)
	ok(t, plan.SetProfile(nil))
	ok(t, errors.Join(probe.Close(), profile.Close(), opened.Close()))
}
