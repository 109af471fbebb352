// SPDX-License-Identifier: Apache-2.0
#include "transport/plane.h"

namespace skv::transport {

std::string plane_names(PlaneSet planes) {
  static constexpr const char* kNames[] = {"none", "inproc", "inline", "nccl", "ucx"};
  std::string out;
  for (std::int32_t plane = 0; plane < 32; plane++) {
    if ((planes & plane_bit(plane)) == 0) continue;
    if (!out.empty()) out += ", ";
    out += plane < 5 ? kNames[plane] : "plane " + std::to_string(plane);
  }
  return out.empty() ? "none" : out;
}

}  // namespace skv::transport
