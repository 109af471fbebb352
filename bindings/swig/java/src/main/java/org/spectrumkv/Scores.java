// SPDX-License-Identifier: Apache-2.0
package org.spectrumkv;

import java.nio.ByteBuffer;
import org.spectrumkv.raw.Native;

/**
 * How much an error in each token's K or V row costs. The first source given wins: the caller's weights, the last queries, else
 * keys and values.
 */
public final class Scores extends Handle {
  /** Empty scores. */
  public Scores() {
    super("scores", create(), false, always(Native::skv_scores_destroy));
  }

  private static long create() {
    Library.load();
    long[] out = new long[1];
    Native.skv_scores_create(out);
    return out[0];
  }

  /** The caller's weights for one half of a layer (or ALL), one a token, finite and not negative. Throws RANGE, NON_FINITE. */
  public Scores weights(int layer, Half half, float[] weights) {
    try (Use scores = use()) {
      Native.skv_scores_set_weights(scores.handle, layer, half.value, weights);
      return this;
    }
  }

  /** What the memory of {@link #queries} holds; strides in bytes, scale 0 means 1/sqrt(kDim), window 0 none. */
  public record Queries(
      DType dtype, int count, int heads, long queryStride, long headStride, long elemStride, float scale, int window) {
    /** Of [count, heads, dim], with the usual scale and no window. */
    public static Queries queryMajor(DType dtype, int count, int heads, int dim) {
      int bytes = dtype.bytes();
      return new Queries(dtype, count, heads, (long) heads * dim * bytes, (long) dim * bytes, bytes, 0, 0);
    }
  }

  /**
   * The queries (after RoPE) of the last tokens of a layer, in a direct buffer that is kept until the scores are closed. Read by
   * {@link Engine#score}. Throws RANGE, STRIDE.
   */
  public Scores queries(int layer, ByteBuffer memory, Queries q) {
    try (Use scores = use()) {
      Native.skv_scores_set_queries(
          scores.handle, layer, memory, q.dtype.value, q.count, q.heads, q.queryStride, q.headStride, q.elemStride, q.scale, q.window);
      owned.keep(memory);
      return this;
    }
  }

  /** The weights of one layer and half, one a token. Throws STATE (not scored yet), RANGE. */
  public float[] get(int layer, Half half, int tokens) {
    float[] out = new float[tokens];
    try (Use scores = use()) {
      Native.skv_scores_get(scores.handle, layer, half.value, out);
    }
    return out;
  }
}
