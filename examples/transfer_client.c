/* SPDX-License-Identifier: Apache-2.0 */
/* The prefill side: connects and sends payloads, each layer as soon as it is encoded.
 *
 *   transfer_client URI [--count N] [--tls-psk FILE] [--budget FRACTION]
 *
 * Prints, for each payload, its key, bytes and the hash of what it decodes to: the server must print the same. */
#include "transfer.h"

static tensors source, local;

static void fill(int round) {
  float* all = (float*)&source;
  size_t i;
  for (i = 0; i < sizeof source / sizeof(float); i++)
    all[i] = (float)((i * 2654435761U + (unsigned)round * 97U) % 2003U) / 500.0F - 2.0F;
}

int main(int argc, char** argv) {
  skv_endpoint* endpoint;
  skv_engine* engine;
  skv_cache *cache, *check;
  skv_conn* conn;
  double budget = 0.4;
  int count = 1, i;
  if (argc < 2) {
    fprintf(stderr, "usage: transfer_client URI [--count N] [--tls-psk FILE] [--budget FRACTION]\n");
    return 2;
  }
  TRY(skv_endpoint_create(&endpoint, &err));
  for (i = 2; i + 1 < argc; i += 2) {
    if (strcmp(argv[i], "--count") == 0) count = atoi(argv[i + 1]);
    if (strcmp(argv[i], "--tls-psk") == 0) set_key(endpoint, argv[i + 1]);
    if (strcmp(argv[i], "--budget") == 0) budget = atof(argv[i + 1]);
  }
  TRY(skv_engine_create(SKV_DEVICE_CPU, &engine, &err));
  cache = view_of(&source);
  check = view_of(&local);
  TRY(skv_connect(endpoint, argv[1], skv_deadline_ms(30000), &conn, &err));
  for (i = 0; i < count; i++) {
    skv_plan* plan;
    skv_payload* payload;
    skv_request* request;
    unsigned long long hash = 14695981039346656037ULL;
    int64_t bytes;
    int layer;
    fill(i);
    TRY(skv_plan_create(engine, &plan, &err));
    TRY(skv_plan_set(plan, SKV_PLAN_UNPROVEN, 1, &err)); /* synthetic; real models: queries or a profile */
    TRY(skv_plan_set_budget(plan, budget, &err));
    TRY(skv_plan_set(plan, SKV_PLAN_UNPROVEN, 1, &err)); /* made-up tensors: no model to have a verdict on */
    TRY(skv_plan_solve(plan, cache, NULL, &err));
    /* The plan fixes every byte count, so the payload can be offered before a single layer is encoded. */
    TRY(skv_payload_create(cache, plan, NULL, 0, &payload, &err));
    TRY(skv_send_layers(conn, (uint64_t)i, payload, skv_deadline_ms(30000), &request, &err));
    for (layer = 0; layer < LAYERS; layer++) TRY(skv_encode_layer(engine, cache, plan, layer, NULL, payload, &err));
    TRY(skv_request_wait(request, skv_deadline_ms(30000), &err));
    TRY(skv_request_get(request, SKV_REQUEST_BYTES, &bytes, &err));
    TRY(skv_decode(engine, payload, check, NULL, &err));
    for (layer = 0; layer < LAYERS; layer++) hash = hash_layer(&local, layer, hash);
    printf("key %d bytes %lld hash %016llx\n", i, (long long)bytes, hash);
    TRY(skv_request_destroy(request, &err));
    skv_payload_destroy(payload);
    skv_plan_destroy(plan);
  }
  skv_conn_destroy(conn);
  skv_cache_destroy(check);
  skv_cache_destroy(cache);
  skv_engine_destroy(engine);
  skv_endpoint_destroy(endpoint);
  return 0;
}
