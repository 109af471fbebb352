// SPDX-License-Identifier: Apache-2.0
// What a CUDA engine refuses, and what it leaves behind.
#include <cmath>

#include "codec_upgrade.h"
#include "on_device.h"

namespace skv::test {
namespace {

using CudaEngine = OnDevice;

struct Refusal {
  skv_status status = SKV_OK;
  int native = 0;
  std::string message;
};
template <class Call>
Refusal refusal_of(Call&& call) {
  try {
    call();
  } catch (const Error& e) {
    return {e.status(), e.native(), e.message()};
  }
  return {};
}

TEST_F(CudaEngine, NamesItsDevice) {
  EXPECT_EQ(0U, gpu->describe().find("cuda:0 ")) << gpu->describe();
  EXPECT_LT(gpu->describe().size(), 128U);
  EXPECT_EQ(SKV_E_RANGE, refusal_of([] { Engine engine(-2); }).status);
  const Refusal beyond = refusal_of([] { Engine engine(1000); });
  EXPECT_EQ(SKV_E_UNAVAILABLE, beyond.status);
  EXPECT_NE(std::string::npos, beyond.message.find("wanted 0..")) << beyond.message;
}

TEST_F(CudaEngine, PayloadsKnowWhereTheyAre) {
  const Geometry g{1, 50, 1, {64, 64}, SKV_F16};
  Tensors source(g, Layout::kTokenMajor, true);
  DeviceTensors copy(*gpu->device(), source);
  Plan plan;
  plan.options.unproven = true;
  plan.set_fraction(0.5);
  solve(*gpu, plan, copy.cache(), nullptr);
  const auto want = encode(cpu, source.cache(), plan);
  const auto got = encode(*gpu, copy.cache(), plan);
  EXPECT_EQ(-1, want->get(SKV_ALL, SKV_PAYLOAD_DEVICE));
  EXPECT_EQ(0, got->get(SKV_ALL, SKV_PAYLOAD_DEVICE));
  std::vector<std::byte> bytes(plan.payload_bytes());
  got->copy_to(bytes);
  EXPECT_EQ(0, std::memcmp(bytes.data(), want->bytes().data(), bytes.size()));
  bytes.pop_back();
  EXPECT_EQ(SKV_E_TOO_SMALL, refusal_of([&] { got->copy_to(bytes); }).status);
  std::vector<uint8_t> tiers(50);
  got->tiers(0, SKV_V, tiers);
  EXPECT_TRUE(std::equal(tiers.begin(), tiers.end(), plan.tiers_of(0, SKV_V).begin()));
  verify_layers(nullptr, *got, 0, 1);
}

// Upgrades are made on the host, from copies of the cache's layers and of the base.
TEST_F(CudaEngine, UpgradesEqualTheCpus) {
  const Geometry g{2, 300, 2, {64, 80}, SKV_BF16};
  Tensors source(g, Layout::kPaged16, true);
  DeviceTensors copy(*gpu->device(), source);
  Plan low;
  low.options.unproven = true;
  low.set_fraction(0.3);
  solve(*gpu, low, copy.cache(), nullptr);
  const auto base = encode(*gpu, copy.cache(), low);
  const auto host_base = encode(cpu, source.cache(), low);
  Plan more;
  more.set_fraction(0.2);
  solve_upgrade(*gpu, more, *base, copy.cache(), nullptr);
  const auto got = encode_upgrade(*gpu, copy.cache(), *base, more);
  Plan same;
  same.set_fraction(0.2);
  solve_upgrade(cpu, same, *host_base, source.cache(), nullptr);
  const auto want = encode_upgrade(cpu, source.cache(), *host_base, same);
  EXPECT_EQ(-1, got->get(SKV_ALL, SKV_PAYLOAD_DEVICE));
  ASSERT_EQ(want->bytes().size(), got->bytes().size());
  EXPECT_EQ(0, std::memcmp(want->bytes().data(), got->bytes().data(), want->bytes().size()));
  const auto result = apply_upgrade(*base, *got);
  const auto expected = apply_upgrade(*host_base, *want);
  EXPECT_EQ(-1, result->get(SKV_ALL, SKV_PAYLOAD_DEVICE));
  ASSERT_EQ(expected->bytes().size(), result->bytes().size());
  EXPECT_EQ(0, std::memcmp(expected->bytes().data(), result->bytes().data(), result->bytes().size()));
  Tensors to(g, Layout::kPaged16, false);
  DeviceTensors on_device(*gpu->device(), to);
  decode_layers(*gpu, *result, on_device.cache(), 0, g.layers);
  decode_layers(cpu, *expected, to.cache(), 0, g.layers);
  EXPECT_TRUE(on_device.equals(to));
  Plan cut;
  cut.options.unproven = true;
  cut.set_strategy("uniform-4");
  solve_truncation(cut, *base, nullptr);
  const auto on_host = truncate(*base, cut);
  const auto also = truncate(*host_base, cut);
  EXPECT_EQ(0, std::memcmp(on_host->bytes().data(), also->bytes().data(), also->bytes().size()));
  // An upgrade that arrived in device memory.
  const auto arrived = to_device(*gpu->device(), got->bytes());
  const auto opened = Payload::open_on(*gpu->device(), {arrived.get(), got->bytes().size()}, arrived);
  EXPECT_EQ(1, opened->get(SKV_ALL, SKV_PAYLOAD_UPGRADE));
  const auto again = apply_upgrade(*base, *opened);
  EXPECT_EQ(0, std::memcmp(expected->bytes().data(), again->bytes().data(), again->bytes().size()));
}

TEST_F(CudaEngine, RefusesTheSameValuesInTheSameWords) {
  struct Bad {
    int32_t dtype;
    int32_t raw_dtype;
    int half;
    int32_t token;
    float value;
    skv_status status;
  };
  const Bad all[] = {
      {SKV_F16, 0, SKV_K, 290, NAN, SKV_E_NON_FINITE},        {SKV_F16, 0, SKV_V, 3, INFINITY, SKV_E_NON_FINITE},
      {SKV_BF16, 0, SKV_K, 260, -INFINITY, SKV_E_NON_FINITE}, {SKV_F32, 0, SKV_K, 17, 3e38F, SKV_E_OVERFLOW},
      {SKV_F32, 0, SKV_V, 17, 3e38F, SKV_E_OVERFLOW},         {SKV_F32, SKV_F16, SKV_V, 0, 1e6F, SKV_E_OVERFLOW},
      {SKV_F32, SKV_F16, SKV_K, 1, -1e6F, SKV_E_OVERFLOW},
  };
  for (const Bad& bad : all) {
    const Geometry g{3, 300, 2, {64, 64}, bad.dtype};
    Tensors source(g, Layout::kPaged16, true);
    source.put(1, bad.half, bad.token, 1, 5, bad.value);
    source.put(2, SKV_K, 40, 0, 0, NAN);  // later in order: not the one reported
    DeviceTensors copy(*gpu->device(), source);
    Plan plan;
    plan.options.unproven = true;
    plan.set_strategy("uniform-4");
    if (bad.raw_dtype != 0) plan.set(SKV_PLAN_RAW_DTYPE, bad.raw_dtype);
    solve(cpu, plan, source.cache(), nullptr);
    const Refusal want = refusal_of([&] { encode(cpu, source.cache(), plan); });
    auto payload = Payload::create(copy.cache(), plan, {}, gpu->device());
    const Refusal got = refusal_of([&] { encode_layers(*gpu, copy.cache(), plan, *payload, 0, 3); });
    EXPECT_EQ(bad.status, want.status) << want.message;
    EXPECT_EQ(want.status, got.status) << got.message;
    EXPECT_EQ(want.message, got.message);
    const auto left = to_host(*gpu->device(), payload->bytes().data(), payload->bytes().size());
    for (size_t i = kHeaderBytes; i < left.size(); ++i) ASSERT_EQ(std::byte{0}, left[i]) << "byte " << i;
    // Layers without a bad value can still be encoded into it.
    encode_layers(*gpu, copy.cache(), plan, *payload, 0, 1);
    EXPECT_EQ(SKV_E_STATE, refusal_of([&] { payload->need_complete(); }).status);
  }
}

TEST_F(CudaEngine, WantsMemoryItCanReach) {
  const Geometry g{1, 20, 1, {64, 64}, SKV_F16};
  Tensors source(g, Layout::kTokenMajor, true);
  DeviceTensors copy(*gpu->device(), source);
  Plan plan;
  plan.options.unproven = true;
  plan.set_strategy("uniform-8");
  solve(*gpu, plan, copy.cache(), nullptr);
  auto payload = Payload::create(copy.cache(), plan, {}, gpu->device());
  const Refusal host = refusal_of([&] { encode_layers(*gpu, source.cache(), plan, *payload, 0, 1); });
  EXPECT_EQ(SKV_E_ARGUMENT, host.status) << host.message;
  EXPECT_NE(std::string::npos, host.message.find("layer 0 K plane")) << host.message;
  encode_layers(*gpu, copy.cache(), plan, *payload, 0, 1);
  EXPECT_EQ(SKV_E_ARGUMENT, refusal_of([&] { decode_layers(*gpu, *payload, source.cache(), 0, 1); }).status);
  Scores scores;
  EXPECT_EQ(SKV_E_ARGUMENT, refusal_of([&] { score(*gpu, source.cache(), scores); }).status);
  std::vector<std::byte> buffer(plan.payload_bytes() + 16);
  void* at = buffer.data();
  size_t room = buffer.size();
  std::align(16, plan.payload_bytes(), at, room);
  EXPECT_EQ(SKV_E_ARGUMENT, refusal_of([&] {
                              Payload::create(copy.cache(), plan, {static_cast<std::byte*>(at), room}, gpu->device());
                            }).status);
  // A payload of one device and an engine of another.
  auto on_host = Payload::create(source.cache(), plan, {});
  EXPECT_EQ(SKV_E_ARGUMENT, refusal_of([&] { encode_layers(*gpu, copy.cache(), plan, *on_host, 0, 1); }).status);
}

TEST_F(CudaEngine, EncodesIntoTheCallersMemory) {
  const Geometry g{2, 128, 2, {128, 128}, SKV_F16};
  Tensors source(g, Layout::kTokenMajor, true);
  DeviceTensors copy(*gpu->device(), source);
  Plan plan;
  plan.options.unproven = true;
  plan.set_strategy("uniform-6");
  solve(cpu, plan, source.cache(), nullptr);
  const Device::Use use(*gpu->device());
  const auto buffer = gpu->device()->allocate(plan.payload_bytes());
  auto payload = Payload::create(copy.cache(), plan, {buffer.get(), plan.payload_bytes()}, gpu->device());
  encode_layers(*gpu, copy.cache(), plan, *payload, 0, 2);
  EXPECT_EQ(buffer.get(), payload->bytes().data());
  EXPECT_TRUE(same_bytes(*encode(cpu, source.cache(), plan), *payload));
}

// In device memory or in the host's: what is wrong with a payload is the same error, and nothing is written.
TEST_F(CudaEngine, RefusesDamagedPayloadsLikeTheCpu) {
  const Geometry g{2, 300, 2, {64, 64}, SKV_F16};
  Tensors source(g, Layout::kTokenMajor, true);
  Plan plan;
  plan.options.unproven = true;
  plan.set_fraction(0.3);
  solve(cpu, plan, source.cache(), nullptr);
  const auto made = encode(cpu, source.cache(), plan);
  const Segment& second = made->segments()[1];
  const std::vector<std::byte> good(made->bytes().begin(), made->bytes().end());
  Tensors empty(g, Layout::kPaged16, false);
  const auto decoded = [&](Engine& engine, Payload& payload, Cache& to) {
    return refusal_of([&] { decode_layers(engine, payload, to, 0, 2); });
  };
  const auto infinite_scale = [&](std::vector<std::byte> bytes) {  // sealed again: only the scale is wrong
    const uint16_t inf = 0x7C00;
    std::memcpy(bytes.data() + second.offset + second.layout.half[1].scales.offset + 20, &inf, 2);
    const std::span<std::byte> segment(bytes.data() + second.offset, second.layout.bytes);
    std::vector<uint64_t> leaves;
    for (uint64_t i = 0; i < leaf_count(segment.size()); ++i) {
      leaves.push_back(cpu.kernels().digest(leaf_of(segment, i).data(), leaf_of(segment, i).size()));
    }
    seal_segment(segment, leaves);
    return bytes;
  };
  const auto flipped = [&](uint64_t at) {
    std::vector<std::byte> bytes = good;
    bytes[at] ^= std::byte{4};
    return bytes;
  };
  const std::vector<std::byte> all[] = {
      flipped(second.offset + second.layout.half[1].nibble.offset + 7),   // codes: CHECKSUM when decoded
      flipped(second.offset + second.layout.half[0].vectors.offset + 9),  // a mean, finite: likewise
      flipped(second.offset + 60),                                        // the digest itself
      flipped(second.offset + second.layout.half[1].map.offset + 1),      // map: MALFORMED or CHECKSUM
      flipped(3),
      flipped(30),  // header digest
      flipped(second.offset + 24),
      infinite_scale(good),
      {good.begin(), good.end() - 16},
      {good.begin(), good.begin() + 100},
      good,
  };
  int refused = 0;
  for (const std::vector<std::byte>& bytes : all) {
    std::unique_ptr<Payload> host;
    std::unique_ptr<Payload> device;
    const auto memory = to_device(*gpu->device(), bytes);
    Refusal want = refusal_of([&] { host = Payload::open(bytes, nullptr); });
    Refusal got = refusal_of([&] { device = Payload::open_on(*gpu->device(), {memory.get(), bytes.size()}, nullptr); });
    EXPECT_EQ(want.message, got.message);
    EXPECT_EQ(want.status, got.status);
    if (want.status == SKV_OK && got.status == SKV_OK) {
      std::vector<uint8_t> tiers[2];
      for (int i = 0; i < 2; ++i) {
        tiers[i].resize(300);
        (i == 0 ? host : device)->tiers(1, SKV_K, tiers[i]);
      }
      EXPECT_EQ(tiers[0], tiers[1]);
      Tensors to(g, Layout::kPaged16, false);
      DeviceTensors on_gpu(*gpu->device(), empty);
      DeviceTensors from_host(*gpu->device(), empty);
      want = decoded(cpu, *host, to.cache());
      got = decoded(*gpu, *device, on_gpu.cache());
      EXPECT_EQ(want.message, got.message);
      EXPECT_EQ(want.status, got.status);
      EXPECT_EQ(want.message, decoded(*gpu, *Payload::open(bytes, nullptr), from_host.cache()).message);
      EXPECT_TRUE(on_gpu.equals(to));
      EXPECT_TRUE(from_host.equals(to));
      EXPECT_EQ(want.status != SKV_OK, to.untouched());
    }
    refused += want.status != SKV_OK ? 1 : 0;
  }
  EXPECT_EQ(10, refused);
  const auto memory = to_device(*gpu->device(), good);
  EXPECT_EQ(SKV_E_ARGUMENT, refusal_of([&] {
                              Payload::open_on(*gpu->device(), {memory.get() + 8, good.size() - 8}, nullptr);
                            }).status);
  EXPECT_EQ(SKV_E_ARGUMENT, refusal_of([&] {
                              Payload::open_on(*gpu->device(), {made->bytes().data(), good.size()}, nullptr);
                            }).status);
}

}  // namespace
}  // namespace skv::test
