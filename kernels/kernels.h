// SPDX-License-Identifier: Apache-2.0
// The table of kernels one target offers. Work unit: one half (K or V) of one layer's chunk of at most 256 tokens.
// Every target gives the same bytes; the scalar one is written straight from tiers.h.
#pragma once

#include <cstddef>
#include <cstdint>

namespace skv::kernels {

constexpr int32_t kMaxDim = 4096;  // docs/wire-format.md, "Segment header"

// Rows of a chunk in caller memory. Element (t, h, c) is at base + token_offset[t] + h*stride_head + c*stride_elem.
struct Rows {
  std::byte* base;              // never written through by stats, pack, absmax, dots, norms, accumulate
  const int64_t* token_offset;  // [tokens] bytes
  int32_t tokens;               // 1..256
  int32_t heads;
  int32_t dim;  // multiple of 8
  int32_t dtype;
  int64_t stride_head;
  int64_t stride_elem;
};

// What went wrong in a chunk, and where.
struct Verdict {
  enum Kind : int32_t { kOk = 0, kNonFinite = 1, kOverflow = 2 };
  int32_t kind = kOk;
  int32_t token = 0;  // of the chunk
  int32_t head = 0;
};

// How the rows of a half are transformed: vectors are [heads*dim] or null when the flag is off.
struct Transform {
  const float* mean = nullptr;
  const float* recip = nullptr;    // 1 / balance (pack, absmax)
  const float* balance = nullptr;  // unpack
  int32_t hadamard = 0;            // 0, 8 or 16
};

// First byte of the chunk's first row in each section of the segment (docs/wire-format.md, "Sections").
struct Sections {
  std::byte* scales;
  std::byte* two;
  std::byte* nibble;
  std::byte* plane2;
  std::byte* plane3;
  std::byte* raw;
};

struct PackChunk {
  Rows rows;
  const uint8_t* tiers;  // [tokens]
  Transform transform;
  int32_t code;
  int32_t raw_dtype;
  Sections to;
};

struct UnpackChunk {
  Rows rows;             // destination; rows.heads heads, taken from head first_head of the payload's payload_heads
  const uint8_t* tiers;  // [tokens]; DROP rows are written as zeros
  Transform transform;   // vectors of the payload's heads
  int32_t code;
  int32_t raw_dtype;
  int32_t payload_heads;
  int32_t first_head;
  Sections from;        // read only
  bool stream = false;  // nobody reads the rows soon: they may be written past the caches
};

struct Kernels {
  int32_t target;    // SKV_TARGET_*
  const char* name;  // "scalar", "avx2", "avx512", "neon"

  // Channel statistics of the quantized rows: sum, lo, hi are [heads*dim]; returns how many rows counted. With none,
  // sum is 0 and lo, hi are untouched. An infinite element makes lo or hi infinite, a NaN makes sum NaN.
  int32_t (*stats)(const Rows&, const uint8_t* tiers, float* sum, float* lo, float* hi);

  // Steps 3 and 4: stored f16 vectors and their f32 companions from the statistics. mean16/balance16 are written when
  // the flag is set (else may be null); mean32, balance32, recip32 likewise. kOverflow/kNonFinite name the first head
  // that fails, never the token (absmax without a transform finds it).
  Verdict (*vectors)(uint32_t transforms, int32_t counted, int32_t heads, int32_t dim, const float* sum,
                     const float* lo, const float* hi, uint16_t* mean16, uint16_t* balance16, float* mean32,
                     float* balance32, float* recip32);

  // Steps 5 to 9 and the RAW rows. The verdict is of the first (token, head) that fails; what was written is then void.
  Verdict (*pack)(const PackChunk&);

  // The inverse, into rows of any layout and dtype. Inputs were validated; cannot fail.
  void (*unpack)(const UnpackChunk&);

  // A of step 7 for every (token, head): out[tokens*heads]. Rows of any tier. The verdict is of the first non-finite A;
  // out is complete all the same, except that a row with a NaN may hold any non-finite value.
  Verdict (*absmax)(const Rows&, const Transform&, float* out);

  // Scores. out[i*out_stride + t] = sum over channels of vectors[i][c] * row[t][head][c], in 16 accumulators (c mod 16),
  // no FMA, reduced by halves (l with l+8, l+4, l+2, l+1).
  void (*dots)(const Rows&, int32_t head, const float* vectors, int32_t count, float* out, int64_t out_stride);
  // out[tokens]: the rows' dot products with themselves.
  void (*norms)(const Rows&, int32_t head, float* out);
  // out[count][dim] += weights[i][t] * row[t][head][c] for every token in order, one rounding per product and per sum.
  // weights row i starts at weights + i*weight_stride.
  void (*accumulate)(const Rows&, int32_t head, const float* weights, int64_t weight_stride, int32_t count, float* out);
  // values[n] = their softmax after times scale: exp(values[i] * scale - top * scale) (exp.h, relative error < 1e-6),
  // by their sum in 16 accumulators (i mod 16) reduced as above. n > 0; same bits on every target for finite values.
  void (*softmax)(float* values, size_t n, float scale);
  // What errors in n tokens cost one query, in order, no FMA: mass += a; v += a^2; k += (a^2 * max(0, (norms - 2
  // products)
  // + output)) * q2. products, norms and v null where there is no V: then 1 in the place of the maximum.
  void (*charge)(const float* a, const float* products, const float* norms, size_t n, float output, float q2,
                 float* mass, float* k, float* v);

  // XXH3-64, seed 0.
  uint64_t (*digest)(const void* bytes, size_t size);
};

// The kernels of a target, null when this build or CPU lacks it. AUTO: the best one.
const Kernels* kernels_of(int32_t target);

}  // namespace skv::kernels
