// SPDX-License-Identifier: Apache-2.0
// Encode and decode as a whole: equal bytes for every target, thread count and source layout; decoding into any other
// layout, block size, dtype or head range.
#include "codec.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "error.h"
#include "tensors.h"

namespace skv {
namespace {

using test::Geometry;
using test::Layout;
using test::Tensors;

std::vector<int32_t> targets() {
  std::vector<int32_t> found;
  for (int32_t t = SKV_TARGET_SCALAR; t <= SKV_TARGET_NEON; ++t) {
    if (kernels::kernels_of(t) != nullptr) found.push_back(t);
  }
  return found;
}

std::vector<std::byte> copy_of(const Payload& payload) { return {payload.bytes().begin(), payload.bytes().end()}; }

void budget(Plan& plan, double fraction, const char* strategy = "error-aware") {
  plan.options.unproven = true;
  plan.set_strategy(strategy);
  plan.set_fraction(fraction);
}

std::unique_ptr<Payload> encode(Engine& engine, Tensors& from, Plan& plan) {
  solve(engine, plan, from.cache(), nullptr);
  auto payload = Payload::create(from.cache(), plan, {});
  encode_layers(engine, from.cache(), plan, *payload, 0, from.cache().layer_count());
  return payload;
}

std::unique_ptr<Payload> open(const std::vector<std::byte>& bytes) { return Payload::open(bytes, nullptr); }

// Largest difference between two caches, relative to the largest value.
double worst(const Geometry& g, const Tensors& a, const Tensors& b, int half) {
  double most = 0;
  double top = 0;
  for (int32_t l = 0; l < g.layers; ++l) {
    for (int32_t t = 0; t < g.tokens; ++t) {
      for (int32_t h = 0; h < g.heads; ++h) {
        for (int32_t c = 0; c < g.dim[half]; ++c) {
          most = std::max<double>(most, std::abs(a.at(l, half, t, h, c) - b.at(l, half, t, h, c)));
          top = std::max<double>(top, std::abs(a.at(l, half, t, h, c)));
        }
      }
    }
  }
  return most / top;
}

TEST(Codec, BytesAreEqualForEveryTargetThreadCountAndSourceLayout) {
  for (const int32_t dim : {64, 80, 128, 256}) {
    for (const int32_t dtype : {SKV_F16, SKV_BF16, SKV_F32}) {
      Geometry g;
      g.dim[0] = g.dim[1] = dim;
      g.dtype = dtype;
      g.tokens = dim == 64 ? 601 : 130;
      for (const char* strategy : {"error-aware", "greedy", "raw", "uniform-2", "uniform-6"}) {
        std::vector<std::byte> expected;
        for (const int32_t target : targets()) {
          for (const int32_t threads : {1, 2, 4}) {
            for (const Layout layout : {Layout::kTokenMajor, Layout::kHeadMajor, Layout::kPaged16,
                                        Layout::kPaged32Padded, Layout::kTransposed}) {
              if (layout != Layout::kTokenMajor && threads != 2) continue;
              Engine engine(SKV_DEVICE_CPU);
              engine.set(SKV_ENGINE_TARGET, target);
              engine.set(SKV_ENGINE_THREADS, threads);
              Tensors from(g, layout, true);
              Plan plan;
              budget(plan, dtype == SKV_F32 ? 0.5 : 0.4, strategy);
              const auto payload = encode(engine, from, plan);
              if (expected.empty()) {
                expected = copy_of(*payload);
              } else {
                ASSERT_EQ(expected.size(), payload->bytes().size());
                ASSERT_EQ(0, std::memcmp(expected.data(), payload->bytes().data(), expected.size()))
                    << strategy << " dim " << dim << " dtype " << dtype << " target " << target << " threads "
                    << threads << " layout " << static_cast<int>(layout);
              }
            }
          }
        }
      }
    }
  }
}

TEST(Codec, DecodesIntoAnyOtherLayoutBlockSizeAndDtype) {
  Geometry g;
  g.tokens = 331;
  Engine engine(SKV_DEVICE_CPU);
  Tensors from(g, Layout::kPaged16, true);
  Plan plan;
  budget(plan, 0.6);
  const std::vector<std::byte> bytes = copy_of(*encode(engine, from, plan));
  for (const int32_t dtype : {SKV_F16, SKV_BF16, SKV_F32}) {
    Geometry to_geometry = g;
    to_geometry.dtype = dtype;
    Tensors reference(to_geometry, Layout::kTokenMajor, false);
    decode_layers(engine, *open(bytes), reference.cache(), 0, g.layers);
    EXPECT_LT(worst(g, from, reference, SKV_K), 0.02);
    EXPECT_LT(worst(g, from, reference, SKV_V), 0.02);
    for (const int32_t target : targets()) {
      engine.set(SKV_ENGINE_TARGET, target);
      for (const Layout layout : {Layout::kHeadMajor, Layout::kPaged16, Layout::kPaged32Padded, Layout::kTransposed}) {
        Tensors to(to_geometry, layout, false);
        decode_layers(engine, *open(bytes), to.cache(), 0, g.layers);
        EXPECT_EQ(0, worst(g, reference, to, SKV_K)) << "target " << target << " layout " << static_cast<int>(layout);
        EXPECT_EQ(0, worst(g, reference, to, SKV_V)) << "target " << target << " layout " << static_cast<int>(layout);
      }
    }
  }
}

TEST(Codec, RawIsLossless) {
  for (const int32_t dtype : {SKV_F16, SKV_BF16, SKV_F32}) {
    Geometry g;
    g.dtype = dtype;
    Engine engine(SKV_DEVICE_CPU);
    Tensors from(g, Layout::kTokenMajor, true);
    from.put(0, SKV_K, 17, 1, 5, INFINITY);  // RAW rows may hold anything
    Plan plan;
    plan.set_strategy("raw");
    const auto bytes = copy_of(*encode(engine, from, plan));
    Tensors to(g, Layout::kPaged16, false);
    decode_layers(engine, *open(bytes), to.cache(), 0, g.layers);
    for (int32_t t = 0; t < g.tokens; ++t) {
      for (int32_t c = 0; c < g.dim[0]; ++c) {
        ASSERT_EQ(tiers::bits_of(from.at(0, SKV_K, t, 1, c)), tiers::bits_of(to.at(0, SKV_K, t, 1, c)));
      }
    }
  }
}

TEST(Codec, HeadSubsetOfThePayloadDecodesAlone) {
  Geometry g;
  g.heads = 4;
  Engine engine(SKV_DEVICE_CPU);
  Tensors from(g, Layout::kTokenMajor, true);
  Plan plan;
  budget(plan, 0.5);
  const auto bytes = copy_of(*encode(engine, from, plan));
  Tensors whole(g, Layout::kTokenMajor, false);
  decode_layers(engine, *open(bytes), whole.cache(), 0, g.layers);
  Geometry part = g;
  part.heads = 2;
  Tensors to(part, Layout::kHeadMajor, false);
  to.cache().set_first_head(SKV_ALL, 1);
  decode_layers(engine, *open(bytes), to.cache(), 0, g.layers);
  for (int32_t t = 0; t < g.tokens; ++t) {
    for (int32_t c = 0; c < 64; ++c) {
      ASSERT_EQ(whole.at(1, SKV_K, t, 1, c), to.at(1, SKV_K, t, 0, c));
      ASSERT_EQ(whole.at(1, SKV_V, t, 2, c), to.at(1, SKV_V, t, 1, c));
    }
  }
  to.cache().set_first_head(SKV_ALL, 3);  // heads 3 and 4 of 4
  try {
    decode_layers(engine, *open(bytes), to.cache(), 0, g.layers);
    FAIL() << "heads beyond the payload's were accepted";
  } catch (const Error& e) {
    EXPECT_EQ(SKV_E_LAYOUT, e.status());
  }
}

TEST(Codec, LayerByLayerGivesTheSameBytes) {
  Geometry g;
  g.layers = 3;
  Engine engine(SKV_DEVICE_CPU);
  Tensors from(g, Layout::kTokenMajor, true);
  Plan plan;
  budget(plan, 0.35);
  const auto whole = copy_of(*encode(engine, from, plan));
  std::vector<std::byte> buffer(plan.payload_bytes() + 16);
  auto* aligned = reinterpret_cast<std::byte*>((reinterpret_cast<uintptr_t>(buffer.data()) + 15) / 16 * 16);
  auto payload = Payload::create(from.cache(), plan, {aligned, plan.payload_bytes()});
  for (const int32_t l : {2, 0, 1}) {
    EXPECT_FALSE(payload->complete());
    encode_layers(engine, from.cache(), plan, *payload, l, 1);
  }
  ASSERT_TRUE(payload->complete());
  EXPECT_EQ(0, std::memcmp(whole.data(), payload->bytes().data(), whole.size()));
  EXPECT_THROW(encode_layers(engine, from.cache(), plan, *payload, 1, 1), Error);
}

TEST(Codec, FailedLayerIsLeftZeroAndMayBeEncodedAgain) {
  Geometry g;
  Engine engine(SKV_DEVICE_CPU);
  Tensors from(g, Layout::kTokenMajor, true);
  Plan plan;
  budget(plan, 0.35);
  const auto whole = copy_of(*encode(engine, from, plan));
  auto payload = Payload::create(from.cache(), plan, {});
  const float before = from.at(1, SKV_V, 123, 1, 9);
  for (const float bad : {INFINITY, -INFINITY, NAN}) {
    from.put(1, SKV_V, 123, 1, 9, bad);
    try {
      encode_layers(engine, from.cache(), plan, *payload, 1, 1);
      FAIL() << "a row with " << bad << " was quantized";
    } catch (const Error& e) {
      EXPECT_EQ(SKV_E_NON_FINITE, e.status());
      EXPECT_NE(std::string::npos, e.message().find("layer 1 V token 123 head 1")) << e.message();
    }
    for (const std::byte b : payload->segment_bytes(1)) ASSERT_EQ(std::byte{0}, b);
  }
  from.put(1, SKV_V, 123, 1, 9, before);
  encode_layers(engine, from.cache(), plan, *payload, 0, 2);
  EXPECT_EQ(0, std::memcmp(whole.data(), payload->bytes().data(), whole.size()));
}

TEST(Codec, NonFiniteKeyIsNamedByItsRow) {
  Geometry g;
  Engine engine(SKV_DEVICE_CPU);
  Tensors from(g, Layout::kTokenMajor, true);
  Plan plan;
  budget(plan, 0.35);
  encode(engine, from, plan);
  from.put(0, SKV_K, 271, 0, 63, NAN);
  auto payload = Payload::create(from.cache(), plan, {});
  try {
    encode_layers(engine, from.cache(), plan, *payload, 0, 2);
    FAIL() << "a NaN key was quantized";
  } catch (const Error& e) {
    EXPECT_EQ(SKV_E_NON_FINITE, e.status());
    EXPECT_NE(std::string::npos, e.message().find("layer 0 K token 271 head 0")) << e.message();
  }
}

TEST(Codec, ValuesBeyondTheScaleOverflow) {
  Geometry g;
  g.dtype = SKV_F32;
  Engine engine(SKV_DEVICE_CPU);
  Tensors from(g, Layout::kTokenMajor, true);
  Plan plan;
  plan.set_strategy("uniform-8");
  encode(engine, from, plan);
  from.put(0, SKV_V, 20, 0, 0, 1e30F);
  auto payload = Payload::create(from.cache(), plan, {});
  try {
    encode_layers(engine, from.cache(), plan, *payload, 0, 2);
    FAIL() << "1e30 was quantized";
  } catch (const Error& e) {
    EXPECT_EQ(SKV_E_OVERFLOW, e.status());
  }
}

TEST(Codec, DroppedRowsNeedADestinationThatCanMask) {
  Geometry g;
  g.tokens = 70;
  Engine engine(SKV_DEVICE_CPU);
  Tensors from(g, Layout::kTokenMajor, true);
  from.cache().set(SKV_CACHE_CAN_MASK, 1);
  Plan plan;
  plan.options.unproven = true;
  plan.set_strategy("uniform-4");
  solve(engine, plan, from.cache(), nullptr);
  std::vector<uint8_t> tiers(70, 2);
  tiers[33] = tiers::kDrop;
  plan.set_tiers(0, SKV_K, tiers);
  plan.set_tiers(0, SKV_V, tiers);
  auto payload = Payload::create(from.cache(), plan, {});
  encode_layers(engine, from.cache(), plan, *payload, 0, 2);
  const auto bytes = copy_of(*payload);
  Tensors to(g, Layout::kTokenMajor, false);
  try {
    decode_layers(engine, *open(bytes), to.cache(), 0, 2);
    FAIL() << "dropped rows were decoded into a cache that cannot mask";
  } catch (const Error& e) {
    EXPECT_EQ(SKV_E_PERMITTED, e.status());
    EXPECT_TRUE(to.untouched());
  }
  to.cache().set(SKV_CACHE_CAN_MASK, 1);
  to.put(0, SKV_K, 33, 0, 0, 5.0F);
  decode_layers(engine, *open(bytes), to.cache(), 0, 2);
  EXPECT_EQ(0.0F, to.at(0, SKV_K, 33, 0, 0));
  EXPECT_NE(0.0F, to.at(0, SKV_K, 34, 0, 0));
}

TEST(Codec, CorruptSegmentWritesNothingAnywhere) {
  Geometry g;
  Engine engine(SKV_DEVICE_CPU);
  Tensors from(g, Layout::kTokenMajor, true);
  Plan plan;
  budget(plan, 0.35);
  auto bytes = copy_of(*encode(engine, from, plan));
  bytes[bytes.size() - 100] ^= std::byte{4};  // in the last layer
  Tensors to(g, Layout::kTokenMajor, false);
  const auto payload = open(bytes);
  try {
    decode_layers(engine, *payload, to.cache(), 0, g.layers);
    FAIL() << "a flipped bit was decoded";
  } catch (const Error& e) {
    EXPECT_EQ(SKV_E_CHECKSUM, e.status());
  }
  EXPECT_TRUE(to.untouched());
}

TEST(Codec, LatentLayersWithoutValues) {
  Geometry g;
  g.heads = 1;
  g.dim[0] = 576;
  g.dim[1] = 0;
  Engine engine(SKV_DEVICE_CPU);
  Tensors from(g, Layout::kTokenMajor, true);
  Plan plan;
  budget(plan, 0.4);
  const auto payload = encode(engine, from, plan);
  Tensors to(g, Layout::kPaged16, false);
  decode_layers(engine, *open(copy_of(*payload)), to.cache(), 0, g.layers);
  EXPECT_LT(worst(g, from, to, SKV_K), 0.1);
}

TEST(Codec, OneToken) {
  Geometry g;
  g.tokens = 1;
  Engine engine(SKV_DEVICE_CPU);
  Tensors from(g, Layout::kTokenMajor, true);
  Plan plan;
  plan.set(SKV_PLAN_SINKS, 0);
  plan.set_strategy("uniform-8");
  const auto payload = encode(engine, from, plan);
  Tensors to(g, Layout::kTokenMajor, false);
  decode_layers(engine, *open(copy_of(*payload)), to.cache(), 0, g.layers);
  EXPECT_LT(worst(g, from, to, SKV_K), 0.01);
  EXPECT_LT(worst(g, from, to, SKV_V), 0.01);
}

}  // namespace
}  // namespace skv
