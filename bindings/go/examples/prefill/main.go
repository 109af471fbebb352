// SPDX-License-Identifier: Apache-2.0

// Prefill listens on a URI (tcp://127.0.0.1:0 by default) and sends one encoded cache to whoever connects. See decode.
package main

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

const (
	tokens = 2048
	heads  = 8
	dim    = 128
)

func run(uri string) error {
	k, v := make([]float32, tokens*heads*dim), make([]float32, tokens*heads*dim)
	for i := range k {
		k[i] = float32(math.Sin(float64(i) * 0.1))
		v[i] = -k[i]
	}
	source, err := skv.NewCache(1)
	if err != nil {
		return err
	}
	defer source.Close()
	rows := skv.TokenMajor(heads, dim, 4)
	if err := errors.Join(source.SetTokens(0, 0, tokens), source.SetLayer(0, heads, dim, dim, skv.F32),
		source.SetPlane(0, skv.K, skv.Bytes(k), rows), source.SetPlane(0, skv.V, skv.Bytes(v), rows)); err != nil {
		return err
	}

	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	endpoint, err := skv.NewEndpoint()
	if err != nil {
		return err
	}
	defer endpoint.Close()
	bound, err := endpoint.Listen(uri)
	if err != nil {
		return err
	}
	fmt.Println("listening on", bound)

	engine, err := skv.NewEngine(skv.DeviceCPU)
	if err != nil {
		return err
	}
	defer engine.Close()
	plan, err := skv.NewPlan(engine)
	if err != nil {
		return err
	}
	defer plan.Close()
	if err := errors.Join(plan.Set(skv.PlanUnproven, 1), plan.SetBudget(0.3), plan.Solve(source, nil)); err != nil {
		return err
	}
	payload, err := engine.Encode(source, plan)
	if err != nil {
		return err
	}
	defer payload.Close()

	conn, err := endpoint.Accept(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	request, err := conn.Send(ctx, 1, payload)
	if err != nil {
		return err
	}
	defer request.Close()
	if err := request.Wait(ctx); err != nil {
		return err
	}
	receipt, err := payload.Receipt()
	if err != nil {
		return err
	}
	fmt.Printf("sent %d bytes, %.3f of raw\n", receipt.PayloadBytes, receipt.Ratio)
	return nil
}

func main() {
	uri := "tcp://127.0.0.1:0"
	if len(os.Args) > 1 {
		uri = os.Args[1]
	}
	if err := run(uri); err != nil {
		log.Fatal(err)
	}
}
