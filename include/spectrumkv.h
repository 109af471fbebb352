/* SPDX-License-Identifier: Apache-2.0
 *
 * libspectrumkv: moves an LLM's KV cache from a prefill worker to a decode worker in a fraction of its bytes.
 * This header is the whole ABI and its manual. It needs nothing but <stddef.h> and <stdint.h>.
 *
 * ---------------------------------------------------------------------------------------------------------------
 * A complete program (extracted, compiled and run by the tests): encode a cache, decode it into another one.
 *
 * EXAMPLE-BEGIN
 * #include <spectrumkv.h>
 * #include <stdio.h>
 * #define TRY(call) if ((call) != SKV_OK) { printf("%s: %s\n", skv_status_name(err.status), err.message); return 1; }
 *
 * enum { TOKENS = 512, HEADS = 2, DIM = 64, BYTES = TOKENS * HEADS * DIM * 4 };
 * static float k[TOKENS][HEADS][DIM], v[TOKENS][HEADS][DIM], k2[TOKENS][HEADS][DIM], v2[TOKENS][HEADS][DIM];
 *
 * static skv_status view(float* kp, float* vp, skv_cache** out, skv_error* err) {
 *   skv_status s = skv_cache_create(1, out, err);
 *   if (s == SKV_OK) s = skv_cache_set_tokens(*out, SKV_ALL, 0, TOKENS, err);
 *   if (s == SKV_OK) s = skv_cache_set_layer(*out, 0, HEADS, DIM, DIM, SKV_F32, err);
 *   if (s == SKV_OK) s = skv_cache_set_plane(*out, 0, SKV_K, kp, BYTES, 0, HEADS * DIM * 4, DIM * 4, 4, err);
 *   if (s == SKV_OK) s = skv_cache_set_plane(*out, 0, SKV_V, vp, BYTES, 0, HEADS * DIM * 4, DIM * 4, 4, err);
 *   return s;
 * }
 *
 * int main(void) {
 *   skv_error err; skv_engine* engine; skv_cache *from, *to; skv_plan* plan; skv_payload *sent, *got;
 *   const void* bytes; size_t size;
 *   for (int i = 0; i < TOKENS * HEADS * DIM; i++) (&k[0][0][0])[i] = (&v[0][0][0])[i] = (float)(i * 37 % 101) / 50 - 1;
 *   TRY(skv_engine_create(SKV_DEVICE_CPU, &engine, &err));
 *   TRY(view(&k[0][0][0], &v[0][0][0], &from, &err));
 *   TRY(view(&k2[0][0][0], &v2[0][0][0], &to, &err));
 *   TRY(skv_plan_create(engine, &plan, &err));
 *   TRY(skv_plan_set_budget(plan, 0.40, &err));              // of the 16-bit size, everything counted
 *   TRY(skv_plan_set(plan, SKV_PLAN_UNPROVEN, 1, &err));     // real models: queries or a profile instead
 *   TRY(skv_plan_solve(plan, from, NULL, &err));
 *   TRY(skv_encode(engine, from, plan, NULL, &sent, &err));
 *   TRY(skv_payload_data(sent, &bytes, &size, &err));        // ... these bytes travel ...
 *   TRY(skv_payload_open(bytes, size, &got, &err));
 *   TRY(skv_decode(engine, got, to, NULL, &err));
 *   printf("%zu bytes, k %.3f -> %.3f\n", size, k[99][1][7], k2[99][1][7]);
 *   skv_payload_destroy(got); skv_payload_destroy(sent); skv_plan_destroy(plan);
 *   skv_cache_destroy(to); skv_cache_destroy(from); skv_engine_destroy(engine);
 *   return 0;
 * }
 * EXAMPLE-END
 *
 * ---------------------------------------------------------------------------------------------------------------
 * Words. engine: a device with its threads and scratch. cache: a view of KV memory the caller owns. scores: how much
 * each token matters. profile: what is known of a model. plan: a tier for every (layer, K or V, token) and the exact byte count it implies. tier: how
 * many bits a token's row is sent with. payload: the encoded bytes, one self-contained segment a layer. receipt: what
 * was done. endpoint, conn, request: a local end, one peer, one asynchronous operation.
 *
 * The flow. cache -> score -> plan -> encode -> payload -> send | receive -> payload -> decode -> cache.
 *
 * Rules that hold everywhere.
 * - Every fallible function returns a skv_status and takes a nullable caller-owned skv_error* last. On SKV_OK the error
 *   is left untouched except status = native = 0 and an empty message. There is no last-error function.
 * - Output parameters are written only on success.
 * - Handles are opaque. skv_x_destroy(NULL) does nothing. Any destruction order is safe.
 * - The library never hands out memory that the caller must free; it hands out handles.
 * - Threads: any thread may use any handle, one call at a time per handle; distinct handles are independent. Calls on one
 *   engine, directly or through plans made on it, take turns. Endpoint, conn and request handles are fully thread-safe.
 * - An engine, cache, plan or payload passed to a call must stay alive and unchanged until the call returns.
 * - Sizes and strides are bytes, tokens are counted from the first token of the view, positions from the first token
 *   of the sequence. "dim" is the number of channels of one kv-head. "Row" is one token of one layer's K or V.
 * - Deadlines are absolute CLOCK_MONOTONIC nanoseconds (skv_deadline_ms makes one). No call waits without one.
 * - Streams are CUDA streams (cudaStream_t) passed as void*; NULL on CPU.
 */
#ifndef SPECTRUMKV_H
#define SPECTRUMKV_H

#include <stddef.h>
#include <stdint.h>

#if defined(SKV_BUILDING) && defined(__GNUC__)
#define SKV_API __attribute__((visibility("default")))
#else
#define SKV_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------------------------------------- versions */

/* Library version (SemVer). */
#define SKV_VERSION_MAJOR 0
#define SKV_VERSION_MINOR 1
#define SKV_VERSION_PATCH 0
/* ABI version: the SONAME's number and the symbol version node. Require skv_abi_version() == SKV_ABI_VERSION. */
#define SKV_ABI_VERSION 0
/* Payload format written (docs/wire-format.md). A reader accepts its own major and any minor. */
#define SKV_WIRE_MAJOR 1
#define SKV_WIRE_MINOR 0

/* Library version as major * 10000 + minor * 100 + patch. Since 0.1. */
SKV_API uint32_t skv_version(void);
/* "0.1.0". Static storage. Since 0.1. */
SKV_API const char* skv_version_string(void);
/* SKV_ABI_VERSION of the loaded library. Since 0.1. */
SKV_API uint32_t skv_abi_version(void);
/* Payload format written, major * 256 + minor. Since 0.1. */
SKV_API uint32_t skv_wire_version(void);

/* --------------------------------------------------------------------------------------------------- errors */

/* 0 is success, negative is an error, 1 is "not finished". Values never change and are never reused. */
typedef int32_t skv_status;

#define SKV_OK 0
#define SKV_IN_PROGRESS 1 /* not an error: the request has not ended yet */

/* -10 .. arguments: the call was wrong, nothing was done */
#define SKV_E_ARGUMENT (-10) /* an argument makes no sense, or the handle is not of this kind */
#define SKV_E_NULL (-11)     /* a required pointer is NULL */
#define SKV_E_RANGE (-12)    /* an index, count or value is out of its range */
#define SKV_E_DTYPE (-13)    /* the element type is not supported here */
#define SKV_E_STRIDE (-14)   /* a stride is negative, too small, misaligned or leaves the plane */
#define SKV_E_OVERLAP (-15)  /* two elements of a view share memory */
#define SKV_E_BLOCK_ID (-16) /* a block id is negative, out of the plane, used twice, or there are too few of them */
#define SKV_E_KEY (-17)      /* no such option key, or no such name */
#define SKV_E_GEOMETRY (-18) /* heads or dims that the codec cannot express */
#define SKV_E_EMPTY (-19)    /* zero tokens, zero layers, or a layer or plane that was never set */
/* -20 .. state */
#define SKV_E_STATE (-20)  /* the handle is not in the state this call needs */
#define SKV_E_BUSY (-21)   /* the request is still live */
#define SKV_E_CLOSED (-22) /* the endpoint or conn was destroyed or shut down */
/* -30 .. resources */
#define SKV_E_NO_MEMORY (-30)
#define SKV_E_NO_RESOURCE (-31) /* threads, sockets, a cap of the endpoint */
#define SKV_E_UNAVAILABLE (-32) /* this build or machine lacks it (CUDA, NCCL, a plane) */
#define SKV_E_TOO_SMALL (-33)   /* the caller's buffer is too small */
#define SKV_E_IO (-34)          /* the operating system said no; native holds errno */
/* -40 .. budget and policy */
#define SKV_E_BUDGET (-40)    /* below the floor; the message names the floor */
#define SKV_E_PERMITTED (-41) /* the plan or payload needs something that was not permitted (e.g. dropped tokens) */
/* -50 .. malformed payload */
#define SKV_E_MALFORMED (-50) /* a field, map or size contradicts another */
#define SKV_E_TRUNCATED (-51) /* ends early */
#define SKV_E_TRAILING (-52)  /* bytes after the end */
/* -60 .. version */
#define SKV_E_VERSION (-60) /* another wire major */
#define SKV_E_FEATURE (-61) /* a flag, code or dtype this version does not know */
/* -70 .. identity */
#define SKV_E_MODEL (-70)   /* payload of another model (fingerprint differs) */
#define SKV_E_REQUEST (-71) /* payload of another request */
#define SKV_E_LAYOUT (-72)  /* other layers, heads, dims or tokens than the destination */
#define SKV_E_BASE (-73)    /* an upgrade or plan of another payload, or a cache that changed since its payload */
/* -80 .. integrity */
#define SKV_E_CHECKSUM (-80)
/* -90 .. values */
#define SKV_E_NON_FINITE (-90) /* Inf or NaN in a row that would be quantized */
#define SKV_E_OVERFLOW (-91)   /* a value too large for the quantizer's 16-bit scale */
/* -100, -110: devices */
#define SKV_E_CUDA (-100) /* native holds the CUDA error */
#define SKV_E_NCCL (-110)         /* native holds the NCCL result */
#define SKV_E_NCCL_VERSION (-111) /* the peer runs another version of NCCL, or one that is too old was found */
/* -120 .. transport */
#define SKV_E_TIMED_OUT (-120)
#define SKV_E_CANCELLED (-121)
#define SKV_E_PEER_LOST (-122)
#define SKV_E_REJECTED (-123) /* the receiver said no; its reason is in the message */
#define SKV_E_PROTOCOL (-124) /* the peer broke the protocol, or is no spectrumkv */
#define SKV_E_POISONED (-125) /* a device operation could not be ended; its buffers are lost on purpose */
#define SKV_E_ADDRESS (-126)  /* a URI that cannot be parsed, bound or reached */
#define SKV_E_AUTH (-127)     /* the peer is not who it must be, or says so of this end; or unusable keys or certificates */
/* -130 */
#define SKV_E_INTERNAL (-130) /* a defect of this library: please report it */

/* 256 bytes, frozen. native: errno, CUDA or NCCL code, else 0. message: UTF-8, NUL-terminated, got and wanted. */
typedef struct skv_error {
  int32_t status;
  int32_t native;
  char message[248];
} skv_error;

/* "SKV_E_BUDGET" etc.; "SKV_UNKNOWN" for a value this library does not define. Static storage. Since 0.1. */
SKV_API const char* skv_status_name(skv_status status);

/* ------------------------------------------------------------------------------------------------ constants */

#define SKV_ALL (-1) /* "every layer" where a layer index is taken and the comment allows it */

/* Which half of a layer. */
#define SKV_K 0
#define SKV_V 1

/* Element types (values are those of the wire). */
#define SKV_F16 1
#define SKV_BF16 2
#define SKV_F32 3

/* Tiers. n in 1..4 planes of 2 bits. DROP is planned only for callers that can mask a token. */
#define SKV_TIER_DROP 0
#define SKV_TIER_2BIT 1
#define SKV_TIER_4BIT 2
#define SKV_TIER_6BIT 3
#define SKV_TIER_8BIT 4
#define SKV_TIER_RAW 5

/* Transforms, a set of flags per layer and half. Hadamard runs over channels a stride of dim/n apart. */
#define SKV_TRANSFORM_NONE 0
#define SKV_TRANSFORM_MEAN 1       /* subtract each channel's mean over the chunk */
#define SKV_TRANSFORM_BALANCE 2    /* divide each channel by the normalised root of its range */
#define SKV_TRANSFORM_HADAMARD8 4  /* n = 8 */
#define SKV_TRANSFORM_HADAMARD16 8 /* n = 16; not together with HADAMARD8 */

/* Codes. */
#define SKV_CODE_EMBEDDED 0 /* four nested 2-bit planes of one 8-bit code (docs/wire-format.md) */
#define SKV_CODE_PAPER 1    /* arXiv 2606.08635: symmetric absmax/127 and absmax/7 per token and head */

/* Where a plan's scores came from. */
#define SKV_SCORED_NONE 0    /* none needed: the strategy ignores them */
#define SKV_SCORED_KV 1      /* keys and values only */
#define SKV_SCORED_QUERIES 2 /* the last queries */
#define SKV_SCORED_CALLER 3  /* the caller's weights */

/* Planes that carry bytes between peers. */
#define SKV_PLANE_NONE 0
#define SKV_PLANE_INPROC 1
#define SKV_PLANE_INLINE 2 /* data frames on the TCP or Unix stream */
#define SKV_PLANE_NCCL 3   /* GPU to GPU, control on the stream; libnccl.so.2 is loaded when asked for */
#define SKV_PLANE_UCX 4    /* UCX active messages, control on the stream; libucp.so.0 is loaded when asked for */

/* How the ends of a conn prove who they are. */
#define SKV_SECURITY_NONE 0    /* not at all; on Unix sockets the kernel vouches for the peer's user */
#define SKV_SECURITY_PSK 1     /* HMAC-SHA256 of the handshake with a shared key; bytes travel in the clear */
#define SKV_SECURITY_TLS 2     /* TLS 1.3, certificates of one authority at both ends */
#define SKV_SECURITY_TLS_PSK 3 /* TLS 1.3, a shared key at both ends */

#define SKV_FINGERPRINT_BYTES 32
#define SKV_REQUEST_ID_BYTES 16

typedef struct skv_engine skv_engine;
typedef struct skv_cache skv_cache;
typedef struct skv_scores skv_scores;
typedef struct skv_profile skv_profile;
typedef struct skv_needle_probe skv_needle_probe;
typedef struct skv_plan skv_plan;
typedef struct skv_payload skv_payload;
typedef struct skv_endpoint skv_endpoint;
typedef struct skv_conn skv_conn;
typedef struct skv_request skv_request;

/* --------------------------------------------------------------------------------------------------- engine */

#define SKV_DEVICE_CPU (-1) /* >= 0: CUDA device ordinal */

/* Engine options. */
#define SKV_ENGINE_THREADS 1 /* worker threads including the caller's, 1..256; 0 (default): one a core, at most 8 */
#define SKV_ENGINE_TARGET 2  /* pin the kernels: one of SKV_TARGET_*; default AUTO, or environment SPECTRUMKV_TARGET */
#define SKV_TARGET_AUTO 0
#define SKV_TARGET_SCALAR 1
#define SKV_TARGET_AVX2 2
#define SKV_TARGET_AVX512 3
#define SKV_TARGET_NEON 4

/* Creates an engine on a device. Threads are started on first use.
 * A CUDA engine (device >= 0) works on memory of its device: planes of caches, queries and payload buffers must be that
 * device's, managed or pinned (plain host memory: ARGUMENT; another device's: RANGE). Payload bytes equal the CPU's.
 * What it encodes lies in device memory; it decodes payloads in device or host memory. skv_encode*, skv_decode* are
 * ordered on the stream given (NULL: the legacy default stream) and wait for it once, at their end, for the verdict on
 * the values: after they return the result is complete. skv_score and skv_plan_solve work on the legacy default stream
 * and wait for it; what other streams write must have ended. Everything that runs on a device can fail with CUDA
 * (native: the CUDA error) or NO_MEMORY.
 * Errors: NULL, RANGE (device below -1), UNAVAILABLE (CUDA not built in, no driver, or no such device; the message says
 * which), NO_MEMORY, CUDA. Since 0.1. */
SKV_API skv_status skv_engine_create(int32_t device, skv_engine** out, skv_error* err);
/* Sets an option before or between calls. Errors: KEY, RANGE, UNAVAILABLE (target not on this CPU). Since 0.1. */
SKV_API skv_status skv_engine_set(skv_engine* engine, int32_t key, int64_t value, skv_error* err);
/* A caller's executor: run(user, width, task, arg) calls task(arg, i) for every i in [0, width), on any threads, its own
 * included, at once or one after the other, and returns when these calls have. It is called on the thread that called the
 * engine, several times a call, and must not use the engine (STATE; waiting for another thread that uses it has no end),
 * throw or jump. task never blocks, and must not be called after the engine's end. Tasks that were not called are done by
 * the calling thread; calls beyond that do nothing. */
typedef void (*skv_task)(void* arg, size_t index);
typedef void (*skv_executor)(void* user, size_t width, skv_task task, void* arg);
/* From now on the engine starts no threads of its own and gives its work to run, for at most `width` threads at a time
 * (1..256; 1 is the calling thread alone): for hosts with a pool, so that two pools do not fight over cores.
 * SKV_ENGINE_THREADS then reads width and cannot be set (STATE). run NULL: own threads again, the default number of them.
 * Payload bytes do not depend on it. Errors: NULL, RANGE (width). Since 0.1. */
SKV_API skv_status skv_engine_set_executor(skv_engine* engine, skv_executor run, void* user, int32_t width,
                                           skv_error* err);
/* Reads an option's value in force (TARGET: the one chosen). Errors: KEY, NULL. Since 0.1. */
SKV_API skv_status skv_engine_get(const skv_engine* engine, int32_t key, int64_t* out, skv_error* err);
/* Writes a NUL-terminated line such as "cpu avx512 2 threads" to buffer[capacity].
 * Errors: NULL, TOO_SMALL (128 is enough). Since 0.1. */
SKV_API skv_status skv_engine_describe(const skv_engine* engine, char* buffer, size_t capacity, skv_error* err);
SKV_API void skv_engine_destroy(skv_engine* engine);

/* ---------------------------------------------------------------------------------------------------- cache */

/* A view of KV memory that the caller owns and keeps valid while the view is used. Source for scoring and encoding,
 * destination for decoding. Build it with the setters below, in any order.
 * Address of element (token t, head h, channel c) of a plane, t counted from the layer's first token:
 *   base + block * stride_block + (t % block_tokens) * stride_token + h * stride_head + c * stride_elem,
 * block = block_ids[t / block_tokens] with a block table, else 0 (then block_tokens is the token count).
 * That covers token-major and head-major tensors, padded pages, fused K|V rows, transposed V, rings (a block table of
 * one-token blocks) and latent-only layers (v_dim 0). */

/* layers: 1..4096. Errors: NULL, RANGE, NO_MEMORY. Since 0.1. */
SKV_API skv_status skv_cache_create(int32_t layers, skv_cache** out, skv_error* err);
/* Token range of a layer (or SKV_ALL): first_position 0..2^62, tokens 1..2^28. Layers may differ (sliding window).
 * Errors: RANGE, EMPTY. Since 0.1. */
SKV_API skv_status skv_cache_set_tokens(skv_cache* cache, int32_t layer, int64_t first_position, int64_t tokens,
                                        skv_error* err);
/* Geometry of a layer (or SKV_ALL): kv_heads 1..1024; k_dim, v_dim multiples of 8 in 8..4096, v_dim may be 0 (no V);
 * dtype SKV_F16, SKV_BF16 or SKV_F32. Errors: RANGE, GEOMETRY, DTYPE. Since 0.1. */
SKV_API skv_status skv_cache_set_layer(skv_cache* cache, int32_t layer, int32_t kv_heads, int32_t k_dim, int32_t v_dim,
                                       int32_t dtype, skv_error* err);
/* This view's heads are heads first_head (0..65535) .. first_head + kv_heads - 1 of the layer (tensor parallel slices;
 * default 0). A destination may hold a subset of the payload's heads. Errors: RANGE. Since 0.1. */
SKV_API skv_status skv_cache_set_first_head(skv_cache* cache, int32_t layer, int32_t first_head, skv_error* err);
/* Group of a layer (default 0): layers that share cells or a block-table kind (vLLM KV-cache groups, llama.cpp's
 * full and sliding-window caches). 0..255. Travels with the payload. Errors: RANGE. Since 0.1. */
SKV_API skv_status skv_cache_set_group(skv_cache* cache, int32_t layer, int32_t group, skv_error* err);
/* Memory of a layer's K or V: base[bytes], strides in bytes as above, all >= 0, base and strides multiples of the
 * element size. stride_block is ignored without a block table. Checked as a whole by skv_cache_check and by every
 * call that uses the view. Errors: NULL, RANGE, STRIDE. Since 0.1. */
SKV_API skv_status skv_cache_set_plane(skv_cache* cache, int32_t layer, int32_t half, void* base, size_t bytes,
                                       int64_t stride_block, int64_t stride_token, int64_t stride_head,
                                       int64_t stride_elem, skv_error* err);
/* Block table of a layer (or SKV_ALL), copied. count * block_tokens must cover the tokens; block_tokens 1..65536.
 * Errors: NULL, RANGE, BLOCK_ID. Since 0.1. */
SKV_API skv_status skv_cache_set_blocks(skv_cache* cache, int32_t layer, const int32_t* block_ids, size_t count,
                                        int32_t block_tokens, skv_error* err);
/* What this cache belongs to: fingerprint[32] of the model (weights, tokenizer, RoPE: the caller's scheme) and
 * request_id[16]. Either may be NULL (all zero). A payload carries its source's identity; a destination accepts only
 * an equal fingerprint, and an equal request id unless its own is all zero. Errors: none but a bad handle. Since 0.1. */
SKV_API skv_status skv_cache_set_identity(skv_cache* cache, const uint8_t* fingerprint, const uint8_t* request_id,
                                          skv_error* err);
/* Cache options. */
#define SKV_CACHE_CAN_MASK 1 /* 1: the engine behind this cache masks dropped tokens; default 0 */
SKV_API skv_status skv_cache_set(skv_cache* cache, int32_t key, int64_t value, skv_error* err);
/* Checks the whole view: everything set, every element inside its plane, block ids valid and distinct, no two elements
 * sharing memory. Errors: EMPTY, STRIDE, BLOCK_ID, OVERLAP, RANGE. Since 0.1. */
SKV_API skv_status skv_cache_check(const skv_cache* cache, skv_error* err);
/* Bytes of the same elements at 16 bits each, whatever the dtype: what ratios and budget fractions refer to.
 * Errors: EMPTY. Since 0.1. */
SKV_API skv_status skv_cache_raw_bytes(const skv_cache* cache, uint64_t* out, skv_error* err);
SKV_API void skv_cache_destroy(skv_cache* cache);

/* A view of a llama.cpp sequence state (llama_state_seq_get_data). The blob is caller-owned and must outlive the view.
 * heads[layers]: kv-heads of each layer in blob order (full-attention cache first, then the sliding-window one). The
 * dims follow from the row sizes. Handles v_trans 0 and 1, F16/BF16/F32 and sliding-window pairs, cells in any order.
 * Errors: MALFORMED, TRUNCATED, TRAILING, FEATURE (quantized or unknown types, several sequences a cell),
 * GEOMETRY (heads do not divide a row), RANGE (other layer count), EMPTY. Since 0.1. */
SKV_API skv_status skv_cache_from_llama(const void* blob, size_t bytes, const int32_t* heads, int32_t layers,
                                        skv_cache** out, skv_error* err);
/* Bytes of the blob that holds a payload's cells for a llama.cpp context with this v_trans (0: flash attention on,
 * 1: off) and element type. Errors: DTYPE, LAYOUT (payload is not a llama.cpp shape). Since 0.1. */
SKV_API skv_status skv_llama_blob_bytes(const skv_payload* payload, int32_t v_trans, int32_t dtype, uint64_t* out,
                                        skv_error* err);
/* Frames blob[bytes] (all of it but the tensor elements) and returns a view whose decoding completes it; the result
 * is what llama_state_seq_set_data accepts. The blob must outlive the view. The view carries the payload's request id and
 * the fingerprint given (NULL: all zero). Errors: as above, TOO_SMALL. Since 0.1. */
SKV_API skv_status skv_cache_to_llama(const skv_payload* payload, int32_t v_trans, int32_t dtype,
                                      const uint8_t* fingerprint, void* blob, size_t bytes, skv_cache** out,
                                      skv_error* err);

/* --------------------------------------------------------------------------------------------------- scores */

/* How much an error in each token's K or V row costs. Three sources, the first given wins per (layer, half):
 * the caller's weights; the last queries (error-aware: squared attention x value spread x query norm); else keys and
 * values alone, of which one row in 32 is read and stands for its chunk. */

/* Errors: NULL, NO_MEMORY. Since 0.1. */
SKV_API skv_status skv_scores_create(skv_scores** out, skv_error* err);
/* The caller's weights for one half of a layer (or SKV_ALL): weights[tokens], finite and >= 0, copied. The cost of a
 * tier is weight x the row's mean squared error in that tier. Errors: NULL, RANGE, NON_FINITE. Since 0.1. */
SKV_API skv_status skv_scores_set_weights(skv_scores* scores, int32_t layer, int32_t half, const float* weights,
                                          size_t tokens, skv_error* err);
/* The queries (after RoPE) of the last `count` tokens of a layer, 1..4096: element (i, head h, channel c) at
 * base + i * stride_query + h * stride_head + c * stride_elem, all inside base[bytes]; heads is a multiple of the
 * layer's kv-heads (GQA: query head h reads kv-head h / (heads / kv_heads)). scale: the softmax scale, 0 for
 * 1/sqrt(k_dim). window: sliding-window length, 0 for none. The memory is read by skv_score only.
 * Errors: NULL, RANGE, DTYPE, STRIDE. Since 0.1. */
SKV_API skv_status skv_scores_set_queries(skv_scores* scores, int32_t layer, const void* base, size_t bytes,
                                          int32_t dtype, int32_t count, int32_t heads, int64_t stride_query,
                                          int64_t stride_head, int64_t stride_elem, float scale, int32_t window,
                                          skv_error* err);
/* Computes every weight that the caller did not give. Errors: those of skv_cache_check, GEOMETRY (queries do not fit
 * the cache), NON_FINITE (in a row that is read; encoding finds the others). Since 0.1. */
SKV_API skv_status skv_score(skv_engine* engine, const skv_cache* cache, skv_scores* scores, skv_error* err);
/* Copies the weights of one layer and half to out[tokens]. Errors: STATE (not scored yet), RANGE. Since 0.1. */
SKV_API skv_status skv_scores_get(const skv_scores* scores, int32_t layer, int32_t half, float* out, size_t tokens,
                                  skv_error* err);
SKV_API void skv_scores_destroy(skv_scores* scores);

/* -------------------------------------------------------------------------------------------------- profile */

/* What is known of one model: how much an error in each layer's K and V costs (multipliers that turn "weight x squared
 * error" into KL), and whether tiers below 8 bits are safe for it. Made once by probing, kept as JSON, bound to the model's
 * fingerprint and the codec's version (docs/profile.md). */

#define SKV_VERDICT_NONE 0
#define SKV_VERDICT_YES 1
#define SKV_VERDICT_NO 2
/* Probes. */
#define SKV_PROBE_LOGITS 0 /* attention logits of sampled keys under real queries */
#define SKV_PROBE_NEEDLE 1 /* the paper's needle prompts */

/* fingerprint[32] of the model, its layers (1..4096) as in its caches, and the SKV_CODE_* that verdicts are about.
 * Errors: NULL, RANGE. Since 0.1. */
SKV_API skv_status skv_profile_create(const uint8_t* fingerprint, int32_t layers, int32_t code, skv_profile** out,
                                      skv_error* err);
/* Reads JSON text[bytes]. Errors: NULL, MALFORMED, VERSION (another format or codec: probe again), CHECKSUM (edited or
 * damaged). Safe on untrusted bytes. Since 0.1. */
SKV_API skv_status skv_profile_open(const char* text, size_t bytes, skv_profile** out, skv_error* err);
/* Writes JSON to buffer[capacity] (not NUL-terminated); *bytes is its size, also when buffer is NULL (then nothing is
 * written). Errors: NULL, TOO_SMALL. Since 0.1. */
SKV_API skv_status skv_profile_save(const skv_profile* profile, char* buffer, size_t capacity, size_t* bytes,
                                    skv_error* err);
/* Adds a calibration trial: with only this layer's half at a low tier the model's mean KL was `kl` nats, where skv_plan_cost
 * of a plan with this profile and scores of this kind (SKV_SCORED_KV or _QUERIES) was `cost`. Trials of several texts add
 * up. The multipliers are used once every layer's K has a trial. Errors: RANGE, NON_FINITE. Since 0.1. */
SKV_API skv_status skv_profile_calibrate(skv_profile* profile, int32_t layer, int32_t half, int32_t scored, double cost,
                                         double kl, skv_error* err);
/* Records what a probe said (SKV_VERDICT_*) after so many trials. Errors: RANGE. Since 0.1. */
SKV_API skv_status skv_profile_set_verdict(skv_profile* profile, int32_t probe, int32_t verdict, int32_t passed,
                                           int32_t trials, skv_error* err);
/* What a probe said; probe SKV_ALL: the word that counts (NO if any said so, else YES if any did). passed and trials may
 * be NULL. Errors: RANGE. Since 0.1. */
SKV_API skv_status skv_profile_get_verdict(const skv_profile* profile, int32_t probe, int32_t* verdict, int32_t* passed,
                                           int32_t* trials, skv_error* err);
SKV_API void skv_profile_destroy(skv_profile* profile);

/* The paper's probe: SKV_NEEDLE_TRIALS prompts of about `words` words (64..1000000) with a number hidden in filler text and
 * asked for at their end. The caller's engine evaluates each prompt, moves the cache through this library at the budget to
 * be proven (the paper: 0.3), lets the model continue for a dozen tokens and hands the text back. Two of three must hold the
 * number. Errors: NULL, RANGE. Since 0.1. */
#define SKV_NEEDLE_TRIALS 3
SKV_API skv_status skv_needle_probe_create(uint32_t words, skv_needle_probe** out, skv_error* err);
/* A trial's prompt as UTF-8, NUL-terminated, owned by the probe. Errors: RANGE. Since 0.1. */
SKV_API skv_status skv_needle_probe_prompt(const skv_needle_probe* probe, int32_t trial, const char** out, skv_error* err);
/* The model's answer text[bytes]; *found is 1 when it holds the number. Errors: NULL, RANGE, STATE (already answered).
 * Since 0.1. */
SKV_API skv_status skv_needle_probe_answer(skv_needle_probe* probe, int32_t trial, const char* text, size_t bytes,
                                           int32_t* found, skv_error* err);
/* Records the verdict in a profile. Errors: STATE (an answer is missing). Since 0.1. */
SKV_API skv_status skv_needle_probe_verdict(const skv_needle_probe* probe, skv_profile* profile, skv_error* err);
SKV_API void skv_needle_probe_destroy(skv_needle_probe* probe);

/* ----------------------------------------------------------------------------------------------------- plan */

/* Plan options; set before skv_plan_solve. */
#define SKV_PLAN_SINKS 1        /* leading tokens (of the sequence) kept RAW; default 4, with queries 1 */
#define SKV_PLAN_CHUNK 2        /* tokens that share means and balances, 32..256 in steps of 32; default 256 */
#define SKV_PLAN_K_TRANSFORMS 3 /* default MEAN|BALANCE|HADAMARD8 (HADAMARD16 when k_dim >= 256) */
#define SKV_PLAN_V_TRANSFORMS 4 /* default HADAMARD8 (HADAMARD16 when v_dim >= 256) */
#define SKV_PLAN_CODE 5         /* SKV_CODE_*; default EMBEDDED */
#define SKV_PLAN_K_TIERS 6      /* bit set of 1 << tier the plan may use; default {4,6,8,RAW} */
#define SKV_PLAN_V_TIERS 7      /* default {2,4,6,8,RAW} */
#define SKV_PLAN_RAW_DTYPE 8    /* how RAW rows of an F32 cache are sent: SKV_F32 (default), SKV_F16 or SKV_BF16 */
#define SKV_PLAN_UNPROVEN 9     /* 1: tiers below 8 bits without a verdict, see skv_plan_solve; default 0 */
#define SKV_PLAN_PACK 10        /* SKV_PACK_*: skv_encode packs (skv_payload_pack); "error-aware" then spends what that saves,
                                   and the budget counts packed bytes. Such plans are encoded whole. Default NEVER */
#define SKV_PLAN_LINK_MBPS 11   /* expected link speed in Mb/s (a receipt's link_bits_per_s / 1e6), for PACK AUTO; default 0:
                                   unknown */
#define SKV_PACK_NEVER 0  /* payloads are not packed */
#define SKV_PACK_ALWAYS 1 /* payloads are packed */
#define SKV_PACK_AUTO 2   /* if packing and unpacking take less time than the bytes saved on the link */
#define SKV_PLAN_LATE_TIER 12   /* how low layers of skv_send_layers may be cut that would miss the deadline: SKV_TIER_6BIT
                                   or _4BIT; 0 (default): never. Set at any time */

/* Creates a plan for an engine's device with default options and the "error-aware" strategy.
 * Errors: NULL, NO_MEMORY. Since 0.1. */
SKV_API skv_status skv_plan_create(skv_engine* engine, skv_plan** out, skv_error* err);
/* Errors: KEY, RANGE. Since 0.1. */
SKV_API skv_status skv_plan_set(skv_plan* plan, int32_t key, int64_t value, skv_error* err);
/* The budget as a fraction of skv_cache_raw_bytes, > 0. Headers, maps, scales, channel vectors and digests count.
 * Errors: RANGE. Since 0.1. */
SKV_API skv_status skv_plan_set_budget(skv_plan* plan, double fraction, skv_error* err);
/* The budget in bytes, > 0. Errors: RANGE. Since 0.1. */
SKV_API skv_status skv_plan_set_budget_bytes(skv_plan* plan, uint64_t bytes, skv_error* err);
/* The strategy by name. Errors: NULL, KEY. Since 0.1.
 *   "error-aware"  minimise weight x squared error under the byte budget with one Lagrange multiplier (default)
 *   "raw"          every row RAW; the budget is not used; lossless
 *   "uniform-2" | "uniform-4" | "uniform-6" | "uniform-8"   one tier for all but the sinks; the budget is not used
 * The policies of arXiv 2606.08635 and its baselines: one tier a token for all layers and both halves, from one importance
 * a token; the paper's code without transforms unless CODE and the TRANSFORMS options say otherwise. Each takes the largest
 * nominal budget whose payload fits the byte budget:
 *   "greedy"       INT4, the most important INT8, then FP16 (f8 = 4b - 1; f16 = 2b - 1)
 *   "sink-protect" the same with the sinks at FP16
 *   "balanced"     FP16 : INT8 : INT4 as 1 : 2 : 2 while possible
 *   "random"       greedy over a fixed scattering of the tokens
 *   "adaptive"     FP16 and INT8 only; below b = 0.5 tokens are dropped (the cache must be able to mask them)
 *   "pdtrim"       the sinks and the most recent tokens at FP16, the rest dropped; "pdtrim:first=SHARE", 0..1: that share of
 *                  what is kept from the beginning
 *   "sws"          the sinks and the most important tokens at FP16, the rest dropped
 * ":IMPORTANCE" may follow all but random and pdtrim: "position" (default: sinks, exponential decay after them, the last
 * fifth raised), "recency", "value-aware", "key-norm", "attention" (of the queries in the scores). ":decay=RATE", 0..1, may
 * follow all of these but "recency": after the sinks exp(-RATE) a token, 0.01 by position and none otherwise; as in
 * "sws:attention:decay=0.005". */
SKV_API skv_status skv_plan_set_strategy(skv_plan* plan, const char* name, skv_error* err);
/* What is known of the model: multipliers for the costs and the verdict on low tiers (see skv_profile_create). Copied.
 * NULL: none (default). Since 0.1. */
SKV_API skv_status skv_plan_set_profile(skv_plan* plan, const skv_profile* profile, skv_error* err);
/* Chooses a tier for every row of the cache. scores may be NULL (keys and values only are scored here when the
 * strategy needs it). Never exceeds the budget.
 * Tiers below 8 bits need a verdict: the profile's; else, with queries in the scores, that of a logit probe on this very
 * cache (a chunk of each layer's keys at 4 bits under the real queries; layers it harms get 8-bit keys); else
 * SKV_PLAN_UNPROVEN 1. On a no, "error-aware" does without them and other strategies fail.
 * Errors: those of skv_cache_check and skv_score, BUDGET (names the floor), STATE (no budget set, or no queries for
 * importance by attention), GEOMETRY (a transform does not divide the dim), LAYOUT (scores or profile of another shape),
 * MODEL (profile of another model), PERMITTED (no verdict, or a no; or the strategy drops tokens and the cache cannot mask
 * them). Since 0.1. */
SKV_API skv_status skv_plan_solve(skv_plan* plan, const skv_cache* cache, const skv_scores* scores, skv_error* err);
/* Exact payload bytes of the solved plan. Errors: STATE. Since 0.1. */
SKV_API skv_status skv_plan_bytes(const skv_plan* plan, uint64_t* out, skv_error* err);
/* Copies the tiers of a layer's K or V to out[tokens]. Errors: STATE, RANGE. Since 0.1. */
SKV_API skv_status skv_plan_get_tiers(const skv_plan* plan, int32_t layer, int32_t half, uint8_t* out, size_t tokens,
                                      skv_error* err);
/* Sum of weight x squared error over a layer's K or V rows under the plan's present tiers: what "error-aware" minimises. In
 * nats of KL with a calibrated profile. Errors: STATE (not solved, or another strategy), RANGE. Since 0.1. */
SKV_API skv_status skv_plan_cost(const skv_plan* plan, int32_t layer, int32_t half, double* out, skv_error* err);
/* Replaces the tiers of a layer's K or V of a solved plan (the byte count follows; the budget is not checked).
 * Errors: STATE, RANGE, PERMITTED (DROP for a cache that cannot mask). Since 0.1. */
SKV_API skv_status skv_plan_set_tiers(skv_plan* plan, int32_t layer, int32_t half, const uint8_t* tiers, size_t tokens,
                                      skv_error* err);
SKV_API void skv_plan_destroy(skv_plan* plan);

/* -------------------------------------------------------------------------------------------------- payload */

/* Encodes the whole cache into a new payload that owns its bytes. The cache must have the geometry, tokens and
 * identity that the plan was solved for. On any error no payload is made.
 * Errors: those of skv_cache_check, STATE (plan not solved), LAYOUT, NON_FINITE, OVERFLOW, NO_MEMORY. Since 0.1. */
SKV_API skv_status skv_encode(skv_engine* engine, const skv_cache* cache, const skv_plan* plan, void* stream,
                              skv_payload** out, skv_error* err);
/* The same into caller-owned memory of skv_plan_bytes(plan) bytes, 16-byte aligned, which must outlive the payload.
 * Errors: as above, TOO_SMALL, ARGUMENT (alignment). Since 0.1. */
SKV_API skv_status skv_encode_into(skv_engine* engine, const skv_cache* cache, const skv_plan* plan, void* stream,
                                   void* buffer, size_t bytes, skv_payload** out, skv_error* err);
/* Layer-wise: an empty payload for the plan (buffer NULL: owned by the payload), to be filled one layer at a time.
 * The payload can be read once every layer is in. Errors: as skv_encode_into. Since 0.1. */
SKV_API skv_status skv_payload_create(const skv_cache* cache, const skv_plan* plan, void* buffer, size_t bytes,
                                      skv_payload** out, skv_error* err);
/* Encodes one layer into its place. On error that layer's place is left zero and may be encoded again.
 * Errors: as skv_encode, STATE (layer already encoded, or not a payload under construction). Since 0.1. */
SKV_API skv_status skv_encode_layer(skv_engine* engine, const skv_cache* cache, const skv_plan* plan, int32_t layer,
                                    void* stream, skv_payload* payload, skv_error* err);

/* The same payload packed: an entropy coder (zstd) takes without loss what the tiers left, 6-16 % on real caches, most at low
 * budgets, and of RAW rows 15 % (f16) to 32 % (bf16), which is what lossless transfer can save; for links slow enough, see
 * SKV_PLAN_PACK. A packed payload is sent, stored, opened and decoded like any other; its bytes are the packed ones, and
 * its receipt counts them. Result in host memory.
 * Errors: STATE (layers missing, or packed already). Since 0.1. */
SKV_API skv_status skv_payload_pack(skv_engine* engine, skv_payload* payload, skv_payload** out, skv_error* err);
/* Opens bytes as a payload: checks the header's digest, every length, map and field of every segment. The bytes are
 * not copied; they must outlive the payload and not change. Segment digests are checked before a segment is decoded,
 * or all at once by skv_payload_verify. Safe on untrusted bytes.
 * Errors: NULL, TRUNCATED, TRAILING, MALFORMED, VERSION, FEATURE, CHECKSUM (of the header). Since 0.1. */
SKV_API skv_status skv_payload_open(const void* bytes, size_t size, skv_payload** out, skv_error* err);
/* The same for bytes in the memory of a CUDA engine's device, 16-byte aligned and complete (the call does not wait for
 * streams that still write them): headers, maps and channel vectors are copied to the host and checked there, rows stay.
 * skv_decode on that engine verifies segments on the device, in the same pass. On a CPU engine as skv_payload_open.
 * Errors: as skv_payload_open, ARGUMENT (alignment, host memory), RANGE (another device), CUDA. Since 0.1. */
SKV_API skv_status skv_payload_open_on(skv_engine* engine, const void* bytes, size_t size, skv_payload** out,
                                       skv_error* err);
/* Checks every segment's digest. Errors: CHECKSUM, STATE (under construction). Since 0.1. */
SKV_API skv_status skv_payload_verify(skv_payload* payload, skv_error* err);
/* The payload's bytes where they are, valid while it lives: an address of the device for a payload that a CUDA engine
 * encoded (SKV_PAYLOAD_DEVICE tells), which the host must not read. Errors: STATE (layers missing). Since 0.1. */
SKV_API skv_status skv_payload_data(const skv_payload* payload, const void** data, size_t* size, skv_error* err);
/* Copies the payload's bytes to host memory of at least SKV_PAYLOAD_BYTES bytes, wherever they are; waits for the copy.
 * Errors: TOO_SMALL, STATE (layers missing), CUDA. Since 0.1. */
SKV_API skv_status skv_payload_copy(const skv_payload* payload, void* buffer, size_t bytes, skv_error* err);
/* fingerprint[32] and request_id[16], either may be NULL. Since 0.1. */
SKV_API skv_status skv_payload_identity(const skv_payload* payload, uint8_t* fingerprint, uint8_t* request_id,
                                        skv_error* err);

/* Facts about a payload (layer = SKV_ALL) or one of its segments. */
#define SKV_PAYLOAD_BYTES 1     /* of the payload, or of the segment; in bytes */
#define SKV_PAYLOAD_LAYERS 2    /* payload only */
#define SKV_PAYLOAD_RAW_BYTES 3 /* at 16 bits an element */
#define SKV_PAYLOAD_WIRE 4      /* payload only: major * 256 + minor */
#define SKV_PAYLOAD_TOKENS 5    /* segment, or the most tokens of any segment */
#define SKV_PAYLOAD_POSITION 6  /* segment only, as all below: first position */
#define SKV_PAYLOAD_HEADS 7
#define SKV_PAYLOAD_K_DIM 8
#define SKV_PAYLOAD_V_DIM 9
#define SKV_PAYLOAD_DTYPE 10
#define SKV_PAYLOAD_RAW_DTYPE 11
#define SKV_PAYLOAD_CHUNK 12
#define SKV_PAYLOAD_CODE 13
#define SKV_PAYLOAD_K_TRANSFORMS 14
#define SKV_PAYLOAD_V_TRANSFORMS 15
#define SKV_PAYLOAD_GROUP 16
#define SKV_PAYLOAD_FIRST_HEAD 17
#define SKV_PAYLOAD_OFFSET 18 /* of the segment, from the payload's first byte */
#define SKV_PAYLOAD_CUT 21    /* segment: SKV_TIER_* it was cut to because it would have been late, 0: it was not */
#define SKV_PAYLOAD_DEVICE 19 /* payload only: CUDA ordinal of the memory that holds it, -1 (SKV_DEVICE_CPU): host */
#define SKV_PAYLOAD_UPGRADE 20 /* payload only: 1 for an upgrade, which skv_payload_apply takes and nothing decodes */
/* Errors: KEY, RANGE, NULL. Since 0.1. */
SKV_API skv_status skv_payload_get(const skv_payload* payload, int32_t layer, int32_t key, int64_t* out,
                                   skv_error* err);
/* Copies the tiers of a segment's K or V to out[tokens]. Errors: RANGE. Since 0.1. */
SKV_API skv_status skv_payload_get_tiers(const skv_payload* payload, int32_t layer, int32_t half, uint8_t* out,
                                         size_t tokens, skv_error* err);

/* Decodes every layer into the destination, whose layout, block size, dtype and head range may differ from the
 * source's. Every segment's digest, the identity, the geometry and the view are checked before the first byte is
 * written; on any error the destination is untouched. Payload layer i goes to cache layer i.
 * Errors: those of skv_cache_check, MODEL, REQUEST, LAYOUT, CHECKSUM, PERMITTED (dropped tokens and the cache cannot
 * mask), STATE, MALFORMED (scales or channel vectors that are not finite). Since 0.1. */
SKV_API skv_status skv_decode(skv_engine* engine, skv_payload* payload, const skv_cache* cache, void* stream,
                              skv_error* err);
/* The same for one layer. Since 0.1. */
SKV_API skv_status skv_decode_layer(skv_engine* engine, skv_payload* payload, const skv_cache* cache, int32_t layer,
                                    void* stream, skv_error* err);
SKV_API void skv_payload_destroy(skv_payload* payload);

/* ----------------------------------------------------------------------------------------------- precision */

/* Precision that follows, and precision that is given up: 8-bit rows are four nested planes of 2 bits, so that more of
 * them can be sent later and the last ones left out, without encoding again. Prefill side:
 *
 *   skv_plan_create(engine, &more, err);
 *   skv_plan_set_budget(more, 0.10, err);                      // for the upgrade, of the 16-bit size
 *   skv_plan_upgrade(more, base, cache, scores, err);          // base: the payload that was sent
 *   skv_encode_upgrade(engine, cache, base, more, &upgrade, err);
 *   skv_send(conn, key, upgrade, deadline, &request, err);     // like any payload
 * and decode side:
 *   skv_payload_apply(base, upgrade, &better, err);            // base: the payload that came first
 *   skv_decode(engine, better, cache, NULL, err);
 *
 * The result is what encoding at its tiers gives, byte for byte, as long as the same rows are quantized. Rows that an
 * upgrade makes RAW, and dropped ones that it sends after all, leave the means and balances as the base has them. */

/* Solves a plan for raising rows of a payload of this cache: every row gets its tier there or a higher one. The
 * budget is that of the upgrade's bytes, everything counted; "error-aware" spends it where an error costs most, leaving
 * dropped rows out. Without a budget no row is raised, to be followed by skv_plan_set_tiers (nothing below the
 * payload's tier). Strategies "raw" and "uniform-N" raise every row there is to that tier. Code, transforms, chunk and RAW
 * dtype are the base's; scores as in skv_plan_solve; no verdict is asked for. skv_plan_bytes is then the upgrade's
 * size, and skv_encode_upgrade the only use of the plan. Works on host copies of a base in device memory.
 * Errors: those of skv_cache_check and skv_score, BUDGET (below the empty upgrade), ARGUMENT (another strategy),
 * STATE (base incomplete, or itself an upgrade), LAYOUT, MODEL, REQUEST (the payload is not this cache's), PERMITTED
 * (the paper's code, whose 4-bit rows cannot become 8-bit ones), CHECKSUM. Since 0.1. */
SKV_API skv_status skv_plan_upgrade(skv_plan* plan, skv_payload* base, const skv_cache* cache, const skv_scores* scores,
                                    skv_error* err);
/* Encodes what the plan adds to the base: a payload of the raised rows' new planes, without their scales, which the base
 * has. The cache must still hold what the base was encoded from: each raised row is compared with the base's, in the bits it has.
 * A CUDA engine copies layers to the host, where the work is done (what streams write must have ended); the upgrade lies in
 * host memory. Errors: those of skv_cache_check, STATE (plan not solved by skv_plan_upgrade), BASE (solved for another
 * payload; or a row of the cache changed, which the message names), LAYOUT, MODEL, REQUEST, NON_FINITE, OVERFLOW,
 * CHECKSUM, NO_MEMORY, CUDA. Since 0.1. */
SKV_API skv_status skv_encode_upgrade(skv_engine* engine, const skv_cache* cache, skv_payload* base,
                                      const skv_plan* plan, skv_payload** out, skv_error* err);
/* Joins a payload and an upgrade of it into a new payload in host memory, which may be upgraded again; both stay as
 * they are. Verifies both first. Safe on untrusted bytes.
 * Errors: BASE (upgrade of another payload), MODEL, REQUEST, STATE (incomplete, or not a payload and an upgrade),
 * CHECKSUM, MALFORMED, NO_MEMORY. Since 0.1. */
SKV_API skv_status skv_payload_apply(skv_payload* base, skv_payload* upgrade, skv_payload** out, skv_error* err);
/* Solves a plan for cutting a payload's rows, without its cache: to the plan's permitted tiers (K_TIERS, V_TIERS; keys
 * never below 4 bits), and, if it has a budget, to that as the whole payload's, least costly planes first. scores (NULL: by
 * recency): scored weights for a cache of this shape; the errors are those of the payload's scales. Strategies "uniform-N"
 * cut every row above that tier to it. RAW and dropped rows stay what they are. Going below 8 bits needs a verdict: the
 * profile's, else the payload's own rows below 8 bits for the half of the layer they are in, else SKV_PLAN_UNPROVEN 1;
 * "error-aware" does without where there is none. skv_plan_bytes is the resulting payload's size; tiers may be
 * replaced by skv_plan_set_tiers.
 * Errors: BUDGET (names the floor), ARGUMENT (another strategy), PERMITTED (no verdict; the paper's code, whose tiers are
 * not nested), STATE, LAYOUT (scores), MODEL (profile), CHECKSUM. Since 0.1. */
SKV_API skv_status skv_plan_truncate(skv_plan* plan, skv_payload* payload, const skv_scores* scores, skv_error* err);
/* The payload at the tiers of a plan solved by skv_plan_truncate for it: a new payload in host memory.
 * Errors: STATE, BASE (solved for another payload), CHECKSUM, NO_MEMORY. Since 0.1. */
SKV_API skv_status skv_payload_truncate(skv_payload* payload, const skv_plan* plan, skv_payload** out, skv_error* err);

/* What was done. Fields are only ever appended: set struct_size = sizeof(skv_receipt) before the call; the library
 * fills what fits. Times are 0 where the step did not happen in this process. */
typedef struct skv_receipt {
  uint32_t struct_size;
  int32_t scored;               /* SKV_SCORED_* the plan was made with */
  uint64_t raw_bytes;           /* at 16 bits an element */
  uint64_t budget_bytes;        /* asked for; 0 when the strategy takes none */
  uint64_t payload_bytes;       /* achieved, everything counted */
  double ratio;                 /* payload_bytes / raw_bytes */
  uint64_t k_rows[8];           /* K rows (tokens x layers) by tier */
  uint64_t v_rows[8];           /* V rows by tier */
  uint64_t score_ns;            /* scoring */
  uint64_t plan_ns;             /* allocation */
  uint64_t encode_ns;           /* encoding */
  uint64_t decode_ns;           /* decoding */
  uint64_t wire_ns;             /* offer accepted -> DONE, of the request that moved the payload */
  int32_t plane;                /* SKV_PLANE_* that moved it */
  int32_t code;                 /* SKV_CODE_* */
  double break_even_bits_per_s; /* link speed above which raw is faster: 8 x saved bytes / (encode + decode time);
                                   with only one of the two times known, that one; 0 when unknown */
  int32_t int4;                 /* SKV_VERDICT_* on tiers below 8 bits, of the probe or profile that was asked */
  int32_t proof;                /* SKV_PROOF_*: who allowed them */
  double predicted_kl;          /* nats, with a calibrated profile; else 0 */
  double worst_snr_db;          /* logit probe: the worst head's signal-to-noise ratio at 4 bits; 0 when not probed */
  int32_t worst_layer;          /* ... and where; -1 when not probed */
  int32_t worst_head;
  uint32_t escalated_layers;    /* layers whose keys the probe raised to 8 bits */
  int32_t raw_is_faster;        /* the link measured was faster than break-even: 1 yes, 0 no, -1 unknown */
  uint64_t dropped_rows;        /* K and V rows not sent */
  double k_mass[8];             /* attention of the queries on tokens, by tier of their K row; sums to 1; 0 without queries */
  double v_mass[8];             /* the same by tier of their V row */
  double link_bits_per_s;       /* payload bits / wire_ns; 0 when not sent here */
  uint64_t unpacked_bytes;      /* of the payload before it was packed (payload_bytes is what is sent); 0: not packed */
  uint32_t cut_layers;          /* layers cut because they would have been late (SKV_PAYLOAD_CUT says to what) */
  uint32_t reserved;            /* 0 */
} skv_receipt;
/* Who allowed tiers below 8 bits. */
#define SKV_PROOF_NONE 0    /* none used */
#define SKV_PROOF_CALLER 1  /* SKV_PLAN_UNPROVEN */
#define SKV_PROOF_PROFILE 2 /* the profile */
#define SKV_PROOF_LOGITS 3  /* the logit probe on this cache */
/* Errors: NULL, ARGUMENT (struct_size), STATE. Since 0.1. */
SKV_API skv_status skv_payload_receipt(const skv_payload* payload, skv_receipt* out, skv_error* err);

/* ------------------------------------------------------------------------------------------------ transport */

/* Moves payloads between processes. URIs: inproc://NAME (same process), unix:///PATH or unix://@NAME (abstract),
 * tcp://HOST:PORT (port 0: any; numeric hosts or names). A transfer ends in exactly one terminal status:
 * SKV_OK, CANCELLED, TIMED_OUT, PEER_LOST, REJECTED, PROTOCOL, CHECKSUM, NO_RESOURCE, UNAVAILABLE or POISONED; after
 * it neither the library nor a device touches the buffers. Received bytes become visible only after their digests
 * verified. There is no hidden retry. */

/* CLOCK_MONOTONIC now, in nanoseconds. Since 0.1. */
SKV_API uint64_t skv_now_ns(void);
/* now + milliseconds, saturating. Since 0.1. */
SKV_API uint64_t skv_deadline_ms(uint64_t milliseconds);

/* Endpoint options; set before the first skv_listen or skv_connect. */
#define SKV_ENDPOINT_PROGRESS_THREAD 1 /* 1 (default): own thread; 0: the caller drives skv_endpoint_progress */
#define SKV_ENDPOINT_MAX_PAYLOAD 2     /* bytes; larger offers are rejected; default 8 GiB */
#define SKV_ENDPOINT_MAX_CONNS 3       /* default 1024 */
#define SKV_ENDPOINT_HANDSHAKE_MS 4    /* default 5000 */
#define SKV_ENDPOINT_HEARTBEAT_MS 5    /* PING interval; a peer silent for three of them is lost; default 1000 */
#define SKV_ENDPOINT_CHUNK 6           /* bytes of a DATA frame, 4 KiB..1 MiB; default 256 KiB */
#define SKV_ENDPOINT_ALLOW_OPEN_TCP 7  /* 1: permit listening on a non-loopback address although no security is set;
                                          default 0 */
#define SKV_ENDPOINT_TRANSFER_CREDIT 8 /* bytes a sender may have under way in a transfer, from 64 KiB; default 32 MiB */
#define SKV_ENDPOINT_CREDIT 9          /* the same for all transfers to this endpoint together, from 1 MiB; default
                                          256 MiB */
#define SKV_ENDPOINT_PEER_UID 10       /* user id that Unix peers may have besides this process's own and root; -1
                                          (default): none */
#define SKV_ENDPOINT_MAX_HANDSHAKES 11 /* peers that came and are not through their handshake yet, 1..65536; default 128 */
#define SKV_ENDPOINT_HANDSHAKE_RATE 12 /* peers a second that may begin a handshake, 1..1000000; default 1000 */
#define SKV_ENDPOINT_EVENTS 13         /* records kept for skv_endpoint_events, 0..65536; default 1024 */
#define SKV_ENDPOINT_PLANES 14         /* what conns may move payloads on: a set of 1 << SKV_PLANE_*. INLINE stands for
                                          the control stream's own (INPROC on inproc conns). Two ends take the first of
                                          NCCL, UCX, INLINE that both have (SKV_CONN_PLANE tells) and stay with it; with
                                          none in common they refuse each other with UNAVAILABLE. One plane alone forces
                                          it. Libraries are loaded by the first skv_listen or skv_connect, which fails
                                          with UNAVAILABLE if one cannot be. Default 1 << SKV_PLANE_INLINE */
#define SKV_ENDPOINT_DEVICE 15         /* plane NCCL: the CUDA device that payloads are in and go to; default 0 */
#define SKV_ENDPOINT_ABORT_MS 16       /* plane NCCL: what ending an operation may take before its request ends in POISONED;
                                          default 5000 */
/* Errors: NULL, NO_MEMORY, NO_RESOURCE. Since 0.1. */
SKV_API skv_status skv_endpoint_create(skv_endpoint** out, skv_error* err);
/* Errors: KEY, RANGE, STATE (already listening or connected). Since 0.1. */
SKV_API skv_status skv_endpoint_set(skv_endpoint* endpoint, int32_t key, int64_t value, skv_error* err);
/* The model this end serves (fingerprint[32], copied). Two ends whose fingerprints differ refuse each other in the
 * handshake with SKV_E_MODEL; all zero (default) matches only all zero. Errors: NULL, STATE. Since 0.1. */
SKV_API skv_status skv_endpoint_set_model(skv_endpoint* endpoint, const uint8_t* fingerprint, skv_error* err);
/* A shared key for every TCP and Unix conn of this endpoint (not inproc): bytes 16..1024, random, copied, wiped at the end.
 * security SKV_SECURITY_PSK: both ends prove the key over fresh nonces, nothing is encrypted. SKV_SECURITY_TLS_PSK: TCP
 * conns are TLS 1.3 with this key; Unix ones prove it as with PSK. Ends of different security refuse each other with AUTH.
 * Errors: NULL, RANGE, STATE. Since 0.1. */
SKV_API skv_status skv_endpoint_set_psk(skv_endpoint* endpoint, int32_t security, const uint8_t* key, size_t bytes,
                                        skv_error* err);
/* Certificates for the TCP conns of this endpoint, as PEM files that are read now: this end's chain and key, and the
 * authority that must have signed the peer's. peer_name: the name or address the peer's certificate must be for; NULL: when
 * connecting the host of the URI, when accepting any certificate of the authority. Both ends need one.
 * Errors: NULL, STATE, AUTH (names the file that cannot be used). Since 0.1. */
SKV_API skv_status skv_endpoint_set_tls(skv_endpoint* endpoint, const char* certificate, const char* key,
                                        const char* authority, const char* peer_name, skv_error* err);
/* The library that a plane of this endpoint loads (path, copied) in the place of the one it would look for: of NCCL
 * libnccl.so.2, of UCX libucp.so.0. Errors: NULL, RANGE (a plane without a library), STATE. Since 0.1. */
SKV_API skv_status skv_endpoint_set_library(skv_endpoint* endpoint, int32_t plane, const char* path, skv_error* err);
/* Starts listening. The URI with the real port is written to bound[capacity] when bound is not NULL.
 * Errors: ADDRESS, PERMITTED (non-loopback TCP without security, see ALLOW_OPEN_TCP; plane UCX with TLS), TOO_SMALL, IO, UNAVAILABLE (a plane
 * of PLANES). Since 0.1. */
SKV_API skv_status skv_listen(skv_endpoint* endpoint, const char* uri, char* bound, size_t capacity, skv_error* err);
/* Waits for the next peer that finished its handshake. Errors: TIMED_OUT, CLOSED, STATE (not listening). Since 0.1. */
SKV_API skv_status skv_accept(skv_endpoint* endpoint, uint64_t deadline, skv_conn** out, skv_error* err);
/* Connects and shakes hands.
 * Errors: ADDRESS, TIMED_OUT, PEER_LOST, PROTOCOL, VERSION, MODEL, AUTH, NO_RESOURCE, UNAVAILABLE (a plane of PLANES, or
 * none in common), PERMITTED (plane UCX with TLS: its bytes would travel in the clear). Since 0.1. */
SKV_API skv_status skv_connect(skv_endpoint* endpoint, const char* uri, uint64_t deadline, skv_conn** out,
                               skv_error* err);
/* A file descriptor that becomes readable when skv_endpoint_progress has work (PROGRESS_THREAD 0 only), or when
 * skv_endpoint_poll has something. Owned by the endpoint. Since 0.1. */
SKV_API skv_status skv_endpoint_fd(skv_endpoint* endpoint, int32_t* out, skv_error* err);
/* Runs I/O until the deadline or until something completed (PROGRESS_THREAD 0 only). SKV_IN_PROGRESS when nothing
 * completed. Errors: STATE. Since 0.1. */
SKV_API skv_status skv_endpoint_progress(skv_endpoint* endpoint, uint64_t deadline, skv_error* err);
/* Says goodbye to every peer and stops listening: no new offers either way, offers that the caller has not seen are
 * declined with UNAVAILABLE, what is under way goes on. SKV_OK once every transfer has ended, SKV_IN_PROGRESS when the
 * deadline passed first. Conns stay open until destroyed. Errors: CLOSED. Since 0.1. */
SKV_API skv_status skv_endpoint_drain(skv_endpoint* endpoint, uint64_t deadline, skv_error* err);
/* Takes up to capacity requests that reached a terminal status, or have an offer to decide on, since they were last
 * reported. *count is what was written; never waits. Since 0.1. */
SKV_API skv_status skv_endpoint_poll(skv_endpoint* endpoint, skv_request** out, size_t capacity, size_t* count,
                                     skv_error* err);
/* Counters and histograms. Append-only struct, see skv_receipt. Bin i of a histogram counts 2^i <= value < 2^(i+1); the
 * first bin also counts 0, the last one everything above. */
typedef struct skv_endpoint_stats {
  uint32_t struct_size;
  uint32_t conns;             /* open now */
  uint64_t handshakes_ok;
  uint64_t handshakes_failed; /* garbage, scanners, other versions or models, too slow */
  uint64_t sent_ok;
  uint64_t received_ok;
  uint64_t failed;            /* transfers that ended otherwise */
  uint64_t bytes_sent;        /* payload bytes */
  uint64_t bytes_received;
  uint64_t protocol_errors;
  uint64_t checksum_errors;
  uint64_t auth_errors;        /* peers that were not who they must be, or took us for that */
  uint64_t handshakes_refused; /* of the failed ones: too many at once or a second */
  uint64_t handshakes_pending; /* now */
  uint64_t cancelled;          /* of the failed transfers */
  uint64_t timed_out;
  uint64_t peer_lost;
  uint64_t rejected;
  uint64_t no_resource;
  uint64_t sending;        /* now: offered or moving from here */
  uint64_t receiving;      /* now: moving to here */
  uint64_t offers_waiting; /* now: offers of peers that are not decided on */
  uint64_t credit_held;    /* now: bytes granted to senders that have not arrived */
  uint64_t credit_stalls;  /* times a sender here had bytes and no credit */
  uint64_t events_lost;    /* records overwritten before skv_endpoint_events took them */
  uint64_t time_log2[32];  /* transfers that ended OK: accepted -> ended, in us */
  uint64_t queue_log2[32]; /* offers taken here: offered -> accepted, in us */
  uint64_t bytes_log2[40]; /* transfers that ended OK: payload bytes */
} skv_endpoint_stats;
SKV_API skv_status skv_endpoint_get_stats(skv_endpoint* endpoint, skv_endpoint_stats* out, skv_error* err);
/* What happened, oldest first: a ring that the caller empties. The oldest record is overwritten when nobody does. */
#define SKV_EVENT_CONN_OPEN 1        /* handshake done; duration_ns: what it took */
#define SKV_EVENT_CONN_CLOSED 2      /* status: why */
#define SKV_EVENT_HANDSHAKE_FAILED 3 /* status: why */
#define SKV_EVENT_OFFERED 4          /* bytes: of the payload */
#define SKV_EVENT_ACCEPTED 5         /* duration_ns: since offered */
#define SKV_EVENT_ENDED 6            /* status; bytes: moved; duration_ns: since accepted, 0 if it was not */
typedef struct skv_event {
  uint64_t time_ns; /* CLOCK_MONOTONIC */
  int32_t kind;     /* SKV_EVENT_* */
  int32_t status;
  uint64_t conn;     /* conns of an endpoint count from 1 */
  uint64_t transfer; /* its id on the wire, 0 for a conn's event */
  uint64_t key;      /* the sender's */
  uint64_t bytes;
  uint64_t duration_ns;
  int32_t sending; /* 1: from here */
  int32_t reserved;
} skv_event; /* 64 bytes, frozen */
/* Moves up to capacity records to out; *count is what was written. Never waits. Errors: NULL, CLOSED. Since 0.1. */
SKV_API skv_status skv_endpoint_events(skv_endpoint* endpoint, skv_event* out, size_t capacity, size_t* count,
                                       skv_error* err);
/* Closes every conn; live requests end in CANCELLED. Handles of conns and requests stay valid until destroyed. */
SKV_API void skv_endpoint_destroy(skv_endpoint* endpoint);

/* Facts about a conn. */
#define SKV_CONN_PLANE 1      /* SKV_PLANE_* */
#define SKV_CONN_OPEN 2       /* 1 while usable */
#define SKV_CONN_PEER_VERSION 3
#define SKV_CONN_SECURITY 4 /* SKV_SECURITY_* */
SKV_API skv_status skv_conn_get(const skv_conn* conn, int32_t key, int64_t* out, skv_error* err);
/* Plane NCCL: a communicator of the caller's (an ncclComm_t of two ranks on SKV_ENDPOINT_DEVICE, idle, not blocking) for the
 * payloads of one direction: sending 1, from here; 0, to here. Both ends lend one, before the first transfer; it must stay
 * until the conn is destroyed and is never destroyed or aborted here: if something on it has to be ended, it is revoked
 * (NCCL 2.29 and later; else POISONED) and the direction is of no more use.
 * Errors: NULL, STATE (another plane, closed, or too late), ARGUMENT (not two ranks), RANGE (another device), NCCL.
 * Since 0.1. */
SKV_API skv_status skv_conn_set_communicator(skv_conn* conn, void* communicator, int32_t sending, skv_error* err);
/* Says goodbye and closes; live requests of this conn end in CANCELLED here and PEER_LOST or CANCELLED there. */
SKV_API void skv_conn_destroy(skv_conn* conn);

/* Offers a payload under a key of the caller's choice and sends it once the peer accepts. The payload handle may be
 * destroyed at once if it owns its bytes; caller-owned bytes must stay until the request ends. A payload in device memory
 * is copied to the host for a conn that moves bytes there; on plane NCCL it is sent from where it is, and must be in
 * SKV_ENDPOINT_DEVICE's memory or pinned (host memory: ARGUMENT; another device's: RANGE).
 * Errors: CLOSED, STATE (payload incomplete), TIMED_OUT (deadline already past), NO_RESOURCE, ARGUMENT, RANGE, POISONED (an
 * earlier operation on the device could not be ended). Since 0.1. */
SKV_API skv_status skv_send(skv_conn* conn, uint64_t key, const skv_payload* payload, uint64_t deadline,
                            skv_request** out, skv_error* err);
/* The same with a payload under construction (skv_payload_create): a layer is sent as soon as it and those before it are
 * encoded, so layer l travels while l + 1 is being encoded. skv_encode_layer tells the request by itself, in whatever
 * order layers come. Destroying the payload before its last layer is encoded ends the request in CANCELLED; a layer that
 * never comes ends it at the deadline. A whole payload is sent like skv_send does.
 * With SKV_PLAN_LATE_TIER in the plan, and layers encoded in order on a CPU engine, skv_encode_layer lowers rows of 8 bits to
 * 6 or 4 (RAW rows stay) in layers that, at the rate this conn was measured to take, would miss the deadline otherwise. The
 * payload gets smaller than skv_plan_bytes; both ends see it (SKV_PAYLOAD_CUT, skv_receipt.cut_layers). The rate is known once
 * the conn was what a transfer waited for. Errors: as skv_send. Since 0.1. */
SKV_API skv_status skv_send_layers(skv_conn* conn, uint64_t key, skv_payload* payload, uint64_t deadline,
                                   skv_request** out, skv_error* err);
/* Waits (asynchronously) for the next offer of the peer. When skv_request_test or _wait returns SKV_OK and the
 * request's state is SKV_REQUEST_OFFERED, look at it and accept or reject it. Errors: CLOSED, TIMED_OUT. Since 0.1. */
SKV_API skv_status skv_recv_offer(skv_conn* conn, uint64_t deadline, skv_request** out, skv_error* err);
/* Takes the offer. buffer NULL: the library allocates; else caller-owned, 16-byte aligned, at least the offered bytes,
 * untouched by the caller until the request ends. On plane NCCL it is memory of SKV_ENDPOINT_DEVICE, or pinned. The request
 * goes on until its terminal status.
 * Errors: STATE (no offer), TOO_SMALL, ARGUMENT (alignment, host memory on plane NCCL), RANGE (another device's), NO_MEMORY,
 * POISONED, CLOSED. After any of them the offer still stands. Since 0.1. */
SKV_API skv_status skv_offer_accept(skv_request* request, void* buffer, size_t bytes, uint64_t deadline,
                                    skv_error* err);
/* Declines: the sender ends in SKV_E_REJECTED with the reason (at most 200 bytes) in its message; this request ends in
 * REJECTED too. Errors: STATE. Since 0.1. */
SKV_API skv_status skv_offer_reject(skv_request* request, const char* reason, skv_error* err);

/* States of a request. */
#define SKV_REQUEST_PENDING 0 /* waiting for the peer */
#define SKV_REQUEST_OFFERED 1 /* receive side: decide */
#define SKV_REQUEST_MOVING 2  /* accepted, bytes under way */
#define SKV_REQUEST_ENDED 3   /* terminal */
/* Facts about a request. */
#define SKV_REQUEST_STATE 1
#define SKV_REQUEST_KEY 2    /* the sender's key */
#define SKV_REQUEST_BYTES 3  /* payload bytes offered */
#define SKV_REQUEST_LAYERS 4 /* segments offered */
#define SKV_REQUEST_MOVED 5  /* payload bytes moved so far */
#define SKV_REQUEST_LAYERS_READY 6 /* leading layers that arrived and verified */
#define SKV_REQUEST_WIRE_NS 7      /* accepted -> ended */
#define SKV_REQUEST_EARLY_LAYERS 8 /* 1: skv_request_payload may be called before the end; see skv_request_set */
SKV_API skv_status skv_request_get(const skv_request* request, int32_t key, int64_t* out, skv_error* err);
/* Sets SKV_REQUEST_EARLY_LAYERS, before the offer is accepted: 1 opts in to layers before the transfer has ended. Then
 * skv_request_payload hands out the payload as soon as its first layer can be waited for; each layer of it can be decoded
 * once skv_request_wait_layer said that it arrived and verified. If the transfer fails later, the layers already decoded
 * are the caller's to discard, and the payload gives nothing any more but the transfer's status.
 * Errors: KEY, RANGE, STATE (a send, or already accepted). Since 0.1. */
SKV_API skv_status skv_request_set(skv_request* request, int32_t key, int64_t value, skv_error* err);
/* Identity in the offer: fingerprint[32], request_id[16], either may be NULL. Errors: STATE (no offer yet). Since 0.1. */
SKV_API skv_status skv_request_identity(const skv_request* request, uint8_t* fingerprint, uint8_t* request_id,
                                        skv_error* err);
/* SKV_IN_PROGRESS, or SKV_OK when OFFERED or done, or the terminal status. Never waits. Since 0.1. */
SKV_API skv_status skv_request_test(skv_request* request, skv_error* err);
/* The same, waiting until the deadline; SKV_IN_PROGRESS when that passes first (the request goes on). Since 0.1. */
SKV_API skv_status skv_request_wait(skv_request* request, uint64_t deadline, skv_error* err);
/* Waits until the leading `layer + 1` layers arrived and verified. Since 0.1. */
SKV_API skv_status skv_request_wait_layer(skv_request* request, int32_t layer, uint64_t deadline, skv_error* err);
/* Plane NCCL, receiving: makes what follows on a CUDA stream wait until a layer is in the buffer; its digest is checked when
 * it is decoded (like EARLY_LAYERS, this is before the transfer verified). Returns once the layer is on its way, which the
 * request's own deadline bounds. Errors: RANGE, STATE (a send, or not accepted), UNAVAILABLE (a plane that brings bytes to
 * the host), CUDA, and the request's terminal status. Since 0.1. */
SKV_API skv_status skv_request_stream_wait(skv_request* request, int32_t layer, void* stream, skv_error* err);
/* Asks for an early end. The request still reaches one terminal status (CANCELLED unless it had ended). Since 0.1. */
SKV_API skv_status skv_request_cancel(skv_request* request, skv_error* err);
/* The received payload of a request that ended SKV_OK: opened and validated. With a library-allocated buffer the
 * payload owns the bytes. Once per request. With EARLY_LAYERS also while it is MOVING and its first layer has arrived:
 * then skv_decode_layer, skv_payload_get and _get_tiers of a layer give STATE until it has arrived, calls that need all
 * of it give STATE until the request has ended, and after a failure every one gives the request's status. The payload may
 * outlive the request's handle; a caller-owned buffer must outlive both. On plane NCCL the payload is in device memory and
 * handed out at the end only (before: UNAVAILABLE). Errors: STATE, and those of skv_payload_open. Since 0.1. */
SKV_API skv_status skv_request_payload(skv_request* request, skv_payload** out, skv_error* err);
/* SKV_E_BUSY, and nothing done, on a live request that moves bytes; a waiting or ended one is destroyed. NULL: SKV_OK.
 * Since 0.1. */
SKV_API skv_status skv_request_destroy(skv_request* request, skv_error* err);

#ifdef __cplusplus
}
#endif

#endif /* SPECTRUMKV_H */
