// SPDX-License-Identifier: Apache-2.0
#include "cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <limits>
#include <numeric>
#include <random>
#include <string>

#include "error.h"

namespace skv {
namespace {

// Views are never read, so their memory may be made up; addresses are multiples of 4096.
void* at(uint64_t address) { return reinterpret_cast<void*>(address); }
constexpr uint64_t kHere = 0x100000000ULL;
constexpr int64_t kMax = std::numeric_limits<int64_t>::max();

skv_status status_of(const std::function<void()>& call, std::string* message = nullptr) {
  try {
    call();
  } catch (const Error& error) {
    if (message != nullptr) *message = error.message();
    return error.status();
  }
  return SKV_OK;
}

// Token-major layers far apart: heads x dim of f16, 2 heads of 8.
Cache plain(int32_t layers, int64_t tokens) {
  Cache cache(layers);
  cache.set_tokens(SKV_ALL, 0, tokens);
  cache.set_layer(SKV_ALL, 2, 8, 8, SKV_F16);
  const auto bytes = static_cast<uint64_t>(tokens) * 32;
  for (int32_t i = 0; i < layers; ++i) {
    for (int half = 0; half < 2; ++half) {
      const uint64_t plane = kHere + (static_cast<uint64_t>(i) * 2 + static_cast<uint64_t>(half)) * bytes;
      cache.set_plane(i, half, at(plane), bytes, 0, 32, 16, 2);
    }
  }
  return cache;
}

TEST(Cache, RejectsArgumentsOutOfRange) {
  EXPECT_EQ(status_of([] { Cache(0); }), SKV_E_RANGE);
  EXPECT_EQ(status_of([] { Cache(4097); }), SKV_E_RANGE);
  EXPECT_EQ(status_of([] { Cache(4096); }), SKV_OK);
  Cache c(2);
  for (const int32_t layer : {-2, 2, 1 << 30}) {
    EXPECT_EQ(status_of([&] { c.set_tokens(layer, 0, 1); }), SKV_E_RANGE);
    EXPECT_EQ(status_of([&] { c.set_plane(layer, 0, at(kHere), 8, 0, 0, 0, 0); }), SKV_E_RANGE);
  }
  EXPECT_EQ(status_of([&] { c.set_tokens(0, -1, 1); }), SKV_E_RANGE);
  EXPECT_EQ(status_of([&] { c.set_tokens(0, kMax, 1); }), SKV_E_RANGE);
  EXPECT_EQ(status_of([&] { c.set_tokens(0, 0, 0); }), SKV_E_EMPTY);
  EXPECT_EQ(status_of([&] { c.set_tokens(0, 0, -1); }), SKV_E_RANGE);
  EXPECT_EQ(status_of([&] { c.set_tokens(0, 0, (int64_t{1} << 28) + 1); }), SKV_E_RANGE);
  EXPECT_EQ(status_of([&] { c.set_tokens(SKV_ALL, 5, int64_t{1} << 28); }), SKV_OK);
  EXPECT_EQ(status_of([&] { c.set_layer(0, 0, 8, 8, SKV_F16); }), SKV_E_RANGE);
  EXPECT_EQ(status_of([&] { c.set_layer(0, 1025, 8, 8, SKV_F16); }), SKV_E_RANGE);
  for (const int32_t dim : {-8, 4, 12, 4104}) {
    EXPECT_EQ(status_of([&] { c.set_layer(0, 1, dim, 8, SKV_F16); }), SKV_E_GEOMETRY) << dim;
    EXPECT_EQ(status_of([&] { c.set_layer(0, 1, 8, dim, SKV_F16); }), SKV_E_GEOMETRY) << dim;
  }
  EXPECT_EQ(status_of([&] { c.set_layer(0, 1, 0, 8, SKV_F16); }), SKV_E_GEOMETRY);
  EXPECT_EQ(status_of([&] { c.set_layer(0, 1, 8, 0, SKV_F16); }), SKV_OK);
  for (const int32_t dtype : {-1, 0, 4}) EXPECT_EQ(status_of([&] { c.set_layer(0, 1, 8, 8, dtype); }), SKV_E_DTYPE);
  EXPECT_EQ(status_of([&] { c.set_first_head(0, -1); }), SKV_E_RANGE);
  EXPECT_EQ(status_of([&] { c.set_first_head(0, 65536); }), SKV_E_RANGE);
  EXPECT_EQ(status_of([&] { c.set_group(0, 256); }), SKV_E_RANGE);
  EXPECT_EQ(status_of([&] { c.set(2, 1); }), SKV_E_KEY);
  EXPECT_EQ(status_of([&] { c.set(SKV_CACHE_CAN_MASK, 2); }), SKV_E_RANGE);
}

TEST(Cache, RejectsPlanesThatMakeNoSense) {
  Cache c(1);
  const auto plane = [&](int32_t half, void* base, size_t bytes, int64_t block, int64_t token, int64_t head,
                         int64_t elem) {
    return status_of([&] { c.set_plane(0, half, base, bytes, block, token, head, elem); });
  };
  EXPECT_EQ(plane(2, at(kHere), 64, 0, 32, 16, 2), SKV_E_RANGE);
  EXPECT_EQ(plane(SKV_ALL, at(kHere), 64, 0, 32, 16, 2), SKV_E_RANGE);
  EXPECT_EQ(plane(0, nullptr, 64, 0, 32, 16, 2), SKV_E_NULL);
  EXPECT_EQ(plane(0, at(kHere), 0, 0, 32, 16, 2), SKV_E_RANGE);
  EXPECT_EQ(plane(0, at(kHere), SIZE_MAX, 0, 32, 16, 2), SKV_E_RANGE);
  EXPECT_EQ(plane(0, at(kHere + 1), 64, 0, 32, 16, 2), SKV_E_STRIDE);
  EXPECT_EQ(plane(0, at(kHere), 64, -2, 32, 16, 2), SKV_E_STRIDE);
  EXPECT_EQ(plane(0, at(kHere), 64, 0, -32, 16, 2), SKV_E_STRIDE);
  EXPECT_EQ(plane(0, at(kHere), 64, 0, 32, std::numeric_limits<int64_t>::min(), 2), SKV_E_STRIDE);
  EXPECT_EQ(plane(0, at(kHere), 64, 0, 32, 16, 3), SKV_E_STRIDE);
  EXPECT_EQ(plane(0, at(kHere), 64, 7, 32, 16, 2), SKV_OK);  // no block table: stride_block is ignored
  const int32_t ids[] = {0, -1};
  EXPECT_EQ(status_of([&] { c.set_blocks(0, nullptr, 1, 16); }), SKV_E_NULL);
  EXPECT_EQ(status_of([&] { c.set_blocks(0, ids, 0, 16); }), SKV_E_RANGE);
  EXPECT_EQ(status_of([&] { c.set_blocks(0, ids, 1, 0); }), SKV_E_RANGE);
  EXPECT_EQ(status_of([&] { c.set_blocks(0, ids, 1, 65537); }), SKV_E_RANGE);
  EXPECT_EQ(status_of([&] { c.set_blocks(0, ids, 2, 16); }), SKV_E_BLOCK_ID);
}

TEST(Cache, CheckNamesWhatWasNeverSet) {
  Cache c(2);
  std::string message;
  EXPECT_EQ(status_of([&] { c.check(); }, &message), SKV_E_EMPTY);
  EXPECT_EQ(status_of([&] { c.raw_bytes(); }), SKV_E_EMPTY);
  c.set_tokens(SKV_ALL, 0, 4);
  EXPECT_EQ(status_of([&] { c.check(); }, &message), SKV_E_EMPTY);
  EXPECT_NE(message.find("geometry"), std::string::npos);
  c.set_layer(SKV_ALL, 2, 8, 0, SKV_F16);
  c.set_plane(0, SKV_K, at(kHere), 4 * 32, 0, 32, 16, 2);
  EXPECT_EQ(status_of([&] { c.check(); }, &message), SKV_E_EMPTY);
  EXPECT_EQ(message, "layer 1 K plane: not set");
  c.set_plane(1, SKV_K, at(kHere + 128), 4 * 32, 0, 32, 16, 2);
  EXPECT_EQ(status_of([&] { c.check(); }), SKV_OK);  // v_dim 0: no V plane
  EXPECT_EQ(c.raw_bytes(), 2U * 4 * 2 * 8 * 2);
  c.set_layer(1, 2, 8, 8, SKV_F16);
  EXPECT_EQ(status_of([&] { c.check(); }, &message), SKV_E_EMPTY);  // a setter forgets the last check
}

TEST(Cache, ElementsMustEndInsideThePlane) {
  Cache c = plain(1, 4);
  c.check();
  c.set_plane(0, SKV_K, at(kHere), 127, 0, 32, 16, 2);
  EXPECT_EQ(status_of([&] { c.check(); }), SKV_E_STRIDE);
  c.set_plane(0, SKV_K, at(kHere), 128, 0, 32, 16, 2);
  EXPECT_EQ(status_of([&] { c.check(); }), SKV_OK);
  for (int stride = 0; stride < 3; ++stride) {  // products far beyond 64 bits
    int64_t s[3] = {32, 16, 2};
    s[stride] = kMax - 1;
    c.set_plane(0, SKV_K, at(kHere), 128, 0, s[0], s[1], s[2]);
    EXPECT_EQ(status_of([&] { c.check(); }), SKV_E_STRIDE) << stride;
  }
  c.set_plane(0, SKV_K, at(kHere), 128, 0, int64_t{1} << 62, 16, 2);  // 4 x 2^62 wraps to 0 in 64 bits
  EXPECT_EQ(status_of([&] { c.check(); }), SKV_E_STRIDE);
}

TEST(Cache, StridesMustFitTheElementSize) {
  Cache c = plain(1, 4);
  c.set_layer(0, 2, 8, 8, SKV_F32);
  for (int half = 0; half < 2; ++half) {
    c.set_plane(0, half, at(kHere + 4096U * static_cast<uint32_t>(half)), 4096, 0, 64, 32, 4);
  }
  EXPECT_EQ(status_of([&] { c.check(); }), SKV_OK);
  c.set_plane(0, SKV_V, at(kHere + 4096), 4096, 0, 66, 32, 4);
  EXPECT_EQ(status_of([&] { c.check(); }), SKV_E_STRIDE);
  c.set_plane(0, SKV_V, at(kHere + 4098), 4000, 0, 64, 32, 4);
  EXPECT_EQ(status_of([&] { c.check(); }), SKV_E_STRIDE);
}

TEST(Cache, StridesMustNest) {
  Cache c = plain(1, 4);
  std::string message;
  c.set_plane(0, SKV_K, at(kHere + (1U << 20U)), 4096, 0, 30, 16, 2);
  EXPECT_EQ(status_of([&] { c.check(); }, &message), SKV_E_STRIDE);
  EXPECT_EQ(message, "layer 0 K plane: stride_token 30 < 32 bytes that lie below it");
  c.set_plane(0, SKV_K, at(kHere + (1U << 20U)), 4096, 0, 0, 16, 2);
  EXPECT_EQ(status_of([&] { c.check(); }), SKV_E_STRIDE);
  c.set_plane(0, SKV_K, at(kHere + (1U << 20U)), 4096, 0, 16, 64, 2);  // head-major
  EXPECT_EQ(status_of([&] { c.check(); }), SKV_OK);
  c.set_plane(0, SKV_K, at(kHere + (1U << 20U)), 4096, 0, 2, 64, 8);  // transposed: [head][channel][token]
  EXPECT_EQ(status_of([&] { c.check(); }), SKV_OK);
  c.set_plane(0, SKV_K, at(kHere + (1U << 20U)), 4096, 0, 34, 16, 2);  // padded
  EXPECT_EQ(status_of([&] { c.check(); }), SKV_OK);
}

TEST(Cache, FusedRowsAreApart) {
  Cache c(1);
  c.set_tokens(0, 0, 100);
  c.set_layer(0, 2, 8, 8, SKV_F16);
  c.set_plane(0, SKV_K, at(kHere), 6400, 0, 64, 32, 2);  // [token][head][K|V]
  c.set_plane(0, SKV_V, at(kHere + 16), 6400 - 16, 0, 64, 32, 2);
  EXPECT_EQ(status_of([&] { c.check(); }), SKV_OK);
  c.set_plane(0, SKV_V, at(kHere + 8), 6400 - 8, 0, 64, 32, 2);  // half a row
  std::string message;
  EXPECT_EQ(status_of([&] { c.check(); }, &message), SKV_E_OVERLAP);
  EXPECT_EQ(message, "layer 0 K plane and layer 0 V plane share memory");
  c.set_plane(0, SKV_V, at(kHere + 18), 6400, 0, 64, 32, 2);  // runs into the next K
  EXPECT_EQ(status_of([&] { c.check(); }), SKV_E_OVERLAP);
  c.set_plane(0, SKV_V, at(kHere), 6400, 0, 64, 32, 2);
  EXPECT_EQ(status_of([&] { c.check(); }), SKV_E_OVERLAP);
}

TEST(Cache, LayersMayShareAPool) {
  constexpr int32_t kLayers = 6;
  constexpr int64_t kPage = 16 * 32;  // tokens x row
  Cache c(kLayers);
  c.set_tokens(SKV_ALL, 0, 70);  // 4 full blocks and 6 tokens
  c.set_layer(SKV_ALL, 2, 8, 8, SKV_F16);
  const int32_t ids[] = {9, 2, 7, 0, 4};
  c.set_blocks(SKV_ALL, ids, 5, 16);
  for (int32_t i = 0; i < kLayers; ++i) {
    for (int half = 0; half < 2; ++half) {
      const int64_t offset = (i * 2 + half) * kPage;
      c.set_plane(i, half, at(kHere + static_cast<uint64_t>(offset)), 10 * 12 * kPage - static_cast<size_t>(offset),
                  12 * kPage, 32, 16, 2);
    }
  }
  EXPECT_EQ(status_of([&] { c.check(); }), SKV_OK);
  const CacheLayer& one = c.layer(1);
  c.set_plane(2, SKV_V, one.plane[SKV_V].base, one.plane[SKV_V].bytes, 12 * kPage, 32, 16, 2);
  EXPECT_EQ(status_of([&] { c.check(); }), SKV_E_OVERLAP);
  const int32_t others[] = {1, 3, 5, 6, 8};  // the same memory under other ids is apart
  c.set_blocks(2, others, 5, 16);
  c.set_plane(2, SKV_K, one.plane[SKV_K].base, one.plane[SKV_K].bytes, 12 * kPage, 32, 16, 2);
  EXPECT_EQ(status_of([&] { c.check(); }), SKV_OK);
  const int32_t shared[] = {1, 3, 5, 6, 7};
  c.set_blocks(2, shared, 5, 16);
  EXPECT_EQ(status_of([&] { c.check(); }), SKV_E_OVERLAP);
  // Block 4 holds 6 tokens here: 10 tokens of it are free for another one's last block, if its plane begins there.
  c.set_tokens(2, 0, 2);
  const int32_t tail[] = {4};
  c.set_blocks(2, tail, 1, 16);
  for (int half = 0; half < 2; ++half) {
    c.set_plane(2, half, one.plane[half].base + 6 * 32, one.plane[half].bytes - 192, 12 * kPage, 32, 16, 2);
  }
  EXPECT_EQ(status_of([&] { c.check(); }), SKV_OK);
  c.set_plane(2, SKV_K, one.plane[SKV_K].base + 5 * 32, one.plane[SKV_K].bytes - 160, 12 * kPage, 32, 16, 2);
  EXPECT_EQ(status_of([&] { c.check(); }), SKV_E_OVERLAP);
}

TEST(Cache, BlockIdsMustBeDistinctInsideAndEnough) {
  Cache c = plain(1, 32);
  const auto with = [&](std::vector<int32_t> ids, int64_t stride_block = 16 * 32, size_t bytes = 10 * 16 * 32) {
    c.set_blocks(0, ids.data(), ids.size(), 16);
    for (int half = 0; half < 2; ++half) {
      c.set_plane(0, half, at(kHere + 65536U * static_cast<uint32_t>(half)), bytes, stride_block, 32, 16, 2);
    }
    return status_of([&] { c.check(); });
  };
  EXPECT_EQ(with({3, 9}), SKV_OK);
  EXPECT_EQ(with({3, 9, 3}), SKV_OK);  // ids beyond the tokens are not looked at
  EXPECT_EQ(with({3, 3}), SKV_E_BLOCK_ID);
  EXPECT_EQ(with({3, 10}), SKV_E_BLOCK_ID);
  EXPECT_EQ(with({3}), SKV_E_BLOCK_ID);
  EXPECT_EQ(with({3, std::numeric_limits<int32_t>::max()}, kMax - 1), SKV_E_BLOCK_ID);
  EXPECT_EQ(with({0, 9}, 16 * 32, 10 * 16 * 32 - 1), SKV_E_BLOCK_ID);
  EXPECT_EQ(with({0, 16}, 32), SKV_OK);  // ids that count tokens
  EXPECT_EQ(with({0, 15}, 32), SKV_E_STRIDE);
  EXPECT_EQ(with({0, 1}, 16 * 32 - 2), SKV_E_STRIDE);
  c.set_tokens(0, 0, 17);
  EXPECT_EQ(with({9, 3}), SKV_OK);
  EXPECT_EQ(with({1, 0}, 32), SKV_OK);          // the last block's one token is the one before the first block
  EXPECT_EQ(with({0, 15}, 32), SKV_E_OVERLAP);  // and here inside it
}

// A view of random small strides, compared with marking every byte.
TEST(Cache, OverlapIsExact) {
  std::mt19937 random(7);
  const auto below = [&](uint32_t n) { return static_cast<int64_t>(random() % n); };
  int ok = 0;
  int overlaps = 0;
  for (int round = 0; round < 20000; ++round) {
    Cache c(2);
    const bool paged = below(2) == 0;
    for (int32_t layer = 0; layer < 2; ++layer) {
      const int64_t tokens = 1 + below(6);
      c.set_tokens(layer, 0, tokens);
      c.set_layer(layer, static_cast<int32_t>(1 + below(3)), 8, 0, SKV_F16);
      const int64_t heads = c.layer(layer).kv_heads;
      int64_t token = 16 * (1 + below(6));
      int64_t head = 16 * (1 + below(6));
      int64_t elem = 2;
      if (below(3) == 0) {  // transposed
        token = 2 * (1 + below(2));
        elem = token * (1 + below(8));
        head = elem * 8;
      } else if (below(2) == 0) {
        head = token * (tokens + below(2));
      } else {
        token = head * (heads + below(2));
      }
      if (paged) {
        std::vector<int32_t> ids(5);
        std::iota(ids.begin(), ids.end(), 0);
        std::shuffle(ids.begin(), ids.end(), random);
        c.set_blocks(layer, ids.data(), ids.size(), static_cast<int32_t>(2 + below(3)));
      }
      c.set_plane(layer, SKV_K, at(kHere + static_cast<uint64_t>(below(200) * 2)), 1U << 20U, 16 * (1 + below(40)),
                  token, head, elem);
    }
    const skv_status status = status_of([&] { c.check(); });
    std::vector<uint8_t> owners(16384);
    bool within = false;
    bool between = false;
    for (int32_t layer = 0; layer < 2; ++layer) {
      const CacheLayer& view = c.layer(layer);
      std::vector<int64_t> offsets(static_cast<size_t>(view.tokens));
      c.token_offsets(layer, SKV_K, 0, offsets);
      const auto base = static_cast<int64_t>(reinterpret_cast<uintptr_t>(view.plane[0].base) - kHere);
      for (const int64_t offset : offsets) {
        for (int64_t h = 0; h < view.kv_heads; ++h) {
          for (int64_t e = 0; e < 8; ++e) {
            for (int64_t byte = 0; byte < 2; ++byte) {
              const int64_t where =
                  base + offset + h * view.plane[0].stride_head + e * view.plane[0].stride_elem + byte;
              uint8_t& owner = owners.at(static_cast<size_t>(where));
              within |= owner == layer + 1;
              between |= owner != 0 && owner != layer + 1;
              owner = static_cast<uint8_t>(layer + 1);
            }
          }
        }
      }
    }
    if (status == SKV_OK) {
      ASSERT_FALSE(within || between) << round;
      ++ok;
    } else if (status == SKV_E_OVERLAP) {
      ASSERT_TRUE(within || between) << round;
      ++overlaps;
    } else {
      ASSERT_EQ(status, SKV_E_STRIDE);  // strides that do not nest
    }
  }
  EXPECT_GT(ok, 1000);
  EXPECT_GT(overlaps, 1000);
}

TEST(Cache, TokenOffsetsFollowTheBlockTable) {
  Cache c = plain(1, 100);
  std::vector<int64_t> offsets(3);
  c.token_offsets(0, SKV_K, 97, offsets);
  EXPECT_EQ(offsets, (std::vector<int64_t>{97 * 32, 98 * 32, 99 * 32}));
  const int32_t ids[] = {5, 0, 3, 1, 2, 4, 6};
  c.set_blocks(0, ids, 7, 16);
  c.set_plane(0, SKV_V, at(kHere + 65536), 4096, 600, 32, 16, 2);
  offsets.resize(4);
  c.token_offsets(0, SKV_V, 14, offsets);
  EXPECT_EQ(offsets, (std::vector<int64_t>{5 * 600 + 14 * 32, 5 * 600 + 15 * 32, 0, 32}));
}

TEST(Cache, RawBytesCountSixteenBitsAnElement) {
  Cache c(2);
  c.set_tokens(0, 0, 10);
  c.set_tokens(1, 0, 4);
  c.set_layer(0, 3, 64, 32, SKV_F32);
  c.set_layer(1, 1, 576, 0, SKV_BF16);
  EXPECT_EQ(c.raw_bytes(), 2U * 10 * 3 * 96 + 2U * 4 * 576);
  Cache huge(4096);
  huge.set_tokens(SKV_ALL, 0, int64_t{1} << 28);
  huge.set_layer(SKV_ALL, 1024, 4096, 4096, SKV_F16);
  EXPECT_EQ(status_of([&] { huge.raw_bytes(); }), SKV_E_RANGE);
}

TEST(Cache, IdentityAndMaskAreKept) {
  Cache c(1);
  uint8_t fingerprint[32] = {1, 2, 3};
  uint8_t request[16] = {9};
  c.set_identity(fingerprint, request);
  EXPECT_EQ(c.fingerprint()[2], 3);
  EXPECT_EQ(c.request_id()[0], 9);
  c.set_identity(nullptr, nullptr);
  EXPECT_EQ(c.fingerprint()[2], 0);
  EXPECT_FALSE(c.can_mask());
  c.set(SKV_CACHE_CAN_MASK, 1);
  EXPECT_TRUE(c.can_mask());
}

// Far above what it takes, so that a sanitizer or a busy machine does not fail it; quadratic work would.
TEST(Cache, CheckIsQuick) {
  using Clock = std::chrono::steady_clock;
  const auto timed = [](const Cache& c) {
    const auto start = Clock::now();
    c.check();
    return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
  };
  const Cache contiguous = plain(30, 4096);
  const double first = timed(contiguous);
  RecordProperty("contiguous_us", std::to_string(first));
  EXPECT_LT(first, 20000);
  std::vector<int32_t> ids(4096);
  std::iota(ids.begin(), ids.end(), 0);
  std::shuffle(ids.begin(), ids.end(), std::mt19937(1));
  Cache paged = plain(30, 4096);
  paged.set_blocks(SKV_ALL, ids.data(), ids.size(), 1);
  for (int32_t i = 0; i < 30; ++i) {  // one pool, K|V fused
    for (int half = 0; half < 2; ++half) {
      const uint64_t offset = static_cast<uint64_t>(i) * 64 + static_cast<uint64_t>(half) * 16;
      paged.set_plane(i, half, at(kHere + offset), 4096 * 1920 - offset, 1920, 1920, 32, 2);
    }
  }
  const double second = timed(paged);
  RecordProperty("paged_us", std::to_string(second));
  EXPECT_LT(second, 200000);
  EXPECT_LT(timed(paged), 1000);  // kept
  std::printf("contiguous %.1f us, paged %.1f us\n", first, second);
}

}  // namespace
}  // namespace skv
