// SPDX-License-Identifier: Apache-2.0

// Decode receives a payload from the example prefill and decodes it.
package main

import "github.com/spectrumkv/libspectrumkv/bindings/go/internal/decode"

func main() { decode.Main() }
