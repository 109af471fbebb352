/* SPDX-License-Identifier: Apache-2.0 */
/* The decode side: listens, takes payloads and decodes each layer as soon as it has arrived.
 *
 *   transfer_server URI [--count N] [--tls-psk FILE]
 *
 * Prints "listening on URI" and, for each payload, its key, bytes and the hash of what was decoded. */
#include "transfer.h"

static tensors decoded;

int main(int argc, char** argv) {
  const char* uri = argc > 1 ? argv[1] : "tcp://127.0.0.1:0";
  skv_endpoint* endpoint;
  skv_engine* engine;
  skv_cache* cache;
  skv_conn* conn;
  char bound[256];
  int count = 1, i;
  TRY(skv_endpoint_create(&endpoint, &err));
  for (i = 2; i + 1 < argc; i += 2) {
    if (strcmp(argv[i], "--count") == 0) count = atoi(argv[i + 1]);
    if (strcmp(argv[i], "--tls-psk") == 0) set_key(endpoint, argv[i + 1]);
  }
  TRY(skv_engine_create(SKV_DEVICE_CPU, &engine, &err));
  cache = view_of(&decoded);
  TRY(skv_listen(endpoint, uri, bound, sizeof bound, &err));
  printf("listening on %s\n", bound);
  fflush(stdout);
  TRY(skv_accept(endpoint, skv_deadline_ms(30000), &conn, &err));
  for (i = 0; i < count; i++) {
    skv_request* request;
    skv_payload* payload = NULL;
    int64_t key, bytes;
    unsigned long long hash = 14695981039346656037ULL;
    int layer;
    /* An offer comes first: look at it, then take it or not. */
    TRY(skv_recv_offer(conn, skv_deadline_ms(30000), &request, &err));
    TRY(skv_request_wait(request, skv_deadline_ms(30000), &err));
    TRY(skv_request_get(request, SKV_REQUEST_KEY, &key, &err));
    TRY(skv_request_get(request, SKV_REQUEST_BYTES, &bytes, &err));
    TRY(skv_request_set(request, SKV_REQUEST_EARLY_LAYERS, 1, &err));
    TRY(skv_offer_accept(request, NULL, 0, skv_deadline_ms(30000), &err));
    for (layer = 0; layer < LAYERS; layer++) {
      TRY(skv_request_wait_layer(request, layer, skv_deadline_ms(30000), &err));
      if (payload == NULL) TRY(skv_request_payload(request, &payload, &err));
      TRY(skv_decode_layer(engine, payload, cache, layer, NULL, &err));
      hash = hash_layer(&decoded, layer, hash);
    }
    /* Only now is it certain that all of it was what was sent. */
    TRY(skv_request_wait(request, skv_deadline_ms(30000), &err));
    printf("key %lld bytes %lld hash %016llx\n", (long long)key, (long long)bytes, hash);
    fflush(stdout);
    skv_payload_destroy(payload);
    TRY(skv_request_destroy(request, &err));
  }
  TRY(skv_endpoint_drain(endpoint, skv_deadline_ms(5000), &err));
  skv_conn_destroy(conn);
  skv_cache_destroy(cache);
  skv_engine_destroy(engine);
  skv_endpoint_destroy(endpoint);
  return 0;
}
