// SPDX-License-Identifier: Apache-2.0
package org.spectrumkv;

import org.spectrumkv.raw.NativeConstants;

/** Which half of a layer. */
public enum Half {
  K(NativeConstants.SKV_K),
  V(NativeConstants.SKV_V);

  final int value;

  Half(int value) {
    this.value = value;
  }
}
