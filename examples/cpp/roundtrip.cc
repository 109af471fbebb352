// SPDX-License-Identifier: Apache-2.0
// Encodes a cache, sends it to itself over a Unix socket, decodes it. The convenience in spectrumkv.hpp does the rest.
#include <cmath>
#include <cstdio>
#include <vector>

#include "spectrumkv.hpp"

namespace skv = spectrumkv;
using namespace std::chrono_literals;

constexpr int kTokens = 1024, kHeads = 4, kDim = 64;
constexpr skv::Strides kRows{kHeads * kDim * 4, kDim * 4, 4};

skv::Cache view(std::vector<float>& k, std::vector<float>& v) {
  skv::Cache cache(1);
  cache.tokens(0, 0, kTokens).layer(0, kHeads, kDim, kDim, SKV_F32);
  cache.plane(0, SKV_K, std::span(k), kRows).plane(0, SKV_V, std::span(v), kRows);
  return cache;
}

int main() try {
  std::vector<float> k(kTokens * kHeads * kDim), v(k.size()), k2(k.size()), v2(k.size());
  for (std::size_t i = 0; i < k.size(); ++i) k[i] = -(v[i] = std::sin(static_cast<float>(i) * 0.1f));
  const skv::Engine engine;
  const auto source = view(k, v);
  const auto payload = engine.encode(source, skv::Plan(engine).set(SKV_PLAN_UNPROVEN, 1).budget(0.4).solve(source));

  skv::Endpoint here, there;
  const auto uri = there.listen("unix://@spectrumkv-example-cpp");
  auto out = here.connect(uri.c_str(), 5s);
  auto in = there.accept(5s);
  auto sent = out.send(1, payload, 5s);
  auto request = in.recv_offer(5s);
  if (!request.wait(5s)) return 1;
  request.accept(5s);
  if (!request.wait(5s) || !sent.wait(5s)) return 1;
  const auto got = request.payload();
  engine.decode(got, view(k2, v2));
  std::printf("%s: %zu bytes, %.3f of raw, k %.3f -> %.3f\n", engine.describe().c_str(), got.bytes().size(),
              payload.receipt().ratio, k[4321], k2[4321]);
  return std::abs(k[4321] - k2[4321]) < 0.2f ? 0 : 1;
} catch (const skv::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
