// SPDX-License-Identifier: Apache-2.0

// The stress program without cgo.
package main

import (
	"github.com/spectrumkv/libspectrumkv/bindings/go/internal/stress"
	_ "github.com/spectrumkv/libspectrumkv/bindings/go/purego"
)

func main() { stress.Main() }
