// SPDX-License-Identifier: Apache-2.0

// The stress program with cgo.
package main

import "github.com/spectrumkv/libspectrumkv/bindings/go/internal/stress"

func main() { stress.Main() }
