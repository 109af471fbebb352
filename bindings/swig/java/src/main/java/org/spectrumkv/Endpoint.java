// SPDX-License-Identifier: Apache-2.0
package org.spectrumkv;

import java.lang.ref.WeakReference;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.spectrumkv.raw.Native;
import org.spectrumkv.raw.NativeConstants;
import org.spectrumkv.raw.skv_endpoint_stats;

/**
 * A local end: listens, connects, and carries requests. Threads may share it. Closing it closes every conn; live requests end as
 * cancelled. URIs: inproc://NAME, unix:///PATH, unix://@NAME, tcp://HOST:PORT (port 0: any).
 */
public final class Endpoint extends Handle {
  /** Calls that wait return to Java so often, to see whether their thread was interrupted. */
  static final Duration SLICE = Duration.ofMillis(100);

  final Map<Long, WeakReference<Request>> requests = new ConcurrentHashMap<>();

  /** An endpoint with default options and a thread that moves the bytes. Throws NO_MEMORY, NO_RESOURCE. */
  public Endpoint() {
    super("endpoint", create(), true, always(Native::skv_endpoint_destroy));
  }

  private static long create() {
    Library.load();
    long[] out = new long[1];
    Native.skv_endpoint_create(out);
    return out[0];
  }

  /** Sets an option ({@code SKV_ENDPOINT_...}), before the first listen or connect. Throws KEY, RANGE, STATE. */
  public Endpoint set(int key, long value) {
    try (Use endpoint = use()) {
      Native.skv_endpoint_set(endpoint.handle, key, value);
      return this;
    }
  }

  /** The model served here, 32 bytes. Two ends whose fingerprints differ refuse each other with MODEL. Throws STATE. */
  public Endpoint model(byte[] fingerprint) {
    try (Use endpoint = use()) {
      Native.skv_endpoint_set_model(endpoint.handle, fingerprint);
      return this;
    }
  }

  /** Starts listening and returns the URI with the real port. Throws ADDRESS, PERMITTED, IO. */
  public String listen(String uri) {
    byte[] bound = new byte[512];
    try (Use endpoint = use()) {
      Native.skv_listen(endpoint.handle, uri, bound);
    }
    return Engine.text(bound);
  }

  /** Waits for the next peer that finished its handshake. Throws TIMED_OUT, CLOSED, STATE (not listening). */
  public Conn accept(Duration timeout) throws InterruptedException {
    long end = System.nanoTime() + nanos(timeout);
    long[] out = new long[1];
    try (Use endpoint = use()) {
      while (true) {
        if (Thread.interrupted()) {
          throw new InterruptedException("waiting for a peer");
        }
        Duration left = Duration.ofNanos(Math.max(0, end - System.nanoTime()));
        try {
          Native.skv_accept(endpoint.handle, Library.deadline(min(left, SLICE)), out);
          return new Conn(out[0], this);
        } catch (SpectrumKVException e) {
          if (e.status() != NativeConstants.SKV_E_TIMED_OUT || left.compareTo(SLICE) <= 0) {
            throw e;
          }
        }
      }
    }
  }

  /** Connects and shakes hands. Throws ADDRESS, TIMED_OUT, PEER_LOST, PROTOCOL, VERSION, MODEL, NO_RESOURCE. */
  public Conn connect(String uri, Duration timeout) {
    long[] out = new long[1];
    try (Use endpoint = use()) {
      Native.skv_connect(endpoint.handle, uri, Library.deadline(timeout), out);
    }
    return new Conn(out[0], this);
  }

  /** A descriptor that becomes readable when {@link #poll} (without a progress thread: {@link #progress}) has something. */
  public int fd() {
    int[] out = new int[1];
    try (Use endpoint = use()) {
      Native.skv_endpoint_fd(endpoint.handle, out);
    }
    return out[0];
  }

  /** Runs I/O until something completed (true) or so much time passed (false). Without a progress thread only. Throws STATE. */
  public boolean progress(Duration timeout) {
    try (Use endpoint = use()) {
      return Native.skv_endpoint_progress(endpoint.handle, Library.deadline(timeout)) == NativeConstants.SKV_OK;
    }
  }

  /** Requests that ended, or have an offer to decide on, since they were last reported. Never waits. */
  public List<Request> poll() {
    List<Request> found = new ArrayList<>();
    long[] out = new long[64];
    long[] count = new long[1];
    try (Use endpoint = use()) {
      do {
        Native.skv_endpoint_poll(endpoint.handle, out, count);
        for (int i = 0; i < count[0]; i++) {
          WeakReference<Request> reference = requests.get(out[i]);
          Request request = reference == null ? null : reference.get();
          if (request != null) {
            found.add(request);
          }
        }
      } while (count[0] == out.length);
    }
    return found;
  }

  /** Counters; bytes are payload bytes. */
  public record Stats(
      long conns,
      long handshakesOk,
      long handshakesFailed,
      long sentOk,
      long receivedOk,
      long failed,
      long bytesSent,
      long bytesReceived,
      long protocolErrors,
      long checksumErrors) {}

  /** Counters so far. */
  public Stats stats() {
    skv_endpoint_stats s = new skv_endpoint_stats();
    try (Use endpoint = use()) {
      Native.skv_endpoint_get_stats(endpoint.handle, s);
      return new Stats(
          s.getConns(), s.getHandshakes_ok(), s.getHandshakes_failed(), s.getSent_ok(), s.getReceived_ok(), s.getFailed(),
          s.getBytes_sent(), s.getBytes_received(), s.getProtocol_errors(), s.getChecksum_errors());
    } finally {
      s.delete();
    }
  }

  static Duration min(Duration a, Duration b) {
    return a.compareTo(b) < 0 ? a : b;
  }

  static long nanos(Duration timeout) {
    try {
      return Math.min(timeout.toNanos(), Long.MAX_VALUE / 2);
    } catch (ArithmeticException e) {
      return Long.MAX_VALUE / 2;
    }
  }
}
