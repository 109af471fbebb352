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

// Which rows of a chunk are measured: all, or one in kStep, which is one of every block that statistics are summed by:
// so the sums over these rows alone are those over all rows of which only these count, as the GPU takes them.
constexpr uint32_t kStep = 32;
static_assert(kStep == tiers::kSumBlock);
constexpr uint32_t kLeastSample = 8;
// The sequence's first tokens, which are sinks by default, are like no others.
constexpr uint32_t kUnlike = 4;
struct Sample {
  uint32_t step = 1;
  uint32_t first = 0;
  uint32_t count(const ChunkRange& range) const { return (range.tokens - first + step - 1) / step; }
  bool holds(uint32_t token) const { return token >= first && (step == 1 || (token - first) % step == 0); }
};
Sample sample_of(bool sampled, const ChunkRange& range) {
  if (!sampled) return {};
  if (range.tokens >= kLeastSample * kStep) return {kStep, kStep / 2};
  return {1, range.first == 0 && range.tokens >= kUnlike + kLeastSample ? kUnlike : 0};
}

// Squared errors of a chunk from the maxima of its measured rows [rows][heads] and, if any, its balances [heads*dim].
void note_chunk(const CacheLayer& view, int half, const Transforms& transforms, uint32_t index, const Sample& sample,
                const float* absmax, const float* balance, HalfErrors& errors) {
  const ChunkRange range = chunk_range(static_cast<uint64_t>(view.tokens), transforms.chunk, index);
  const auto channels = static_cast<size_t>(view.kv_heads) * static_cast<size_t>(view.dim[half]);
  const auto heads = static_cast<size_t>(view.kv_heads);
  const int32_t hadamard = tiers::hadamard_of(transforms.flags);
  const float n = hadamard == 0 ? 1.0F : static_cast<float>(hadamard);
  const float unit = 1.0F / (127.0F * 127.0F * 12.0F * n);
  float* rows = errors.rows.data() + (errors.by_chunk ? index : static_cast<size_t>(range.first)) * heads;
  if (!errors.by_chunk) {
    for (size_t i = 0; i < range.tokens * heads; ++i) rows[i] = absmax[i] * absmax[i] * unit;
  } else {
    const uint32_t count = sample.count(range);
    for (size_t h = 0; h < heads; ++h) {
      float sum = 0;
      for (uint32_t i = 0; i < count; ++i) sum += absmax[i * heads + h] * absmax[i * heads + h];
      rows[h] = sum / static_cast<float>(count) * unit;
    }
  }
  for (size_t h = 0; h < heads; ++h) {
    float sum = 0;
    const auto dim = static_cast<size_t>(view.dim[half]);
    for (size_t c = 0; c < dim && balance != nullptr; ++c) {
      const float b = balance[h * dim + c];
      if (!errors.by_chunk) errors.balance2[index * channels + h * dim + c] = b * b;
      sum += b * b;
    }
    errors.mean2[index * heads + h] = balance == nullptr ? 1.0F : sum / static_cast<float>(dim);
  }
}

// Reads one byte of every line of one token's rows. Rows of a sample are far apart, so that neither the processor nor
// its prefetch instructions (which changed nothing here) see the next ones coming; loads that nothing waits for do.
// SmolLM2-135M's 4,096 tokens, one row in 8: 5.4 ms without, 4.3 ms with it.
void touch(const kernels::Rows& rows, int64_t offset) {
  constexpr int64_t kLine = 64;
  const int64_t row = rows.dim * rows.stride_elem;
  const bool dense = rows.stride_elem == tiers::element_bytes(static_cast<uint8_t>(rows.dtype));
  for (int32_t h = 0; h < rows.heads && dense; ++h) {
    const std::byte* head = rows.base + offset + h * rows.stride_head;
    for (int64_t at = 0; at < row; at += kLine)
      static_cast<void>(*reinterpret_cast<const volatile std::byte*>(head + at));
  }
}

// The rows of a sample.
kernels::Rows rows_apart(const Cache& cache, int32_t layer, int half, const ChunkRange& range, const Sample& sample,
                         Scratch& scratch) {
  const uint32_t count = sample.count(range);
  kernels::Rows rows = rows_of(cache, layer, half, {range.first + sample.first, 1}, scratch);
  int64_t* offsets = scratch.need_offsets(count);
  for (uint32_t i = 0; i < count; ++i) {
    cache.token_offsets(layer, half, range.first + sample.first + i * sample.step, {offsets + i, 1});
  }
  rows.token_offset = offsets;
  rows.tokens = static_cast<int32_t>(count);
  return rows;
}

// Statistics as the encoder would take them if only the sinks, and what is not in the sample, were RAW; then the absmax
// of every transformed row of the sample.
void measure_chunk(Engine& engine, const Cache& cache, Measure& measure, int half, uint32_t index, Scratch& scratch) {
  const int32_t layer = measure.layer;
  const Transforms& transforms = measure.transforms[half];
  const CacheLayer& view = cache.layer(layer);
  const auto tokens = static_cast<uint64_t>(view.tokens);
  const ChunkRange range = chunk_range(tokens, transforms.chunk, index);
  const Sample sample = sample_of(measure.sampled[half], range);
  // Of rows that are far apart only those are looked at; sums are the same, see kStep.
  const bool apart = sample.step != 1;
  kernels::Rows rows =
      apart ? rows_apart(cache, layer, half, range, sample, scratch) : rows_of(cache, layer, half, range, scratch);
  const auto channels = static_cast<size_t>(view.kv_heads) * static_cast<size_t>(view.dim[half]);
  const auto heads = static_cast<size_t>(view.kv_heads);
  uint8_t assumed[tiers::kMaxChunk];
  for (uint32_t i = 0; i < static_cast<uint32_t>(rows.tokens); ++i) {
    const uint32_t t = apart ? sample.first + i * sample.step : i;
    if (apart) touch(rows, rows.token_offset[i]);
    const bool sink = view.first_position + range.first + t < measure.sinks;
    assumed[i] = sample.holds(t) && !sink ? uint8_t{2} : tiers::kRaw;
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
    scratch.bytes.resize(std::max(scratch.bytes.size(), 4 * channels));
    auto* stored = reinterpret_cast<uint16_t*>(scratch.bytes.data());
    const kernels::Verdict verdict =
        engine.kernels().vectors(vectors, counted, view.kv_heads, view.dim[half], floats, floats + channels,
                                 floats + 2 * channels, stored, stored + channels, mean, balance, recip);
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
  if (!apart) {
    rows.tokens = static_cast<int32_t>(sample.count(range));
    rows.token_offset += sample.first;
  }
  const kernels::Verdict verdict = engine.kernels().absmax(rows, transform, absmax);
  if (verdict.kind != kernels::Verdict::kOk) {
    fail(SKV_E_NON_FINITE, "layer %d %s token %u head %d: Inf or NaN", layer, half_name(half),
         range.first + static_cast<uint32_t>(verdict.token) * sample.step + sample.first, verdict.head);
  }
  note_chunk(view, half, transforms, index, sample, absmax, transform.recip == nullptr ? nullptr : balance,
             measure.errors[half]);
}

// A half whose rows are in device memory.
void measure_half(Device& device, const Cache& cache, Measure& measure, int half) {
  const int32_t layer = measure.layer;
  const Transforms& transforms = measure.transforms[half];
  const bool sampled = measure.sampled[half];
  const CacheLayer& view = cache.layer(layer);
  const auto tokens = static_cast<uint64_t>(view.tokens);
  std::vector<uint8_t> assumed(static_cast<size_t>(view.tokens), uint8_t{2});
  for (uint32_t c = 0; c < chunks_of(tokens, transforms.chunk); ++c) {
    const ChunkRange range = chunk_range(tokens, transforms.chunk, c);
    const Sample sample = sample_of(sampled, range);
    for (uint32_t t = 0; t < range.tokens; ++t) {
      const bool sink = view.first_position + range.first + t < measure.sinks;
      if (sink || !sample.holds(t)) assumed[range.first + t] = tiers::kRaw;
    }
  }
  HalfMeasure got = measure_on_device(device, cache, layer, half, transforms.flags, transforms.chunk, assumed);
  if (got.failed_chunk >= 0) {
    const ChunkRange range = chunk_range(tokens, transforms.chunk, static_cast<uint32_t>(got.failed_chunk));
    fail(SKV_E_NON_FINITE, "layer %d %s, tokens %u..%u: Inf or NaN, or a mean too large for 16 bits", layer,
         half_name(half), range.first, range.first + range.tokens - 1);
  }
  const auto heads = static_cast<size_t>(view.kv_heads);
  const size_t channels = heads * static_cast<size_t>(view.dim[half]);
  for (uint32_t c = 0; c < chunks_of(tokens, transforms.chunk); ++c) {
    const ChunkRange range = chunk_range(tokens, transforms.chunk, c);
    const Sample sample = sample_of(sampled, range);
    float* absmax = got.absmax.data() + static_cast<size_t>(range.first) * heads;
    for (uint32_t i = 0; i < sample.count(range) && sampled; ++i) {  // those of the sample, one after the other
      std::copy_n(absmax + (i * sample.step + sample.first) * heads, heads, absmax + i * heads);
    }
    note_chunk(view, half, transforms, c, sample, absmax,
               got.balance.empty() ? nullptr : got.balance.data() + c * channels, measure.errors[half]);
  }
}

void size_errors(const CacheLayer& view, int half, const Transforms& transforms, HalfErrors& errors) {
  const auto heads = static_cast<size_t>(view.kv_heads);
  const size_t chunks = chunks_of(static_cast<uint64_t>(view.tokens), transforms.chunk);
  errors.rows.resize((errors.by_chunk ? chunks : static_cast<size_t>(view.tokens)) * heads);
  errors.mean2.resize(chunks * heads);
  errors.balance2.resize((transforms.flags & tiers::kBalance) != 0 && !errors.by_chunk
                             ? chunks * heads * static_cast<size_t>(view.dim[half])
                             : 0);
}

}  // namespace

void measure(Engine& engine, const Cache& cache, std::span<Measure> layers) {
  struct Chunk {
    Measure* measure;
    int half;
    uint32_t index;
  };
  std::vector<Chunk> chunks;
  for (Measure& layer : layers) {
    const CacheLayer& view = cache.layer(layer.layer);
    for (int half = 0; half < (view.has(SKV_V) ? 2 : 1); ++half) {
      const Transforms& transforms = layer.transforms[half];
      layer.errors[half].by_chunk = layer.sampled[half];
      size_errors(view, half, transforms, layer.errors[half]);
      if (engine.device() != nullptr) {
        measure_half(*engine.device(), cache, layer, half);
        continue;
      }
      const uint32_t count = chunks_of(static_cast<uint64_t>(view.tokens), transforms.chunk);
      for (uint32_t c = 0; c < count; ++c) chunks.push_back({&layer, half, c});
    }
  }
  engine.run(chunks.size(), [&](size_t unit, Scratch& scratch) {
    const Chunk& chunk = chunks[unit];
    measure_chunk(engine, cache, *chunk.measure, chunk.half, chunk.index, scratch);
  });
}

RowValues row_errors(const CacheLayer& view, const Transforms& transforms, const HalfErrors& errors) {
  const auto heads = static_cast<size_t>(view.kv_heads);
  const auto tokens = static_cast<size_t>(view.tokens);
  const auto error = [&](size_t row, size_t chunk) {
    float sum = 0;
    for (size_t h = 0; h < heads; ++h) sum += errors.rows[row * heads + h] * errors.mean2[chunk * heads + h];
    return sum / static_cast<float>(heads);
  };
  if (errors.by_chunk) {
    std::vector<float> of_chunk(errors.mean2.size() / heads);
    for (size_t c = 0; c < of_chunk.size(); ++c) of_chunk[c] = error(c, c);
    return {tokens, std::move(of_chunk), transforms.chunk, nullptr};
  }
  std::vector<float> out(tokens);
  for (size_t t = 0; t < tokens; ++t) out[t] = error(t, t / transforms.chunk);
  return RowValues(std::move(out));
}

}  // namespace skv
