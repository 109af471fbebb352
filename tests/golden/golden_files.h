// SPDX-License-Identifier: Apache-2.0
// The golden files of reference.py as the tests read them: tensors, tiers, views in any layout.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "codec.h"
#include "error.h"
#include "kernels/tiers.h"
#include "sha256.h"

namespace skv::test {

using Json = nlohmann::json;

inline std::string read_file(const std::string& name) {
  std::ifstream in(std::filesystem::path(SKV_GOLDEN_DIR) / name, std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  EXPECT_TRUE(in.good()) << name;
  return out.str();
}

inline std::vector<std::byte> bytes_of(const std::string& text) {
  std::vector<std::byte> out(text.size());
  if (!text.empty()) std::memcpy(out.data(), text.data(), text.size());
  return out;
}

inline Json table(const char* name) { return Json::parse(read_file(name)); }

inline std::vector<std::string> names(const char* name) {
  std::vector<std::string> out;
  const Json all = table(name);
  for (const auto& [key, value] : all.items()) out.push_back(key);
  return out;
}

inline std::string test_name(const testing::TestParamInfo<std::string>& info) {
  std::string out;
  for (const char c : info.param.substr(0, info.param.rfind('.'))) out += std::isalnum(c) != 0 ? c : '_';
  return out;
}

// What the .src file next to a golden file holds.
struct Source {
  Json facts;
  std::vector<std::vector<uint8_t>> tensors;  // K, V of layer 0, K, V of layer 1, ...
  std::vector<std::vector<uint8_t>> tiers;

  explicit Source(const std::string& golden) {
    const std::string text = read_file(golden.substr(0, golden.rfind('.')) + ".src");
    size_t at = text.find('\n') + 1;
    facts = Json::parse(text.substr(0, at));
    const auto cut = [&](size_t size) {
      const std::string part = text.substr(at, size);
      at += size;
      return std::vector<uint8_t>(part.begin(), part.end());
    };
    for (const Json& layer : facts["layers"]) {
      const size_t rows = layer["tokens"].get<size_t>() * layer["heads"].get<size_t>();
      const auto size = static_cast<size_t>(tiers::element_bytes(layer["dtype"]));
      for (const size_t half : {0, 1}) tensors.push_back(cut(rows * layer["dim"][half].get<size_t>() * size));
    }
    for (const Json& layer : facts["layers"]) {
      const size_t tokens = layer["tokens"];
      for (const size_t half : {0, 1}) tiers.push_back(cut(layer["dim"][half] == 0 ? 0 : tokens));
    }
    EXPECT_EQ(at, text.size());
  }
};

inline std::vector<uint8_t> unhex(const std::string& text) {
  std::vector<uint8_t> out;
  for (size_t i = 0; i < text.size(); i += 2)
    out.push_back(static_cast<uint8_t>(std::stoi(text.substr(i, 2), nullptr, 16)));
  return out;
}

enum class Layout { kTokenMajor, kTransposed, kPaged };

// Memory for the layers of a golden file, in a layout and a dtype (0: the source's), and the view of it.
class Memory {
 public:
  Memory(const Json& facts, Layout layout, int32_t dtype)
      : layers_(facts["layers"]), cache_(static_cast<int32_t>(facts["layers"].size())) {
    cache_.set(SKV_CACHE_CAN_MASK, 1);
    cache_.set_identity(unhex(facts["fingerprint"]).data(), unhex(facts["request_id"]).data());
    planes_.resize(layers_.size() * 2);
    for (int32_t l = 0; l < cache_.layer_count(); ++l) {
      const Json& layer = layers_[static_cast<size_t>(l)];
      cache_.set_tokens(l, layer["first_position"], layer["tokens"]);
      cache_.set_layer(l, layer["heads"], layer["dim"][0], layer["dim"][1],
                       dtype != 0 ? dtype : int32_t{layer["dtype"]});
      cache_.set_first_head(l, layer["first_head"]);
      cache_.set_group(l, layer["group"]);
      for (const int half : {0, 1}) {
        if (layer["dim"][static_cast<size_t>(half)] != 0) place(l, half, layout);
      }
    }
  }
  Cache& cache() { return cache_; }

  // Golden tensors in, every element of the view in their order out.
  void fill(const std::vector<std::vector<uint8_t>>& tensors) {
    size_t tensor = 0;
    size_t at = 0;
    each_element([&](uint8_t* element, size_t size) {
      for (; at == tensors[tensor].size(); ++tensor) at = 0;
      std::memcpy(element, tensors[tensor].data() + at, size);
      at += size;
    });
  }
  std::vector<uint8_t> gather() const {
    std::vector<uint8_t> out;
    each_element([&](const uint8_t* element, size_t size) { out.insert(out.end(), element, element + size); });
    return out;
  }

 private:
  // Layer by layer, K then V, token-major.
  template <class Visit>
  void each_element(Visit&& visit) const {
    for (int32_t l = 0; l < cache_.layer_count(); ++l) {
      const CacheLayer& view = cache_.layer(l);
      const auto size = static_cast<size_t>(tiers::element_bytes(view.dtype));
      std::vector<int64_t> offsets(static_cast<size_t>(view.tokens));
      for (const int half : {0, 1}) {
        if (!view.has(half)) continue;
        const Plane& plane = view.plane[half];
        cache_.token_offsets(l, half, 0, offsets);
        for (const int64_t offset : offsets) {
          for (int32_t h = 0; h < view.kv_heads; ++h) {
            for (int32_t c = 0; c < view.dim[half]; ++c)
              visit(reinterpret_cast<uint8_t*>(plane.base + offset + h * plane.stride_head + c * plane.stride_elem),
                    size);
          }
        }
      }
    }
  }
  void place(int32_t l, int half, Layout layout) {
    const CacheLayer& view = cache_.layer(l);
    const int64_t e = tiers::element_bytes(view.dtype);
    const int64_t t = view.tokens;
    const int64_t h = view.kv_heads;
    const int64_t d = view.dim[half];
    std::vector<uint8_t>& memory = planes_[static_cast<size_t>(l * 2 + half)];
    const auto set = [&](int64_t size, int64_t block, int64_t token, int64_t head, int64_t elem) {
      memory.assign(static_cast<size_t>(size), 0xA5);
      cache_.set_plane(l, half, memory.data(), memory.size(), block, token, head, elem);
    };
    if (layout == Layout::kTokenMajor) return set(t * h * d * e, 0, h * d * e, d * e, e);
    if (layout == Layout::kTransposed) return set(t * h * d * e, 0, e, d * t * e, t * e);
    const int64_t blocks = (t + 15) / 16;
    std::vector<int32_t> ids;
    for (int64_t b = 0; b < blocks; ++b) ids.push_back(static_cast<int32_t>((blocks - 1 - b) * 2 + 1));
    cache_.set_blocks(l, ids.data(), ids.size(), 16);
    set((2 * blocks + 1) * 16 * h * d * e, 16 * h * d * e, d * e, 16 * d * e, e);
  }

  Json layers_;
  Cache cache_;
  std::vector<std::vector<uint8_t>> planes_;
};

// Runs work(engine) for every target and thread count.
template <class Work>
void on_every_engine(Work&& work) {
  for (int32_t target = SKV_TARGET_SCALAR; target <= SKV_TARGET_NEON; ++target) {
    if (kernels::kernels_of(target) == nullptr) continue;
    for (const int32_t threads : {1, 2, 4}) {
      Engine engine(SKV_DEVICE_CPU);
      engine.set(SKV_ENGINE_TARGET, target);
      engine.set(SKV_ENGINE_THREADS, threads);
      SCOPED_TRACE(engine.describe());
      work(engine);
    }
  }
}

// Options are uniform in a file; layers without V say nothing about its transforms.
inline void set_options(Plan& plan, const Json& facts) {
  const Json& first = facts["layers"][0];
  plan.set(SKV_PLAN_CHUNK, first["chunk"]);
  plan.set(SKV_PLAN_CODE, first["code"]);
  plan.set(SKV_PLAN_RAW_DTYPE, first["raw_dtype"]);
  plan.set(SKV_PLAN_K_TRANSFORMS, first["transforms"][0]);
  for (const Json& layer : facts["layers"]) {
    if (layer["dim"][1] != 0) plan.set(SKV_PLAN_V_TRANSFORMS, layer["transforms"][1]);
  }
  const uint64_t budget = facts["budget_bytes"];
  plan.options.unproven = true;
  plan.set_strategy(budget != 0 ? "error-aware" : "uniform-4");
  if (budget != 0) plan.set_bytes(budget);
}

}  // namespace skv::test
