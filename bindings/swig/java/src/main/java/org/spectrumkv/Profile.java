// SPDX-License-Identifier: Apache-2.0
package org.spectrumkv;

import java.nio.charset.StandardCharsets;
import org.spectrumkv.raw.Native;

/** What is known of one model: how much an error in each layer costs, and whether tiers below 8 bits are safe for it. */
public final class Profile extends Handle {
  /** An empty profile of a model (32 bytes), its layers as in its caches, and the SKV_CODE_... that verdicts are about. Throws RANGE. */
  public Profile(byte[] fingerprint, int layers, int code) {
    this(create(fingerprint, layers, code));
  }

  private Profile(long handle) {
    super("profile", handle, false, always(Native::skv_profile_destroy));
  }

  private static long create(byte[] fingerprint, int layers, int code) {
    Library.load();
    long[] out = new long[1];
    Native.skv_profile_create(fingerprint, layers, code, out);
    return out[0];
  }

  /** Reads JSON. Safe on untrusted text. Throws MALFORMED, VERSION (another format or codec: probe again), CHECKSUM (edited). */
  public static Profile open(String json) {
    Library.load();
    long[] out = new long[1];
    Native.skv_profile_open(json.getBytes(StandardCharsets.UTF_8), out);
    return new Profile(out[0]);
  }

  /** Writes JSON. */
  public String json() {
    long[] size = new long[1];
    try (Use profile = use()) {
      Native.skv_profile_save(profile.handle, null, size);
      byte[] text = new byte[(int) size[0]];
      Native.skv_profile_save(profile.handle, text, size);
      return new String(text, StandardCharsets.UTF_8);
    }
  }

  /**
   * Adds a calibration trial: with only this layer's half at a low tier the model's mean KL was kl nats, where {@link Plan#cost} with
   * this profile and scores of this kind (SKV_SCORED_...) was cost. Throws RANGE, NON_FINITE.
   */
  public Profile calibrate(int layer, Half half, int scored, double cost, double kl) {
    try (Use profile = use()) {
      Native.skv_profile_calibrate(profile.handle, layer, half.value, scored, cost, kl);
      return this;
    }
  }

  /** What a probe said: SKV_VERDICT_..., and how many trials passed. */
  public record Said(int verdict, int passed, int trials) {}

  /** Records what a probe (SKV_PROBE_...) said. Throws RANGE. */
  public Profile verdict(int probe, Said said) {
    try (Use profile = use()) {
      Native.skv_profile_set_verdict(profile.handle, probe, said.verdict, said.passed, said.trials);
      return this;
    }
  }

  /** What a probe said; {@link Cache#ALL}: the word that counts. Throws RANGE. */
  public Said verdict(int probe) {
    int[] verdict = new int[1];
    int[] passed = new int[1];
    int[] trials = new int[1];
    try (Use profile = use()) {
      Native.skv_profile_get_verdict(profile.handle, probe, verdict, passed, trials);
    }
    return new Said(verdict[0], passed[0], trials[0]);
  }
}
