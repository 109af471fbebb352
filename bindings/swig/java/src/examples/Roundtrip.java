// SPDX-License-Identifier: Apache-2.0

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import org.spectrumkv.Cache;
import org.spectrumkv.DType;
import org.spectrumkv.Engine;
import org.spectrumkv.Half;
import org.spectrumkv.Payload;
import org.spectrumkv.Plan;
import org.spectrumkv.Strides;
import org.spectrumkv.raw.NativeConstants;

/** Encodes a cache at several budgets, decodes it, and says what that cost and changed. */
public final class Roundtrip {
  private static final int LAYERS = 4;
  private static final int TOKENS = 1024;
  private static final int HEADS = 4;
  private static final int DIM = 64;

  private Roundtrip() {}

  private static ByteBuffer plane() {
    return ByteBuffer.allocateDirect(TOKENS * HEADS * DIM * 4).order(ByteOrder.nativeOrder());
  }

  private static Cache view(ByteBuffer[] halves) {
    Cache cache = new Cache(LAYERS).tokens(Cache.ALL, 0, TOKENS).layer(Cache.ALL, HEADS, DIM, DIM, DType.F32);
    for (int i = 0; i < halves.length; i++) {
      cache.plane(i / 2, i % 2 == 0 ? Half.K : Half.V, halves[i], Strides.tokenMajor(HEADS, DIM, DType.F32));
    }
    return cache;
  }

  /** Runs it. */
  public static void main(String[] arguments) {
    ByteBuffer[] from = new ByteBuffer[2 * LAYERS];
    for (int h = 0; h < from.length; h++) {
      from[h] = plane();
      for (int i = 0; i < TOKENS * HEADS * DIM; i++) {
        from[h].putFloat(i * 4, (float) Math.sin((i + h * 7919) * 0.37) + i % 101 / 100f);
      }
    }
    try (Engine engine = new Engine();
        Cache source = view(from)) {
      System.out.println(engine.describe());
      for (double budget : new double[] {0.5, 0.4, 0.3}) {
        ByteBuffer[] to = new ByteBuffer[2 * LAYERS];
        java.util.Arrays.setAll(to, i -> plane());
        try (Plan plan = new Plan(engine).set(NativeConstants.SKV_PLAN_UNPROVEN, 1).budget(budget).solve(source);
            Payload payload = engine.encode(source, plan);
            Cache target = view(to)) {
          engine.decode(payload, target);
          double sum = 0;
          for (int h = 0; h < to.length; h++) {
            for (int i = 0; i < TOKENS * HEADS * DIM; i++) {
              sum += Math.pow(from[h].getFloat(i * 4) - to[h].getFloat(i * 4), 2);
            }
          }
          Payload.Receipt receipt = payload.receipt();
          System.out.printf(
              "budget %.2f: %d bytes, %.4f of raw, RMS error %.5f%n",
              budget, receipt.payloadBytes(), receipt.ratio(), Math.sqrt(sum / ((double) to.length * TOKENS * HEADS * DIM)));
        }
      }
    }
  }
}
