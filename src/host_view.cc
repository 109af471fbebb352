// SPDX-License-Identifier: Apache-2.0
#include "host_view.h"

#include "codec_cuda.h"
#include "kernels/tiers.h"

namespace skv {

HostView::HostView(Device* device, const Cache& cache, int32_t layer, const QueryView* queries, int halves)
    : cache_(cache), queries_(queries) {
  if (device == nullptr) return;
  need_reach(*device, cache, layer, 1);
  const CacheLayer& view = cache.layer(layer);
  Cache& copy = copy_.emplace(cache.layer_count());
  copy.set_tokens(layer, view.first_position, view.tokens);
  copy.set_layer(layer, view.kv_heads, view.dim[0], view.dim[1], view.dtype);
  const int64_t element = tiers::element_bytes(view.dtype);
  for (int half = 0; half < halves; ++half) {
    if (!view.has(half)) continue;
    std::vector<std::byte>& bytes = planes_[half];
    bytes = gather_half(*device, cache, layer, half);
    const int64_t head = view.dim[half] * element;
    copy.set_plane(layer, half, bytes.data(), bytes.size(), 0, head * view.kv_heads, head, element);
  }
  if (queries == nullptr) return;
  {
    const Device::Use use(*device);
    device->need_reach(queries->base, queries->bytes, "queries");
  }
  query_bytes_.resize(queries->bytes);
  Device::read(device->ordinal(), query_bytes_.data(), queries->base, queries->bytes);
  moved_ = *queries;
  moved_->base = query_bytes_.data();
}

}  // namespace skv
