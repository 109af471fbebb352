// SPDX-License-Identifier: Apache-2.0
// What is known of one model: how much an error in each layer's K and V costs, and whether tiers below 8 bits are safe.
// Serialized as JSON (docs/profile.md).
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace skv {

// Bytes of the largest profile accepted, and what it may hold.
constexpr size_t kMaxProfileBytes = 8U << 20U;

class Profile {
 public:
  // A multiplier turns "weight x squared error" into KL in nats: measured / predicted over all calibration trials.
  struct Trials {
    double kl = 0;
    double cost = 0;
  };
  struct Half {
    Trials by_queries;
    Trials by_kv;
  };
  struct Verdict {
    int32_t int4 = 0;  // SKV_VERDICT_NONE, _YES, _NO
    int32_t passed = 0;
    int32_t trials = 0;
  };

  explicit Profile(const std::array<uint8_t, 32>& fingerprint, int32_t layers, int32_t code);
  // Throws MALFORMED, VERSION (another format or codec), CHECKSUM (edited).
  static Profile parse(std::string_view json);
  std::string json() const;

  // Adds a trial. Throws RANGE.
  void calibrate(int32_t layer, int32_t half, int32_t scored, double cost, double kl);
  // 1 unless every layer and half was calibrated for this kind of scores.
  double multiplier(int32_t layer, int32_t half, int32_t scored) const;
  bool calibrated(int32_t scored) const;
  void set_verdict(int32_t probe, const Verdict& verdict);
  const Verdict& verdict(int32_t probe) const;
  // The word that counts: NO if any probe said so, else YES if any did.
  int32_t int4() const;

  const std::array<uint8_t, 32>& fingerprint() const { return fingerprint_; }
  int32_t layers() const { return static_cast<int32_t>(halves_.size()); }
  int32_t code() const { return code_; }

 private:
  void check(int32_t layer, int32_t half, int32_t scored) const;
  const Trials& trials(int32_t layer, int32_t half, int32_t scored) const;

  std::array<uint8_t, 32> fingerprint_;
  int32_t code_;
  std::vector<std::array<Half, 2>> halves_;
  std::array<Verdict, 2> verdicts_;
};

}  // namespace skv
