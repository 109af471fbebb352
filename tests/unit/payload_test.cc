// SPDX-License-Identifier: Apache-2.0
// The payload reader against hostile bytes: every flipped bit, every cut, and a hundred thousand random mutations, half
// of them with their digests made good.
#include "payload.h"

#include <gtest/gtest.h>

#include <set>

#include "codec.h"
#include "error.h"
#include "payload_bytes.h"

namespace skv {
namespace {

using test::Bytes;
using test::digest_function;
using test::layer_spec;
using test::LayerSpec;
using test::payload_of;

std::span<const std::byte> own(std::span<const std::byte> bytes, const Segment& segment) {
  return bytes.subspan(segment.offset, segment.layout.bytes);
}

// What a reader does before it decodes: SKV_OK, or the status of the refusal.
skv_status read(std::span<const std::byte> bytes) {
  try {
    for (const Segment& segment : parse(bytes).segments) {
      verify_segment(own(bytes, segment), segment, digest_function());
      check_scales(own(bytes, segment), segment);
    }
  } catch (const Error& error) {
    EXPECT_FALSE(error.message().empty());
    return error.status();
  }
  return SKV_OK;
}

// Small payloads of every kind: map forms, codes, without V, several layers, one token.
std::vector<Bytes> samples() {
  std::mt19937 random(1);
  std::vector<Bytes> out;
  const auto add = [&](std::vector<LayerSpec> layers) { out.push_back(payload_of(random, layers)); };
  add({layer_spec(random, 0, 1, 1, 8, 8, 1)});
  add({layer_spec(random, 0, 70, 1, 8, 8, 1)});
  add({layer_spec(random, 0, 70, 2, 16, 8, 40)});
  add({layer_spec(random, 0, 40, 1, 8, 0, 1)});
  add({layer_spec(random, 0, 70, 1, 8, 16, 2, SKV_CODE_PAPER)});
  add({layer_spec(random, 0, 64, 1, 8, 8, 1), layer_spec(random, 1, 33, 2, 8, 0, 20),
       layer_spec(random, 2, 5, 1, 16, 8, 2)});
  return out;
}

TEST(Payload, SamplesAreGood) {
  for (const Bytes& bytes : samples()) EXPECT_EQ(read(bytes), SKV_OK);
}

TEST(Payload, ReaderFindsWhatTheWriterWrote) {
  std::mt19937 random(2);
  for (int i = 0; i < 200; ++i) {
    const auto tokens = static_cast<uint32_t>(1 + random() % 300);
    const auto dim = [&](uint32_t steps) { return static_cast<uint16_t>(8 * (1 + random() % steps)); };
    const std::vector<LayerSpec> layers = {
        layer_spec(random, 0, tokens, 1 + random() % 3, dim(4), dim(3), 1 + random() % 100),
        layer_spec(random, 1, 1 + random() % 90, 1, dim(2), 0, 1 + random() % 3)};
    const Bytes bytes = payload_of(random, layers);
    const Parsed parsed = parse(bytes);
    ASSERT_EQ(parsed.segments.size(), layers.size());
    for (size_t l = 0; l < layers.size(); ++l) {
      const Segment& segment = parsed.segments[l];
      EXPECT_EQ(segment.shape.tokens, layers[l].shape.tokens);
      EXPECT_EQ(segment.shape.first_position, layers[l].shape.first_position);
      for (int half = 0; half < 2; ++half) {
        const std::vector<uint8_t>& wanted = layers[l].tiers[half];
        const size_t first = wanted.empty() ? 0 : random() % wanted.size();
        const size_t count = wanted.empty() ? 0 : random() % (wanted.size() - first + 1);
        std::vector<uint8_t> got(count);
        read_tiers(own(bytes, segment), segment, half, first, got);
        EXPECT_TRUE(std::equal(got.begin(), got.end(), wanted.begin() + static_cast<ptrdiff_t>(first)));
      }
    }
  }
}

TEST(Payload, TiersBeyondTheSegmentAreRefused) {
  const Bytes bytes = samples()[3];
  const Segment segment = parse(bytes).segments[0];
  std::vector<uint8_t> out(41);
  const auto status = [&](int half, uint64_t first, size_t count) {
    try {
      read_tiers(own(bytes, segment), segment, half, first, std::span(out).first(count));
    } catch (const Error& error) {
      return error.status();
    }
    return skv_status{SKV_OK};
  };
  EXPECT_EQ(status(0, 0, 40), SKV_OK);
  EXPECT_EQ(status(0, 0, 41), SKV_E_RANGE);
  EXPECT_EQ(status(0, 40, 0), SKV_OK);
  EXPECT_EQ(status(0, 41, 0), SKV_E_RANGE);
  EXPECT_EQ(status(0, UINT64_MAX, 2), SKV_E_RANGE);
  EXPECT_EQ(status(1, 0, 0), SKV_OK);
  EXPECT_EQ(status(1, 0, 1), SKV_E_RANGE);
}

TEST(Payload, RunFormIsWrittenWhenItIsSmaller) {
  // 64 tokens: bit planes take 24 bytes, six runs as many, five less.
  for (const uint32_t changes : {5U, 6U, 7U}) {
    std::vector<uint8_t> tiers(64, 2);
    for (uint32_t i = 0; i < changes - 1; ++i) tiers[i] = i % 2 == 0 ? 4 : 5;
    TierCounts counts;
    uint32_t runs = 0;
    count_tiers(tiers, counts, runs);
    EXPECT_EQ(runs, changes < 6 ? changes : 0);
    EXPECT_EQ(counts.rows[2], 64 - (changes - 1));
  }
}

TEST(Payload, LayoutOfTheLargestShapesDoesNotOverflow) {
  for (const uint8_t tier : {1, 4, 5}) {
    SegmentShape shape{};
    shape.tokens = kMaxTokens;
    shape.heads = 1024;
    shape.dim[0] = shape.dim[1] = 4096;
    shape.chunk = 32;
    shape.raw_dtype = SKV_F32;
    shape.transforms[0] = shape.transforms[1] = 3;
    TierCounts counts[2];
    counts[0].rows[tier] = counts[1].rows[tier] = kMaxTokens;
    const uint32_t runs[2] = {0, kMaxTokens};
    const SegmentLayout layout = layout_of(shape, counts, runs);
    EXPECT_LT(layout.bytes, 1ULL << 56U);
    EXPECT_GE(layout.bytes, layout.half[1].raw.offset + layout.half[1].raw.bytes);
    EXPECT_GT(layout.half[1].raw.offset, 1ULL << 48U);
  }
}

TEST(Payload, EveryFlippedBitIsFound) {
  std::vector<Bytes> all = samples();
  for (Bytes& bytes : all) {
    for (size_t i = 0; i < bytes.size() * 8; ++i) {
      const auto bit = static_cast<std::byte>(1U << (i % 8));
      bytes[i / 8] ^= bit;
      ASSERT_NE(read(bytes), SKV_OK) << "bit " << i % 8 << " of byte " << i / 8;
      bytes[i / 8] ^= bit;
    }
    ASSERT_EQ(read(bytes), SKV_OK);
  }
}

TEST(Payload, FlippedBitsOfALongSegmentAreFound) {
  std::mt19937 random(3);
  const std::vector<LayerSpec> layers = {layer_spec(random, 0, 700, 4, 64, 64, 3)};
  Bytes bytes = payload_of(random, layers);
  ASSERT_GT(bytes.size(), 3 * kLeafBytes);
  const uint64_t head = parse(bytes).segments[0].layout.half[0].scales.offset;
  const auto check = [&](size_t at, unsigned bit) {
    bytes[at] ^= static_cast<std::byte>(1U << bit);
    ASSERT_NE(read(bytes), SKV_OK) << "bit " << bit << " of byte " << at;
    bytes[at] ^= static_cast<std::byte>(1U << bit);
  };
  for (size_t at = 0; at < kHeaderBytes + kSegmentHeaderBytes; ++at) {
    for (unsigned bit = 0; bit < 8; ++bit) check(at, bit);
  }
  for (int i = 0; i < 2000; ++i) check(kHeaderBytes + random() % head, random() % 8);
  for (int i = 0; i < 2000; ++i) check(random() % bytes.size(), random() % 8);
  for (uint64_t leaf = 1; leaf < leaf_count(bytes.size() - kHeaderBytes); ++leaf) {
    const size_t edge = kHeaderBytes + kSegmentHeaderBytes + leaf * kLeafBytes;
    check(edge - 1, 7);
    check(edge, 0);
  }
  check(bytes.size() - 1, 7);
}

TEST(Payload, EveryCutIsFound) {
  for (const Bytes& bytes : samples()) {
    for (size_t size = 0; size < bytes.size(); ++size) {
      // Exactly as long as it claims to be able to read: a copy lets the sanitizers see a step too far.
      Bytes cut(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(size));
      ASSERT_EQ(read(cut), SKV_E_TRUNCATED) << size;
      if (size < kHeaderBytes) continue;
      put<uint64_t>(cut, 16, size);
      test::seal_all(cut);
      ASSERT_EQ(read(cut), SKV_E_MALFORMED) << size;
    }
    Bytes longer = bytes;
    longer.push_back(std::byte{0});
    EXPECT_EQ(read(longer), SKV_E_TRAILING);
  }
}

TEST(Payload, DigestsOfOtherSegmentsDoNotHelp) {
  std::mt19937 random(4);
  const std::vector<LayerSpec> a = {layer_spec(random, 0, 40, 1, 8, 8, 1)};
  const Bytes first = payload_of(random, a);
  Bytes second = payload_of(random, a);
  ASSERT_EQ(first.size(), second.size());
  std::memcpy(second.data() + kHeaderBytes + 56, first.data() + kHeaderBytes + 56, 8);
  EXPECT_EQ(read(second), SKV_E_CHECKSUM);
}

// ------------------------------------------------------------------------------------------------ mutations

struct Field {
  size_t offset;
  size_t bytes;
};
constexpr Field kHeaderFields[] = {{4, 1},  {5, 1},  {6, 2},  {8, 4},  {12, 4},
                                   {16, 8}, {72, 8}, {80, 8}, {88, 4}, {92, 8}};
constexpr Field kSegmentFields[] = {{4, 4},  {8, 8},  {16, 4}, {20, 2}, {22, 2}, {24, 8}, {32, 2}, {34, 2}, {36, 2},
                                    {38, 1}, {39, 1}, {40, 1}, {41, 1}, {42, 1}, {43, 1}, {44, 4}, {48, 4}, {52, 4}};

class Mutator {
 public:
  explicit Mutator(uint32_t seed) : random_(seed) {}

  Bytes make(const std::vector<Bytes>& from) {
    Bytes bytes = from[below(from.size())];
    for (uint64_t n = 1 + below(4); n > 0; --n) mutate(bytes, from[below(from.size())]);
    if (below(4) != 0 && bytes.size() >= kHeaderBytes) put<uint64_t>(bytes, 16, bytes.size());
    if (below(2) != 0) test::seal_all(bytes);
    return bytes;
  }
  uint64_t below(uint64_t n) { return random_() % n; }

 private:
  void mutate(Bytes& bytes, const Bytes& other) {
    if (bytes.empty()) return;
    const uint64_t at = below(bytes.size());
    const uint64_t size = 1 + below(std::min<uint64_t>(64, bytes.size() - at));
    switch (below(8)) {
      case 0:  // a byte
        bytes[at] = static_cast<std::byte>(random_());
        return;
      case 1:  // many bytes
        for (uint64_t i = at; i < at + size; ++i) bytes[i] = static_cast<std::byte>(random_());
        return;
      case 2: {  // a piece of another payload over it
        const uint64_t from = below(other.size());
        const uint64_t count = std::min({size, bytes.size() - at, other.size() - from});
        std::memcpy(bytes.data() + at, other.data() + from, count);
        return;
      }
      case 3: {  // another payload's segments after it
        const auto begin = other.begin() + static_cast<ptrdiff_t>(std::min<size_t>(kHeaderBytes, other.size()));
        bytes.insert(bytes.end(), begin, other.end());
        return;
      }
      case 4:  // less
        bytes.erase(bytes.begin() + static_cast<ptrdiff_t>(at), bytes.begin() + static_cast<ptrdiff_t>(at + size));
        return;
      case 5:  // more
        bytes.insert(bytes.begin() + static_cast<ptrdiff_t>(at), size, static_cast<std::byte>(random_()));
        return;
      case 6:
        return field(bytes, 0, kHeaderFields[below(std::size(kHeaderFields))]);
      default:
        return field(bytes, segment(bytes), kSegmentFields[below(std::size(kSegmentFields))]);
    }
  }
  // The first byte of one of the segments.
  size_t segment(const Bytes& bytes) {
    size_t at = kHeaderBytes;
    while (bytes.size() > at + 2 * kSegmentHeaderBytes && below(2) != 0) {
      const auto size = take<uint64_t>(bytes, at + 8);
      if (size > bytes.size() - at - kSegmentHeaderBytes) break;
      at += std::max<uint64_t>(16, size);
    }
    return at;
  }
  void field(Bytes& bytes, size_t base, Field field) {
    if (bytes.size() < base + field.offset + field.bytes) return;
    uint64_t value = 0;
    std::memcpy(&value, bytes.data() + base + field.offset, field.bytes);
    const uint64_t edges[] = {0,           1,           2,           8,           16,         64,        4096,
                              1ULL << 28U, 1ULL << 29U, 1ULL << 31U, 1ULL << 62U, UINT64_MAX, value + 1, value - 1,
                              value * 2,   value + 16,  value - 16,  random_(),   value + 64, value / 2, value + 8};
    value = edges[below(std::size(edges))];
    std::memcpy(bytes.data() + base + field.offset, &value, field.bytes);
  }

  std::mt19937_64 random_;
};

// A cache that a payload's segments fit, token-major in f32.
class Destination {
 public:
  explicit Destination(const Parsed& parsed) : cache_(static_cast<int32_t>(parsed.segments.size())) {
    cache_.set(SKV_CACHE_CAN_MASK, 1);
    cache_.set_identity(parsed.header.fingerprint.data(), parsed.header.request_id.data());
    for (const Segment& segment : parsed.segments) {
      const SegmentShape& shape = segment.shape;
      const auto l = static_cast<int32_t>(shape.layer);
      cache_.set_tokens(l, static_cast<int64_t>(shape.first_position), shape.tokens);
      cache_.set_layer(l, shape.heads, shape.dim[0], shape.dim[1], SKV_F32);
      cache_.set_first_head(l, shape.first_head);
      cache_.set_group(l, shape.group);
      for (const int half : {0, 1}) {
        if (shape.dim[half] == 0) continue;
        const int64_t row = int64_t{shape.heads} * shape.dim[half] * 4;
        std::vector<std::byte>& plane = memory_.emplace_back(static_cast<size_t>(row) * shape.tokens);
        cache_.set_plane(l, half, plane.data(), plane.size(), 0, row, int64_t{shape.dim[half]} * 4, 4);
      }
    }
  }
  Cache& cache() { return cache_; }

 private:
  Cache cache_;
  std::vector<std::vector<std::byte>> memory_;
};

TEST(Payload, SurvivesRandomMutations) {
  const std::vector<Bytes> from = samples();
  const std::set<skv_status> refusals = {SKV_E_TRUNCATED, SKV_E_TRAILING, SKV_E_MALFORMED,
                                         SKV_E_VERSION,   SKV_E_FEATURE,  SKV_E_CHECKSUM};
  Mutator mutator(5);
  Engine engine(SKV_DEVICE_CPU);
  engine.set(SKV_ENGINE_THREADS, 1);
  std::set<skv_status> seen;
  int parsed_count = 0;
  int decoded = 0;
  for (int i = 0; i < 100'000; ++i) {
    const Bytes bytes = mutator.make(from);
    const skv_status status = read(bytes);
    seen.insert(status);
    ASSERT_TRUE(status == SKV_OK || refusals.contains(status)) << status_name(status);
    Parsed parsed;
    try {
      parsed = parse(bytes);
    } catch (const Error&) {
      continue;
    }
    ++parsed_count;
    uint64_t at = kHeaderBytes;
    uint64_t elements = 0;
    for (const Segment& segment : parsed.segments) {
      ASSERT_EQ(segment.offset, at);
      at += segment.layout.bytes;
      const SegmentShape& shape = segment.shape;
      elements += uint64_t{shape.tokens} * shape.heads * (uint64_t{shape.dim[0]} + shape.dim[1]);
      for (const int half : {0, 1}) {
        if (shape.dim[half] == 0 || shape.tokens > 1U << 20U) continue;
        const uint64_t first = mutator.below(shape.tokens);
        std::vector<uint8_t> part(1 + mutator.below(shape.tokens - first));
        read_tiers(own(bytes, segment), segment, half, first, part);
        std::vector<uint8_t> all(shape.tokens);
        read_tiers(own(bytes, segment), segment, half, 0, all);
        ASSERT_TRUE(std::equal(part.begin(), part.end(), all.begin() + static_cast<ptrdiff_t>(first)));
        TierCounts counts;
        uint32_t runs = 0;
        count_tiers(all, counts, runs);
        ASSERT_TRUE(std::equal(counts.rows, counts.rows + 8, segment.counts[half].rows));
      }
    }
    ASSERT_EQ(at, bytes.size());
    if (elements > 1U << 20U) continue;
    Destination destination(parsed);
    try {
      const auto payload = Payload::open(bytes, nullptr);
      decode_layers(engine, *payload, destination.cache(), 0, destination.cache().layer_count());
      ASSERT_EQ(status, SKV_OK);
      ++decoded;
    } catch (const Error& error) {
      ASSERT_EQ(error.status(), status) << error.message();
    }
  }
  // The mutations reach every refusal and every depth.
  EXPECT_EQ(seen.size(), refusals.size() + 1);
  EXPECT_GT(parsed_count, 5000);
  EXPECT_GT(decoded, 1000);
  EXPECT_LT(decoded, parsed_count);
}

}  // namespace
}  // namespace skv
