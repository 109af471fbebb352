// SPDX-License-Identifier: Apache-2.0
package org.spectrumkv;


/** What the library said no with: a status of the header ({@code NativeConstants.SKV_E_...}) and what was got and is wanted. */
public final class SpectrumKVException extends RuntimeException {
  private static final long serialVersionUID = 1L;
  private final int status;
  private final int nativeCode;

  /** Made by the library's calls. */
  public SpectrumKVException(int status, int nativeCode, String message) {
    super(message);
    this.status = status;
    this.nativeCode = nativeCode;
  }

  SpectrumKVException(int status, String message) {
    this(status, 0, message);
  }

  /** Which error: one of {@code NativeConstants.SKV_E_...}. */
  public int status() {
    return status;
  }

  /** The status's name, such as {@code "SKV_E_BUDGET"}. */
  public String statusName() {
    return Library.statusName(status);
  }

  /** errno, CUDA or NCCL code behind it, else 0. */
  public int nativeCode() {
    return nativeCode;
  }

  @Override
  public String toString() {
    return statusName() + ": " + getMessage();
  }
}
