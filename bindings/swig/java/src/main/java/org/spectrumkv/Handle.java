// SPDX-License-Identifier: Apache-2.0
package org.spectrumkv;

import java.lang.ref.Cleaner;
import java.lang.ref.Reference;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.LongPredicate;
import org.spectrumkv.raw.NativeConstants;

/**
 * What every object that owns a C handle shares: an idempotent {@link #close()}, release by the garbage collector of what was
 * forgotten, and no use after close: a call that runs in another thread when the object is closed finishes normally.
 */
public abstract class Handle implements AutoCloseable {
  private static final Cleaner CLEANER = Cleaner.create();

  /** The handle without its object, so that the object can be collected. */
  static final class Owned implements Runnable {
    private final String kind;
    private final long handle;
    private final LongPredicate destroy;
    // Calls on one handle take turns, unless the library makes it thread-safe.
    private final ReentrantLock turn;
    // Memory that C reads or writes, alive until the handle is destroyed.
    private List<Object> keep = new ArrayList<>();
    private int users;
    private boolean closed;

    Owned(String kind, long handle, boolean shared, LongPredicate destroy) {
      this.kind = kind;
      this.handle = handle;
      this.destroy = destroy;
      this.turn = shared ? null : new ReentrantLock();
    }

    private void acquire() {
      if (turn != null) {
        turn.lock();
      }
      synchronized (this) {
        if (!closed) {
          users++;
          return;
        }
      }
      if (turn != null) {
        turn.unlock();
      }
      throw new SpectrumKVException(NativeConstants.SKV_E_CLOSED, "the " + kind + " is closed");
    }

    private void release() {
      boolean last;
      synchronized (this) {
        last = --users == 0 && closed;
      }
      if (last) {
        end();
      }
      if (turn != null) {
        turn.unlock();
      }
    }

    @Override
    public void run() {
      synchronized (this) {
        if (closed) {
          return;
        }
        closed = true;
        if (users > 0) {
          return;
        }
      }
      end();
    }

    private void end() {
      if (destroy.test(handle)) {
        keep = null;
      } else {
        synchronized (LOST) { // a late write must not hit memory that is used again
          LOST.add(keep);
        }
      }
    }

    synchronized void keep(Object memory) {
      if (memory != null) {
        keep.add(memory);
      }
    }

    synchronized List<Object> kept() {
      return List.copyOf(keep);
    }
  }

  private static final List<Object> LOST = new ArrayList<>();

  final Owned owned;
  private final Cleaner.Cleanable cleanable;

  Handle(String kind, long handle, boolean shared, LongPredicate destroy) {
    owned = new Owned(kind, handle, shared, destroy);
    cleanable = CLEANER.register(this, owned);
  }

  /** Whether this one is taken before the other, where a call has two of a kind. */
  final boolean before(Handle other) {
    return owned.handle < other.owned.handle;
  }

  /**
   * One call's hold on a handle. Calls with several take them in the order engine, cache, plan, scores, payload, and two of a kind by
   * {@link #before}, so that two calls cannot wait for each other.
   */
  final class Use implements AutoCloseable {
    final long handle = owned.handle;

    private Use() {
      owned.acquire();
    }

    @Override
    public void close() {
      owned.release();
      Reference.reachabilityFence(Handle.this);
    }
  }

  final Use use() {
    return new Use();
  }

  static LongPredicate always(java.util.function.LongConsumer destroy) {
    return handle -> {
      destroy.accept(handle);
      return true;
    };
  }

  /** Releases the handle. Calling it again does nothing. */
  @Override
  public void close() {
    cleanable.clean();
    Reference.reachabilityFence(this);
  }
}
