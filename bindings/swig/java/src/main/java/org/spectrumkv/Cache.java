// SPDX-License-Identifier: Apache-2.0
package org.spectrumkv;

import java.nio.ByteBuffer;
import org.spectrumkv.raw.Native;
import org.spectrumkv.raw.NativeConstants;

/**
 * A view of KV memory in direct ByteBuffers: the source of scoring and encoding, the destination of decoding. The setters may be
 * called in any order; where a layer is taken, {@link #ALL} means every one. The buffers are kept until the cache is closed.
 */
public final class Cache extends Handle {
  /** Every layer. */
  public static final int ALL = NativeConstants.SKV_ALL;

  private volatile boolean readOnly;

  /**
   * A view of 1 to 4096 layers.
   *
   * @throws SpectrumKVException RANGE, NO_MEMORY
   */
  public Cache(int layers) {
    this(create(layers), null);
  }

  private Cache(long handle, ByteBuffer memory) {
    super("cache", handle, false, always(Native::skv_cache_destroy));
    owned.keep(memory);
  }

  private static long create(int layers) {
    Library.load();
    long[] out = new long[1];
    Native.skv_cache_create(layers, out);
    return out[0];
  }

  void needWritable() {
    if (readOnly) {
      throw new SpectrumKVException(
          NativeConstants.SKV_E_ARGUMENT, "the cache views read-only memory: wanted memory that can be written");
    }
  }

  /** Token range of a layer. Layers may differ (sliding windows). Throws RANGE, EMPTY. */
  public Cache tokens(int layer, long firstPosition, long tokens) {
    try (Use cache = use()) {
      Native.skv_cache_set_tokens(cache.handle, layer, firstPosition, tokens);
      return this;
    }
  }

  /** Geometry of a layer: dims are channels of one head, multiples of 8; vDim 0 means no V. Throws RANGE, GEOMETRY. */
  public Cache layer(int layer, int kvHeads, int kDim, int vDim, DType dtype) {
    try (Use cache = use()) {
      Native.skv_cache_set_layer(cache.handle, layer, kvHeads, kDim, vDim, dtype.value);
      return this;
    }
  }

  /** This view's head 0 is the layer's head firstHead (tensor-parallel slices). Throws RANGE. */
  public Cache firstHead(int layer, int firstHead) {
    try (Use cache = use()) {
      Native.skv_cache_set_first_head(cache.handle, layer, firstHead);
      return this;
    }
  }

  /** KV-cache group of a layer, 0 to 255. Travels with the payload. Throws RANGE. */
  public Cache group(int layer, int group) {
    try (Use cache = use()) {
      Native.skv_cache_set_group(cache.handle, layer, group);
      return this;
    }
  }

  /**
   * Memory of a layer's K or V: a direct buffer, from its first byte to its capacity (use {@link ByteBuffer#slice} for a part). A
   * read-only one makes a view that cannot be decoded into. Throws NULL, RANGE, STRIDE.
   */
  public Cache plane(int layer, Half half, ByteBuffer memory, Strides strides) {
    try (Use cache = use()) {
      Native.skv_cache_set_plane(
          cache.handle, layer, half.value, memory, strides.block(), strides.token(), strides.head(), strides.elem());
      owned.keep(memory);
      readOnly |= memory.isReadOnly();
      return this;
    }
  }

  /** Block table of a layer, copied: token t is slot t % blockTokens of block ids[t / blockTokens]. Throws NULL, RANGE, BLOCK_ID. */
  public Cache blocks(int layer, int[] ids, int blockTokens) {
    try (Use cache = use()) {
      Native.skv_cache_set_blocks(cache.handle, layer, ids, blockTokens);
      return this;
    }
  }

  /**
   * What this cache belongs to: 32 bytes of a model, 16 of a request; null is all zero. A destination accepts only a payload of an
   * equal fingerprint, and of an equal request id unless its own is all zero.
   */
  public Cache identity(byte[] fingerprint, byte[] requestId) {
    try (Use cache = use()) {
      Native.skv_cache_set_identity(cache.handle, fingerprint, requestId);
      return this;
    }
  }

  /** Sets an option ({@code SKV_CACHE_...}). Throws KEY, RANGE. */
  public Cache set(int key, long value) {
    try (Use cache = use()) {
      Native.skv_cache_set(cache.handle, key, value);
      return this;
    }
  }

  /** Checks the whole view, as every call that uses it does. Throws EMPTY, STRIDE, BLOCK_ID, OVERLAP, RANGE. */
  public Cache check() {
    try (Use cache = use()) {
      Native.skv_cache_check(cache.handle);
      return this;
    }
  }

  /** Size of the same elements at 16 bits each: what ratios and budget fractions refer to. Throws EMPTY. */
  public long rawBytes() {
    long[] out = new long[1];
    try (Use cache = use()) {
      Native.skv_cache_raw_bytes(cache.handle, out);
    }
    return out[0];
  }

  /**
   * A view of a llama.cpp sequence state (llama_state_seq_get_data) in a direct buffer, for reading. heads: kv-heads of each layer
   * in the blob's order. Throws MALFORMED, TRUNCATED, TRAILING, FEATURE, GEOMETRY, RANGE, EMPTY.
   */
  public static Cache fromLlama(ByteBuffer blob, int[] heads) {
    Library.load();
    long[] out = new long[1];
    Native.skv_cache_from_llama(blob, heads, out);
    Cache cache = new Cache(out[0], blob);
    cache.readOnly = true;
    return cache;
  }

  /**
   * Frames a llama.cpp blob for a payload (everything but the tensors): the view whose decoding completes it. vTrans: false for a
   * context with flash attention. Throws DTYPE, LAYOUT, TOO_SMALL.
   */
  public static Cache toLlama(Payload payload, boolean vTrans, DType dtype, byte[] fingerprint, ByteBuffer blob) {
    if (blob.isReadOnly()) {
      throw new SpectrumKVException(NativeConstants.SKV_E_ARGUMENT, "a read-only blob: wanted one that can be written");
    }
    long[] out = new long[1];
    try (Use source = payload.use()) {
      Native.skv_cache_to_llama(source.handle, vTrans ? 1 : 0, dtype.value, fingerprint, blob, out);
    }
    return new Cache(out[0], blob);
  }

  /** Size of the llama.cpp blob that holds a payload's cells. Throws DTYPE, LAYOUT. */
  public static long llamaBlobBytes(Payload payload, boolean vTrans, DType dtype) {
    long[] out = new long[1];
    try (Use source = payload.use()) {
      Native.skv_llama_blob_bytes(source.handle, vTrans ? 1 : 0, dtype.value, out);
    }
    return out[0];
  }
}
