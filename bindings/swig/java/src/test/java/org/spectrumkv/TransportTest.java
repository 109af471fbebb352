// SPDX-License-Identifier: Apache-2.0
package org.spectrumkv;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.spectrumkv.Tensors.engine;
import static org.spectrumkv.Tensors.fails;
import static org.spectrumkv.Tensors.payload;
import static org.spectrumkv.Tensors.view;
import static org.spectrumkv.Tensors.zeros;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ForkJoinPool;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.spectrumkv.raw.NativeConstants;

class TransportTest {
  private static final Duration LONG = Duration.ofSeconds(20);
  private static final AtomicInteger NEXT = new AtomicInteger();

  private static String uri(String scheme) {
    String unique = "skv-java-" + ProcessHandle.current().pid() + "-" + NEXT.incrementAndGet();
    return switch (scheme) {
      case "tcp" -> "tcp://127.0.0.1:0";
      case "unix" -> "unix://@" + unique;
      default -> "inproc://" + unique;
    };
  }

  /** Two ends of a conn. */
  private static final class Ends implements AutoCloseable {
    final Endpoint a = new Endpoint();
    final Endpoint b = new Endpoint();
    final Conn here;
    final Conn there;

    Ends(String scheme) throws InterruptedException {
      String bound = b.listen(uri(scheme));
      CompletableFuture<Conn> connecting = CompletableFuture.supplyAsync(() -> a.connect(bound, LONG));
      there = b.accept(LONG);
      here = connecting.join();
    }

    @Override
    public void close() {
      here.close();
      there.close();
      a.close();
      b.close();
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"tcp", "unix", "inproc"})
  void aPayloadTravelsOverEveryPlane(String scheme) throws InterruptedException {
    try (Ends ends = new Ends(scheme)) {
      byte[] bytes = payload().toByteArray();
      Payload own = Payload.open(bytes);
      try (Request request = ends.here.send(7, own, LONG)) {
        own.close(); // the request keeps the bytes
        Payload got = ends.there.receive(LONG);
        request.result(LONG);
        assertArrayEquals(bytes, got.toByteArray());
        assertEquals(ends.here.get(NativeConstants.SKV_CONN_PLANE), got.receipt().plane());
        assertTrue(got.receipt().wireNanos() > 0);
        ByteBuffer[] to = zeros();
        try (Engine engine = engine();
            Cache target = view(to)) {
          engine.decode(got, target);
        }
        assertTrue(Tensors.worst(Tensors.values(), to) < 0.7);
      }
    }
  }

  @Test
  void anOfferIsTakenIntoOwnMemory() throws InterruptedException {
    byte[] bytes = payload().toByteArray();
    Payload got;
    try (Ends ends = new Ends("tcp");
        Request sent = ends.here.send(-5, Payload.open(bytes), LONG);
        Request request = ends.there.receiveOffer(LONG)) {
      request.result(LONG);
      assertEquals(NativeConstants.SKV_REQUEST_OFFERED, request.state());
      assertEquals(-5, request.offer().key());
      assertEquals(bytes.length, request.offer().bytes());
      assertEquals(Tensors.LAYERS, request.offer().layers());
      ByteBuffer small = Payload.alignedBytes(bytes.length - 1);
      fails(NativeConstants.SKV_E_TOO_SMALL, () -> request.acceptInto(small, LONG));
      ByteBuffer crooked = Payload.alignedBytes(bytes.length + 1).slice(1, bytes.length);
      fails(NativeConstants.SKV_E_ARGUMENT, () -> request.acceptInto(crooked, LONG));
      request.acceptInto(Payload.alignedBytes(bytes.length + 10), LONG);
      assertTrue(request.awaitLayer(Tensors.LAYERS - 1, LONG));
      assertEquals(request, request.resultAsync(LONG, ForkJoinPool.commonPool()).join());
      sent.result(LONG);
      got = request.payload();
      fails(NativeConstants.SKV_E_STATE, request::payload);
    }
    System.gc();
    assertArrayEquals(bytes, got.toByteArray());
  }

  @Test
  void refusalsReachBothEnds() throws InterruptedException {
    try (Ends ends = new Ends("tcp");
        Request sent = ends.here.send(1, payload(), LONG);
        Request request = ends.there.receiveOffer(LONG)) {
      fails(NativeConstants.SKV_E_STATE, () -> sent.accept(LONG));
      request.result(LONG);
      request.reject("no room here");
      assertTrue(fails(NativeConstants.SKV_E_REJECTED, () -> sent.await(LONG)).getMessage().contains("no room here"));
      fails(NativeConstants.SKV_E_REJECTED, () -> request.await(LONG));
      CompletionException async =
          assertThrows(CompletionException.class, () -> sent.resultAsync(LONG, ForkJoinPool.commonPool()).join());
      assertTrue(async.getCause() instanceof SpectrumKVException);
      try (Endpoint stranger = new Endpoint().model(new byte[] {7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
          0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})) {
        String bound = ends.b.listen(uri("unix"));
        fails(NativeConstants.SKV_E_MODEL, () -> stranger.connect(bound, LONG));
        fails(NativeConstants.SKV_E_ADDRESS, () -> stranger.listen("http://x"));
        fails(NativeConstants.SKV_E_STATE, () -> stranger.set(NativeConstants.SKV_ENDPOINT_CHUNK, 65536));
        fails(NativeConstants.SKV_E_STATE, () -> stranger.progress(Duration.ZERO));
      }
      assertEquals(1, ends.a.stats().failed());
    }
  }

  @Test
  void waitingEndsByItsDeadlineCancellingAndInterruptsAtOnce() throws InterruptedException {
    try (Ends ends = new Ends("unix");
        Payload payload = payload()) {
      fails(NativeConstants.SKV_E_TIMED_OUT, () -> ends.b.accept(Duration.ofMillis(20)));
      Request sent = ends.here.send(1, payload, LONG);
      assertFalse(sent.await(Duration.ofMillis(5)));
      fails(NativeConstants.SKV_E_TIMED_OUT, () -> sent.result(Duration.ofMillis(5)));
      sent.cancel();
      fails(NativeConstants.SKV_E_CANCELLED, () -> sent.await(LONG));
      Request late = ends.here.send(2, payload, Duration.ofMillis(20));
      fails(NativeConstants.SKV_E_TIMED_OUT, () -> late.await(LONG));
      fails(NativeConstants.SKV_E_TIMED_OUT, () -> ends.here.send(3, payload, Duration.ZERO));
      Request interrupted = ends.here.send(4, payload, LONG);
      Thread.currentThread().interrupt();
      assertThrows(InterruptedException.class, () -> interrupted.await(LONG));
      fails(NativeConstants.SKV_E_CANCELLED, () -> interrupted.await(LONG));
      ends.there.close();
      fails(NativeConstants.SKV_E_CLOSED, () -> {
        for (int i = 0; i < 1000; i++) {
          ends.here.send(5, payload, LONG).close();
          Thread.sleep(5);
        }
      });
      assertFalse(ends.here.isOpen());
    }
  }

  @Test
  void keysAreAskedForAndConnsDrained() throws InterruptedException {
    byte[] key = "0123456789abcdef".getBytes(java.nio.charset.StandardCharsets.US_ASCII);
    try (Endpoint a = new Endpoint().psk(NativeConstants.SKV_SECURITY_TLS_PSK, key);
        Endpoint b = new Endpoint().psk(NativeConstants.SKV_SECURITY_TLS_PSK, key);
        Endpoint stranger = new Endpoint().psk(NativeConstants.SKV_SECURITY_TLS_PSK, new byte[16])) {
      fails(NativeConstants.SKV_E_RANGE, () -> a.psk(NativeConstants.SKV_SECURITY_PSK, new byte[3]));
      fails(NativeConstants.SKV_E_AUTH, () -> new Endpoint().tls("/nowhere/c", "/nowhere/k", "/nowhere/a", null));
      String bound = b.listen(uri("tcp"));
      fails(NativeConstants.SKV_E_AUTH, () -> stranger.connect(bound, LONG));
      try (Conn here = a.connect(bound, LONG);
          Conn there = b.accept(LONG);
          Request sent = here.send(9, payload(), LONG)) {
        assertEquals(NativeConstants.SKV_SECURITY_TLS_PSK, here.get(NativeConstants.SKV_CONN_SECURITY));
        there.receive(LONG).close();
        sent.result(LONG);
        assertTrue(b.drain(LONG));
      }
      List<Endpoint.Event> events = b.events();
      assertTrue(
          events.stream()
              .anyMatch(
                  e ->
                      e.kind() == NativeConstants.SKV_EVENT_HANDSHAKE_FAILED
                          && e.status() == NativeConstants.SKV_E_AUTH));
      assertTrue(
          events.stream()
              .anyMatch(e -> e.kind() == NativeConstants.SKV_EVENT_ENDED && e.key() == 9 && e.status() == 0 && !e.sending()));
      assertEquals(1, Arrays.stream(b.stats().bytesLog2()).sum());
      assertTrue(b.stats().authErrors() > 0);
    }
  }

  @Test
  void layersLeaveAndArriveEarly() throws InterruptedException {
    ByteBuffer[] from = Tensors.values();
    ByteBuffer[] to = zeros();
    try (Ends ends = new Ends("tcp");
        Engine engine = engine();
        Cache source = view(from);
        Cache target = view(to);
        Plan plan = Tensors.plan(engine).budget(0.4).solve(source);
        Payload building = Payload.create(source, plan);
        Request sent = ends.here.sendLayers(1, building, LONG);
        Request request = ends.there.receiveOffer(LONG)) {
      request.result(LONG);
      request.set(NativeConstants.SKV_REQUEST_EARLY_LAYERS, 1);
      request.accept(LONG);
      engine.encodeLayer(source, plan, 0, building);
      assertTrue(request.awaitLayer(0, LONG));
      try (Payload early = request.payload()) {
        engine.decodeLayer(early, target, 0);
        fails(NativeConstants.SKV_E_STATE, () -> engine.decodeLayer(early, target, 1));
        engine.encodeLayer(source, plan, 1, building);
        request.result(LONG);
        sent.result(LONG);
        engine.decodeLayer(early, target, 1);
      }
      Payload never = Payload.create(source, plan);
      Request lost = ends.here.sendLayers(2, never, LONG);
      never.close();
      fails(NativeConstants.SKV_E_CANCELLED, () -> lost.await(LONG));
    }
    assertTrue(Tensors.worst(from, to) < 0.7);
  }

  @Test
  void pollReportsRequests() throws InterruptedException {
    try (Ends ends = new Ends("inproc");
        Request sent = ends.here.send(1, payload(), LONG);
        Request request = ends.there.receiveOffer(LONG)) {
      request.result(LONG);
      assertEquals(List.of(request), ends.b.poll());
      assertTrue(ends.b.fd() >= 0);
      request.accept(LONG);
      request.result(LONG);
      sent.result(LONG);
      assertTrue(sent.test());
      assertEquals(List.of(sent), ends.a.poll());
      assertEquals(List.of(), ends.a.poll());
    }
  }

  /** Raw rows of many segments: takes long enough to be stopped half-way. */
  private static byte[] large() {
    int layers = 32;
    int tokens = 4096;
    try (Engine engine = engine();
        Cache cache = new Cache(layers).tokens(Cache.ALL, 0, tokens).layer(Cache.ALL, 2, 64, 0, DType.F32)) {
      for (int layer = 0; layer < layers; layer++) {
        cache.plane(layer, Half.K, ByteBuffer.allocateDirect(tokens * 2 * 64 * 4), Strides.tokenMajor(2, 64, DType.F32));
      }
      try (Plan plan = Tensors.plan(engine).strategy("raw").solve(cache);
          Payload payload = engine.encode(cache, plan)) {
        return payload.toByteArray();
      }
    }
  }

  @Test
  void requestsClosedOrForgottenEarlyLetGoOfTheirMemory() throws InterruptedException {
    byte[] bytes = large();
    String[] schemes = {"tcp", "unix", "inproc"};
    for (int round = 0; round < 12; round++) {
      try (Ends ends = new Ends(schemes[round % 3])) {
        Payload own = Payload.open(bytes);
        Request sent = ends.here.send(1, own, LONG);
        own.close();
        own = null;
        Request request = ends.there.receiveOffer(LONG);
        request.result(LONG);
        ByteBuffer buffer = Payload.alignedBytes(bytes.length);
        request.acceptInto(buffer, LONG);
        while (request.get(NativeConstants.SKV_REQUEST_MOVED) == 0
            && request.state() == NativeConstants.SKV_REQUEST_MOVING) {
          Thread.onSpinWait();
        }
        switch (round % 4) {
          case 0 -> sent.close();
          case 1 -> {
            request.close();
            for (int i = 0; i < bytes.length; i++) {
              buffer.put(i, (byte) 0x5A);
            }
            for (int i = 0; i < bytes.length; i++) {
              assertEquals((byte) 0x5A, buffer.get(i), "written after its request was closed");
            }
          }
          case 2 -> {
            sent = null;
            request = null;
            buffer = null;
            System.gc();
          }
          default -> {
            request.close();
            sent.close();
          }
        }
      }
    }
  }

  private static long residentKib() throws IOException {
    for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
      if (line.startsWith("VmRSS:")) {
        return Long.parseLong(line.replaceAll("\\D", ""));
      }
    }
    throw new IOException("no VmRSS");
  }

  private static void round() throws InterruptedException {
    try (Ends ends = new Ends("tcp");
        Payload payload = payload();
        Request sent = ends.here.send(1, payload, LONG);
        Request dropped = ends.here.send(2, payload, LONG);
        Payload got = ends.there.receive(LONG);
        Engine engine = engine();
        Cache target = view(zeros())) {
      sent.result(LONG);
      engine.decode(got, target);
      assertTrue(dropped.state() != NativeConstants.SKV_REQUEST_ENDED);
    }
  }

  @Test
  void nothingLeaks() throws InterruptedException, IOException {
    for (int i = 0; i < 60; i++) {
      round();
    }
    System.gc();
    long before = residentKib();
    for (int i = 0; i < 150; i++) {
      round();
    }
    System.gc();
    long after = residentKib();
    System.out.println("resident " + before + " -> " + after + " KiB after 150 rounds");
    // A round's tensors and payload are over 1.5 MiB: one leaked a round would be 225 MiB.
    assertTrue(after < before + 100 * 1024, before + " -> " + after + " KiB");
  }
}
