// SPDX-License-Identifier: Apache-2.0
package org.spectrumkv;

/**
 * How far apart neighbours lie in a plane, in bytes: element (token t, head h, channel c) is at {@code block * b + (t %
 * blockTokens) * token + h * head + c * elem}, b the block that the block table names.
 */
public record Strides(long block, long token, long head, long elem) {
  /** Of [tokens, heads, dim]. */
  public static Strides tokenMajor(int heads, int dim, DType dtype) {
    return new Strides(0, (long) heads * dim * dtype.bytes(), (long) dim * dtype.bytes(), dtype.bytes());
  }

  /** Of [heads, tokens, dim]. */
  public static Strides headMajor(int tokens, int dim, DType dtype) {
    return new Strides(0, (long) dim * dtype.bytes(), (long) tokens * dim * dtype.bytes(), dtype.bytes());
  }

  /** The same with blocks so far apart. */
  public Strides withBlock(long bytes) {
    return new Strides(bytes, token, head, elem);
  }
}
