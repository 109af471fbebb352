// SPDX-License-Identifier: Apache-2.0

package spectrumkv_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	skv "github.com/spectrumkv/libspectrumkv/bindings/go"
	"github.com/spectrumkv/libspectrumkv/bindings/go/internal/suite"
)

func TestThroughCgo(t *testing.T) { suite.Run(t) }

// FuzzOpen opens untrusted bytes, and verifies and decodes what opens.
func FuzzOpen(f *testing.F) {
	if root := suite.Root(); root != "" {
		files, _ := filepath.Glob(filepath.Join(root, "tests", "fuzz", "corpus", "fuzz_payload", "*"))
		golden, _ := filepath.Glob(filepath.Join(root, "tests", "golden", "*.skv"))
		if len(files) == 0 || len(golden) == 0 {
			f.Fatal("no seeds")
		}
		for _, file := range append(files, golden...) {
			if bytes, err := os.ReadFile(file); err == nil && len(bytes) < 1<<16 {
				f.Add(bytes)
			}
		}
	}
	engine := suite.Engine(f)
	f.Fuzz(func(t *testing.T, bytes []byte) {
		payload, err := skv.Open(bytes)
		if err != nil {
			return
		}
		defer payload.Close()
		_ = payload.Verify()
		tokens, err := payload.Get(0, skv.PayloadTokens)
		if err != nil {
			t.Fatal(err)
		}
		get := func(key skv.PayloadKey) int {
			value, err := payload.Get(0, key)
			if err != nil {
				t.Fatal(err)
			}
			return int(value)
		}
		if get(skv.PayloadHeads)*get(skv.PayloadKDim)*int(tokens) > 1<<20 {
			return
		}
		if _, err := payload.Tiers(0, skv.K); err != nil {
			t.Fatal(err)
		}
		cache, err := skv.NewCache(1)
		if err != nil {
			t.Fatal(err)
		}
		defer cache.Close()
		heads, dim := get(skv.PayloadHeads), get(skv.PayloadKDim)
		_ = cache.SetTokens(0, int64(get(skv.PayloadPosition)), tokens)
		_ = cache.SetLayer(0, heads, dim, 0, skv.F32)
		_ = cache.SetPlane(0, skv.K, skv.Bytes(make([]float32, heads*dim*int(tokens))), skv.TokenMajor(heads, dim, 4))
		_ = engine.Decode(payload, cache)
	})
}

func resident(t *testing.T) int {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kib
}

func TestNothingLeaks(t *testing.T) {
	files := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	for range 20 {
		suite.Round(t)
	}
	memory, descriptors := resident(t), files()
	for range 150 {
		suite.Round(t)
	}
	after, left := resident(t), files()
	t.Logf("%d -> %d KiB, %d -> %d descriptors after 150 rounds", memory, after, descriptors, left)
	// A round's tensors and payload are over 1 MiB: one leaked a round would be 150 MiB and more.
	if after > memory+48*1024 {
		t.Errorf("%d -> %d KiB", memory, after)
	}
	if left > descriptors {
		t.Errorf("%d -> %d descriptors", descriptors, left)
	}
}

func BenchmarkPayloadGet(b *testing.B) {
	payload := suite.Payload(b)
	defer payload.Close()
	for b.Loop() {
		if _, err := payload.Get(0, skv.PayloadTokens); err != nil {
			b.Fatal(err)
		}
	}
}
