// SPDX-License-Identifier: Apache-2.0
// Elements whose bytes lie by significance: the highest byte of every element, then the next of every element, … the
// lowest. Exponents come together so, which is what can be saved of 16-bit numbers (docs/results/quality.md).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace skv {

// Little-endian elements of 2 or 4 bytes, bytes.size() a multiple of that; out has as many bytes and lies elsewhere.
void split_columns(std::span<const std::byte> bytes, uint32_t element_bytes, std::byte* out);
void join_columns(std::span<const std::byte> columns, uint32_t element_bytes, std::byte* out);

}  // namespace skv
