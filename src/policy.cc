// SPDX-License-Identifier: Apache-2.0
#include "policy.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <numeric>
#include <utility>

#include "kernels/tiers.h"

namespace skv {
namespace {

constexpr uint8_t kInt4 = 2;  // planes
constexpr uint8_t kInt8 = 4;
constexpr int kGrid = 4096;  // nominal budgets tried are multiples of 1/4096

// A permutation that any implementation can repeat: tokens by a mixed hash of their index (splitmix64's finalizer).
uint64_t scattered(uint64_t x) {
  x = (x ^ (x >> 30U)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27U)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31U);
}

uint32_t part_of(double fraction, size_t count) {
  return static_cast<uint32_t>(
      std::clamp(std::floor(fraction * static_cast<double>(count)), 0.0, static_cast<double>(count)));
}

// Order of the tokens of one range, the most important first; equal ones in order of position.
template <class Value>
std::vector<uint32_t> ranked(std::span<const Value> importance) {
  std::vector<uint32_t> order(importance.size());
  std::iota(order.begin(), order.end(), 0U);
  std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return importance[a] > importance[b]; });
  return order;
}

void first_of(std::vector<uint8_t>& tiers, std::span<const uint32_t> order, uint32_t begin, uint32_t end,
              uint8_t tier) {
  for (uint32_t i = begin; i < end && i < order.size(); ++i) tiers[order[i]] = tier;
}

// The parts of a name between colons, one after the other.
class Parts {
 public:
  explicit Parts(std::string_view name) : rest_(name) {}
  std::optional<std::string_view> next() {
    if (!rest_) return std::nullopt;
    const size_t colon = rest_->find(':');
    const std::string_view part = rest_->substr(0, colon);
    rest_ = colon == std::string_view::npos ? std::optional<std::string_view>() : rest_->substr(colon + 1);
    return part;
  }

 private:
  std::optional<std::string_view> rest_;
};

// The number after the key, 0..1; nothing if that is not what the part is.
std::optional<double> share_of(std::string_view part, std::string_view key) {
  if (!part.starts_with(key)) return std::nullopt;
  part.remove_prefix(key.size());
  double value = 0;
  const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), value);
  if (error != std::errc() || end != part.data() + part.size() || !(value >= 0 && value <= 1)) return std::nullopt;
  return value;
}

}  // namespace

std::optional<PolicyName> parse_policy(std::string_view name) {
  static const std::map<std::string_view, Policy> policies = {
      {"greedy", Policy::kGreedy}, {"sink-protect", Policy::kSinkProtect}, {"balanced", Policy::kBalanced},
      {"random", Policy::kRandom}, {"adaptive", Policy::kAdaptive},        {"pdtrim", Policy::kPdtrim},
      {"sws", Policy::kSws},
  };
  static const std::map<std::string_view, Importance> importances = {
      {"position", Importance::kPosition},      {"recency", Importance::kRecency},
      {"value-aware", Importance::kValueAware}, {"key-norm", Importance::kKeyNorm},
      {"attention", Importance::kAttention},
  };
  Parts parts(name);
  const auto policy = policies.find(parts.next().value_or(""));
  if (policy == policies.end()) return std::nullopt;
  PolicyName out{policy->second, Importance::kPosition, {}};
  std::optional<std::string_view> part = parts.next();
  if (out.policy == Policy::kPdtrim) {
    if (part) {
      const std::optional<double> first = share_of(*part, "first=");
      if (!first) return std::nullopt;
      out.numbers.first = *first;
      part = parts.next();
    }
  } else if (out.policy != Policy::kRandom) {
    if (const auto importance = importances.find(part.value_or("")); importance != importances.end()) {
      out.importance = importance->second;
      part = parts.next();
    }
    if (part && out.importance != Importance::kRecency) {
      out.numbers.decay = share_of(*part, "decay=");
      if (!out.numbers.decay) return std::nullopt;
      part = parts.next();
    }
  }
  if (part) return std::nullopt;
  return out;
}

std::vector<double> importance_by_position(Importance importance, uint32_t tokens, uint32_t sinks, double decay) {
  std::vector<double> out(tokens);
  if (importance == Importance::kRecency) {
    std::iota(out.begin(), out.end(), 0.0);
    return out;
  }
  const uint32_t recent = static_cast<uint32_t>(0.8 * tokens);
  for (uint32_t t = 0; t < tokens; ++t) out[t] = t < sinks ? 1.0 : std::exp(-decay * (t - sinks));
  for (uint32_t t = recent; t < tokens; ++t) {
    const double rise = tokens - recent > 1 ? static_cast<double>(t - recent) / (tokens - recent - 1) : 0.0;
    out[t] = std::max(out[t], 0.3 + 0.5 * rise);
  }
  if (importance == Importance::kValueAware) {
    // The paper's code multiplies the normalised values.
    const auto [low, high] = std::minmax_element(out.begin(), out.end());
    const double least = *low;
    const double span = *high > least ? *high - least : 1.0;
    for (double& value : out) value = (value - least) / span;
    for (uint32_t t = recent; t < tokens; ++t) out[t] *= 1.5;
  }
  return out;
}

std::vector<uint8_t> policy_tiers(Policy policy, double b, std::span<const uint32_t> order, uint32_t sinks,
                                  double first) {
  const size_t n = order.size();
  const auto pinned = static_cast<uint32_t>(std::min<size_t>(sinks, n));
  std::vector<uint8_t> tiers(n, kInt4);
  switch (policy) {
    case Policy::kGreedy:
    case Policy::kSinkProtect:
    case Policy::kRandom: {
      // Upgrades to INT8 in order, then to FP16: f8 = 4b - 1 up to b = 0.5, f16 = 2b - 1 above.
      double left = std::max(0.0, b - 0.25) * static_cast<double>(n);
      const uint32_t eight = std::min(static_cast<uint32_t>(n), static_cast<uint32_t>(left / 0.25));
      left -= 0.25 * eight;
      const uint32_t sixteen = std::min(eight, static_cast<uint32_t>(std::max(0.0, left / 0.5 + 0.5)));
      first_of(tiers, order, 0, eight, kInt8);
      first_of(tiers, order, 0, sixteen, tiers::kRaw);
      if (policy == Policy::kSinkProtect) std::fill_n(tiers.begin(), pinned, tiers::kRaw);
      return tiers;
    }
    case Policy::kBalanced: {
      // FP16 : INT8 : INT4 as 1 : 2 : 2 while that is possible, else no INT4.
      const double r = 4 * b - 1;
      if (r <= 0) return tiers;
      double f = r / 5;
      double m = 2 * r / 5;
      if (f + m > 1) {
        f = 2 * b - 1;
        m = 1 - f;
      }
      const uint32_t sixteen = part_of(std::clamp(f, 0.0, 1.0), n);
      const uint32_t eight = std::min(part_of(std::clamp(m, 0.0, 1.0), n), static_cast<uint32_t>(n) - sixteen);
      first_of(tiers, order, 0, sixteen, tiers::kRaw);
      first_of(tiers, order, sixteen, sixteen + eight, kInt8);
      return tiers;
    }
    case Policy::kAdaptive: {
      // FP16 and INT8 only; below b = 0.5 the least important tokens are left out.
      if (b >= 0.5) {
        std::fill(tiers.begin(), tiers.end(), kInt8);
        first_of(tiers, order, 0, part_of(2 * b - 1, n), tiers::kRaw);
        return tiers;
      }
      std::fill(tiers.begin(), tiers.end(), tiers::kDrop);
      std::fill_n(tiers.begin(), pinned, kInt8);
      uint32_t keep = part_of(2 * b, n);
      for (uint32_t i = 0; i < n && keep > pinned; ++i) {
        if (tiers[order[i]] == kInt8) continue;
        tiers[order[i]] = kInt8;
        --keep;
      }
      return tiers;
    }
    case Policy::kPdtrim:
    case Policy::kSws: {
      // The sinks and, at FP16, as many others as the budget holds: those at the ends, or the most important.
      std::fill(tiers.begin(), tiers.end(), tiers::kDrop);
      uint32_t keep = std::max(part_of(b, n), pinned + (n > pinned ? 1U : 0U));
      const uint32_t head = policy == Policy::kPdtrim ? std::max(pinned, part_of(first, keep)) : pinned;
      std::fill_n(tiers.begin(), head, tiers::kRaw);
      keep -= head;
      for (uint32_t i = 0; i < n && keep > 0; ++i) {
        const uint32_t token = policy == Policy::kPdtrim ? static_cast<uint32_t>(n) - 1 - i : order[i];
        if (tiers[token] == tiers::kRaw) continue;
        tiers[token] = tiers::kRaw;
        --keep;
      }
      return tiers;
    }
  }
  return tiers;
}

bool allocate_policy(std::vector<LayerPlan>& layers, const PlanOptions& options,
                     std::span<const std::vector<float>> data, uint64_t budget,
                     const std::function<uint64_t()>& bytes) {
  // Layers of one token range (those of a sliding window hold another) are ranked together.
  using Range = std::pair<uint64_t, uint32_t>;
  struct Group {
    std::vector<uint32_t> order;
    uint32_t sinks = 0;
    std::vector<size_t> layers;
  };
  std::map<Range, Group> groups;
  for (size_t l = 0; l < layers.size(); ++l) {
    const SegmentShape& shape = layers[l].shape;
    groups[{shape.first_position, shape.tokens}].layers.push_back(l);
  }
  for (auto& [range, group] : groups) {
    const auto& [first, tokens] = range;
    const auto sinks = static_cast<uint64_t>(options.sinks);
    group.sinks = first >= sinks ? 0 : static_cast<uint32_t>(std::min<uint64_t>(sinks - first, tokens));
    if (options.policy == Policy::kRandom) {
      std::vector<uint64_t> values(tokens);
      for (uint32_t t = 0; t < tokens; ++t) values[t] = scattered(first + t + 1);
      group.order = ranked(std::span<const uint64_t>(values));
    } else if (needs_data(options.importance)) {
      std::vector<double> values(tokens, 0.0);
      for (const size_t l : group.layers) {
        for (uint32_t t = 0; t < tokens && t < data[l].size(); ++t) values[t] += static_cast<double>(data[l][t]);
      }
      const double decay = options.policy_numbers.decay.value_or(0);
      for (uint32_t t = group.sinks; t < tokens; ++t) values[t] *= std::exp(-decay * (t - group.sinks));
      // As in the paper's code, sinks rank first whatever their own value.
      const double most = tokens == 0 ? 0.0 : *std::max_element(values.begin(), values.end());
      for (uint32_t t = 0; t < group.sinks; ++t) values[t] = 10 * most + 1;
      group.order = ranked(std::span<const double>(values));
    } else {
      const std::vector<double> values = importance_by_position(options.importance, tokens, group.sinks,
                                                                options.policy_numbers.decay.value_or(kDecay));
      group.order = ranked(std::span<const double>(values));
    }
  }
  const auto assign = [&](int step) {
    for (const auto& [range, group] : groups) {
      const std::vector<uint8_t> tiers = policy_tiers(options.policy, static_cast<double>(step) / kGrid, group.order,
                                                      group.sinks, options.policy_numbers.first);
      for (const size_t l : group.layers) {
        for (int half = 0; half < 2; ++half) {
          if (layers[l].shape.dim[half] != 0) layers[l].tiers[half] = tiers;
        }
      }
    }
  };
  // Bytes never fall with b: bisect.
  int fits = -1;
  int above = kGrid + 1;
  while (above - fits > 1) {
    const int middle = fits + (above - fits) / 2;
    assign(middle);
    (bytes() <= budget ? fits : above) = middle;
  }
  assign(std::max(0, fits));
  return fits >= 0;
}

}  // namespace skv
