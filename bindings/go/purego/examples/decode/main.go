// SPDX-License-Identifier: Apache-2.0

// Decode is the example decode without cgo: it loads libspectrumkv.so when it runs.
package main

import (
	"github.com/spectrumkv/libspectrumkv/bindings/go/internal/decode"
	_ "github.com/spectrumkv/libspectrumkv/bindings/go/purego"
)

func main() { decode.Main() }
