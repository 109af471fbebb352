// SPDX-License-Identifier: Apache-2.0
package org.spectrumkv;

import java.lang.ref.WeakReference;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
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

  /**
   * A shared key of 16 to 1024 random bytes for every TCP and Unix conn, with SKV_SECURITY_PSK (both ends prove it, bytes travel in the
   * clear) or SKV_SECURITY_TLS_PSK (TLS 1.3 on TCP). Copied. Throws RANGE, STATE.
   */
  public Endpoint psk(int security, byte[] key) {
    try (Use endpoint = use()) {
      Native.skv_endpoint_set_psk(endpoint.handle, security, key);
      return this;
    }
  }

  /**
   * Certificates for the TCP conns, PEM files that are read now: this end's chain and key, and the authority that must have signed the
   * peer's. peerName: what the peer's certificate must be for; null: the host of the URI when connecting, anything when accepting.
   * Throws STATE, AUTH (names the file that cannot be used).
   */
  public Endpoint tls(String certificate, String key, String authority, String peerName) {
    try (Use endpoint = use()) {
      Native.skv_endpoint_set_tls(endpoint.handle, certificate, key, authority, peerName);
      return this;
    }
  }

  /**
   * Says goodbye to every peer and stops listening; what is under way goes on. True once every transfer has ended, false: not in time.
   * Throws CLOSED.
   */
  public boolean drain(Duration timeout) {
    try (Use endpoint = use()) {
      return Native.skv_endpoint_drain(endpoint.handle, Library.deadline(timeout)) == NativeConstants.SKV_OK;
    }
  }

  /** What happened: kind is SKV_EVENT_..., status a status, time and duration nanoseconds. */
  public record Event(
      long timeNanos, int kind, int status, long conn, long transfer, long key, long bytes, long durationNanos, boolean sending) {}

  /** What happened since the last call, oldest first. */
  public List<Event> events() {
    final int size = 64; // frozen in the header
    ByteBuffer records = ByteBuffer.allocateDirect(64 * size).order(ByteOrder.nativeOrder());
    long[] count = new long[1];
    List<Event> found = new ArrayList<>();
    try (Use endpoint = use()) {
      do {
        Native.skv_endpoint_events(endpoint.handle, records, count);
        for (int at = 0; at < count[0] * size; at += size) {
          found.add(
              new Event(
                  records.getLong(at), records.getInt(at + 8), records.getInt(at + 12), records.getLong(at + 16),
                  records.getLong(at + 24), records.getLong(at + 32), records.getLong(at + 40), records.getLong(at + 48),
                  records.getInt(at + 56) != 0));
        }
      } while (count[0] == 64);
    }
    return found;
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

  /** Counters; bytes are payload bytes. Item i of a histogram counts 2^i up to 2^(i+1); times are microseconds. */
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
      long checksumErrors,
      long authErrors,
      long handshakesRefused,
      long handshakesPending,
      long cancelled,
      long timedOut,
      long peerLost,
      long rejected,
      long noResource,
      long sending,
      long receiving,
      long offersWaiting,
      long creditHeld,
      long creditStalls,
      long eventsLost,
      long[] timeLog2,
      long[] queueLog2,
      long[] bytesLog2) {}

  /** Counters so far. */
  public Stats stats() {
    skv_endpoint_stats s = new skv_endpoint_stats();
    try (Use endpoint = use()) {
      Native.skv_endpoint_get_stats(endpoint.handle, s);
      return new Stats(
          s.getConns(), s.getHandshakes_ok(), s.getHandshakes_failed(), s.getSent_ok(), s.getReceived_ok(), s.getFailed(),
          s.getBytes_sent(), s.getBytes_received(), s.getProtocol_errors(), s.getChecksum_errors(), s.getAuth_errors(),
          s.getHandshakes_refused(), s.getHandshakes_pending(), s.getCancelled(), s.getTimed_out(), s.getPeer_lost(),
          s.getRejected(), s.getNo_resource(), s.getSending(), s.getReceiving(), s.getOffers_waiting(), s.getCredit_held(),
          s.getCredit_stalls(), s.getEvents_lost(), s.getTime_log2(), s.getQueue_log2(), s.getBytes_log2());
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
