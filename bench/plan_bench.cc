// SPDX-License-Identifier: Apache-2.0
// What choosing tiers costs: planning and query-free scoring beside encoding of the same cache, in turns in one run;
// and the multiply-adds of scoring by queries beside those of the prefill that made the cache.
//
//   bench/plan_bench [ROUNDS]              default: 9 rounds, 4096 tokens
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "codec.h"
#include "kernels/tiers.h"

namespace {

using Clock = std::chrono::steady_clock;
double seconds(Clock::time_point a, Clock::time_point b) { return std::chrono::duration<double>(b - a).count(); }

constexpr int32_t kTokens = 4096;
constexpr int32_t kQueries = 64;

struct Model {
  const char* name;
  int32_t layers, kv_heads, dim, q_heads;
  int32_t timed_layers;  // as many as memory and patience allow: every layer costs the same
  double weights;        // of the layers, each a multiply-add a token (embeddings and the last token's logits apart)
};
// Weights: attention and MLP matrices by the models' published shapes.
constexpr Model kModels[] = {
    // 30 x (576x(576 + 2x192) + 576x576 + 3x576x1536)
    {"smollm2-135m", 30, 3, 64, 9, 30, 30.0 * (576.0 * 960 + 576.0 * 576 + 3.0 * 576 * 1536)},
    // 18 x (640x(1024 + 2x256) + 1024x640 + 3x640x2048)
    {"gemma3-270m", 18, 1, 256, 4, 18, 18.0 * (640.0 * 1536 + 1024.0 * 640 + 3.0 * 640 * 2048)},
    // 28 x (3584x(3584 + 2x512) + 3584x3584 + 3x3584x18944)
    {"qwen2.5-7b", 28, 4, 128, 28, 14, 28.0 * (3584.0 * 4608 + 3584.0 * 3584 + 3.0 * 3584 * 18944)},
    // 32 x (4096x(4096 + 2x1024) + 4096x4096 + 3x4096x14336)
    {"llama3-8b", 32, 8, 128, 32, 8, 32.0 * (4096.0 * 6144 + 4096.0 * 4096 + 3.0 * 4096 * 14336)},
};

// A cache of f16 noise, token-major.
class Source {
 public:
  explicit Source(const Model& model) : cache_(model.timed_layers) {
    const int64_t row = int64_t{model.kv_heads} * model.dim * 2;
    bytes_.resize(static_cast<size_t>(row * kTokens * 2 * model.timed_layers));
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    std::vector<uint16_t> noise(1U << 20U);
    for (uint16_t& x : noise) x = skv::tiers::f32_to_f16(normal(random));
    for (size_t at = 0; at < bytes_.size(); at += noise.size() * 2) {
      std::memcpy(bytes_.data() + at, noise.data(), std::min(noise.size() * 2, bytes_.size() - at));
    }
    cache_.set_tokens(SKV_ALL, 0, kTokens);
    cache_.set_layer(SKV_ALL, model.kv_heads, model.dim, model.dim, SKV_F16);
    for (int32_t l = 0; l < model.timed_layers; ++l) {
      for (int half = 0; half < 2; ++half) {
        std::byte* base = bytes_.data() + static_cast<size_t>(2 * l + half) * static_cast<size_t>(row * kTokens);
        cache_.set_plane(l, half, base, static_cast<size_t>(row * kTokens), 0, row, int64_t{model.dim} * 2, 2);
      }
    }
  }
  const skv::Cache& cache() const { return cache_; }

 private:
  std::vector<std::byte> bytes_;
  skv::Cache cache_;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void time_model(const Model& model, int32_t threads, int rounds) {
  const Source source(model);
  skv::Engine engine(SKV_DEVICE_CPU);
  engine.set(SKV_ENGINE_THREADS, threads);
  std::vector<double> scoring;
  std::vector<double> planning;
  std::vector<double> both;
  for (int round = -1; round < rounds; ++round) {
    skv::Plan plan;
    plan.options.unproven = true;
    plan.set_fraction(0.28);
    const auto start = Clock::now();
    skv::solve(engine, plan, source.cache(), nullptr);
    const auto solved = Clock::now();
    const auto payload = skv::Payload::create(source.cache(), plan, {});
    std::memset(const_cast<std::byte*>(payload->bytes().data()) + skv::kHeaderBytes, 0,
                payload->bytes().size() - skv::kHeaderBytes);  // fresh pages are the allocator's cost, not encoding's
    const auto ready = Clock::now();
    skv::encode_layers(engine, source.cache(), plan, *payload, 0, model.timed_layers);
    const double encode = seconds(ready, Clock::now());
    if (round < 0) continue;  // warms up
    scoring.push_back(static_cast<double>(plan.score_ns) / 1e9 / encode);
    planning.push_back(static_cast<double>(plan.plan_ns) / 1e9 / encode);
    both.push_back(seconds(start, solved) / encode);
  }
  std::printf("%-14s %d threads   scoring %5.1f %%   planning %5.1f %%   both %5.1f %% of encoding\n", model.name,
              threads, 100 * median(scoring), 100 * median(planning), 100 * median(both));
}

// Multiply-adds of src/attention.cc for the last queries: their dot products with every key, the weighted sum of the
// values, and its dot products with every value; measuring rows adds one per element (transforms are additions).
void count_model(const Model& model) {
  const double tokens = kTokens;
  const double row = tokens * model.dim;
  const double scoring = model.layers * (3.0 * kQueries * model.q_heads * row + 2.0 * model.kv_heads * row);
  const double attention = 2.0 * model.layers * model.q_heads * model.dim * tokens * (tokens + 1) / 2;
  const double prefill = tokens * model.weights + attention;
  std::printf("%-14s scoring %9.3g   prefill %9.3g multiply-adds   %5.2f %%\n", model.name, scoring, prefill,
              100 * scoring / prefill);
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 9;
  if (rounds < 1) {
    std::fprintf(stderr, "usage: plan_bench [ROUNDS]\n");
    return 2;
  }
  std::printf("planning at 0.28 without queries beside encoding, %d tokens, median of %d rounds\n", kTokens, rounds);
  for (const Model& model : kModels) {
    for (const int32_t threads : {1, 2}) time_model(model, threads, rounds);
  }
  std::printf("scoring by the last %d queries beside prefill, %d tokens\n", kQueries, kTokens);
  for (const Model& model : kModels) count_model(model);
  return 0;
}
