// SPDX-License-Identifier: Apache-2.0
// How much an error in each row costs. Weights are per (layer, half, token): cost of a tier = weight x the row's mean
// squared error in that tier.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "cache.h"
#include "engine.h"
#include "plan.h"

namespace skv {

// The last queries of a layer, after RoPE; caller memory.
struct QueryView {
  const std::byte* base = nullptr;
  size_t bytes = 0;
  int32_t dtype = 0;
  int32_t count = 0;
  int32_t heads = 0;
  int64_t stride_query = 0;
  int64_t stride_head = 0;
  int64_t stride_elem = 0;
  float scale = 0;     // 0: 1/sqrt(k_dim)
  int32_t window = 0;  // 0: none
};

// Some of a layer's queries, the last one among them.
struct QuerySample {
  std::vector<float> values;  // [taken][heads][k_dim], the softmax scale included
  int32_t taken = 0;
  int32_t count = 0;  // how many queries the layer had
  int32_t heads = 0;
};

class Scores {
 public:
  void set_weights(int32_t layer, int32_t half, std::span<const float> weights);
  void set_queries(int32_t layer, const QueryView& queries);
  // Weights of one (layer, half). Throws STATE, RANGE.
  const RowValues& weights(int32_t layer, int half) const;
  int32_t scored() const { return scored_; }
  // A sample of a layer's queries, copied while scoring (the caller's memory is read by score() only); null without.
  const QuerySample* sample(int32_t layer) const {
    const auto l = static_cast<size_t>(layer);
    return l < layers_.size() && !layers_[l].sample.values.empty() ? &layers_[l].sample : nullptr;
  }
  // Mean attention of the queries on every token of a layer; empty without queries.
  std::span<const float> mass(int32_t layer) const {
    const auto l = static_cast<size_t>(layer);
    return l < layers_.size() ? std::span<const float>(layers_[l].mass) : std::span<const float>();
  }
  uint64_t score_ns() const { return score_ns_; }

 private:
  friend void score(Engine&, const Cache&, Scores&);
  friend std::vector<LayerCosts> row_costs(Engine&, const Cache&, const Plan&, const Scores&);

  struct Layer {
    std::vector<float> given[2];  // the caller's
    std::optional<QueryView> queries;
    RowValues weights[2];              // in force
    bool caller[2] = {false, false};   // in force are the caller's
    bool sampled[2] = {false, false};  // errors stand for their chunk's rows
    int32_t sinks = kSinks;            // taken as RAW when errors were measured
    std::vector<float> by_queries[2];  // what the queries alone say; empty without
    QuerySample sample;
    std::vector<float> mass;  // attention of the queries, their mean; empty without
    RowValues errors[2];      // mean squared error per element at 8 bits with the default transforms
  };
  std::vector<Layer> layers_;
  Layer every_;  // SKV_ALL
  int32_t scored_ = 0;
  uint64_t score_ns_ = 0;
};

// Weights of a half's tokens by the recency prior alone, over rows with these errors.
RowValues prior_weights(int half, const RowValues& errors);

// weight x error of every row, times a multiplier; at most 3.4e38, the most important there is.
RowValues costs_of(const RowValues& weights, const RowValues& errors, float multiplier = 1.0F);

// Norm of every token's key, summed over the heads; a vector a layer.
std::vector<std::vector<float>> key_norms(Engine& engine, const Cache& cache);

// Computes every weight that the caller did not give. Throws NON_FINITE, GEOMETRY.
void score(Engine& engine, const Cache& cache, Scores& scores);

// weight x error at 8 bits for every row, with the plan's transforms, chunks and profile. `scores` must have been
// scored for a cache of this shape (LAYOUT).
std::vector<LayerCosts> row_costs(Engine& engine, const Cache& cache, const Plan& plan, const Scores& scores);

}  // namespace skv
