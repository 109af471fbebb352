/* SPDX-License-Identifier: Apache-2.0
 *
 * Uses libspectrumkv without linking it: dlopen, the check of the ABI version, and a cache encoded and decoded. What a
 * serving stack does that wants to run without the library too.
 *
 *   cc -I include examples/dlopen.c -ldl -o dlopen && ./dlopen [libspectrumkv.so.0]
 */
#include <dlfcn.h>
#include <spectrumkv.h>
#include <stdio.h>
#include <stdlib.h>

/* The functions that this program needs. Their prototypes are the header's: __typeof__ keeps them from drifting apart.
 */
#define FUNCTIONS(X)      \
  X(skv_abi_version)      \
  X(skv_version_string)   \
  X(skv_status_name)      \
  X(skv_engine_create)    \
  X(skv_engine_describe)  \
  X(skv_engine_destroy)   \
  X(skv_cache_create)     \
  X(skv_cache_set_tokens) \
  X(skv_cache_set_layer)  \
  X(skv_cache_set_plane)  \
  X(skv_cache_destroy)    \
  X(skv_plan_create)      \
  X(skv_plan_set)         \
  X(skv_plan_set_budget)  \
  X(skv_plan_solve)       \
  X(skv_plan_destroy)     \
  X(skv_encode)           \
  X(skv_payload_data)     \
  X(skv_payload_open)     \
  X(skv_decode)           \
  X(skv_payload_destroy)

static struct {
#define MEMBER(name) __typeof__(&name) name;
  FUNCTIONS(MEMBER)
#undef MEMBER
} lib;

static int load(const char* path) {
  void* handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (handle == NULL) {
    fprintf(stderr, "%s\n", dlerror());
    return 0;
  }
#define FIND(name)                               \
  *(void**)(&lib.name) = dlsym(handle, #name);   \
  if (lib.name == NULL) {                        \
    fprintf(stderr, "%s: no %s\n", path, #name); \
    return 0;                                    \
  }
  FUNCTIONS(FIND)
#undef FIND
  if (lib.skv_abi_version() != SKV_ABI_VERSION) {
    fprintf(stderr, "%s: ABI version %u, wanted %d\n", path, lib.skv_abi_version(), SKV_ABI_VERSION);
    return 0;
  }
  return 1; /* stays loaded */
}

enum { TOKENS = 512, HEADS = 2, DIM = 64, BYTES = TOKENS * HEADS * DIM * 4 };
static float k[TOKENS * HEADS * DIM], v[TOKENS * HEADS * DIM], k2[TOKENS * HEADS * DIM], v2[TOKENS * HEADS * DIM];
static skv_error err;

static void try(skv_status status) {
  if (status == SKV_OK) return;
  fprintf(stderr, "%s: %s\n", lib.skv_status_name(status), err.message);
  exit(1);
}

static skv_cache* view(float* kp, float* vp) {
  skv_cache* cache;
  try(lib.skv_cache_create(1, &cache, &err));
  try(lib.skv_cache_set_tokens(cache, 0, 0, TOKENS, &err));
  try(lib.skv_cache_set_layer(cache, 0, HEADS, DIM, DIM, SKV_F32, &err));
  try(lib.skv_cache_set_plane(cache, 0, SKV_K, kp, BYTES, 0, HEADS * DIM * 4, DIM * 4, 4, &err));
  try(lib.skv_cache_set_plane(cache, 0, SKV_V, vp, BYTES, 0, HEADS * DIM * 4, DIM * 4, 4, &err));
  return cache;
}

int main(int argc, char** argv) {
  skv_engine* engine;
  skv_cache *from, *to;
  skv_plan* plan;
  skv_payload *sent, *got;
  const void* bytes;
  size_t size;
  char line[128];
  int i;
  if (!load(argc > 1 ? argv[1] : "libspectrumkv.so.0")) return 1;
  for (i = 0; i < TOKENS * HEADS * DIM; i++) k[i] = v[i] = (float)(i * 37 % 101) / 50 - 1;
  try(lib.skv_engine_create(SKV_DEVICE_CPU, &engine, &err));
  try(lib.skv_engine_describe(engine, line, sizeof line, &err));
  from = view(k, v);
  to = view(k2, v2);
  try(lib.skv_plan_create(engine, &plan, &err));
  try(lib.skv_plan_set(plan, SKV_PLAN_UNPROVEN, 1, &err)); /* synthetic tensors; real models: queries or a profile */
  try(lib.skv_plan_set_budget(plan, 0.40, &err));
  try(lib.skv_plan_solve(plan, from, NULL, &err));
  try(lib.skv_encode(engine, from, plan, NULL, &sent, &err));
  try(lib.skv_payload_data(sent, &bytes, &size, &err));
  try(lib.skv_payload_open(bytes, size, &got, &err));
  try(lib.skv_decode(engine, got, to, NULL, &err));
  printf("libspectrumkv %s on %s: %zu bytes, k %.3f -> %.3f\n", lib.skv_version_string(), line, size, k[12345],
         k2[12345]);
  lib.skv_payload_destroy(got);
  lib.skv_payload_destroy(sent);
  lib.skv_plan_destroy(plan);
  lib.skv_cache_destroy(to);
  lib.skv_cache_destroy(from);
  lib.skv_engine_destroy(engine);
  return 0;
}
