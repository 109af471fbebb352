// SPDX-License-Identifier: Apache-2.0
// Test tensors in a device's memory. The same tests run on a GPU (label gpu) and over tests/shim (label parity).
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "codec.h"
#include "device.h"
#include "error.h"
#include "tests/unit/tensors.h"

namespace skv::test {

// Skips, saying why, where there is no device. Over the shim there always is one.
class OnDevice : public testing::Test {
 protected:
  void SetUp() override {
    try {
      gpu = std::make_unique<Engine>(0);
    } catch (const Error& e) {
      if (e.status() != SKV_E_UNAVAILABLE || std::getenv("SPECTRUMKV_REQUIRE_GPU") != nullptr) throw;
      GTEST_SKIP() << "no GPU to test on: " << e.message();
    }
  }
  std::unique_ptr<Engine> gpu;
  Engine cpu{SKV_DEVICE_CPU};
};

inline std::shared_ptr<std::byte> to_device(const Device& device, std::span<const std::byte> bytes) {
  const Device::Use use(device);
  std::shared_ptr<std::byte> memory = device.allocate(bytes.size());
  check_cuda(cuda::copy(memory.get(), bytes.data(), bytes.size(), nullptr), "copying a test's tensors");
  check_cuda(cuda::synchronize(nullptr), "copying a test's tensors");
  return memory;
}
inline std::vector<std::byte> to_host(const Device& device, const std::byte* memory, size_t bytes) {
  std::vector<std::byte> out(bytes);
  Device::read(device.ordinal(), out.data(), memory, bytes);
  return out;
}

// A copy of tensors and of the view of them.
class DeviceTensors {
 public:
  DeviceTensors(const Device& device, Tensors& from) : device_(device), cache_(from.cache().layer_count()) {
    const Cache& view = from.cache();
    for (int32_t l = 0; l < view.layer_count(); ++l) {
      const CacheLayer& layer = view.layer(l);
      cache_.set_tokens(l, layer.first_position, layer.tokens);
      cache_.set_layer(l, layer.kv_heads, layer.dim[0], layer.dim[1], layer.dtype);
      cache_.set_first_head(l, layer.first_head);
      cache_.set_group(l, layer.group);
      if (layer.blocks != nullptr) {
        cache_.set_blocks(l, layer.blocks->data(), layer.blocks->size(), layer.block_tokens);
      }
      for (int half = 0; half < 2; ++half) {
        const std::vector<std::byte>& host = from.memory()[static_cast<size_t>(l * 2 + half)];
        bytes_.push_back(host.size());
        memory_.push_back(host.empty() ? nullptr : to_device(device, host));
        if (!layer.has(half)) continue;
        const Plane& plane = layer.plane[half];
        cache_.set_plane(l, half, memory_.back().get() + (plane.base - host.data()), plane.bytes, plane.stride_block,
                         plane.stride_token, plane.stride_head, plane.stride_elem);
      }
    }
    cache_.set_identity(view.fingerprint().data(), view.request_id().data());
    cache_.set(SKV_CACHE_CAN_MASK, view.can_mask() ? 1 : 0);
  }
  Cache& cache() { return cache_; }
  std::vector<std::byte> plane(size_t index) const {
    return bytes_[index] == 0 ? std::vector<std::byte>() : to_host(device_, memory_[index].get(), bytes_[index]);
  }
  // Whether every byte, those between rows too, is that of the host's tensors.
  testing::AssertionResult equals(Tensors& host) const {
    for (size_t i = 0; i < memory_.size(); ++i) {
      const std::vector<std::byte> got = plane(i);
      const std::vector<std::byte>& want = host.memory()[i];
      for (size_t b = 0; b < want.size(); ++b) {
        if (got[b] != want[b]) {
          return testing::AssertionFailure()
                 << "layer " << i / 2 << (i % 2 == 0 ? " K" : " V") << " byte " << b << " of " << want.size()
                 << ": device " << static_cast<int>(got[b]) << ", CPU " << static_cast<int>(want[b]);
        }
      }
    }
    return testing::AssertionSuccess();
  }

 private:
  const Device& device_;
  Cache cache_;
  std::vector<std::shared_ptr<std::byte>> memory_;
  std::vector<size_t> bytes_;
};

// The first byte in which two payloads differ, by segment and section.
inline testing::AssertionResult same_bytes(const Payload& cpu, const Payload& gpu) {
  const std::span<const std::byte> want = cpu.host_bytes();
  const std::span<const std::byte> got = gpu.host_bytes();
  if (want.size() != got.size()) return testing::AssertionFailure() << got.size() << " bytes, not " << want.size();
  if (std::memcmp(want.data(), got.data(), want.size()) == 0) return testing::AssertionSuccess();
  size_t at = 0;
  while (want[at] == got[at]) ++at;
  auto failure = testing::AssertionFailure()
                 << "byte " << at << ": device " << static_cast<int>(got[at]) << ", CPU " << static_cast<int>(want[at]);
  for (const Segment& s : cpu.segments()) {
    if (at < s.offset || at >= s.offset + s.layout.bytes) continue;
    const uint64_t inside = at - s.offset;
    failure << "; segment " << s.shape.layer << " byte " << inside;
    for (int half = 0; half < 2; ++half) {
      const HalfLayout& h = s.layout.half[half];
      const std::pair<const char*, Extent> sections[] = {
          {"vectors", h.vectors}, {"map", h.map},       {"scales", h.scales}, {"two", h.two},
          {"nibble", h.nibble},   {"plane2", h.plane2}, {"plane3", h.plane3}, {"raw", h.raw}};
      for (const auto& [name, extent] : sections) {
        if (inside >= extent.offset && inside < extent.offset + extent.bytes) {
          failure << ", " << (half == 0 ? "K " : "V ") << name << " byte " << inside - extent.offset;
        }
      }
    }
  }
  return failure;
}

inline std::unique_ptr<Payload> encode(Engine& engine, const Cache& cache, const Plan& plan) {
  auto payload = Payload::create(cache, plan, {}, engine.device());
  encode_layers(engine, cache, plan, *payload, 0, cache.layer_count());
  return payload;
}

}  // namespace skv::test
