// SPDX-License-Identifier: Apache-2.0
// The ABI: the only file that exports, and the only one that catches. Each function checks its handles and pointers,
// then calls the object that does the work.
#include <spectrumkv.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <thread>

#include "codec.h"
#include "codec_upgrade.h"
#include "error.h"
#include "llama.h"
#include "packing.h"
#include "probe.h"
#include "profile.h"
#include "transport/clock.h"
#include "transport/endpoint.h"

// Handles begin with a word that names their kind, so that a handle of another kind, or one already destroyed, is an
// error rather than a crash in all but unlucky cases.
#define SKV_HANDLE(name, word, type)                                   \
  struct name {                                                        \
    static constexpr uint32_t kWord = word;                            \
    template <class... Args>                                           \
    explicit name(Args&&... args) : it(std::forward<Args>(args)...) {} \
    ~name() { magic = 0; }                                             \
    name(const name&) = delete;                                        \
    name& operator=(const name&) = delete;                             \
    volatile uint32_t magic = kWord;                                   \
    type it;                                                           \
  }

// An engine serves one call at a time, but plans share it, and to their callers they are handles of their own.
struct SharedEngine {
  explicit SharedEngine(int32_t device) : it(device) {}
  skv::Engine it;
  std::mutex turn;
  std::atomic<std::thread::id> holder;  // of the turn
};
SKV_HANDLE(skv_engine, 0x534B5645, std::shared_ptr<SharedEngine>);
SKV_HANDLE(skv_cache, 0x534B5643, skv::Cache);
SKV_HANDLE(skv_scores, 0x534B5653, skv::Scores);
SKV_HANDLE(skv_profile, 0x534B5646, skv::Profile);
SKV_HANDLE(skv_needle_probe, 0x534B5642, skv::NeedleProbe);
SKV_HANDLE(skv_payload, 0x534B5650, std::unique_ptr<skv::Payload>);
SKV_HANDLE(skv_endpoint, 0x534B5654, std::shared_ptr<skv::transport::Endpoint>);
SKV_HANDLE(skv_conn, 0x534B564E, std::shared_ptr<skv::transport::Conn>);
SKV_HANDLE(skv_request, 0x534B5652, std::shared_ptr<skv::transport::Request>);

// A plan shares its engine, on whose device solving measures rows: it may outlive the engine's handle.
struct skv_plan {
  static constexpr uint32_t kWord = 0x534B564C;
  ~skv_plan() { magic = 0; }
  volatile uint32_t magic = kWord;
  std::shared_ptr<SharedEngine> engine;
  skv::Plan it;
};

namespace {

using skv::fail;

// The only catch of the library.
template <class Body>
skv_status guard(skv_error* error, Body&& body) noexcept {
  try {
    const skv_status status = body();
    skv::fill(error, status, 0, {});
    return status;
  } catch (const skv::Error& e) {
    skv::fill(error, e.status(), e.native(), e.message());
    return e.status();
  } catch (const std::bad_alloc&) {
    skv::fill(error, SKV_E_NO_MEMORY, 0, "out of memory");
    return SKV_E_NO_MEMORY;
  } catch (const std::exception& e) {
    skv::fill(error, SKV_E_INTERNAL, 0, std::string("unexpected: ") + e.what());
    return SKV_E_INTERNAL;
  } catch (...) {
    skv::fill(error, SKV_E_INTERNAL, 0, "unexpected exception of an unknown type");
    return SKV_E_INTERNAL;
  }
}

// guard() for bodies that return nothing on success.
template <class Body>
skv_status guarded(skv_error* error, Body&& body) noexcept {
  return guard(error, [&] {
    body();
    return SKV_OK;
  });
}

template <class Handle>
Handle& open_handle(Handle* handle, const char* name) {
  if (handle == nullptr) fail(SKV_E_NULL, "%s is NULL", name);
  if (handle->magic != std::remove_const_t<Handle>::kWord) {
    fail(SKV_E_ARGUMENT, "%s is no such handle (word 0x%08X): destroyed, or of another kind", name,
         static_cast<unsigned>(handle->magic));
  }
  return *handle;
}

template <class T>
T* need(T* pointer, const char* name) {
  if (pointer == nullptr) fail(SKV_E_NULL, "%s is NULL", name);
  return pointer;
}

void check_stream(const skv::Engine& engine, const void* stream) {
  if (stream != nullptr && engine.device() == nullptr)
    fail(SKV_E_ARGUMENT, "stream %p: wanted NULL on a CPU engine", stream);
}

// Held by whoever uses an engine: ENGINE(h) until the end of its expression.
class Turn {
 public:
  explicit Turn(SharedEngine& engine) : lock_(take(engine)), engine_(engine) {}
  ~Turn() { engine_.holder.store(std::thread::id(), std::memory_order_relaxed); }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
  operator skv::Engine&() const { return engine_.it; }  // stands for the engine
  skv::Engine* operator->() const { return &engine_.it; }

 private:
  // A thread that has the turn already is inside its executor: it would wait for itself for ever. Only its own id says
  // so, and only itself writes that, so any order will do.
  static std::unique_lock<std::mutex> take(SharedEngine& engine) {
    const std::thread::id self = std::this_thread::get_id();
    if (engine.holder.load(std::memory_order_relaxed) == self) {
      fail(SKV_E_STATE, "the engine is in a call of this very thread: an executor must not use its engine");
    }
    std::unique_lock<std::mutex> lock(engine.turn);
    engine.holder.store(self, std::memory_order_relaxed);
    return lock;
  }

  std::unique_lock<std::mutex> lock_;
  SharedEngine& engine_;
};

#define ENGINE(h) Turn(*open_handle(h, "engine").it)
#define ENGINE_OF(plan) Turn(*(plan)->engine)
#define CACHE(h) open_handle(h, "cache").it
#define SCORES(h) open_handle(h, "scores").it
#define PROFILE(h) open_handle(h, "profile").it
#define NEEDLE(h) open_handle(h, "probe").it
#define PLAN(h) open_handle(h, "plan").it
#define PAYLOAD(h) (*open_handle(h, "payload").it)
#define ENDPOINT(h) (*open_handle(h, "endpoint").it)
#define CONN(h) (*open_handle(h, "conn").it)
#define REQUEST(h) (*open_handle(h, "request").it)

// Result structs may be of an older, shorter or a newer, longer version than this library's.
template <class Struct>
void give(const Struct& value, Struct* out) {
  const uint32_t room = need(out, "out")->struct_size;
  if (room < 8 || room > 65536) {
    fail(SKV_E_ARGUMENT, "struct_size %u: wanted sizeof the struct (%zu here)", room, sizeof(Struct));
  }
  std::memcpy(out, &value, std::min<size_t>(room, sizeof(Struct)));
  out->struct_size = room;
}

skv_status adopt_request(std::shared_ptr<skv::transport::Request> request, skv_request** out) {
  auto handle = std::make_unique<skv_request>(std::move(request));
  handle->it->set_handle(handle.get());
  *out = handle.release();
  return SKV_OK;
}

skv::transport::Parcel parcel_of(const skv::transport::Conn& to, const skv::Payload& from) {
  skv::transport::Parcel parcel;
  const bool in_place = to.get(SKV_CONN_PLANE) == SKV_PLANE_NCCL && !from.packed();
  parcel.bytes = in_place ? from.bytes() : from.wire_bytes();
  parcel.layer_bytes = from.wire_pieces();
  parcel.fingerprint = from.header().fingerprint;
  parcel.request_id = from.header().request_id;
  parcel.keep_alive = in_place ? from.owner() : from.wire_owner();
  return parcel;
}

// Bytes that got smaller on their way: the header that was sent first names more of them.
void settle(skv::transport::Received& received) {
  const skv::transport::Shrunk& shrunk = *received.shrunk;
  uint64_t total = 0;
  for (const uint64_t bytes : shrunk.layer_bytes) total += bytes;
  std::memcpy(received.bytes.data(), shrunk.head.data(), shrunk.head.size());
  received.bytes = received.bytes.first(total);
}

// Pieces of a parcel that are ready with so many leading layers: the header comes first, in device memory with the
// first layer that is encoded.
uint32_t entries_of(size_t layers, bool in_place) {
  return in_place && layers == 0 ? 0 : static_cast<uint32_t>(layers) + 1;
}

}  // namespace

extern "C" {

// ------------------------------------------------------------------------------------------------ versions

SKV_API uint32_t skv_version(void) { return SKV_VERSION_MAJOR * 10000 + SKV_VERSION_MINOR * 100 + SKV_VERSION_PATCH; }
#define SKV_TEXT_(x) #x
#define SKV_TEXT(x) SKV_TEXT_(x)
SKV_API const char* skv_version_string(void) {
  return SKV_TEXT(SKV_VERSION_MAJOR) "." SKV_TEXT(SKV_VERSION_MINOR) "." SKV_TEXT(SKV_VERSION_PATCH);
}
SKV_API uint32_t skv_abi_version(void) { return SKV_ABI_VERSION; }
SKV_API uint32_t skv_wire_version(void) { return SKV_WIRE_MAJOR * 256 + SKV_WIRE_MINOR; }
SKV_API const char* skv_status_name(skv_status status) { return skv::status_name(status); }

// -------------------------------------------------------------------------------------------------- engine

SKV_API skv_status skv_engine_create(int32_t device, skv_engine** out, skv_error* err) {
  return guarded(err, [&] {
    need(out, "out");
    *out = new skv_engine(std::make_shared<SharedEngine>(device));
  });
}
SKV_API skv_status skv_engine_set(skv_engine* engine, int32_t key, int64_t value, skv_error* err) {
  return guarded(err, [&] { ENGINE(engine)->set(key, value); });
}
SKV_API skv_status skv_engine_set_executor(skv_engine* engine, skv_executor run, void* user, int32_t width,
                                           skv_error* err) {
  return guarded(err, [&] { ENGINE(engine)->set_executor({run, user, width}); });
}
SKV_API skv_status skv_engine_get(const skv_engine* engine, int32_t key, int64_t* out, skv_error* err) {
  return guarded(err, [&] {
    need(out, "out");
    *out = ENGINE(engine)->get(key);
  });
}
SKV_API skv_status skv_engine_describe(const skv_engine* engine, char* buffer, size_t capacity, skv_error* err) {
  return guarded(err, [&] {
    const std::string line = ENGINE(engine)->describe();
    need(buffer, "buffer");
    if (capacity < line.size() + 1) fail(SKV_E_TOO_SMALL, "buffer of %zu bytes, wanted %zu", capacity, line.size() + 1);
    std::memcpy(buffer, line.c_str(), line.size() + 1);
  });
}
SKV_API void skv_engine_destroy(skv_engine* engine) { delete engine; }

// --------------------------------------------------------------------------------------------------- cache

SKV_API skv_status skv_cache_create(int32_t layers, skv_cache** out, skv_error* err) {
  return guarded(err, [&] {
    need(out, "out");
    *out = new skv_cache(layers);
  });
}
SKV_API skv_status skv_cache_set_tokens(skv_cache* cache, int32_t layer, int64_t first_position, int64_t tokens,
                                        skv_error* err) {
  return guarded(err, [&] { CACHE(cache).set_tokens(layer, first_position, tokens); });
}
SKV_API skv_status skv_cache_set_layer(skv_cache* cache, int32_t layer, int32_t kv_heads, int32_t k_dim, int32_t v_dim,
                                       int32_t dtype, skv_error* err) {
  return guarded(err, [&] { CACHE(cache).set_layer(layer, kv_heads, k_dim, v_dim, dtype); });
}
SKV_API skv_status skv_cache_set_first_head(skv_cache* cache, int32_t layer, int32_t first_head, skv_error* err) {
  return guarded(err, [&] { CACHE(cache).set_first_head(layer, first_head); });
}
SKV_API skv_status skv_cache_set_group(skv_cache* cache, int32_t layer, int32_t group, skv_error* err) {
  return guarded(err, [&] { CACHE(cache).set_group(layer, group); });
}
SKV_API skv_status skv_cache_set_plane(skv_cache* cache, int32_t layer, int32_t half, void* base, size_t bytes,
                                       int64_t stride_block, int64_t stride_token, int64_t stride_head,
                                       int64_t stride_elem, skv_error* err) {
  return guarded(err, [&] {
    CACHE(cache).set_plane(layer, half, base, bytes, stride_block, stride_token, stride_head, stride_elem);
  });
}
SKV_API skv_status skv_cache_set_blocks(skv_cache* cache, int32_t layer, const int32_t* block_ids, size_t count,
                                        int32_t block_tokens, skv_error* err) {
  return guarded(err, [&] { CACHE(cache).set_blocks(layer, block_ids, count, block_tokens); });
}
SKV_API skv_status skv_cache_set_identity(skv_cache* cache, const uint8_t* fingerprint, const uint8_t* request_id,
                                          skv_error* err) {
  return guarded(err, [&] { CACHE(cache).set_identity(fingerprint, request_id); });
}
SKV_API skv_status skv_cache_set(skv_cache* cache, int32_t key, int64_t value, skv_error* err) {
  return guarded(err, [&] { CACHE(cache).set(key, value); });
}
SKV_API skv_status skv_cache_check(const skv_cache* cache, skv_error* err) {
  return guarded(err, [&] { CACHE(cache).check(); });
}
SKV_API skv_status skv_cache_raw_bytes(const skv_cache* cache, uint64_t* out, skv_error* err) {
  return guarded(err, [&] {
    need(out, "out");
    *out = CACHE(cache).raw_bytes();
  });
}
SKV_API void skv_cache_destroy(skv_cache* cache) { delete cache; }

SKV_API skv_status skv_cache_from_llama(const void* blob, size_t bytes, const int32_t* heads, int32_t layers,
                                        skv_cache** out, skv_error* err) {
  return guarded(err, [&] {
    need(out, "out");
    need(blob, "blob");
    need(heads, "heads");
    if (layers < 1) fail(SKV_E_RANGE, "%d layers, wanted at least 1", layers);
    *out = new skv_cache(
        skv::llama_cache({static_cast<const std::byte*>(blob), bytes}, {heads, static_cast<size_t>(layers)}));
  });
}
SKV_API skv_status skv_llama_blob_bytes(const skv_payload* payload, int32_t v_trans, int32_t dtype, uint64_t* out,
                                        skv_error* err) {
  return guarded(err, [&] {
    need(out, "out");
    PAYLOAD(payload).need_shapes(SKV_ALL);
    PAYLOAD(payload).need_rows("a llama.cpp state");
    *out = skv::llama_blob_bytes(skv::llama_layers(PAYLOAD(payload).segments()), v_trans, dtype);
  });
}
SKV_API skv_status skv_cache_to_llama(const skv_payload* payload, int32_t v_trans, int32_t dtype,
                                      const uint8_t* fingerprint, void* blob, size_t bytes, skv_cache** out,
                                      skv_error* err) {
  return guarded(err, [&] {
    need(out, "out");
    need(blob, "blob");
    const skv::Payload& from = PAYLOAD(payload);
    from.need_rows("a llama.cpp state");
    auto handle = std::make_unique<skv_cache>(
        skv::llama_frame(skv::llama_layers(from.segments()), v_trans, dtype, {static_cast<std::byte*>(blob), bytes}));
    handle->it.set_identity(fingerprint, from.header().request_id.data());
    *out = handle.release();
  });
}

// -------------------------------------------------------------------------------------------------- scores

SKV_API skv_status skv_scores_create(skv_scores** out, skv_error* err) {
  return guarded(err, [&] {
    need(out, "out");
    *out = new skv_scores();
  });
}
SKV_API skv_status skv_scores_set_weights(skv_scores* scores, int32_t layer, int32_t half, const float* weights,
                                          size_t tokens, skv_error* err) {
  return guarded(err, [&] {
    need(weights, "weights");
    SCORES(scores).set_weights(layer, half, {weights, tokens});
  });
}
SKV_API skv_status skv_scores_set_queries(skv_scores* scores, int32_t layer, const void* base, size_t bytes,
                                          int32_t dtype, int32_t count, int32_t heads, int64_t stride_query,
                                          int64_t stride_head, int64_t stride_elem, float scale, int32_t window,
                                          skv_error* err) {
  return guarded(err, [&] {
    SCORES(scores).set_queries(layer, {static_cast<const std::byte*>(base), bytes, dtype, count, heads, stride_query,
                                       stride_head, stride_elem, scale, window});
  });
}
SKV_API skv_status skv_score(skv_engine* engine, const skv_cache* cache, skv_scores* scores, skv_error* err) {
  return guarded(err, [&] { skv::score(ENGINE(engine), CACHE(cache), SCORES(scores)); });
}
SKV_API skv_status skv_scores_get(const skv_scores* scores, int32_t layer, int32_t half, float* out, size_t tokens,
                                  skv_error* err) {
  return guarded(err, [&] {
    need(out, "out");
    if (half != SKV_K && half != SKV_V) fail(SKV_E_RANGE, "half %d: wanted SKV_K (0) or SKV_V (1)", half);
    const std::vector<float> weights = SCORES(scores).weights(layer, half).list();
    if (tokens != weights.size()) fail(SKV_E_RANGE, "room for %zu weights, wanted exactly %zu", tokens, weights.size());
    std::copy(weights.begin(), weights.end(), out);
  });
}
SKV_API void skv_scores_destroy(skv_scores* scores) { delete scores; }

// ---------------------------------------------------------------------------------------------------- plan

SKV_API skv_status skv_plan_create(skv_engine* engine, skv_plan** out, skv_error* err) {
  return guarded(err, [&] {
    need(out, "out");
    auto plan = std::make_unique<skv_plan>();
    plan->engine = open_handle(engine, "engine").it;
    *out = plan.release();
  });
}
SKV_API skv_status skv_plan_set(skv_plan* plan, int32_t key, int64_t value, skv_error* err) {
  return guarded(err, [&] { PLAN(plan).set(key, value); });
}
SKV_API skv_status skv_plan_set_budget(skv_plan* plan, double fraction, skv_error* err) {
  return guarded(err, [&] { PLAN(plan).set_fraction(fraction); });
}
SKV_API skv_status skv_plan_set_budget_bytes(skv_plan* plan, uint64_t bytes, skv_error* err) {
  return guarded(err, [&] { PLAN(plan).set_bytes(bytes); });
}
SKV_API skv_status skv_plan_set_strategy(skv_plan* plan, const char* name, skv_error* err) {
  return guarded(err, [&] {
    need(name, "name");
    PLAN(plan).set_strategy(name);
  });
}
SKV_API skv_status skv_plan_set_profile(skv_plan* plan, const skv_profile* profile, skv_error* err) {
  return guarded(err, [&] {
    PLAN(plan).profile = profile == nullptr ? nullptr : std::make_shared<const skv::Profile>(PROFILE(profile));
  });
}
SKV_API skv_status skv_plan_cost(const skv_plan* plan, int32_t layer, int32_t half, double* out, skv_error* err) {
  return guarded(err, [&] {
    need(out, "out");
    if (half != SKV_K && half != SKV_V) fail(SKV_E_RANGE, "half %d: wanted SKV_K (0) or SKV_V (1)", half);
    *out = PLAN(plan).cost(layer, half);
  });
}
SKV_API skv_status skv_plan_solve(skv_plan* plan, const skv_cache* cache, const skv_scores* scores, skv_error* err) {
  return guarded(err, [&] {
    skv::Plan& solved = PLAN(plan);
    skv::solve(ENGINE_OF(plan), solved, CACHE(cache), scores == nullptr ? nullptr : &SCORES(scores));
  });
}
SKV_API skv_status skv_plan_bytes(const skv_plan* plan, uint64_t* out, skv_error* err) {
  return guarded(err, [&] {
    need(out, "out");
    const skv::Plan& solved = PLAN(plan);
    if (!solved.solved()) fail(SKV_E_STATE, "the plan is not solved: call skv_plan_solve first");
    *out = solved.payload_bytes();
  });
}
SKV_API skv_status skv_plan_get_tiers(const skv_plan* plan, int32_t layer, int32_t half, uint8_t* out, size_t tokens,
                                      skv_error* err) {
  return guarded(err, [&] {
    need(out, "out");
    if (half != SKV_K && half != SKV_V) fail(SKV_E_RANGE, "half %d: wanted SKV_K (0) or SKV_V (1)", half);
    const std::span<const uint8_t> tiers = PLAN(plan).tiers_of(layer, half);
    if (tokens != tiers.size()) fail(SKV_E_RANGE, "room for %zu tiers, wanted exactly %zu", tokens, tiers.size());
    std::copy(tiers.begin(), tiers.end(), out);
  });
}
SKV_API skv_status skv_plan_set_tiers(skv_plan* plan, int32_t layer, int32_t half, const uint8_t* tiers, size_t tokens,
                                      skv_error* err) {
  return guarded(err, [&] {
    need(tiers, "tiers");
    if (half != SKV_K && half != SKV_V) fail(SKV_E_RANGE, "half %d: wanted SKV_K (0) or SKV_V (1)", half);
    PLAN(plan).set_tiers(layer, half, {tiers, tokens});
  });
}
SKV_API void skv_plan_destroy(skv_plan* plan) { delete plan; }

// ------------------------------------------------------------------------------------------------- profile

SKV_API skv_status skv_profile_create(const uint8_t* fingerprint, int32_t layers, int32_t code, skv_profile** out,
                                      skv_error* err) {
  return guarded(err, [&] {
    need(fingerprint, "fingerprint");
    need(out, "out");
    if (layers < 1 || layers > 4096) fail(SKV_E_RANGE, "%d layers: wanted 1..4096", layers);
    if (code != SKV_CODE_EMBEDDED && code != SKV_CODE_PAPER) {
      fail(SKV_E_RANGE, "code %d: wanted SKV_CODE_EMBEDDED or SKV_CODE_PAPER", code);
    }
    std::array<uint8_t, SKV_FINGERPRINT_BYTES> of{};
    std::copy_n(fingerprint, of.size(), of.begin());
    *out = new skv_profile(of, layers, code);
  });
}
SKV_API skv_status skv_profile_open(const char* text, size_t bytes, skv_profile** out, skv_error* err) {
  return guarded(err, [&] {
    need(text, "text");
    need(out, "out");
    *out = new skv_profile(skv::Profile::parse({text, bytes}));
  });
}
SKV_API skv_status skv_profile_save(const skv_profile* profile, char* buffer, size_t capacity, size_t* bytes,
                                    skv_error* err) {
  return guarded(err, [&] {
    need(bytes, "bytes");
    const std::string text = PROFILE(profile).json();
    if (buffer != nullptr) {
      if (capacity < text.size()) fail(SKV_E_TOO_SMALL, "buffer of %zu bytes, wanted %zu", capacity, text.size());
      std::copy(text.begin(), text.end(), buffer);
    }
    *bytes = text.size();
  });
}
SKV_API skv_status skv_profile_calibrate(skv_profile* profile, int32_t layer, int32_t half, int32_t scored, double cost,
                                         double kl, skv_error* err) {
  return guarded(err, [&] { PROFILE(profile).calibrate(layer, half, scored, cost, kl); });
}
SKV_API skv_status skv_profile_set_verdict(skv_profile* profile, int32_t probe, int32_t verdict, int32_t passed,
                                           int32_t trials, skv_error* err) {
  return guarded(err, [&] {
    if (verdict < SKV_VERDICT_NONE || verdict > SKV_VERDICT_NO) {
      fail(SKV_E_RANGE, "verdict %d: wanted SKV_VERDICT_NONE, _YES or _NO", verdict);
    }
    if (passed < 0 || trials < passed)
      fail(SKV_E_RANGE, "%d of %d trials passed: wanted 0 <= passed <= trials", passed, trials);
    PROFILE(profile).set_verdict(probe, {verdict, passed, trials});
  });
}
SKV_API skv_status skv_profile_get_verdict(const skv_profile* profile, int32_t probe, int32_t* verdict, int32_t* passed,
                                           int32_t* trials, skv_error* err) {
  return guarded(err, [&] {
    need(verdict, "verdict");
    const skv::Profile& from = PROFILE(profile);
    skv::Profile::Verdict said;
    if (probe == SKV_ALL) {
      said.int4 = from.int4();
    } else {
      said = from.verdict(probe);
    }
    *verdict = said.int4;
    if (passed != nullptr) *passed = said.passed;
    if (trials != nullptr) *trials = said.trials;
  });
}
SKV_API void skv_profile_destroy(skv_profile* profile) { delete profile; }

SKV_API skv_status skv_needle_probe_create(uint32_t words, skv_needle_probe** out, skv_error* err) {
  return guarded(err, [&] {
    need(out, "out");
    *out = new skv_needle_probe(words);
  });
}
SKV_API skv_status skv_needle_probe_prompt(const skv_needle_probe* probe, int32_t trial, const char** out,
                                           skv_error* err) {
  return guarded(err, [&] {
    need(out, "out");
    *out = NEEDLE(probe).prompt(trial).c_str();
  });
}
SKV_API skv_status skv_needle_probe_answer(skv_needle_probe* probe, int32_t trial, const char* text, size_t bytes,
                                           int32_t* found, skv_error* err) {
  return guarded(err, [&] {
    need(text, "text");
    need(found, "found");
    *found = NEEDLE(probe).answer(trial, {text, bytes}) ? 1 : 0;
  });
}
SKV_API skv_status skv_needle_probe_verdict(const skv_needle_probe* probe, skv_profile* profile, skv_error* err) {
  return guarded(err, [&] {
    const skv::Profile::Verdict verdict = NEEDLE(probe).verdict();
    PROFILE(profile).set_verdict(SKV_PROBE_NEEDLE, verdict);
  });
}
SKV_API void skv_needle_probe_destroy(skv_needle_probe* probe) { delete probe; }

// ------------------------------------------------------------------------------------------------- payload

SKV_API skv_status skv_encode(skv_engine* engine, const skv_cache* cache, const skv_plan* plan, void* stream,
                              skv_payload** out, skv_error* err) {
  return skv_encode_into(engine, cache, plan, stream, nullptr, 0, out, err);
}
SKV_API skv_status skv_encode_into(skv_engine* engine, const skv_cache* cache, const skv_plan* plan, void* stream,
                                   void* buffer, size_t bytes, skv_payload** out, skv_error* err) {
  return guarded(err, [&] {
    need(out, "out");
    const Turn turn = ENGINE(engine);
    skv::Engine& device = turn;
    check_stream(device, stream);
    const skv::Cache& from = CACHE(cache);
    const skv::Plan& solved = PLAN(plan);
    if (solved.packs(device.threads())) {
      if (buffer != nullptr) fail(SKV_E_STATE, "a plan that packs is encoded into memory of the payload: skv_encode");
      *out = new skv_payload(skv::encode_packed(device, from, solved, stream));
      return;
    }
    auto payload = skv::Payload::create(from, solved, {static_cast<std::byte*>(buffer), bytes}, device.device());
    skv::encode_layers(device, from, solved, *payload, 0, from.layer_count(), stream);
    *out = new skv_payload(std::move(payload));
  });
}
SKV_API skv_status skv_payload_create(const skv_cache* cache, const skv_plan* plan, void* buffer, size_t bytes,
                                      skv_payload** out, skv_error* err) {
  return guarded(err, [&] {
    need(out, "out");
    const skv::Plan& solved = PLAN(plan);
    if (solved.packs(ENGINE_OF(plan)->threads())) fail(SKV_E_STATE, "a plan that packs is encoded whole: skv_encode");
    *out = new skv_payload(skv::Payload::create(CACHE(cache), solved, {static_cast<std::byte*>(buffer), bytes},
                                                ENGINE_OF(plan)->device()));
  });
}
SKV_API skv_status skv_encode_layer(skv_engine* engine, const skv_cache* cache, const skv_plan* plan, int32_t layer,
                                    void* stream, skv_payload* payload, skv_error* err) {
  return guarded(err, [&] {
    check_stream(ENGINE(engine), stream);
    skv::encode_layers(ENGINE(engine), CACHE(cache), PLAN(plan), PAYLOAD(payload), layer, 1, stream);
    PAYLOAD(payload).grown();
  });
}
SKV_API skv_status skv_payload_open(const void* bytes, size_t size, skv_payload** out, skv_error* err) {
  return guarded(err, [&] {
    need(out, "out");
    need(bytes, "bytes");
    *out = new skv_payload(skv::Payload::open({static_cast<const std::byte*>(bytes), size}, nullptr));
  });
}
SKV_API skv_status skv_payload_open_on(skv_engine* engine, const void* bytes, size_t size, skv_payload** out,
                                       skv_error* err) {
  return guarded(err, [&] {
    need(out, "out");
    need(bytes, "bytes");
    const skv::Device* device = ENGINE(engine)->device();
    const std::span<const std::byte> all(static_cast<const std::byte*>(bytes), size);
    *out = new skv_payload(device == nullptr ? skv::Payload::open(all, nullptr)
                                             : skv::Payload::open_on(*device, all, nullptr));
  });
}
SKV_API skv_status skv_payload_pack(skv_engine* engine, skv_payload* payload, skv_payload** out, skv_error* err) {
  return guarded(err, [&] {
    need(out, "out");
    *out = new skv_payload(skv::Payload::pack(ENGINE(engine), PAYLOAD(payload)));
  });
}
SKV_API skv_status skv_payload_verify(skv_payload* payload, skv_error* err) {
  return guarded(err, [&] {
    skv::Payload& opened = PAYLOAD(payload);
    skv::verify_layers(nullptr, opened, 0, static_cast<int32_t>(opened.segments().size()));
  });
}
SKV_API skv_status skv_payload_data(const skv_payload* payload, const void** data, size_t* size, skv_error* err) {
  return guarded(err, [&] {
    need(data, "data");
    need(size, "size");
    skv::Payload& made = PAYLOAD(payload);
    made.need_complete();
    const std::span<const std::byte> all = made.packed() ? made.wire_bytes() : made.bytes();
    *data = all.data();
    *size = all.size();
  });
}
SKV_API skv_status skv_payload_copy(const skv_payload* payload, void* buffer, size_t bytes, skv_error* err) {
  return guarded(err, [&] {
    need(buffer, "buffer");
    PAYLOAD(payload).copy_to({static_cast<std::byte*>(buffer), bytes});
  });
}
SKV_API skv_status skv_payload_identity(const skv_payload* payload, uint8_t* fingerprint, uint8_t* request_id,
                                        skv_error* err) {
  return guarded(err, [&] {
    const skv::Header& header = PAYLOAD(payload).header();
    if (fingerprint != nullptr) std::memcpy(fingerprint, header.fingerprint.data(), header.fingerprint.size());
    if (request_id != nullptr) std::memcpy(request_id, header.request_id.data(), header.request_id.size());
  });
}
SKV_API skv_status skv_payload_get(const skv_payload* payload, int32_t layer, int32_t key, int64_t* out,
                                   skv_error* err) {
  return guarded(err, [&] {
    need(out, "out");
    *out = PAYLOAD(payload).get(layer, key);
  });
}
SKV_API skv_status skv_payload_get_tiers(const skv_payload* payload, int32_t layer, int32_t half, uint8_t* out,
                                         size_t tokens, skv_error* err) {
  return guarded(err, [&] {
    need(out, "out");
    PAYLOAD(payload).tiers(layer, half, {out, tokens});
  });
}
SKV_API skv_status skv_decode(skv_engine* engine, skv_payload* payload, const skv_cache* cache, void* stream,
                              skv_error* err) {
  return guarded(err, [&] {
    check_stream(ENGINE(engine), stream);
    skv::Payload& from = PAYLOAD(payload);
    skv::decode_layers(ENGINE(engine), from, CACHE(cache), 0, static_cast<int32_t>(from.segments().size()), stream);
  });
}
SKV_API skv_status skv_decode_layer(skv_engine* engine, skv_payload* payload, const skv_cache* cache, int32_t layer,
                                    void* stream, skv_error* err) {
  return guarded(err, [&] {
    check_stream(ENGINE(engine), stream);
    skv::decode_layers(ENGINE(engine), PAYLOAD(payload), CACHE(cache), layer, 1, stream);
  });
}
SKV_API skv_status skv_plan_upgrade(skv_plan* plan, skv_payload* base, const skv_cache* cache, const skv_scores* scores,
                                    skv_error* err) {
  return guarded(err, [&] {
    skv::Plan& target = PLAN(plan);
    skv::solve_upgrade(ENGINE_OF(plan), target, PAYLOAD(base), CACHE(cache),
                       scores == nullptr ? nullptr : &SCORES(scores));
  });
}
SKV_API skv_status skv_encode_upgrade(skv_engine* engine, const skv_cache* cache, skv_payload* base,
                                      const skv_plan* plan, skv_payload** out, skv_error* err) {
  return guarded(err, [&] {
    need(out, "out");
    *out = new skv_payload(skv::encode_upgrade(ENGINE(engine), CACHE(cache), PAYLOAD(base), PLAN(plan)));
  });
}
SKV_API skv_status skv_payload_apply(skv_payload* base, skv_payload* upgrade, skv_payload** out, skv_error* err) {
  return guarded(err, [&] {
    need(out, "out");
    *out = new skv_payload(skv::apply_upgrade(PAYLOAD(base), PAYLOAD(upgrade)));
  });
}
SKV_API skv_status skv_plan_truncate(skv_plan* plan, skv_payload* payload, const skv_scores* scores, skv_error* err) {
  return guarded(
      err, [&] { skv::solve_truncation(PLAN(plan), PAYLOAD(payload), scores == nullptr ? nullptr : &SCORES(scores)); });
}
SKV_API skv_status skv_payload_truncate(skv_payload* payload, const skv_plan* plan, skv_payload** out, skv_error* err) {
  return guarded(err, [&] {
    need(out, "out");
    *out = new skv_payload(skv::truncate(PAYLOAD(payload), PLAN(plan)));
  });
}
SKV_API skv_status skv_payload_receipt(const skv_payload* payload, skv_receipt* out, skv_error* err) {
  return guarded(err, [&] { give(PAYLOAD(payload).receipt(), out); });
}
SKV_API void skv_payload_destroy(skv_payload* payload) {
  if (payload != nullptr) guarded(nullptr, [&] { payload->it->abandon(); });
  delete payload;
}

// ----------------------------------------------------------------------------------------------- transport

SKV_API uint64_t skv_now_ns(void) { return skv::transport::now_ns(); }
SKV_API uint64_t skv_deadline_ms(uint64_t milliseconds) {
  const uint64_t now = skv::transport::now_ns();
  const uint64_t most = (UINT64_MAX - now) / 1000000U;
  return milliseconds > most ? UINT64_MAX : now + milliseconds * 1000000U;
}
SKV_API skv_status skv_endpoint_create(skv_endpoint** out, skv_error* err) {
  return guarded(err, [&] {
    need(out, "out");
    *out = new skv_endpoint(std::make_shared<skv::transport::Endpoint>());
  });
}
SKV_API skv_status skv_endpoint_set(skv_endpoint* endpoint, int32_t key, int64_t value, skv_error* err) {
  return guarded(err, [&] { ENDPOINT(endpoint).set(key, value); });
}
SKV_API skv_status skv_endpoint_set_model(skv_endpoint* endpoint, const uint8_t* fingerprint, skv_error* err) {
  return guarded(err, [&] { ENDPOINT(endpoint).set_model(fingerprint); });
}
SKV_API skv_status skv_endpoint_set_psk(skv_endpoint* endpoint, int32_t security, const uint8_t* key, size_t bytes,
                                        skv_error* err) {
  return guarded(err, [&] { ENDPOINT(endpoint).set_psk(security, key, bytes); });
}
SKV_API skv_status skv_endpoint_set_tls(skv_endpoint* endpoint, const char* certificate, const char* key,
                                        const char* authority, const char* peer_name, skv_error* err) {
  return guarded(err, [&] { ENDPOINT(endpoint).set_tls(certificate, key, authority, peer_name); });
}
SKV_API skv_status skv_endpoint_set_library(skv_endpoint* endpoint, int32_t plane, const char* path, skv_error* err) {
  return guarded(err, [&] { ENDPOINT(endpoint).set_library(plane, path); });
}
SKV_API skv_status skv_listen(skv_endpoint* endpoint, const char* uri, char* bound, size_t capacity, skv_error* err) {
  return guarded(err, [&] { ENDPOINT(endpoint).listen(need(uri, "uri"), bound, capacity); });
}
SKV_API skv_status skv_accept(skv_endpoint* endpoint, uint64_t deadline, skv_conn** out, skv_error* err) {
  return guarded(err, [&] {
    need(out, "out");
    *out = new skv_conn(ENDPOINT(endpoint).accept(deadline));
  });
}
SKV_API skv_status skv_connect(skv_endpoint* endpoint, const char* uri, uint64_t deadline, skv_conn** out,
                               skv_error* err) {
  return guarded(err, [&] {
    need(out, "out");
    *out = new skv_conn(ENDPOINT(endpoint).connect(need(uri, "uri"), deadline));
  });
}
SKV_API skv_status skv_endpoint_fd(skv_endpoint* endpoint, int32_t* out, skv_error* err) {
  return guarded(err, [&] {
    need(out, "out");
    *out = ENDPOINT(endpoint).fd();
  });
}
SKV_API skv_status skv_endpoint_progress(skv_endpoint* endpoint, uint64_t deadline, skv_error* err) {
  return guard(err, [&] { return ENDPOINT(endpoint).progress(deadline); });
}
SKV_API skv_status skv_endpoint_drain(skv_endpoint* endpoint, uint64_t deadline, skv_error* err) {
  return guard(err, [&] { return ENDPOINT(endpoint).drain(deadline); });
}
SKV_API skv_status skv_endpoint_poll(skv_endpoint* endpoint, skv_request** out, size_t capacity, size_t* count,
                                     skv_error* err) {
  return guarded(err, [&] {
    need(count, "count");
    skv::transport::Endpoint& it = ENDPOINT(endpoint);
    if (capacity == 0) {
      *count = 0;
      return;
    }
    need(out, "out");
    static_assert(sizeof(void*) == sizeof(skv_request*));
    *count = it.poll({reinterpret_cast<void**>(out), capacity});
  });
}
SKV_API skv_status skv_endpoint_get_stats(skv_endpoint* endpoint, skv_endpoint_stats* out, skv_error* err) {
  return guarded(err, [&] { give(ENDPOINT(endpoint).stats(), out); });
}
SKV_API skv_status skv_endpoint_events(skv_endpoint* endpoint, skv_event* out, size_t capacity, size_t* count,
                                       skv_error* err) {
  return guarded(err, [&] {
    need(count, "count");
    skv::transport::Endpoint& it = ENDPOINT(endpoint);
    if (capacity != 0) need(out, "out");
    *count = it.events({out, capacity});
  });
}
SKV_API void skv_endpoint_destroy(skv_endpoint* endpoint) {
  if (endpoint != nullptr) endpoint->it->close();
  delete endpoint;
}
SKV_API skv_status skv_conn_get(const skv_conn* conn, int32_t key, int64_t* out, skv_error* err) {
  return guarded(err, [&] {
    need(out, "out");
    *out = CONN(conn).get(key);
  });
}
SKV_API skv_status skv_conn_set_communicator(skv_conn* conn, void* communicator, int32_t sending, skv_error* err) {
  return guarded(err, [&] { CONN(conn).lend(communicator, sending != 0); });
}
SKV_API void skv_conn_destroy(skv_conn* conn) {
  if (conn != nullptr) conn->it->close();
  delete conn;
}
SKV_API skv_status skv_send(skv_conn* conn, uint64_t key, const skv_payload* payload, uint64_t deadline,
                            skv_request** out, skv_error* err) {
  return guard(err, [&] {
    need(out, "out");
    skv::transport::Conn& to = CONN(conn);
    PAYLOAD(payload).need_complete();
    return adopt_request(to.send(key, parcel_of(to, PAYLOAD(payload)), deadline), out);
  });
}
SKV_API skv_status skv_send_layers(skv_conn* conn, uint64_t key, skv_payload* payload, uint64_t deadline,
                                   skv_request** out, skv_error* err) {
  return guard(err, [&] {
    need(out, "out");
    skv::transport::Conn& to = CONN(conn);
    skv::Payload& from = PAYLOAD(payload);
    if (from.complete()) from.need_complete();  // one that is arriving cannot be sent on before it is whole
    skv::transport::Parcel parcel = parcel_of(to, from);
    const bool in_place = from.device() >= 0 && parcel.bytes.data() == from.bytes().data();
    parcel.ready = entries_of(from.leading_layers(), in_place);
    const auto request = to.send(key, std::move(parcel), deadline);
    if (!from.complete()) {
      const std::weak_ptr<skv::transport::Request> weak = request;
      from.watch({[weak, in_place](size_t leading) {
                    if (const auto live = weak.lock()) live->extend(entries_of(leading, in_place));
                  },
                  [weak] {
                    const auto live = weak.lock();
                    if (live) live->abandon("the payload was destroyed before all its layers were encoded");
                  },
                  [weak] {
                    const auto live = weak.lock();
                    return live ? live->affordable() : UINT64_MAX;
                  },
                  [weak, in_place](size_t layer, uint64_t bytes, uint8_t tier, std::span<const std::byte> head) {
                    if (const auto live = weak.lock()) live->shrink(entries_of(layer, in_place), bytes, tier, head);
                  }});
    }
    return adopt_request(request, out);
  });
}
SKV_API skv_status skv_recv_offer(skv_conn* conn, uint64_t deadline, skv_request** out, skv_error* err) {
  return guard(err, [&] {
    need(out, "out");
    return adopt_request(CONN(conn).recv_offer(deadline), out);
  });
}
SKV_API skv_status skv_offer_accept(skv_request* request, void* buffer, size_t bytes, uint64_t deadline,
                                    skv_error* err) {
  return guarded(err, [&] { REQUEST(request).accept(buffer, bytes, deadline); });
}
SKV_API skv_status skv_offer_reject(skv_request* request, const char* reason, skv_error* err) {
  return guarded(err, [&] { REQUEST(request).reject(reason == nullptr ? "" : reason); });
}
SKV_API skv_status skv_request_get(const skv_request* request, int32_t key, int64_t* out, skv_error* err) {
  return guarded(err, [&] {
    need(out, "out");
    *out = REQUEST(request).get(key);
  });
}
SKV_API skv_status skv_request_set(skv_request* request, int32_t key, int64_t value, skv_error* err) {
  return guarded(err, [&] { REQUEST(request).set(key, value); });
}
SKV_API skv_status skv_request_identity(const skv_request* request, uint8_t* fingerprint, uint8_t* request_id,
                                        skv_error* err) {
  return guarded(err, [&] { REQUEST(request).identity(fingerprint, request_id); });
}
SKV_API skv_status skv_request_test(skv_request* request, skv_error* err) {
  return guard(err, [&] { return REQUEST(request).test(); });
}
SKV_API skv_status skv_request_wait(skv_request* request, uint64_t deadline, skv_error* err) {
  return guard(err, [&] { return REQUEST(request).wait(deadline); });
}
SKV_API skv_status skv_request_wait_layer(skv_request* request, int32_t layer, uint64_t deadline, skv_error* err) {
  return guard(err, [&] { return REQUEST(request).wait_layer(layer, deadline); });
}
SKV_API skv_status skv_request_stream_wait(skv_request* request, int32_t layer, void* stream, skv_error* err) {
  return guarded(err, [&] { REQUEST(request).stream_wait(layer, stream); });
}
SKV_API skv_status skv_request_cancel(skv_request* request, skv_error* err) {
  return guarded(err, [&] { REQUEST(request).cancel(); });
}
SKV_API skv_status skv_request_payload(skv_request* request, skv_payload** out, skv_error* err) {
  return guarded(err, [&] {
    need(out, "out");
    skv::transport::Request& from = REQUEST(request);
    skv::transport::Received received = from.take();
    try {
      std::unique_ptr<skv::Payload> payload;
      if (received.ended) {
        if (received.shrunk) settle(received);
        payload = received.device < 0
                      ? skv::Payload::open(received.bytes, received.owner)
                      : skv::Payload::open_on(skv::Device(received.device), received.bytes, received.owner);
        payload->moved(received.wire_ns, received.plane);
        if (received.shrunk) payload->note_cuts(received.shrunk->notes);
      } else if (received.device >= 0) {
        skv::fail(SKV_E_UNAVAILABLE,
                  "layers in device memory are read by streams (skv_request_stream_wait); the payload is there once "
                  "the transfer ended");
      } else {
        auto arrival = [it = request->it, plane = received.plane] {
          const skv::transport::Arrival now = it->arrival();
          skv::Arrived arrived{now.entries == 0 ? 0 : now.entries - 1, now.ended, now.wire_ns, plane, {}, {}, {}};
          if (now.shrunk) {
            arrived.layer_bytes = now.shrunk->layer_bytes;
            arrived.cuts = now.shrunk->notes;
            arrived.head = now.shrunk->head;
          }
          return arrived;
        };
        payload = skv::Payload::open_early(received.bytes, received.layer_bytes, received.owner, std::move(arrival));
      }
      *out = new skv_payload(std::move(payload));
    } catch (...) {  // handed on to guard(): the bytes stay with the request
      from.give_back(std::move(received));
      throw;
    }
  });
}
SKV_API skv_status skv_request_destroy(skv_request* request, skv_error* err) {
  return guarded(err, [&] {
    if (request == nullptr) return;
    REQUEST(request).destroy();
    delete request;
  });
}

}  // extern "C"
