// SPDX-License-Identifier: Apache-2.0
// One engine and several threads, each with plans, caches and payloads of its own: calls on the engine, directly or
// through its plans, take turns, so that every result is what one thread alone gets and nothing waits for ever (ctest's
// timeout).
#include <spectrumkv.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr int kLayers = 3, kTokens = 288, kHeads = 2, kDim = 64, kThreads = 4, kRounds = 40;
constexpr std::size_t kPlane = std::size_t{kTokens} * kHeads * kDim;

std::atomic<int> wrong{0};

bool ok(skv_status status, const skv_error& err) {
  if (status == SKV_OK) return true;
  std::printf("%s: %s\n", skv_status_name(status), err.message);
  wrong++;
  return false;
}

skv_cache* view(std::vector<float>& memory) {
  skv_error err;
  skv_cache* cache = nullptr;
  ok(skv_cache_create(kLayers, &cache, &err), err);
  ok(skv_cache_set_tokens(cache, SKV_ALL, 0, kTokens, &err), err);
  ok(skv_cache_set_layer(cache, SKV_ALL, kHeads, kDim, kDim, SKV_F32, &err), err);
  for (int i = 0; i < 2 * kLayers; i++) {
    ok(skv_cache_set_plane(cache, i / 2, i % 2, memory.data() + static_cast<std::size_t>(i) * kPlane, kPlane * 4, 0,
                           kHeads * kDim * 4, kDim * 4, 4, &err),
       err);
  }
  return cache;
}

// What a thread does once; the payload's bytes, and what they decode to.
std::string round(skv_engine* engine, std::vector<float>& from, std::vector<float>& to) {
  skv_error err;
  skv_cache *source = view(from), *target = view(to);
  skv_plan* plan = nullptr;
  skv_payload* payload = nullptr;
  const void* data = nullptr;
  std::size_t size = 0;
  std::string out;
  int64_t threads = 0;
  char line[128];
  if (ok(skv_plan_create(engine, &plan, &err), err) && ok(skv_plan_set(plan, SKV_PLAN_UNPROVEN, 1, &err), err) &&
      ok(skv_plan_set_budget(plan, 0.4, &err), err) && ok(skv_plan_solve(plan, source, nullptr, &err), err) &&
      ok(skv_engine_get(engine, SKV_ENGINE_THREADS, &threads, &err), err) &&
      ok(skv_engine_describe(engine, line, sizeof line, &err), err) &&
      ok(skv_encode(engine, source, plan, nullptr, &payload, &err), err) &&
      ok(skv_payload_data(payload, &data, &size, &err), err) &&
      ok(skv_decode(engine, payload, target, nullptr, &err), err)) {
    out.assign(static_cast<const char*>(data), size);
    out.append(reinterpret_cast<const char*>(to.data()), to.size() * sizeof(float));
  }
  skv_payload_destroy(payload);
  skv_plan_destroy(plan);
  skv_cache_destroy(target);
  skv_cache_destroy(source);
  return out;
}

// An executor that uses its own engine, which would wait for itself: told so, and the work is done all the same.
void executor_that_calls(void* user, std::size_t width, skv_task task, void* arg) {
  skv_engine* engine = *static_cast<skv_engine**>(user);
  skv_error err;
  int64_t threads = 0;
  if (skv_engine_get(engine, SKV_ENGINE_THREADS, &threads, &err) != SKV_E_STATE) {
    std::printf("a call of the engine from its executor: %s, wanted STATE\n", err.message);
    wrong++;
  }
  for (std::size_t i = 0; i < width; i++) task(arg, i);
}

}  // namespace

int main() {
  skv_error err;
  skv_engine* engine = nullptr;
  if (!ok(skv_engine_create(SKV_DEVICE_CPU, &engine, &err), err)) return 1;
  ok(skv_engine_set(engine, SKV_ENGINE_THREADS, 3, &err), err);
  std::vector<float> values(2 * kLayers * kPlane), first(values.size());
  for (std::size_t i = 0; i < values.size(); i++)
    values[i] = static_cast<float>(i * 2654435761U % 2003U) / 500.0F - 2.0F;
  const std::string wanted = round(engine, values, first);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; t++) {
    threads.emplace_back([&] {
      std::vector<float> own = values, to(values.size());
      for (int i = 0; i < kRounds; i++) {
        if (round(engine, own, to) != wanted) wrong++;
        std::memset(to.data(), 0, to.size() * sizeof(float));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  ok(skv_engine_set_executor(engine, executor_that_calls, &engine, 2, &err), err);
  if (round(engine, values, first) != wanted) wrong++;
  skv_engine_destroy(engine);
  std::printf("%d threads, %d rounds each, %d wrong\n", kThreads, kRounds, wrong.load());
  return wrong == 0 ? 0 : 1;
}
