// SPDX-License-Identifier: Apache-2.0
// How large the rows' quantization errors are: measured with the encoder's own statistics, without encoding.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cache.h"
#include "engine.h"
#include "row_values.h"

namespace skv {

// Sums of squared 8-bit errors of one half, per (token, head), and the squared balances of its chunks.
struct HalfErrors {
  bool by_chunk = false;    // one row's error stands for the chunk
  std::vector<float> rows;  // [tokens, or chunks][heads]: squared error per channel, before the balance: S^2 / (12 n)
  std::vector<float> balance2;  // [chunks][heads*dim], or empty: without balance, and by chunk
  std::vector<float> mean2;     // [chunks][heads]: mean over channels of balance2 (1 without balance)
};

struct Transforms {
  uint32_t flags;
  uint32_t chunk;
};

// A layer to measure.
struct Measure {
  int32_t layer = 0;
  Transforms transforms[2]{};
  int32_t sinks = 0;
  bool sampled[2] = {false, false};
  HalfErrors errors[2];  // out
};

// Measures both halves of layers, all in one run of the engine's threads: of one layer there is little to do. Throws
// NON_FINITE, OVERFLOW.
// sampled: one row in 32 of each chunk stands for all its rows, which then have their mean (of short chunks every row).
// Without queries that is not only the cheaper choice: rows larger than their neighbours do not matter more for it.
// SmolLM2-135M, 4 windows, no queries, KL at 0.24 / 0.28 / 0.40 with every row's own error, the mean of every 8th, 16th
// and 32nd: 0.0062 / 0.0020 / 0.000065, 0.0046 / 0.00106 / 0.000047, 0.0047 / 0.0011 / 0.000047 and 0.0047 / 0.0011 /
// 0.000045.
void measure(Engine& engine, const Cache& cache, std::span<Measure> layers);

// Mean squared error per element of every row at 8 bits; by chunk where one stands for all.
RowValues row_errors(const CacheLayer& view, const Transforms& transforms, const HalfErrors& errors);

}  // namespace skv
