// SPDX-License-Identifier: Apache-2.0
#include "codec_cuda.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "codec_jobs.h"
#include "codec_work.h"
#include "error.h"

namespace skv {
namespace {

constexpr size_t kShelfBytes = size_t{256} << 20U;  // of a host payload on the device at a time, a layer at least

// Rows of chunks [first, first + count) of a half, contiguous and as they are: the encoder with every row RAW. Waits.
std::vector<std::byte> gather(Device& device, const Cache& cache, int32_t layer, int half, int32_t chunk,
                              uint32_t first, uint32_t count, void* stream) {
  const CacheLayer& view = cache.layer(layer);
  const auto tokens = static_cast<uint32_t>(view.tokens);
  const uint64_t begin = uint64_t{first} * static_cast<uint32_t>(chunk);
  const uint64_t rows = std::min<uint64_t>(tokens, begin + uint64_t{count} * static_cast<uint32_t>(chunk)) - begin;
  const auto row_bytes = static_cast<uint64_t>(view.kv_heads) * static_cast<uint64_t>(view.dim[half]) *
                         static_cast<uint64_t>(tiers::element_bytes(view.dtype));
  const uint64_t table = view.blocks == nullptr ? 0 : view.blocks->size();
  Room room = make_room(device,
                        Stage::room<cuda::Faults>(1) + Stage::room<cuda::Half>(1) + Stage::room<cuda::Unit>(count) +
                            Stage::room<uint8_t>(tokens) + Stage::room<int32_t>(table),
                        0, 0);
  const auto faults = room.stage.take<cuda::Faults>(1);
  *faults.host = {UINT32_MAX, UINT32_MAX};
  const auto tiers = room.stage.take<uint8_t>(tokens);
  std::memset(tiers.host, tiers::kRaw, tokens);
  const auto units = room.stage.take<cuda::Unit>(count);
  for (uint32_t c = 0; c < count; ++c) {
    units.host[c] = {0, first + c, c, 0, 0, 0, 0, 0, c * static_cast<uint32_t>(chunk)};
  }
  const auto job = room.stage.take<cuda::Half>(1);
  *job.host = rows_of_half(cache, layer, half);
  if (table != 0) job.host->blocks = room.stage.put(std::span<const int32_t>(*view.blocks));
  job.host->chunk = chunk;
  job.host->tiers = tiers.device;
  std::byte* shelf = device.shelf(rows * row_bytes);
  job.host->at.raw = shelf;
  room.stage.send(stream);
  const cuda::Batch batch{job.device,
                          units.device,
                          count,
                          cuda::variant_of(view.dim[half], 0),
                          std::min(static_cast<int32_t>(view.tokens), chunk) * view.kv_heads,
                          view.dim[half]};
  check_cuda(cuda::pack(batch, faults.device, stream), "launching the gathering of rows");
  std::vector<std::byte> out(rows * row_bytes);
  check_cuda(cuda::copy(out.data(), shelf, out.size(), stream), "copying rows to the host");
  check_cuda(cuda::synchronize(stream), "running on the device");
  return out;
}

// The device only notices that a unit failed: which row, and why, is for the reference to say, on a copy of the rows.
[[noreturn]] void explain(Device& device, const kernels::Kernels& host, const Cache& cache, const Segment& segment,
                          const Job& job, uint32_t chunk, void* stream) {
  HalfWork work;
  work.layer = job.layer;
  work.half = job.half;
  work.shape = &segment.shape;
  work.layout = &segment.layout.half[job.half];
  work.tiers = job.tiers;
  Arena arena;
  take_before(work, arena);
  count_before(work);
  const std::vector<std::byte> rows = gather(device, cache, job.layer, job.half, job.rows.chunk, chunk, 1, stream);
  const ChunkRange range = chunk_range(segment.shape.tokens, segment.shape.chunk, chunk);
  const int64_t element = tiers::element_bytes(job.rows.dtype);
  const int64_t head = job.rows.dim * element;
  std::vector<int64_t> offsets(range.tokens);
  for (size_t t = 0; t < offsets.size(); ++t) offsets[t] = static_cast<int64_t>(t) * head * job.rows.heads;
  std::vector<std::byte> scratch(segment.layout.bytes);
  Scratch own;
  const kernels::Verdict verdict =
      encode_rows(host,
                  {const_cast<std::byte*>(rows.data()), offsets.data(), static_cast<int32_t>(range.tokens),
                   job.rows.heads, job.rows.dim, job.rows.dtype, head, element},
                  work, chunk, scratch.data(), own);
  if (verdict.kind != kernels::Verdict::kOk) refuse(work, chunk, verdict);
  fail(SKV_E_INTERNAL, "layer %d %s chunk %u: the device refused rows that the CPU encodes", job.layer,
       half_name(job.half), chunk);
}

}  // namespace

void need_reach(const Device& device, const Cache& cache, int32_t first, int32_t count) {
  const Device::Use use(device);
  for (int32_t l = first; l < first + count; ++l) {
    for (int half = 0; half < 2; ++half) {
      const CacheLayer& view = cache.layer(l);
      if (!view.has(half)) continue;
      char what[48];
      std::snprintf(what, sizeof what, "layer %d %s plane", l, half_name(half));
      device.need_reach(view.plane[half].base, view.plane[half].bytes, what);
    }
  }
}

void encode_on_device(Device& device, const kernels::Kernels& host, const Cache& cache, std::span<const LayerPlan> plan,
                      std::span<const Segment> segments, const Header& header, std::byte* payload, int32_t first,
                      int32_t count, void* stream) {
  const Device::Use use(device);
  try {
    const EncodeJobs jobs(device, cache, plan, segments, header, payload, first, count);
    jobs.send(stream);
    jobs.place(stream);
    jobs.statistics(stream);
    jobs.pack(stream);
    jobs.digest(stream);
    const cuda::Faults faults = jobs.verdict(stream);
    if (faults.unit != UINT32_MAX) {
      const Job& job = jobs.job_at(faults.unit);
      explain(device, host, cache, segments[static_cast<size_t>(job.layer)], job, faults.unit - job.first_ordinal,
              stream);
    }
  } catch (...) {  // handed on: what is left behind is zero, and nothing is under way
    for (int32_t l = first; l < first + count; ++l) {
      const Segment& segment = segments[static_cast<size_t>(l)];
      static_cast<void>(cuda::clear(payload + segment.offset, segment.layout.bytes, stream));
    }
    static_cast<void>(cuda::synchronize(stream));
    throw;
  }
}

int32_t decode_on_device(Device& device, const Cache& cache, std::span<const Segment> segments,
                         std::span<const LayerTiers> tiers, std::span<const uint8_t> verified, const std::byte* payload,
                         int32_t first, int32_t count, void* stream) {
  const Device::Use use(device);
  const DecodeJobs jobs(device, cache, segments, tiers, verified, payload, first, count);
  jobs.send(stream);
  jobs.verify(stream);
  jobs.unpack(stream);
  const cuda::Faults faults = jobs.verdict(stream);
  return faults.segment == UINT32_MAX ? -1 : first + static_cast<int32_t>(faults.segment);
}

void decode_from_host(Device& device, const Cache& cache, std::span<const Segment> segments,
                      std::span<const std::byte> payload, int32_t first, int32_t count, void* stream) {
  const Device::Use use(device);
  const std::vector<uint8_t> verified(segments.size(), 1);
  for (int32_t begin = first; begin < first + count;) {
    const uint64_t from = segments[static_cast<size_t>(begin)].offset;
    uint64_t bytes = 0;
    int32_t end = begin;
    std::vector<std::vector<uint8_t>> maps;
    std::vector<LayerTiers> tiers;
    for (; end < first + count; ++end) {
      const Segment& segment = segments[static_cast<size_t>(end)];
      if (end > begin && bytes + segment.layout.bytes > kShelfBytes) break;
      bytes += segment.layout.bytes;
      for (int half = 0; half < 2; ++half) {
        std::vector<uint8_t>& map = maps.emplace_back(segment.shape.dim[half] == 0 ? 0 : segment.shape.tokens);
        if (!map.empty()) read_tiers(payload.subspan(segment.offset, segment.layout.bytes), segment, half, 0, map);
      }
    }
    for (size_t i = 0; i < maps.size(); i += 2) tiers.push_back({{maps[i], maps[i + 1]}});
    std::byte* shelf = device.shelf(bytes);
    check_cuda(cuda::copy(shelf, payload.data() + from, bytes, stream), "copying the payload to the device");
    // The shelf holds the payload from byte `from` on.
    std::vector<Segment> moved(segments.begin(), segments.end());
    for (int32_t l = begin; l < end; ++l) moved[static_cast<size_t>(l)].offset -= from;
    decode_on_device(device, cache, moved, tiers, verified, shelf, begin, end - begin, stream);
    begin = end;
  }
}

std::vector<std::byte> gather_half(Device& device, const Cache& cache, int32_t layer, int half) {
  const Device::Use use(device);
  const auto tokens = static_cast<uint64_t>(cache.layer(layer).tokens);
  return gather(device, cache, layer, half, tiers::kMaxChunk, 0, chunks_of(tokens, tiers::kMaxChunk), nullptr);
}

HalfMeasure measure_on_device(Device& device, const Cache& cache, int32_t layer, int half, uint32_t transforms,
                              uint32_t chunk, std::span<const uint8_t> assumed) {
  const Device::Use use(device);
  const CacheLayer& view = cache.layer(layer);
  const auto tokens = static_cast<size_t>(view.tokens);
  std::vector<Job> jobs(1);
  Job& job = jobs[0];
  job.layer = layer;
  job.half = half;
  job.tiers = assumed;
  job.chunks = chunks_of(tokens, chunk);
  job.rows = rows_of_half(cache, layer, half);
  job.rows.chunk = static_cast<int32_t>(chunk);
  job.rows.transforms = transforms;
  Work work(cache, jobs);
  const uint64_t rows = tokens * static_cast<uint64_t>(view.kv_heads);
  const uint64_t vectors = work.scratch_bytes(3);
  Room room = make_room(device, work.stage_bytes(), vectors + aligned_to(rows * sizeof(float), kScratchAlign), 0);
  work.place_scratch(room.scratch, true);
  job.rows.absmax = reinterpret_cast<float*>(room.scratch + vectors);
  work.write(room.stage);
  room.stage.send(nullptr);
  work.statistics(nullptr);
  work.absmax(nullptr);
  HalfMeasure out;
  out.absmax.resize(rows);
  check_cuda(cuda::copy(out.absmax.data(), job.rows.absmax, rows * sizeof(float), nullptr), "copying row maxima");
  if ((transforms & tiers::kBalance) != 0) {
    out.balance.resize(job.scratch_floats());
    check_cuda(cuda::copy(out.balance.data(), job.rows.balance, out.balance.size() * sizeof(float), nullptr),
               "copying balances");
  }
  const cuda::Faults faults = work.verdict(nullptr);
  if (faults.unit != UINT32_MAX) out.failed_chunk = faults.unit;
  return out;
}

}  // namespace skv
