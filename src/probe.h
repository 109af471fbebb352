// SPDX-License-Identifier: Apache-2.0
// Is 4-bit safe here? Two probes: the logits of a sample of keys under the real queries (no model needed), and the
// paper's needle prompts, which the caller's engine answers.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "cache.h"
#include "engine.h"
#include "plan.h"
#include "profile.h"
#include "score.h"

namespace skv {

// What 4-bit keys do to attention logits.
struct LogitProbe {
  struct Head {
    float snr_db = 0;  // variance of the logits over that of their error, both without each query's mean
    float kl = 0;      // of the attention over the sampled keys, nats, mean over the queries
  };
  std::vector<std::vector<Head>> layers;  // [layer][kv-head]; empty for a layer without queries
  int32_t worst_layer = -1;
  int32_t worst_head = -1;
  float worst_snr_db = 0;
  std::vector<uint8_t> escalate;  // [layer] 1: keys need 8 bits
  bool pass = false;              // at most half of the layers need that
};

// Encodes one chunk of keys of each layer with the plan's code and transforms at 4 bits. Needs scores with queries:
// nothing is probed without (layers empty, pass false). Throws as encoding does.
LogitProbe probe_logits(Engine& engine, const Cache& cache, const Plan& plan, const Scores& scores);

// Three needle prompts as in arXiv 2606.08635: a code word hidden in filler text, asked for at its end. At least two
// must come back. Sans-IO: prompts go out, answers come in.
class NeedleProbe {
 public:
  static constexpr int32_t kTrials = 3;
  static constexpr int32_t kNeeded = 2;

  explicit NeedleProbe(uint32_t words);
  const std::string& prompt(int32_t trial) const;
  // Whether the answer contains the needle. Throws RANGE, STATE (answered already).
  bool answer(int32_t trial, std::string_view text);
  // Throws STATE until every trial was answered.
  Profile::Verdict verdict() const;

 private:
  void check(int32_t trial) const;
  std::array<std::string, kTrials> prompts_;
  std::array<std::string, kTrials> needles_;
  std::array<int32_t, kTrials> results_{-1, -1, -1};
};

}  // namespace skv
