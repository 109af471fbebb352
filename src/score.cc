// SPDX-License-Identifier: Apache-2.0
#include "score.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <memory>
#include <utility>

#include "attention.h"
#include "codec_cuda.h"
#include "error.h"
#include "host_view.h"
#include "kernels/tiers.h"
#include "row_errors.h"
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
// With a calibrated profile less of it is best: the layers' multipliers do the rest. SmolLM2-135M, 4 windows, KL at
// 0.24 / 0.28 for a share of 0.03, 0.1, 0.3, 1, 3: 0.0028 / 0.00034, 0.0025 / 0.00039, 0.0030 / 0.00049, 0.0034 /
// 0.00064, 0.0040 / 0.0010.
constexpr double kCalibratedPriorShare = 0.1;

// What caller weights near FLT_MAX come to: the most important there is.
constexpr float kMostCost = 3.4e38F;

const char* half_name(int half) { return half == SKV_K ? "K" : "V"; }

float average(const RowValues& values) {
  if (values.by_chunk() && values.curve() == nullptr) {
    double sum = 0;
    for (size_t c = 0; c < values.factors().size(); ++c) {
      const size_t rows = std::min(values.chunk(), values.size() - c * values.chunk());
      sum += static_cast<double>(values.factors()[c]) * static_cast<double>(rows);
    }
    return static_cast<float>(sum / static_cast<double>(values.size()));
  }
  float buffer[RowValues::kBlock];
  double sums[8] = {};  // as many additions in flight
  for (size_t first = 0; first < values.size(); first += RowValues::kBlock) {
    const size_t count = std::min(RowValues::kBlock, values.size() - first);
    const float* block = values.read(first, count, buffer);
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
      for (size_t k = 0; k < 8; ++k) sums[k] += static_cast<double>(block[i + k]);
    }
    for (; i < count; ++i) sums[0] += static_cast<double>(block[i]);
  }
  double sum = 0;
  for (const double part : sums) sum += part;
  return static_cast<float>(sum / static_cast<double>(values.size()));
}

// The recency prior of every token, which layers mostly share.
struct Prior {
  Curve curve;
  double sum = 0;

  explicit Prior(size_t tokens) {
    auto of = std::make_shared<std::vector<float>>(tokens);
    for (size_t t = 0; t < tokens; ++t) {
      (*of)[t] = 1.0F / (static_cast<float>(tokens - 1 - t) + kPriorOffset);
      sum += static_cast<double>((*of)[t]);
    }
    curve = std::move(of);
  }
  size_t tokens() const { return curve->size(); }
  float operator[](size_t t) const { return (*curve)[t]; }
  RowValues times(float factor) const { return {tokens(), {factor}, tokens(), curve}; }
  // So that every layer starts equal, relative to the layer's average error.
  static float scale(int half, const RowValues& errors) {
    const float mean = average(errors);
    return mean > 0 ? (half == SKV_K ? kKeyOverValue : 1.0F) / mean : 0.0F;
  }
};

// Priors made so far, one for each number of tokens.
class Priors {
 public:
  const Prior& of(size_t tokens) {
    const auto found = std::find_if(made_.begin(), made_.end(), [&](const Prior& p) { return p.tokens() == tokens; });
    return found != made_.end() ? *found : made_.emplace_back(tokens);
  }

 private:
  std::deque<Prior> made_;
};

// Queries kept for the logit probe, spread over those given: more move its figures by less than their spread over
// texts.
constexpr int32_t kSampledQueries = 16;

QuerySample sample_of(const QueryView& queries, int32_t dim) {
  QuerySample sample;
  sample.taken = std::min(kSampledQueries, queries.count);
  sample.count = queries.count;
  sample.heads = queries.heads;
  const float scale = queries.scale != 0 ? queries.scale : 1.0F / std::sqrt(static_cast<float>(dim));
  sample.values.reserve(static_cast<size_t>(sample.taken) * static_cast<size_t>(queries.heads) *
                        static_cast<size_t>(dim));
  for (int32_t i = 0; i < sample.taken; ++i) {
    const int64_t query = queries.count - 1 - int64_t{i} * queries.count / sample.taken;
    for (int32_t head = 0; head < queries.heads; ++head) {
      const std::byte* from = queries.base + query * queries.stride_query + head * queries.stride_head;
      for (int32_t c = 0; c < dim; ++c) {
        sample.values.push_back(scale * tiers::load_element(from + c * queries.stride_elem, queries.dtype));
      }
    }
  }
  return sample;
}

// So that the last ones to end keep few threads waiting.
constexpr size_t kUnitsPerThread = 4;

// A layer with queries, and what its rows' errors are.
struct Asked {
  const Measure* measure = nullptr;
  std::optional<HostView> host;  // attention is the host's
  std::vector<HeadCosts> heads;  // out
};

// Costs of every head of every layer: one head a unit, and a layer may have one alone.
void attend_all(Engine& engine, std::span<Asked> layers) {
  std::vector<std::pair<Asked*, int32_t>> units;
  for (Asked& asked : layers) {
    asked.heads.resize(static_cast<size_t>(asked.host->cache().layer(asked.measure->layer).kv_heads));
    for (size_t head = 0; head < asked.heads.size(); ++head) units.emplace_back(&asked, static_cast<int32_t>(head));
  }
  engine.run(units.size(), [&](size_t unit, Scratch& scratch) {
    const auto& [asked, head] = units[unit];
    const Measure& measured = *asked->measure;
    attend(engine, asked->host->cache(), measured.layer, head, *asked->host->queries(), measured.transforms,
           measured.errors, asked->heads[static_cast<size_t>(head)], scratch);
  });
}

// What the queries alone say: weights[half] such that weight x error is the cost, and the attention mass of every
// token.
void weigh_by_queries(const Asked& asked, const RowValues row_errors[2], std::vector<float> weights[2],
                      std::vector<float>& mass) {
  const CacheLayer& view = asked.host->cache().layer(asked.measure->layer);
  const QueryView& queries = *asked.host->queries();
  const auto tokens = static_cast<size_t>(view.tokens);
  // Relative to the layer's own output: a residual stream sees layers of very different loudness.
  double output = 0;
  for (const HeadCosts& head : asked.heads) output += head.output;
  const float scale = output > 0 ? static_cast<float>(1.0 / output) : 1.0F;
  for (int half = 0; half < (view.has(SKV_V) ? 2 : 1); ++half) {
    weights[half].assign(tokens, 0.0F);
    const std::vector<float> row_error = row_errors[half].list();
    for (size_t t = 0; t < tokens; ++t) {
      float cost = 0;
      for (const HeadCosts& head : asked.heads) cost += head.half[half][t];
      if (row_error[t] > 0) weights[half][t] = cost / row_error[t] * scale;
    }
  }
  const float per_query = 1.0F / (static_cast<float>(queries.count) * static_cast<float>(queries.heads));
  mass.assign(tokens, 0.0F);
  for (const HeadCosts& head : asked.heads) {
    for (size_t t = 0; t < tokens; ++t) mass[t] += head.mass[t] * per_query;
  }
}

// What the queries say, and the prior's share of the cost.
std::vector<float> with_prior(const Prior& prior, int half, const RowValues& row_errors,
                              std::span<const float> by_queries) {
  const float scale = Prior::scale(half, row_errors);
  const std::vector<float> errors = row_errors.list();
  double queries_cost = 0;
  double prior_cost = 0;
  for (size_t t = 0; t < errors.size(); ++t) {
    queries_cost += static_cast<double>(by_queries[t] * errors[t]);
    prior_cost += static_cast<double>(scale * prior[t] * errors[t]);
  }
  const float mix = prior_cost > 0 ? static_cast<float>(kPriorShare * queries_cost / prior_cost) : 0.0F;
  std::vector<float> weights(errors.size());
  for (size_t t = 0; t < errors.size(); ++t) {
    weights[t] = errors[t] > 0 ? by_queries[t] + mix * scale * prior[t] : 0.0F;
  }
  return weights;
}

// The weights a profile's multipliers belong to: what the queries say, with sum 1, and a share of the prior, with sum
// 1; without queries the prior alone.
RowValues calibrated_weights(const Prior& prior, std::span<const float> by_queries) {
  double queries_sum = 0;
  for (const float weight : by_queries) queries_sum += static_cast<double>(weight);
  if (queries_sum <= 0) return prior.times(static_cast<float>(1.0 / prior.sum));
  const auto share = static_cast<float>(kCalibratedPriorShare / prior.sum);
  const auto own = static_cast<float>(1.0 / queries_sum);
  std::vector<float> weights(prior.tokens());
  for (size_t t = 0; t < weights.size(); ++t) weights[t] = own * by_queries[t] + share * prior[t];
  return RowValues(std::move(weights));
}

// Transforms the scores are taken with; plans with other ones measure again.
void default_set(const CacheLayer& view, Transforms out[2]) {
  for (int half = 0; half < 2; ++half) {
    out[half] = {default_transforms(half, static_cast<uint32_t>(view.dim[half])), tiers::kMaxChunk};
  }
}

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

const RowValues& Scores::weights(int32_t layer, int half) const {
  if (scored_ == 0) fail(SKV_E_STATE, "not scored yet: call skv_score first");
  if (layer < 0 || static_cast<size_t>(layer) >= layers_.size()) {
    fail(SKV_E_RANGE, "layer %d: %zu layers were scored", layer, layers_.size());
  }
  return layers_[static_cast<size_t>(layer)].weights[half];
}

RowValues prior_weights(int half, const RowValues& errors) {
  return Prior(errors.size()).times(Prior::scale(half, errors));
}

RowValues costs_of(const RowValues& weights, const RowValues& errors, float multiplier) {
  // Weights of one curve for the whole half, errors of one factor for each chunk: so are the costs.
  if (weights.by_chunk() && weights.factors().size() == 1 && errors.by_chunk()) {
    std::vector<float> factors = errors.factors();
    for (float& factor : factors) factor = std::min(factor * (weights.factors()[0] * multiplier), kMostCost);
    return {errors.size(), std::move(factors), errors.chunk(), weights.curve()};
  }
  float buffers[2][RowValues::kBlock];
  std::vector<float> out(errors.size());
  for (size_t first = 0; first < out.size(); first += RowValues::kBlock) {
    const size_t count = std::min(RowValues::kBlock, out.size() - first);
    const float* error = errors.read(first, count, buffers[0]);
    const float* weight = weights.read(first, count, buffers[1]);
    for (size_t t = 0; t < count; ++t) {
      const float cost = error[t] * (weight[t] * multiplier);
      out[first + t] = cost < kMostCost ? cost : kMostCost;
    }
  }
  return RowValues(std::move(out));
}

std::vector<std::vector<float>> key_norms(Engine& engine, const Cache& cache) {
  std::vector<std::vector<float>> out(static_cast<size_t>(cache.layer_count()));
  const auto measure = [&](const Cache& from, size_t l, Scratch& scratch) {
    const CacheLayer& view = from.layer(static_cast<int32_t>(l));
    out[l].assign(static_cast<size_t>(view.tokens), 0.0F);
    const uint32_t chunks = chunks_of(static_cast<uint64_t>(view.tokens), tiers::kMaxChunk);
    for (uint32_t c = 0; c < chunks; ++c) {
      const ChunkRange range = chunk_range(static_cast<uint64_t>(view.tokens), tiers::kMaxChunk, c);
      const kernels::Rows rows = rows_of(from, static_cast<int32_t>(l), SKV_K, range, scratch);
      for (int32_t head = 0; head < view.kv_heads; ++head) {
        float squares[tiers::kMaxChunk];
        engine.kernels().norms(rows, head, squares);
        for (uint32_t t = 0; t < range.tokens; ++t) out[l][range.first + t] += std::sqrt(squares[t]);
      }
    }
  };
  if (engine.device() == nullptr) {
    engine.run(out.size(), [&](size_t l, Scratch& scratch) { measure(cache, l, scratch); });
    return out;
  }
  need_reach(*engine.device(), cache, 0, cache.layer_count());
  for (size_t l = 0; l < out.size(); ++l) {
    const HostView host(engine.device(), cache, static_cast<int32_t>(l), nullptr, 1);
    engine.run(1, [&](size_t, Scratch& scratch) { measure(host.cache(), l, scratch); });
  }
  return out;
}

void score(Engine& engine, const Cache& cache, Scores& scores) {
  const uint64_t start = now_ns();
  cache.check();
  if (engine.device() != nullptr) need_reach(*engine.device(), cache, 0, cache.layer_count());
  const auto layers = static_cast<size_t>(cache.layer_count());
  if (scores.layers_.size() > layers) {
    fail(SKV_E_GEOMETRY, "scores were given for layer %zu: the cache has %zu layers", scores.layers_.size() - 1,
         layers);
  }
  scores.layers_.resize(layers);
  // So many layers at once that their heads keep all threads busy, and no more, for what is kept of every row; where
  // one row stands for many, all. One with queries at a time where it is copied from a device.
  const size_t heads_wanted = engine.device() != nullptr ? 1 : kUnitsPerThread * static_cast<size_t>(engine.threads());
  std::vector<Measure> measures(layers);  // as many as are held; their memory serves again
  std::vector<Asked> asked(layers);
  for (size_t first = 0; first < layers;) {
    size_t held = 0;
    for (size_t heads = 0; first + held < layers && heads < heads_wanted; ++held) {
      const auto index = static_cast<int32_t>(first + held);
      const CacheLayer& view = cache.layer(index);
      Scores::Layer& layer = scores.layers_[first + held];
      if (layer.queries) check_queries(*layer.queries, view, index);
      layer.sinks = layer.queries ? kSinksAsked : kSinks;  // as plans take them unless told
      Measure& of = measures[held];
      of.layer = index;
      of.sinks = layer.sinks;
      default_set(view, of.transforms);
      for (int half = 0; half < 2; ++half) {
        // Weights of the caller, and those of queries, are of this very row.
        of.sampled[half] = !layer.queries && layer.given[half].empty() && scores.every_.given[half].empty();
        layer.sampled[half] = of.sampled[half];
      }
      if (!of.sampled[0] || !of.sampled[1]) heads += static_cast<size_t>(view.kv_heads);
    }
    const std::span<Measure> batch(measures.data(), held);
    measure(engine, cache, batch);
    size_t with_queries = 0;
    for (const Measure& of : batch) {
      const CacheLayer& view = cache.layer(of.layer);
      Scores::Layer& layer = scores.layers_[static_cast<size_t>(of.layer)];
      for (int half = 0; half < (view.has(SKV_V) ? 2 : 1); ++half) {
        layer.errors[half] = row_errors(view, of.transforms[half], of.errors[half]);
      }
      layer.sample = {};
      layer.mass.clear();
      for (std::vector<float>& none : layer.by_queries) none.clear();
      if (!layer.queries) continue;
      Asked& to = asked[with_queries++];
      to.measure = &of;
      to.host.emplace(engine.device(), cache, of.layer, &*layer.queries);
      layer.sample = sample_of(*to.host->queries(), view.dim[SKV_K]);
    }
    attend_all(engine, {asked.data(), with_queries});
    for (const Asked& of : std::span<Asked>(asked.data(), with_queries)) {
      Scores::Layer& layer = scores.layers_[static_cast<size_t>(of.measure->layer)];
      weigh_by_queries(of, layer.errors, layer.by_queries, layer.mass);
    }
    first += held;
  }

  int32_t scored = SKV_SCORED_CALLER;
  Priors priors;
  for (size_t l = 0; l < layers; ++l) {
    const CacheLayer& view = cache.layer(static_cast<int32_t>(l));
    Scores::Layer& layer = scores.layers_[l];
    const int halves = view.has(SKV_V) ? 2 : 1;
    const Prior& prior = priors.of(static_cast<size_t>(view.tokens));
    for (int half = 0; half < halves; ++half) {
      layer.caller[half] = false;
      const std::vector<float>& given = layer.given[half].empty() ? scores.every_.given[half] : layer.given[half];
      if (!given.empty()) {
        if (given.size() != static_cast<size_t>(view.tokens)) {
          fail(SKV_E_GEOMETRY, "layer %zu %s: got %zu weights for %lld tokens", l, half_name(half), given.size(),
               static_cast<long long>(view.tokens));
        }
        layer.weights[half] = RowValues(given);
        layer.caller[half] = true;
        layer.by_queries[half].clear();
      } else if (layer.queries) {
        layer.weights[half] = RowValues(with_prior(prior, half, layer.errors[half], layer.by_queries[half]));
        scored = std::min(scored, SKV_SCORED_QUERIES);
      } else {
        layer.weights[half] = prior.times(Prior::scale(half, layer.errors[half]));
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
  Measure measured;
  Priors priors;
  const int32_t sinks = plan.sinks(scores.scored_);
  for (size_t l = 0; l < costs.size(); ++l) {
    const auto index = static_cast<int32_t>(l);
    const CacheLayer& view = cache.layer(index);
    const SegmentShape& shape = plan.layers()[l].shape;
    const Scores::Layer& layer = scores.layers_[l];
    Transforms usual[2];
    default_set(view, usual);
    const bool same = shape.chunk == tiers::kMaxChunk && sinks == layer.sinks &&
                      shape.transforms[0] == usual[0].flags && shape.transforms[1] == usual[1].flags;
    if (!same) {
      measured.layer = index;
      measured.sinks = sinks;
      for (int half = 0; half < 2; ++half) {
        measured.transforms[half] = {shape.transforms[half], shape.chunk};
        measured.sampled[half] = layer.sampled[half];
      }
      measure(engine, cache, {&measured, 1});
    }
    for (int half = 0; half < (view.has(SKV_V) ? 2 : 1); ++half) {
      if (layer.weights[half].size() != static_cast<size_t>(view.tokens)) {
        fail(SKV_E_LAYOUT, "layer %zu %s: scores of %zu tokens for a cache of %lld", l, half_name(half),
             layer.weights[half].size(), static_cast<long long>(view.tokens));
      }
      const RowValues here = same ? RowValues() : row_errors(view, measured.transforms[half], measured.errors[half]);
      const RowValues& errors = same ? layer.errors[half] : here;
      if (plan.profile == nullptr || layer.caller[half]) {
        costs[l].half[half] = costs_of(layer.weights[half], errors);
        continue;
      }
      const double multiplier =
          plan.profile->multiplier(index, half, layer.by_queries[half].empty() ? SKV_SCORED_KV : SKV_SCORED_QUERIES);
      costs[l].half[half] = costs_of(calibrated_weights(priors.of(errors.size()), layer.by_queries[half]), errors,
                                     static_cast<float>(multiplier));
    }
  }
  return costs;
}

}  // namespace skv
