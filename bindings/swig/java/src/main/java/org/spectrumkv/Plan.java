// SPDX-License-Identifier: Apache-2.0
package org.spectrumkv;

import org.spectrumkv.raw.Native;

/** A tier for every (layer, K or V, token), and the exact byte count it implies. */
public final class Plan extends Handle {
  /** A plan for the engine's device, with default options and the strategy "error-aware". It may outlive the engine. */
  public Plan(Engine engine) {
    super("plan", create(engine), false, always(Native::skv_plan_destroy));
  }

  private static long create(Engine engine) {
    long[] out = new long[1];
    try (Use device = engine.use()) {
      Native.skv_plan_create(device.handle, out);
    }
    return out[0];
  }

  /** Sets an option ({@code SKV_PLAN_...}), before solving. Throws KEY, RANGE. */
  public Plan set(int key, long value) {
    try (Use plan = use()) {
      Native.skv_plan_set(plan.handle, key, value);
      return this;
    }
  }

  /** The budget as a fraction of {@link Cache#rawBytes}; everything counts. Throws RANGE. */
  public Plan budget(double fraction) {
    try (Use plan = use()) {
      Native.skv_plan_set_budget(plan.handle, fraction);
      return this;
    }
  }

  /** The budget in bytes. Throws RANGE. */
  public Plan budgetBytes(long bytes) {
    try (Use plan = use()) {
      Native.skv_plan_set_budget_bytes(plan.handle, bytes);
      return this;
    }
  }

  /** The strategy by name: "error-aware", "raw", "uniform-2" to "uniform-8", "greedy". Throws KEY. */
  public Plan strategy(String name) {
    try (Use plan = use()) {
      Native.skv_plan_set_strategy(plan.handle, name);
      return this;
    }
  }

  /** What is known of the model: multipliers for the costs, and the verdict on low tiers. Copied; null forgets it. */
  public Plan profile(Profile profile) {
    if (profile == null) {
      try (Use plan = use()) {
        Native.skv_plan_set_profile(plan.handle, 0);
        return this;
      }
    }
    try (Use plan = use();
        Use known = profile.use()) {
      Native.skv_plan_set_profile(plan.handle, known.handle);
      return this;
    }
  }

  /**
   * Sum of weight x squared error over a layer's K or V rows under the present tiers: what "error-aware" minimises. In nats of KL with
   * a calibrated profile. Throws STATE (not solved, or another strategy), RANGE.
   */
  public double cost(int layer, Half half) {
    double[] out = new double[1];
    try (Use plan = use()) {
      Native.skv_plan_cost(plan.handle, layer, half.value, out);
    }
    return out[0];
  }

  /** {@link #solve(Cache, Scores)}, scoring keys and values here when the strategy needs it. */
  public Plan solve(Cache cache) {
    try (Use view = cache.use();
        Use plan = use()) {
      Native.skv_plan_solve(plan.handle, view.handle, 0);
      return this;
    }
  }

  /**
   * Chooses a tier for every row of the cache. Never exceeds the budget. Tiers below 8 bits need a verdict: a profile's, a logit probe's
   * on the queries in the scores, or SKV_PLAN_UNPROVEN 1. Throws BUDGET (names the floor), STATE, GEOMETRY, LAYOUT, MODEL, PERMITTED.
   */
  public Plan solve(Cache cache, Scores scores) {
    try (Use view = cache.use();
        Use plan = use();
        Use weights = scores.use()) {
      Native.skv_plan_solve(plan.handle, view.handle, weights.handle);
      return this;
    }
  }

  /**
   * Chooses which rows of a payload of this cache to raise, and how far, for {@link Engine#encodeUpgrade}. The budget is that of the
   * upgrade alone; without one no row is raised, to be followed by {@link #tiers(int, Half, byte[])}. Strategies "raw" and "uniform-N"
   * raise every row to that tier. scores may be null. Throws BUDGET, ARGUMENT, STATE, LAYOUT, MODEL, REQUEST, PERMITTED, CHECKSUM.
   */
  public Plan upgrade(Payload base, Cache cache, Scores scores) {
    try (Use view = cache.use();
        Use plan = use();
        Use weights = scores == null ? null : scores.use();
        Use payload = base.use()) {
      Native.skv_plan_upgrade(plan.handle, payload.handle, view.handle, weights == null ? 0 : weights.handle);
      return this;
    }
  }

  /**
   * Chooses which rows of a payload to cut, without its cache, for {@link Payload#truncate}: to the permitted tiers, and to the budget if
   * there is one, least costly planes first. Tiers below 8 bits need a verdict: a profile's, the payload's own rows there, or
   * SKV_PLAN_UNPROVEN 1. scores may be null. Throws BUDGET (names the floor), ARGUMENT, PERMITTED, STATE, LAYOUT, MODEL, CHECKSUM.
   */
  public Plan truncate(Payload payload, Scores scores) {
    try (Use plan = use();
        Use weights = scores == null ? null : scores.use();
        Use whole = payload.use()) {
      Native.skv_plan_truncate(plan.handle, whole.handle, weights == null ? 0 : weights.handle);
      return this;
    }
  }

  /** Exact bytes of what the solved plan gives: a payload, or an upgrade. Throws STATE. */
  public long bytes() {
    long[] out = new long[1];
    try (Use plan = use()) {
      Native.skv_plan_bytes(plan.handle, out);
    }
    return out[0];
  }

  /** The tiers ({@code SKV_TIER_...}) of a layer's K or V, one a token. Throws STATE, RANGE. */
  public byte[] tiers(int layer, Half half, int tokens) {
    byte[] out = new byte[tokens];
    try (Use plan = use()) {
      Native.skv_plan_get_tiers(plan.handle, layer, half.value, out);
    }
    return out;
  }

  /** Replaces the tiers of a layer's K or V of a solved plan; the budget is not checked. Throws STATE, RANGE, PERMITTED. */
  public Plan tiers(int layer, Half half, byte[] tiers) {
    try (Use plan = use()) {
      Native.skv_plan_set_tiers(plan.handle, layer, half.value, tiers);
      return this;
    }
  }
}
