// SPDX-License-Identifier: Apache-2.0
package org.spectrumkv;

import java.time.Duration;
import java.util.List;
import org.spectrumkv.raw.Native;
import org.spectrumkv.raw.NativeConstants;

/**
 * One peer. Threads may share it. Closing it says goodbye; live requests end as cancelled here, and as peer lost or cancelled there.
 */
public final class Conn extends Handle {
  final Endpoint endpoint;

  Conn(long handle, Endpoint endpoint) {
    super("conn", handle, true, always(Native::skv_conn_destroy));
    this.endpoint = endpoint;
  }

  /** A fact ({@code SKV_CONN_...}). Throws KEY. */
  public long get(int key) {
    long[] out = new long[1];
    try (Use conn = use()) {
      Native.skv_conn_get(conn.handle, key, out);
    }
    return out[0];
  }

  /** Whether it is usable. */
  public boolean isOpen() {
    return get(NativeConstants.SKV_CONN_OPEN) != 0;
  }

  /**
   * Offers a payload under a key of the caller's choice, and sends it once the peer accepts. The payload may be closed at once; the
   * request keeps its bytes. Throws CLOSED, STATE (payload incomplete), TIMED_OUT (timeout not positive), NO_RESOURCE.
   */
  public Request send(long key, Payload payload, Duration timeout) {
    long[] out = new long[1];
    try (Use source = payload.use();
        Use conn = use()) {
      Native.skv_send(conn.handle, key, source.handle, Library.deadline(timeout), out);
      return new Request(out[0], this, payload.kept());
    }
  }

  /**
   * {@link #send} for a payload under construction ({@link Payload#create}): each layer leaves once {@link Engine#encodeLayer} made it.
   * Closing the payload before its last layer is encoded ends the request in CANCELLED.
   */
  public Request sendLayers(long key, Payload payload, Duration timeout) {
    long[] out = new long[1];
    try (Use source = payload.use();
        Use conn = use()) {
      Native.skv_send_layers(conn.handle, key, source.handle, Library.deadline(timeout), out);
      return new Request(out[0], this, payload.kept());
    }
  }

  /** Starts waiting for the peer's next offer: await the request, look at it, then accept or reject it. Throws CLOSED. */
  public Request receiveOffer(Duration timeout) {
    long[] out = new long[1];
    try (Use conn = use()) {
      Native.skv_recv_offer(conn.handle, Library.deadline(timeout), out);
    }
    return new Request(out[0], this, List.of());
  }

  /** Accepts the peer's next offer and waits for it: the simple way. Throws every terminal status of a request. */
  public Payload receive(Duration timeout) throws InterruptedException {
    long end = System.nanoTime() + Endpoint.nanos(timeout);
    try (Request request = receiveOffer(timeout)) {
      request.result(left(end));
      request.accept(left(end));
      request.result(left(end));
      return request.payload();
    }
  }

  private static Duration left(long end) {
    return Duration.ofNanos(Math.max(0, end - System.nanoTime()));
  }
}
