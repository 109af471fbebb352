// SPDX-License-Identifier: Apache-2.0
// Memory for one call's small arrays: taken piece by piece, given back all at once, kept for the next call.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <new>
#include <span>
#include <type_traits>
#include <vector>

namespace skv {

class Arena {
 public:
  // n value-initialised objects, valid until reset(); nothing is destroyed.
  template <class T>
  std::span<T> take(size_t n) {
    static_assert(std::is_trivially_destructible_v<T> && alignof(T) <= kAlignment);
    if (n == 0) return {};
    T* first = reinterpret_cast<T*>(room(n * sizeof(T)));
    for (size_t i = 0; i < n; ++i) ::new (static_cast<void*>(first + i)) T();
    return {first, n};
  }
  // The next call takes the same memory: no allocation in steady state.
  void reset() {
    at_ = 0;
    used_ = 0;
  }

 private:
  static constexpr size_t kAlignment = alignof(std::max_align_t);
  static constexpr size_t kBlock = 65536;  // holds what a layer of 32k tokens needs

  struct Block {
    std::unique_ptr<std::byte[]> memory;
    size_t bytes;
  };

  std::byte* room(size_t bytes) {
    bytes = (bytes + kAlignment - 1) / kAlignment * kAlignment;
    while (at_ < blocks_.size() && blocks_[at_].bytes - used_ < bytes) {
      ++at_;
      used_ = 0;
    }
    if (at_ == blocks_.size()) {
      const size_t size = std::max(bytes, kBlock);
      blocks_.push_back({std::make_unique<std::byte[]>(size), size});
    }
    std::byte* here = blocks_[at_].memory.get() + used_;
    used_ += bytes;
    return here;
  }

  std::vector<Block> blocks_;
  size_t at_ = 0;    // the block that is being taken from
  size_t used_ = 0;  // bytes of it
};

}  // namespace skv
