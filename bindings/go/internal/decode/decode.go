// SPDX-License-Identifier: Apache-2.0

// Package decode is the decode side of the examples, built once with cgo and once without.
package decode

import (
	"context"
	"errors"
	"fmt"
	"log"
	"math"
	"os"
	"time"

	skv "github.com/spectrumkv/libspectrumkv/bindings/go"
)

func run(uri string) error {
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	endpoint, err := skv.NewEndpoint()
	if err != nil {
		return err
	}
	defer endpoint.Close()
	conn, err := endpoint.Connect(ctx, uri)
	if err != nil {
		return err
	}
	defer conn.Close()
	payload, err := conn.Receive(ctx)
	if err != nil {
		return err
	}
	defer payload.Close()

	fact := func(key skv.PayloadKey) int {
		value, e := payload.Get(0, key)
		err = errors.Join(err, e)
		return int(value)
	}
	tokens, heads, dim := fact(skv.PayloadTokens), fact(skv.PayloadHeads), fact(skv.PayloadKDim)
	target, e := skv.NewCache(1)
	if err := errors.Join(err, e); err != nil {
		return err
	}
	defer target.Close()
	// This side keeps its cache head-major.
	k, v := make([]float32, tokens*heads*dim), make([]float32, tokens*heads*dim)
	rows := skv.HeadMajor(tokens, dim, 4)
	engine, err := skv.NewEngine(skv.DeviceCPU)
	if err != nil {
		return err
	}
	defer engine.Close()
	if err := errors.Join(target.SetTokens(0, 0, int64(tokens)), target.SetLayer(0, heads, dim, dim, skv.F32),
		target.SetPlane(0, skv.K, skv.Bytes(k), rows), target.SetPlane(0, skv.V, skv.Bytes(v), rows),
		engine.Decode(payload, target)); err != nil {
		return err
	}
	wanted := math.Sin(float64(heads*dim) * 0.1) // token 1, head 0, channel 0, as prefill computed it
	fmt.Printf("decoded %d tokens; k %.4f for %.4f\n", tokens, k[dim], wanted)
	return nil
}

// Main connects to the URI that the example prefill printed, receives a payload and decodes it.
func Main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: decode URI")
	}
	if err := run(os.Args[1]); err != nil {
		log.Fatal(err)
	}
}
