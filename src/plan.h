// SPDX-License-Identifier: Apache-2.0
// A tier for every (layer, half, token) under a byte budget. Pure: no I/O, no device, no cache memory; the shapes and
// the costs come in, tiers and the exact byte count go out.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "payload.h"
#include "profile.h"
#include "row_values.h"
#include "spread.h"

namespace skv {

// What a plan chooses tiers for: a cache; or a payload whose rows are raised by an upgrade, or cut.
enum class Solves { kCache, kUpgrade, kTruncation };
enum class Strategy { kErrorAware, kRaw, kUniform, kPolicy };
// The paper's policies and baselines (policy.h), and what they rank tokens by.
enum class Policy { kGreedy, kSinkProtect, kBalanced, kRandom, kAdaptive, kPdtrim, kSws };
enum class Importance { kPosition, kRecency, kValueAware, kKeyNorm, kAttention };
// What the paper's scans vary of them; see the definition of strategy names in spectrumkv.h.
struct PolicyNumbers {
  std::optional<double> decay;  // of the importance, a token; not set: the paper's code
  double first = 0;             // the share of what "pdtrim" keeps that is from the beginning
};

struct PlanOptions {
  int32_t sinks = -1;   // -1: see Plan::sinks
  int32_t chunk = 256;  // best of 256, 1024, whole prompt at 6,400 tokens of context (codec evidence)
  std::array<int32_t, 2> transforms{-1, -1};  // -1: the default for the dim, see default_transforms
  int32_t code = -1;                          // -1: the paper's for its policies, else embedded
  std::array<uint32_t, 2> tiers{0x3CU,
                                0x3EU};  // K {4, 6, 8, RAW}, V {2, 4, 6, 8, RAW}: keys below 4 bits steal attention
  int32_t raw_dtype = 0;                 // 0: the cache's own
  bool unproven = false;                 // tiers below 8 bits without a verdict
  int32_t pack = 0;                      // SKV_PACK_*
  int64_t link_mbps = 0;                 // expected; 0: unknown
  uint8_t late_tier = 0;                 // what layers that would be late may be cut to; 0: never
  Strategy strategy = Strategy::kErrorAware;
  int32_t uniform_tier = 2;
  Policy policy = Policy::kGreedy;
  Importance importance = Importance::kPosition;
  PolicyNumbers policy_numbers;
  double fraction = 0;  // of the raw bytes; 0: not set
  uint64_t bytes = 0;   // 0: not set
};

// arXiv 2606.08635 pins the first 4 tokens.
constexpr int32_t kSinks = 4;
// Queries tell which of them matter; the first one stays RAW all the same. KL with queries and 4, 1 and no token
// pinned: SmolLM2-135M, 1,792 tokens, 3 windows, at 0.24 / 0.28 / 0.40: 0.0041 / 0.00041 / 0.000019, 0.0031 / 0.00036 /
// 0.000018 and 0.0032 / 0.00037 / 0.000019; 267 tokens, 24 windows, at 0.28: 0.0101, 0.0080 and 0.0081; Gemma 3 270M,
// 267 tokens, 12 windows: 0.0016, 0.0014 and 0.0013. Without queries one instead of four changes little (0.0053 /
// 0.00112 / 0.000049 and 0.0051 / 0.00111 / 0.000051), none is ten times as bad.
constexpr int32_t kSinksAsked = 1;

// MEAN|BALANCE|HADAMARD for K, HADAMARD for V; 8 points below 256 channels, 16 from there on (Gemma-3: KL 0.0045
// instead of 0.0060 at d = 256).
uint8_t default_transforms(int half, uint32_t dim);

// What solving produced for one layer.
struct LayerPlan {
  SegmentShape shape{};
  std::vector<uint8_t> tiers[2];  // [tokens] of K, of V (empty without V)
  TierCounts counts[2]{};
  uint32_t runs[2]{};
  SegmentLayout layout{};
  uint32_t permitted[2]{};  // bit set of tiers that "error-aware" may use
  // Of plans for a payload: its tiers and the segment they are of.
  std::vector<uint8_t> base[2];
  uint64_t base_digest = 0;
  uint64_t base_bytes = 0;
  StepCounts steps[2]{};  // of an upgrade, whose layout is above

  std::vector<uint8_t> steps_of(int half) const;
};

// What solving found out, for the receipt.
struct PlanFacts {
  int32_t int4 = 0;   // SKV_VERDICT_*
  int32_t proof = 0;  // SKV_PROOF_*
  double predicted_kl = 0;
  double worst_snr_db = 0;
  int32_t worst_layer = -1;
  int32_t worst_head = -1;
  uint32_t escalated = 0;
  double k_mass[8]{};
  double v_mass[8]{};
};

// Cost of the 8-bit tier of one layer: entry t of half h is weight x squared error of token t's row at 8 bits; other
// tiers scale it by relative_error(). Empty where the strategy needs none.
struct LayerCosts {
  RowValues half[2];
};

class Plan {
 public:
  // Options, then solve once per cache; solving again replaces the result.
  PlanOptions options;

  void set(int32_t key, int64_t value);
  void set_fraction(double fraction);
  void set_bytes(uint64_t bytes);
  void set_strategy(std::string_view name);

  // Fills shape.{chunk, code, transforms, raw_dtype} of every layer from the options; validates them against the dims.
  void adopt(std::vector<SegmentShape> shapes);
  // The same for a payload: its shapes, tiers and identity in place of a cache's. tiers: K, V of each layer.
  void adopt_payload(Solves what, const Header& header, std::span<const Segment> segments,
                     std::vector<std::vector<uint8_t>> tiers);
  // Chooses tiers; costs and importance are empty or one entry a layer. can_mask permits DROP.
  void solve(std::vector<LayerCosts> costs, std::span<const std::vector<float>> importance = {},
             const Spread& spread = {});
  void set_tiers(int32_t layer, int half, std::span<const uint8_t> tiers);
  // Solves once more with another limit than the budget, for what packing will save of it. Throws BUDGET.
  void spend(uint64_t limit, const Spread& spread = {});
  // Whether it can: by this strategy, and the tiers are still its own.
  bool spends() const {
    return solved_ && !replaced_ && options.strategy == Strategy::kErrorAware && solves_ == Solves::kCache;
  }
  bool packs(int32_t threads) const;

  Solves solves() const { return solves_; }
  bool has_budget() const { return options.fraction != 0 || options.bytes != 0; }
  // An upgrade or truncation without a budget raises nothing, or cuts to the permitted tiers only.
  bool needs_costs() const {
    return options.strategy == Strategy::kErrorAware && (solves_ == Solves::kCache || has_budget());
  }
  bool needs_importance(Importance importance) const {
    return options.strategy == Strategy::kPolicy && options.importance == importance;
  }
  int32_t code() const;
  // Leading tokens kept RAW, given where the scores came from (SKV_SCORED_*).
  int32_t sinks(int32_t scored_by) const;
  bool solved() const { return solved_; }
  const std::vector<LayerPlan>& layers() const { return layers_; }
  // Throws STATE when the strategy takes a budget and none is set.
  void need_budget() const;
  // Whether the strategy would use tiers below 8 bits.
  bool wants_low_tiers() const;
  // Takes such tiers from one layer's half, or from all (-1). Only "error-aware" can do without: others throw
  // PERMITTED.
  void forbid_low_tiers(int32_t layer, int32_t half, const char* why);
  // Sum of weight x squared error of a layer's half under the current tiers; KL in nats with a calibrated profile.
  double cost(int32_t layer, int half) const;
  // Throws STATE before solve, RANGE for a layer that is not there.
  std::span<const uint8_t> tiers_of(int32_t layer, int half) const;
  // A layer with no row above this tier but RAW ones, as far as the layer permits it.
  LayerPlan capped(int32_t layer, uint8_t tier) const;
  uint64_t payload_bytes() const { return payload_bytes_; }
  uint64_t budget_bytes() const { return budget_bytes_; }
  uint64_t raw_bytes() const { return raw_bytes_; }

  // Bound to what it was solved for.
  std::array<uint8_t, 32> fingerprint{};
  std::array<uint8_t, 16> request_id{};
  bool can_mask = false;
  int32_t scored = 0;
  uint64_t score_ns = 0;
  uint64_t plan_ns = 0;
  std::shared_ptr<const Profile> profile;
  PlanFacts facts;

 private:
  void lay_out(LayerPlan& layer) const;
  void lay_out_all(const Spread& spread = {});
  void solve_uniform(uint8_t tier);
  void solve_error_aware(std::span<const LayerCosts> costs, bool at_least_floor, const Spread& spread);
  void solve_policy(std::span<const std::vector<float>> importance);
  void check_tier(const LayerPlan& layer, int half, size_t token, uint8_t tier) const;
  void refuse_budget(const char* strategy) const;

  std::vector<LayerPlan> layers_;
  std::vector<LayerCosts> costs_;
  uint64_t payload_bytes_ = 0;
  uint64_t budget_bytes_ = 0;  // asked for
  uint64_t limit_bytes_ = 0;   // that the tiers keep
  uint64_t raw_bytes_ = 0;
  Solves solves_ = Solves::kCache;
  bool solved_ = false;
  bool replaced_ = false;  // tiers by set_tiers
};

// Squared error of a tier relative to the 8-bit tier's, for a uniform quantizer: 4^(4-p); RAW 0.
float relative_error(int32_t code, uint8_t tier);

// Payload bytes that one row of a half takes in a tier (scales included).
uint64_t row_bytes(const SegmentShape& shape, int half, uint8_t tier);

}  // namespace skv
