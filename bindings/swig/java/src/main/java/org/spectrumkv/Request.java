// SPDX-License-Identifier: Apache-2.0
package org.spectrumkv;

import java.lang.ref.WeakReference;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.Executor;
import java.util.function.LongUnaryOperator;
import org.spectrumkv.raw.Native;
import org.spectrumkv.raw.NativeConstants;

/**
 * One asynchronous operation: a payload on its way out, or the wait for an offer and what follows. It reaches exactly one terminal
 * status, and until then keeps the memory that it reads or fills. Threads may share it.
 */
public final class Request extends Handle {
  /** How long closing a live request may wait for it to let go of its memory, as in the other bindings. */
  private static final Duration LET_GO = Duration.ofSeconds(2);

  private final Conn conn;

  Request(long handle, Conn conn, List<Object> memory) {
    super("request", handle, true, ended(conn.endpoint));
    this.conn = conn;
    memory.forEach(owned::keep);
    conn.endpoint.requests.put(handle, new WeakReference<>(this));
  }

  private static java.util.function.LongPredicate ended(Endpoint endpoint) {
    return handle -> {
      endpoint.requests.remove(handle); // before its address can become another's
      try {
        Native.skv_request_destroy(handle);
        return true;
      } catch (SpectrumKVException busy) {
        try {
          Native.skv_request_cancel(handle);
          Native.skv_request_wait(handle, Library.deadline(LET_GO));
        } catch (SpectrumKVException over) {
          // its terminal status does not matter any more
        }
        try {
          Native.skv_request_destroy(handle);
          return true;
        } catch (SpectrumKVException stuck) {
          return false;
        }
      }
    };
  }

  /** The conn that it belongs to. */
  public Conn conn() {
    return conn;
  }

  /** A fact ({@code SKV_REQUEST_...}). Throws KEY. */
  public long get(int key) {
    long[] out = new long[1];
    try (Use request = use()) {
      Native.skv_request_get(request.handle, key, out);
    }
    return out[0];
  }

  /** Where it stands: SKV_REQUEST_PENDING, OFFERED, MOVING or ENDED. */
  public int state() {
    return (int) get(NativeConstants.SKV_REQUEST_STATE);
  }

  /** What a peer offers: the sender's key, payload bytes, segments, and who it belongs to. */
  public record Offer(long key, long bytes, int layers, byte[] fingerprint, byte[] requestId) {}

  /** What is on offer. Throws STATE (no offer yet). */
  public Offer offer() {
    byte[] fingerprint = new byte[NativeConstants.SKV_FINGERPRINT_BYTES];
    byte[] requestId = new byte[NativeConstants.SKV_REQUEST_ID_BYTES];
    try (Use request = use()) {
      Native.skv_request_identity(request.handle, fingerprint, requestId);
    }
    return new Offer(
        get(NativeConstants.SKV_REQUEST_KEY),
        get(NativeConstants.SKV_REQUEST_BYTES),
        (int) get(NativeConstants.SKV_REQUEST_LAYERS),
        fingerprint,
        requestId);
  }

  /**
   * Sets an option, before the offer is accepted: SKV_REQUEST_EARLY_LAYERS 1 lets {@link #payload} be taken once the first layer arrived,
   * and each layer be decoded once {@link #awaitLayer} said so. If the transfer fails later, what was decoded is the caller's to
   * discard. Throws KEY, RANGE, STATE (a send, or already accepted).
   */
  public void set(int key, long value) {
    try (Use request = use()) {
      Native.skv_request_set(request.handle, key, value);
    }
  }

  /** Takes the offer; the library allocates. Throws STATE (no offer), NO_MEMORY, CLOSED. */
  public void accept(Duration timeout) {
    acceptInto(null, timeout);
  }

  /**
   * Takes the offer into a direct buffer, 16-byte aligned (see {@link Payload#alignedBytes}), kept until the request and the payload
   * are closed. Do not touch it before the request ended. Throws STATE (no offer), TOO_SMALL, ARGUMENT (alignment), CLOSED.
   */
  public void acceptInto(ByteBuffer buffer, Duration timeout) {
    if (buffer != null && buffer.isReadOnly()) {
      throw new SpectrumKVException(NativeConstants.SKV_E_ARGUMENT, "a read-only buffer: wanted one that can be written");
    }
    try (Use request = use()) {
      Native.skv_offer_accept(request.handle, buffer, Library.deadline(timeout));
      owned.keep(buffer);
    }
  }

  /** Declines the offer. The sender ends in REJECTED with the reason (at most 200 bytes), and so does this request. */
  public void reject(String reason) {
    try (Use request = use()) {
      Native.skv_offer_reject(request.handle, reason);
    }
  }

  /** Whether it has an offer to decide on, or ended well. Never waits. Throws its terminal status. */
  public boolean test() {
    try (Use request = use()) {
      return Native.skv_request_test(request.handle) == NativeConstants.SKV_OK;
    }
  }

  /**
   * {@link #test}, waiting up to so long; false: still in progress, the request goes on. An interrupt cancels the request. Throws its
   * terminal status.
   */
  public boolean await(Duration timeout) throws InterruptedException {
    try (Use request = use()) {
      return sliced(timeout, until -> Native.skv_request_wait(request.handle, until));
    }
  }

  /** Waits until the leading layer + 1 layers arrived and verified; false: not yet. Throws its terminal status, STATE, RANGE. */
  public boolean awaitLayer(int layer, Duration timeout) throws InterruptedException {
    try (Use request = use()) {
      return sliced(timeout, until -> Native.skv_request_wait_layer(request.handle, layer, until));
    }
  }

  private boolean sliced(Duration timeout, LongUnaryOperator wait) throws InterruptedException {
    long end = System.nanoTime() + Endpoint.nanos(timeout);
    while (true) {
      if (Thread.interrupted()) {
        cancel();
        throw new InterruptedException("waiting for a request, which is cancelled");
      }
      Duration left = Duration.ofNanos(Math.max(0, end - System.nanoTime()));
      if (wait.applyAsLong(Library.deadline(Endpoint.min(left, Endpoint.SLICE))) == NativeConstants.SKV_OK) {
        return true;
      }
      if (left.compareTo(Endpoint.SLICE) <= 0) {
        return false;
      }
    }
  }

  /** {@link #await}, but still being in progress throws TIMED_OUT (the request goes on). */
  public void result(Duration timeout) throws InterruptedException {
    if (!await(timeout)) {
      throw new SpectrumKVException(NativeConstants.SKV_E_TIMED_OUT, "still in progress after " + timeout);
    }
  }

  /** {@link #result} on another thread. Cancelling the future does not cancel the request. */
  public CompletableFuture<Request> resultAsync(Duration timeout, Executor executor) {
    return CompletableFuture.supplyAsync(
        () -> {
          try {
            result(timeout);
            return this;
          } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new CompletionException(e);
          }
        },
        executor);
  }

  /** Asks for an early end. It still reaches one terminal status: CANCELLED, unless it had ended. */
  public void cancel() {
    try (Use request = use()) {
      Native.skv_request_cancel(request.handle);
    }
  }

  /** The received payload of a request that ended well, opened and validated. Once. Throws STATE, and those of Payload.open. */
  public Payload payload() {
    long[] out = new long[1];
    try (Use request = use()) {
      Native.skv_request_payload(request.handle, out);
    }
    return new Payload(out[0], owned.kept());
  }
}
