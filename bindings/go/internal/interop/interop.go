// SPDX-License-Identifier: Apache-2.0

// Package interop is the interop program in Go, built with cgo and without; see tests/interop/interop_test.py for what each of
// its commands does.
package interop

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log"
	"os"
	"strconv"
	"time"

	skv "github.com/spectrumkv/libspectrumkv/bindings/go"
)

// shape is of float16 tensors [layer, K or V, token, head, channel].
type shape struct{ layers, tokens, heads, dim int }

var tensors = shape{layers: 3, tokens: 200, heads: 2, dim: 64}

func shapeOf(payload *skv.Payload) (s shape, err error) {
	fact := func(layer int, key skv.PayloadKey) int {
		value, e := payload.Get(layer, key)
		err = errors.Join(err, e)
		return int(value)
	}
	s.layers, s.tokens = fact(skv.All, skv.PayloadLayers), fact(0, skv.PayloadTokens)
	s.heads, s.dim = fact(0, skv.PayloadHeads), fact(0, skv.PayloadKDim)
	return s, err
}

func (s shape) plane() int { return s.tokens * s.heads * s.dim * 2 }

func (s shape) view(memory []byte) (*skv.Cache, error) {
	cache, err := skv.NewCache(s.layers)
	if err != nil {
		return nil, err
	}
	err = errors.Join(cache.SetTokens(skv.All, 0, int64(s.tokens)), cache.SetLayer(skv.All, s.heads, s.dim, s.dim, skv.F16))
	for i := range 2 * s.layers {
		half := memory[i*s.plane() : (i+1)*s.plane()]
		err = errors.Join(err, cache.SetPlane(i/2, skv.Half(i%2), half, skv.TokenMajor(s.heads, s.dim, 2)))
	}
	return cache, err
}

func encode(path string) (*skv.Payload, error) {
	memory, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if wanted := 2 * tensors.layers * tensors.plane(); len(memory) != wanted {
		return nil, fmt.Errorf("%s: got %d bytes, wanted %d", path, len(memory), wanted)
	}
	cache, err := tensors.view(memory)
	if err != nil {
		return nil, err
	}
	engine, err := skv.NewEngine(skv.DeviceCPU)
	if err != nil {
		return nil, err
	}
	plan, err := skv.NewPlan(engine)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(plan.Set(skv.PlanUnproven, 1), plan.SetBudget(0.4), plan.Solve(cache, nil)); err != nil {
		return nil, err
	}
	return engine.Encode(cache, plan)
}

func decode(payload *skv.Payload) error {
	s, err := shapeOf(payload)
	if err != nil {
		return err
	}
	memory := make([]byte, 2*s.layers*s.plane())
	cache, err := s.view(memory)
	if err != nil {
		return err
	}
	engine, err := skv.NewEngine(skv.DeviceCPU)
	if err != nil {
		return err
	}
	if err := engine.Decode(payload, cache); err != nil {
		return err
	}
	fmt.Printf("%x\n", sha256.Sum256(memory))
	return nil
}

func run(arguments []string) error {
	if len(arguments) < 2 {
		return errors.New("usage: encode TENSORS OUT | decode IN... | send TENSORS URI | receive URI COUNT | calls IN COUNT")
	}
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	switch arguments[0] {
	case "encode":
		payload, err := encode(arguments[1])
		if err != nil {
			return err
		}
		return payload.View(func(bytes []byte) error { return os.WriteFile(arguments[2], bytes, 0o666) })
	case "decode":
		for _, file := range arguments[1:] {
			bytes, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			payload, err := skv.Open(bytes)
			if err != nil {
				return err
			}
			if err := decode(payload); err != nil {
				return err
			}
		}
		return nil
	case "send":
		payload, err := encode(arguments[1])
		if err != nil {
			return err
		}
		endpoint, err := skv.NewEndpoint()
		if err != nil {
			return err
		}
		defer endpoint.Close()
		conn, err := endpoint.Connect(ctx, arguments[2])
		if err != nil {
			return err
		}
		defer conn.Close()
		request, err := conn.Send(ctx, 1, payload)
		if err != nil {
			return err
		}
		defer request.Close()
		return request.Wait(ctx)
	case "receive":
		endpoint, err := skv.NewEndpoint()
		if err != nil {
			return err
		}
		defer endpoint.Close()
		bound, err := endpoint.Listen(arguments[1])
		if err != nil {
			return err
		}
		fmt.Println(bound)
		count, err := strconv.Atoi(arguments[2])
		if err != nil {
			return err
		}
		for range count {
			conn, err := endpoint.Accept(ctx)
			if err != nil {
				return err
			}
			payload, err := conn.Receive(ctx)
			if err != nil {
				return err
			}
			if err := errors.Join(decode(payload), conn.Close()); err != nil {
				return err
			}
		}
		return nil
	case "calls":
		bytes, err := os.ReadFile(arguments[1])
		if err != nil {
			return err
		}
		payload, err := skv.Open(bytes)
		if err != nil {
			return err
		}
		count, err := strconv.Atoi(arguments[2])
		if err != nil {
			return err
		}
		start := time.Now()
		for range count {
			if _, err := payload.Get(0, skv.PayloadTokens); err != nil {
				return err
			}
		}
		fmt.Printf("%.1f\n", float64(time.Since(start).Nanoseconds())/float64(count))
		return nil
	}
	return fmt.Errorf("no command %q", arguments[0])
}

// Main runs one command.
func Main() {
	if err := run(os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}
