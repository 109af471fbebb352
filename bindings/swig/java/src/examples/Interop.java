// SPDX-License-Identifier: Apache-2.0

import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.HexFormat;
import org.spectrumkv.Cache;
import org.spectrumkv.Conn;
import org.spectrumkv.DType;
import org.spectrumkv.Endpoint;
import org.spectrumkv.Engine;
import org.spectrumkv.Half;
import org.spectrumkv.Payload;
import org.spectrumkv.Plan;
import org.spectrumkv.Request;
import org.spectrumkv.Strides;
import org.spectrumkv.raw.NativeConstants;

/** The interop program in Java; see tests/interop/interop_test.py for what each of its commands does. */
public final class Interop {
  private static final Duration LONG = Duration.ofSeconds(30);
  private static final Shape TENSORS = new Shape(3, 200, 2, 64);

  private Interop() {}

  /** Of float16 tensors [layer, K or V, token, head, channel]. */
  private record Shape(int layers, int tokens, int heads, int dim) {
    static Shape of(Payload payload) {
      return new Shape(
          payload.layers(),
          (int) payload.get(0, NativeConstants.SKV_PAYLOAD_TOKENS),
          (int) payload.get(0, NativeConstants.SKV_PAYLOAD_HEADS),
          (int) payload.get(0, NativeConstants.SKV_PAYLOAD_K_DIM));
    }

    int plane() {
      return tokens * heads * dim * 2;
    }

    Cache view(ByteBuffer memory) {
      Cache cache = new Cache(layers).tokens(Cache.ALL, 0, tokens).layer(Cache.ALL, heads, dim, dim, DType.F16);
      for (int i = 0; i < 2 * layers; i++) {
        cache.plane(
            i / 2, Half.values()[i % 2], memory.slice(i * plane(), plane()), Strides.tokenMajor(heads, dim, DType.F16));
      }
      return cache;
    }
  }

  private static Payload encode(String path) throws Exception {
    byte[] bytes = Files.readAllBytes(Path.of(path));
    try (Engine engine = new Engine();
        Cache cache = TENSORS.view(ByteBuffer.allocateDirect(bytes.length).put(0, bytes));
        Plan plan = new Plan(engine).set(NativeConstants.SKV_PLAN_UNPROVEN, 1).budget(0.4).solve(cache)) {
      return engine.encode(cache, plan);
    }
  }

  private static void decode(Payload payload) throws Exception {
    Shape shape = Shape.of(payload);
    ByteBuffer memory = ByteBuffer.allocateDirect(2 * shape.layers() * shape.plane());
    try (Engine engine = new Engine();
        Cache cache = shape.view(memory)) {
      engine.decode(payload, cache);
    }
    MessageDigest digest = MessageDigest.getInstance("SHA-256");
    digest.update(memory);
    System.out.println(HexFormat.of().formatHex(digest.digest()));
  }

  /** Runs one command. */
  public static void main(String[] arguments) throws Exception {
    switch (arguments[0]) {
      case "encode" -> Files.write(Path.of(arguments[2]), encode(arguments[1]).toByteArray());
      case "decode" -> {
        for (int i = 1; i < arguments.length; i++) {
          try (Payload payload = Payload.open(Files.readAllBytes(Path.of(arguments[i])))) {
            decode(payload);
          }
        }
      }
      case "send" -> {
        try (Payload payload = encode(arguments[1]);
            Endpoint endpoint = new Endpoint();
            Conn conn = endpoint.connect(arguments[2], LONG);
            Request request = conn.send(1, payload, LONG)) {
          request.result(LONG);
        }
      }
      case "receive" -> {
        try (Endpoint endpoint = new Endpoint()) {
          System.out.println(endpoint.listen(arguments[1]));
          for (int i = Integer.parseInt(arguments[2]); i > 0; i--) {
            try (Conn conn = endpoint.accept(Duration.ofSeconds(60));
                Payload payload = conn.receive(LONG)) {
              decode(payload);
            }
          }
        }
      }
      case "calls" -> {
        try (Payload payload = Payload.open(Files.readAllBytes(Path.of(arguments[1])))) {
          int count = Integer.parseInt(arguments[2]);
          long start = 0;
          for (int i = -count; i < count; i++) { // the first half warms the JIT up
            if (i == 0) {
              start = System.nanoTime();
            }
            payload.get(0, NativeConstants.SKV_PAYLOAD_TOKENS);
          }
          System.out.println((System.nanoTime() - start) / (double) count);
        }
      }
      default -> throw new IllegalArgumentException(
          "usage: encode TENSORS OUT | decode IN... | send TENSORS URI | receive URI COUNT | calls IN COUNT");
    }
  }
}
