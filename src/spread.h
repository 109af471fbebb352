// SPDX-License-Identifier: Apache-2.0
// Work cut into parts, for whoever has threads.
#pragma once

#include <cstddef>
#include <functional>

namespace skv {

// run(count, work) calls work(i) for every i in [0, count), on `width` threads at most, and returns when all are done.
// As it comes: one after the other on this thread.
struct Spread {
  using Work = std::function<void(size_t)>;

  size_t width = 1;
  std::function<void(size_t count, const Work& work)> run = [](size_t count, const Work& work) {
    for (size_t i = 0; i < count; ++i) work(i);
  };
};

}  // namespace skv
