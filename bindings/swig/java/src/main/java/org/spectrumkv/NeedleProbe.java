// SPDX-License-Identifier: Apache-2.0
package org.spectrumkv;

import java.nio.charset.StandardCharsets;
import org.spectrumkv.raw.Native;
import org.spectrumkv.raw.NativeConstants;

/**
 * The paper's probe: {@link #TRIALS} prompts with a number hidden in filler text and asked for at their end. Evaluate each, move its
 * cache through this library at the budget to be proven, let the model go on for a dozen tokens, hand the text back.
 */
public final class NeedleProbe extends Handle {
  /** Prompts of a probe. */
  public static final int TRIALS = NativeConstants.SKV_NEEDLE_TRIALS;

  /** Prompts of about so many words, 64 to 1,000,000. Throws RANGE. */
  public NeedleProbe(int words) {
    super("needle probe", create(words), false, always(Native::skv_needle_probe_destroy));
  }

  private static long create(int words) {
    Library.load();
    long[] out = new long[1];
    Native.skv_needle_probe_create(Math.max(words, 0), out);
    return out[0];
  }

  /** A trial's prompt. Throws RANGE. */
  public String prompt(int trial) {
    String[] out = new String[1];
    try (Use probe = use()) {
      Native.skv_needle_probe_prompt(probe.handle, trial, out);
    }
    return out[0];
  }

  /** The model's answer; whether it holds the number. Throws RANGE, STATE (already answered). */
  public boolean answer(int trial, String text) {
    int[] found = new int[1];
    try (Use probe = use()) {
      Native.skv_needle_probe_answer(probe.handle, trial, text.getBytes(StandardCharsets.UTF_8), found);
    }
    return found[0] != 0;
  }

  /** Records the verdict in a profile. Throws STATE (an answer is missing). */
  public void verdict(Profile profile) {
    try (Use probe = use();
        Use target = profile.use()) {
      Native.skv_needle_probe_verdict(probe.handle, target.handle);
    }
  }
}
