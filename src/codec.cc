// SPDX-License-Identifier: Apache-2.0
#include "codec.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "codec_cuda.h"
#include "codec_work.h"
#include "error.h"
#include "kernels/tiers.h"
#include "packing.h"
#include "probe.h"

namespace skv {
namespace {

// Layers are worked on in groups that give every thread several units, so that a short prompt still fills all cores,
// while a group's payload is still in cache when its leaves are hashed.
constexpr size_t kUnitsPerThread = 8;

// Rows of a call that writes this much would push each other out of the last-level cache (32 MiB where this was
// measured): they are written past it, which spares memory the reading of lines that are overwritten.
constexpr uint64_t kStreamBytes = uint64_t{16} << 20U;

// What decoding these layers writes.
uint64_t rows_bytes(const Cache& cache, int32_t first, int32_t count) {
  uint64_t bytes = 0;
  for (int32_t l = first; l < first + count; ++l) {
    const CacheLayer& view = cache.layer(l);
    bytes += static_cast<uint64_t>(view.tokens) * static_cast<uint64_t>(view.kv_heads) *
             static_cast<uint64_t>(view.dim[0] + view.dim[1]) * static_cast<uint64_t>(tiers::element_bytes(view.dtype));
  }
  return bytes;
}

// A chunk's channel vectors at 32 bits and what they are made of (encode_rows, the most): floats a channel.
constexpr size_t kChunkFloats = 6;

kernels::Verdict encode_chunk(Engine& engine, const Cache& cache, const HalfWork& work, uint32_t index,
                              std::byte* segment, Scratch& scratch) {
  const ChunkRange range = chunk_range(work.shape->tokens, work.shape->chunk, index);
  return encode_rows(engine.kernels(), rows_of(cache, work.layer, work.half, range, scratch), work, index, segment,
                     scratch);
}

struct Unit {
  uint32_t work;
  uint32_t chunk;
};

// Leaf digests of `count` segments, hashed in parallel: out[i] are those of segment_at(i). In the engine's arena.
template <class SegmentAt>
std::span<std::span<uint64_t>> leaf_digests(Engine& engine, size_t count, SegmentAt&& segment_at) {
  const std::span<std::span<uint64_t>> out = engine.arena().take<std::span<uint64_t>>(count);
  size_t leaves = 0;
  for (size_t s = 0; s < count; ++s) {
    out[s] = engine.arena().take<uint64_t>(leaf_count(segment_at(s).size()));
    leaves += out[s].size();
  }
  const std::span<Unit> units = engine.arena().take<Unit>(leaves);
  size_t at = 0;
  for (uint32_t s = 0; s < count; ++s) {
    for (uint32_t i = 0; i < out[s].size(); ++i) units[at++] = {s, i};
  }
  engine.run(units.size(), [&](size_t unit, Scratch&) {
    const auto [s, i] = units[unit];
    const std::span<const std::byte> leaf = leaf_of(segment_at(s), i);
    out[s][i] = engine.kernels().digest(leaf.data(), leaf.size());
  });
  return out;
}

SegmentShape shape_of(const Cache& cache, int32_t layer) {
  const CacheLayer& view = cache.layer(layer);
  SegmentShape shape{};
  shape.layer = static_cast<uint32_t>(layer);
  shape.tokens = static_cast<uint32_t>(view.tokens);
  shape.heads = static_cast<uint16_t>(view.kv_heads);
  shape.first_head = static_cast<uint16_t>(view.first_head);
  shape.first_position = static_cast<uint64_t>(view.first_position);
  shape.dim[0] = static_cast<uint16_t>(view.dim[0]);
  shape.dim[1] = static_cast<uint16_t>(view.dim[1]);
  shape.dtype = static_cast<uint8_t>(view.dtype);
  shape.group = static_cast<uint8_t>(view.group);
  return shape;
}

// The plan must have been solved for a cache of this very shape and identity.
void match_plan(const Cache& cache, const Plan& plan) {
  if (!plan.solved()) fail(SKV_E_STATE, "the plan is not solved: call skv_plan_solve first");
  if (plan.solves() == Solves::kUpgrade) {
    fail(SKV_E_STATE, "the plan was solved for an upgrade: use skv_encode_upgrade");
  }
  match_cache(cache, plan);
}

void match_destination(const Payload& payload, const Cache& cache, int32_t first, int32_t count) {
  const Header& header = payload.header();
  if (header.fingerprint != cache.fingerprint()) {
    fail(SKV_E_MODEL, "payload of model %02x%02x%02x%02x..., destination is %02x%02x%02x%02x...", header.fingerprint[0],
         header.fingerprint[1], header.fingerprint[2], header.fingerprint[3], cache.fingerprint()[0],
         cache.fingerprint()[1], cache.fingerprint()[2], cache.fingerprint()[3]);
  }
  const std::array<uint8_t, SKV_REQUEST_ID_BYTES> any{};
  if (cache.request_id() != any && header.request_id != cache.request_id()) {
    fail(SKV_E_REQUEST, "payload of request %02x%02x%02x%02x..., destination wants %02x%02x%02x%02x...",
         header.request_id[0], header.request_id[1], header.request_id[2], header.request_id[3], cache.request_id()[0],
         cache.request_id()[1], cache.request_id()[2], cache.request_id()[3]);
  }
  if (payload.segments().size() != static_cast<size_t>(cache.layer_count())) {
    fail(SKV_E_LAYOUT, "payload of %zu layers, destination has %d", payload.segments().size(), cache.layer_count());
  }
  for (int32_t l = first; l < first + count; ++l) {
    const Segment& segment = payload.segments()[static_cast<size_t>(l)];
    const SegmentShape& shape = segment.shape;
    const CacheLayer& view = cache.layer(l);
    if (view.tokens != shape.tokens || static_cast<uint64_t>(view.first_position) != shape.first_position) {
      fail(SKV_E_LAYOUT, "layer %d: payload holds %u tokens from position %llu, destination %lld from %lld", l,
           shape.tokens, static_cast<unsigned long long>(shape.first_position), static_cast<long long>(view.tokens),
           static_cast<long long>(view.first_position));
    }
    if (view.dim[0] != shape.dim[0] || view.dim[1] != shape.dim[1]) {
      fail(SKV_E_LAYOUT, "layer %d: payload has dims %u/%u, destination %d/%d", l, shape.dim[0], shape.dim[1],
           view.dim[0], view.dim[1]);
    }
    if (view.first_head < shape.first_head || view.first_head + view.kv_heads > shape.first_head + shape.heads) {
      fail(SKV_E_LAYOUT, "layer %d: payload has heads %u..%u, destination wants %d..%d", l, shape.first_head,
           shape.first_head + shape.heads - 1, view.first_head, view.first_head + view.kv_heads - 1);
    }
    const uint64_t dropped = uint64_t{segment.counts[0].rows[tiers::kDrop]} + segment.counts[1].rows[tiers::kDrop];
    if (dropped != 0 && !cache.can_mask()) {
      fail(SKV_E_PERMITTED, "layer %d: %llu rows were dropped and the destination cannot mask them", l,
           static_cast<unsigned long long>(dropped));
    }
  }
}

void check_layer_range(int32_t first, int32_t count, size_t layers) {
  if (first < 0 || count < 0 || static_cast<size_t>(first) + static_cast<size_t>(count) > layers) {
    fail(SKV_E_RANGE, "layer %d: wanted 0..%zu", first, layers - 1);
  }
}

// Cuts layers into groups with enough units for every thread and calls work(first, count) on each.
template <class UnitsOf, class Work>
void by_group(const Engine& engine, int32_t first, int32_t count, UnitsOf&& units_of, Work&& work) {
  const size_t wanted = engine.threads() == 1 ? 1 : kUnitsPerThread * static_cast<size_t>(engine.threads());
  int32_t begin = first;
  while (begin < first + count) {
    int32_t end = begin;
    for (size_t units = 0; end < first + count && units < wanted; ++end) units += units_of(end);
    work(begin, end - begin);
    begin = end;
  }
}

// The halves of layers [begin, begin + count), for part_of(layer) = its shape and layout; tiers are still to come. In
// the arena, as all that belongs to a group of layers, and with the scratch that their chunks take.
template <class PartOf>
std::span<HalfWork> works_of(Engine& engine, int32_t begin, int32_t count, PartOf&& part_of) {
  Arena& arena = engine.arena();
  arena.reset();
  const std::span<HalfWork> room = arena.take<HalfWork>(2 * static_cast<size_t>(count));
  size_t used = 0;
  for (int32_t l = begin; l < begin + count; ++l) {
    const auto [shape, layout] = part_of(l);
    for (int half = 0; half < 2; ++half) {
      if (shape->dim[half] == 0) continue;
      HalfWork& work = room[used++];
      work.layer = l;
      work.half = half;
      work.shape = shape;
      work.layout = &layout->half[half];
      take_before(work, arena);
      engine.reserve(kChunkFloats * shape->heads * shape->dim[half], std::min<size_t>(shape->tokens, shape->chunk));
    }
  }
  return room.first(used);
}

std::span<const Unit> units_of(Arena& arena, std::span<const HalfWork> works) {
  size_t count = 0;
  for (const HalfWork& work : works) count += work.chunks();
  const std::span<Unit> units = arena.take<Unit>(count);
  size_t at = 0;
  for (uint32_t w = 0; w < works.size(); ++w) {
    for (uint32_t c = 0; c < works[w].chunks(); ++c) units[at++] = {w, c};
  }
  return units;
}

}  // namespace

void match_cache(const Cache& cache, const Plan& plan) {
  if (plan.layers().size() != static_cast<size_t>(cache.layer_count())) {
    fail(SKV_E_LAYOUT, "plan of %zu layers for a cache of %d", plan.layers().size(), cache.layer_count());
  }
  for (int32_t l = 0; l < cache.layer_count(); ++l) {
    const SegmentShape& want = plan.layers()[static_cast<size_t>(l)].shape;
    const SegmentShape got = shape_of(cache, l);
    if (got.tokens != want.tokens || got.heads != want.heads || got.dim[0] != want.dim[0] ||
        got.dim[1] != want.dim[1] || got.dtype != want.dtype || got.first_position != want.first_position ||
        got.first_head != want.first_head || got.group != want.group) {
      fail(
          SKV_E_LAYOUT,
          "layer %d: plan solved for %u tokens from %llu, %u heads from %u, dims %u/%u, dtype %u; got %u from %llu, %u "
          "from %u, %u/%u, %u",
          l, want.tokens, static_cast<unsigned long long>(want.first_position), want.heads, want.first_head,
          want.dim[0], want.dim[1], want.dtype, got.tokens, static_cast<unsigned long long>(got.first_position),
          got.heads, got.first_head, got.dim[0], got.dim[1], got.dtype);
    }
  }
  if (cache.fingerprint() != plan.fingerprint) fail(SKV_E_MODEL, "the plan was solved for another model fingerprint");
  if (cache.request_id() != plan.request_id) fail(SKV_E_REQUEST, "the plan was solved for another request id");
}

// ------------------------------------------------------------------------------------------------- solving

namespace {

// Tiers below 8 bits need a word: the caller's, the profile's, or the logit probe's on this very cache.
void permit(Engine& engine, Plan& plan, const Cache& cache, const Scores* scores) {
  if (plan.profile != nullptr) {
    if (plan.profile->fingerprint() != cache.fingerprint()) {
      fail(SKV_E_MODEL, "profile of model %02x%02x%02x%02x..., cache of %02x%02x%02x%02x...",
           plan.profile->fingerprint()[0], plan.profile->fingerprint()[1], plan.profile->fingerprint()[2],
           plan.profile->fingerprint()[3], cache.fingerprint()[0], cache.fingerprint()[1], cache.fingerprint()[2],
           cache.fingerprint()[3]);
    }
    if (plan.profile->layers() != cache.layer_count()) {
      fail(SKV_E_LAYOUT, "profile of %d layers for a cache of %d", plan.profile->layers(), cache.layer_count());
    }
  }
  if (!plan.wants_low_tiers()) return;
  if (plan.options.unproven) {
    plan.facts.proof = SKV_PROOF_CALLER;
    return;
  }
  if (plan.profile != nullptr && plan.profile->code() == plan.code() && plan.profile->int4() != SKV_VERDICT_NONE) {
    plan.facts.proof = SKV_PROOF_PROFILE;
    plan.facts.int4 = plan.profile->int4();
    if (plan.facts.int4 == SKV_VERDICT_YES) return;
    for (int half = 0; half < 2; ++half) plan.forbid_low_tiers(SKV_ALL, half, "the profile says no to 4 bits");
    return;
  }
  if (scores != nullptr && scores->scored() == 0) {
    fail(SKV_E_STATE, "scores were not computed: call skv_score first");
  }
  if (scores == nullptr || scores->sample(0) == nullptr) {
    fail(
        SKV_E_PERMITTED,
        "no verdict on tiers below 8 bits: wanted a profile that has one, scores with queries, or SKV_PLAN_UNPROVEN 1");
  }
  const LogitProbe probe = probe_logits(engine, cache, plan, *scores);
  plan.facts.proof = SKV_PROOF_LOGITS;
  plan.facts.int4 = probe.pass ? SKV_VERDICT_YES : SKV_VERDICT_NO;
  plan.facts.worst_snr_db = static_cast<double>(probe.worst_snr_db);
  plan.facts.worst_layer = probe.worst_layer;
  plan.facts.worst_head = probe.worst_head;
  if (!probe.pass) {
    for (int half = 0; half < 2; ++half) plan.forbid_low_tiers(SKV_ALL, half, "the logit probe says no to 4 bits");
    return;
  }
  for (size_t l = 0; l < probe.escalate.size(); ++l) {
    if (probe.escalate[l] == 0) continue;
    ++plan.facts.escalated;
    plan.forbid_low_tiers(static_cast<int32_t>(l), SKV_K, "the logit probe wants 8-bit keys in a layer");
  }
}

void take_facts(Plan& plan, const Scores* scores) {
  const int32_t layers = static_cast<int32_t>(plan.layers().size());
  if (plan.needs_costs() && plan.profile != nullptr && plan.profile->calibrated(plan.scored)) {
    for (int32_t l = 0; l < layers; ++l) {
      for (int half = 0; half < 2; ++half) plan.facts.predicted_kl += plan.cost(l, half);
    }
  }
  for (int32_t l = 0; l < layers && scores != nullptr; ++l) {
    const std::span<const float> mass = scores->mass(l);
    for (int half = 0; half < 2; ++half) {
      const std::span<const uint8_t> tiers = plan.tiers_of(l, half);
      double* to = half == SKV_K ? plan.facts.k_mass : plan.facts.v_mass;
      if (tiers.size() != mass.size()) continue;
      for (size_t t = 0; t < tiers.size(); ++t) to[tiers[t]] += static_cast<double>(mass[t]) / layers;
    }
  }
}

}  // namespace

void solve(Engine& engine, Plan& plan, const Cache& cache, const Scores* scores) {
  const uint64_t start = now_ns();
  cache.check();
  std::vector<SegmentShape> shapes;
  shapes.reserve(static_cast<size_t>(cache.layer_count()));
  for (int32_t l = 0; l < cache.layer_count(); ++l) shapes.push_back(shape_of(cache, l));
  plan.adopt(std::move(shapes));
  plan.fingerprint = cache.fingerprint();
  plan.request_id = cache.request_id();
  plan.can_mask = cache.can_mask();
  plan.scored = SKV_SCORED_NONE;
  plan.score_ns = 0;
  plan.facts = {};
  plan.need_budget();
  permit(engine, plan, cache, scores);
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
  std::vector<std::vector<float>> importance;
  if (plan.needs_importance(Importance::kKeyNorm)) importance = key_norms(engine, cache);
  if (plan.needs_importance(Importance::kAttention)) {
    for (int32_t l = 0; l < cache.layer_count(); ++l) {
      const std::span<const float> mass = scores == nullptr ? std::span<const float>() : scores->mass(l);
      if (mass.empty()) {
        fail(SKV_E_STATE, "layer %d: importance by attention needs scores with queries, scored before", l);
      }
      importance.emplace_back(mass.begin(), mass.end());
    }
    plan.scored = SKV_SCORED_QUERIES;
  }
  plan.solve(std::move(costs), importance, engine.spread());
  spend_packing(engine, plan, cache);
  take_facts(plan, scores);
  plan.plan_ns = now_ns() - start - scored_here;
}

// ------------------------------------------------------------------------------------------------ encoding

void encode_layers(Engine& engine, const Cache& cache, const Plan& plan, Payload& payload, int32_t first, int32_t count,
                   void* stream) {
  const uint64_t start = now_ns();
  cache.check();
  match_plan(cache, plan);
  check_layer_range(first, count, payload.parsed_.segments.size());
  if (payload.writable_ == nullptr) fail(SKV_E_STATE, "the payload is not under construction");
  const std::optional<LayerPlan> cut = count == 1 ? payload.cut_late(plan, first) : std::nullopt;
  const auto plan_of = [&](int32_t l) -> const LayerPlan& {
    return cut && l == first ? *cut : plan.layers()[static_cast<size_t>(l)];
  };
  const auto segment_of = [&](int32_t layer) {
    const Segment& segment = payload.parsed_.segments[static_cast<size_t>(layer)];
    return std::span<std::byte>(payload.writable_ + segment.offset, segment.layout.bytes);
  };
  for (int32_t l = first; l < first + count; ++l) {
    if (payload.encoded_[static_cast<size_t>(l)] != 0) fail(SKV_E_STATE, "layer %d is already encoded", l);
    if (payload.parsed_.segments[static_cast<size_t>(l)].layout.bytes != plan_of(l).layout.bytes) {
      fail(SKV_E_LAYOUT, "layer %d: the payload was created for another plan", l);
    }
  }
  if (Device* device = engine.device(); (device == nullptr ? SKV_DEVICE_CPU : device->ordinal()) != payload.device_) {
    fail(SKV_E_ARGUMENT, "payload in the memory of device %d, engine of device %d (-1: CPU)", payload.device_,
         device == nullptr ? SKV_DEVICE_CPU : device->ordinal());
  } else if (device != nullptr) {
    need_reach(*device, cache, first, count);
    encode_on_device(*device, engine.kernels(), cache, plan.layers(), payload.parsed_.segments, payload.parsed_.header,
                     payload.writable_, first, count, stream);
    for (int32_t l = first; l < first + count; ++l) {
      for (size_t half = 0; half < 2; ++half) {
        payload.tiers_[static_cast<size_t>(l) * 2 + half] = plan.layers()[static_cast<size_t>(l)].tiers[half];
      }
    }
    payload.adopt_encoded(first, count, now_ns() - start);
    return;
  }
  try {
    by_group(
        engine, first, count, [&](int32_t l) { return 2 * chunks_of(plan_of(l).shape.tokens, plan_of(l).shape.chunk); },
        [&](int32_t begin, int32_t layers) {
          const std::span<HalfWork> works = works_of(
              engine, begin, layers, [&](int32_t l) { return std::pair(&plan_of(l).shape, &plan_of(l).layout); });
          for (int32_t l = begin; l < begin + layers; ++l) {
            const LayerPlan& layer = plan_of(l);
            write_segment_header(segment_of(l), layer.shape, layer.layout);
            zero_padding(segment_of(l), layer.layout);
          }
          for (HalfWork& work : works) {
            work.tiers = plan_of(work.layer).tiers[work.half];
            write_map(segment_of(work.layer), *work.layout, work.tiers);
            count_before(work);
          }
          const std::span<const Unit> units = units_of(engine.arena(), works);
          const auto verdicts = engine.arena().take<kernels::Verdict>(units.size());
          engine.run(units.size(), [&](size_t unit, Scratch& scratch) {
            const HalfWork& work = works[units[unit].work];
            verdicts[unit] =
                encode_chunk(engine, cache, work, units[unit].chunk, segment_of(work.layer).data(), scratch);
          });
          for (size_t unit = 0; unit < units.size(); ++unit) {
            if (verdicts[unit].kind != kernels::Verdict::kOk) {
              refuse(works[units[unit].work], units[unit].chunk, verdicts[unit]);
            }
          }
          const auto leaves = leaf_digests(engine, static_cast<size_t>(layers), [&](size_t l) {
            return std::span<const std::byte>(segment_of(begin + static_cast<int32_t>(l)));
          });
          for (int32_t l = 0; l < layers; ++l) seal_segment(segment_of(begin + l), leaves[static_cast<size_t>(l)]);
        });
  } catch (...) {
    for (int32_t l = first; l < first + count; ++l) {
      const std::span<std::byte> segment = segment_of(l);
      std::memset(segment.data(), 0, segment.size());
    }
    throw;
  }
  payload.adopt_encoded(first, count, now_ns() - start);
}

// ------------------------------------------------------------------------------------------------ decoding

void verify_layers(Engine* engine, Payload& payload, int32_t first, int32_t count) {
  check_layer_range(first, count, payload.segments().size());
  payload.need_layers(first, count);
  payload.host_bytes();  // the one copy of a device's, before threads ask for it
  const auto verified = [&](int32_t l) -> uint8_t& { return payload.verified_[static_cast<size_t>(l)]; };
  const auto segment_of = [&](int32_t l) { return payload.segment_bytes(static_cast<size_t>(l)); };
  const auto facts_of = [&](int32_t l) -> const Segment& { return payload.segments()[static_cast<size_t>(l)]; };
  if (engine == nullptr) {
    const Digest digest = kernels::kernels_of(SKV_TARGET_AUTO)->digest;
    for (int32_t l = first; l < first + count; ++l) {
      if (verified(l) != 0) continue;
      if (payload.packed()) payload.unpack_layer(static_cast<size_t>(l), digest);
      verify_segment(segment_of(l), facts_of(l), digest);
      check_scales(segment_of(l), facts_of(l));
      verified(l) = 1;
    }
    return;
  }
  engine->arena().reset();
  const std::span<int32_t> room = engine->arena().take<int32_t>(static_cast<size_t>(count));
  size_t used = 0;
  for (int32_t l = first; l < first + count; ++l) {
    if (verified(l) == 0) room[used++] = l;
  }
  const std::span<const int32_t> todo = room.first(used);
  if (payload.packed()) {
    engine->run(todo.size(), [&](size_t i, Scratch&) {
      payload.unpack_layer(static_cast<size_t>(todo[i]), engine->kernels().digest);
    });
  }
  const auto leaves = leaf_digests(*engine, todo.size(), [&](size_t i) { return segment_of(todo[i]); });
  engine->run(todo.size(), [&](size_t i, Scratch&) {
    verify_segment(segment_of(todo[i]), facts_of(todo[i]), leaves[i]);
    check_scales(segment_of(todo[i]), facts_of(todo[i]));
  });
  for (const int32_t l : todo) verified(l) = 1;
}

void decode_layers(Engine& engine, Payload& payload, const Cache& cache, int32_t first, int32_t count, void* stream) {
  const uint64_t start = now_ns();
  check_layer_range(first, count, payload.segments().size());
  payload.need_layers(first, count);
  payload.need_rows("decoding");
  cache.check();
  match_destination(payload, cache, first, count);
  if (Device* device = engine.device(); device != nullptr) {
    need_reach(*device, cache, first, count);
    if (payload.device_ == device->ordinal()) {
      const std::vector<LayerTiers> tiers = payload.kept_tiers(first, count);
      const int32_t bad = decode_on_device(*device, cache, payload.segments(), tiers, payload.verified_,
                                           payload.bytes().data(), first, count, stream);
      if (bad >= 0) verify_layers(&engine, payload, bad, 1);  // says why; what it finds right is a defect
      if (bad >= 0) fail(SKV_E_INTERNAL, "layer %d: the device refused a segment that the CPU accepts", bad);
      for (int32_t l = first; l < first + count; ++l) payload.verified_[static_cast<size_t>(l)] = 1;
    } else {
      verify_layers(&engine, payload, first, count);
      decode_from_host(*device, cache, payload.segments(), payload.host_bytes(), first, count, stream);
    }
    payload.receipt_.decode_ns += now_ns() - start;
    return;
  }
  verify_layers(&engine, payload, first, count);
  const bool past_caches = rows_bytes(cache, first, count) >= kStreamBytes;
  by_group(
      engine, first, count,
      [&](int32_t l) {
        return 2 * chunks_of(payload.segments()[static_cast<size_t>(l)].shape.tokens,
                             payload.segments()[static_cast<size_t>(l)].shape.chunk);
      },
      [&](int32_t begin, int32_t layers) {
        const std::span<HalfWork> works = works_of(engine, begin, layers, [&](int32_t l) {
          const Segment& segment = payload.segments()[static_cast<size_t>(l)];
          return std::pair(&segment.shape, &segment.layout);
        });
        const auto maps = engine.arena().take<std::span<uint8_t>>(works.size());
        for (size_t w = 0; w < works.size(); ++w) maps[w] = engine.arena().take<uint8_t>(works[w].shape->tokens);
        engine.run(works.size(), [&](size_t w, Scratch&) {
          HalfWork& work = works[w];
          const auto l = static_cast<size_t>(work.layer);
          read_tiers(payload.segment_bytes(l), payload.segments()[l], work.half, 0, maps[w]);
          work.tiers = maps[w];
          count_before(work);
        });
        const std::span<const Unit> units = units_of(engine.arena(), works);
        engine.run(units.size(), [&](size_t unit, Scratch& scratch) {
          const HalfWork& work = works[units[unit].work];
          const SegmentShape& shape = *work.shape;
          const uint32_t index = units[unit].chunk;
          const ChunkRange range = chunk_range(shape.tokens, shape.chunk, index);
          // Read only: the kernels' Sections serve both directions.
          auto* segment = const_cast<std::byte*>(payload.segment_bytes(static_cast<size_t>(work.layer)).data());
          const size_t channels = size_t{shape.heads} * shape.dim[work.half];
          const uint32_t flags = shape.transforms[work.half];
          float* mean = scratch.need_floats(2 * channels);
          float* balance = mean + channels;
          const auto* stored = reinterpret_cast<const uint16_t*>(vectors_at(segment, work, index));
          kernels::Transform transform;
          transform.hadamard = tiers::hadamard_of(flags);
          if ((flags & tiers::kMean) != 0) {
            for (size_t c = 0; c < channels; ++c) mean[c] = tiers::f16_to_f32(stored[c]);
            stored += channels;
            transform.mean = mean;
          }
          if ((flags & tiers::kBalance) != 0) {
            for (size_t c = 0; c < channels; ++c) balance[c] = tiers::f16_to_f32(stored[c]);
            transform.balance = balance;
          }
          const CacheLayer& view = cache.layer(work.layer);
          engine.kernels().unpack({rows_of(cache, work.layer, work.half, range, scratch),
                                   work.tiers.data() + range.first, transform, shape.code, shape.raw_dtype, shape.heads,
                                   view.first_head - shape.first_head, sections_at(segment, work, index), past_caches});
        });
      });
  payload.receipt_.decode_ns += now_ns() - start;
}

}  // namespace skv
