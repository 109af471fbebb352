/* SPDX-License-Identifier: Apache-2.0 */
/* What the two transfer examples share: the shape of a small cache, a key from a file, and a hash to compare results
 * by. */
#ifndef SPECTRUMKV_EXAMPLES_TRANSFER_H
#define SPECTRUMKV_EXAMPLES_TRANSFER_H

#include <spectrumkv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LAYERS = 8, TOKENS = 512, HEADS = 2, DIM = 64, PLANE_BYTES = TOKENS * HEADS * DIM * 4 };
typedef float half_layer[TOKENS][HEADS][DIM];
typedef struct tensors {
  half_layer k[LAYERS], v[LAYERS];
} tensors;

/* Every call reports alike; the example ends at the first error. */
static skv_error err;
#define TRY(call)                                                                                       \
  do {                                                                                                  \
    if ((call) < 0) {                                                                                   \
      fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, skv_status_name(err.status), err.message); \
      exit(1);                                                                                          \
    }                                                                                                   \
  } while (0)

/* A view of the tensors, as an engine would make one of its KV memory. */
static skv_cache* view_of(tensors* t) {
  skv_cache* cache;
  int l;
  TRY(skv_cache_create(LAYERS, &cache, &err));
  TRY(skv_cache_set_tokens(cache, SKV_ALL, 0, TOKENS, &err));
  TRY(skv_cache_set_layer(cache, SKV_ALL, HEADS, DIM, DIM, SKV_F32, &err));
  for (l = 0; l < LAYERS; l++) {
    TRY(skv_cache_set_plane(cache, l, SKV_K, t->k[l], PLANE_BYTES, 0, HEADS * DIM * 4, DIM * 4, 4, &err));
    TRY(skv_cache_set_plane(cache, l, SKV_V, t->v[l], PLANE_BYTES, 0, HEADS * DIM * 4, DIM * 4, 4, &err));
  }
  return cache;
}

/* FNV-1a over one layer. */
static unsigned long long hash_layer(const tensors* t, int layer, unsigned long long h) {
  const unsigned char* halves[2];
  int half;
  size_t i;
  halves[0] = (const unsigned char*)t->k[layer];
  halves[1] = (const unsigned char*)t->v[layer];
  for (half = 0; half < 2; half++) {
    for (i = 0; i < PLANE_BYTES; i++) h = (h ^ halves[half][i]) * 1099511628211ULL;
  }
  return h;
}

/* --tls-psk FILE: the file's bytes are the shared key. */
static void set_key(skv_endpoint* endpoint, const char* path) {
  unsigned char key[1024];
  size_t size;
  FILE* file = fopen(path, "rb");
  if (file == NULL) {
    perror(path);
    exit(1);
  }
  size = fread(key, 1, sizeof key, file);
  fclose(file);
  TRY(skv_endpoint_set_psk(endpoint, SKV_SECURITY_TLS_PSK, key, size, &err));
}

#endif
