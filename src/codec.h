// SPDX-License-Identifier: Apache-2.0
// Where cache, plan, kernels and payload meet: encode and decode. The only place that knows all four.
#pragma once

#include <spectrumkv.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "cache.h"
#include "codec_cuda.h"
#include "engine.h"
#include "packed.h"
#include "payload.h"
#include "plan.h"
#include "score.h"

namespace skv {

// How far a payload that is still arriving has come.
struct Arrived {
  size_t layers = 0;     // leading ones that are there and verified in transit
  bool ended = false;    // all of it
  uint64_t wire_ns = 0;  // when ended
  int32_t plane = SKV_PLANE_NONE;
  // What the sender made smaller meanwhile, with an entry for the header first; empty: nothing.
  std::vector<uint64_t> layer_bytes;
  std::vector<uint32_t> cuts;   // the tier that a layer was cut to, else 0
  std::vector<std::byte> head;  // the header in the end
};
// Asked when a layer is wanted that was not there yet. Throws when no more will come.
using ArrivalOf = std::function<Arrived()>;

// Told as a payload under construction grows.
struct PayloadWatcher {
  std::function<void(size_t leading_layers)> encoded;
  std::function<void()> abandoned;  // it goes away with layers missing
  // Bytes that layers not encoded yet may have to be there in time; UINT64_MAX: all.
  std::function<uint64_t()> affordable;
  // The first layer not encoded has fewer bytes now, rows of at most `tier` below RAW, and this is the header.
  std::function<void(size_t layer, uint64_t bytes, uint8_t tier, std::span<const std::byte> head)> cut;
};

// A payload with its bytes: opened (parsed from bytes someone else made) or made here, layer by layer.
class Payload {
 public:
  // Parses bytes that `owner` keeps alive (null: the caller does).
  static std::unique_ptr<Payload> open(std::span<const std::byte> bytes, std::shared_ptr<const void> owner);
  // One whose layers are still arriving: bytes is all of its memory, layer_bytes what was offered, its header first.
  // Layers can be read as soon as `arrival` says that they are there, the whole once it has ended.
  static std::unique_ptr<Payload> open_early(std::span<std::byte> bytes, std::span<const uint64_t> layer_bytes,
                                             std::shared_ptr<const void> owner, ArrivalOf arrival);
  // Parses bytes in a device's memory: headers, maps and channel vectors are copied to the host and checked there.
  static std::unique_ptr<Payload> open_on(const Device& device, std::span<const std::byte> bytes,
                                          std::shared_ptr<const void> owner);
  // An empty one for a solved plan, in the device's memory or (null) the host's; buffer empty: own memory.
  static std::unique_ptr<Payload> create(const Cache& cache, const Plan& plan, std::span<std::byte> buffer,
                                         const Device* device = nullptr);

  // A whole one in packed form (host memory): the same rows in fewer bytes.
  static std::unique_ptr<Payload> pack(Engine& engine, Payload& plain);

  bool complete() const { return missing_ == 0; }
  // Where the bytes are; bytes() of a payload in device memory may not be read by the host.
  int32_t device() const { return device_; }
  std::span<const std::byte> bytes() const { return bytes_; }
  // The bytes in host memory with what keeps them alive: a device's are copied, layers as they are encoded.
  std::span<const std::byte> host_bytes() const;
  // What is sent and stored, in host memory: the bytes, or their packed form. With it pieces that can be sent one by
  // one.
  std::span<const std::byte> wire_bytes() const;
  std::shared_ptr<const void> wire_owner() const;
  std::vector<uint64_t> wire_pieces() const;
  bool packed() const { return packed_ != nullptr; }
  // One of bytes just made in host memory, whose digests need no check; facts of the plan that made it, if any.
  static std::unique_ptr<Payload> made(std::shared_ptr<std::byte> memory, size_t bytes, const Plan* plan, uint64_t ns);
  // Throws STATE for an upgrade, which has no rows of its own: `what` was wanted of a payload.
  void need_rows(const char* what) const;
  bool upgrade() const { return (parsed_.header.flags & kFlagUpgrade) != 0; }
  const std::shared_ptr<const void>& owner() const { return owner_; }  // of bytes()
  // All of what is sent to host memory (TOO_SMALL).
  void copy_to(std::span<std::byte> out);
  const Header& header() const { return parsed_.header; }
  std::span<const Segment> segments() const { return parsed_.segments; }
  std::span<const std::byte> segment_bytes(size_t layer) const {
    return host_bytes().subspan(parsed_.segments[layer].offset, parsed_.segments[layer].layout.bytes);
  }
  // Throw STATE unless every layer, or layers [first, first + count), are in.
  void need_complete();
  void need_layers(int32_t first, int32_t count);
  void need_shapes(int32_t layer);  // of a segment (or SKV_ALL): known before they are encoded, not before they arrive
  size_t leading_layers() const;    // encoded without a gap
  void watch(PayloadWatcher watcher);  // under construction only
  void grown() const;                  // tells the watchers
  void abandon();                      // the same when it goes away
  // Cuts planes of the first layer not encoded if those who send it cannot be in time otherwise and the plan allows it.
  // Then the layer has this plan.
  std::optional<LayerPlan> cut_late(const Plan& plan, int32_t layer);

  int64_t get(int32_t layer, int32_t key);
  void tiers(int32_t layer, int32_t half, std::span<uint8_t> out);
  skv_receipt receipt() const;
  void spent_encoding(uint64_t ns) { receipt_.encode_ns = ns; }
  // What its sender cut, with an entry for the header first.
  void note_cuts(std::span<const uint32_t> cuts);
  void moved(uint64_t wire_ns, int32_t plane) {
    receipt_.wire_ns = wire_ns;
    receipt_.plane = plane;
  }

 private:
  friend void encode_layers(Engine&, const Cache&, const Plan&, Payload&, int32_t first, int32_t count, void* stream);
  friend void verify_layers(Engine*, Payload&, int32_t first, int32_t count);
  friend void decode_layers(Engine&, Payload&, const Cache&, int32_t first, int32_t count, void* stream);
  Payload() = default;
  void adopt_facts(const Plan& plan);
  void absorb();
  void end_smaller(const Arrived& now);
  void count_rows(const Segment& segment);
  void adopt_parsed(Parsed parsed);
  void adopt_encoded(int32_t first, int32_t count, uint64_t ns);

  // The packed form that the bytes come from: pieces are unpacked as they are wanted.
  struct PackedSource {
    PackedSource(std::span<const std::byte> all, std::shared_ptr<const void> keeper);
    const Record& add(uint64_t end);
    void unpack(size_t layer, size_t piece, Unpacker& unpacker);
    void fetch(std::span<const Extent> extents);
    void match(const Segment& segment) const;
    std::span<const std::byte> plain() const { return {memory.get(), header.plain_bytes}; }

    std::span<const std::byte> bytes;
    std::shared_ptr<const void> owner;
    PackedHeader header;
    std::shared_ptr<std::byte> memory;       // of the payload
    std::vector<Record> records;             // those that are there
    std::vector<std::vector<uint8_t>> done;  // per record and piece: unpacked
    Unpacker front;                          // for what is wanted first
  };
  static std::unique_ptr<Payload> open_packed(std::span<const std::byte> bytes, std::shared_ptr<const void> owner);
  // The pieces of a layer that are left, after its record's digest. Different layers may be unpacked at a time.
  void unpack_layer(size_t layer, Digest digest);

  // Tiers of layers [first, first + count): from the maps, or as they were encoded on the device.
  std::vector<LayerTiers> kept_tiers(int32_t first, int32_t count) const;

  int32_t device_ = SKV_DEVICE_CPU;
  std::span<const std::byte> bytes_;
  std::span<std::byte> arriving_;              // the same while arriving
  mutable std::shared_ptr<std::byte[]> copy_;  // of the bytes of a device's, on the host
  mutable std::vector<uint8_t> copied_;        // per segment
  mutable size_t uncopied_ = 0;
  std::vector<std::vector<uint8_t>> tiers_;  // of a device's, K and V of each layer
  std::byte* writable_ = nullptr;            // while under construction
  std::shared_ptr<const void> owner_;
  Parsed parsed_;
  std::vector<uint8_t> verified_;  // per segment: digest and scales checked
  std::vector<uint8_t> encoded_;   // per segment, under construction
  size_t missing_ = 0;
  std::unique_ptr<PackedSource> packed_;  // null: not packed
  std::vector<uint8_t> cuts_;             // per segment: the tier it was cut to, 0 if it was not; empty: none was
  size_t arrived_ = 0;                    // while arriving: leading layers that were parsed
  uint64_t arrived_raw_bytes_ = 0;        // of them
  ArrivalOf arrival_;                     // null: not arriving
  std::vector<PayloadWatcher> watchers_;
  skv_receipt receipt_{};
};

// The cache must have the shapes and identity of the plan's layers (LAYOUT, MODEL, REQUEST).
void match_cache(const Cache& cache, const Plan& plan);

// Solves `plan` for `cache`: shapes from the view, costs from the scores (null: keys and values only), then tiers.
void solve(Engine& engine, Plan& plan, const Cache& cache, const Scores* scores);

// Layers [first, first + count) into their place. On a throw their bytes are zero again.
// On a CUDA engine ordered on the stream, which is waited for at the end.
void encode_layers(Engine& engine, const Cache& cache, const Plan& plan, Payload& payload, int32_t first, int32_t count,
                   void* stream = nullptr);
// Digests and scales of layers not verified yet. Without an engine on the caller's thread.
void verify_layers(Engine* engine, Payload& payload, int32_t first, int32_t count);
// Everything is checked before the first byte is written.
void decode_layers(Engine& engine, Payload& payload, const Cache& cache, int32_t first, int32_t count,
                   void* stream = nullptr);

}  // namespace skv
