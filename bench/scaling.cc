// SPDX-License-Identifier: Apache-2.0
// One point of how encoding and decoding grow, in a process of its own, so that its memory is its own too:
//
//   bench/scaling TOKENS LAYERS THREADS BLOCK_TOKENS RUNS      (blocks of 0 tokens: contiguous; Llama-3-8B's rows)
//
// Prints one line of JSON. Every run times memcpy of the tensor, with as many threads, between encode and decode, each
// several times over where the tensor is small. CPU time is that of all threads: others on the machine move it less
// than they do the clock on the wall. Memory is counted at malloc (tests/memory), in a pass of its own before the timed
// ones, from an engine that never worked.
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "codec.h"
#include "kernels/tiers.h"
#include "tests/memory/counted_memory.h"

namespace {

constexpr int32_t kHeads = 8;
constexpr int32_t kDim = 128;
constexpr size_t kRow = size_t{kHeads} * kDim * 2;
constexpr size_t kTimed = 256U << 20U;  // bytes of tensor that a timed run goes over at least

struct Point {
  int32_t tokens, layers, threads, block_tokens, runs;
};

// K and V of every layer, one after the other.
struct Tensor {
  explicit Tensor(const Point& p)
      : plane(static_cast<size_t>(p.tokens) * kRow), bytes(plane * 2 * static_cast<size_t>(p.layers)), cache(p.layers) {
    cache.set_tokens(SKV_ALL, 0, p.tokens);
    cache.set_layer(SKV_ALL, kHeads, kDim, kDim, SKV_F16);
    for (int32_t l = 0; l < p.layers; ++l) {
      for (int half = 0; half < 2; ++half) {
        cache.set_plane(l, half, bytes.data() + static_cast<size_t>(2 * l + half) * plane, plane,
                        p.block_tokens * static_cast<int64_t>(kRow), kRow, kDim * 2, 2);
      }
    }
    if (p.block_tokens == 0) return;
    std::vector<int32_t> blocks(static_cast<size_t>(p.tokens / p.block_tokens));
    for (size_t b = 0; b < blocks.size(); ++b) blocks[b] = static_cast<int32_t>((b * 37) % blocks.size());
    cache.set_blocks(SKV_ALL, blocks.data(), blocks.size(), p.block_tokens);
  }
  void fill() {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    std::vector<uint16_t> noise(1U << 18U);
    for (uint16_t& x : noise) x = skv::tiers::f32_to_f16(normal(random));
    for (size_t at = 0; at < bytes.size(); at += noise.size() * 2) {
      std::memcpy(bytes.data() + at, noise.data(), std::min(noise.size() * 2, bytes.size() - at));
    }
  }
  size_t plane;
  std::vector<std::byte> bytes;
  skv::Cache cache;
};

void copy(skv::Engine& engine, const Tensor& from, Tensor& to) {
  const auto parts = static_cast<size_t>(engine.threads());
  const size_t part = from.bytes.size() / parts;
  engine.run(parts, [&](size_t i, skv::Scratch&) {
    std::memcpy(to.bytes.data() + i * part, from.bytes.data() + i * part, part);
  });
}

struct Buffer {
  explicit Buffer(size_t size) : bytes(size), at(std::aligned_alloc(64, (size + 63) / 64 * 64)) {
    if (at == nullptr) std::abort();
    std::memset(at, 1, size);
  }
  ~Buffer() { std::free(at); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  std::span<std::byte> span() const { return {static_cast<std::byte*>(at), bytes}; }
  size_t bytes;
  void* at;
};

double now(clockid_t clock) {
  timespec at{};
  clock_gettime(clock, &at);
  return static_cast<double>(at.tv_sec) + static_cast<double>(at.tv_nsec) * 1e-9;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// What one of encode, memcpy and decode took, by run.
struct Timed {
  std::vector<double> wall, cpu;
  template <class Call>
  void run(size_t times, Call&& call) {
    const double wall_start = now(CLOCK_MONOTONIC);
    const double cpu_start = now(CLOCK_PROCESS_CPUTIME_ID);
    for (size_t i = 0; i < times; ++i) call();
    cpu.push_back((now(CLOCK_PROCESS_CPUTIME_ID) - cpu_start) / static_cast<double>(times));
    wall.push_back((now(CLOCK_MONOTONIC) - wall_start) / static_cast<double>(times));
  }
};

// How many times memcpy's rate: the median of the runs' ratios.
double rate(const std::vector<double>& copies, const std::vector<double>& own) {
  std::vector<double> ratios;
  for (size_t i = 0; i < own.size(); ++i) ratios.push_back(copies[i] / own[i]);
  return median(ratios);
}

void measure(const Point& p) {
  Tensor from(p);
  Tensor to(p);
  from.fill();
  std::memset(to.bytes.data(), 1, to.bytes.size());
  skv::Plan plan;
  plan.options.unproven = true;
  plan.set_strategy("uniform-4");
  {
    skv::Engine planner(SKV_DEVICE_CPU);
    skv::solve(planner, plan, from.cache, nullptr);
  }
  const Buffer buffer(plan.payload_bytes());
  to.cache.check();
  const auto engine_of = [&] {
    auto engine = std::make_unique<skv::Engine>(SKV_DEVICE_CPU);
    engine->set(SKV_ENGINE_THREADS, p.threads);
    return engine;
  };
  const auto encode = [&](skv::Engine& engine) {
    const auto payload = skv::Payload::create(from.cache, plan, buffer.span());
    skv::encode_layers(engine, from.cache, plan, *payload, 0, p.layers);
  };
  const auto decode = [&](skv::Engine& engine) {
    const auto payload = skv::Payload::open(buffer.span(), nullptr);
    skv::decode_layers(engine, *payload, to.cache, 0, p.layers);
  };
  const auto reader = engine_of();
  const auto engine = engine_of();
  skv::test::start_counting();
  encode(*engine);
  const skv::test::Taken encoding = skv::test::stop_counting();
  skv::test::start_counting();
  decode(*reader);
  const skv::test::Taken decoding = skv::test::stop_counting();

  Timed encodes, copies, decodes;
  const size_t times = (kTimed + from.bytes.size() - 1) / from.bytes.size();
  for (int32_t run = 0; run < p.runs; ++run) {
    encodes.run(times, [&] { encode(*engine); });
    copies.run(times, [&] { copy(*engine, from, to); });
    decodes.run(times, [&] { decode(*engine); });
  }
  std::printf("{\"tokens\": %d, \"layers\": %d, \"threads\": %d, \"block_tokens\": %d, \"raw_bytes\": %zu, ", p.tokens,
              p.layers, p.threads, p.block_tokens, from.bytes.size());
  std::printf("\"payload_bytes\": %llu, \"encode_memory\": %lld, \"decode_memory\": %lld, ",
              static_cast<unsigned long long>(plan.payload_bytes()), static_cast<long long>(encoding.peak_bytes),
              static_cast<long long>(decoding.peak_bytes));
  std::printf("\"encode_s\": %.6f, \"memcpy_s\": %.6f, \"decode_s\": %.6f, ", median(encodes.wall), median(copies.wall),
              median(decodes.wall));
  std::printf("\"encode_cpu_s\": %.6f, \"memcpy_cpu_s\": %.6f, \"decode_cpu_s\": %.6f, ", median(encodes.cpu),
              median(copies.cpu), median(decodes.cpu));
  std::printf("\"encode_vs_memcpy\": %.4f, \"decode_vs_memcpy\": %.4f, \"target\": \"%s\"}\n",
              rate(copies.wall, encodes.wall), rate(copies.wall, decodes.wall), engine->kernels().name);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6) {
    std::fprintf(stderr, "usage: scaling TOKENS LAYERS THREADS BLOCK_TOKENS RUNS\n");
    return 2;
  }
  const Point point{std::atoi(argv[1]), std::atoi(argv[2]), std::atoi(argv[3]), std::atoi(argv[4]), std::atoi(argv[5])};
  if (point.tokens < 1 || point.layers < 1 || point.threads < 1 || point.runs < 1 || point.block_tokens < 0 ||
      (point.block_tokens != 0 && point.tokens % point.block_tokens != 0)) {
    std::fprintf(stderr, "scaling: wanted positive numbers, and tokens in whole blocks\n");
    return 2;
  }
  measure(point);
  return 0;
}
