// SPDX-License-Identifier: Apache-2.0
package org.spectrumkv;

import org.spectrumkv.raw.Native;
import org.spectrumkv.raw.NativeConstants;

/**
 * The loaded library. Found by the system property {@code spectrumkv.jni} (the path of libspectrumkv_java.so), else on {@code
 * java.library.path}; it needs libspectrumkv.so.0 where the loader finds it.
 */
public final class Library {
  private Library() {}

  static {
    String path = System.getProperty("spectrumkv.jni");
    if (path != null) {
      System.load(path);
    } else {
      System.loadLibrary("spectrumkv_java");
    }
    long found = Native.skv_abi_version();
    if (found != NativeConstants.SKV_ABI_VERSION) {
      throw new UnsatisfiedLinkError(
          "libspectrumkv of ABI version " + found + ", these classes need " + NativeConstants.SKV_ABI_VERSION);
    }
  }

  /** Loads the library when that was not done yet. */
  static void load() {
    // the static initialiser does
  }

  /** Its version, such as {@code "0.1.0"}. */
  public static String version() {
    return Native.skv_version_string();
  }

  /** The same as major * 10000 + minor * 100 + patch. */
  public static long versionNumber() {
    return Native.skv_version();
  }

  /** The payload format that it writes, major * 256 + minor. */
  public static long wireVersion() {
    return Native.skv_wire_version();
  }

  /** The name of a status, {@code "SKV_UNKNOWN"} for one that it does not define. */
  public static String statusName(int status) {
    return Native.skv_status_name(status);
  }

  /** CLOCK_MONOTONIC in nanoseconds, the clock of deadlines. */
  public static long nowNanos() {
    return Native.skv_now_ns();
  }

  static long deadline(java.time.Duration timeout) {
    long millis;
    try {
      millis = timeout.isNegative() ? 0 : timeout.plusNanos(999_999).toMillis();
    } catch (ArithmeticException e) {
      millis = Long.MAX_VALUE;
    }
    return Native.skv_deadline_ms(millis);
  }
}
