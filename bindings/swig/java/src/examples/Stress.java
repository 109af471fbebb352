// SPDX-License-Identifier: Apache-2.0

import java.io.IOException;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.spectrumkv.Cache;
import org.spectrumkv.Conn;
import org.spectrumkv.DType;
import org.spectrumkv.Endpoint;
import org.spectrumkv.Engine;
import org.spectrumkv.Half;
import org.spectrumkv.Payload;
import org.spectrumkv.Plan;
import org.spectrumkv.Request;
import org.spectrumkv.SpectrumKVException;
import org.spectrumkv.Strides;
import org.spectrumkv.raw.NativeConstants;

/** The stress program in Java; see tests/stress/watch.py for its arguments and for what each operation does. */
public final class Stress {
  private static final int LAYERS = 2;
  private static final int TOKENS = 64;
  private static final int DIM = 64;
  private static final int PLANE = TOKENS * DIM * 2;
  private static final Duration SOON = Duration.ofSeconds(60);

  private final String leak;
  private final List<Object> kept = new ArrayList<>();
  private final ByteBuffer memory = ByteBuffer.allocateDirect(2 * LAYERS * PLANE);
  private final ByteBuffer target = ByteBuffer.allocateDirect(2 * LAYERS * PLANE);
  private final Engine engine = new Engine().set(NativeConstants.SKV_ENGINE_THREADS, 1);
  private final Cache cache;
  private final Cache destination;
  private final Plan plan;
  private final Payload payload;
  private final byte[] sent;
  private final byte[] damaged;

  private Stress(String leak) {
    this.leak = leak;
    for (int i = 0; i < memory.capacity(); i += 2) { // float16 between 1 and 2, of either sign
      int value = i * 0x9E3779B1 >>> 8;
      memory.put(i, (byte) value).put(i + 1, (byte) (0x3C | value >> 8 & 0x83));
    }
    cache = view(memory);
    destination = view(target);
    plan = solved(cache);
    payload = engine.encode(cache, plan);
    sent = payload.toByteArray();
    damaged = sent.clone();
    damaged[damaged.length - 40] ^= 1;
  }

  private static Cache view(ByteBuffer memory) {
    Cache cache = new Cache(LAYERS).tokens(Cache.ALL, 0, TOKENS).layer(Cache.ALL, 1, DIM, DIM, DType.F16);
    for (int i = 0; i < 2 * LAYERS; i++) {
      cache.plane(i / 2, Half.values()[i % 2], memory.slice(i * PLANE, PLANE), Strides.tokenMajor(1, DIM, DType.F16));
    }
    return cache;
  }

  private Plan solved(Cache of) {
    return new Plan(engine).set(NativeConstants.SKV_PLAN_UNPROVEN, 1).budget(0.5).solve(of);
  }

  private interface Call {
    Object run() throws InterruptedException;
  }

  /** Fails unless the call ends in one of these statuses. */
  private static void is(Call call, int... wanted) throws InterruptedException {
    int got = NativeConstants.SKV_OK;
    try {
      call.run();
    } catch (SpectrumKVException e) {
      got = e.status();
    }
    int found = got;
    require(Arrays.stream(wanted).anyMatch(w -> w == found), "got " + got + ", wanted one of " + Arrays.toString(wanted));
  }

  private static void require(boolean condition, String message) {
    if (!condition) {
      throw new AssertionError(message);
    }
  }

  private static final class Ends implements AutoCloseable {
    final Endpoint a = new Endpoint();
    final Endpoint b = new Endpoint();
    final Conn here;
    final Conn there;

    Ends(int number) throws InterruptedException {
      String name = "stress-" + ProcessHandle.current().pid() + "-" + number;
      String[] uris = {"inproc://" + name, "unix://@" + name, "tcp://127.0.0.1:0"};
      for (Endpoint endpoint : new Endpoint[] {a, b}) { // a busy machine is no lost peer
        endpoint.set(NativeConstants.SKV_ENDPOINT_HEARTBEAT_MS, 60000).set(NativeConstants.SKV_ENDPOINT_HANDSHAKE_MS, 60000);
      }
      here = a.connect(b.listen(uris[number % 3]), SOON);
      there = b.accept(SOON);
    }

    Request offered() throws InterruptedException {
      Request request = there.receiveOffer(SOON);
      request.result(SOON);
      return request;
    }

    @Override
    public void close() {
      for (AutoCloseable handle : new AutoCloseable[] {a, b, here, there, a, here}) {
        try {
          handle.close();
        } catch (Exception e) {
          throw new AssertionError(e);
        }
      }
    }
  }

  private void codec(boolean into) {
    try (Cache first = view(memory);
        Cache second = view(target);
        Plan own = solved(first)) {
      Payload encoded =
          into ? engine.encodeInto(first, own, Payload.alignedBytes((int) own.bytes())) : engine.encode(first, own);
      byte[] got = encoded.toByteArray();
      require(Arrays.equals(got, sent), "other bytes");
      target.put(target.capacity() - 1, (byte) 0);
      try (Payload opened = Payload.open(got)) {
        engine.decode(opened, second);
      }
      require(target.get(target.capacity() - 1) != 0, "nothing was decoded");
      if (leak.equals("memory")) {
        kept.add(encoded);
      } else {
        encoded.close();
      }
    }
  }

  private void refused() throws InterruptedException {
    is(() -> engine.encodeInto(cache, plan, Payload.alignedBytes(64)), NativeConstants.SKV_E_TOO_SMALL);
    is(() -> Payload.open(Arrays.copyOf(sent, sent.length / 2)), NativeConstants.SKV_E_TRUNCATED);
    try (Payload opened = Payload.open(damaged)) {
      is(() -> decode(opened), NativeConstants.SKV_E_CHECKSUM);
    }
  }

  private Object decode(Payload source) {
    engine.decode(source, destination);
    return null;
  }

  private void closed() throws InterruptedException {
    Payload gone = Payload.open(sent);
    Cache other = view(memory);
    gone.close();
    gone.close();
    other.close();
    other.close();
    is(gone::bytes, NativeConstants.SKV_E_CLOSED);
    is(() -> decode(gone), NativeConstants.SKV_E_CLOSED);
    is(() -> plan.solve(other), NativeConstants.SKV_E_CLOSED);
  }

  private void transfer(Ends ends, boolean into) throws InterruptedException {
    Payload got;
    try (Request sending = ends.here.send(1, payload, SOON);
        Request receiving = ends.offered()) {
      if (into) {
        is(
            () -> {
              receiving.acceptInto(Payload.alignedBytes(sent.length - 1), SOON);
              return null;
            },
            NativeConstants.SKV_E_TOO_SMALL);
        receiving.acceptInto(Payload.alignedBytes(sent.length), SOON);
      } else {
        receiving.accept(SOON);
      }
      receiving.result(SOON);
      sending.result(SOON);
      got = receiving.payload();
    }
    require(Arrays.equals(got.toByteArray(), sent), "other bytes");
    got.close();
  }

  private void rejected(Ends ends) throws InterruptedException {
    try (Request sending = ends.here.send(1, payload, SOON);
        Request receiving = ends.offered()) {
      receiving.reject("no room");
      is(() -> sending.await(SOON), NativeConstants.SKV_E_REJECTED);
      is(() -> receiving.await(SOON), NativeConstants.SKV_E_REJECTED);
    }
  }

  private void cancelled(Ends ends, boolean accepted) throws InterruptedException {
    try (Request sending = ends.here.send(1, payload, SOON);
        Request receiving = ends.offered()) {
      if (accepted) {
        receiving.acceptInto(Payload.alignedBytes(sent.length), SOON);
        receiving.cancel();
      } else {
        sending.cancel();
      }
      is(() -> sending.await(SOON), NativeConstants.SKV_E_CANCELLED, NativeConstants.SKV_OK);
      is(() -> receiving.await(SOON), NativeConstants.SKV_E_CANCELLED, NativeConstants.SKV_OK);
    }
  }

  private void layers(Ends ends) throws InterruptedException {
    Payload building = Payload.create(cache, plan);
    try (Request sending = ends.here.sendLayers(1, building, SOON);
        Request receiving = ends.offered()) {
      receiving.accept(SOON);
      engine.encodeLayer(cache, plan, 0, building);
      building.close();
      is(() -> sending.await(SOON), NativeConstants.SKV_E_CANCELLED);
      is(() -> receiving.await(SOON), NativeConstants.SKV_E_CANCELLED);
    }
  }

  /** Leaves everything to the garbage collector. */
  private void dropped(Ends ends, int number) throws InterruptedException {
    ends.here.send(1, Payload.open(sent), SOON);
    ends.offered().accept(SOON);
    view(memory);
    if (number % 64 == 0) {
      System.gc();
    }
  }

  private Ends renewed(Ends ends, int number) throws InterruptedException {
    try (Request waiting = ends.here.receiveOffer(SOON);
        Request sending = ends.here.send(1, payload, SOON)) {
      if (leak.equals("ends")) {
        kept.add(ends);
      } else {
        ends.close();
        is(() -> sending.await(SOON), NativeConstants.SKV_E_CANCELLED);
        is(() -> waiting.await(SOON), NativeConstants.SKV_E_CANCELLED);
        is(() -> ends.here.send(1, payload, SOON), NativeConstants.SKV_E_CLOSED);
      }
    }
    return new Ends(number);
  }

  /** Lets the garbage collector and the cleaner, a thread of its own, end what was dropped. */
  private static void settle() throws InterruptedException {
    for (int i = 0; i < 4; i++) {
      System.gc();
      Thread.sleep(20);
    }
  }

  /** Runs it. */
  public static void main(String[] arguments) throws InterruptedException, IOException {
    if (arguments.length < 2) {
      throw new IllegalArgumentException("usage: OPERATIONS EVERY [memory|ends]");
    }
    int operations = Integer.parseInt(arguments[0]);
    int every = Integer.parseInt(arguments[1]);
    Stress stress = new Stress(arguments.length > 2 ? arguments[2] : "");
    Ends ends = new Ends(0);
    for (int n = 0; n < operations; n++) {
      switch (n % 16) {
        case 6 -> stress.refused();
        case 7 -> stress.closed();
        case 8, 9 -> stress.transfer(ends, n % 16 == 9);
        case 10 -> stress.rejected(ends);
        case 11, 12 -> stress.cancelled(ends, n % 16 == 12);
        case 13 -> stress.layers(ends);
        case 14 -> stress.dropped(ends, n / 16);
        case 15 -> ends = stress.renewed(ends, n / 16 + 1);
        default -> stress.codec(n % 2 == 1);
      }
      if ((n + 1) % every == 0) {
        settle();
        System.out.println("sample " + (n + 1));
        System.out.flush();
        while (System.in.read() > '\n') {
          // a line of which nothing is wanted
        }
      }
    }
    ends.close();
  }
}
