/* SPDX-License-Identifier: Apache-2.0 */
/* Misuse from C: every wrong call gives its status and a message, writes no output and crashes nothing. */
#include <spectrumkv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures = 0;

#define EXPECT(wanted, call)                                                                       \
  do {                                                                                             \
    skv_error e;                                                                                   \
    skv_error* err = &e;                                                                           \
    skv_status got;                                                                                \
    memset(&e, 0x5A, sizeof e);                                                                    \
    got = (call);                                                                                  \
    if (got != (wanted) || e.status != got || ((wanted) < 0 && e.message[0] == 0)) {               \
      printf("line %d: got %s \"%.240s\", wanted %s\n", __LINE__, skv_status_name(got), e.message, \
             skv_status_name(wanted));                                                             \
      failures++;                                                                                  \
    }                                                                                              \
  } while (0)

enum { TOKENS = 96, HEADS = 2, DIM = 64 };
typedef uint16_t half_cache[TOKENS][HEADS][DIM];
static half_cache k, v, k2, v2;

static skv_cache* view(uint16_t* kp, uint16_t* vp, int tokens) {
  skv_error e;
  skv_cache* c = NULL;
  if (skv_cache_create(1, &c, &e) || skv_cache_set_tokens(c, SKV_ALL, 0, tokens, &e) ||
      skv_cache_set_layer(c, 0, HEADS, DIM, DIM, SKV_F16, &e) ||
      skv_cache_set_plane(c, 0, SKV_K, kp, sizeof k, 0, HEADS * DIM * 2, DIM * 2, 2, &e) ||
      skv_cache_set_plane(c, 0, SKV_V, vp, sizeof v, 0, HEADS * DIM * 2, DIM * 2, 2, &e)) {
    printf("view: %s\n", e.message);
    exit(2);
  }
  return c;
}

static void executor(void* user, size_t width, skv_task task, void* arg) {
  (void)user;
  (void)width;
  (void)task;
  (void)arg;
}

int main(void) {
  skv_engine* engine = NULL;
  skv_plan* plan = NULL;
  skv_payload *payload = NULL, *other = NULL;
  skv_plan* change = NULL;
  skv_scores* scores = NULL;
  skv_cache *from, *to, *empty = NULL;
  const void* data = NULL;
  size_t size = 0;
  uint64_t bytes = 0;
  int64_t fact = 0;
  char line[128];
  uint8_t tiers[TOKENS], finger[32], request[16];
  float weights[TOKENS];
  skv_receipt receipt;
  unsigned char* copy;
  int i;

  for (i = 0; i < TOKENS * HEADS * DIM; i++) {
    (&k[0][0][0])[i] = (uint16_t)(0x3000 + (i * 37) % 2048);
    (&v[0][0][0])[i] = (uint16_t)(0xB000 + (i * 53) % 2048);
  }

  /* Every status has a name of its own; unknown ones do not. */
  for (i = -200; i <= 1; i++) {
    const char* name = skv_status_name(i);
    if (strcmp(name, "SKV_UNKNOWN") != 0 && strncmp(name, "SKV_", 4) != 0) failures++;
  }
  if (strcmp(skv_status_name(SKV_E_BUDGET), "SKV_E_BUDGET") != 0 || strcmp(skv_status_name(-9999), "SKV_UNKNOWN") != 0)
    failures++;
  if (skv_abi_version() != SKV_ABI_VERSION || skv_wire_version() != SKV_WIRE_MAJOR * 256 + SKV_WIRE_MINOR) failures++;

  EXPECT(SKV_E_NULL, skv_engine_create(SKV_DEVICE_CPU, NULL, err));
  EXPECT(SKV_E_RANGE, skv_engine_create(-7, &engine, err));
  EXPECT(SKV_E_UNAVAILABLE, skv_engine_create(0, &engine, err));
  if (engine != NULL) failures++; /* outputs are written on success only */
  EXPECT(SKV_OK, skv_engine_create(SKV_DEVICE_CPU, &engine, err));
  EXPECT(SKV_E_KEY, skv_engine_set(engine, 99, 1, err));
  EXPECT(SKV_E_RANGE, skv_engine_set(engine, SKV_ENGINE_THREADS, 1000, err));
  EXPECT(SKV_E_NULL, skv_engine_set_executor(NULL, executor, NULL, 2, err));
  EXPECT(SKV_E_RANGE, skv_engine_set_executor(engine, executor, NULL, 0, err));
  EXPECT(SKV_OK, skv_engine_set_executor(engine, executor, NULL, 2, err)); /* which does nothing: this thread does it all */
  EXPECT(SKV_E_STATE, skv_engine_set(engine, SKV_ENGINE_THREADS, 1, err));
  EXPECT(SKV_E_TOO_SMALL, skv_engine_describe(engine, line, 3, err));
  EXPECT(SKV_E_ARGUMENT, skv_engine_set((skv_engine*)&k, SKV_ENGINE_THREADS, 1, err));
  if (skv_engine_create(SKV_DEVICE_CPU, NULL, NULL) != SKV_E_NULL) failures++; /* the error is nullable */

  from = view(&k[0][0][0], &v[0][0][0], TOKENS);
  to = view(&k2[0][0][0], &v2[0][0][0], TOKENS);
  EXPECT(SKV_E_RANGE, skv_cache_create(0, &empty, err));
  EXPECT(SKV_OK, skv_cache_create(1, &empty, err));
  EXPECT(SKV_E_EMPTY, skv_cache_check(empty, err));
  EXPECT(SKV_E_EMPTY, skv_cache_set_tokens(empty, 0, 0, 0, err));
  EXPECT(SKV_E_RANGE, skv_cache_set_tokens(empty, 1, 0, 5, err));
  EXPECT(SKV_E_GEOMETRY, skv_cache_set_layer(empty, 0, 2, 63, 64, SKV_F16, err));
  EXPECT(SKV_E_DTYPE, skv_cache_set_layer(empty, 0, 2, 64, 64, 17, err));
  EXPECT(SKV_E_NULL, skv_cache_set_plane(empty, 0, SKV_K, NULL, 10, 0, 1, 1, 1, err));
  EXPECT(SKV_E_STRIDE, skv_cache_set_plane(to, 0, SKV_K, k2, sizeof k2, 0, -2, 2, 2, err));

  EXPECT(SKV_OK, skv_plan_create(engine, &plan, err));
  EXPECT(SKV_E_STATE, skv_plan_bytes(plan, &bytes, err));
  EXPECT(SKV_E_STATE, skv_encode(engine, from, plan, NULL, &payload, err));
  EXPECT(SKV_E_STATE, skv_plan_solve(plan, from, NULL, err)); /* no budget yet */
  EXPECT(SKV_E_RANGE, skv_plan_set_budget(plan, -0.5, err));
  EXPECT(SKV_E_KEY, skv_plan_set_strategy(plan, "magic", err));
  EXPECT(SKV_E_KEY, skv_plan_set(plan, 77, 1, err));
  EXPECT(SKV_E_RANGE, skv_plan_set(plan, SKV_PLAN_CHUNK, 33, err));
  EXPECT(SKV_OK, skv_plan_set_budget(plan, 0.01, err));
  EXPECT(SKV_E_PERMITTED, skv_plan_solve(plan, from, NULL, err));
  EXPECT(SKV_OK, skv_plan_set(plan, SKV_PLAN_UNPROVEN, 1, err));
  EXPECT(SKV_E_BUDGET, skv_plan_solve(plan, from, NULL, err));
  EXPECT(SKV_OK, skv_plan_set_budget(plan, 0.5, err));
  EXPECT(SKV_E_EMPTY, skv_plan_solve(plan, empty, NULL, err));
  EXPECT(SKV_OK, skv_plan_solve(plan, from, NULL, err));
  EXPECT(SKV_E_RANGE, skv_plan_get_tiers(plan, 0, SKV_K, tiers, TOKENS - 1, err));
  EXPECT(SKV_E_RANGE, skv_plan_get_tiers(plan, 1, SKV_K, tiers, TOKENS, err));
  EXPECT(SKV_OK, skv_plan_get_tiers(plan, 0, SKV_K, tiers, TOKENS, err));
  tiers[9] = SKV_TIER_DROP;
  EXPECT(SKV_E_PERMITTED, skv_plan_set_tiers(plan, 0, SKV_K, tiers, TOKENS, err));
  tiers[9] = 6;
  EXPECT(SKV_E_RANGE, skv_plan_set_tiers(plan, 0, SKV_K, tiers, TOKENS, err));

  EXPECT(SKV_OK, skv_scores_create(&scores, err));
  weights[0] = -1;
  EXPECT(SKV_E_NON_FINITE, skv_scores_set_weights(scores, 0, SKV_K, weights, 1, err));
  EXPECT(SKV_E_STATE, skv_scores_get(scores, 0, SKV_K, weights, TOKENS, err));
  EXPECT(SKV_E_NULL, skv_scores_set_queries(scores, 0, NULL, 0, SKV_F32, 1, 2, 0, 0, 4, 0, 0, err));

  EXPECT(SKV_OK, skv_plan_bytes(plan, &bytes, err));
  EXPECT(SKV_E_TOO_SMALL, skv_encode_into(engine, from, plan, NULL, k2, 100, &payload, err));
  EXPECT(SKV_E_ARGUMENT, skv_encode(engine, from, plan, &bytes, &payload, err)); /* a stream on a CPU engine */
  v[50][1][3] = 0x7C00;                                                          /* Inf */
  EXPECT(SKV_E_NON_FINITE, skv_encode(engine, from, plan, NULL, &payload, err));
  v[50][1][3] = 0x7E01; /* NaN */
  EXPECT(SKV_E_NON_FINITE, skv_encode(engine, from, plan, NULL, &payload, err));
  v[50][1][3] = 0x3000;
  k[51][0][5] = 0xFC00; /* -Inf */
  EXPECT(SKV_E_NON_FINITE, skv_encode(engine, from, plan, NULL, &payload, err));
  k[51][0][5] = 0x3000;
  if (payload != NULL) failures++;
  EXPECT(SKV_OK, skv_encode(engine, from, plan, NULL, &payload, err));
  EXPECT(SKV_OK, skv_payload_data(payload, &data, &size, err));
  if (size != bytes) failures++;
  EXPECT(SKV_E_KEY, skv_payload_get(payload, SKV_ALL, 99, &fact, err));
  EXPECT(SKV_E_RANGE, skv_payload_get(payload, 4, SKV_PAYLOAD_TOKENS, &fact, err));

  /* Upgrades and truncation: of what is not one, of another payload, with a plan that is none. */
  EXPECT(SKV_OK, skv_plan_create(engine, &change, err));
  EXPECT(SKV_E_NULL, skv_plan_upgrade(change, NULL, from, NULL, err));
  EXPECT(SKV_E_ARGUMENT, skv_plan_upgrade(change, (skv_payload*)from, from, NULL, err)); /* a handle of another kind */
  EXPECT(SKV_E_STATE, skv_encode_upgrade(engine, from, payload, change, &other, err));
  EXPECT(SKV_E_STATE, skv_payload_truncate(payload, change, &other, err));
  EXPECT(SKV_E_STATE, skv_payload_apply(payload, payload, &other, err));
  EXPECT(SKV_OK, skv_plan_upgrade(change, payload, from, NULL, err));
  EXPECT(SKV_E_STATE, skv_encode(engine, from, change, NULL, &other, err));
  EXPECT(SKV_E_STATE, skv_payload_create(from, change, NULL, 0, &other, err));
  EXPECT(SKV_E_NULL, skv_encode_upgrade(engine, from, payload, change, NULL, err));
  EXPECT(SKV_OK, skv_encode_upgrade(engine, from, payload, change, &other, err));
  EXPECT(SKV_E_STATE, skv_decode(engine, other, to, NULL, err));
  EXPECT(SKV_E_STATE, skv_payload_get_tiers(other, 0, SKV_K, tiers, TOKENS, err));
  EXPECT(SKV_E_STATE, skv_plan_truncate(change, other, NULL, err));
  EXPECT(SKV_E_NULL, skv_payload_apply(payload, other, NULL, err));
  skv_payload_destroy(other);
  other = NULL;
  EXPECT(SKV_OK, skv_plan_set(change, SKV_PLAN_K_TIERS, 1 << SKV_TIER_4BIT, err));
  EXPECT(SKV_E_STATE, skv_payload_truncate(payload, change, &other, err));
  EXPECT(SKV_OK, skv_plan_set(change, SKV_PLAN_UNPROVEN, 1, err));
  EXPECT(SKV_OK, skv_plan_set_budget(change, 0.01, err));
  EXPECT(SKV_E_BUDGET, skv_plan_truncate(change, payload, NULL, err));
  skv_plan_destroy(change);
  if (other != NULL) failures++;

  receipt.struct_size = 3;
  EXPECT(SKV_E_ARGUMENT, skv_payload_receipt(payload, &receipt, err));

  /* A damaged payload, one of another model, another request, another geometry: nothing is written. */
  copy = (unsigned char*)malloc(size);
  if (copy == NULL) return 2;
  memcpy(copy, data, size);
  EXPECT(SKV_E_TRUNCATED, skv_payload_open(copy, size - 1, &other, err));
  copy[size - 20] ^= 1;
  EXPECT(SKV_OK, skv_payload_open(copy, size, &other, err));
  EXPECT(SKV_E_CHECKSUM, skv_payload_verify(other, err));
  EXPECT(SKV_E_CHECKSUM, skv_decode(engine, other, to, NULL, err));
  skv_payload_destroy(other);
  other = NULL;
  memset(finger, 7, sizeof finger);
  memset(request, 9, sizeof request);
  EXPECT(SKV_OK, skv_cache_set_identity(to, finger, NULL, err));
  EXPECT(SKV_E_MODEL, skv_decode(engine, payload, to, NULL, err));
  EXPECT(SKV_OK, skv_cache_set_identity(to, NULL, request, err));
  EXPECT(SKV_E_REQUEST, skv_decode(engine, payload, to, NULL, err));
  EXPECT(SKV_OK, skv_cache_set_identity(to, NULL, NULL, err));
  EXPECT(SKV_OK, skv_cache_set_tokens(to, 0, 0, TOKENS - 1, err));
  EXPECT(SKV_E_LAYOUT, skv_decode(engine, payload, to, NULL, err));
  EXPECT(SKV_E_LAYOUT, skv_encode(engine, to, plan, NULL, &other, err));
  EXPECT(SKV_OK, skv_cache_set_tokens(to, 0, 0, TOKENS, err));
  EXPECT(SKV_OK, skv_cache_set_plane(to, 0, SKV_V, k2, sizeof k2, 0, HEADS * DIM * 2, DIM * 2, 2, err));
  EXPECT(SKV_E_OVERLAP, skv_decode(engine, payload, to, NULL, err));
  EXPECT(SKV_OK, skv_cache_set_plane(to, 0, SKV_V, v2, sizeof v2 - 2, 0, HEADS * DIM * 2, DIM * 2, 2, err));
  EXPECT(SKV_E_STRIDE, skv_decode(engine, payload, to, NULL, err));
  for (i = 0; i < TOKENS * HEADS * DIM; i++) {
    if ((&k2[0][0][0])[i] != 0 || (&v2[0][0][0])[i] != 0) {
      printf("element %d was written by a refused call\n", i);
      failures++;
      break;
    }
  }
  EXPECT(SKV_OK, skv_cache_set_plane(to, 0, SKV_V, v2, sizeof v2, 0, HEADS * DIM * 2, DIM * 2, 2, err));
  EXPECT(SKV_OK, skv_decode(engine, payload, to, NULL, err));

  /* Transport: wrong arguments, wrong states, and what is not there. */
  {
    skv_endpoint *a = NULL, *b = NULL;
    skv_conn *at_a = NULL, *at_b = NULL;
    skv_request *send = NULL, *receive = NULL;
    skv_payload *half = NULL, *early = NULL;
    skv_plan* half_plan = NULL;
    skv_endpoint_stats stats;
    skv_event events[4];
    size_t count = 77;
    int32_t fd = -1;
    char bound[128];
    uint8_t key[32];
    memset(key, 3, sizeof key);
    EXPECT(SKV_OK, skv_endpoint_create(&a, err));
    EXPECT(SKV_OK, skv_endpoint_create(&b, err));
    EXPECT(SKV_E_NULL, skv_endpoint_set(NULL, SKV_ENDPOINT_CHUNK, 4096, err));
    EXPECT(SKV_E_KEY, skv_endpoint_set(a, 99, 1, err));
    EXPECT(SKV_E_RANGE, skv_endpoint_set(a, SKV_ENDPOINT_TRANSFER_CREDIT, 1, err));
    EXPECT(SKV_E_RANGE, skv_endpoint_set(a, SKV_ENDPOINT_CREDIT, 1, err));
    EXPECT(SKV_E_RANGE, skv_endpoint_set(a, SKV_ENDPOINT_EVENTS, -1, err));
    EXPECT(SKV_E_RANGE, skv_endpoint_set(a, SKV_ENDPOINT_PEER_UID, -2, err));
    EXPECT(SKV_E_RANGE, skv_endpoint_set(a, SKV_ENDPOINT_PLANES, 0, err));
    EXPECT(SKV_E_RANGE, skv_endpoint_set(a, SKV_ENDPOINT_PLANES, 1 << 30, err));
    EXPECT(SKV_E_RANGE, skv_endpoint_set(a, SKV_ENDPOINT_DEVICE, -1, err));
    EXPECT(SKV_E_RANGE, skv_endpoint_set(a, SKV_ENDPOINT_ABORT_MS, 0, err));
    EXPECT(SKV_E_NULL, skv_conn_set_communicator(NULL, &a, 1, err));
    EXPECT(SKV_E_NULL, skv_endpoint_set_library(NULL, SKV_PLANE_NCCL, "x", err));
    EXPECT(SKV_E_NULL, skv_endpoint_set_library(a, SKV_PLANE_NCCL, NULL, err));
    EXPECT(SKV_E_RANGE, skv_endpoint_set_library(a, SKV_PLANE_INLINE, "x", err));
    EXPECT(SKV_E_NULL, skv_endpoint_set_psk(a, SKV_SECURITY_PSK, NULL, 32, err));
    EXPECT(SKV_E_RANGE, skv_endpoint_set_psk(a, SKV_SECURITY_PSK, key, 15, err));
    EXPECT(SKV_E_RANGE, skv_endpoint_set_psk(a, SKV_SECURITY_TLS, key, 32, err));
    EXPECT(SKV_E_NULL, skv_endpoint_set_tls(a, NULL, "k", "c", NULL, err));
    EXPECT(SKV_E_AUTH, skv_endpoint_set_tls(a, "/nowhere/c", "/nowhere/k", "/nowhere/a", NULL, err));
    EXPECT(SKV_E_PERMITTED, skv_listen(a, "tcp://0.0.0.0:0", bound, sizeof bound, err));
    EXPECT(SKV_OK, skv_endpoint_set_psk(a, SKV_SECURITY_PSK, key, sizeof key, err));
    EXPECT(SKV_OK, skv_endpoint_set_psk(b, SKV_SECURITY_PSK, key, sizeof key, err));
    EXPECT(SKV_OK, skv_listen(a, "tcp://127.0.0.1:0", bound, sizeof bound, err));
    EXPECT(SKV_E_STATE, skv_endpoint_set_psk(a, SKV_SECURITY_PSK, key, sizeof key, err));
    EXPECT(SKV_OK, skv_connect(b, bound, skv_deadline_ms(20000), &at_b, err));
    EXPECT(SKV_OK, skv_accept(a, skv_deadline_ms(20000), &at_a, err));
    EXPECT(SKV_E_KEY, skv_conn_get(at_a, 99, &fact, err));
    EXPECT(SKV_OK, skv_conn_get(at_a, SKV_CONN_SECURITY, &fact, err));
    if (fact != SKV_SECURITY_PSK) failures++;
    EXPECT(SKV_E_NULL, skv_endpoint_events(a, events, 4, NULL, err));
    EXPECT(SKV_E_NULL, skv_endpoint_events(a, NULL, 4, &count, err));
    EXPECT(SKV_OK, skv_endpoint_events(a, events, 4, &count, err));
    if (count != 1 || events[0].kind != SKV_EVENT_CONN_OPEN) failures++;
    stats.struct_size = 4;
    EXPECT(SKV_E_ARGUMENT, skv_endpoint_get_stats(a, &stats, err));
    stats.struct_size = 16; /* an older, shorter struct */
    stats.handshakes_failed = 12345;
    EXPECT(SKV_OK, skv_endpoint_get_stats(a, &stats, err));
    if (stats.handshakes_ok != 1 || stats.handshakes_failed != 12345) failures++;
    EXPECT(SKV_OK, skv_plan_create(engine, &half_plan, err));
    EXPECT(SKV_OK, skv_plan_set_budget(half_plan, 0.5, err));
    EXPECT(SKV_OK, skv_plan_set(half_plan, SKV_PLAN_UNPROVEN, 1, err));
    EXPECT(SKV_OK, skv_plan_solve(half_plan, from, NULL, err));
    EXPECT(SKV_OK, skv_payload_create(from, half_plan, NULL, 0, &half, err));
    EXPECT(SKV_E_STATE, skv_send(at_b, 1, half, skv_deadline_ms(20000), &send, err));
    EXPECT(SKV_E_NULL, skv_send_layers(at_b, 1, NULL, skv_deadline_ms(20000), &send, err));
    EXPECT(SKV_OK, skv_send_layers(at_b, 1, half, skv_deadline_ms(20000), &send, err));
    EXPECT(SKV_E_STATE, skv_request_set(send, SKV_REQUEST_EARLY_LAYERS, 1, err));
    EXPECT(SKV_OK, skv_recv_offer(at_a, skv_deadline_ms(20000), &receive, err));
    EXPECT(SKV_OK, skv_request_wait(receive, skv_deadline_ms(20000), err));
    EXPECT(SKV_E_KEY, skv_request_set(receive, SKV_REQUEST_MOVED, 1, err));
    EXPECT(SKV_E_RANGE, skv_request_set(receive, SKV_REQUEST_EARLY_LAYERS, 7, err));
    EXPECT(SKV_OK, skv_request_set(receive, SKV_REQUEST_EARLY_LAYERS, 1, err));
    EXPECT(SKV_OK, skv_offer_accept(receive, NULL, 0, skv_deadline_ms(20000), err));
    EXPECT(SKV_IN_PROGRESS, skv_request_wait_layer(receive, 0, skv_deadline_ms(20), err));
    EXPECT(SKV_E_BUSY, skv_request_destroy(receive, err));
    EXPECT(SKV_OK, skv_encode_layer(engine, from, half_plan, 0, NULL, half, err));
    EXPECT(SKV_OK, skv_request_wait_layer(receive, 0, skv_deadline_ms(20000), err));
    EXPECT(SKV_OK, skv_request_payload(receive, &early, err));
    EXPECT(SKV_E_STATE, skv_request_payload(receive, &early, err));
    EXPECT(SKV_OK, skv_request_wait(receive, skv_deadline_ms(20000), err));
    EXPECT(SKV_OK, skv_request_wait(send, skv_deadline_ms(20000), err));
    EXPECT(SKV_OK, skv_decode_layer(engine, early, to, 0, NULL, err));
    EXPECT(SKV_OK, skv_request_destroy(receive, err));
    EXPECT(SKV_OK, skv_payload_verify(early, err)); /* outlives its request */
    EXPECT(SKV_OK, skv_endpoint_fd(a, &fd, err));
    EXPECT(SKV_OK, skv_endpoint_drain(a, skv_deadline_ms(20000), err));
    EXPECT(SKV_E_CLOSED, skv_connect(a, bound, skv_deadline_ms(200), &at_b, err));
    EXPECT(SKV_OK, skv_request_destroy(send, err));
    skv_payload_destroy(early);
    skv_payload_destroy(half);
    skv_plan_destroy(half_plan);
    skv_endpoint_destroy(a);
    skv_endpoint_destroy(b);
    skv_conn_destroy(at_a);
    skv_conn_destroy(at_b);
  }

  /* Any destruction order, and NULL. */
  skv_engine_destroy(engine);
  EXPECT(SKV_OK, skv_plan_solve(plan, from, NULL, err)); /* the plan keeps its engine's device alive */
  skv_cache_destroy(from);
  skv_plan_destroy(plan);
  skv_scores_destroy(scores);
  skv_payload_destroy(payload);
  skv_cache_destroy(to);
  skv_cache_destroy(empty);
  skv_engine_destroy(NULL);
  skv_cache_destroy(NULL);
  skv_scores_destroy(NULL);
  skv_plan_destroy(NULL);
  skv_payload_destroy(NULL);
  skv_endpoint_destroy(NULL);
  skv_conn_destroy(NULL);
  EXPECT(SKV_OK, skv_request_destroy(NULL, err));
  free(copy);
  printf("%d unexpected results\n", failures);
  return failures == 0 ? 0 : 1;
}
