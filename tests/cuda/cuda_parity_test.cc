// SPDX-License-Identifier: Apache-2.0
// The CUDA engine's payloads and decoded rows against the CPU engine's, byte for byte.
#include <random>

#include "on_device.h"

namespace skv::test {
namespace {

constexpr int32_t kDims[] = {64, 80, 96, 128, 192, 256};
constexpr Layout kLayouts[] = {Layout::kTokenMajor, Layout::kHeadMajor, Layout::kPaged16, Layout::kPaged32Padded,
                               Layout::kTransposed};
constexpr uint8_t kTransforms[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};

// One layer for every tier, one for all of them mixed, one of few runs; V is a layer ahead of K.
constexpr int32_t kPatterns = 7;
std::vector<uint8_t> pattern(int32_t which, int32_t tokens, int32_t code, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<uint8_t> tiers(static_cast<size_t>(tokens));
  for (size_t t = 0; t < tiers.size(); ++t) {
    uint8_t& tier = tiers[t];
    switch (which % kPatterns) {
      case 5:
        tier = static_cast<uint8_t>(random() % 6);
        break;
      case 6:
        tier = static_cast<uint8_t>(t / 29 % 6);
        break;
      default:
        tier = static_cast<uint8_t>(which % kPatterns + 1);
    }
    if (code == SKV_CODE_PAPER && (tier == 1 || tier == 3)) ++tier;
  }
  return tiers;
}

Plan plan_of(Engine& engine, const Cache& cache, int32_t chunk, int32_t code, int32_t k_transforms,
             int32_t v_transforms, int32_t raw_dtype, uint32_t seed) {
  Plan plan;
  plan.options.unproven = true;
  plan.set_strategy("raw");
  plan.set(SKV_PLAN_CHUNK, chunk);
  plan.set(SKV_PLAN_CODE, code);
  plan.set(SKV_PLAN_K_TRANSFORMS, k_transforms);
  plan.set(SKV_PLAN_V_TRANSFORMS, v_transforms);
  if (cache.layer(0).dtype == SKV_F32) plan.set(SKV_PLAN_RAW_DTYPE, raw_dtype);
  solve(engine, plan, cache, nullptr);
  for (int32_t l = 0; l < cache.layer_count(); ++l) {
    const auto tokens = static_cast<int32_t>(cache.layer(l).tokens);
    plan.set_tiers(l, SKV_K, pattern(l, tokens, code, seed + static_cast<uint32_t>(l)));
    if (cache.layer(l).has(SKV_V))
      plan.set_tiers(l, SKV_V, pattern(l + 1, tokens, code, seed + 100U + static_cast<uint32_t>(l)));
  }
  return plan;
}

class CudaParity : public OnDevice, public testing::WithParamInterface<std::tuple<int32_t, int32_t>> {
 protected:
  // Encodes on both, compares; decodes both payloads on both, compares.
  void round_trip(const Geometry& g, Layout from, Layout to, int32_t to_dtype, int32_t chunk, int32_t code,
                  int32_t k_transforms, int32_t v_transforms, uint32_t seed) {
    SCOPED_TRACE(testing::Message() << g.tokens << " tokens, dims " << g.dim[0] << "/" << g.dim[1] << ", dtype "
                                    << g.dtype << ", layouts " << static_cast<int>(from) << " to "
                                    << static_cast<int>(to) << " of dtype " << to_dtype << ", chunk " << chunk
                                    << ", code " << code << ", transforms " << k_transforms << "/" << v_transforms);
    Tensors source(g, from, true);
    source.cache().set(SKV_CACHE_CAN_MASK, 1);
    DeviceTensors copy(*gpu->device(), source);
    const Plan plan =
        plan_of(cpu, source.cache(), chunk, code, k_transforms, v_transforms, static_cast<int32_t>(seed % 3) + 1, seed);
    const auto want = encode(cpu, source.cache(), plan);
    const auto got = encode(*gpu, copy.cache(), plan);
    ASSERT_TRUE(same_bytes(*want, *got));
    EXPECT_TRUE(copy.equals(source));

    Geometry other = g;
    other.dtype = to_dtype;
    Tensors host(other, to, false);
    host.cache().set(SKV_CACHE_CAN_MASK, 1);
    DeviceTensors device(*gpu->device(), host);
    DeviceTensors again(*gpu->device(), host);
    decode_layers(cpu, *want, host.cache(), 0, g.layers);
    decode_layers(*gpu, *got, device.cache(), 0, g.layers);
    EXPECT_TRUE(device.equals(host));
    if (seed % 4 == 0) {  // the way a payload that came over a network takes
      const auto opened = Payload::open(want->bytes(), nullptr);
      decode_layers(*gpu, *opened, again.cache(), 0, g.layers);
      EXPECT_TRUE(again.equals(host));
    }
  }
};

TEST_P(CudaParity, EveryTierTransformLayoutAndDtype) {
  const auto [dim, dtype] = GetParam();
  uint32_t n = static_cast<uint32_t>(dim + dtype);
  for (const Layout layout : kLayouts) {
    for (const uint8_t transforms : kTransforms) {
      const int32_t chunk = n % 3 == 0 ? 32 : 64;
      round_trip({kPatterns, 70, 2, {dim, dim}, dtype}, layout, kLayouts[n % 5], static_cast<int32_t>(n / 5 % 3) + 1,
                 chunk, SKV_CODE_EMBEDDED, transforms, kTransforms[(transforms + 5U) % 12], n);
      if (HasFatalFailure()) return;
      ++n;
    }
    for (const uint8_t transforms : {uint8_t{0}, uint8_t{7}}) {
      round_trip({kPatterns, 45, 3, {dim, dim}, dtype}, layout, kLayouts[n % 5], static_cast<int32_t>(n / 5 % 3) + 1,
                 32, SKV_CODE_PAPER, transforms, transforms, n);
      if (HasFatalFailure()) return;
      ++n;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(DimAndDtype, CudaParity,
                         testing::Combine(testing::ValuesIn(kDims), testing::Values(SKV_F16, SKV_BF16, SKV_F32)),
                         [](const auto& info) {
                           return "dim" + std::to_string(std::get<0>(info.param)) + "_dtype" +
                                  std::to_string(std::get<1>(info.param));
                         });

class CudaShapes : public CudaParity {};

TEST_P(CudaShapes, WholeChunksOddDimsAndLatentLayers) {
  const auto [dim, tokens] = GetParam();
  const int32_t strong = dim % 16 == 0 ? 11 : 7;
  uint32_t n = static_cast<uint32_t>(dim);
  for (const int32_t dtype : {SKV_F16, SKV_F32}) {
    for (const int32_t v_dim : {0, 40, dim}) {
      round_trip({2, tokens, 1, {dim, v_dim}, dtype}, kLayouts[n % 5], kLayouts[(n + 2) % 5], dtype, 256,
                 SKV_CODE_EMBEDDED, n % 2 == 0 ? 7 : strong, v_dim == 0 ? 0 : 4, n);
      if (HasFatalFailure()) return;
      ++n;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, CudaShapes,
                         testing::Values(std::tuple{8, 300}, std::tuple{16, 257}, std::tuple{24, 33},
                                         std::tuple{72, 256}, std::tuple{112, 1}, std::tuple{160, 511},
                                         std::tuple{576, 40}, std::tuple{1024, 34}, std::tuple{4088, 5},
                                         std::tuple{4096, 6}),
                         [](const auto& info) {
                           return "dim" + std::to_string(std::get<0>(info.param)) + "_tokens" +
                                  std::to_string(std::get<1>(info.param));
                         });

using CudaCodec = OnDevice;

TEST_F(CudaCodec, LayersOneByOneGiveTheSameBytes) {
  const Geometry g{3, 300, 2, {128, 64}, SKV_BF16};
  Tensors source(g, Layout::kPaged16, true);
  DeviceTensors copy(*gpu->device(), source);
  Plan plan;
  plan.options.unproven = true;
  plan.set_fraction(0.3);
  solve(cpu, plan, source.cache(), nullptr);
  const auto want = encode(cpu, source.cache(), plan);
  auto got = Payload::create(copy.cache(), plan, {}, gpu->device());
  for (const int32_t l : {2, 0, 1}) {
    EXPECT_FALSE(got->complete());
    const std::span<const std::byte> host = got->host_bytes();  // as a sender of layers sees it
    encode_layers(*gpu, copy.cache(), plan, *got, l, 1);
    const Segment& segment = got->segments()[static_cast<size_t>(l)];
    EXPECT_EQ(0,
              std::memcmp(host.data() + segment.offset, want->bytes().data() + segment.offset, segment.layout.bytes));
    EXPECT_EQ(0, std::memcmp(host.data(), want->bytes().data(), kHeaderBytes));
  }
  EXPECT_TRUE(same_bytes(*want, *got));
  Tensors host(g, Layout::kHeadMajor, false);
  DeviceTensors device(*gpu->device(), host);
  for (const int32_t l : {1, 2, 0}) decode_layers(*gpu, *got, device.cache(), l, 1);
  decode_layers(cpu, *want, host.cache(), 0, g.layers);
  EXPECT_TRUE(device.equals(host));
}

TEST_F(CudaCodec, ADestinationMayHoldSomeOfTheHeads) {
  const Geometry g{1, 100, 4, {64, 64}, SKV_F16};
  Tensors source(g, Layout::kTokenMajor, true);
  DeviceTensors copy(*gpu->device(), source);
  Plan plan;
  plan.options.unproven = true;
  plan.set_fraction(0.3);
  solve(cpu, plan, source.cache(), nullptr);
  const auto got = encode(*gpu, copy.cache(), plan);
  Geometry part = g;
  part.heads = 2;
  Tensors host(part, Layout::kTransposed, false);
  host.cache().set_first_head(SKV_ALL, 1);
  DeviceTensors device(*gpu->device(), host);
  decode_layers(cpu, *got, host.cache(), 0, 1);  // from the device's memory, through a copy
  decode_layers(*gpu, *got, device.cache(), 0, 1);
  EXPECT_TRUE(device.equals(host));
}

// Long segments: leaves, and roots of more than 240 bytes and of several rounds of blocks.
TEST_F(CudaCodec, DigestsOfEveryLength) {
  const Device& device = *gpu->device();
  const Device::Use use(device);
  std::vector<uint64_t> sizes;
  for (uint64_t body = 16; body <= 1100; body += 16) sizes.push_back(64 + body);
  for (const uint64_t around : {uint64_t{65536}, uint64_t{131072}, uint64_t{3} << 19U}) {
    for (const int64_t off : {-1040, -1024, -1008, -64, -16, 0, 16, 240, 256, 1024, 1040}) {
      sizes.push_back(64 + around + static_cast<uint64_t>(off));
    }
  }
  for (const uint64_t size : sizes) {
    std::vector<std::byte> bytes(size);
    std::mt19937_64 random(size);
    for (size_t i = 0; i < size; i += 8) {
      const uint64_t word = random();
      std::memcpy(bytes.data() + i, &word, std::min<size_t>(8, size - i));
    }
    const auto memory = to_device(device, bytes);
    const uint64_t leaves = leaf_count(size);
    std::vector<uint64_t> want(leaves);
    for (uint64_t i = 0; i < leaves; ++i) {
      const auto leaf = leaf_of(bytes, i);
      want[i] = cpu.kernels().digest(leaf.data(), leaf.size());
    }
    seal_segment(bytes, want);
    cuda::Segment segment{};
    segment.bytes = memory.get();
    segment.size = size;
    const auto job = to_device(device, std::as_bytes(std::span(&segment, 1)));
    const auto out = device.allocate(leaves * 8);
    const auto* segments = reinterpret_cast<const cuda::Segment*>(job.get());
    auto* digests = reinterpret_cast<uint64_t*>(out.get());
    check_cuda(cuda::digest_leaves(segments, 1, leaves, digests, nullptr), "digest_leaves");
    check_cuda(cuda::seal(segments, 1, digests, nullptr), "seal");
    check_cuda(cuda::synchronize(nullptr), "digests");
    const std::vector<std::byte> got_leaves = to_host(device, out.get(), leaves * 8);
    ASSERT_EQ(0, std::memcmp(got_leaves.data(), want.data(), leaves * 8)) << size << " bytes";
    ASSERT_EQ(bytes, to_host(device, memory.get(), size)) << size << " bytes";
  }
}

TEST_F(CudaCodec, ScoresAndPlansEqualTheCpus) {
  for (const bool with_queries : {false, true}) {
    const Geometry g{2, 600, 2, {64, 80}, with_queries ? SKV_BF16 : SKV_F32};
    Tensors source(g, with_queries ? Layout::kPaged16 : Layout::kTransposed, true);
    DeviceTensors copy(*gpu->device(), source);
    Scores scores[2];
    std::vector<float> queries(size_t{16} * 4 * 64);
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    for (float& q : queries) q = normal(random);
    const auto moved = to_device(*gpu->device(), std::as_bytes(std::span(queries)));
    if (with_queries) {
      for (int32_t l = 0; l < g.layers; ++l) {
        QueryView view;
        view.bytes = queries.size() * 4;
        view.dtype = SKV_F32;
        view.count = 16;
        view.heads = 4;
        view.stride_query = 4 * 64 * 4;
        view.stride_head = 64 * 4;
        view.stride_elem = 4;
        view.base = reinterpret_cast<const std::byte*>(queries.data());
        scores[0].set_queries(l, view);
        view.base = moved.get();
        scores[1].set_queries(l, view);
      }
    }
    score(cpu, source.cache(), scores[0]);
    score(*gpu, copy.cache(), scores[1]);
    for (int32_t l = 0; l < g.layers; ++l) {
      for (int half = 0; half < 2; ++half) {
        const std::vector<float> want = scores[0].weights(l, half).list();
        const std::vector<float> got = scores[1].weights(l, half).list();
        ASSERT_EQ(want.size(), got.size());
        ASSERT_EQ(0, std::memcmp(want.data(), got.data(), want.size() * sizeof(float))) << "layer " << l << " half " << half;
      }
    }
    for (const int32_t chunk : {256, 96}) {  // another chunk is measured again
      Plan plans[2];
      for (Plan& plan : plans) {
        plan.set(SKV_PLAN_CHUNK, chunk);
        plan.set_fraction(0.27);
        plan.options.unproven = !with_queries;  // with queries the logit probe decides, on the device as on the CPU
      }
      solve(cpu, plans[0], source.cache(), &scores[0]);
      solve(*gpu, plans[1], copy.cache(), &scores[1]);
      EXPECT_EQ(plans[0].facts.proof, plans[1].facts.proof);
      EXPECT_EQ(plans[0].facts.worst_snr_db, plans[1].facts.worst_snr_db);
      EXPECT_EQ(plans[0].facts.escalated, plans[1].facts.escalated);
      EXPECT_TRUE(same_bytes(*encode(cpu, source.cache(), plans[0]), *encode(*gpu, copy.cache(), plans[1])));
    }
  }
}

TEST_F(CudaCodec, ImportanceByKeysEqualsTheCpus) {
  const Geometry g{2, 300, 3, {96, 64}, SKV_BF16};
  Tensors source(g, Layout::kPaged32Padded, true);
  DeviceTensors copy(*gpu->device(), source);
  Plan plans[2];
  for (Plan& plan : plans) {
    plan.set_strategy("greedy:key-norm");
    plan.set_fraction(0.5);
    plan.options.unproven = true;
  }
  solve(cpu, plans[0], source.cache(), nullptr);
  solve(*gpu, plans[1], copy.cache(), nullptr);
  EXPECT_TRUE(same_bytes(*encode(cpu, source.cache(), plans[0]), *encode(*gpu, copy.cache(), plans[1])));
}

}  // namespace
}  // namespace skv::test
