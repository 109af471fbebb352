// SPDX-License-Identifier: Apache-2.0
#include "codec_upgrade.h"

#include <algorithm>
#include <cstring>

#include "codec_source.h"
#include "codec_work.h"
#include "error.h"
#include "host_view.h"
#include "kernels/tiers.h"
#include "payload_planes.h"

namespace skv {
namespace {

using ull = unsigned long long;

// ------------------------------------------------------------------------------------------------- encoding

// Rows of a chunk in a section, taken from the front.
struct Taker {
  std::byte* at;
  uint64_t row;

  std::byte* take() {
    std::byte* here = at;
    at += row;
    return here;
  }
};

struct Takers {
  Taker scales, two, nibble, plane1, plane2, plane3, raw;

  Takers(const kernels::Sections& from, std::byte* plane1_at, uint64_t heads, uint64_t dim, uint64_t raw_row)
      : scales{from.scales, heads * 2},
        two{from.two, heads * dim / 4},
        nibble{from.nibble, heads * dim / 2},
        plane1{plane1_at, heads * dim / 4},
        plane2{from.plane2, heads * dim / 4},
        plane3{from.plane3, heads * dim / 4},
        raw{from.raw, raw_row} {}
};

// A packed row, whatever its tier; null where the tier has nothing.
struct PackedRow {
  const std::byte *scales = nullptr, *two = nullptr, *nibble = nullptr, *plane2 = nullptr, *plane3 = nullptr,
                  *raw = nullptr;

  PackedRow(Takers& from, uint8_t tier) {
    if (tier == tiers::kRaw) raw = from.raw.take();
    if (!tiers::is_quantized(tier)) return;
    scales = from.scales.take();
    if (tier == 1) two = from.two.take();
    if (tier >= 2) nibble = from.nibble.take();
    if (tier >= 3) plane2 = from.plane2.take();
    if (tier == 4) plane3 = from.plane3.take();
  }
};

// One half of one layer of an upgrade.
struct RaisedHalf {
  HalfWork base;  // the base's rows
  std::vector<uint8_t> steps;
  const HalfLayout* layout = nullptr;  // of the upgrade's segment
  std::vector<StepCounts> before;      // per chunk
  std::byte* segment = nullptr;        // of the upgrade
  const std::byte* from = nullptr;     // the base's segment
};

struct Raised {
  kernels::Verdict verdict;
  bool stale = false;  // the token's row is not what the base was encoded from
};

// Work memory of a chunk's rows at their new tiers, all sections wide enough for every row.
kernels::Sections room_for(Scratch& scratch, uint64_t tokens, uint64_t heads, uint64_t dim, uint64_t raw_row) {
  const uint64_t elements = heads * dim;
  const uint64_t sizes[] = {tokens * heads * 2,    tokens * elements / 4, tokens * elements / 2,
                            tokens * elements / 4, tokens * elements / 4, tokens * raw_row};
  uint64_t total = 0;
  for (const uint64_t size : sizes) total += (size + 63) / 64 * 64;
  if (scratch.bytes.size() < total) scratch.bytes.resize(total);
  std::byte* at = reinterpret_cast<std::byte*>(scratch.bytes.data());
  std::byte* places[6];
  for (int i = 0; i < 6; ++i) {
    places[i] = at;
    at += (sizes[i] + 63) / 64 * 64;
  }
  return {places[0], places[1], places[2], places[3], places[4], places[5]};
}

// Whether a row packed at tier `at` holds, in its leading planes, the base's row of tier `tier`.
bool holds(const PackedRow& packed, const PackedRow& base, uint8_t tier, uint64_t heads, uint32_t dim) {
  const uint64_t quarter = dim / 4;
  if (std::memcmp(packed.scales, base.scales, heads * 2) != 0) return false;
  if (tier == 1) {
    if (packed.two != nullptr) return std::memcmp(packed.two, base.two, heads * quarter) == 0;
    std::byte plane[kernels::kMaxDim / 4];
    for (uint64_t h = 0; h < heads; ++h) {
      plane_of_nibbles(packed.nibble + h * 2 * quarter, 0, dim, plane);
      if (std::memcmp(plane, base.two + h * quarter, quarter) != 0) return false;
    }
    return true;
  }
  return std::memcmp(packed.nibble, base.nibble, heads * 2 * quarter) == 0 &&
         (tier < 3 || std::memcmp(packed.plane2, base.plane2, heads * quarter) == 0) &&
         (tier < 4 || std::memcmp(packed.plane3, base.plane3, heads * quarter) == 0);
}

// One chunk's additions into their place.
Raised raise_chunk(const kernels::Kernels& k, const Cache& cache, const RaisedHalf& work, uint32_t index,
                   Scratch& scratch) {
  const SegmentShape& shape = *work.base.shape;
  const int half = work.base.half;
  const ChunkRange range = chunk_range(shape.tokens, shape.chunk, index);
  const uint64_t heads = shape.heads;
  const uint32_t dim = shape.dim[half];
  const size_t channels = heads * dim;
  const uint64_t raw_row = row_bytes(shape, half, tiers::kRaw);
  const uint8_t* base_tiers = work.base.tiers.data() + range.first;
  const uint8_t* steps = work.steps.data() + range.first;
  uint8_t wanted[tiers::kMaxChunk];  // what the rows are packed at: their new tier; and to be compared, their old one
  uint8_t compared[tiers::kMaxChunk];
  bool any = false;
  bool compare = false;
  for (uint32_t t = 0; t < range.tokens; ++t) {
    wanted[t] = steps[t] == 0 ? tiers::kDrop : step_tiers(steps[t]).to;
    compared[t] = wanted[t] == tiers::kRaw ? base_tiers[t] : tiers::kDrop;
    any = any || steps[t] != 0;
    compare = compare || tiers::is_quantized(compared[t]);
  }
  if (!any) return {};

  // The base's own channel vectors: what was measured then is what the planes continue.
  auto* from = const_cast<std::byte*>(work.from);  // read only: the kernels' Sections serve both directions
  const uint32_t flags = shape.transforms[half];
  float* mean = scratch.need_floats(2 * channels);
  float* recip = mean + channels;
  const auto* stored = reinterpret_cast<const uint16_t*>(vectors_at(from, work.base, index));
  kernels::PackChunk job{rows_of(cache, work.base.layer, half, range, scratch), wanted, {}, shape.code, shape.raw_dtype,
                         room_for(scratch, range.tokens, heads, dim, raw_row)};
  job.transform.hadamard = tiers::hadamard_of(flags);
  if ((flags & tiers::kMean) != 0) {
    for (size_t c = 0; c < channels; ++c) mean[c] = tiers::f16_to_f32(stored[c]);
    stored += channels;
    job.transform.mean = mean;
  }
  if ((flags & tiers::kBalance) != 0) {
    for (size_t c = 0; c < channels; ++c) recip[c] = 1.0F / tiers::f16_to_f32(stored[c]);
    job.transform.recip = recip;
  }

  const kernels::Sections base_rows = sections_at(from, work.base, index);
  if (compare) {
    job.tiers = compared;
    if (const kernels::Verdict verdict = k.pack(job); verdict.kind != kernels::Verdict::kOk) return {verdict, true};
    Takers packed(job.to, nullptr, heads, dim, raw_row);
    Takers base(base_rows, nullptr, heads, dim, raw_row);
    for (uint32_t t = 0; t < range.tokens; ++t) {
      const PackedRow now(packed, compared[t]);
      const PackedRow then(base, base_tiers[t]);
      if (tiers::is_quantized(compared[t]) && !holds(now, then, base_tiers[t], heads, dim)) {
        return {{0, static_cast<int32_t>(t), 0}, true};
      }
    }
  }
  job.tiers = wanted;
  if (const kernels::Verdict verdict = k.pack(job); verdict.kind != kernels::Verdict::kOk) return {verdict, false};

  const HalfLayout& to = *work.layout;
  const StepRows before = step_rows(work.before[index]);
  const uint64_t quarter = heads * (dim / 4);
  std::byte* s = work.segment;
  Takers out({s + to.scales.offset + before.scales * heads * 2, s + to.two.offset + before.two * quarter,
              s + to.nibble.offset + before.nibble * 2 * quarter, s + to.plane2.offset + before.plane2 * quarter,
              s + to.plane3.offset + before.plane3 * quarter, s + to.raw.offset + before.raw * raw_row},
             s + to.plane1.offset + before.plane1 * quarter, heads, dim, raw_row);
  Takers packed(job.to, nullptr, heads, dim, raw_row);
  Takers base(base_rows, nullptr, heads, dim, raw_row);
  const auto put = [](Taker& section, const std::byte* row) { std::memcpy(section.take(), row, section.row); };
  for (uint32_t t = 0; t < range.tokens; ++t) {
    const PackedRow now(packed, wanted[t]);
    const PackedRow then(base, base_tiers[t]);
    if (steps[t] == 0) continue;
    const auto [old_tier, new_tier] = step_tiers(steps[t]);
    if (new_tier == tiers::kRaw) {
      put(out.raw, now.raw);
      continue;
    }
    if (old_tier == tiers::kDrop) {
      put(out.scales, now.scales);
      if (new_tier == 1) put(out.two, now.two);
      if (new_tier >= 2) put(out.nibble, now.nibble);
    } else if (!holds(now, then, old_tier, heads, dim)) {
      return {{0, static_cast<int32_t>(t), 0}, true};
    }
    if (old_tier == 1) {
      std::byte* plane = out.plane1.take();
      for (uint64_t h = 0; h < heads; ++h) {
        plane_of_nibbles(now.nibble + h * (dim / 2), 1, dim, plane + h * (dim / 4));
      }
    }
    if (old_tier <= 2 && new_tier >= 3) put(out.plane2, now.plane2);
    if (new_tier == 4) put(out.plane3, now.plane3);
  }
  return {};
}

// The halves of one layer, with their maps written.
std::vector<RaisedHalf> raised_halves(Arena& arena, Payload& base, const LayerPlan& plan, size_t layer,
                                      std::span<std::byte> out) {
  std::vector<RaisedHalf> works;
  works.reserve(2);
  for (int half = 0; half < 2; ++half) {
    if (plan.shape.dim[half] == 0) continue;
    RaisedHalf& work = works.emplace_back();
    const Segment& segment = base.segments()[layer];
    work.base.layer = static_cast<int32_t>(layer);
    work.base.half = half;
    work.base.shape = &segment.shape;
    work.base.layout = &segment.layout.half[half];
    work.base.tiers = plan.base[half];
    take_before(work.base, arena);
    count_before(work.base);
    work.steps = plan.steps_of(half);
    work.layout = &plan.layout.half[half];
    work.segment = out.data();
    work.from = base.segment_bytes(layer).data();
    StepCounts running;
    for (uint32_t c = 0; c < work.base.chunks(); ++c) {
      work.before.push_back(running);
      const ChunkRange range = chunk_range(plan.shape.tokens, plan.shape.chunk, c);
      for (uint32_t t = 0; t < range.tokens; ++t) ++running.rows[work.steps[range.first + t]];
    }
    write_steps(out, plan.layout.half[half], work.steps);
  }
  return works;
}

void raise_layer(Engine& engine, const Cache& cache, Payload& base, const LayerPlan& plan, size_t layer,
                 std::span<std::byte> out) {
  write_upgrade_header(out, plan.shape, plan.layout, plan.base_digest, plan.base_bytes);
  zero_padding(out, plan.layout);
  engine.arena().reset();
  const std::vector<RaisedHalf> works = raised_halves(engine.arena(), base, plan, layer, out);
  const uint32_t chunks = chunks_of(plan.shape.tokens, plan.shape.chunk);
  std::vector<Raised> results(works.size() * chunks);
  engine.run(results.size(), [&](size_t unit, Scratch& scratch) {
    results[unit] =
        raise_chunk(engine.kernels(), cache, works[unit / chunks], static_cast<uint32_t>(unit % chunks), scratch);
  });
  for (size_t unit = 0; unit < results.size(); ++unit) {
    const HalfWork& work = works[unit / chunks].base;
    const auto chunk = static_cast<uint32_t>(unit % chunks);
    if (results[unit].stale) {
      fail(SKV_E_BASE, "layer %zu %s token %u: the cache does not hold what the base was encoded from", layer,
           half_name(work.half), chunk * plan.shape.chunk + static_cast<uint32_t>(results[unit].verdict.token));
    }
    if (results[unit].verdict.kind != kernels::Verdict::kOk) refuse(work, chunk, results[unit].verdict);
  }
}

// The result's budget: what was asked for in all, 0 when the base had none.
uint64_t budget_in_all(uint64_t base, uint64_t added) {
  if (base == 0) return 0;
  return base > UINT64_MAX - added ? UINT64_MAX : base + added;
}

void match_upgrade(Payload& base, Payload& upgrade) {
  if (base.segments().size() != upgrade.segments().size()) {
    fail(SKV_E_BASE, "upgrade of a payload of %zu layers, got a base of %zu", upgrade.segments().size(),
         base.segments().size());
  }
  for (size_t l = 0; l < base.segments().size(); ++l) {
    const Segment& from = upgrade.segments()[l];
    if (from.base_digest != digest_of(base, l) || from.base_bytes != base.segments()[l].layout.bytes) {
      fail(SKV_E_BASE, "layer %zu: upgrade of a payload with digest %016llx, got a base with %016llx", l,
           static_cast<ull>(from.base_digest), static_cast<ull>(digest_of(base, l)));
    }
  }
  if (base.header().fingerprint != upgrade.header().fingerprint) {
    fail(SKV_E_MODEL, "the upgrade's model fingerprint is not its base's");
  }
  if (base.header().request_id != upgrade.header().request_id) {
    fail(SKV_E_REQUEST, "the upgrade's request id is not its base's");
  }
}

bool same_shape(const SegmentShape& a, const SegmentShape& b) {
  return a.layer == b.layer && a.tokens == b.tokens && a.heads == b.heads && a.first_head == b.first_head &&
         a.first_position == b.first_position && a.dim[0] == b.dim[0] && a.dim[1] == b.dim[1] && a.chunk == b.chunk &&
         a.dtype == b.dtype && a.raw_dtype == b.raw_dtype && a.code == b.code && a.transforms[0] == b.transforms[0] &&
         a.transforms[1] == b.transforms[1] && a.group == b.group;
}

// Tiers of a half after the upgrade's steps, each of which must start where the base is.
std::vector<uint8_t> tiers_after(Payload& upgrade, size_t layer, int half, std::span<const uint8_t> before) {
  std::vector<uint8_t> tiers(before.size());
  read_steps(upgrade.segment_bytes(layer), upgrade.segments()[layer], half, tiers);
  for (size_t t = 0; t < tiers.size(); ++t) {
    const Step step = step_tiers(tiers[t]);
    if (tiers[t] != 0 && step.from != before[t]) {
      fail(SKV_E_MALFORMED, "layer %zu %s token %zu: the upgrade raises tier %u, the base has %u", layer,
           half_name(half), t, step.from, before[t]);
    }
    tiers[t] = tiers[t] == 0 ? before[t] : step.to;
  }
  return tiers;
}

}  // namespace

void solve_upgrade(Engine& engine, Plan& plan, Payload& base, const Cache& cache, const Scores* scores) {
  const uint64_t start = now_ns();
  cache.check();
  need_payload(base, "an upgrade");
  adopt_payload(plan, Solves::kUpgrade, base);
  match_cache(cache, plan);
  std::vector<LayerCosts> costs;
  uint64_t scored_here = 0;
  Scores own;  // outlives `scores`, which points here when the caller gave none
  if (plan.needs_costs()) {
    if (scores == nullptr) {
      score(engine, cache, own);
      scores = &own;
      scored_here = own.score_ns();
    }
    costs = row_costs(engine, cache, plan, *scores);
    plan.scored = scores->scored();
    plan.score_ns = scores->score_ns();
  }
  plan.solve(std::move(costs), {}, engine.spread());
  plan.plan_ns = now_ns() - start - scored_here;
}

std::unique_ptr<Payload> encode_upgrade(Engine& engine, const Cache& cache, Payload& base, const Plan& plan) {
  const uint64_t start = now_ns();
  cache.check();
  need_payload(base, "an upgrade");
  match_base(base, plan, Solves::kUpgrade, "skv_plan_upgrade");
  match_cache(cache, plan);
  Header header = base.header();
  header.flags = kFlagUpgrade;
  header.wire_minor = 0;
  header.budget_bytes = plan.budget_bytes();
  header.scored = static_cast<uint32_t>(plan.scored);
  std::vector<uint64_t> sizes;
  for (const LayerPlan& layer : plan.layers()) sizes.push_back(layer.layout.bytes);
  auto memory = compose(header, sizes, [&](size_t l, std::span<std::byte> segment) {
    const HostView host(engine.device(), cache, static_cast<int32_t>(l), nullptr,
                        plan.layers()[l].shape.dim[1] == 0 ? 1 : 2);
    raise_layer(engine.host(), host.cache(), base, plan.layers()[l], l, segment);
  });
  return Payload::made(std::move(memory), plan.payload_bytes(), &plan, now_ns() - start);
}

std::unique_ptr<Payload> apply_upgrade(Payload& base, Payload& upgrade) {
  const uint64_t start = now_ns();
  need_payload(base, "the base of an upgrade");
  upgrade.need_complete();
  if (!upgrade.upgrade()) fail(SKV_E_STATE, "the second payload is no upgrade: wanted one of skv_encode_upgrade");
  match_upgrade(base, upgrade);
  const auto layers = static_cast<int32_t>(base.segments().size());
  verify_layers(nullptr, upgrade, 0, layers);
  std::vector<std::vector<uint8_t>> tiers;  // before, after of K, of V of each layer
  std::vector<Retier> jobs;
  std::vector<SegmentLayout> layouts;
  std::vector<uint64_t> sizes;
  tiers.reserve(static_cast<size_t>(layers) * 4);
  for (size_t l = 0; l < base.segments().size(); ++l) {
    if (!same_shape(base.segments()[l].shape, upgrade.segments()[l].shape)) {
      fail(SKV_E_MALFORMED, "layer %zu: the upgrade's shape is not its base's", l);
    }
    Retier& job = jobs.emplace_back(
        Retier{base.segment_bytes(l), &base.segments()[l], upgrade.segment_bytes(l), &upgrade.segments()[l], {}, {}});
    for (int half = 0; half < 2; ++half) {
      job.before[half] = tiers.emplace_back(tiers_of(base, l, half));
      job.after[half] = tiers.emplace_back(tiers_after(upgrade, l, half, job.before[half]));
    }
    layouts.push_back(retiered_layout(job));
    sizes.push_back(layouts.back().bytes);
  }
  Header header = base.header();
  header.wire_minor = 0;
  header.flags = 0;
  header.budget_bytes = budget_in_all(base.header().budget_bytes, upgrade.header().budget_bytes);
  header.scored = upgrade.header().scored;
  uint64_t bytes = kHeaderBytes;
  for (const uint64_t size : sizes) bytes += size;
  auto memory = compose(header, sizes,
                        [&](size_t l, std::span<std::byte> segment) { write_retiered(jobs[l], layouts[l], segment); });
  return Payload::made(std::move(memory), bytes, nullptr, now_ns() - start);
}

}  // namespace skv
