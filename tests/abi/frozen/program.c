/* SPDX-License-Identifier: Apache-2.0 */
/* Compiled against frozen/spectrumkv.h, the header as first released, and run against today's library: what was built
 * then must go on working. Scores, plans, encodes, sends to itself, receives, decodes, and reads structs of the frozen
 * size. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "spectrumkv.h"

enum { TOKENS = 256, HEADS = 2, DIM = 64, BYTES = TOKENS * HEADS * DIM * 4 };
static float k[TOKENS * HEADS * DIM], v[TOKENS * HEADS * DIM], k2[TOKENS * HEADS * DIM], v2[TOKENS * HEADS * DIM];
static skv_error err;

#define WANT(condition)                                                                               \
  do {                                                                                                \
    if (!(condition)) {                                                                               \
      printf("line %d: %s: %s %s\n", __LINE__, #condition, skv_status_name(err.status), err.message); \
      return 1;                                                                                       \
    }                                                                                                 \
  } while (0)

static skv_status view(float* kp, float* vp, skv_cache** out) {
  skv_status s = skv_cache_create(1, out, &err);
  if (s == SKV_OK) s = skv_cache_set_tokens(*out, SKV_ALL, 0, TOKENS, &err);
  if (s == SKV_OK) s = skv_cache_set_layer(*out, 0, HEADS, DIM, DIM, SKV_F32, &err);
  if (s == SKV_OK) s = skv_cache_set_plane(*out, 0, SKV_K, kp, BYTES, 0, HEADS * DIM * 4, DIM * 4, 4, &err);
  if (s == SKV_OK) s = skv_cache_set_plane(*out, 0, SKV_V, vp, BYTES, 0, HEADS * DIM * 4, DIM * 4, 4, &err);
  return s;
}

int main(void) {
  struct {
    skv_receipt receipt;
    unsigned char guard[64];
  } framed;
  skv_endpoint_stats stats;
  skv_engine* engine;
  skv_cache *from, *to;
  skv_scores* scores;
  skv_plan* plan;
  skv_payload *payload, *got;
  skv_endpoint *here, *there;
  skv_conn *a, *b;
  skv_request *sent, *received;
  char bound[128];
  double worst = 0;
  int i;
  WANT(skv_abi_version() == SKV_ABI_VERSION);
  for (i = 0; i < TOKENS * HEADS * DIM; i++) k[i] = v[i] = (float)(i * 37 % 101) / 50 - 1;
  WANT(skv_engine_create(SKV_DEVICE_CPU, &engine, &err) == SKV_OK);
  WANT(view(k, v, &from) == SKV_OK && view(k2, v2, &to) == SKV_OK);
  WANT(skv_scores_create(&scores, &err) == SKV_OK && skv_score(engine, from, scores, &err) == SKV_OK);
  WANT(skv_plan_create(engine, &plan, &err) == SKV_OK && skv_plan_set_strategy(plan, "uniform-8", &err) == SKV_OK);
  WANT(skv_plan_solve(plan, from, scores, &err) == SKV_OK);
  WANT(skv_encode(engine, from, plan, NULL, &payload, &err) == SKV_OK);
  WANT(skv_endpoint_create(&here, &err) == SKV_OK && skv_endpoint_create(&there, &err) == SKV_OK);
  WANT(skv_listen(there, "tcp://127.0.0.1:0", bound, sizeof bound, &err) == SKV_OK);
  WANT(skv_connect(here, bound, skv_deadline_ms(20000), &a, &err) == SKV_OK);
  WANT(skv_accept(there, skv_deadline_ms(20000), &b, &err) == SKV_OK);
  WANT(skv_send(a, 1, payload, skv_deadline_ms(20000), &sent, &err) == SKV_OK);
  WANT(skv_recv_offer(b, skv_deadline_ms(20000), &received, &err) == SKV_OK);
  WANT(skv_request_wait(received, skv_deadline_ms(20000), &err) == SKV_OK);
  WANT(skv_offer_accept(received, NULL, 0, skv_deadline_ms(20000), &err) == SKV_OK);
  WANT(skv_request_wait(received, skv_deadline_ms(20000), &err) == SKV_OK);
  WANT(skv_request_wait(sent, skv_deadline_ms(20000), &err) == SKV_OK);
  WANT(skv_request_payload(received, &got, &err) == SKV_OK);
  WANT(skv_decode(engine, got, to, NULL, &err) == SKV_OK);
  for (i = 0; i < TOKENS * HEADS * DIM; i++) {
    const double d = k[i] > k2[i] ? (double)k[i] - k2[i] : (double)k2[i] - k[i];
    if (d > worst) worst = d;
  }
  WANT(worst > 0 && worst < 0.25);
  /* A newer library may know more fields: it must not write beyond the struct of old. */
  memset(&framed, 0x5A, sizeof framed);
  framed.receipt.struct_size = sizeof framed.receipt;
  WANT(skv_payload_receipt(got, &framed.receipt, &err) == SKV_OK);
  for (i = 0; i < (int)sizeof framed.guard; i++) WANT(framed.guard[i] == 0x5A);
  WANT(framed.receipt.payload_bytes > 0 && framed.receipt.plane == SKV_PLANE_INLINE && framed.receipt.wire_ns > 0);
  stats.struct_size = sizeof stats;
  WANT(skv_endpoint_get_stats(there, &stats, &err) == SKV_OK && stats.received_ok == 1);
  WANT(skv_engine_set(engine, 12345, 1, &err) == SKV_E_KEY && err.message[0] != 0);
  WANT(skv_request_destroy(sent, &err) == SKV_OK && skv_request_destroy(received, &err) == SKV_OK);
  skv_conn_destroy(a);
  skv_conn_destroy(b);
  skv_endpoint_destroy(here);
  skv_endpoint_destroy(there);
  skv_payload_destroy(got);
  skv_payload_destroy(payload);
  skv_plan_destroy(plan);
  skv_scores_destroy(scores);
  skv_cache_destroy(to);
  skv_cache_destroy(from);
  skv_engine_destroy(engine);
  printf("built with %d.%d.%d, ran with %s, worst error %.3f\n", SKV_VERSION_MAJOR, SKV_VERSION_MINOR,
         SKV_VERSION_PATCH, skv_version_string(), worst);
  return 0;
}
