/* SPDX-License-Identifier: Apache-2.0 */
/* The stress program in C; see watch.py for its arguments and for what each operation does. */
#include <spectrumkv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LAYERS = 2, TOKENS = 64, DIM = 64, ROW = DIM * 2, PLANE = TOKENS * ROW, ROUND = 16 };

typedef unsigned char half_cache[LAYERS][2][PLANE];
typedef struct ends {
  skv_endpoint *a, *b;
  skv_conn *here, *there;
} ends;

static skv_error err;
static half_cache source, target;
static unsigned char memory[1 << 16] __attribute__((aligned(64))), sent[1 << 16], damaged[1 << 16];
static size_t size;
static skv_engine* engine;
static skv_cache *from, *to;
static skv_plan* plan;
static int leak_memory, leak_ends;

static void is_at(int line, skv_status got, skv_status wanted, skv_status or) {
  if (got == wanted || got == or) return;
  fprintf(stderr, "stress.c:%d: got %s \"%s\", wanted %s\n", line, skv_status_name(got), err.message,
          skv_status_name(wanted));
  exit(1);
}
#define IS(wanted, call) is_at(__LINE__, call, wanted, wanted)
#define EITHER(wanted, or, call) is_at(__LINE__, call, wanted, or)
#define OK(call) IS(SKV_OK, call)

static void require_at(int line, int condition) {
  if (condition) return;
  fprintf(stderr, "stress.c:%d: other bytes\n", line);
  exit(1);
}
#define REQUIRE(condition) require_at(__LINE__, condition)

static uint64_t soon(void) { return skv_deadline_ms(60000); }

static skv_cache* view(half_cache* planes) {
  skv_cache* cache;
  int i;
  OK(skv_cache_create(LAYERS, &cache, &err));
  OK(skv_cache_set_tokens(cache, SKV_ALL, 0, TOKENS, &err));
  OK(skv_cache_set_layer(cache, SKV_ALL, 1, DIM, DIM, SKV_F16, &err));
  for (i = 0; i < 2 * LAYERS; i++)
    OK(skv_cache_set_plane(cache, i / 2, i % 2, (*planes)[i / 2][i % 2], PLANE, 0, ROW, ROW, 2, &err));
  return cache;
}

static skv_plan* solved(const skv_cache* cache) {
  skv_plan* made;
  OK(skv_plan_create(engine, &made, &err));
  OK(skv_plan_set(made, SKV_PLAN_UNPROVEN, 1, &err));
  OK(skv_plan_set_budget(made, 0.5, &err));
  OK(skv_plan_solve(made, cache, NULL, &err));
  return made;
}

/* Kinds 0 to 5. */
static void codec(int into) {
  skv_cache *first = view(&source), *second = view(&target);
  skv_plan* own = solved(first);
  skv_payload *encoded, *opened;
  const void* data;
  size_t bytes;
  if (into) {
    OK(skv_encode_into(engine, first, own, NULL, memory, sizeof memory, &encoded, &err));
  } else {
    OK(skv_encode(engine, first, own, NULL, &encoded, &err));
  }
  OK(skv_payload_data(encoded, &data, &bytes, &err));
  REQUIRE(bytes == size && memcmp(data, sent, size) == 0);
  memset(target, 0, sizeof target);
  OK(skv_payload_open(data, bytes, &opened, &err));
  OK(skv_decode(engine, opened, second, NULL, &err));
  REQUIRE(target[LAYERS - 1][1][PLANE - 1] != 0);
  skv_payload_destroy(opened);
  if (!leak_memory) skv_payload_destroy(encoded);
  skv_plan_destroy(own);
  skv_cache_destroy(second);
  skv_cache_destroy(first);
}

static void refused(void) {
  skv_payload* payload;
  IS(SKV_E_TOO_SMALL, skv_encode_into(engine, from, plan, NULL, memory, 64, &payload, &err));
  IS(SKV_E_TRUNCATED, skv_payload_open(sent, size / 2, &payload, &err));
  OK(skv_payload_open(damaged, size, &payload, &err));
  IS(SKV_E_CHECKSUM, skv_decode(engine, payload, to, NULL, &err));
  skv_payload_destroy(payload);
}

/* C has no closed handles to refuse: a conn whose endpoint is destroyed, and NULL. */
static void closed(skv_payload* payload) {
  skv_endpoint* endpoint;
  skv_request* request;
  OK(skv_endpoint_create(&endpoint, &err));
  skv_endpoint_destroy(endpoint);
  IS(SKV_E_NULL, skv_payload_verify(NULL, &err));
  IS(SKV_E_NULL, skv_send(NULL, 1, payload, soon(), &request, &err));
  skv_payload_destroy(NULL);
  skv_conn_destroy(NULL);
  OK(skv_request_destroy(NULL, &err));
}

static void open_ends(ends* e, long number) {
  static const char* const schemes[] = {"inproc://stress-%ld-%ld", "unix://@stress-%ld-%ld", "tcp://127.0.0.1:0"};
  skv_endpoint** both[2];
  char uri[128], bound[128];
  int i;
  both[0] = &e->a;
  both[1] = &e->b;
  for (i = 0; i < 2; i++) {
    OK(skv_endpoint_create(both[i], &err));
    /* A busy machine is no lost peer. */
    OK(skv_endpoint_set(*both[i], SKV_ENDPOINT_HEARTBEAT_MS, 60000, &err));
    OK(skv_endpoint_set(*both[i], SKV_ENDPOINT_HANDSHAKE_MS, 60000, &err));
  }
  snprintf(uri, sizeof uri, schemes[number % 3], (long)getpid(), number);
  OK(skv_listen(e->b, uri, bound, sizeof bound, &err));
  OK(skv_connect(e->a, bound, soon(), &e->here, &err));
  OK(skv_accept(e->b, soon(), &e->there, &err));
}

static void close_ends(ends* e) {
  skv_endpoint_destroy(e->a);
  skv_endpoint_destroy(e->b);
  skv_conn_destroy(e->here);
  skv_conn_destroy(e->there);
}

static skv_request* offered(ends* e) {
  skv_request* request;
  OK(skv_recv_offer(e->there, soon(), &request, &err));
  OK(skv_request_wait(request, soon(), &err));
  return request;
}

static void end(skv_request* request) { OK(skv_request_destroy(request, &err)); }

static void transfer(ends* e, skv_payload* payload, int into) {
  skv_request *sending, *receiving;
  skv_payload* got;
  const void* data;
  size_t bytes;
  OK(skv_send(e->here, 1, payload, soon(), &sending, &err));
  receiving = offered(e);
  if (into) {
    IS(SKV_E_TOO_SMALL, skv_offer_accept(receiving, memory, size - 1, soon(), &err));
    OK(skv_offer_accept(receiving, memory, sizeof memory, soon(), &err));
  } else {
    OK(skv_offer_accept(receiving, NULL, 0, soon(), &err));
  }
  OK(skv_request_wait(receiving, soon(), &err));
  OK(skv_request_wait(sending, soon(), &err));
  OK(skv_request_payload(receiving, &got, &err));
  end(receiving);
  end(sending);
  OK(skv_payload_data(got, &data, &bytes, &err));
  REQUIRE(bytes == size && memcmp(data, sent, size) == 0);
  skv_payload_destroy(got);
}

static void rejected(ends* e, skv_payload* payload) {
  skv_request *sending, *receiving;
  OK(skv_send(e->here, 1, payload, soon(), &sending, &err));
  receiving = offered(e);
  OK(skv_offer_reject(receiving, "no room", &err));
  IS(SKV_E_REJECTED, skv_request_wait(sending, soon(), &err));
  IS(SKV_E_REJECTED, skv_request_wait(receiving, soon(), &err));
  end(receiving);
  end(sending);
}

static void cancelled(ends* e, skv_payload* payload, int accepted) {
  skv_request *sending, *receiving;
  OK(skv_send(e->here, 1, payload, soon(), &sending, &err));
  receiving = offered(e);
  if (accepted) {
    OK(skv_offer_accept(receiving, memory, sizeof memory, soon(), &err));
    OK(skv_request_cancel(receiving, &err));
  } else {
    OK(skv_request_cancel(sending, &err));
  }
  EITHER(SKV_E_CANCELLED, SKV_OK, skv_request_wait(sending, soon(), &err));
  EITHER(SKV_E_CANCELLED, SKV_OK, skv_request_wait(receiving, soon(), &err));
  end(receiving);
  end(sending);
}

static void layers(ends* e) {
  skv_payload* building;
  skv_request *sending, *receiving;
  OK(skv_payload_create(from, plan, NULL, 0, &building, &err));
  OK(skv_send_layers(e->here, 1, building, soon(), &sending, &err));
  receiving = offered(e);
  OK(skv_offer_accept(receiving, NULL, 0, soon(), &err));
  OK(skv_encode_layer(engine, from, plan, 0, NULL, building, &err));
  skv_payload_destroy(building); /* before its last layer */
  IS(SKV_E_CANCELLED, skv_request_wait(sending, soon(), &err));
  IS(SKV_E_CANCELLED, skv_request_wait(receiving, soon(), &err));
  end(receiving);
  end(sending);
}

/* A live request that is let go: what a garbage collector does elsewhere. */
static void let_go(skv_request* request) {
  skv_status status = skv_request_destroy(request, &err);
  if (status == SKV_E_BUSY) {
    OK(skv_request_cancel(request, &err));
    EITHER(SKV_E_CANCELLED, SKV_OK, skv_request_wait(request, soon(), &err));
    status = skv_request_destroy(request, &err);
  }
  OK(status);
}

static void dropped(ends* e) {
  unsigned char* own = malloc(size);
  skv_payload* payload;
  skv_request *sending, *receiving;
  REQUIRE(own != NULL);
  memcpy(own, sent, size);
  OK(skv_payload_open(own, size, &payload, &err));
  OK(skv_send(e->here, 1, payload, soon(), &sending, &err));
  skv_payload_destroy(payload);
  receiving = offered(e);
  OK(skv_offer_accept(receiving, NULL, 0, soon(), &err));
  let_go(receiving);
  let_go(sending);
  memset(own, 0xA5, size); /* nothing reads it any more */
  free(own);
}

static void renewed(ends* e, skv_payload* payload, long number) {
  skv_request *sending, *waiting;
  OK(skv_recv_offer(e->here, soon(), &waiting, &err));
  OK(skv_send(e->here, 1, payload, soon(), &sending, &err));
  if (leak_ends) {
    let_go(sending);
    let_go(waiting);
  } else {
    close_ends(e);
    IS(SKV_E_CANCELLED, skv_request_wait(sending, soon(), &err));
    IS(SKV_E_CANCELLED, skv_request_wait(waiting, soon(), &err));
    end(sending);
    end(waiting);
  }
  open_ends(e, number);
}

int main(int argc, char** argv) {
  skv_payload* payload;
  const void* data;
  ends e;
  long i, operations, every;
  if (argc < 3) {
    fprintf(stderr, "usage: stress OPERATIONS EVERY [memory|ends]\n");
    return 2;
  }
  operations = atol(argv[1]);
  every = atol(argv[2]);
  leak_memory = argc > 3 && strcmp(argv[3], "memory") == 0;
  leak_ends = argc > 3 && strcmp(argv[3], "ends") == 0;
  for (i = 0; i < (long)sizeof source; i += 2) { /* float16 between 1 and 2, of either sign */
    const unsigned value = (unsigned)i * 2654435761U >> 8;
    (&source[0][0][0])[i] = (unsigned char)value;
    (&source[0][0][0])[i + 1] = (unsigned char)(0x3C | (value >> 8 & 0x83));
  }
  OK(skv_engine_create(SKV_DEVICE_CPU, &engine, &err));
  OK(skv_engine_set(engine, SKV_ENGINE_THREADS, 1, &err));
  from = view(&source);
  to = view(&target);
  plan = solved(from);
  OK(skv_encode(engine, from, plan, NULL, &payload, &err));
  OK(skv_payload_data(payload, &data, &size, &err));
  REQUIRE(size <= sizeof sent);
  memcpy(sent, data, size);
  memcpy(damaged, data, size);
  damaged[size - 40] ^= 1;
  open_ends(&e, 0);
  for (i = 0; i < operations; i++) {
    switch (i % ROUND) {
      default:
        codec(i % 2);
        break;
      case 6:
        refused();
        break;
      case 7:
        closed(payload);
        break;
      case 8:
        transfer(&e, payload, 0);
        break;
      case 9:
        transfer(&e, payload, 1);
        break;
      case 10:
        rejected(&e, payload);
        break;
      case 11:
        cancelled(&e, payload, 0);
        break;
      case 12:
        cancelled(&e, payload, 1);
        break;
      case 13:
        layers(&e);
        break;
      case 14:
        dropped(&e);
        break;
      case 15:
        renewed(&e, payload, i / ROUND + 1);
        break;
    }
    if ((i + 1) % every == 0) {
      printf("sample %ld\n", i + 1);
      fflush(stdout);
      (void)getchar();
    }
  }
  close_ends(&e);
  skv_payload_destroy(payload);
  skv_plan_destroy(plan);
  skv_cache_destroy(to);
  skv_cache_destroy(from);
  skv_engine_destroy(engine);
  return 0;
}
