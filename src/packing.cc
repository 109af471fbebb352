// SPDX-License-Identifier: Apache-2.0
#include "packing.h"

#include <algorithm>
#include <vector>

#include "error.h"
#include "payload_memory.h"

namespace skv {
namespace {

// Tiers move in steps and layers differ, so a plan made for the sample's ratio lands within 1 % of the budget; the
// first guess stays this much below it.
constexpr double kMargin = 0.003;
// Bytes left of the budget that are not worth encoding once more for.
constexpr double kSlack = 0.006;
constexpr int kRounds = 4;

std::unique_ptr<Payload> encode_plain(Engine& engine, const Cache& cache, const Plan& plan, void* stream) {
  auto payload = Payload::create(cache, plan, {}, engine.device());
  encode_layers(engine, cache, plan, *payload, 0, cache.layer_count(), stream);
  return payload;
}

uint64_t scaled(uint64_t bytes, double factor) { return static_cast<uint64_t>(static_cast<double>(bytes) * factor); }

}  // namespace

void spend_packing(Engine& engine, Plan& plan, const Cache& cache) {
  if (!plan.spends() || plan.options.pack == SKV_PACK_NEVER) return;
  if (!plan.packs(engine.threads()))
    return plan.spend(plan.budget_bytes(), engine.spread());  // AUTO says no: the floor counts
  const int32_t layers = cache.layer_count();
  // Two layers from the middle: the first one's values repeat with the text and pack better than the rest.
  std::vector<int32_t> sample{layers / 3};
  if (2 * layers / 3 != sample.front()) sample.push_back(2 * layers / 3);
  const auto payload = Payload::create(cache, plan, {}, engine.device());
  uint64_t plain = 0;
  uint64_t packed = 0;
  Packer packer;
  for (const int32_t l : sample) {
    encode_layers(engine, cache, plan, *payload, l, 1);
    const auto at = static_cast<size_t>(l);
    const Segment& segment = payload->segments()[at];
    const auto record = payload_memory(record_bound(segment));
    packed += packer.record(payload->segment_bytes(at), segment, engine.kernels().digest, true, record.get());
    plain += payload->segments()[at].layout.bytes;
  }
  const double ratio = static_cast<double>(packed) / static_cast<double>(plain);
  plan.spend(scaled(plan.budget_bytes(), (1 - kMargin) / ratio), engine.spread());
}

std::unique_ptr<Payload> encode_packed(Engine& engine, const Cache& cache, const Plan& plan, void* stream) {
  const uint64_t budget = plan.budget_bytes();
  Plan trial = plan;
  std::unique_ptr<Payload> best;
  uint64_t encode_ns = 0;
  uint64_t bytes = 0;
  for (int round = 0; round < kRounds; ++round) {
    std::unique_ptr<Payload> plain = encode_plain(engine, cache, trial, stream);
    std::unique_ptr<Payload> packed = Payload::pack(engine, *plain);
    bytes = packed->wire_bytes().size();
    encode_ns += packed->receipt().encode_ns;
    if (!plan.spends()) return bytes <= plain->bytes().size() ? std::move(packed) : std::move(plain);
    if (bytes <= budget && (best == nullptr || bytes > best->wire_bytes().size())) best = std::move(packed);
    if (bytes <= budget && bytes >= scaled(budget, 1 - kSlack)) break;
    if (round + 1 == kRounds) break;
    const double factor = static_cast<double>(budget) / static_cast<double>(bytes) * (1 - kMargin / 2);
    try {
      trial.spend(scaled(trial.payload_bytes(), factor), engine.spread());
    } catch (const Error& e) {
      // The floor: there is nothing cheaper to try.
      if (e.status() != SKV_E_BUDGET || best != nullptr) break;
      throw;
    }
  }
  if (best == nullptr) {
    fail(SKV_E_BUDGET, "budget %llu bytes: packed plans came out at %llu", static_cast<unsigned long long>(budget),
         static_cast<unsigned long long>(bytes));
  }
  best->spent_encoding(encode_ns);
  return best;
}

}  // namespace skv
