// SPDX-License-Identifier: Apache-2.0
package org.spectrumkv;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import org.spectrumkv.raw.Native;
import org.spectrumkv.raw.NativeConstants;

/** A device with its threads and scratch, which scores, encodes and decodes. Threads may share it; calls take turns. */
public final class Engine extends Handle {
  /** An engine on this machine's CPU. */
  public Engine() {
    this(NativeConstants.SKV_DEVICE_CPU);
  }

  /**
   * An engine on a device: a CUDA ordinal, or {@code NativeConstants.SKV_DEVICE_CPU}.
   *
   * @throws SpectrumKVException RANGE, UNAVAILABLE, NO_MEMORY
   */
  public Engine(int device) {
    super("engine", create(device), false, always(Native::skv_engine_destroy));
  }

  private static long create(int device) {
    Library.load();
    long[] out = new long[1];
    Native.skv_engine_create(device, out);
    return out[0];
  }

  /**
   * Sets an option ({@code SKV_ENGINE_...}), before or between calls.
   *
   * @throws SpectrumKVException KEY, RANGE, UNAVAILABLE
   */
  public Engine set(int key, long value) {
    try (Use engine = use()) {
      Native.skv_engine_set(engine.handle, key, value);
      return this;
    }
  }

  /**
   * An option's value in force.
   *
   * @throws SpectrumKVException KEY
   */
  public long get(int key) {
    long[] out = new long[1];
    try (Use engine = use()) {
      Native.skv_engine_get(engine.handle, key, out);
    }
    return out[0];
  }

  /** A line such as {@code "cpu avx512 2 threads"}. */
  public String describe() {
    byte[] text = new byte[256];
    try (Use engine = use()) {
      Native.skv_engine_describe(engine.handle, text);
    }
    return text(text);
  }

  static String text(byte[] bytes) {
    int end = 0;
    while (end < bytes.length && bytes[end] != 0) {
      end++;
    }
    return new String(bytes, 0, end, StandardCharsets.UTF_8);
  }

  /**
   * Computes every weight that the caller did not give, from the queries set, else from keys and values.
   *
   * @throws SpectrumKVException those of the view, GEOMETRY, NON_FINITE
   */
  public void score(Cache cache, Scores scores) {
    try (Use engine = use();
        Use view = cache.use();
        Use target = scores.use()) {
      Native.skv_score(engine.handle, view.handle, target.handle);
    }
  }

  /**
   * Encodes the whole cache by a solved plan, into a payload that owns its bytes.
   *
   * @throws SpectrumKVException those of the view, STATE, LAYOUT, NON_FINITE, OVERFLOW, NO_MEMORY
   */
  public Payload encode(Cache cache, Plan plan) {
    long[] out = new long[1];
    try (Use engine = use();
        Use view = cache.use();
        Use solved = plan.use()) {
      Native.skv_encode(engine.handle, view.handle, solved.handle, 0, out);
    }
    return new Payload(out[0], null);
  }

  /**
   * The same payload packed: without loss 6 to 16 % fewer bytes, for slow links. Used like any other.
   *
   * @throws SpectrumKVException STATE (layers missing, or packed already)
   */
  public Payload pack(Payload payload) {
    long[] out = new long[1];
    try (Use engine = use();
        Use source = payload.use()) {
      Native.skv_payload_pack(engine.handle, source.handle, out);
    }
    return new Payload(out[0], null);
  }

  /**
   * The same into a direct buffer of {@link Plan#bytes()} bytes, 16-byte aligned, kept until the payload is closed.
   *
   * @throws SpectrumKVException as encode, TOO_SMALL, ARGUMENT (alignment)
   */
  public Payload encodeInto(Cache cache, Plan plan, ByteBuffer buffer) {
    long[] out = new long[1];
    try (Use engine = use();
        Use view = cache.use();
        Use solved = plan.use()) {
      Native.skv_encode_into(engine.handle, view.handle, solved.handle, 0, buffer, out);
    }
    return new Payload(out[0], buffer);
  }

  /**
   * Encodes one layer into its place in a payload of {@link Payload#create}, while others are still being computed.
   *
   * @throws SpectrumKVException as encode, STATE
   */
  public void encodeLayer(Cache cache, Plan plan, int layer, Payload payload) {
    try (Use engine = use();
        Use view = cache.use();
        Use solved = plan.use();
        Use target = payload.use()) {
      Native.skv_encode_layer(engine.handle, view.handle, solved.handle, layer, 0, target.handle);
    }
  }

  /**
   * What a plan solved by {@link Plan#upgrade} adds to the base: a payload of the raised rows' new planes. The cache must still hold
   * what the base was encoded from: every raised row is compared with the base's.
   *
   * @throws SpectrumKVException those of the view, STATE, BASE, LAYOUT, MODEL, REQUEST, NON_FINITE, OVERFLOW, CHECKSUM, NO_MEMORY
   */
  public Payload encodeUpgrade(Cache cache, Payload base, Plan plan) {
    long[] out = new long[1];
    try (Use engine = use();
        Use view = cache.use();
        Use solved = plan.use();
        Use payload = base.use()) {
      Native.skv_encode_upgrade(engine.handle, view.handle, payload.handle, solved.handle, out);
    }
    return new Payload(out[0], null);
  }

  /**
   * Decodes every layer into the cache, whose layout, block size, dtype and head range may differ from the source's. Digests,
   * identity, geometry and view are checked before the first byte is written; on any error the destination is untouched.
   *
   * @throws SpectrumKVException those of the view, MODEL, REQUEST, LAYOUT, CHECKSUM, PERMITTED, STATE, MALFORMED
   */
  public void decode(Payload payload, Cache cache) {
    cache.needWritable();
    try (Use engine = use();
        Use view = cache.use();
        Use source = payload.use()) {
      Native.skv_decode(engine.handle, source.handle, view.handle, 0);
    }
  }

  /** {@link #decode} for one layer. */
  public void decodeLayer(Payload payload, Cache cache, int layer) {
    cache.needWritable();
    try (Use engine = use();
        Use view = cache.use();
        Use source = payload.use()) {
      Native.skv_decode_layer(engine.handle, source.handle, view.handle, layer, 0);
    }
  }
}
