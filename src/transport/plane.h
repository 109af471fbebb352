// SPDX-License-Identifier: Apache-2.0
// What payloads may move on: the planes an end offers, and the one that two ends take. Pure.
#pragma once

#include <spectrumkv.h>

#include <cstdint>
#include <string>

namespace skv::transport {

using PlaneSet = std::uint32_t;  // of 1 << SKV_PLANE_*

constexpr PlaneSet plane_bit(std::int32_t plane) { return PlaneSet{1} << plane; }
inline constexpr PlaneSet kKnownPlanes =
    plane_bit(SKV_PLANE_INPROC) | plane_bit(SKV_PLANE_INLINE) | plane_bit(SKV_PLANE_NCCL) | plane_bit(SKV_PLANE_UCX);

// "nccl, inline"
std::string plane_names(PlaneSet planes);

constexpr PlaneSet planes_or(PlaneSet planes, std::int32_t fallback) {
  return planes == 0 ? plane_bit(fallback) : planes;
}
// A setting for one kind of control stream: INLINE and INPROC both mean the stream's own plane.
constexpr PlaneSet on_carrier(PlaneSet planes, std::int32_t own) {
  constexpr PlaneSet kStream = plane_bit(SKV_PLANE_INPROC) | plane_bit(SKV_PLANE_INLINE);
  return (planes & ~kStream) | ((planes & kStream) != 0 ? plane_bit(own) : 0);
}
// The same at both ends: the first of NCCL, UCX and the stream's own that both have, or NONE.
constexpr std::int32_t choose_plane(PlaneSet here, PlaneSet there) {
  for (const std::int32_t plane : {SKV_PLANE_NCCL, SKV_PLANE_UCX, SKV_PLANE_INLINE, SKV_PLANE_INPROC}) {
    if ((here & there & plane_bit(plane)) != 0) return plane;
  }
  return SKV_PLANE_NONE;
}
// Whether payload bytes travel outside the control stream.
constexpr bool is_external(std::int32_t plane) { return plane == SKV_PLANE_NCCL; }

}  // namespace skv::transport
