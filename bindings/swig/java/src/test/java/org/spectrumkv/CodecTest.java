// SPDX-License-Identifier: Apache-2.0
package org.spectrumkv;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.spectrumkv.Tensors.DIM;
import static org.spectrumkv.Tensors.HEADS;
import static org.spectrumkv.Tensors.LAYERS;
import static org.spectrumkv.Tensors.TOKENS;
import static org.spectrumkv.Tensors.engine;
import static org.spectrumkv.Tensors.fails;
import static org.spectrumkv.Tensors.payload;
import static org.spectrumkv.Tensors.values;
import static org.spectrumkv.Tensors.view;
import static org.spectrumkv.Tensors.worst;
import static org.spectrumkv.Tensors.zeros;

import java.io.IOException;
import java.lang.reflect.Field;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.spectrumkv.raw.NativeConstants;

class CodecTest {
  @Test
  void aCacheComesBackWithinItsBudget() {
    ByteBuffer[] from = values();
    ByteBuffer[] to = zeros();
    try (Engine engine = engine();
        Cache source = view(from);
        Plan plan = Tensors.plan(engine).budget(0.4).solve(source);
        Payload payload = engine.encode(source, plan)) {
      byte[] bytes = payload.toByteArray();
      assertEquals(plan.bytes(), bytes.length);
      assertTrue(bytes.length <= source.rawBytes() * 0.4);
      try (Payload opened = Payload.open(bytes);
          Cache target = view(to)) {
        engine.decode(opened, target);
      }
      Payload.Receipt receipt = payload.receipt();
      assertEquals(bytes.length, receipt.payloadBytes());
      assertEquals((long) TOKENS * LAYERS, Arrays.stream(receipt.kRows()).sum());
      assertTrue(receipt.encodeNanos() > 0);
      assertTrue(engine.describe().startsWith("cpu"));
      assertEquals(1, engine.get(NativeConstants.SKV_ENGINE_THREADS));
    }
    assertTrue(worst(from, to) < 0.7 && worst(from, to) > 0, () -> "worst error " + worst(from, to));
  }

  @Test
  void aPackedPayloadIsSmallerAndDecodesToTheSame() {
    ByteBuffer[] direct = zeros();
    ByteBuffer[] unpacked = zeros();
    try (Engine engine = engine();
        Payload plain = payload();
        Payload packed = engine.pack(plain);
        Payload opened = Payload.open(packed.toByteArray());
        Cache a = view(direct);
        Cache b = view(unpacked)) {
      assertTrue(packed.bytes() < plain.bytes());
      assertEquals(plain.bytes(), packed.receipt().unpackedBytes());
      engine.decode(plain, a);
      engine.decode(opened, b);
      assertEquals(0, worst(direct, unpacked));
      fails(NativeConstants.SKV_E_STATE, () -> engine.pack(packed));
    }
  }

  @Test
  void layerByLayerAndIntoMemoryEqualAtOnce() {
    ByteBuffer[] a = zeros();
    ByteBuffer[] b = zeros();
    try (Engine engine = engine();
        Cache source = view(values());
        Plan plan = Tensors.plan(engine).budget(0.3).solve(source);
        Payload whole = engine.encode(source, plan);
        Payload parts = Payload.create(source, plan)) {
      for (int layer = LAYERS - 1; layer >= 0; layer--) {
        fails(NativeConstants.SKV_E_STATE, parts::toByteArray);
        engine.encodeLayer(source, plan, layer, parts);
      }
      assertArrayEquals(whole.toByteArray(), parts.toByteArray());
      ByteBuffer memory = Payload.alignedBytes((int) plan.bytes());
      try (Payload into = engine.encodeInto(source, plan, memory);
          Cache first = view(a);
          Cache second = view(b)) {
        into.verify();
        assertArrayEquals(whole.toByteArray(), into.toByteArray());
        engine.decode(into, first);
        for (int layer = 0; layer < LAYERS; layer++) {
          engine.decodeLayer(parts, second, layer);
        }
      }
      assertEquals(0, worst(a, b));
      fails(NativeConstants.SKV_E_TOO_SMALL, () -> engine.encodeInto(source, plan, Payload.alignedBytes(64)));
      assertThrows(
          IllegalArgumentException.class, () -> engine.encodeInto(source, plan, ByteBuffer.allocate((int) plan.bytes())));
    }
  }

  @Test
  void precisionFollowsAndIsGivenUp() {
    ByteBuffer[] low = zeros();
    ByteBuffer[] high = zeros();
    try (Engine engine = engine();
        Cache source = view(values());
        Plan plan = Tensors.plan(engine).budget(0.3).solve(source);
        Payload base = engine.encode(source, plan);
        Plan more = new Plan(engine).budget(0.1)) {
      fails(NativeConstants.SKV_E_STATE, () -> engine.encodeUpgrade(source, base, more));
      more.upgrade(base, source, null);
      try (Payload upgrade = engine.encodeUpgrade(source, base, more);
          Payload better = base.apply(upgrade);
          Cache first = view(low);
          Cache second = view(high);
          Plan less = new Plan(engine).strategy("uniform-4").truncate(base, null);
          Payload cut = base.truncate(less)) {
        assertEquals(more.bytes(), upgrade.bytes());
        assertEquals(1, upgrade.get(Cache.ALL, NativeConstants.SKV_PAYLOAD_UPGRADE));
        assertArrayEquals(more.tiers(0, Half.V, TOKENS), better.tiers(0, Half.V));
        fails(NativeConstants.SKV_E_BASE, () -> better.apply(upgrade));
        fails(NativeConstants.SKV_E_STATE, () -> engine.decode(upgrade, first));
        engine.decode(base, first);
        engine.decode(better, second);
        assertTrue(worst(values(), high) < worst(values(), low));
        assertEquals(less.bytes(), cut.bytes());
        fails(NativeConstants.SKV_E_BASE, () -> better.truncate(less));
      }
    }
  }

  @Test
  void weightsAndQueriesSteerThePlan() {
    try (Engine engine = engine();
        Cache source = view(values());
        Scores scores = new Scores();
        Scores byQuery = new Scores();
        Plan plan = Tensors.plan(engine)) {
      fails(NativeConstants.SKV_E_STATE, () -> scores.get(0, Half.K, TOKENS));
      float[] weights = new float[TOKENS];
      Arrays.fill(weights, 0, TOKENS / 2, 1e4f);
      Arrays.fill(weights, TOKENS / 2, TOKENS, 1e-4f);
      scores.weights(Cache.ALL, Half.K, weights).weights(Cache.ALL, Half.V, weights);
      engine.score(source, scores);
      assertArrayEquals(weights, scores.get(1, Half.V, TOKENS));
      plan.set(NativeConstants.SKV_PLAN_SINKS, 0).budgetBytes(source.rawBytes() * 2 / 5).solve(source, scores);
      byte[] tiers = plan.tiers(0, Half.K, TOKENS);
      assertTrue(tiers[5] > tiers[TOKENS - 5]);
      assertEquals(NativeConstants.SKV_SCORED_CALLER, engine.encode(source, plan).receipt().scored());
      for (int layer = 0; layer < LAYERS; layer++) {
        byQuery.queries(layer, values()[0], Scores.Queries.queryMajor(DType.F32, 64, 4, DIM));
      }
      engine.score(source, byQuery);
      plan.solve(source, byQuery);
      assertEquals(NativeConstants.SKV_SCORED_QUERIES, engine.encode(source, plan).receipt().scored());
    }
  }

  @Test
  void everyWrongCallGivesItsStatus() {
    ByteBuffer plane = Tensors.zero();
    Strides rows = Strides.tokenMajor(HEADS, DIM, DType.F32);
    fails(NativeConstants.SKV_E_RANGE, () -> new Cache(0));
    fails(NativeConstants.SKV_E_UNAVAILABLE, () -> new Engine(9));
    try (Engine engine = engine();
        Cache one = new Cache(1);
        Cache source = view(values());
        Plan plan = Tensors.plan(engine);
        Payload payload = payload()) {
      fails(NativeConstants.SKV_E_KEY, () -> engine.set(99, 1));
      fails(NativeConstants.SKV_E_RANGE, () -> engine.set(NativeConstants.SKV_ENGINE_THREADS, 1000));
      fails(NativeConstants.SKV_E_RANGE, () -> one.tokens(3, 0, 5));
      fails(NativeConstants.SKV_E_EMPTY, () -> one.tokens(0, 0, 0));
      fails(NativeConstants.SKV_E_GEOMETRY, () -> one.layer(0, 1, 12, 8, DType.F16));
      fails(NativeConstants.SKV_E_KEY, () -> one.set(99, 1));
      fails(NativeConstants.SKV_E_EMPTY, one::check);
      fails(NativeConstants.SKV_E_NULL, () -> one.plane(0, Half.K, null, rows));
      fails(NativeConstants.SKV_E_NULL, () -> one.blocks(0, null, 16));
      one.tokens(0, 0, TOKENS).layer(0, HEADS, DIM, 0, DType.F32).group(0, 3).firstHead(0, 1);
      one.plane(0, Half.K, plane.slice(0, plane.capacity() - 4), rows);
      fails(NativeConstants.SKV_E_STRIDE, one::check);
      one.plane(0, Half.K, plane, rows.withBlock(rows.token() * 64));
      one.blocks(0, new int[] {0, 1, 2, 3, 3}, 64);
      fails(NativeConstants.SKV_E_BLOCK_ID, one::check);
      one.blocks(0, new int[] {4, 1, 2, 3, 0}, 64).check();
      fails(NativeConstants.SKV_E_STATE, () -> plan.solve(source));
      fails(NativeConstants.SKV_E_RANGE, () -> plan.budget(-1));
      fails(NativeConstants.SKV_E_KEY, () -> plan.strategy("best"));
      fails(NativeConstants.SKV_E_BUDGET, () -> plan.budget(0.01).solve(source));
      plan.budget(0.5).solve(source);
      fails(NativeConstants.SKV_E_LAYOUT, () -> engine.encode(one, plan));
      fails(NativeConstants.SKV_E_PERMITTED, () -> plan.tiers(0, Half.K, new byte[TOKENS]));
      fails(NativeConstants.SKV_E_RANGE, () -> plan.tiers(0, Half.K, TOKENS + 1));
      fails(NativeConstants.SKV_E_TRUNCATED, () -> Payload.open(new byte[0]));
      fails(NativeConstants.SKV_E_RANGE, () -> payload.get(99, NativeConstants.SKV_PAYLOAD_BYTES));
      fails(NativeConstants.SKV_E_KEY, () -> payload.get(0, 99));
      ByteBuffer[] bad = values();
      bad[2].putFloat(7777 * 4, Float.NaN);
      try (Cache view = view(bad)) {
        plan.strategy("uniform-4").solve(view);
        fails(NativeConstants.SKV_E_NON_FINITE, () -> engine.encode(view, plan));
      }
      ByteBuffer[] readOnly = zeros();
      readOnly[1] = readOnly[1].asReadOnlyBuffer();
      try (Cache view = view(readOnly)) {
        fails(NativeConstants.SKV_E_ARGUMENT, () -> engine.decode(payload, view));
      }
      assertThrows(IllegalArgumentException.class, () -> one.plane(0, Half.K, ByteBuffer.allocate(64), rows));
      assertThrows(IllegalArgumentException.class, () -> one.identity(new byte[31], null));
      byte[] tiers = payload.tiers(0, Half.V);
      assertEquals(TOKENS, tiers.length);
      assertEquals(LAYERS, payload.layers());
    }
  }

  @Test
  void aLlamaBlobIsFramedFilledAndRead() {
    try (Engine engine = engine();
        Payload payload = payload()) {
      int size = (int) Cache.llamaBlobBytes(payload, true, DType.F16);
      ByteBuffer blob = ByteBuffer.allocateDirect(size);
      fails(
          NativeConstants.SKV_E_TOO_SMALL,
          () -> Cache.toLlama(payload, true, DType.F16, null, ByteBuffer.allocateDirect(size - 1)));
      try (Cache framed = Cache.toLlama(payload, true, DType.F16, null, blob)) {
        engine.decode(payload, framed);
      }
      try (Cache read = Cache.fromLlama(blob, new int[] {HEADS, HEADS})) {
        read.check();
        fails(NativeConstants.SKV_E_ARGUMENT, () -> engine.decode(payload, read));
      }
    }
  }

  @Test
  void damageLeavesTheDestinationUntouched() {
    byte[] model = new byte[32];
    byte[] request = new byte[16];
    model[0] = 1;
    request[0] = 2;
    ByteBuffer[] to = zeros();
    try (Engine engine = engine();
        Cache source = view(values()).identity(model, request);
        Plan plan = Tensors.plan(engine).budget(0.4).solve(source);
        Payload payload = engine.encode(source, plan);
        Cache target = view(to).identity(model, null)) {
      assertArrayEquals(model, payload.identity().fingerprint());
      assertArrayEquals(request, payload.identity().requestId());
      byte[] bytes = payload.toByteArray();
      bytes[bytes.length - 40] ^= 1;
      try (Payload damaged = Payload.open(bytes)) {
        fails(NativeConstants.SKV_E_CHECKSUM, damaged::verify);
        fails(NativeConstants.SKV_E_CHECKSUM, () -> engine.decode(damaged, target));
      }
      try (Cache other = view(to)) {
        fails(NativeConstants.SKV_E_MODEL, () -> engine.decode(payload, other));
        request[0] = 9;
        other.identity(model, request);
        fails(NativeConstants.SKV_E_REQUEST, () -> engine.decode(payload, other));
      }
      assertEquals(0, worst(to, zeros()));
      engine.decode(payload, target);
    }
  }

  @Test
  void malformedPayloadsGiveTheStatusesThatAreWrittenDown() throws IOException {
    Path golden = Path.of(System.getProperty("spectrumkv.root"), "tests", "golden");
    Matcher entries =
        Pattern.compile("\"([^\"]+\\.skv)\": \"(SKV_\\w+)\"").matcher(Files.readString(golden.resolve("malformed.json")));
    int count = 0;
    for (; entries.find(); count++) {
      String got = "SKV_OK";
      try (Payload payload = Payload.open(Files.readAllBytes(golden.resolve("malformed").resolve(entries.group(1))))) {
        payload.verify();
      } catch (SpectrumKVException e) {
        got = e.statusName();
      }
      assertEquals(entries.group(2), got, entries.group(1));
    }
    assertTrue(count > 100, "only " + count + " entries");
  }

  @Test
  void usingWhatIsClosedIsAnError() {
    Engine engine = engine();
    Payload payload = payload();
    Cache cache = view(zeros());
    payload.close();
    payload.close();
    fails(NativeConstants.SKV_E_CLOSED, payload::verify);
    fails(NativeConstants.SKV_E_CLOSED, () -> engine.decode(payload, cache));
    cache.check(); // the others are not held by a call that failed
    engine.close();
    fails(NativeConstants.SKV_E_CLOSED, engine::describe);
    fails(NativeConstants.SKV_E_CLOSED, () -> new Plan(engine));
  }

  @Test
  void closingDuringACallOfAnotherThreadIsSafe() throws InterruptedException {
    for (int i = 0; i < 20; i++) {
      Engine engine = engine();
      Cache cache = view(values());
      Plan plan = Tensors.plan(engine).budget(0.5);
      Thread thread =
          new Thread(
              () -> {
                try {
                  plan.solve(cache);
                } catch (SpectrumKVException e) {
                  assertEquals(NativeConstants.SKV_E_CLOSED, e.status());
                }
              });
      thread.start();
      plan.close();
      cache.close();
      engine.close();
      thread.join();
    }
  }

  /** The same objects in different orders from several threads, and one object twice. */
  @Test
  void callsWithSeveralObjectsDoNotWaitForEachOther() throws InterruptedException {
    try (Engine engine = engine();
        Cache source = view(values());
        Plan plan = Tensors.plan(engine).budget(0.3).solve(source);
        Payload base = engine.encode(source, plan);
        Plan more = new Plan(engine).budget(0.1).upgrade(base, source, null);
        Plan less = new Plan(engine).strategy("uniform-4");
        Payload upgrade = engine.encodeUpgrade(source, base, more)) {
      List<Runnable> calls =
          List.of(
              () -> less.truncate(base, null),
              () -> base.truncate(less).close(),
              () -> base.apply(upgrade).close(),
              () -> upgrade.apply(base).close(),
              () -> base.apply(base).close(),
              () -> more.upgrade(base, source, null),
              () -> engine.encodeUpgrade(source, base, more).close());
      Set<Integer> fine = Set.of(NativeConstants.SKV_E_STATE, NativeConstants.SKV_E_BASE);
      List<Throwable> others = Collections.synchronizedList(new ArrayList<>());
      List<Thread> threads = new ArrayList<>();
      for (Runnable call : calls) {
        Thread thread =
            new Thread(
                () -> {
                  for (int i = 0; i < 40; i++) {
                    try {
                      call.run();
                    } catch (SpectrumKVException e) {
                      if (!fine.contains(e.status())) {
                        others.add(e);
                      }
                    }
                  }
                });
        thread.setDaemon(true);
        thread.start();
        threads.add(thread);
      }
      for (Thread thread : threads) {
        thread.join(Duration.ofMinutes(2).toMillis());
        assertFalse(thread.isAlive(), "two calls wait for each other");
      }
      assertEquals(List.of(), others);
    }
  }

  @Test
  void lowTiersNeedAVerdict() {
    byte[] model = new byte[32];
    model[0] = 5;
    try (Engine engine = engine();
        Cache source = view(values()).identity(model, null);
        Plan plan = new Plan(engine).budget(0.4);
        NeedleProbe probe = new NeedleProbe(200);
        Profile profile = new Profile(model, LAYERS, NativeConstants.SKV_CODE_EMBEDDED)) {
      fails(NativeConstants.SKV_E_PERMITTED, () -> plan.solve(source));
      fails(NativeConstants.SKV_E_RANGE, () -> probe.prompt(NeedleProbe.TRIALS));
      fails(NativeConstants.SKV_E_STATE, () -> probe.verdict(profile));
      for (int trial = 0; trial < NeedleProbe.TRIALS; trial++) {
        Matcher number = Pattern.compile("\\d{4,}").matcher(probe.prompt(trial));
        assertTrue(number.find());
        assertTrue(probe.answer(trial, "It was " + number.group() + "."));
        int again = trial;
        fails(NativeConstants.SKV_E_STATE, () -> probe.answer(again, "again"));
      }
      probe.verdict(profile);
      assertEquals(
          new Profile.Said(NativeConstants.SKV_VERDICT_YES, 3, 3), profile.verdict(NativeConstants.SKV_PROBE_NEEDLE));
      String json = profile.json();
      fails(NativeConstants.SKV_E_MALFORMED, () -> Profile.open(json.substring(1)));
      try (Profile opened = Profile.open(json)) {
        plan.profile(opened).solve(source);
        assertTrue(plan.cost(0, Half.K) > 0);
        assertEquals(NativeConstants.SKV_PROOF_PROFILE, engine.encode(source, plan).receipt().proof());
        opened.calibrate(0, Half.K, NativeConstants.SKV_SCORED_KV, 1, 0.01);
        opened.verdict(NativeConstants.SKV_PROBE_LOGITS, new Profile.Said(NativeConstants.SKV_VERDICT_NO, 0, 1));
        fails(NativeConstants.SKV_E_PERMITTED, () -> plan.profile(opened).strategy("uniform-4").solve(source));
      }
      plan.profile(null);
    }
  }

  @Test
  void namesAndVersionsAreThoseOfTheHeader() throws IllegalAccessException {
    int statuses = 0;
    for (Field field : NativeConstants.class.getFields()) {
      if (field.getName().startsWith("SKV_E_")) {
        assertEquals(field.getName(), Library.statusName(field.getInt(null)));
        statuses++;
      }
    }
    assertTrue(statuses > 40);
    assertEquals(
        NativeConstants.SKV_VERSION_MAJOR
            + "."
            + NativeConstants.SKV_VERSION_MINOR
            + "."
            + NativeConstants.SKV_VERSION_PATCH,
        Library.version());
    assertEquals(NativeConstants.SKV_WIRE_MAJOR * 256L + NativeConstants.SKV_WIRE_MINOR, Library.wireVersion());
  }
}
