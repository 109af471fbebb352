// SPDX-License-Identifier: Apache-2.0
package org.spectrumkv;

import org.spectrumkv.raw.NativeConstants;

/** Element types of KV memory. */
public enum DType {
  F16(NativeConstants.SKV_F16, 2),
  BF16(NativeConstants.SKV_BF16, 2),
  F32(NativeConstants.SKV_F32, 4);

  final int value;
  private final int bytes;

  DType(int value, int bytes) {
    this.value = value;
    this.bytes = bytes;
  }

  /** Size of an element. */
  public int bytes() {
    return bytes;
  }
}
