// SPDX-License-Identifier: Apache-2.0
// Whole encode and decode, digests included, beside memcpy of the same tensor. Every iteration times both, so that a
// machine that slows down slows both; vs_memcpy is the median of the pairs. Rates are of the 16-bit input side.
//
//   bench/codec_bench                      default: 256 MiB and more, 1 and 2 threads
//   bench/codec_bench --benchmark_filter=encode/llama
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "codec.h"
#include "kernels/tiers.h"

namespace {

using Clock = std::chrono::steady_clock;
double seconds(Clock::time_point a, Clock::time_point b) { return std::chrono::duration<double>(b - a).count(); }

struct Geometry {
  const char* name;
  int32_t layers, tokens, heads, dim;
  int32_t block;  // tokens a page; 0: contiguous
};
// All at least 256 MiB, far beyond any last-level cache.
constexpr Geometry kGeometries[] = {
    {"llama3-8b", 16, 4096, 8, 128, 0},          {"llama3-8b-paged16", 16, 4096, 8, 128, 16},
    {"llama3-8b-paged32", 16, 4096, 8, 128, 32}, {"smollm2-135m", 30, 12288, 3, 64, 0},
    {"qwen2.5-7b", 28, 4864, 4, 128, 0},         {"gemma3-270m", 18, 15360, 1, 256, 0}};

// Aligned to pages, as engines have their caches; of ordinary pages.
class Memory {
 public:
  explicit Memory(size_t size)
      : size_(size), data_(static_cast<std::byte*>(std::aligned_alloc(4096, (size + 4095) / 4096 * 4096))) {
    if (data_ == nullptr) std::abort();
    std::memset(data_.get(), 1, size);
  }
  std::byte* data() const { return data_.get(); }
  size_t size() const { return size_; }

 private:
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  size_t size_;
  std::unique_ptr<std::byte, Free> data_;
};

// f16 tensors of a whole cache, K and V of every layer one after the other.
struct Tensor {
  explicit Tensor(const Geometry& g)
      : rows(static_cast<size_t>(g.tokens)),
        row(static_cast<size_t>(g.heads) * static_cast<size_t>(g.dim) * 2),
        bytes(rows * row * 2 * static_cast<size_t>(g.layers)) {}
  size_t rows, row;
  Memory bytes;
};

void view(skv::Cache& cache, Tensor& tensor, const Geometry& g) {
  cache.set_tokens(SKV_ALL, 0, g.tokens);
  cache.set_layer(SKV_ALL, g.heads, g.dim, g.dim, SKV_F16);
  const auto row = static_cast<int64_t>(tensor.row);
  for (int32_t l = 0; l < g.layers; ++l) {
    for (int half = 0; half < 2; ++half) {
      std::byte* base = tensor.bytes.data() + static_cast<size_t>(2 * l + half) * tensor.rows * tensor.row;
      cache.set_plane(l, half, base, tensor.rows * tensor.row, g.block * row, row, g.dim * 2, 2);
    }
  }
  if (g.block != 0) {
    std::vector<int32_t> blocks(static_cast<size_t>(g.tokens / g.block));
    for (size_t b = 0; b < blocks.size(); ++b) blocks[b] = static_cast<int32_t>((b * 37) % blocks.size());
    cache.set_blocks(SKV_ALL, blocks.data(), blocks.size(), g.block);
  }
}

void fill(Tensor& tensor) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<uint16_t> noise(1U << 20U);
  for (uint16_t& x : noise) x = skv::tiers::f32_to_f16(normal(random));
  for (size_t at = 0; at < tensor.bytes.size(); at += noise.size() * 2) {
    std::memcpy(tensor.bytes.data() + at, noise.data(), std::min(noise.size() * 2, tensor.bytes.size() - at));
  }
}

void report(benchmark::State& state, size_t bytes, std::vector<double>& ratios, double memcpy_seconds, size_t payload) {
  std::sort(ratios.begin(), ratios.end());
  state.SetBytesProcessed(static_cast<int64_t>(bytes) * state.iterations());
  state.counters["vs_memcpy"] = ratios[ratios.size() / 2];
  state.counters["memcpy_GBps"] =
      static_cast<double>(bytes) * static_cast<double>(state.iterations()) / memcpy_seconds / 1e9;
  state.counters["ratio"] = static_cast<double>(payload) / static_cast<double>(bytes);
}

// memcpy of the tensor with as many threads as the codec uses.
double copy_seconds(skv::Engine& engine, const Tensor& from, Tensor& to) {
  const auto parts = static_cast<size_t>(engine.threads());
  const size_t part = from.bytes.size() / parts;
  const auto start = Clock::now();
  engine.run(parts, [&](size_t i, skv::Scratch&) {
    std::memcpy(to.bytes.data() + i * part, from.bytes.data() + i * part, part);
  });
  return seconds(start, Clock::now());
}

enum class Phase {
  kEncode,
  kEncodeAnew,      // into memory taken for it and given back, as skv_encode without a buffer does
  kDecode,          // of bytes nobody looked at yet: all digests are checked before anything is written
  kDecodeVerified,  // of a payload whose digests were checked already, as they are while skv_recv receives it
};

void run(benchmark::State& state, const Geometry& g, const char* strategy, int32_t transforms, int32_t threads,
         Phase phase) {
  Tensor from(g);
  Tensor to(g);
  fill(from);
  skv::Engine engine(SKV_DEVICE_CPU);
  engine.set(SKV_ENGINE_THREADS, threads);
  skv::Cache source(g.layers);
  skv::Cache destination(g.layers);
  view(source, from, g);
  view(destination, to, g);
  skv::Plan plan;
  plan.options.unproven = true;
  plan.set_strategy(strategy);
  if (transforms == 0) {
    plan.set(SKV_PLAN_K_TRANSFORMS, 0);
    plan.set(SKV_PLAN_V_TRANSFORMS, 0);
  }
  skv::solve(engine, plan, source, nullptr);
  const Memory memory(plan.payload_bytes());
  const std::span<std::byte> buffer(memory.data(), memory.size());
  const auto encode = [&](std::span<std::byte> into) {
    auto payload = skv::Payload::create(source, plan, into);
    skv::encode_layers(engine, source, plan, *payload, 0, g.layers);
  };
  const auto open_and_decode = [&] {
    auto payload = skv::Payload::open(buffer, nullptr);
    skv::decode_layers(engine, *payload, destination, 0, g.layers);
  };
  encode(buffer);
  const auto verified = skv::Payload::open(buffer, nullptr);
  skv::decode_layers(engine, *verified, destination, 0, g.layers);
  std::vector<double> ratios;
  double memcpy_total = 0;
  for (auto _ : state) {
    const double copy = copy_seconds(engine, from, to);
    const auto start = Clock::now();
    switch (phase) {
      case Phase::kEncode:
        encode(buffer);
        break;
      case Phase::kEncodeAnew:
        encode({});
        break;
      case Phase::kDecode:
        open_and_decode();
        break;
      case Phase::kDecodeVerified:
        skv::decode_layers(engine, *verified, destination, 0, g.layers);
        break;
    }
    const double took = seconds(start, Clock::now());
    state.SetIterationTime(took);
    ratios.push_back(copy / took);
    memcpy_total += copy;
  }
  report(state, from.bytes.size(), ratios, memcpy_total, plan.payload_bytes());
}

}  // namespace

int main(int argc, char** argv) {
  struct Kind {
    const char* name;
    const char* strategy;
    int32_t transforms;
  };
  constexpr Kind kinds[] = {{"4bit", "uniform-4", 1},
                            {"8bit", "uniform-8", 1},
                            {"4bit-plain", "uniform-4", 0},
                            {"8bit-plain", "uniform-8", 0},
                            {"raw", "raw", 1}};
  constexpr std::pair<const char*, Phase> phases[] = {{"encode", Phase::kEncode},
                                                      {"encode_anew", Phase::kEncodeAnew},
                                                      {"decode", Phase::kDecode},
                                                      {"decode_verified", Phase::kDecodeVerified}};
  for (const Geometry& g : kGeometries) {
    for (const Kind& kind : kinds) {
      for (const int32_t threads : {1, 2}) {
        for (const auto& [title, phase] : phases) {
          const std::string name =
              std::string(title) + "/" + g.name + "/" + kind.name + "/threads:" + std::to_string(threads);
          benchmark::RegisterBenchmark(name.c_str(),
                                       [&g, kind, threads, phase = phase](benchmark::State& state) {
                                         run(state, g, kind.strategy, kind.transforms, threads, phase);
                                       })
              ->UseManualTime()
              ->Iterations(9)
              ->Unit(benchmark::kMillisecond);
        }
      }
    }
  }
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
