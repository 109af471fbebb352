// SPDX-License-Identifier: Apache-2.0

// The interop program without cgo.
package main

import (
	"github.com/spectrumkv/libspectrumkv/bindings/go/internal/interop"
	_ "github.com/spectrumkv/libspectrumkv/bindings/go/purego"
)

func main() { interop.Main() }
