// SPDX-License-Identifier: Apache-2.0
#include "score.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>

#include "error.h"
#include "kernels/tiers.h"
#include "rows.h"

namespace skv {
namespace {

// Prior of a future query's attention on a token `age` tokens before the end: 1 / (age + 32) (codec evidence).
constexpr float kPriorOffset = 32.0F;
// Without queries: cost of a relative error in K over the same in V. At 4 bits K alone costs 3 to 7 times the KL of V.
constexpr float kKeyOverValue = 4.0F;
// The next queries are not the last ones: as much cost again is spread over all tokens by the prior. SmolLM2-135M, KL
// at 0.28 / 0.50 of raw for a share of 0, 0.1, 0.3, 1, 3: 0.0026 / 3e-4, 0.0021 / 1e-5, 0.0017 / 1e-5, 0.0014 / 1e-5,
// 0.0016 / 1e-5.
constexpr double kPriorShare = 1.0;
// Query rows handled together: keeps the logits of a block in L2.
constexpr int32_t kQueryBlock = 16;

const char* half_name(int half) { return half == SKV_K ? "K" : "V"; }

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

uint64_t now_ns() {
  return static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
          .count());
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
  const float n = transform.hadamard == 0 ? 1.0F : static_cast<float>(transform.hadamard);
  const float unit = 1.0F / (127.0F * 127.0F * 12.0F * n);
  for (size_t i = 0; i < range.tokens * heads; ++i) {
    errors.rows[static_cast<size_t>(range.first) * heads + i] = absmax[i] * absmax[i] * unit;
  }
  for (size_t h = 0; h < heads; ++h) {
    float sum = 0;
    const auto dim = static_cast<size_t>(view.dim[half]);
    for (size_t c = 0; c < dim && transform.recip != nullptr; ++c) {
      const float b = balance[h * dim + c];
      errors.balance2[index * channels + h * dim + c] = b * b;
      sum += b * b;
    }
    errors.mean2[index * heads + h] = transform.recip == nullptr ? 1.0F : sum / static_cast<float>(dim);
  }
}

void size_errors(const CacheLayer& view, int half, const Transforms& transforms, HalfErrors& errors) {
  const auto heads = static_cast<size_t>(view.kv_heads);
  const size_t chunks = chunks_of(static_cast<uint64_t>(view.tokens), transforms.chunk);
  errors.rows.resize(static_cast<size_t>(view.tokens) * heads);
  errors.mean2.resize(chunks * heads);
  errors.balance2.resize(
      (transforms.flags & tiers::kBalance) != 0 ? chunks * heads * static_cast<size_t>(view.dim[half]) : 0);
}

// Measures both halves of a layer.
void measure_layer(Engine& engine, const Cache& cache, int32_t layer, const Transforms transforms[2], int32_t sinks,
                   HalfErrors errors[2]) {
  const CacheLayer& view = cache.layer(layer);
  const uint32_t chunks = chunks_of(static_cast<uint64_t>(view.tokens), transforms[0].chunk);
  const int halves = view.has(SKV_V) ? 2 : 1;
  for (int half = 0; half < halves; ++half) size_errors(view, half, transforms[half], errors[half]);
  engine.run(static_cast<size_t>(chunks) * static_cast<size_t>(halves), [&](size_t unit, Scratch& scratch) {
    const int half = static_cast<int>(unit / chunks);
    measure_chunk(engine, cache, layer, half, transforms[half], sinks, static_cast<uint32_t>(unit % chunks),
                  errors[half], scratch);
  });
}

// Mean squared error per element of every row at 8 bits.
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

float average(std::span<const float> values) {
  double sum = 0;
  for (const float value : values) sum += value;
  return static_cast<float>(sum / static_cast<double>(values.size()));
}

// Without queries: the recency prior over the layer's average error, so that every layer starts equal.
void weigh_by_prior(const CacheLayer& view, int half, std::span<const float> errors, std::vector<float>& weights) {
  const float mean = average(errors);
  const float scale = mean > 0 ? (half == SKV_K ? kKeyOverValue : 1.0F) / mean : 0.0F;
  const auto tokens = static_cast<size_t>(view.tokens);
  weights.resize(tokens);
  for (size_t t = 0; t < tokens; ++t) weights[t] = scale / (static_cast<float>(tokens - 1 - t) + kPriorOffset);
}

// ---------------------------------------------------------------------------------------- with queries

// Squared norms of the rows of one head.
void row_norms(const kernels::Rows& rows, int32_t head, float* out) {
  for (int32_t t = 0; t < rows.tokens; ++t) {
    const std::byte* row = rows.base + rows.token_offset[t] + head * rows.stride_head;
    float sum = 0;
    for (int32_t c = 0; c < rows.dim; ++c) {
      const float x = tiers::load_element(row + c * rows.stride_elem, rows.dtype);
      sum += x * x;
    }
    out[t] = sum;
  }
}

struct HeadCosts {
  std::vector<float> half[2];  // [tokens]
  double output = 0;           // sum over queries of |o|^2
};

void check_queries(const QueryView& q, const CacheLayer& view, int32_t layer) {
  if (q.heads % view.kv_heads != 0) {
    fail(SKV_E_GEOMETRY, "layer %d queries: %d heads are no multiple of %d kv-heads", layer, q.heads, view.kv_heads);
  }
  if (q.count > view.tokens) {
    fail(SKV_E_GEOMETRY, "layer %d queries: %d queries for %lld tokens", layer, q.count,
         static_cast<long long>(view.tokens));
  }
  // base[0 .. end) is what the strides reach; every product and sum may overflow on nonsense strides.
  uint64_t end = static_cast<uint64_t>(tiers::element_bytes(q.dtype));
  bool overflow = false;
  const auto reach = [&](int32_t count, int64_t stride) {
    uint64_t span = 0;
    overflow |= __builtin_mul_overflow(static_cast<uint64_t>(count - 1), static_cast<uint64_t>(stride), &span);
    overflow |= __builtin_add_overflow(end, span, &end);
  };
  reach(q.count, q.stride_query);
  reach(q.heads, q.stride_head);
  reach(view.dim[0], q.stride_elem);
  if (overflow || end > q.bytes) {
    fail(SKV_E_STRIDE, "layer %d queries: strides reach byte %llu of %zu", layer,
         static_cast<unsigned long long>(overflow ? UINT64_MAX : end), q.bytes);
  }
}

// Costs of one kv-head (arXiv 2606.08635 has none of this; see docs/architecture.md, "Scores"): with A the attention of
// query i on token j and o_i its output, an error e_V adds A^2 |e_V|^2 to |o|^2, an error e_K adds
// A^2 |v_j - o_i|^2 (scale q_i . e_K)^2.
void attend(Engine& engine, const Cache& cache, int32_t layer, int32_t head, const QueryView& queries,
            const Transforms transforms[2], const HalfErrors errors[2], HeadCosts& costs, Scratch& scratch) {
  const CacheLayer& view = cache.layer(layer);
  const kernels::Kernels& k = engine.kernels();
  const auto tokens = static_cast<size_t>(view.tokens);
  const auto heads = static_cast<size_t>(view.kv_heads);
  const auto dim = static_cast<size_t>(view.dim[0]);
  const auto v_dim = static_cast<size_t>(view.dim[1]);
  const int32_t group = queries.heads / view.kv_heads;
  const int32_t total = queries.count * group;
  const float scale = queries.scale != 0 ? queries.scale : 1.0F / std::sqrt(static_cast<float>(dim));
  const uint32_t chunk = transforms[0].chunk;
  const uint32_t chunks = chunks_of(tokens, chunk);
  const bool balanced = !errors[0].balance2.empty();

  costs.half[0].assign(tokens, 0.0F);
  costs.half[1].assign(v_dim == 0 ? 0 : tokens, 0.0F);
  std::vector<float> norms(v_dim == 0 ? 0 : tokens);
  for (uint32_t c = 0; c < chunks && v_dim != 0; ++c) {
    const ChunkRange range = chunk_range(tokens, chunk, c);
    row_norms(rows_of(cache, layer, SKV_V, range, scratch), head, norms.data() + range.first);
  }

  std::vector<float> q(kQueryBlock * dim);
  std::vector<float> q2(kQueryBlock * dim);
  std::vector<float> attention(kQueryBlock * tokens);
  std::vector<float> products(v_dim == 0 ? 0 : kQueryBlock * tokens);
  std::vector<float> part(static_cast<size_t>(kQueryBlock) * tiers::kMaxChunk);
  std::vector<float> outputs(kQueryBlock * v_dim);
  const auto spread = [&](std::vector<float>& to, const ChunkRange& range, int32_t rows) {
    for (int32_t i = 0; i < rows; ++i) {
      std::memcpy(to.data() + static_cast<size_t>(i) * tokens + range.first,
                  part.data() + static_cast<size_t>(i) * range.tokens, range.tokens * sizeof(float));
    }
  };

  for (int32_t begin = 0; begin < total; begin += kQueryBlock) {
    const int32_t rows = std::min(kQueryBlock, total - begin);
    for (int32_t i = 0; i < rows; ++i) {
      const int32_t query = (begin + i) / group;
      const int32_t q_head = head * group + (begin + i) % group;
      const std::byte* from = queries.base + query * queries.stride_query + q_head * queries.stride_head;
      for (size_t c = 0; c < dim; ++c) {
        const float x = tiers::load_element(from + static_cast<int64_t>(c) * queries.stride_elem, queries.dtype);
        if (!tiers::is_finite(x)) {
          fail(SKV_E_NON_FINITE, "layer %d query %d head %d channel %zu: Inf or NaN", layer, query, q_head, c);
        }
        q[static_cast<size_t>(i) * dim + c] = x;
        q2[static_cast<size_t>(i) * dim + c] = x * x;
      }
    }
    for (uint32_t c = 0; c < chunks; ++c) {
      const ChunkRange range = chunk_range(tokens, chunk, c);
      k.dots(rows_of(cache, layer, SKV_K, range, scratch), head, q.data(), rows, part.data());
      spread(attention, range, rows);
    }
    for (int32_t i = 0; i < rows; ++i) {
      const int32_t query = (begin + i) / group;
      float* a = attention.data() + static_cast<size_t>(i) * tokens;
      // Causal: query i of the last `count` tokens sees itself and what came before, inside its window.
      const size_t last = tokens - static_cast<size_t>(queries.count) + static_cast<size_t>(query);
      const size_t first = queries.window > 0 && last + 1 > static_cast<size_t>(queries.window)
                               ? last + 1 - static_cast<size_t>(queries.window)
                               : 0;
      const float top = *std::max_element(a + first, a + last + 1);
      std::fill(a, a + first, 0.0F);
      std::fill(a + last + 1, a + tokens, 0.0F);
      k.exps(a + first, last + 1 - first, scale, top * scale);
      double sum = 0;
      for (size_t t = first; t <= last; ++t) sum += a[t];
      const float inverse = static_cast<float>(1.0 / sum);
      for (size_t t = first; t <= last; ++t) a[t] *= inverse;
    }
    std::fill(outputs.begin(), outputs.end(), 0.0F);
    for (uint32_t c = 0; c < chunks && v_dim != 0; ++c) {
      const ChunkRange range = chunk_range(tokens, chunk, c);
      k.accumulate(rows_of(cache, layer, SKV_V, range, scratch), head, attention.data() + range.first,
                   static_cast<int64_t>(tokens), rows, outputs.data());
    }
    for (uint32_t c = 0; c < chunks && v_dim != 0; ++c) {
      const ChunkRange range = chunk_range(tokens, chunk, c);
      k.dots(rows_of(cache, layer, SKV_V, range, scratch), head, outputs.data(), rows, part.data());
      spread(products, range, rows);
    }
    for (int32_t i = 0; i < rows; ++i) {
      const float* a = attention.data() + static_cast<size_t>(i) * tokens;
      const float* vo = v_dim == 0 ? nullptr : products.data() + static_cast<size_t>(i) * tokens;
      float oo = 0;
      for (size_t c = 0; c < v_dim; ++c)
        oo += outputs[static_cast<size_t>(i) * v_dim + c] * outputs[static_cast<size_t>(i) * v_dim + c];
      costs.output += oo;
      for (uint32_t c = 0; c < chunks; ++c) {
        const ChunkRange range = chunk_range(tokens, chunk, c);
        // |q|^2 as the balanced error sees it.
        float qb = 0;
        const float* squares = q2.data() + static_cast<size_t>(i) * dim;
        const float* b2 =
            balanced ? errors[0].balance2.data() + (c * heads + static_cast<size_t>(head)) * dim : nullptr;
        for (size_t e = 0; e < dim; ++e) qb += balanced ? squares[e] * b2[e] : squares[e];
        qb *= scale * scale;
        for (size_t t = range.first; t < range.first + range.tokens; ++t) {
          const float a2 = a[t] * a[t];
          // A latent layer's values are its keys' own rows: without V take a spread of 1.
          const float distance = vo == nullptr ? 1.0F : std::max(0.0F, norms[t] - 2.0F * vo[t] + oo);
          costs.half[0][t] += a2 * distance * qb;
          if (v_dim != 0) costs.half[1][t] += a2;
        }
      }
    }
  }
  for (size_t t = 0; t < tokens; ++t) {
    costs.half[0][t] *= errors[0].rows[t * heads + static_cast<size_t>(head)];
    if (v_dim != 0) {
      const size_t at = (t / chunk) * heads + static_cast<size_t>(head);
      costs.half[1][t] *=
          errors[1].rows[t * heads + static_cast<size_t>(head)] * errors[1].mean2[at] * static_cast<float>(v_dim);
    }
  }
}

void weigh_by_queries(Engine& engine, const Cache& cache, int32_t layer, const QueryView& queries,
                      const Transforms transforms[2], const HalfErrors errors[2], const std::vector<float> row_error[2],
                      std::vector<float> weights[2]) {
  const CacheLayer& view = cache.layer(layer);
  const auto tokens = static_cast<size_t>(view.tokens);
  std::vector<HeadCosts> heads(static_cast<size_t>(view.kv_heads));
  engine.run(heads.size(), [&](size_t head, Scratch& scratch) {
    attend(engine, cache, layer, static_cast<int32_t>(head), queries, transforms, errors, heads[head], scratch);
  });
  // Relative to the layer's own output: a residual stream sees layers of very different loudness.
  double output = 0;
  for (const HeadCosts& head : heads) output += head.output;
  const float scale = output > 0 ? static_cast<float>(1.0 / output) : 1.0F;
  for (int half = 0; half < (view.has(SKV_V) ? 2 : 1); ++half) {
    weights[half].assign(tokens, 0.0F);
    std::vector<float> prior;
    weigh_by_prior(view, half, row_error[half], prior);
    std::vector<float> costs(tokens, 0.0F);
    double by_queries = 0;
    double by_prior = 0;
    for (size_t t = 0; t < tokens; ++t) {
      for (const HeadCosts& head : heads) costs[t] += head.half[half][t];
      by_queries += costs[t];
      by_prior += prior[t] * row_error[half][t];
    }
    const float mix = by_prior > 0 ? static_cast<float>(kPriorShare * by_queries / by_prior) : 0.0F;
    for (size_t t = 0; t < tokens; ++t) {
      if (row_error[half][t] > 0) weights[half][t] = (costs[t] / row_error[half][t] + mix * prior[t]) * scale;
    }
  }
}

// Transforms the scores are taken with; plans with other ones measure again.
void default_set(const CacheLayer& view, Transforms out[2]) {
  for (int half = 0; half < 2; ++half) {
    out[half] = {default_transforms(half, static_cast<uint32_t>(view.dim[half])), tiers::kMaxChunk};
  }
}

constexpr int32_t kDefaultSinks = 4;

}  // namespace

// ------------------------------------------------------------------------------------------------ Scores

void Scores::set_weights(int32_t layer, int32_t half, std::span<const float> weights) {
  if (half != SKV_K && half != SKV_V) fail(SKV_E_RANGE, "half %d: wanted SKV_K (0) or SKV_V (1)", half);
  if (layer < SKV_ALL || layer >= 4096) fail(SKV_E_RANGE, "layer %d: wanted SKV_ALL or 0..4095", layer);
  for (size_t t = 0; t < weights.size(); ++t) {
    if (!tiers::is_finite(weights[t]) || weights[t] < 0) {
      fail(SKV_E_NON_FINITE, "weight of token %zu is %g: wanted finite and >= 0", t, static_cast<double>(weights[t]));
    }
  }
  if (layer >= 0 && layers_.size() <= static_cast<size_t>(layer)) layers_.resize(static_cast<size_t>(layer) + 1);
  Layer& target = layer < 0 ? every_ : layers_[static_cast<size_t>(layer)];
  target.given[half].assign(weights.begin(), weights.end());
  scored_ = 0;
}

void Scores::set_queries(int32_t layer, const QueryView& q) {
  if (layer < 0 || layer >= 4096) fail(SKV_E_RANGE, "layer %d: wanted 0..4095", layer);
  if (q.base == nullptr) fail(SKV_E_NULL, "layer %d queries: base is NULL", layer);
  if (q.dtype < SKV_F16 || q.dtype > SKV_F32)
    fail(SKV_E_DTYPE, "layer %d queries: dtype %d, wanted SKV_F16, SKV_BF16 or SKV_F32", layer, q.dtype);
  if (q.count < 1 || q.count > 4096) fail(SKV_E_RANGE, "layer %d: %d queries, wanted 1..4096", layer, q.count);
  if (q.heads < 1 || q.heads > 65536) fail(SKV_E_RANGE, "layer %d queries: %d heads, wanted 1..65536", layer, q.heads);
  if (q.stride_query < 0 || q.stride_head < 0 || q.stride_elem < 0)
    fail(SKV_E_STRIDE, "layer %d queries: negative stride", layer);
  if (!(q.scale >= 0) || !tiers::is_finite(q.scale))
    fail(SKV_E_RANGE, "layer %d queries: scale %g, wanted finite and >= 0", layer, static_cast<double>(q.scale));
  if (q.window < 0) fail(SKV_E_RANGE, "layer %d queries: window %d, wanted >= 0", layer, q.window);
  if (layers_.size() <= static_cast<size_t>(layer)) layers_.resize(static_cast<size_t>(layer) + 1);
  layers_[static_cast<size_t>(layer)].queries = q;
  scored_ = 0;
}

std::span<const float> Scores::weights(int32_t layer, int half) const {
  if (scored_ == 0) fail(SKV_E_STATE, "not scored yet: call skv_score first");
  if (layer < 0 || static_cast<size_t>(layer) >= layers_.size()) {
    fail(SKV_E_RANGE, "layer %d: %zu layers were scored", layer, layers_.size());
  }
  return layers_[static_cast<size_t>(layer)].weights[half];
}

void score(Engine& engine, const Cache& cache, Scores& scores) {
  const uint64_t start = now_ns();
  cache.check();
  const auto layers = static_cast<size_t>(cache.layer_count());
  if (scores.layers_.size() > layers) {
    fail(SKV_E_GEOMETRY, "scores were given for layer %zu: the cache has %zu layers", scores.layers_.size() - 1,
         layers);
  }
  scores.layers_.resize(layers);
  int32_t scored = SKV_SCORED_CALLER;
  HalfErrors errors[2];
  for (size_t l = 0; l < layers; ++l) {
    const auto index = static_cast<int32_t>(l);
    const CacheLayer& view = cache.layer(index);
    Scores::Layer& layer = scores.layers_[l];
    Transforms transforms[2];
    default_set(view, transforms);
    measure_layer(engine, cache, index, transforms, kDefaultSinks, errors);
    const int halves = view.has(SKV_V) ? 2 : 1;
    for (int half = 0; half < halves; ++half) layer.errors[half] = row_errors(view, transforms[half], errors[half]);
    if (layer.queries) {
      check_queries(*layer.queries, view, index);
      weigh_by_queries(engine, cache, index, *layer.queries, transforms, errors, layer.errors, layer.weights);
    }
    for (int half = 0; half < halves; ++half) {
      const std::vector<float>& given = layer.given[half].empty() ? scores.every_.given[half] : layer.given[half];
      if (!given.empty()) {
        if (given.size() != static_cast<size_t>(view.tokens)) {
          fail(SKV_E_GEOMETRY, "layer %zu %s: got %zu weights for %lld tokens", l, half_name(half), given.size(),
               static_cast<long long>(view.tokens));
        }
        layer.weights[half] = given;
      } else if (layer.queries) {
        scored = std::min(scored, SKV_SCORED_QUERIES);
      } else {
        weigh_by_prior(view, half, layer.errors[half], layer.weights[half]);
        scored = SKV_SCORED_KV;
      }
    }
  }
  scores.scored_ = scored;
  scores.score_ns_ = now_ns() - start;
}

std::vector<LayerCosts> row_costs(Engine& engine, const Cache& cache, const Plan& plan, const Scores& scores) {
  if (scores.scored_ == 0) fail(SKV_E_STATE, "scores were not computed: call skv_score first");
  if (scores.layers_.size() != plan.layers().size()) {
    fail(SKV_E_LAYOUT, "scores of %zu layers for a cache of %zu", scores.layers_.size(), plan.layers().size());
  }
  std::vector<LayerCosts> costs(plan.layers().size());
  HalfErrors measured[2];
  for (size_t l = 0; l < costs.size(); ++l) {
    const auto index = static_cast<int32_t>(l);
    const CacheLayer& view = cache.layer(index);
    const SegmentShape& shape = plan.layers()[l].shape;
    const Scores::Layer& layer = scores.layers_[l];
    Transforms usual[2];
    default_set(view, usual);
    const bool same = shape.chunk == tiers::kMaxChunk && plan.options.sinks == kDefaultSinks &&
                      shape.transforms[0] == usual[0].flags && shape.transforms[1] == usual[1].flags;
    Transforms transforms[2] = {{shape.transforms[0], shape.chunk}, {shape.transforms[1], shape.chunk}};
    if (!same) measure_layer(engine, cache, index, transforms, plan.options.sinks, measured);
    for (int half = 0; half < (view.has(SKV_V) ? 2 : 1); ++half) {
      if (layer.weights[half].size() != static_cast<size_t>(view.tokens)) {
        fail(SKV_E_LAYOUT, "layer %zu %s: scores of %zu tokens for a cache of %lld", l, half_name(half),
             layer.weights[half].size(), static_cast<long long>(view.tokens));
      }
      std::vector<float>& out = costs[l].half[half];
      out = same ? layer.errors[half] : row_errors(view, transforms[half], measured[half]);
      for (size_t t = 0; t < out.size(); ++t) {
        out[t] *= layer.weights[half][t];
        if (!tiers::is_finite(out[t])) out[t] = 3.4e38F;  // caller weights near FLT_MAX: most important there is
      }
    }
  }
  return costs;
}

}  // namespace skv
