// SPDX-License-Identifier: Apache-2.0
// How large the rows' quantization errors are: measured with the encoder's own statistics, without encoding.
#pragma once

#include <cstdint>
#include <vector>

#include "cache.h"
#include "engine.h"

namespace skv {

// Sums of squared 8-bit errors of one half, per (token, head), and the squared balances of its chunks.
struct HalfErrors {
  std::vector<float> rows;      // [tokens][heads]: squared error per channel, before the balance: S^2 / (12 n)
  std::vector<float> balance2;  // [chunks][heads*dim], or empty
  std::vector<float> mean2;     // [chunks][heads]: mean over channels of balance2 (1 without balance)
};

struct Transforms {
  uint32_t flags;
  uint32_t chunk;
};

void size_errors(const CacheLayer& view, int half, const Transforms& transforms, HalfErrors& errors);

// Measures both halves of a layer. Throws NON_FINITE, OVERFLOW.
void measure_layer(Engine& engine, const Cache& cache, int32_t layer, const Transforms transforms[2], int32_t sinks,
                   HalfErrors errors[2]);

// Mean squared error per element of every row at 8 bits.
std::vector<float> row_errors(const CacheLayer& view, const Transforms& transforms, const HalfErrors& errors);

}  // namespace skv
