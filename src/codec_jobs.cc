// SPDX-License-Identifier: Apache-2.0
#include "codec_jobs.h"

#include <algorithm>
#include <utility>

#include "codec_work.h"

namespace skv {
namespace {

// A half as the segment says, with its sections.
Job job_of(const Cache& cache, const Segment& segment, int32_t layer, int half, std::byte* bytes,
           std::span<const uint8_t> tiers) {
  const SegmentShape& shape = segment.shape;
  const HalfLayout& layout = segment.layout.half[half];
  Job job;
  job.layer = layer;
  job.half = half;
  job.tiers = tiers;
  job.chunks = chunks_of(shape.tokens, shape.chunk);
  job.rows = rows_of_half(cache, layer, half);
  job.rows.chunk = shape.chunk;
  job.rows.code = shape.code;
  job.rows.raw_dtype = shape.raw_dtype;
  job.rows.transforms = shape.transforms[half];
  job.rows.payload_heads = shape.heads;
  job.rows.first_head = cache.layer(layer).first_head - shape.first_head;
  job.rows.vectors = bytes + layout.vectors.offset;
  job.rows.at = {bytes + layout.scales.offset, bytes + layout.two.offset,    bytes + layout.nibble.offset,
                 bytes + layout.plane2.offset, bytes + layout.plane3.offset, bytes + layout.raw.offset};
  return job;
}

std::vector<Job> jobs_of(const Cache& cache, std::span<const Segment> segments, std::span<const LayerTiers> tiers,
                         std::byte* payload, int32_t first, int32_t count) {
  std::vector<Job> jobs;
  for (int32_t l = first; l < first + count; ++l) {
    const Segment& segment = segments[static_cast<size_t>(l)];
    for (int half = 0; half < 2; ++half) {
      if (segment.shape.dim[half] == 0) continue;
      jobs.push_back(
          job_of(cache, segment, l, half, payload + segment.offset, tiers[static_cast<size_t>(l - first)].half[half]));
    }
  }
  return jobs;
}

uint64_t leaves_of(std::span<const Segment> segments) {
  uint64_t leaves = 0;
  for (const Segment& segment : segments) leaves += leaf_count(segment.layout.bytes);
  return leaves;
}

Digests digests_of(Stage& stage, std::span<const Segment> segments, std::byte* payload, std::span<const uint8_t> skip) {
  Digests out;
  out.segments = stage.take<cuda::Segment>(segments.size());
  for (size_t i = 0; i < segments.size(); ++i) {
    if (!skip.empty() && skip[i] != 0) continue;
    const Segment& segment = segments[i];
    cuda::Segment& to = out.segments.host[out.count++];
    to = {};
    to.bytes = payload + segment.offset;
    to.size = segment.layout.bytes;
    to.first_leaf = out.leaves;
    to.wanted = segment.digest;
    to.ordinal = static_cast<uint32_t>(i);
    for (int half = 0; half < 2; ++half) {
      to.scales[half] = reinterpret_cast<const uint16_t*>(to.bytes + segment.layout.half[half].scales.offset);
      to.scale_count[half] = segment.layout.half[half].scales.bytes / sizeof(uint16_t);
    }
    out.leaves += leaf_count(segment.layout.bytes);
  }
  return out;
}

// Header, maps and padding of a segment, made by the host.
constexpr uint64_t kMostPatches = 1 + 2 + 15;  // header, two maps, a gap before each section and at the end
uint64_t patch_bytes(const Segment& segment) {
  return kMostPatches * sizeof(cuda::Patch) + kSegmentHeaderBytes + segment.layout.half[0].map.bytes +
         segment.layout.half[1].map.bytes + 3 * kSectionAlign;
}
void write_patches(Stage& stage, const Segment& segment, const LayerPlan& layer, std::byte* payload,
                   std::vector<cuda::Patch>& out) {
  std::byte* to = payload + segment.offset;
  const auto header = stage.take<std::byte>(kSegmentHeaderBytes);
  write_segment_header({header.host, kSegmentHeaderBytes}, segment.shape, segment.layout);
  out.push_back({to, header.device, kSegmentHeaderBytes});
  for (int half = 0; half < 2; ++half) {
    HalfLayout map = segment.layout.half[half];
    if (segment.shape.dim[half] == 0) continue;
    const auto bytes = stage.take<std::byte>(map.map.bytes);
    const uint64_t offset = std::exchange(map.map.offset, 0);
    write_map({bytes.host, map.map.bytes}, map, layer.tiers[half]);
    out.push_back({to + offset, bytes.device, map.map.bytes});
  }
  for (const Extent& gap : gaps_of(segment.layout)) out.push_back({to + gap.offset, nullptr, gap.bytes});
}

uint64_t encode_stage_bytes(const Work& work, std::span<const Segment> mine) {
  uint64_t bytes = work.stage_bytes() + Stage::room<cuda::Segment>(mine.size()) +
                   Stage::room<cuda::Patch>(kMostPatches * mine.size() + 1) + Stage::room<std::byte>(kHeaderBytes);
  for (const Segment& segment : mine) bytes += patch_bytes(segment);
  return bytes;
}

std::vector<LayerTiers> tiers_of(std::span<const LayerPlan> plan, int32_t first, int32_t count) {
  std::vector<LayerTiers> tiers;
  for (const LayerPlan& layer : plan.subspan(static_cast<size_t>(first), static_cast<size_t>(count))) {
    tiers.push_back({{layer.tiers[0], layer.tiers[1]}});
  }
  return tiers;
}

template <class T>
std::span<const T> part(std::span<const T> all, int32_t first, int32_t count) {
  return all.subspan(static_cast<size_t>(first), static_cast<size_t>(count));
}

}  // namespace

cuda::Half rows_of_half(const Cache& cache, int32_t layer, int half) {
  const CacheLayer& view = cache.layer(layer);
  const Plane& plane = view.plane[half];
  cuda::Half out{};
  out.base = plane.base;
  out.stride_block = plane.stride_block;
  out.stride_token = plane.stride_token;
  out.stride_head = plane.stride_head;
  out.stride_elem = plane.stride_elem;
  out.block_tokens = view.blocks == nullptr ? 1 : view.block_tokens;
  out.tokens = static_cast<int32_t>(view.tokens);
  out.chunk = tiers::kMaxChunk;
  out.heads = view.kv_heads;
  out.dim = view.dim[half];
  out.dtype = view.dtype;
  out.raw_dtype = view.dtype;
  out.payload_heads = view.kv_heads;
  return out;
}

Work::Work(const Cache& cache, std::vector<Job>& jobs) : cache_(cache), jobs_(jobs) {
  uint32_t ordinal = 0;
  for (Job& job : jobs_) {
    job.first_ordinal = ordinal;
    ordinal += job.chunks;
    units_ += job.chunks;
    tiers_ += job.tiers.size();
    const auto& blocks = cache_.layer(job.layer).blocks;
    if (blocks != nullptr) tables_[blocks.get()] = nullptr;
  }
}

uint64_t Work::stage_bytes() const {
  uint64_t bytes = Stage::room<cuda::Faults>(1) + Stage::room<cuda::Half>(jobs_.size()) +
                   Stage::room<cuda::Unit>(units_) + tiers_ + jobs_.size() * kSectionAlign;
  for (const auto& [table, device] : tables_) bytes += Stage::room<int32_t>(table->size());
  return bytes;
}

uint64_t Work::scratch_bytes(uint64_t each) const {
  uint64_t bytes = 0;
  for (const Job& job : jobs_) bytes += aligned_to(each * job.scratch_floats() * sizeof(float), kScratchAlign);
  return bytes;
}

void Work::place_scratch(std::byte* scratch, bool with_balance) {
  for (Job& job : jobs_) {
    const uint64_t floats = job.scratch_floats();
    job.rows.mean = reinterpret_cast<float*>(scratch);
    job.rows.recip = job.rows.mean + floats;
    job.rows.balance = with_balance ? job.rows.recip + floats : nullptr;
    scratch += aligned_to((with_balance ? 3 : 2) * floats * sizeof(float), kScratchAlign);
  }
}

void Work::write(Stage& stage) {
  faults_ = stage.take<cuda::Faults>(1);
  *faults_.host = {UINT32_MAX, UINT32_MAX};
  for (auto& [table, device] : tables_) device = stage.put(std::span<const int32_t>(*table));
  std::vector<size_t> order(jobs_.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    if (jobs_[a].variant() != jobs_[b].variant()) return jobs_[a].variant() < jobs_[b].variant();
    return jobs_[a].has_vectors() && !jobs_[b].has_vectors();
  });
  const Stage::Piece<cuda::Half> halves = stage.take<cuda::Half>(jobs_.size());
  const Stage::Piece<cuda::Unit> units = stage.take<cuda::Unit>(units_);
  halves_ = halves.device;
  uint32_t at = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    Job& job = jobs_[order[i]];
    const auto& blocks = cache_.layer(job.layer).blocks;
    job.rows.blocks = blocks == nullptr ? nullptr : tables_[blocks.get()];
    job.rows.tiers = stage.put(job.tiers);
    halves.host[i] = job.rows;
    if (launches_.empty() || launches_.back().batch.variant != job.variant()) {
      launches_.push_back({{halves_, units.device + at, 0, job.variant(), 0, 0}, 0, 0});
    }
    Launch& launch = launches_.back();
    launch.batch.count += job.chunks;
    launch.batch.rows = std::max(launch.batch.rows, std::min(job.rows.tokens, job.rows.chunk) * job.rows.heads);
    launch.batch.dim = std::max(launch.batch.dim, job.rows.dim);
    if (job.has_vectors()) {
      launch.with_vectors += job.chunks;
      launch.heads = std::max(launch.heads, job.rows.heads);
    }
    write_units(job, static_cast<uint32_t>(i), units.host + at);
    at += job.chunks;
  }
}

void Work::statistics(void* stream) const {
  for (const Launch& launch : launches_) {
    check_cuda(cuda::statistics(halves_, launch.batch.units, launch.with_vectors, launch.heads, faults_.device, stream),
               "launching the channel statistics");
  }
}

void Work::pack(void* stream) const {
  for (const Launch& launch : launches_) {
    check_cuda(cuda::pack(launch.batch, faults_.device, stream), "launching the encoder");
  }
}

void Work::unpack(void* stream) const {
  for (const Launch& launch : launches_) {
    check_cuda(cuda::unpack(launch.batch, faults_.device, stream), "launching the decoder");
  }
}

void Work::absmax(void* stream) const {
  for (const Launch& launch : launches_) {
    check_cuda(cuda::absmax(launch.batch, faults_.device, stream), "launching the row maxima");
  }
}

cuda::Faults Work::verdict(void* stream) const {
  check_cuda(cuda::copy(faults_.host, faults_.device, sizeof(cuda::Faults), stream), "copying the verdict");
  check_cuda(cuda::synchronize(stream), "running on the device");
  return *faults_.host;
}

const Job& Work::job_at(uint32_t ordinal) const {
  size_t i = jobs_.size() - 1;
  while (jobs_[i].first_ordinal > ordinal) --i;
  return jobs_[i];
}

void Work::write_units(const Job& job, uint32_t half, cuda::Unit* out) {
  uint32_t rows[8] = {};
  for (uint32_t c = 0; c < job.chunks; ++c) {
    const uint32_t quantized = rows[1] + rows[2] + rows[3] + rows[4];
    out[c] = {half,
              c,
              job.first_ordinal + c,
              quantized,
              rows[1],
              quantized - rows[1],
              rows[3] + rows[4],
              rows[4],
              rows[tiers::kRaw]};
    const size_t first = size_t{c} * static_cast<size_t>(job.rows.chunk);
    const size_t last = std::min(job.tiers.size(), first + static_cast<size_t>(job.rows.chunk));
    for (size_t t = first; t < last; ++t) ++rows[job.tiers[t]];
  }
}

Room make_room(Device& device, uint64_t stage_bytes, uint64_t scratch_bytes, uint64_t leaves) {
  const uint64_t stage = aligned_to(stage_bytes, kScratchAlign);
  std::byte* arena = device.arena(stage + scratch_bytes + leaves * sizeof(uint64_t));
  std::byte* host = device.staging(stage);
  return {Stage(host, arena, stage), arena + stage, reinterpret_cast<uint64_t*>(arena + stage + scratch_bytes)};
}

EncodeJobs::EncodeJobs(Device& device, const Cache& cache, std::span<const LayerPlan> plan,
                       std::span<const Segment> segments, const Header& header, std::byte* payload, int32_t first,
                       int32_t count)
    : jobs_(jobs_of(cache, segments, tiers_of(plan, first, count), payload, first, count)),
      work_(cache, jobs_),
      room_(make_room(device, encode_stage_bytes(work_, part(segments, first, count)), work_.scratch_bytes(2),
                      leaves_of(part(segments, first, count)))) {
  const std::span<const Segment> mine = part(segments, first, count);
  Stage& stage = room_.stage;
  work_.place_scratch(room_.scratch, false);
  work_.write(stage);
  std::vector<cuda::Patch> patches;
  const auto head = stage.take<std::byte>(kHeaderBytes);
  write_header(std::span<std::byte, kHeaderBytes>(head.host, kHeaderBytes), header);
  patches.push_back({payload, head.device, kHeaderBytes});
  for (size_t i = 0; i < mine.size(); ++i) {
    write_patches(stage, mine[i], plan[static_cast<size_t>(first) + i], payload, patches);
  }
  patch_count_ = static_cast<uint32_t>(patches.size());
  patches_ = stage.take<cuda::Patch>(patches.size());
  std::copy(patches.begin(), patches.end(), patches_.host);
  digests_ = digests_of(stage, mine, payload, {});
}

void EncodeJobs::place(void* stream) const {
  check_cuda(cuda::place(patches_.device, patch_count_, stream), "launching the headers");
}

void EncodeJobs::digest(void* stream) const {
  check_cuda(cuda::digest_leaves(digests_.segments.device, digests_.count, digests_.leaves, room_.leaves, stream),
             "launching the digests");
  check_cuda(cuda::seal(digests_.segments.device, digests_.count, room_.leaves, stream), "launching the seals");
}

DecodeJobs::DecodeJobs(Device& device, const Cache& cache, std::span<const Segment> segments,
                       std::span<const LayerTiers> tiers, std::span<const uint8_t> verified, const std::byte* payload,
                       int32_t first, int32_t count)
    // Read only: a half's sections serve both directions.
    : jobs_(jobs_of(cache, segments, tiers, const_cast<std::byte*>(payload), first, count)),
      work_(cache, jobs_),
      room_(make_room(device, work_.stage_bytes() + Stage::room<cuda::Segment>(static_cast<uint64_t>(count)), 0,
                      leaves_of(part(segments, first, count)))) {
  work_.write(room_.stage);
  digests_ = digests_of(room_.stage, part(segments, first, count), const_cast<std::byte*>(payload),
                        part(verified, first, count));
}

void DecodeJobs::verify(void* stream) const {
  check_cuda(cuda::digest_leaves(digests_.segments.device, digests_.count, digests_.leaves, room_.leaves, stream),
             "launching the digests");
  check_cuda(cuda::verify(digests_.segments.device, digests_.count, room_.leaves, work_.faults(), stream),
             "launching the verification");
}

}  // namespace skv
