// SPDX-License-Identifier: Apache-2.0
#include "byte_columns.h"

namespace skv {
namespace {

// Their trip counts and strides are known to the compiler, which makes shuffles of them.
template <size_t kBytes>
void split(const std::byte* __restrict from, size_t elements, std::byte* __restrict out) {
  for (size_t c = 0; c < kBytes; ++c) {
    for (size_t i = 0; i < elements; ++i) out[c * elements + i] = from[i * kBytes + (kBytes - 1 - c)];
  }
}

template <size_t kBytes>
void join(const std::byte* __restrict columns, size_t elements, std::byte* __restrict out) {
  for (size_t i = 0; i < elements; ++i) {
    for (size_t c = 0; c < kBytes; ++c) out[i * kBytes + (kBytes - 1 - c)] = columns[c * elements + i];
  }
}

}  // namespace

void split_columns(std::span<const std::byte> bytes, uint32_t element_bytes, std::byte* out) {
  if (element_bytes == 2) {
    split<2>(bytes.data(), bytes.size() / 2, out);
  } else {
    split<4>(bytes.data(), bytes.size() / 4, out);
  }
}

void join_columns(std::span<const std::byte> columns, uint32_t element_bytes, std::byte* out) {
  if (element_bytes == 2) {
    join<2>(columns.data(), columns.size() / 2, out);
  } else {
    join<4>(columns.data(), columns.size() / 4, out);
  }
}

}  // namespace skv
