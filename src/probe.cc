// SPDX-License-Identifier: Apache-2.0
#include "probe.h"

#include <spectrumkv.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "codec.h"
#include "error.h"
#include "host_view.h"
#include "kernels/tiers.h"
#include "rows.h"

namespace skv {
namespace {

// A head whose attention over the sampled keys moves by more than this at 4 bits gets 8 (docs/results/quality.md).
constexpr float kMostLogitKl = 0.1F;

// Layers are probed together, so that threads share the work, until their keys take this many bytes a thread as f32.
// Eight times as many were slower: memory that was never touched costs more than waiting for each other.
constexpr size_t kGroupBytes = size_t{512} << 10U;

// One chunk of a layer's keys as f32 rows [tokens][heads][dim], and what 4 bits make of them.
struct Sample {
  int32_t layer = 0;
  const QuerySample* queries = nullptr;
  int64_t first_position = 0;
  uint32_t tokens = 0;
  std::vector<float> keys;
  std::vector<float> errors;
};

void take_keys(const Cache& cache, uint32_t chunk, Sample& sample, Scratch& scratch) {
  const CacheLayer& view = cache.layer(sample.layer);
  const auto tokens = static_cast<uint64_t>(view.tokens);
  // The last whole chunk that every query sees; the first one in a short prompt.
  const uint64_t seen = tokens - static_cast<uint64_t>(sample.queries->count);
  const uint32_t index = seen >= chunk ? static_cast<uint32_t>(seen / chunk) - 1 : 0;
  const ChunkRange range = chunk_range(tokens, chunk, index);
  const kernels::Rows rows = rows_of(cache, sample.layer, SKV_K, range, scratch);
  sample.first_position = view.first_position + static_cast<int64_t>(range.first);
  sample.tokens = range.tokens;
  sample.keys.resize(size_t{range.tokens} * static_cast<size_t>(rows.heads) * static_cast<size_t>(rows.dim));
  float* to = sample.keys.data();
  for (int32_t t = 0; t < rows.tokens; ++t) {
    for (int32_t h = 0; h < rows.heads; ++h) {
      const std::byte* from = rows.base + rows.token_offset[t] + h * rows.stride_head;
      for (int32_t c = 0; c < rows.dim; ++c) *to++ = tiers::load_element(from + c * rows.stride_elem, rows.dtype);
    }
  }
}

// The keys of a group of samples, or their errors, as a cache: layer i is sample i.
Cache view_of(const Cache& like, std::vector<Sample>& group, std::vector<float> Sample::*rows) {
  Cache cache(static_cast<int32_t>(group.size()));
  for (size_t i = 0; i < group.size(); ++i) {
    const auto layer = static_cast<int32_t>(i);
    const CacheLayer& view = like.layer(group[i].layer);
    const int64_t row = int64_t{view.dim[SKV_K]} * 4;
    std::vector<float>& values = group[i].*rows;
    cache.set_tokens(layer, group[i].first_position, group[i].tokens);
    cache.set_layer(layer, view.kv_heads, view.dim[SKV_K], 0, SKV_F32);
    cache.set_plane(layer, SKV_K, values.data(), values.size() * sizeof(float), 0, view.kv_heads * row, row, 4);
  }
  return cache;
}

// What the real encoder and decoder at 4 bits make of the keys.
void quantize(Engine& engine, const Cache& keys, const Plan& like, const Cache& to) {
  Plan plan;
  plan.options.chunk = like.options.chunk;
  plan.options.sinks = like.options.sinks;
  plan.options.transforms = like.options.transforms;
  plan.options.code = like.code();
  plan.options.strategy = Strategy::kUniform;
  plan.options.uniform_tier = 2;
  plan.options.unproven = true;
  solve(engine, plan, keys, nullptr);
  const auto payload = Payload::create(keys, plan, {});
  encode_layers(engine, keys, plan, *payload, 0, keys.layer_count());
  decode_layers(engine, *payload, to, 0, keys.layer_count());
}

// Sums over tokens, in lanes: one chain of additions would be waited for at every token.
constexpr size_t kLanes = 8;
struct Sums {
  double l[kLanes] = {}, l_squares[kLanes] = {}, e[kLanes] = {}, e_squares[kLanes] = {}, moved[kLanes] = {};

  void add(const float* logits, const float* noise, const float* p, size_t count) {
    float a[3][kLanes] = {};
    std::copy_n(logits, count, a[0]);
    std::copy_n(noise, count, a[1]);
    std::copy_n(p, count, a[2]);
    for (size_t i = 0; i < kLanes; ++i) {
      const auto x = static_cast<double>(a[0][i]);
      const auto y = static_cast<double>(a[1][i]);
      l[i] += x;
      l_squares[i] += x * x;
      e[i] += y;
      e_squares[i] += y * y;
      moved[i] += static_cast<double>(a[2][i]) * y;
    }
  }
  std::array<double, 5> all() const {
    const auto sum = [](const double(&lanes)[kLanes]) { return std::accumulate(lanes, lanes + kLanes, 0.0); };
    return {sum(l), sum(l_squares), sum(e), sum(e_squares), sum(moved)};
  }
};

LogitProbe::Head judge(Engine& engine, const Cache& keys, const Cache& errors, int32_t layer,
                       const QuerySample& queries, int32_t head, Scratch& scratch) {
  const auto dim = static_cast<size_t>(keys.layer(layer).dim[SKV_K]);
  const auto tokens = static_cast<size_t>(keys.layer(layer).tokens);
  const int32_t group = queries.heads / keys.layer(layer).kv_heads;
  std::vector<float> q;
  q.reserve(static_cast<size_t>(queries.taken) * static_cast<size_t>(group) * dim);
  for (int32_t i = 0; i < queries.taken; ++i) {
    const size_t row = static_cast<size_t>(i) * static_cast<size_t>(queries.heads) + static_cast<size_t>(head * group);
    const float* from = queries.values.data() + row * dim;
    q.insert(q.end(), from, from + static_cast<size_t>(group) * dim);
  }
  const int32_t count = queries.taken * group;
  std::vector<float> logits(static_cast<size_t>(count) * tokens);
  std::vector<float> noise(logits.size());
  const ChunkRange all = chunk_range(tokens, tiers::kMaxChunk, 0);
  const auto stride = static_cast<int64_t>(tokens);
  engine.kernels().dots(rows_of(keys, layer, SKV_K, all, scratch), head, q.data(), count, logits.data(), stride);
  engine.kernels().dots(rows_of(errors, layer, SKV_K, all, scratch), head, q.data(), count, noise.data(), stride);
  double signal_sum = 0;
  double noise_sum = 0;
  double kl_sum = 0;
  std::vector<float> p(tokens);
  // The logarithm of the sum of exponentials of `values`, which become their softmax.
  const auto log_sum = [&](std::vector<float>& values) {
    const auto top = static_cast<size_t>(std::max_element(values.begin(), values.end()) - values.begin());
    const auto most = static_cast<double>(values[top]);
    engine.kernels().softmax(values.data(), tokens, 1.0F);
    return most - std::log(static_cast<double>(values[top]));
  };
  for (int32_t i = 0; i < count; ++i) {
    const float* l = logits.data() + static_cast<size_t>(i) * tokens;
    const float* e = noise.data() + static_cast<size_t>(i) * tokens;
    for (size_t t = 0; t < tokens; ++t) p[t] = l[t] + e[t];
    const double with_noise = log_sum(p);
    p.assign(l, l + tokens);
    const double without = log_sum(p);
    Sums sums;
    for (size_t t = 0; t < tokens; t += kLanes) sums.add(l + t, e + t, p.data() + t, std::min(kLanes, tokens - t));
    const auto [l_sum, l_squares, e_sum, e_squares, moved] = sums.all();
    const auto n = static_cast<double>(tokens);
    signal_sum += std::max(0.0, l_squares - l_sum * l_sum / n);
    noise_sum += std::max(0.0, e_squares - e_sum * e_sum / n);
    kl_sum += with_noise - without - moved;
  }
  LogitProbe::Head out;
  // All keys alike, or no error at all: nothing that could go wrong.
  out.snr_db = noise_sum <= 0 ? 200.0F : static_cast<float>(10.0 * std::log10(std::max(signal_sum, 1e-30) / noise_sum));
  out.kl = static_cast<float>(std::max(0.0, kl_sum / count));
  return out;
}

void probe_group(Engine& engine, const Cache& cache, const Plan& plan, std::vector<Sample>& group, LogitProbe& probe) {
  const auto chunk = static_cast<uint32_t>(plan.options.chunk);
  if (engine.device() == nullptr) {
    engine.run(group.size(), [&](size_t i, Scratch& scratch) { take_keys(cache, chunk, group[i], scratch); });
  } else {
    for (Sample& sample : group) {  // what a device holds is copied layer by layer
      const HostView seen(engine.device(), cache, sample.layer, nullptr, 1);
      engine.run(1, [&](size_t, Scratch& scratch) { take_keys(seen.cache(), chunk, sample, scratch); });
    }
  }
  for (Sample& sample : group) sample.errors.resize(sample.keys.size());
  const Cache keys = view_of(cache, group, &Sample::keys);
  const Cache errors = view_of(cache, group, &Sample::errors);
  quantize(engine.host(), keys, plan, errors);
  for (Sample& sample : group) {
    for (size_t i = 0; i < sample.errors.size(); ++i) sample.errors[i] -= sample.keys[i];
  }
  struct Unit {
    int32_t layer;  // of the group
    int32_t head;
  };
  std::vector<Unit> units;
  for (int32_t i = 0; i < keys.layer_count(); ++i) {
    const int32_t heads = keys.layer(i).kv_heads;
    for (int32_t head = 0; head < heads; ++head) units.push_back({i, head});
    probe.layers[static_cast<size_t>(group[static_cast<size_t>(i)].layer)].resize(static_cast<size_t>(heads));
  }
  engine.run(units.size(), [&](size_t u, Scratch& scratch) {
    const auto [layer, head] = units[u];
    const Sample& sample = group[static_cast<size_t>(layer)];
    probe.layers[static_cast<size_t>(sample.layer)][static_cast<size_t>(head)] =
        judge(engine, keys, errors, layer, *sample.queries, head, scratch);
  });
}

}  // namespace

LogitProbe probe_logits(Engine& engine, const Cache& cache, const Plan& plan, const Scores& scores) {
  LogitProbe probe;
  const auto layers = static_cast<size_t>(cache.layer_count());
  probe.escalate.assign(layers, 0);
  probe.layers.resize(layers);
  size_t asked = 0;
  std::vector<Sample> group;
  const size_t most = kGroupBytes * static_cast<size_t>(engine.threads());
  size_t bytes = 0;
  for (int32_t l = 0; l < cache.layer_count(); ++l) {
    if (const QuerySample* queries = scores.sample(l); queries != nullptr) {
      ++asked;
      const CacheLayer& view = cache.layer(l);
      bytes += static_cast<size_t>(plan.options.chunk) * static_cast<size_t>(view.kv_heads) *
               static_cast<size_t>(view.dim[SKV_K]) * sizeof(float);
      group.push_back({l, queries, 0, 0, {}, {}});
    }
    if (!group.empty() && (bytes >= most || l + 1 == cache.layer_count())) {
      probe_group(engine, cache, plan, group, probe);
      group.clear();
      bytes = 0;
    }
  }
  size_t raised = 0;
  for (size_t l = 0; l < layers; ++l) {
    for (size_t head = 0; head < probe.layers[l].size(); ++head) {
      const LogitProbe::Head& it = probe.layers[l][head];
      if (it.kl > kMostLogitKl) probe.escalate[l] = 1;
      if (probe.worst_layer < 0 || it.snr_db < probe.worst_snr_db) {
        probe.worst_snr_db = it.snr_db;
        probe.worst_layer = static_cast<int32_t>(l);
        probe.worst_head = static_cast<int32_t>(head);
      }
    }
    raised += probe.escalate[l];
  }
  probe.pass = asked == layers && 2 * raised <= layers;
  return probe;
}

// ------------------------------------------------------------------------------------------------- needles

namespace {

// Our own filler and needles; the shape (filler, needle at a depth, question last) is the paper's.
constexpr const char* kFiller[] = {
    "The ferry leaves the small island twice a day and returns before the evening tide. ",
    "In the valley the farmers repair their stone walls when the first snow has melted. ",
    "A row of lime trees shades the road that leads from the station to the market. ",
    "The museum keeps its oldest maps in a dry room behind the reading hall. ",
    "On clear days the watchmen could see the smoke of ships far beyond the cape. ",
};
struct Needle {
  const char* text;
  const char* question;
  const char* answer;
  double depth;
};
constexpr Needle kNeedles[NeedleProbe::kTrials] = {
    {"The access code of the harbour office is 58314. ", "\nAs stated above, the access code of the harbour office is",
     "58314", 0.25},
    {"The locker number of the night porter is 70926. ", "\nAs stated above, the locker number of the night porter is",
     "70926", 0.5},
    {"The serial number of the signal lamp is 41687. ", "\nAs stated above, the serial number of the signal lamp is",
     "41687", 0.75},
};

size_t words_in(std::string_view text) { return static_cast<size_t>(std::count(text.begin(), text.end(), ' ')); }

}  // namespace

NeedleProbe::NeedleProbe(uint32_t words) {
  if (words < 64 || words > 1000000) fail(SKV_E_RANGE, "prompts of %u words: wanted 64..1000000", words);
  for (size_t trial = 0; trial < prompts_.size(); ++trial) {
    const Needle& needle = kNeedles[trial];
    std::string& prompt = prompts_[trial];
    bool placed = false;
    size_t written = 0;
    for (size_t i = trial; written < words; ++i) {
      if (!placed && static_cast<double>(written) >= needle.depth * words) {
        prompt += needle.text;
        placed = true;
      }
      const std::string_view sentence = kFiller[i % std::size(kFiller)];
      prompt += sentence;
      written += words_in(sentence);
    }
    if (!placed) prompt += needle.text;
    prompt += needle.question;
    needles_[trial] = needle.answer;
  }
}

void NeedleProbe::check(int32_t trial) const {
  if (trial < 0 || trial >= kTrials) fail(SKV_E_RANGE, "trial %d: wanted 0..%d", trial, kTrials - 1);
}

const std::string& NeedleProbe::prompt(int32_t trial) const {
  check(trial);
  return prompts_[static_cast<size_t>(trial)];
}

bool NeedleProbe::answer(int32_t trial, std::string_view text) {
  check(trial);
  int32_t& result = results_[static_cast<size_t>(trial)];
  if (result >= 0) fail(SKV_E_STATE, "trial %d was answered already", trial);
  result = text.find(needles_[static_cast<size_t>(trial)]) != std::string_view::npos ? 1 : 0;
  return result == 1;
}

Profile::Verdict NeedleProbe::verdict() const {
  Profile::Verdict verdict;
  verdict.trials = kTrials;
  for (int32_t trial = 0; trial < kTrials; ++trial) {
    const int32_t result = results_[static_cast<size_t>(trial)];
    if (result < 0) fail(SKV_E_STATE, "trial %d was not answered yet", trial);
    verdict.passed += result;
  }
  verdict.int4 = verdict.passed >= kNeeded ? SKV_VERDICT_YES : SKV_VERDICT_NO;
  return verdict;
}

}  // namespace skv
