// SPDX-License-Identifier: Apache-2.0
// Payloads in a device's memory.
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "codec.h"
#include "error.h"

namespace skv {
namespace {

// Zero-filled address space.
class SparseBytes {
 public:
  explicit SparseBytes(size_t size) : size_(size) {
    void* memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    data_ = static_cast<std::byte*>(memory);
  }
  ~SparseBytes() { ::munmap(data_, size_); }
  SparseBytes(const SparseBytes&) = delete;
  SparseBytes& operator=(const SparseBytes&) = delete;
  std::byte* data() const { return data_; }
  std::span<const std::byte> bytes() const { return {data_, size_}; }

 private:
  std::byte* data_ = nullptr;
  size_t size_;
};

}  // namespace

std::unique_ptr<Payload> Payload::open_on(const Device& device, std::span<const std::byte> bytes,
                                          std::shared_ptr<const void> owner) {
  if (bytes.empty()) fail(SKV_E_TRUNCATED, "payload of 0 bytes: the header alone has 128");
  if (reinterpret_cast<uintptr_t>(bytes.data()) % 16 != 0)
    fail(SKV_E_ARGUMENT, "payload at %p: wanted 16-byte alignment in device memory",
         static_cast<const void*>(bytes.data()));
  {
    const Device::Use use(device);
    device.need_reach(bytes.data(), bytes.size(), "payload");
  }
  // Room for the whole payload of which only the pages that are fetched to come into being.
  const SparseBytes shadow(bytes.size());
  const Device::Reader reader(device.ordinal());
  std::unique_ptr<Payload> payload(new Payload);
  payload->adopt_parsed(parse(shadow.bytes(), [&](std::span<const Extent> wanted) {
    for (const Extent& extent : wanted) {
      reader.queue(shadow.data() + extent.offset, bytes.data() + extent.offset, extent.bytes);
    }
    reader.wait();
  }));
  payload->device_ = device.ordinal();
  payload->bytes_ = bytes;
  payload->owner_ = std::move(owner);
  if (payload->upgrade()) return payload;
  for (const Segment& segment : payload->parsed_.segments) {
    for (int half = 0; half < 2; ++half) {
      std::vector<uint8_t>& tiers =
          payload->tiers_.emplace_back(segment.shape.dim[half] == 0 ? 0 : segment.shape.tokens);
      if (!tiers.empty()) {
        read_tiers(shadow.bytes().subspan(segment.offset, segment.layout.bytes), segment, half, 0, tiers);
      }
    }
  }
  return payload;
}

std::span<const std::byte> Payload::host_bytes() const {
  if (device_ < 0) return bytes_;
  if (copy_ == nullptr) {
    copy_ = std::shared_ptr<std::byte[]>(new std::byte[bytes_.size()]());
    copied_.assign(parsed_.segments.size(), 0);
    uncopied_ = copied_.size();
    if (!encoded_.empty()) {
      write_header(std::span<std::byte, kHeaderBytes>(copy_.get(), kHeaderBytes), parsed_.header);
    } else {
      Device::read(device_, copy_.get(), bytes_.data(), kHeaderBytes);
    }
  }
  const auto ready = [&](size_t l) { return copied_[l] == 0 && (encoded_.empty() || encoded_[l] != 0); };
  bool any = false;
  for (size_t l = 0; l < copied_.size() && uncopied_ != 0 && !any; ++l) any = ready(l);
  if (any) {
    const Device::Reader reader(device_);
    for (size_t l = 0; l < copied_.size(); ++l) {
      if (!ready(l)) continue;
      const Segment& segment = parsed_.segments[l];
      reader.queue(copy_.get() + segment.offset, bytes_.data() + segment.offset, segment.layout.bytes);
      copied_[l] = 1;
      --uncopied_;
    }
    reader.wait();
  }
  return {copy_.get(), bytes_.size()};
}

void Payload::copy_to(std::span<std::byte> out) {
  need_complete();
  const size_t size = packed() ? packed_->bytes.size() : bytes_.size();
  if (out.size() < size) fail(SKV_E_TOO_SMALL, "buffer of %zu bytes, wanted %zu", out.size(), size);
  if (device_ >= 0 && copy_ == nullptr) {
    Device::read(device_, out.data(), bytes_.data(), bytes_.size());
  } else {
    std::memcpy(out.data(), wire_bytes().data(), size);
  }
}

std::vector<LayerTiers> Payload::kept_tiers(int32_t first, int32_t count) const {
  std::vector<LayerTiers> out;
  for (auto l = static_cast<size_t>(first); l < static_cast<size_t>(first + count); ++l) {
    out.push_back({{tiers_[2 * l], tiers_[2 * l + 1]}});
  }
  return out;
}

}  // namespace skv
