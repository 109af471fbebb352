/* SPDX-License-Identifier: Apache-2.0
 *
 * Both ends of a transfer in two processes of one program:
 *
 *   transfer prefill tcp://127.0.0.1:7411     encodes a cache, listens, sends it to the first peer
 *   transfer decode tcp://127.0.0.1:7411      connects, looks at the offer, decodes layer by layer as layers arrive
 */
#include <spectrumkv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LAYERS = 8, TOKENS = 1024, HEADS = 4, DIM = 64, PLANE = TOKENS * HEADS * DIM * 4 };
enum { SECONDS = 1000 };

static skv_error err;

static void try(skv_status status) {
  if (status == SKV_OK) return;
  fprintf(stderr, "%s: %s\n", skv_status_name(status), status == SKV_IN_PROGRESS ? "deadline passed" : err.message);
  exit(1);
}

static skv_cache* view(char* memory) {
  skv_cache* cache;
  int i;
  try(skv_cache_create(LAYERS, &cache, &err));
  try(skv_cache_set_tokens(cache, SKV_ALL, 0, TOKENS, &err));
  try(skv_cache_set_layer(cache, SKV_ALL, HEADS, DIM, DIM, SKV_F32, &err));
  for (i = 0; i < 2 * LAYERS; i++) {
    try(skv_cache_set_plane(cache, i / 2, i % 2, memory + (size_t)i * PLANE, PLANE, 0, HEADS * DIM * 4, DIM * 4, 4,
                            &err));
  }
  return cache;
}

static void prefill(skv_engine* engine, skv_endpoint* endpoint, const char* uri) {
  float* memory = malloc((size_t)2 * LAYERS * PLANE);
  skv_cache* cache;
  skv_plan* plan;
  skv_payload* payload;
  skv_conn* conn;
  skv_request* request;
  skv_receipt receipt;
  char bound[128];
  int i;
  if (memory == NULL) exit(1);
  for (i = 0; i < 2 * LAYERS * PLANE / 4; i++) memory[i] = (float)(i * 37 % 101) / 50 - 1;
  cache = view((char*)memory);
  try(skv_listen(endpoint, uri, bound, sizeof bound, &err));
  printf("listening on %s\n", bound);
  fflush(stdout);
  try(skv_plan_create(engine, &plan, &err));
  try(skv_plan_set(plan, SKV_PLAN_UNPROVEN, 1, &err)); /* synthetic tensors; real models: queries or a profile */
  try(skv_plan_set_budget(plan, 0.35, &err));
  try(skv_plan_solve(plan, cache, NULL, &err));
  try(skv_encode(engine, cache, plan, NULL, &payload, &err));
  try(skv_accept(endpoint, skv_deadline_ms(60 * SECONDS), &conn, &err));
  try(skv_send(conn, 1, payload, skv_deadline_ms(60 * SECONDS), &request, &err));
  try(skv_request_wait(request, skv_deadline_ms(60 * SECONDS), &err));
  receipt.struct_size = sizeof receipt;
  try(skv_payload_receipt(payload, &receipt, &err));
  printf("sent %llu bytes, %.3f of raw\n", (unsigned long long)receipt.payload_bytes, receipt.ratio);
  try(skv_request_destroy(request, &err));
  skv_conn_destroy(conn);
  skv_payload_destroy(payload);
  skv_plan_destroy(plan);
  skv_cache_destroy(cache);
  free(memory);
}

static void decode(skv_engine* engine, skv_endpoint* endpoint, const char* uri) {
  char* memory = calloc(2 * LAYERS, PLANE);
  skv_cache* cache = view(memory);
  skv_payload* payload;
  skv_conn* conn;
  skv_request* request;
  int64_t bytes, layers;
  int layer;
  try(skv_connect(endpoint, uri, skv_deadline_ms(30 * SECONDS), &conn, &err));
  try(skv_recv_offer(conn, skv_deadline_ms(30 * SECONDS), &request, &err));
  try(skv_request_wait(request, skv_deadline_ms(30 * SECONDS), &err));
  try(skv_request_get(request, SKV_REQUEST_BYTES, &bytes, &err));
  try(skv_request_get(request, SKV_REQUEST_LAYERS, &layers, &err));
  if (layers != LAYERS) {
    try(skv_offer_reject(request, "another number of layers", &err));
    exit(1);
  }
  try(skv_offer_accept(request, NULL, 0, skv_deadline_ms(30 * SECONDS), &err));
  try(skv_request_wait(request, skv_deadline_ms(30 * SECONDS), &err));
  try(skv_request_payload(request, &payload, &err));
  for (layer = 0; layer < LAYERS; layer++) try(skv_decode_layer(engine, payload, cache, layer, NULL, &err));
  printf("received %lld bytes; v[1][0][0] %.3f for %.3f\n", (long long)bytes, ((float*)memory)[PLANE / 4 + HEADS * DIM],
         (double)((PLANE / 4 + HEADS * DIM) * 37 % 101) / 50 - 1);
  try(skv_request_destroy(request, &err));
  skv_payload_destroy(payload);
  skv_conn_destroy(conn);
  skv_cache_destroy(cache);
  free(memory);
}

int main(int argc, char** argv) {
  skv_engine* engine;
  skv_endpoint* endpoint;
  if (argc != 3 || (strcmp(argv[1], "prefill") != 0 && strcmp(argv[1], "decode") != 0)) {
    fprintf(stderr, "usage: transfer prefill|decode URI\n");
    return 2;
  }
  try(skv_engine_create(SKV_DEVICE_CPU, &engine, &err));
  try(skv_endpoint_create(&endpoint, &err));
  (argv[1][0] == 'p' ? prefill : decode)(engine, endpoint, argv[2]);
  skv_endpoint_destroy(endpoint);
  skv_engine_destroy(engine);
  return 0;
}
