// SPDX-License-Identifier: Apache-2.0

// The interop program with cgo.
package main

import "github.com/spectrumkv/libspectrumkv/bindings/go/internal/interop"

func main() { interop.Main() }
