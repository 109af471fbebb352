// SPDX-License-Identifier: Apache-2.0
#include "attention.h"

#include <algorithm>
#include <cmath>

#include "error.h"
#include "kernels/tiers.h"
#include "rows.h"

namespace skv {
namespace {

// Query rows handled together: rows of the cache are read once for them, and their logits and products, two floats a
// token, should stay in L2.
constexpr int32_t kFewestRows = 16;
constexpr int32_t kMostRows = 64;
constexpr size_t kBlockBytes = size_t{1} << 20;

int32_t rows_of_block(size_t tokens) {
  const size_t fit = kBlockBytes / (2 * sizeof(float) * std::max<size_t>(tokens, 1));
  return static_cast<int32_t>(std::clamp<size_t>(fit, kFewestRows, kMostRows));
}

}  // namespace

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

  costs.output = 0;
  costs.mass.assign(tokens, 0.0F);
  costs.half[0].assign(tokens, 0.0F);
  costs.half[1].assign(v_dim == 0 ? 0 : tokens, 0.0F);
  std::vector<float> norms(v_dim == 0 ? 0 : tokens);
  for (uint32_t c = 0; c < chunks && v_dim != 0; ++c) {
    const ChunkRange range = chunk_range(tokens, chunk, c);
    k.norms(rows_of(cache, layer, SKV_V, range, scratch), head, norms.data() + range.first);
  }

  const int32_t block = std::min(rows_of_block(tokens), total);
  const auto block_size = static_cast<size_t>(block);
  const auto stride = static_cast<int64_t>(tokens);
  std::vector<float> q(block_size * dim);
  std::vector<float> q2(block_size * dim);
  std::vector<float> attention(block_size * tokens);
  std::vector<float> products(v_dim == 0 ? 0 : block_size * tokens);
  std::vector<float> outputs(block_size * v_dim);

  for (int32_t begin = 0; begin < total; begin += block) {
    const int32_t rows = std::min(block, total - begin);
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
      k.dots(rows_of(cache, layer, SKV_K, range, scratch), head, q.data(), rows, attention.data() + range.first,
             stride);
    }
    for (int32_t i = 0; i < rows; ++i) {
      const int32_t query = (begin + i) / group;
      float* a = attention.data() + static_cast<size_t>(i) * tokens;
      // Causal: query i of the last `count` tokens sees itself and what came before, inside its window.
      const size_t last = tokens - static_cast<size_t>(queries.count) + static_cast<size_t>(query);
      const size_t first = queries.window > 0 && last + 1 > static_cast<size_t>(queries.window)
                               ? last + 1 - static_cast<size_t>(queries.window)
                               : 0;
      std::fill(a, a + first, 0.0F);
      std::fill(a + last + 1, a + tokens, 0.0F);
      k.softmax(a + first, last + 1 - first, scale);
    }
    std::fill(outputs.begin(), outputs.end(), 0.0F);
    for (uint32_t c = 0; c < chunks && v_dim != 0; ++c) {
      const ChunkRange range = chunk_range(tokens, chunk, c);
      k.accumulate(rows_of(cache, layer, SKV_V, range, scratch), head, attention.data() + range.first, stride, rows,
                   outputs.data());
    }
    for (uint32_t c = 0; c < chunks && v_dim != 0; ++c) {
      const ChunkRange range = chunk_range(tokens, chunk, c);
      k.dots(rows_of(cache, layer, SKV_V, range, scratch), head, outputs.data(), rows, products.data() + range.first,
             stride);
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
        // A latent layer's values are its keys' own rows: without V take a spread of 1.
        const size_t at = range.first;
        k.charge(a + at, vo == nullptr ? nullptr : vo + at, vo == nullptr ? nullptr : norms.data() + at, range.tokens,
                 oo, qb, costs.mass.data() + at, costs.half[0].data() + at,
                 vo == nullptr ? nullptr : costs.half[1].data() + at);
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

}  // namespace skv
