// SPDX-License-Identifier: Apache-2.0
#include "profile.h"

#include <spectrumkv.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "error.h"
#include "kernels/kernels.h"

namespace skv {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kFormat = "spectrumkv-profile";
constexpr int32_t kFormatVersion = 1;
// Arithmetic that verdicts and multipliers belong to: a new one when the codec's errors change.
constexpr const char* kCodec = "1.0";
constexpr const char* kProbeNames[2] = {"logits", "needle"};
constexpr const char* kAnswers[3] = {"none", "yes", "no"};

std::string hex(const uint8_t* bytes, size_t count) {
  static constexpr char digits[] = "0123456789abcdef";
  std::string out;
  for (size_t i = 0; i < count; ++i) {
    out += digits[bytes[i] >> 4U];
    out += digits[bytes[i] & 15U];
  }
  return out;
}

std::string digest_of(const std::string& text) {
  const uint64_t digest = kernels::kernels_of(SKV_TARGET_AUTO)->digest(text.data(), text.size());
  uint8_t bytes[8];
  for (int i = 0; i < 8; ++i) bytes[i] = static_cast<uint8_t>(digest >> (56 - 8 * i));
  return hex(bytes, sizeof bytes);
}

const Json& member(const Json& object, const char* name) {
  if (!object.is_object() || !object.contains(name)) fail(SKV_E_MALFORMED, "profile: no \"%s\"", name);
  return object.at(name);
}

std::string text_of(const Json& object, const char* name) {
  const Json& value = member(object, name);
  if (!value.is_string()) fail(SKV_E_MALFORMED, "profile: \"%s\" is no string", name);
  return value.get<std::string>();
}

int32_t integer_of(const Json& object, const char* name, int32_t least, int32_t most) {
  const Json& value = member(object, name);
  if (!value.is_number_integer() || value.get<int64_t>() < least || value.get<int64_t>() > most) {
    fail(SKV_E_MALFORMED, "profile: \"%s\" is no integer in %d..%d", name, least, most);
  }
  return value.get<int32_t>();
}

double amount_of(const Json& value, const char* name) {
  const double amount = value.is_number() ? value.get<double>() : -1.0;
  if (!(amount >= 0) || !std::isfinite(amount)) {
    fail(SKV_E_MALFORMED, "profile: \"%s\" is no pair of finite numbers >= 0", name);
  }
  return amount;
}

Profile::Trials trials_of(const Json& object, const char* name) {
  const Json& pair = member(object, name);
  if (!pair.is_array() || pair.size() != 2) fail(SKV_E_MALFORMED, "profile: \"%s\" is no pair of numbers", name);
  return {amount_of(pair[0], name), amount_of(pair[1], name)};
}

Json pair_of(const Profile::Trials& trials) { return Json::array({trials.kl, trials.cost}); }

int nibble(char digit) {
  if (digit >= '0' && digit <= '9') return digit - '0';
  return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

}  // namespace

Profile::Profile(const std::array<uint8_t, 32>& fingerprint, int32_t layers, int32_t code)
    : fingerprint_(fingerprint), code_(code), halves_(static_cast<size_t>(layers)) {}

Profile Profile::parse(std::string_view json) {
  if (json.size() > kMaxProfileBytes) {
    fail(SKV_E_MALFORMED, "profile of %zu bytes: wanted at most %zu", json.size(), kMaxProfileBytes);
  }
  // Depth 6 is what the format has; the parser's own stack must not follow a deeper text.
  const auto shallow = [](int depth, Json::parse_event_t, Json&) {
    if (depth > 8) fail(SKV_E_MALFORMED, "profile: nested deeper than 8");
    return true;
  };
  Json root = Json::parse(json.begin(), json.end(), shallow, false);
  if (root.is_discarded()) fail(SKV_E_MALFORMED, "profile: not JSON");
  if (text_of(root, "format") != kFormat) fail(SKV_E_MALFORMED, "profile: format is not \"%s\"", kFormat);
  if (const int32_t version = integer_of(root, "version", 0, INT32_MAX); version != kFormatVersion) {
    fail(SKV_E_VERSION, "profile of format version %d: wanted %d", version, kFormatVersion);
  }
  if (const std::string codec = text_of(root, "codec"); codec != kCodec) {
    fail(SKV_E_VERSION, "profile of codec \"%.20s\": wanted %s; probe again", codec.c_str(), kCodec);
  }
  const std::string claimed = text_of(root, "digest");
  root.erase("digest");
  if (const std::string found = digest_of(root.dump()); found != claimed) {
    fail(SKV_E_CHECKSUM, "profile: digest is \"%.20s\", its text gives %s: edited or damaged", claimed.c_str(),
         found.c_str());
  }
  const std::string model = text_of(root, "model");
  std::array<uint8_t, 32> fingerprint{};
  if (model.size() != 64) fail(SKV_E_MALFORMED, "profile: \"model\" is no 64 hexadecimal digits");
  for (size_t i = 0; i < 32; ++i) {
    const int high = nibble(model[2 * i]);
    const int low = nibble(model[2 * i + 1]);
    if (high < 0 || low < 0) fail(SKV_E_MALFORMED, "profile: \"model\" is no 64 hexadecimal digits");
    fingerprint[i] = static_cast<uint8_t>(high * 16 + low);
  }
  const Json& layers = member(root, "layers");
  if (!layers.is_array() || layers.empty() || layers.size() > 4096) {
    fail(SKV_E_MALFORMED, "profile: \"layers\" is no list of 1..4096");
  }
  Profile profile(fingerprint, static_cast<int32_t>(layers.size()),
                  integer_of(root, "code", SKV_CODE_EMBEDDED, SKV_CODE_PAPER));
  for (size_t l = 0; l < layers.size(); ++l) {
    for (int half = 0; half < 2; ++half) {
      const Json& from = member(layers[l], half == SKV_K ? "k" : "v");
      profile.halves_[l][static_cast<size_t>(half)] = {trials_of(from, "queries"), trials_of(from, "keys_values")};
    }
  }
  const Json& verdicts = member(root, "verdicts");
  for (int32_t probe = 0; probe < 2; ++probe) {
    const Json& from = member(verdicts, kProbeNames[probe]);
    const std::string answer = text_of(from, "int4");
    int32_t int4 = -1;
    for (int32_t i = 0; i < 3; ++i) {
      if (answer == kAnswers[i]) int4 = i;
    }
    if (int4 < 0) fail(SKV_E_MALFORMED, "profile: verdict \"%.20s\": wanted none, yes or no", answer.c_str());
    const int32_t trials = integer_of(from, "trials", 0, INT32_MAX);
    profile.verdicts_[static_cast<size_t>(probe)] = {int4, integer_of(from, "passed", 0, trials), trials};
  }
  return profile;
}

std::string Profile::json() const {
  Json root;
  root["format"] = kFormat;
  root["version"] = kFormatVersion;
  root["codec"] = kCodec;
  root["library"] = std::to_string(SKV_VERSION_MAJOR) + "." + std::to_string(SKV_VERSION_MINOR) + "." +
                    std::to_string(SKV_VERSION_PATCH);
  root["model"] = hex(fingerprint_.data(), fingerprint_.size());
  root["code"] = code_;
  for (int32_t probe = 0; probe < 2; ++probe) {
    const Verdict& verdict = verdicts_[static_cast<size_t>(probe)];
    root["verdicts"][kProbeNames[probe]] = {
        {"int4", kAnswers[verdict.int4]}, {"passed", verdict.passed}, {"trials", verdict.trials}};
  }
  root["layers"] = Json::array();
  for (const std::array<Half, 2>& layer : halves_) {
    Json entry;
    for (int half = 0; half < 2; ++half) {
      const Half& from = layer[static_cast<size_t>(half)];
      entry[half == SKV_K ? "k" : "v"] = {{"queries", pair_of(from.by_queries)}, {"keys_values", pair_of(from.by_kv)}};
    }
    root["layers"].push_back(std::move(entry));
  }
  // Written numbers read back as the same doubles, so the digest of what is read equals that of what was written.
  root["digest"] = digest_of(root.dump());
  return root.dump(1) + "\n";
}

void Profile::check(int32_t layer, int32_t half, int32_t scored) const {
  if (layer < 0 || layer >= layers()) fail(SKV_E_RANGE, "layer %d: the profile has %d", layer, layers());
  if (half != SKV_K && half != SKV_V) fail(SKV_E_RANGE, "half %d: wanted SKV_K (0) or SKV_V (1)", half);
  if (scored != SKV_SCORED_KV && scored != SKV_SCORED_QUERIES) {
    fail(SKV_E_RANGE, "scored %d: wanted SKV_SCORED_KV or SKV_SCORED_QUERIES", scored);
  }
}

const Profile::Trials& Profile::trials(int32_t layer, int32_t half, int32_t scored) const {
  const Half& it = halves_[static_cast<size_t>(layer)][static_cast<size_t>(half)];
  return scored == SKV_SCORED_QUERIES ? it.by_queries : it.by_kv;
}

void Profile::calibrate(int32_t layer, int32_t half, int32_t scored, double cost, double kl) {
  check(layer, half, scored);
  if (!(cost > 0) || !std::isfinite(cost)) fail(SKV_E_RANGE, "cost %g: wanted finite and above 0", cost);
  if (!std::isfinite(kl)) fail(SKV_E_NON_FINITE, "KL %g: wanted a finite value", kl);
  Half& it = halves_[static_cast<size_t>(layer)][static_cast<size_t>(half)];
  Trials& to = scored == SKV_SCORED_QUERIES ? it.by_queries : it.by_kv;
  to.cost += cost;
  to.kl += std::max(0.0, kl);  // what is below 0 is rounding
}

bool Profile::calibrated(int32_t scored) const {
  for (int32_t l = 0; l < layers(); ++l) {
    // A layer without V has no trials there.
    if (trials(l, SKV_K, scored).cost <= 0) return false;
  }
  return true;
}

double Profile::multiplier(int32_t layer, int32_t half, int32_t scored) const {
  if (layer >= layers() || !calibrated(scored)) return 1.0;
  const Trials& it = trials(layer, half, scored);
  // Nothing is free: an unmeasurably small KL still counts a little.
  return it.cost > 0 ? std::max(it.kl, 1e-8) / it.cost : 1.0;
}

void Profile::set_verdict(int32_t probe, const Verdict& verdict) {
  if (probe < 0 || probe > 1) fail(SKV_E_RANGE, "probe %d: wanted SKV_PROBE_LOGITS or SKV_PROBE_NEEDLE", probe);
  verdicts_[static_cast<size_t>(probe)] = verdict;
}

const Profile::Verdict& Profile::verdict(int32_t probe) const {
  if (probe < 0 || probe > 1) fail(SKV_E_RANGE, "probe %d: wanted SKV_PROBE_LOGITS or SKV_PROBE_NEEDLE", probe);
  return verdicts_[static_cast<size_t>(probe)];
}

int32_t Profile::int4() const {
  int32_t word = SKV_VERDICT_NONE;
  for (const Verdict& verdict : verdicts_) {
    if (verdict.int4 == SKV_VERDICT_NO) return SKV_VERDICT_NO;
    if (verdict.int4 == SKV_VERDICT_YES) word = SKV_VERDICT_YES;
  }
  return word;
}

}  // namespace skv
