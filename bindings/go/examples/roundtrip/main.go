// SPDX-License-Identifier: Apache-2.0

// Roundtrip encodes a cache at several budgets, decodes it, and says what that cost and changed.
package main

import (
	"errors"
	"fmt"
	"log"
	"math"

	skv "github.com/spectrumkv/libspectrumkv/bindings/go"
)

const (
	layers = 4
	tokens = 1024
	heads  = 4
	dim    = 64
)

func view(memory [][]float32) (*skv.Cache, error) {
	cache, err := skv.NewCache(layers)
	if err != nil {
		return nil, err
	}
	err = errors.Join(cache.SetTokens(skv.All, 0, tokens), cache.SetLayer(skv.All, heads, dim, dim, skv.F32))
	for i, plane := range memory {
		err = errors.Join(err, cache.SetPlane(i/2, skv.Half(i%2), skv.Bytes(plane), skv.TokenMajor(heads, dim, 4)))
	}
	return cache, err
}

func tensors(value func(i int) float32) [][]float32 {
	out := make([][]float32, 2*layers)
	for half := range out {
		out[half] = make([]float32, tokens*heads*dim)
		for i := range out[half] {
			out[half][i] = value(i + half*7919)
		}
	}
	return out
}

func run() error {
	from := tensors(func(i int) float32 { return float32(math.Sin(float64(i)*0.37)) + float32(i%101)/100 })
	engine, err := skv.NewEngine(skv.DeviceCPU)
	if err != nil {
		return err
	}
	defer engine.Close()
	line, err := engine.Describe()
	if err != nil {
		return err
	}
	fmt.Println(line)
	source, err := view(from)
	if err != nil {
		return err
	}
	defer source.Close()
	for _, budget := range []float64{0.5, 0.4, 0.3} {
		plan, err := skv.NewPlan(engine)
		if err != nil {
			return err
		}
		if err := errors.Join(plan.Set(skv.PlanUnproven, 1), plan.SetBudget(budget), plan.Solve(source, nil)); err != nil {
			return err
		}
		payload, err := engine.Encode(source, plan)
		if err != nil {
			return err
		}
		to := tensors(func(int) float32 { return 0 })
		target, err := view(to)
		if err != nil {
			return err
		}
		if err := engine.Decode(payload, target); err != nil {
			return err
		}
		sum := 0.0
		for half := range to {
			for i := range to[half] {
				sum += math.Pow(float64(from[half][i]-to[half][i]), 2)
			}
		}
		receipt, err := payload.Receipt()
		if err != nil {
			return err
		}
		fmt.Printf("budget %.2f: %d bytes, %.4f of raw, RMS error %.5f\n",
			budget, receipt.PayloadBytes, receipt.Ratio, math.Sqrt(sum/float64(2*layers*tokens*heads*dim)))
		if err := errors.Join(target.Close(), payload.Close(), plan.Close()); err != nil {
			return err
		}
	}
	return nil
}

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}
