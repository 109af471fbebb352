// SPDX-License-Identifier: Apache-2.0
#include "llama.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <numeric>
#include <random>
#include <string>

#include "error.h"

namespace skv {
namespace {

skv_status status_of(const std::function<void()>& call, std::string* message = nullptr) {
  try {
    call();
  } catch (const Error& error) {
    if (message != nullptr) *message = error.message();
    return error.status();
  }
  return SKV_OK;
}

// --- a writer of its own, from llama.cpp's state_write_meta and state_write_data
// --------------------------------------

struct Part {                      // one llama_kv_cache
  std::vector<int32_t> positions;  // by cell
  int32_t v_trans = 0;
  int32_t type = 1;
  std::vector<int32_t> heads;  // by layer
  uint32_t k_dim = 8;
  uint32_t v_dim = 16;  // 0: no V is written
};

// Bits of element (first layer of the part + layer, half, position, channel), unlike its neighbours' in every byte.
uint32_t bits(size_t layer, int half, int64_t position, uint64_t channel) {
  return static_cast<uint32_t>(layer * 2654435761U + static_cast<uint64_t>(half) * 40503U +
                               static_cast<uint64_t>(position) * 2246822519U + channel * 3266489917U);
}

struct Blob {
  std::vector<uint8_t> bytes;
  template <class T>
  void put(T value) {
    const auto* from = reinterpret_cast<const uint8_t*>(&value);
    bytes.insert(bytes.end(), from, from + sizeof value);
  }
  void element(int32_t type, uint32_t value) {
    if (type == 0) {
      put(value);
    } else {
      put(static_cast<uint16_t>(value));
    }
  }
  std::span<const std::byte> span() const { return std::as_bytes(std::span(bytes)); }
};

Blob write_blob(const std::vector<Part>& parts, int32_t sequence = 0) {
  Blob blob;
  blob.put(uint32_t{0xaf143cd8U});
  blob.put(sequence);
  size_t first_layer = 0;
  for (const Part& part : parts) {
    const uint32_t size = part.type == 0 ? 4 : 2;
    blob.put(uint32_t{1});
    blob.put(static_cast<uint32_t>(part.positions.size()));
    if (part.positions.empty()) continue;
    for (const int32_t position : part.positions) {
      blob.put(position);
      blob.put(uint32_t{1});
      blob.put(sequence);
    }
    blob.put(part.v_trans);
    blob.put(static_cast<uint32_t>(part.heads.size()));
    for (int half = 0; half < 2; ++half) {
      const uint32_t dim = half == 0 ? part.k_dim : part.v_dim;
      if (dim == 0) continue;
      for (size_t i = 0; i < part.heads.size(); ++i) {
        const uint32_t channels = dim * static_cast<uint32_t>(part.heads[i]);
        blob.put(part.type);
        if (half == 1 && part.v_trans == 1) {
          blob.put(size);
          blob.put(channels);
          for (uint32_t c = 0; c < channels; ++c) {
            for (const int32_t p : part.positions) blob.element(part.type, bits(first_layer + i, half, p, c));
          }
        } else {
          blob.put(static_cast<uint64_t>(channels) * size);
          for (const int32_t p : part.positions) {
            for (uint32_t c = 0; c < channels; ++c) blob.element(part.type, bits(first_layer + i, half, p, c));
          }
        }
      }
    }
    first_layer += part.heads.size();
  }
  return blob;
}

std::vector<int32_t> heads_of(const std::vector<Part>& parts) {
  std::vector<int32_t> heads;
  for (const Part& part : parts) heads.insert(heads.end(), part.heads.begin(), part.heads.end());
  return heads;
}

std::vector<int32_t> range(int32_t first, int32_t count) {
  std::vector<int32_t> positions(static_cast<size_t>(count));
  std::iota(positions.begin(), positions.end(), first);
  return positions;
}

std::vector<int32_t> shuffled(std::vector<int32_t> positions) {
  std::shuffle(positions.begin(), positions.end(), std::mt19937(3));
  return positions;
}

// A 4-aligned exact copy, so that a sanitizer sees a read of one byte too many.
struct Exact {
  explicit Exact(std::span<const uint8_t> from) : size(from.size()), bytes(new uint8_t[std::max<size_t>(size, 1)]) {
    std::copy(from.begin(), from.end(), bytes.get());
  }
  std::span<const std::byte> span() const { return std::as_bytes(std::span(bytes.get(), size)); }
  size_t size;
  std::unique_ptr<uint8_t[]> bytes;
};

using Visit = std::function<void(int32_t layer, int half, int64_t position, uint64_t channel, std::byte* element)>;
void for_each_element(const Cache& view, const Visit& visit) {
  for (int32_t l = 0; l < view.layer_count(); ++l) {
    const CacheLayer& layer = view.layer(l);
    for (int half = 0; half < 2; ++half) {
      if (!layer.has(half)) continue;
      std::vector<int64_t> offsets(static_cast<size_t>(layer.tokens));
      view.token_offsets(l, half, 0, offsets);
      for (int64_t t = 0; t < layer.tokens; ++t) {
        for (int64_t h = 0; h < layer.kv_heads; ++h) {
          for (int64_t c = 0; c < layer.dim[half]; ++c) {
            visit(l, half, layer.first_position + t, static_cast<uint64_t>(h * layer.dim[half] + c),
                  layer.plane[half].base + offsets[static_cast<size_t>(t)] + h * layer.plane[half].stride_head +
                      c * layer.plane[half].stride_elem);
          }
        }
      }
    }
  }
}

void expect_elements(const Cache& view) {
  uint64_t wrong = 0;
  for_each_element(view, [&](int32_t layer, int half, int64_t position, uint64_t channel, std::byte* element) {
    const uint32_t want = bits(static_cast<size_t>(layer), half, position, channel);
    const size_t size = view.layer(layer).dtype == SKV_F32 ? 4 : 2;
    if (std::memcmp(element, &want, size) != 0) ++wrong;
  });
  EXPECT_EQ(wrong, 0U);
}

constexpr int32_t kTypes[] = {1, 30, 0};
int32_t dtype_of(int32_t type) { return type == 0 ? SKV_F32 : type == 1 ? SKV_F16 : SKV_BF16; }

std::vector<std::vector<Part>> shapes(int32_t v_trans, int32_t type) {
  const Part one{range(0, 37), v_trans, type, {3, 3, 1}};
  Part ring = one;
  ring.positions = range(30, 7);
  std::rotate(ring.positions.begin(), ring.positions.begin() + 3, ring.positions.end());
  ring.heads = {1, 2};
  ring.k_dim = 32;
  ring.v_dim = 32;
  Part mixed = one;
  mixed.positions = shuffled(one.positions);
  Part latent{range(0, 9), v_trans, type, {1, 1}, 48, 0};
  return {{one}, {mixed}, {one, ring}, {mixed, ring}, {latent}};
}

// --- reading
// -----------------------------------------------------------------------------------------------------------

TEST(Llama, ReadsEveryForm) {
  for (const int32_t v_trans : {0, 1}) {
    for (const int32_t type : kTypes) {
      for (const auto& parts : shapes(v_trans, type)) {
        const Blob blob = write_blob(parts, 5);
        const std::vector<int32_t> heads = heads_of(parts);
        const Cache view = llama_cache(blob.span(), heads);
        view.check();
        ASSERT_EQ(view.layer_count(), static_cast<int32_t>(heads.size()));
        for (int32_t i = 0; i < view.layer_count(); ++i) {
          const bool second = i >= static_cast<int32_t>(parts[0].heads.size());
          const Part& part = parts[second ? 1 : 0];
          EXPECT_EQ(view.layer(i).group, second ? kLlamaSliding : kLlamaFull);
          EXPECT_EQ(view.layer(i).tokens, static_cast<int64_t>(part.positions.size()));
          EXPECT_EQ(view.layer(i).first_position, *std::min_element(part.positions.begin(), part.positions.end()));
          EXPECT_EQ(view.layer(i).dtype, dtype_of(type));
          EXPECT_EQ(view.layer(i).dim[SKV_K], static_cast<int32_t>(part.k_dim));
          EXPECT_EQ(view.layer(i).dim[SKV_V], static_cast<int32_t>(part.v_dim));
        }
        expect_elements(view);
      }
    }
  }
}

TEST(Llama, EveryTruncationIsAnError) {
  for (const int32_t v_trans : {0, 1}) {
    std::vector<Part> parts = shapes(v_trans, 1)[3];
    if (v_trans == 1) {  // one kv-head everywhere: the second cache must not pass for one without V
      for (Part& part : parts) std::fill(part.heads.begin(), part.heads.end(), 1);
    }
    const Blob blob = write_blob(parts);
    const std::vector<int32_t> heads = heads_of(parts);
    for (size_t size = 0; size < blob.bytes.size(); ++size) {
      const Exact cut(std::span(blob.bytes).first(size));
      const skv_status status = status_of([&] { llama_cache(cut.span(), heads); });
      // Ending after the first cache is well-formed, only not of so many layers.
      ASSERT_TRUE(status == SKV_E_TRUNCATED || status == SKV_E_RANGE) << size << " " << status;
    }
    Blob longer = blob;
    longer.put(uint8_t{0});
    EXPECT_EQ(status_of([&] { llama_cache(longer.span(), heads); }), SKV_E_TRAILING);
  }
}

TEST(Llama, MutationsNeverReachBeyondTheBlob) {
  std::mt19937 random(11);
  int accepted = 0;
  std::vector<std::pair<Blob, std::vector<int32_t>>> seeds;
  for (const int32_t v_trans : {0, 1}) {
    for (const auto& parts : shapes(v_trans, kTypes[v_trans])) seeds.emplace_back(write_blob(parts), heads_of(parts));
  }
  const uint32_t odd[] = {0, 1, 2, 3, 7, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000U, 0xFFFFFFFFU};
  for (int i = 0; i < 20000; ++i) {
    const auto& [blob, heads] = seeds[random() % seeds.size()];
    std::vector<uint8_t> bytes = blob.bytes;
    const uint32_t edits = 1 + random() % 4;
    for (uint32_t edit = 0; edit < edits; ++edit) {
      // Mostly in the framing that comes first, else anywhere.
      const size_t where = random() % (random() % 2 == 0 ? std::min<size_t>(bytes.size(), 600) : bytes.size());
      const uint32_t value = odd[random() % std::size(odd)];
      switch (random() % 4) {
        case 0:
          bytes[where] = static_cast<uint8_t>(random());
          break;
        case 1:
          bytes[where] ^= static_cast<uint8_t>(1U << random() % 8);
          break;
        case 2:
          std::memcpy(&bytes[where], &value, std::min<size_t>(4, bytes.size() - where));
          break;
        default: {
          const size_t field = where / 4 * 4;
          std::memcpy(&bytes[field], &value, std::min<size_t>(4, bytes.size() - field));
        }
      }
    }
    if (random() % 8 == 0) bytes.resize(random() % bytes.size());
    const Exact exact(bytes);
    const skv_status status = status_of([&] {
      const Cache view = llama_cache(exact.span(), heads);
      view.check();
      uint32_t sum = 0;  // touches every element
      for_each_element(view, [&](int32_t layer, int, int64_t, uint64_t, std::byte* element) {
        const size_t size = view.layer(layer).dtype == SKV_F32 ? 4 : 2;
        for (size_t b = 0; b < size; ++b) sum += static_cast<uint32_t>(element[b]);
      });
      ++accepted;
      EXPECT_NE(sum, 1U);
    });
    const skv_status known[] = {SKV_OK,        SKV_E_MALFORMED, SKV_E_TRUNCATED, SKV_E_TRAILING,
                                SKV_E_FEATURE, SKV_E_GEOMETRY,  SKV_E_RANGE,     SKV_E_EMPTY};
    ASSERT_NE(std::find(std::begin(known), std::end(known), status), std::end(known)) << status;
  }
  EXPECT_GT(accepted, 100);
}

TEST(Llama, RefusesWhatItCannotExpress) {
  const std::vector<Part> parts = shapes(0, 1)[0];
  const std::vector<int32_t> heads = heads_of(parts);
  const Blob good = write_blob(parts);
  const size_t cells = 37;
  const size_t v_trans_at = 16 + cells * 12;
  std::string message;
  const auto with = [&](size_t where, uint32_t value) {
    Blob blob = good;
    std::memcpy(&blob.bytes[where], &value, sizeof value);
    return status_of([&] { llama_cache(blob.span(), heads); }, &message);
  };
  EXPECT_EQ(with(0, 0xaf143cd7U), SKV_E_MALFORMED);
  EXPECT_EQ(with(8, 2), SKV_E_FEATURE);  // streams
  EXPECT_EQ(with(8, 0), SKV_E_FEATURE);
  EXPECT_EQ(with(12, 0), SKV_E_EMPTY);
  EXPECT_EQ(with(12, 0xFFFFFFFFU), SKV_E_MALFORMED);
  EXPECT_EQ(with(12, 0x7FFFFFFFU), SKV_E_TRUNCATED);
  EXPECT_EQ(with(16, 0xFFFFFFFFU), SKV_E_MALFORMED);  // position -1
  EXPECT_EQ(with(16, 1), SKV_E_FEATURE);              // position twice
  EXPECT_EQ(with(16, 38), SKV_E_FEATURE);             // a gap
  EXPECT_EQ(with(20, 2), SKV_E_FEATURE);              // two sequences
  EXPECT_EQ(with(24, 1), SKV_E_FEATURE);              // of another sequence
  EXPECT_EQ(with(v_trans_at, 2), SKV_E_MALFORMED);
  EXPECT_EQ(with(v_trans_at + 4, 0), SKV_E_MALFORMED);
  EXPECT_EQ(with(v_trans_at + 4, 4), SKV_E_RANGE);
  EXPECT_EQ(with(v_trans_at + 8, 8), SKV_E_FEATURE);
  EXPECT_NE(message.find("q8_0"), std::string::npos) << message;
  EXPECT_EQ(with(v_trans_at + 8, 0xFFFFFFFFU), SKV_E_FEATURE);
  EXPECT_EQ(with(v_trans_at + 12, 47), SKV_E_MALFORMED);
  EXPECT_EQ(with(v_trans_at + 12, 50), SKV_E_GEOMETRY);
  EXPECT_EQ(with(v_trans_at + 12, 0), SKV_E_GEOMETRY);
  EXPECT_EQ(with(v_trans_at + 16, 0xFFFFFFFFU), SKV_E_GEOMETRY);  // rows of 2^63 bytes and more
  EXPECT_EQ(status_of([&] { llama_cache(good.span(), std::vector<int32_t>{3, 3}); }), SKV_E_RANGE);
  EXPECT_EQ(status_of([&] { llama_cache(good.span(), std::vector<int32_t>{3, 3, 1, 1}); }), SKV_E_RANGE);
  EXPECT_EQ(status_of([&] { llama_cache(good.span(), std::vector<int32_t>{2, 3, 1}); }), SKV_E_GEOMETRY);
  EXPECT_EQ(status_of([&] { llama_cache(good.span(), std::vector<int32_t>{0, 3, 1}); }), SKV_E_GEOMETRY);
  EXPECT_EQ(status_of([&] { llama_cache(good.span(), std::vector<int32_t>{-3, 3, 1}); }), SKV_E_GEOMETRY);
  EXPECT_EQ(status_of([&] { llama_cache(good.span(), std::vector<int32_t>{}); }), SKV_E_RANGE);
  EXPECT_EQ(status_of([&] { llama_cache({}, heads); }), SKV_E_TRUNCATED);
}

TEST(Llama, RefusesOtherKindsOfState) {
  // M-RoPE cells carry three more numbers.
  Blob mrope;
  mrope.put(uint32_t{0xaf143cd8U});
  mrope.put(int32_t{0});
  mrope.put(uint32_t{1});
  mrope.put(uint32_t{4});
  for (int32_t i = 0; i < 4; ++i) {
    mrope.put(i);
    mrope.put(uint32_t{1});
    for (const int32_t ext : {i, i, 777 + i}) mrope.put(ext);
    mrope.put(int32_t{0});
  }
  for (int i = 0; i < 64; ++i) mrope.put(uint32_t{0});
  EXPECT_EQ(status_of([&] { llama_cache(mrope.span(), std::vector<int32_t>{1}); }), SKV_E_FEATURE);
  // A hybrid model: the attention cache, then one recurrent cell {position, 0 sequences}, s_trans, layers.
  const std::vector<Part> parts = shapes(0, 1)[0];
  Blob hybrid = write_blob(parts);
  for (const uint32_t field : {1U, 36U, 0U, 0U, 4U, 0U, 128U, 0U}) hybrid.put(field);
  EXPECT_EQ(status_of([&] { llama_cache(hybrid.span(), heads_of(parts)); }), SKV_E_FEATURE);
  // An empty sliding-window cache, and a sequence without cells.
  std::vector<Part> pair = shapes(0, 1)[2];
  const std::vector<int32_t> heads = heads_of(pair);
  pair[1].positions.clear();
  EXPECT_EQ(status_of([&] { llama_cache(write_blob(pair).span(), heads); }), SKV_E_EMPTY);
  pair[0].positions.clear();
  EXPECT_EQ(status_of([&] { llama_cache(write_blob(pair).span(), heads); }), SKV_E_EMPTY);
  // K and V of different types.
  Blob types = write_blob(parts);
  const size_t v_at = 24 + 37 * 12 + 3 * 12 + 37 * 2 * 8 * (3 + 3 + 1);
  const int32_t bf16 = 30;
  std::memcpy(&types.bytes[v_at], &bf16, sizeof bf16);
  EXPECT_EQ(status_of([&] { llama_cache(types.span(), heads_of(parts)); }), SKV_E_FEATURE);
  // v_trans of the two caches.
  std::vector<Part> differ = shapes(0, 1)[2];
  differ[1].v_trans = 1;
  EXPECT_EQ(status_of([&] { llama_cache(write_blob(differ).span(), heads); }), SKV_E_MALFORMED);
}

// --- framing
// -----------------------------------------------------------------------------------------------------------

std::vector<LlamaLayer> layers_of(const Cache& view) {
  std::vector<LlamaLayer> layers;
  for (const CacheLayer& each : view.layers()) {
    layers.push_back(
        {each.first_position, each.tokens, each.kv_heads, each.first_head, {each.dim[0], each.dim[1]}, each.group});
  }
  return layers;
}

TEST(Llama, FramesWhatTheEngineWrites) {
  for (const int32_t source_trans : {0, 1}) {
    for (const int32_t v_trans : {0, 1}) {
      for (const int32_t type : kTypes) {
        for (auto parts : shapes(source_trans, type)) {
          const Blob source = write_blob(parts, 2);
          const std::vector<LlamaLayer> layers = layers_of(llama_cache(source.span(), heads_of(parts)));
          // What the engine would write for the same tokens, cells in order, of sequence 0.
          for (Part& part : parts) {
            std::sort(part.positions.begin(), part.positions.end());
            part.v_trans = v_trans;
          }
          const Blob want = write_blob(parts);
          ASSERT_EQ(llama_blob_bytes(layers, v_trans, dtype_of(type)), want.bytes.size());
          std::vector<uint8_t> got(want.bytes.size() + 8, 0xEE);
          const std::span<std::byte> memory = std::as_writable_bytes(std::span(got));
          const Cache view = llama_frame(layers, v_trans, dtype_of(type), memory);
          view.check();
          for_each_element(view, [&](int32_t layer, int half, int64_t position, uint64_t channel, std::byte* element) {
            const uint32_t value = bits(static_cast<size_t>(layer), half, position, channel);
            std::memcpy(element, &value, type == 0 ? 4 : 2);
          });
          EXPECT_TRUE(std::equal(want.bytes.begin(), want.bytes.end(), got.begin()));
          EXPECT_EQ(got.back(), 0xEE);
          expect_elements(llama_cache(memory.first(want.bytes.size()), heads_of(parts)));
        }
      }
    }
  }
}

TEST(Llama, FrameRefusesOtherShapes) {
  const LlamaLayer layer{0, 4, 2, 0, {8, 8}, 0};
  const auto bytes = [](std::vector<LlamaLayer> layers, int32_t v_trans = 0, int32_t dtype = SKV_F16) {
    return status_of([&] { llama_blob_bytes(layers, v_trans, dtype); });
  };
  const auto changed = [&](const std::function<void(LlamaLayer&)>& change) {
    LlamaLayer other = layer;
    change(other);
    return other;
  };
  EXPECT_EQ(bytes({layer}), SKV_OK);
  EXPECT_EQ(bytes({layer}, 2), SKV_E_RANGE);
  EXPECT_EQ(bytes({layer}, 0, 4), SKV_E_DTYPE);
  EXPECT_EQ(bytes({}), SKV_E_LAYOUT);
  EXPECT_EQ(bytes({changed([](auto& l) { l.group = 1; })}), SKV_E_LAYOUT);
  EXPECT_EQ(bytes({layer, changed([](auto& l) { l.group = 2; })}), SKV_E_LAYOUT);
  EXPECT_EQ(bytes({layer, changed([](auto& l) { l.group = 1; }), layer}), SKV_E_LAYOUT);
  EXPECT_EQ(bytes({layer, changed([](auto& l) { l.tokens = 5; })}), SKV_E_LAYOUT);
  EXPECT_EQ(bytes({layer, changed([](auto& l) { l.first_position = 1; })}), SKV_E_LAYOUT);
  EXPECT_EQ(bytes({layer, changed([](auto& l) { l.dim[1] = 0; })}), SKV_E_LAYOUT);
  EXPECT_EQ(bytes({changed([](auto& l) { l.first_head = 1; })}), SKV_E_LAYOUT);
  EXPECT_EQ(bytes({changed([](auto& l) { l.kv_heads = 0; })}), SKV_E_LAYOUT);
  EXPECT_EQ(bytes({changed([](auto& l) { l.dim[0] = 12; })}), SKV_E_LAYOUT);
  EXPECT_EQ(bytes({changed([](auto& l) { l.dim[1] = 0; })}), SKV_E_LAYOUT);  // 2 heads: a reader would want V
  EXPECT_EQ(bytes({changed([](auto& l) { l.first_position = 0x7FFFFFFC; })}), SKV_OK);
  EXPECT_EQ(bytes({changed([](auto& l) { l.first_position = 0x7FFFFFFD; })}), SKV_E_LAYOUT);
  EXPECT_EQ(bytes({changed([](auto& l) { l.first_position = -1; })}), SKV_E_LAYOUT);
  EXPECT_EQ(bytes(std::vector<LlamaLayer>(4096, {0, 0x7FFFFFFF, 1024, 0, {4096, 4096}, 0})), SKV_E_LAYOUT);
  std::vector<std::byte> small(llama_blob_bytes(std::vector{layer}, 0, SKV_F16) - 1, std::byte{7});
  EXPECT_EQ(status_of([&] { llama_frame(std::vector{layer}, 0, SKV_F16, small); }), SKV_E_TOO_SMALL);
  EXPECT_EQ(std::count(small.begin(), small.end(), std::byte{7}), static_cast<ptrdiff_t>(small.size()));
}

TEST(Llama, LayersComeFromSegments) {
  Segment segment;
  segment.shape.tokens = 9;
  segment.shape.heads = 2;
  segment.shape.first_head = 1;
  segment.shape.first_position = 7;
  segment.shape.dim[0] = 64;
  segment.shape.dim[1] = 32;
  segment.shape.group = 1;
  const std::vector<LlamaLayer> layers = llama_layers(std::vector{segment});
  ASSERT_EQ(layers.size(), 1U);
  EXPECT_EQ(layers[0].tokens, 9);
  EXPECT_EQ(layers[0].kv_heads, 2);
  EXPECT_EQ(layers[0].first_head, 1);
  EXPECT_EQ(layers[0].first_position, 7);
  EXPECT_EQ(layers[0].dim[SKV_V], 32);
  EXPECT_EQ(layers[0].group, kLlamaSliding);
}

}  // namespace
}  // namespace skv
