// SPDX-License-Identifier: Apache-2.0
// The CUDA kernels and what of the CUDA runtime the library uses, as plain C++: src/ has no CUDA syntax. Implemented by
// the .cu files here (nvcc), by absent.cc in a build without CUDA, and by the same .cu files over tests/shim in tests.
// Every function returns a cudaError_t as an int, 0 for success; every launch is ordered on the stream given
// (a cudaStream_t), does not wait, allocates nothing and may be captured into a CUDA graph.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/kernels.h"

namespace skv::cuda {

// ------------------------------------------------------------------------------------------------ runtime

constexpr int kSuccess = 0;
constexpr int kOutOfMemory = 2;          // cudaErrorMemoryAllocation
constexpr int kInsufficientDriver = 35;  // cudaErrorInsufficientDriver: no driver, or one older than the runtime
constexpr int kNoDevice = 100;           // cudaErrorNoDevice
constexpr int kNotReady = 600;           // cudaErrorNotReady: not a failure

struct Properties {
  char name[128];
  int32_t major;  // compute capability
  int32_t minor;
};

// Where an address lies.
struct Place {
  enum Kind : int32_t { kHost = 0, kPinned = 1, kDevice = 2, kManaged = 3 };
  int32_t kind;
  int32_t device;  // of kDevice and kManaged
};

bool built();  // false in a build without CUDA: everything below then fails
const char* error_name(int code);
const char* error_text(int code);
int device_count(int32_t* count);
int properties(int32_t device, Properties* out);
int loadable();  // whether the current device runs the kernels this build holds
int current_device(int32_t* device);
int use_device(int32_t device);
int allocate(void** memory, size_t bytes);
int release(void* memory);
int allocate_pinned(void** memory, size_t bytes);
int release_pinned(void* memory);
int place_of(const void* address, Place* out);
int copy(void* to, const void* from, size_t bytes, void* stream);  // any direction
int open_stream(void** stream);                                    // one that does not wait for the default stream
int close_stream(void* stream);
int clear(void* memory, size_t bytes, void* stream);
int synchronize(void* stream);
int open_event(void** event);  // without timing
int close_event(void* event);
int record(void* event, void* stream);
int query(void* event);                      // kNotReady until the device has passed it
int wait_event(void* stream, void* event);   // what follows on the stream waits on the device

// ------------------------------------------------------------------------------------------------ jobs

// One half (K or V) of one layer: its rows in caller memory and its sections in a segment. All addresses are the
// device's. Row t is at base + (blocks == null ? t * stride_token : blocks[t / block_tokens] * stride_block +
// (t % block_tokens) * stride_token).
struct Half {
  std::byte* base;
  const int32_t* blocks;
  int64_t stride_block;
  int64_t stride_token;
  int64_t stride_head;
  int64_t stride_elem;
  int32_t block_tokens;
  int32_t tokens;
  int32_t chunk;  // tokens of a unit
  int32_t heads;
  int32_t dim;
  int32_t dtype;
  int32_t code;
  int32_t raw_dtype;
  uint32_t transforms;
  int32_t payload_heads;  // unpack: heads of the segment, of which rows' head 0 is first_head; else heads and 0
  int32_t first_head;
  const uint8_t* tiers;  // [tokens]
  std::byte* vectors;    // stored channel vectors, mean then balance of each chunk; null: not wanted (absmax)
  kernels::Sections at;  // first byte of each section; null for absmax
  float* mean;           // [chunks][heads * dim] f32 of the stored mean, with MEAN
  float* recip;          // [chunks][heads * dim] 1 / balance, with BALANCE
  float* balance;        // [chunks][heads * dim] or null
  float* absmax;         // [tokens][heads], of the absmax kernel alone
};

// One chunk of a half. rows before it in each section.
struct Unit {
  uint32_t half;
  uint32_t chunk;
  uint32_t ordinal;  // in the order the CPU works in: of several that fail the first is reported
  uint32_t quantized;
  uint32_t two;
  uint32_t nibble;
  uint32_t plane2;
  uint32_t plane3;
  uint32_t raw;
};

// Units of one variant of the row kernels.
struct Batch {
  const Half* halves;
  const Unit* units;
  uint32_t count;
  int32_t variant;  // variant_of()
  int32_t rows;     // most (token, head) rows of any unit
  int32_t dim;      // of the unit with the most lanes a row
};

// The lowest ordinal that failed; UINT32_MAX before a launch.
struct Faults {
  uint32_t unit;     // a value that cannot be quantized
  uint32_t segment;  // digest or scales of a segment
};

// A row is split over `lanes` threads, each holding `width` neighbouring channels of every `points`-th of the row: the
// Hadamard transform and the codes that share a byte then stay within a thread.
struct Variant {
  int32_t points;
  int32_t width;
};
constexpr Variant kVariants[] = {{8, 8}, {8, 4}, {8, 2}, {8, 1}, {16, 4}, {16, 1}};
constexpr int32_t kVariantCount = 6;
constexpr int32_t variant_of(int32_t dim, uint32_t transforms) {
  if ((transforms & 8U) != 0) return dim % 64 == 0 ? 4 : 5;
  return dim % 64 == 0 ? 0 : dim % 32 == 0 ? 1 : dim % 16 == 0 ? 2 : 3;
}

// Bytes to put into a payload: header, maps, padding (from == null: zeros).
struct Patch {
  std::byte* to;
  const std::byte* from;
  uint64_t bytes;
};

struct Segment {
  std::byte* bytes;
  uint64_t size;
  uint64_t first_leaf;  // leaves of the segments before it
  uint64_t wanted;      // verify: the digest stored
  uint32_t ordinal;
  const uint16_t* scales[2];
  uint64_t scale_count[2];
};

// ------------------------------------------------------------------------------------------------ launches

int place(const Patch* patches, uint32_t count, void* stream);
// Channel vectors of units that have any (docs/wire-format.md, "Encoding arithmetic", steps 2 to 4). heads: the most.
int statistics(const Half* halves, const Unit* units, uint32_t count, int32_t heads, Faults* faults, void* stream);
int pack(const Batch& batch, Faults* faults, void* stream);
int unpack(const Batch& batch, const Faults* faults, void* stream);  // does nothing once *faults names a segment
int absmax(const Batch& batch, Faults* faults, void* stream);
// XXH3-64 of every 64 KiB leaf, then of each segment's header and leaves: sealed into the segments, or compared.
int digest_leaves(const Segment* segments, uint32_t count, uint64_t leaves, uint64_t* out, void* stream);
int seal(const Segment* segments, uint32_t count, const uint64_t* leaves, void* stream);
int verify(const Segment* segments, uint32_t count, const uint64_t* leaves, Faults* faults, void* stream);

}  // namespace skv::cuda
