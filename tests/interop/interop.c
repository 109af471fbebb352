/* SPDX-License-Identifier: Apache-2.0 */
/* The interop program in C; see interop_test.py for what each of its commands does. */
#include <openssl/evp.h>
#include <spectrumkv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static skv_error err;

static void try(skv_status status) {
  if (status == SKV_OK) return;
  fprintf(stderr, "%s: %s\n", skv_status_name(status), err.message);
  exit(1);
}

static unsigned char* read_file(const char* path, size_t* size) {
  FILE* f = fopen(path, "rb");
  unsigned char* data = NULL;
  long end = -1;
  if (f != NULL && fseek(f, 0, SEEK_END) == 0 && (end = ftell(f)) >= 0 && fseek(f, 0, SEEK_SET) == 0) {
    data = malloc((size_t)end + 1);
  }
  if (data == NULL || fread(data, 1, (size_t)end, f) != (size_t)end) {
    perror(path);
    exit(1);
  }
  fclose(f);
  *size = (size_t)end;
  return data;
}

typedef struct shape {
  size_t layers, tokens, heads, dim;
} shape;

static size_t plane_bytes(const shape* s) { return s->tokens * s->heads * s->dim * 2; }

static skv_cache* view(const shape* s, unsigned char* memory) {
  const size_t bytes = plane_bytes(s);
  const int64_t row = (int64_t)(s->dim * 2);
  skv_cache* cache;
  size_t l, half;
  try(skv_cache_create((int32_t)s->layers, &cache, &err));
  try(skv_cache_set_tokens(cache, SKV_ALL, 0, (int64_t)s->tokens, &err));
  try(skv_cache_set_layer(cache, SKV_ALL, (int32_t)s->heads, (int32_t)s->dim, (int32_t)s->dim, SKV_F16, &err));
  for (l = 0; l < s->layers; l++) {
    for (half = 0; half < 2; half++) {
      try(skv_cache_set_plane(cache, (int32_t)l, (int32_t)half, memory + (2 * l + half) * bytes, bytes, 0,
                              (int64_t)s->heads * row, row, 2, &err));
    }
  }
  return cache;
}

static size_t fact(const skv_payload* payload, int32_t layer, int32_t key) {
  int64_t value;
  try(skv_payload_get(payload, layer, key, &value, &err));
  return (size_t)value;
}

static skv_payload* encode(const char* path) {
  const shape tensors = {3, 200, 2, 64};
  size_t size;
  unsigned char* memory = read_file(path, &size);
  skv_engine* engine;
  skv_plan* plan;
  skv_payload* payload;
  skv_cache* cache;
  if (size != 2 * tensors.layers * plane_bytes(&tensors)) exit(1);
  cache = view(&tensors, memory);
  try(skv_engine_create(SKV_DEVICE_CPU, &engine, &err));
  try(skv_plan_create(engine, &plan, &err));
  try(skv_plan_set(plan, SKV_PLAN_UNPROVEN, 1, &err));
  try(skv_plan_set_budget(plan, 0.4, &err));
  try(skv_plan_solve(plan, cache, NULL, &err));
  try(skv_encode(engine, cache, plan, NULL, &payload, &err));
  skv_plan_destroy(plan);
  skv_engine_destroy(engine);
  skv_cache_destroy(cache);
  free(memory);
  return payload;
}

static void decode(skv_payload* payload) {
  const shape s = {fact(payload, SKV_ALL, SKV_PAYLOAD_LAYERS), fact(payload, 0, SKV_PAYLOAD_TOKENS),
                   fact(payload, 0, SKV_PAYLOAD_HEADS), fact(payload, 0, SKV_PAYLOAD_K_DIM)};
  const size_t all = 2 * s.layers * plane_bytes(&s);
  unsigned char *memory = calloc(1, all), digest[EVP_MAX_MD_SIZE];
  unsigned int i, length = 0;
  skv_engine* engine;
  skv_cache* cache = view(&s, memory);
  try(skv_engine_create(SKV_DEVICE_CPU, &engine, &err));
  try(skv_decode(engine, payload, cache, NULL, &err));
  if (EVP_Digest(memory, all, digest, &length, EVP_sha256(), NULL) != 1) exit(1);
  for (i = 0; i < length; i++) printf("%02x", digest[i]);
  printf("\n");
  fflush(stdout);
  skv_cache_destroy(cache);
  skv_engine_destroy(engine);
  free(memory);
}

int main(int argc, char** argv) {
  const char* command = argc > 2 ? argv[1] : "";
  skv_payload* payload;
  skv_endpoint* endpoint;
  skv_conn* conn;
  skv_request* request;
  const void* bytes;
  size_t size;
  int i;
  if (strcmp(command, "encode") == 0) {
    FILE* f = fopen(argv[3], "wb");
    payload = encode(argv[2]);
    try(skv_payload_data(payload, &bytes, &size, &err));
    if (f == NULL || fwrite(bytes, 1, size, f) != size || fclose(f) != 0) return 1;
    skv_payload_destroy(payload);
  } else if (strcmp(command, "decode") == 0) {
    for (i = 2; i < argc; i++) {
      unsigned char* data = read_file(argv[i], &size);
      try(skv_payload_open(data, size, &payload, &err));
      decode(payload);
      skv_payload_destroy(payload);
      free(data);
    }
  } else if (strcmp(command, "send") == 0) {
    payload = encode(argv[2]);
    try(skv_endpoint_create(&endpoint, &err));
    try(skv_connect(endpoint, argv[3], skv_deadline_ms(30000), &conn, &err));
    try(skv_send(conn, 1, payload, skv_deadline_ms(30000), &request, &err));
    try(skv_request_wait(request, skv_deadline_ms(30000), &err));
    try(skv_request_destroy(request, &err));
    skv_conn_destroy(conn);
    skv_endpoint_destroy(endpoint);
    skv_payload_destroy(payload);
  } else if (strcmp(command, "receive") == 0) {
    char bound[128];
    try(skv_endpoint_create(&endpoint, &err));
    try(skv_listen(endpoint, argv[2], bound, sizeof bound, &err));
    printf("%s\n", bound);
    fflush(stdout);
    for (i = atoi(argv[3]); i > 0; i--) {
      try(skv_accept(endpoint, skv_deadline_ms(60000), &conn, &err));
      try(skv_recv_offer(conn, skv_deadline_ms(30000), &request, &err));
      try(skv_request_wait(request, skv_deadline_ms(30000), &err));
      try(skv_offer_accept(request, NULL, 0, skv_deadline_ms(30000), &err));
      try(skv_request_wait(request, skv_deadline_ms(30000), &err));
      try(skv_request_payload(request, &payload, &err));
      decode(payload);
      skv_payload_destroy(payload);
      try(skv_request_destroy(request, &err));
      skv_conn_destroy(conn);
    }
    skv_endpoint_destroy(endpoint);
  } else if (strcmp(command, "calls") == 0) {
    unsigned char* data = read_file(argv[2], &size);
    const int count = atoi(argv[3]);
    int64_t tokens = 0;
    uint64_t start;
    try(skv_payload_open(data, size, &payload, &err));
    start = skv_now_ns();
    for (i = 0; i < count; i++) try(skv_payload_get(payload, 0, SKV_PAYLOAD_TOKENS, &tokens, &err));
    printf("%.1f\n", (double)(skv_now_ns() - start) / count);
    skv_payload_destroy(payload);
    free(data);
  } else {
    fprintf(stderr,
            "usage: encode TENSORS OUT | decode IN... | send TENSORS URI | receive URI COUNT | calls IN COUNT\n");
    return 2;
  }
  return 0;
}
