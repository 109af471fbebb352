// SPDX-License-Identifier: Apache-2.0
// What encoding and decoding take from the heap, through the C ABI: bytes beside the output, and calls in steady state.
// Counted, never timed.
#include <gtest/gtest.h>
#include <spectrumkv.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "counted_memory.h"

namespace {

using skv::test::start_counting;
using skv::test::stop_counting;
using skv::test::Taken;

// "Encoding a layer needs no more than its output plus 4 MiB a thread" (docs/architecture.md).
constexpr int64_t kBytesPerThread = 4 << 20;
constexpr int32_t kHeads = 8;
constexpr int32_t kDim = 128;
constexpr int64_t kRow = int64_t{kHeads} * kDim * 2;

void ok(skv_status status, const skv_error& error) {
  if (status != SKV_OK) throw std::runtime_error(std::string(skv_status_name(status)) + ": " + error.message);
}
#define OK(call)     \
  do {               \
    skv_error err;   \
    ok((call), err); \
  } while (false)

struct Destroy {
  void operator()(skv_engine* it) const { skv_engine_destroy(it); }
  void operator()(skv_cache* it) const { skv_cache_destroy(it); }
  void operator()(skv_plan* it) const { skv_plan_destroy(it); }
  void operator()(skv_payload* it) const { skv_payload_destroy(it); }
};
template <class T>
using Handle = std::unique_ptr<T, Destroy>;

// f16 rows of some layers, contiguous or in pages (block_tokens != 0) in a scattered order.
struct Tensors {
  Tensors(int32_t layers, int32_t tokens, int32_t block_tokens)
      : plane(static_cast<size_t>(tokens * kRow)), memory(plane * static_cast<size_t>(layers) * 2) {
    skv_cache* made = nullptr;
    OK(skv_cache_create(layers, &made, &err));
    cache.reset(made);
    OK(skv_cache_set_tokens(made, SKV_ALL, 0, tokens, &err));
    OK(skv_cache_set_layer(made, SKV_ALL, kHeads, kDim, kDim, SKV_F16, &err));
    for (int32_t l = 0; l < layers; ++l) {
      for (const int32_t half : {SKV_K, SKV_V}) {
        OK(skv_cache_set_plane(made, l, half, memory.data() + static_cast<size_t>(2 * l + half) * plane, plane,
                               block_tokens * kRow, kRow, kDim * 2, 2, &err));
      }
    }
    if (block_tokens != 0) {
      std::vector<int32_t> blocks(static_cast<size_t>(tokens / block_tokens));
      for (size_t b = 0; b < blocks.size(); ++b) blocks[b] = static_cast<int32_t>(blocks.size() - 1 - b);
      OK(skv_cache_set_blocks(made, SKV_ALL, blocks.data(), blocks.size(), block_tokens, &err));
    }
  }
  void fill() {
    uint32_t state = 1;
    for (size_t i = 0; i + 1 < memory.size(); i += 2) {
      state = state * 1664525U + 1013904223U;
      const auto word = static_cast<uint16_t>((state >> 16U & 0x8FFFU) | 0x3000U);
      std::memcpy(memory.data() + i, &word, 2);
    }
  }
  size_t plane;
  std::vector<std::byte> memory;
  Handle<skv_cache> cache;
};

struct Way {
  int32_t threads;
  int32_t block_tokens;
  const char* strategy;
};
std::string name_of(const testing::TestParamInfo<Way>& info) {
  std::string strategy = info.param.strategy;
  for (char& c : strategy) c = c == '-' ? '_' : c;
  return std::to_string(info.param.threads) + "_threads_blocks_of_" + std::to_string(info.param.block_tokens) + "_" +
         strategy;
}

class Memory : public testing::TestWithParam<Way> {
 protected:
  Handle<skv_engine> engine_of(int32_t threads) {
    skv_engine* made = nullptr;
    OK(skv_engine_create(SKV_DEVICE_CPU, &made, &err));
    Handle<skv_engine> engine(made);
    OK(skv_engine_set(made, SKV_ENGINE_THREADS, threads, &err));
    return engine;
  }
  Handle<skv_plan> plan_of(skv_engine* engine, const Tensors& tensors) {
    skv_plan* made = nullptr;
    OK(skv_plan_create(engine, &made, &err));
    Handle<skv_plan> plan(made);
    OK(skv_plan_set(made, SKV_PLAN_UNPROVEN, 1, &err));
    OK(skv_plan_set_strategy(made, GetParam().strategy, &err));
    OK(skv_plan_set_budget(made, 0.4, &err));
    OK(skv_plan_solve(made, tensors.cache.get(), nullptr, &err));
    return plan;
  }
  Handle<skv_payload> payload_of(const Tensors& tensors, const skv_plan* plan) {
    skv_payload* made = nullptr;
    OK(skv_payload_create(tensors.cache.get(), plan, nullptr, 0, &made, &err));
    return Handle<skv_payload>(made);
  }
};

// From an engine that never worked: its threads' scratch, their start and everything else counts.
TEST_P(Memory, OfALayerIsItsOutputAnd4MiBAThread) {
  Tensors tensors(1, 16384, GetParam().block_tokens);
  tensors.fill();
  const auto planner = engine_of(1);
  const auto plan = plan_of(planner.get(), tensors);
  uint64_t output = 0;
  OK(skv_plan_bytes(plan.get(), &output, &err));
  const auto engine = engine_of(GetParam().threads);
  const int64_t allowed = kBytesPerThread * GetParam().threads;

  start_counting();
  auto payload = payload_of(tensors, plan.get());
  OK(skv_encode_layer(engine.get(), tensors.cache.get(), plan.get(), 0, nullptr, payload.get(), &err));
  const Taken encoding = stop_counting();
  EXPECT_GE(encoding.peak_bytes, static_cast<int64_t>(output)) << "the count does not even see the output";
  EXPECT_LE(encoding.peak_bytes, static_cast<int64_t>(output) + allowed) << "output is " << output;
  RecordProperty("encode_beside_output", std::to_string(encoding.peak_bytes - static_cast<int64_t>(output)));

  Tensors to(1, 16384, GetParam().block_tokens);
  const auto reader = engine_of(GetParam().threads);
  const void* bytes = nullptr;
  size_t size = 0;
  OK(skv_payload_data(payload.get(), &bytes, &size, &err));
  start_counting();
  skv_payload* opened = nullptr;
  OK(skv_payload_open(bytes, size, &opened, &err));
  const Handle<skv_payload> received(opened);
  OK(skv_decode_layer(reader.get(), opened, to.cache.get(), 0, nullptr, &err));
  const Taken decoding = stop_counting();
  EXPECT_GT(decoding.peak_bytes, 0);
  EXPECT_LE(decoding.peak_bytes, allowed);
  RecordProperty("decode_beside_output", std::to_string(decoding.peak_bytes));
}

TEST_P(Memory, IsNotTakenInSteadyState) {
  constexpr int32_t kLayers = 5;
  Tensors from(kLayers, 1024, GetParam().block_tokens);
  Tensors to(kLayers, 1024, GetParam().block_tokens);
  from.fill();
  const auto engine = engine_of(GetParam().threads);
  const auto plan = plan_of(engine.get(), from);
  const auto payload = payload_of(from, plan.get());
  const auto encode = [&](int32_t layer) {
    OK(skv_encode_layer(engine.get(), from.cache.get(), plan.get(), layer, nullptr, payload.get(), &err));
  };
  encode(0);
  start_counting();
  for (int32_t l = 1; l < kLayers; ++l) encode(l);
  EXPECT_EQ(stop_counting().calls, 0U) << "encoding";

  const void* bytes = nullptr;
  size_t size = 0;
  OK(skv_payload_data(payload.get(), &bytes, &size, &err));
  skv_payload* opened = nullptr;
  OK(skv_payload_open(bytes, size, &opened, &err));
  const Handle<skv_payload> received(opened);
  const auto decode = [&](int32_t layer) {
    OK(skv_decode_layer(engine.get(), opened, to.cache.get(), layer, nullptr, &err));
  };
  decode(0);
  start_counting();
  for (int32_t l = 1; l < kLayers; ++l) decode(l);
  EXPECT_EQ(stop_counting().calls, 0U) << "decoding";
  EXPECT_NE(to.memory, std::vector<std::byte>(to.memory.size())) << "nothing was decoded";
}

INSTANTIATE_TEST_SUITE_P(Ways, Memory,
                         testing::Values(Way{1, 0, "uniform-4"}, Way{2, 0, "uniform-4"}, Way{4, 16, "uniform-4"},
                                         Way{1, 32, "error-aware"}, Way{2, 0, "raw"}),
                         name_of);

}  // namespace
