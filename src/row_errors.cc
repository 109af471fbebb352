// SPDX-License-Identifier: Apache-2.0
#include "row_errors.h"

#include <algorithm>

#include "codec_cuda.h"
#include "error.h"
#include "kernels/tiers.h"
#include "rows.h"

namespace skv {
namespace {

const char* half_name(int half) { return half == SKV_K ? "K" : "V"; }

// Squared errors of a chunk from its row maxima [tokens][heads] and, if any, its balances [heads*dim].
void note_chunk(const CacheLayer& view, int half, const Transforms& transforms, uint32_t index, const float* absmax,
                const float* balance, HalfErrors& errors) {
  const ChunkRange range = chunk_range(static_cast<uint64_t>(view.tokens), transforms.chunk, index);
  const auto channels = static_cast<size_t>(view.kv_heads) * static_cast<size_t>(view.dim[half]);
  const auto heads = static_cast<size_t>(view.kv_heads);
  const int32_t hadamard = tiers::hadamard_of(transforms.flags);
  const float n = hadamard == 0 ? 1.0F : static_cast<float>(hadamard);
  const float unit = 1.0F / (127.0F * 127.0F * 12.0F * n);
  for (size_t i = 0; i < range.tokens * heads; ++i) {
    errors.rows[static_cast<size_t>(range.first) * heads + i] = absmax[i] * absmax[i] * unit;
  }
  for (size_t h = 0; h < heads; ++h) {
    float sum = 0;
    const auto dim = static_cast<size_t>(view.dim[half]);
    for (size_t c = 0; c < dim && balance != nullptr; ++c) {
      const float b = balance[h * dim + c];
      errors.balance2[index * channels + h * dim + c] = b * b;
      sum += b * b;
    }
    errors.mean2[index * heads + h] = balance == nullptr ? 1.0F : sum / static_cast<float>(dim);
  }
}

// Statistics as the encoder would take them if only the sinks were RAW, then the absmax of every transformed row.
void measure_chunk(Engine& engine, const Cache& cache, int32_t layer, int half, const Transforms& transforms,
                   int32_t sinks, uint32_t index, HalfErrors& errors, Scratch& scratch) {
  const CacheLayer& view = cache.layer(layer);
  const auto tokens = static_cast<uint64_t>(view.tokens);
  const ChunkRange range = chunk_range(tokens, transforms.chunk, index);
  const kernels::Rows rows = rows_of(cache, layer, half, range, scratch);
  const auto channels = static_cast<size_t>(view.kv_heads) * static_cast<size_t>(view.dim[half]);
  const auto heads = static_cast<size_t>(view.kv_heads);
  uint8_t assumed[tiers::kMaxChunk];
  for (uint32_t t = 0; t < range.tokens; ++t) {
    assumed[t] = view.first_position + range.first + t < sinks ? tiers::kRaw : uint8_t{2};
  }
  float* floats = scratch.need_floats(6 * channels + range.tokens * heads);
  float* mean = floats + 3 * channels;
  float* balance = floats + 4 * channels;
  float* recip = floats + 5 * channels;
  kernels::Transform transform;
  transform.hadamard = tiers::hadamard_of(transforms.flags);
  const uint32_t vectors = transforms.flags & (tiers::kMean | tiers::kBalance);
  if (vectors != 0) {
    const int32_t counted = engine.kernels().stats(rows, assumed, floats, floats + channels, floats + 2 * channels);
    // The stored f16 forms are not needed here; their f32 companions are.
    std::vector<uint16_t> stored(2 * channels);
    const kernels::Verdict verdict =
        engine.kernels().vectors(vectors, counted, view.kv_heads, view.dim[half], floats, floats + channels,
                                 floats + 2 * channels, stored.data(), stored.data() + channels, mean, balance, recip);
    if (verdict.kind != kernels::Verdict::kOk) {
      fail(verdict.kind == kernels::Verdict::kNonFinite ? SKV_E_NON_FINITE : SKV_E_OVERFLOW,
           "layer %d %s head %d, tokens %u..%u: %s", layer, half_name(half), verdict.head, range.first,
           range.first + range.tokens - 1,
           verdict.kind == kernels::Verdict::kNonFinite ? "Inf or NaN" : "mean too large for 16 bits");
    }
    if ((vectors & tiers::kMean) != 0) transform.mean = mean;
    if ((vectors & tiers::kBalance) != 0) transform.recip = recip;
  }
  float* absmax = floats + 6 * channels;
  const kernels::Verdict verdict = engine.kernels().absmax(rows, transform, absmax);
  if (verdict.kind != kernels::Verdict::kOk) {
    fail(SKV_E_NON_FINITE, "layer %d %s token %u head %d: Inf or NaN", layer, half_name(half),
         range.first + static_cast<uint32_t>(verdict.token), verdict.head);
  }
  note_chunk(view, half, transforms, index, absmax, transform.recip == nullptr ? nullptr : balance, errors);
}

// A half whose rows are in device memory.
void measure_half(Device& device, const Cache& cache, int32_t layer, int half, const Transforms& transforms,
                  int32_t sinks, HalfErrors& errors) {
  const CacheLayer& view = cache.layer(layer);
  const auto tokens = static_cast<uint64_t>(view.tokens);
  const HalfMeasure got = measure_on_device(device, cache, layer, half, transforms.flags, transforms.chunk, sinks);
  if (got.failed_chunk >= 0) {
    const ChunkRange range = chunk_range(tokens, transforms.chunk, static_cast<uint32_t>(got.failed_chunk));
    fail(SKV_E_NON_FINITE, "layer %d %s, tokens %u..%u: Inf or NaN, or a mean too large for 16 bits", layer,
         half_name(half), range.first, range.first + range.tokens - 1);
  }
  const auto heads = static_cast<size_t>(view.kv_heads);
  const size_t channels = heads * static_cast<size_t>(view.dim[half]);
  for (uint32_t c = 0; c < chunks_of(tokens, transforms.chunk); ++c) {
    note_chunk(view, half, transforms, c, got.absmax.data() + static_cast<size_t>(c) * transforms.chunk * heads,
               got.balance.empty() ? nullptr : got.balance.data() + c * channels, errors);
  }
}

}  // namespace

void size_errors(const CacheLayer& view, int half, const Transforms& transforms, HalfErrors& errors) {
  const auto heads = static_cast<size_t>(view.kv_heads);
  const size_t chunks = chunks_of(static_cast<uint64_t>(view.tokens), transforms.chunk);
  errors.rows.resize(static_cast<size_t>(view.tokens) * heads);
  errors.mean2.resize(chunks * heads);
  errors.balance2.resize(
      (transforms.flags & tiers::kBalance) != 0 ? chunks * heads * static_cast<size_t>(view.dim[half]) : 0);
}

void measure_layer(Engine& engine, const Cache& cache, int32_t layer, const Transforms transforms[2], int32_t sinks,
                   HalfErrors errors[2]) {
  const CacheLayer& view = cache.layer(layer);
  const uint32_t chunks = chunks_of(static_cast<uint64_t>(view.tokens), transforms[0].chunk);
  const int halves = view.has(SKV_V) ? 2 : 1;
  for (int half = 0; half < halves; ++half) size_errors(view, half, transforms[half], errors[half]);
  if (Device* device = engine.device(); device != nullptr) {
    for (int half = 0; half < halves; ++half) {
      measure_half(*device, cache, layer, half, transforms[half], sinks, errors[half]);
    }
    return;
  }
  engine.run(static_cast<size_t>(chunks) * static_cast<size_t>(halves), [&](size_t unit, Scratch& scratch) {
    const int half = static_cast<int>(unit / chunks);
    measure_chunk(engine, cache, layer, half, transforms[half], sinks, static_cast<uint32_t>(unit % chunks),
                  errors[half], scratch);
  });
}

std::vector<float> row_errors(const CacheLayer& view, const Transforms& transforms, const HalfErrors& errors) {
  const auto heads = static_cast<size_t>(view.kv_heads);
  std::vector<float> out(static_cast<size_t>(view.tokens));
  for (size_t t = 0; t < out.size(); ++t) {
    const size_t chunk = t / transforms.chunk;
    float sum = 0;
    for (size_t h = 0; h < heads; ++h) sum += errors.rows[t * heads + h] * errors.mean2[chunk * heads + h];
    out[t] = sum / static_cast<float>(heads);
  }
  return out;
}

}  // namespace skv
