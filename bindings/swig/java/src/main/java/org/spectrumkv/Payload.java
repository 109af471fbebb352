// SPDX-License-Identifier: Apache-2.0
package org.spectrumkv;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.List;
import org.spectrumkv.raw.Native;
import org.spectrumkv.raw.NativeConstants;
import org.spectrumkv.raw.skv_receipt;

/** The encoded bytes, self-describing, one segment a layer. */
public final class Payload extends Handle {
  Payload(long handle, Object memory) {
    super("payload", handle, false, always(Native::skv_payload_destroy));
    owned.keep(memory);
  }

  /**
   * Opens a direct buffer, from its first byte to its capacity, as a payload. It is not copied, but kept; do not change it. Safe on
   * untrusted bytes. Throws TRUNCATED, TRAILING, MALFORMED, VERSION, FEATURE, CHECKSUM (of the header).
   */
  public static Payload open(ByteBuffer bytes) {
    Library.load();
    long[] out = new long[1];
    Native.skv_payload_open(bytes, out);
    return new Payload(out[0], bytes);
  }

  /** Opens a copy of bytes on the heap. See {@link #open(ByteBuffer)}. */
  public static Payload open(byte[] bytes) {
    return open(ByteBuffer.allocateDirect(bytes.length).put(0, bytes));
  }

  /** An empty payload for a solved plan, to be filled by {@link Engine#encodeLayer}. */
  public static Payload create(Cache cache, Plan plan) {
    long[] out = new long[1];
    try (Use view = cache.use();
        Use solved = plan.use()) {
      Native.skv_payload_create(view.handle, solved.handle, null, out);
    }
    return new Payload(out[0], null);
  }

  /** Checks every segment's digest. Throws CHECKSUM, STATE (under construction). */
  public Payload verify() {
    try (Use payload = use()) {
      Native.skv_payload_verify(payload.handle);
      return this;
    }
  }

  /**
   * This payload with an upgrade of it: a new one, which may be upgraded again. Throws BASE (an upgrade of another payload), MODEL,
   * REQUEST, STATE, CHECKSUM, MALFORMED.
   */
  public Payload apply(Payload upgrade) {
    long[] out = new long[1];
    boolean turned = upgrade.before(this);
    try (Use first = (turned ? upgrade : this).use();
        Use second = (turned ? this : upgrade).use()) {
      Native.skv_payload_apply((turned ? second : first).handle, (turned ? first : second).handle, out);
    }
    return new Payload(out[0], null);
  }

  /** This payload at the tiers of a plan that {@link Plan#truncate} solved for it: a new one. Throws STATE, BASE, CHECKSUM. */
  public Payload truncate(Plan plan) {
    long[] out = new long[1];
    try (Use solved = plan.use();
        Use payload = use()) {
      Native.skv_payload_truncate(payload.handle, solved.handle, out);
    }
    return new Payload(out[0], null);
  }

  /** What {@link #view} calls. */
  @FunctionalInterface
  public interface Reader<T, E extends Exception> {
    /** The bytes must not be kept. */
    T read(ByteBuffer bytes) throws E;
  }

  /** Calls the reader with the bytes, read-only, without a copy. Throws STATE (layers missing). */
  public <T, E extends Exception> T view(Reader<T, E> reader) throws E {
    try (Use payload = use()) {
      ByteBuffer[] out = new ByteBuffer[1];
      Native.skv_payload_data(payload.handle, out);
      return reader.read(out[0].asReadOnlyBuffer());
    }
  }

  /** A copy of the bytes. Throws STATE (layers missing). */
  public byte[] toByteArray() {
    return view(
        bytes -> {
          byte[] copy = new byte[bytes.remaining()];
          bytes.get(copy);
          return copy;
        });
  }

  /** Who it belongs to: 32 bytes of a model, 16 of a request. */
  public record Identity(byte[] fingerprint, byte[] requestId) {}

  /** Who it belongs to. */
  public Identity identity() {
    Identity out =
        new Identity(new byte[NativeConstants.SKV_FINGERPRINT_BYTES], new byte[NativeConstants.SKV_REQUEST_ID_BYTES]);
    try (Use payload = use()) {
      Native.skv_payload_identity(payload.handle, out.fingerprint, out.requestId);
    }
    return out;
  }

  /** A fact ({@code SKV_PAYLOAD_...}) about the payload (layer {@link Cache#ALL}) or one segment. Throws KEY, RANGE. */
  public long get(int layer, int key) {
    long[] out = new long[1];
    try (Use payload = use()) {
      Native.skv_payload_get(payload.handle, layer, key, out);
    }
    return out[0];
  }

  /** Size in bytes. */
  public long bytes() {
    return get(Cache.ALL, NativeConstants.SKV_PAYLOAD_BYTES);
  }

  /** Number of segments. */
  public int layers() {
    return (int) get(Cache.ALL, NativeConstants.SKV_PAYLOAD_LAYERS);
  }

  /** The tiers ({@code SKV_TIER_...}) of a segment's K or V, one a token. Throws RANGE. */
  public byte[] tiers(int layer, Half half) {
    byte[] out = new byte[(int) get(layer, NativeConstants.SKV_PAYLOAD_TOKENS)];
    try (Use payload = use()) {
      Native.skv_payload_get_tiers(payload.handle, layer, half.value, out);
    }
    return out;
  }

  /** What was done. Times are nanoseconds, 0 where the step did not happen in this process. */
  public record Receipt(
      int scored,
      long rawBytes,
      long budgetBytes,
      long payloadBytes,
      double ratio,
      long[] kRows,
      long[] vRows,
      long scoreNanos,
      long planNanos,
      long encodeNanos,
      long decodeNanos,
      long wireNanos,
      int plane,
      int code,
      double breakEvenBitsPerSecond,
      int int4,
      int proof,
      double predictedKl,
      double worstSnrDb,
      int worstLayer,
      int worstHead,
      long escalatedLayers,
      int rawIsFaster,
      long droppedRows,
      double[] kMass,
      double[] vMass,
      double linkBitsPerSecond,
      long unpackedBytes,
      long cutLayers) {}

  /** What was done so far: after encoding, after a transfer, after decoding. */
  public Receipt receipt() {
    skv_receipt r = new skv_receipt();
    try (Use payload = use()) {
      Native.skv_payload_receipt(payload.handle, r);
      return new Receipt(
          r.getScored(), r.getRaw_bytes(), r.getBudget_bytes(), r.getPayload_bytes(), r.getRatio(), r.getK_rows(), r.getV_rows(),
          r.getScore_ns(), r.getPlan_ns(), r.getEncode_ns(), r.getDecode_ns(), r.getWire_ns(), r.getPlane(), r.getCode(),
          r.getBreak_even_bits_per_s(), r.getInt4(), r.getProof(), r.getPredicted_kl(), r.getWorst_snr_db(), r.getWorst_layer(),
          r.getWorst_head(), r.getEscalated_layers(), r.getRaw_is_faster(), r.getDropped_rows(), r.getK_mass(), r.getV_mass(),
          r.getLink_bits_per_s(), r.getUnpacked_bytes(), r.getCut_layers());
    } finally {
      r.delete();
    }
  }

  /** Zero memory at a 64-byte boundary, for {@link Engine#encodeInto} and {@link Request#acceptInto}. */
  public static ByteBuffer alignedBytes(int size) {
    // alignedSlice gives up the odd bytes at both ends.
    ByteBuffer whole = ByteBuffer.allocateDirect(size + 2 * 64).alignedSlice(64);
    return whole.slice(0, size).order(ByteOrder.nativeOrder());
  }

  List<Object> kept() {
    return owned.kept();
  }
}
