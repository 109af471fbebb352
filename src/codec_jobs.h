// SPDX-License-Identifier: Apache-2.0
// A call's work as the CUDA kernels take it: one record a half of a layer, one a chunk, laid out on the host, brought
// to the device in one copy and launched in batches.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <span>
#include <vector>

#include "cache.h"
#include "codec_cuda.h"
#include "device.h"
#include "error.h"
#include "kernels/cuda/cuda.h"
#include "kernels/tiers.h"
#include "payload.h"

namespace skv {

constexpr uint64_t kScratchAlign = 256;  // of what follows the stage in the arena
inline uint64_t aligned_to(uint64_t value, uint64_t unit) { return (value + unit - 1) / unit * unit; }

// Records of a call, written at host addresses and named by the device's: one copy brings them over.
class Stage {
 public:
  template <class T>
  struct Piece {
    T* host;
    T* device;
  };
  template <class T>
  static constexpr uint64_t room(uint64_t n) {
    return n * sizeof(T) + kSectionAlign;
  }

  Stage(std::byte* host, std::byte* device, uint64_t bytes) : host_(host), device_(device), bytes_(bytes) {}
  template <class T>
  Piece<T> take(uint64_t n) {
    used_ = aligned_to(used_, kSectionAlign);
    const Piece<T> piece{reinterpret_cast<T*>(host_ + used_), reinterpret_cast<T*>(device_ + used_)};
    used_ += n * sizeof(T);
    if (used_ > bytes_)
      fail(SKV_E_INTERNAL, "the stage of %llu bytes is too small", static_cast<unsigned long long>(bytes_));
    return piece;
  }
  template <class T>
  T* put(std::span<const T> values) {
    const Piece<T> piece = take<T>(values.size());
    if (!values.empty()) std::memcpy(piece.host, values.data(), values.size_bytes());
    return piece.device;
  }
  void send(void* stream) const { check_cuda(cuda::copy(device_, host_, used_, stream), "copying jobs"); }

 private:
  std::byte* host_;
  std::byte* device_;
  uint64_t bytes_;
  uint64_t used_ = 0;
};

// One half of one layer of a call.
struct Job {
  int32_t layer = 0;
  int half = 0;
  std::span<const uint8_t> tiers;
  uint32_t chunks = 0;
  uint32_t first_ordinal = 0;
  cuda::Half rows{};  // addresses of the device but for what the stage will hold

  int32_t variant() const { return cuda::variant_of(rows.dim, rows.transforms); }
  bool has_vectors() const { return (rows.transforms & (tiers::kMean | tiers::kBalance)) != 0; }
  uint64_t scratch_floats() const {
    return has_vectors() ? uint64_t{chunks} * static_cast<uint64_t>(rows.heads) * static_cast<uint64_t>(rows.dim) : 0;
  }
};

// The view of a half; the block table is still to be named.
cuda::Half rows_of_half(const Cache& cache, int32_t layer, int half);

// Jobs on the device, cut into launches: units of one variant of the kernels lie together, those with channel vectors
// first.
class Work {
 public:
  // Both are referred to; the jobs get their ordinals here and their addresses in write().
  Work(const Cache& cache, std::vector<Job>& jobs);

  uint64_t stage_bytes() const;
  // f32 channel vectors of the jobs: `each` per channel and chunk (mean, recip, and balance where it is wanted).
  uint64_t scratch_bytes(uint64_t each) const;
  void place_scratch(std::byte* scratch, bool with_balance);
  void write(Stage& stage);

  // Launches; the stage must have been sent.
  void statistics(void* stream) const;
  void pack(void* stream) const;
  void unpack(void* stream) const;
  void absmax(void* stream) const;
  cuda::Faults* faults() const { return faults_.device; }

  // The one wait of a call.
  cuda::Faults verdict(void* stream) const;
  const Job& job_at(uint32_t ordinal) const;

 private:
  struct Launch {
    cuda::Batch batch;
    uint32_t with_vectors;  // leading units that have channel vectors
    int32_t heads;          // most heads of those
  };
  static void write_units(const Job& job, uint32_t half, cuda::Unit* out);

  const Cache& cache_;
  std::vector<Job>& jobs_;
  std::map<const std::vector<int32_t>*, const int32_t*> tables_;
  uint32_t units_ = 0;
  uint64_t tiers_ = 0;
  Stage::Piece<cuda::Faults> faults_{};
  const cuda::Half* halves_ = nullptr;
  std::vector<Launch> launches_;
};

// The engine's memory for a call: the arena holds the stage, then scratch, then leaf digests.
struct Room {
  Stage stage;
  std::byte* scratch;
  uint64_t* leaves;
};
Room make_room(Device& device, uint64_t stage_bytes, uint64_t scratch_bytes, uint64_t leaves);

// Segments for the digest kernels, in a stage.
struct Digests {
  Stage::Piece<cuda::Segment> segments;
  uint32_t count = 0;
  uint64_t leaves = 0;
};

// All of an encoding but its verdict: what runs between two waits, and may be captured into a CUDA graph. The sources
// given must outlive it.
class EncodeJobs {
 public:
  EncodeJobs(Device& device, const Cache& cache, std::span<const LayerPlan> plan, std::span<const Segment> segments,
             const Header& header, std::byte* payload, int32_t first, int32_t count);
  EncodeJobs(const EncodeJobs&) = delete;
  EncodeJobs& operator=(const EncodeJobs&) = delete;
  // In this order.
  void send(void* stream) const { room_.stage.send(stream); }
  void place(void* stream) const;
  void statistics(void* stream) const { work_.statistics(stream); }
  void pack(void* stream) const { work_.pack(stream); }
  void digest(void* stream) const;
  cuda::Faults verdict(void* stream) const { return work_.verdict(stream); }
  const Job& job_at(uint32_t ordinal) const { return work_.job_at(ordinal); }

 private:
  std::vector<Job> jobs_;
  Work work_;
  Room room_;
  Stage::Piece<cuda::Patch> patches_{};
  uint32_t patch_count_ = 0;
  Digests digests_;
};

// The same of a decoding; segments flagged in `verified` are not verified again.
class DecodeJobs {
 public:
  DecodeJobs(Device& device, const Cache& cache, std::span<const Segment> segments, std::span<const LayerTiers> tiers,
             std::span<const uint8_t> verified, const std::byte* payload, int32_t first, int32_t count);
  DecodeJobs(const DecodeJobs&) = delete;
  DecodeJobs& operator=(const DecodeJobs&) = delete;
  void send(void* stream) const { room_.stage.send(stream); }
  void verify(void* stream) const;
  void unpack(void* stream) const { work_.unpack(stream); }
  cuda::Faults verdict(void* stream) const { return work_.verdict(stream); }

 private:
  std::vector<Job> jobs_;
  Work work_;
  Room room_;
  Digests digests_;
};

}  // namespace skv
