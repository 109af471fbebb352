// SPDX-License-Identifier: Apache-2.0

package purego_test

import (
	"os"
	"strings"
	"testing"

	skv "github.com/spectrumkv/libspectrumkv/bindings/go"
	"github.com/spectrumkv/libspectrumkv/bindings/go/internal/suite"
	"github.com/spectrumkv/libspectrumkv/bindings/go/purego"
)

func TestThroughPurego(t *testing.T) {
	for _, path := range []string{"/nowhere/libspectrumkv.so", "libc.so.6"} {
		if err := purego.Load(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Fatalf("%s: %v", path, err)
		}
	}
	t.Setenv("SPECTRUMKV_LIBRARY", "/nowhere/else.so")
	if _, err := skv.NewEndpoint(); err == nil || !strings.Contains(err.Error(), "/nowhere/else.so") {
		t.Fatal(err)
	}
	if err := os.Setenv("SPECTRUMKV_LIBRARY", os.Getenv("SKV_LIBRARY")); err != nil {
		t.Fatal(err)
	}
	suite.Run(t)
}

func BenchmarkPayloadGet(b *testing.B) {
	b.Setenv("SPECTRUMKV_LIBRARY", os.Getenv("SKV_LIBRARY"))
	payload := suite.Payload(b)
	defer payload.Close()
	for b.Loop() {
		if _, err := payload.Get(0, skv.PayloadTokens); err != nil {
			b.Fatal(err)
		}
	}
}
