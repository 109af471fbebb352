// SPDX-License-Identifier: Apache-2.0
package org.spectrumkv;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import org.junit.jupiter.api.function.Executable;
import org.spectrumkv.raw.NativeConstants;

/** Synthetic tensors and the views of them that the tests share. */
final class Tensors {
  static final int LAYERS = 2;
  static final int TOKENS = 320;
  static final int HEADS = 2;
  static final int DIM = 64;
  static final int BYTES = TOKENS * HEADS * DIM * 4;

  private Tensors() {}

  static ByteBuffer zero() {
    return ByteBuffer.allocateDirect(BYTES).order(ByteOrder.nativeOrder());
  }

  /** K and V of each layer, deterministic, about as large as keys and values are. */
  static ByteBuffer[] values() {
    ByteBuffer[] halves = new ByteBuffer[2 * LAYERS];
    java.util.Random random = new java.util.Random(1);
    for (int h = 0; h < halves.length; h++) {
      halves[h] = zero();
      for (int i = 0; i < BYTES; i += 4) {
        halves[h].putFloat(i, (float) random.nextGaussian());
      }
    }
    return halves;
  }

  static ByteBuffer[] zeros() {
    ByteBuffer[] halves = new ByteBuffer[2 * LAYERS];
    java.util.Arrays.setAll(halves, i -> zero());
    return halves;
  }

  static Cache view(ByteBuffer[] halves) {
    Cache cache = new Cache(LAYERS).tokens(Cache.ALL, 0, TOKENS).layer(Cache.ALL, HEADS, DIM, DIM, DType.F32);
    for (int h = 0; h < halves.length; h++) {
      cache.plane(h / 2, Half.values()[h % 2], halves[h], Strides.tokenMajor(HEADS, DIM, DType.F32));
    }
    return cache;
  }

  static Engine engine() {
    return new Engine().set(NativeConstants.SKV_ENGINE_THREADS, 1);
  }

  /** Synthetic tensors have no verdict on low tiers. */
  static Plan plan(Engine engine) {
    return new Plan(engine).set(NativeConstants.SKV_PLAN_UNPROVEN, 1);
  }

  static Payload payload() {
    try (Engine engine = engine();
        Cache cache = view(values());
        Plan plan = Tensors.plan(engine).budget(0.4).solve(cache)) {
      return engine.encode(cache, plan);
    }
  }

  static double worst(ByteBuffer[] a, ByteBuffer[] b) {
    double most = 0;
    for (int h = 0; h < a.length; h++) {
      for (int i = 0; i < BYTES; i += 4) {
        most = Math.max(most, Math.abs(a[h].getFloat(i) - b[h].getFloat(i)));
      }
    }
    return most;
  }

  static SpectrumKVException fails(int status, Executable call) {
    SpectrumKVException e = assertThrows(SpectrumKVException.class, call);
    assertEquals(Library.statusName(status), e.statusName(), e::getMessage);
    if (e.getMessage().isEmpty()) {
      throw new AssertionError(e.statusName() + " has no message");
    }
    return e;
  }
}
