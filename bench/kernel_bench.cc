// SPDX-License-Identifier: Apache-2.0
// Each kernel beside memcpy of the same tensor, one thread. Bytes are those of the tensor, not of the payload.
//
// Whole tensors are larger than any cache (256 MiB a half) and are taken chunk by chunk, as the codec does. Compare
// medians of interleaved repetitions; a virtual machine's neighbours move all of them together.
#include <benchmark/benchmark.h>
#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/kernels.h"
#include "kernels/tiers.h"
#include "spectrumkv.h"

namespace {

using skv::kernels::Kernels;
using skv::kernels::Rows;
namespace kernels = skv::kernels;
namespace tiers = skv::tiers;

constexpr int32_t kChunk = tiers::kMaxChunk;
constexpr size_t kTensor = 256U << 20U;

struct Geometry {
  const char* name;
  int32_t heads;
  int32_t dim;
  bool transposed;  // [head][channel][token] of a chunk
};
constexpr Geometry kGeometries[] = {
    {"d128x8", 8, 128, false}, {"d64x3", 3, 64, false},   {"d80x8", 8, 80, false},
    {"d256x1", 1, 256, false}, {"d192x4", 4, 192, false}, {"d128x8t", 8, 128, true},
};

// The default transforms (src/plan.cc).
constexpr uint32_t values_of(const Geometry& g) { return g.dim >= 256 ? tiers::kHadamard16 : tiers::kHadamard8; }
constexpr uint32_t keys_of(const Geometry& g) { return tiers::kMean | tiers::kBalance | values_of(g); }

// Page-aligned memory with huge pages where the system gives them, touched.
std::byte* pages(size_t size) {
  void* at = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) std::abort();
  madvise(at, size, MADV_HUGEPAGE);
  std::memset(at, 1, size);
  return static_cast<std::byte*>(at);
}

// One tensor in, one out, and the payload; made once and shared by all benchmarks.
struct Tensors {
  std::byte* in = pages(kTensor);
  std::byte* out = pages(kTensor);
  std::byte* payload = pages(kTensor);

  Tensors() {  // f16 numbers of ordinary size: sign and mantissa at random, exponents 2^-3 .. 2^0
    uint64_t state = 88172645463325252ULL;
    auto* words = reinterpret_cast<uint16_t*>(in);
    for (size_t i = 0; i < kTensor / 2; ++i) {
      state ^= state << 13U;
      state ^= state >> 7U;
      state ^= state << 17U;
      words[i] = static_cast<uint16_t>((state & 0x8FFFU) | 0x3000U);
    }
  }
};
Tensors& tensors() {
  static Tensors all;
  return all;
}

// A whole half in chunks.
struct Half {
  const Kernels& k;
  Geometry g;
  uint8_t tier;
  int32_t dtype = tiers::kF16;
  size_t row_bytes = static_cast<size_t>(g.heads) * static_cast<size_t>(g.dim) * 2;
  size_t chunk_bytes = row_bytes * kChunk;
  size_t chunks = kTensor / chunk_bytes;
  size_t channels = static_cast<size_t>(g.heads) * static_cast<size_t>(g.dim);
  std::vector<int64_t> offsets = std::vector<int64_t>(kChunk);
  std::vector<uint8_t> tier_of = std::vector<uint8_t>(kChunk, tier);
  std::vector<float> sum = std::vector<float>(channels), lo = sum, hi = sum, mean = sum, balance = sum, recip = sum;
  std::vector<uint16_t> mean16 = std::vector<uint16_t>(channels), balance16 = mean16;

  Half(const Kernels& kernels, const Geometry& geometry, uint8_t of_tier) : k(kernels), g(geometry), tier(of_tier) {
    for (int32_t t = 0; t < kChunk; ++t)
      offsets[static_cast<size_t>(t)] = t * (g.transposed ? 2 : static_cast<int64_t>(row_bytes));
  }
  size_t bytes() const { return chunks * chunk_bytes; }
  Rows rows(std::byte* base, size_t chunk) {
    const int64_t head = g.transposed ? 2L * g.dim * kChunk : 2L * g.dim;
    return {base + chunk * chunk_bytes,     offsets.data(), kChunk, g.heads, g.dim, dtype, head,
            g.transposed ? 2L * kChunk : 2L};
  }
  kernels::Sections sections(size_t chunk) const {
    std::byte* at = tensors().payload + chunk * (chunk_bytes * 3 / 4);
    const size_t rows = kChunk * static_cast<size_t>(g.heads);
    const auto d = static_cast<size_t>(g.dim);
    std::byte* body = at + rows * 2;
    return {at, body, body, body + rows * d / 2, body + rows * d * 3 / 4, body};
  }
  kernels::Transform transform(uint32_t flags) const {
    return {(flags & tiers::kMean) != 0 ? mean.data() : nullptr,
            (flags & tiers::kBalance) != 0 ? recip.data() : nullptr,
            (flags & tiers::kBalance) != 0 ? balance.data() : nullptr, tiers::hadamard_of(flags)};
  }
  void stats(size_t chunk, uint32_t flags) {
    const int32_t counted = k.stats(rows(tensors().in, chunk), tier_of.data(), sum.data(), lo.data(), hi.data());
    k.vectors(flags, counted, g.heads, g.dim, sum.data(), lo.data(), hi.data(), mean16.data(), balance16.data(),
              mean.data(), balance.data(), recip.data());
  }
  void pack(size_t chunk, uint32_t flags) {
    if ((flags & (tiers::kMean | tiers::kBalance)) != 0) stats(chunk, flags);
    const auto verdict = k.pack({rows(tensors().in, chunk), tier_of.data(), transform(flags), tiers::kCodeEmbedded,
                                 tiers::kF16, sections(chunk)});
    if (verdict.kind != kernels::Verdict::kOk) std::abort();
  }
  void unpack(size_t chunk, uint32_t flags) {
    k.unpack({rows(tensors().out, chunk), tier_of.data(), transform(flags), tiers::kCodeEmbedded, tiers::kF16, g.heads,
              0, sections(chunk)});
  }
};

void report(benchmark::State& state, size_t bytes) {
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * bytes));
}

void copy_tensor(benchmark::State& state) {
  for (auto _ : state) {
    std::memcpy(tensors().out, tensors().in, kTensor);
    benchmark::ClobberMemory();
  }
  report(state, kTensor);
}

// K and V together: bytes of both.
void pack_tensor(benchmark::State& state, const Kernels* k, Geometry g, uint8_t tier) {
  Half half(*k, g, tier);
  for (auto _ : state) {
    for (size_t c = 0; c < half.chunks; ++c) half.pack(c, keys_of(g));
    for (size_t c = 0; c < half.chunks; ++c) half.pack(c, values_of(g));
  }
  report(state, 2 * half.bytes());
}
void unpack_tensor(benchmark::State& state, const Kernels* k, Geometry g, uint8_t tier) {
  Half half(*k, g, tier);
  for (size_t c = 0; c < half.chunks; ++c) half.pack(c, keys_of(g));
  for (auto _ : state) {
    for (size_t c = 0; c < half.chunks; ++c) half.unpack(c, keys_of(g));
    for (size_t c = 0; c < half.chunks; ++c) half.unpack(c, values_of(g));
  }
  report(state, 2 * half.bytes());
}

// The same chunk again and again: what the arithmetic costs when memory does not.
void cached(benchmark::State& state, const Kernels* k, Geometry g, uint8_t tier, const std::string& what) {
  Half half(*k, g, tier);
  half.pack(0, keys_of(g));
  std::vector<float> largest(static_cast<size_t>(kChunk * g.heads));
  std::vector<float> queries(static_cast<size_t>(64 * g.dim), 0.5F);
  std::vector<float> scores(static_cast<size_t>(64 * kChunk), 0.01F);
  size_t bytes = half.chunk_bytes;
  for (auto _ : state) {
    const Rows rows = half.rows(tensors().in, 0);
    if (what == "copy") {
      std::memcpy(tensors().out, tensors().in, bytes);
    } else if (what == "stats") {
      k->stats(rows, half.tier_of.data(), half.sum.data(), half.lo.data(), half.hi.data());
    } else if (what == "vectors") {
      k->vectors(keys_of(g), kChunk, g.heads, g.dim, half.sum.data(), half.lo.data(), half.hi.data(),
                 half.mean16.data(), half.balance16.data(), half.mean.data(), half.balance.data(), half.recip.data());
    } else if (what == "packK") {
      k->pack({rows, half.tier_of.data(), half.transform(keys_of(g)), 0, tiers::kF16, half.sections(0)});
    } else if (what == "packV") {
      k->pack({rows, half.tier_of.data(), half.transform(values_of(g)), 0, tiers::kF16, half.sections(0)});
    } else if (what == "unpackK") {
      half.unpack(0, keys_of(g));
    } else if (what == "unpackV") {
      half.unpack(0, values_of(g));
    } else if (what == "absmax") {
      k->absmax(rows, half.transform(keys_of(g)), largest.data());
    } else if (what == "dots64") {  // 64 queries with one head
      k->dots(rows, 0, queries.data(), 64, scores.data(), rows.tokens);
    } else if (what == "accumulate64") {
      k->accumulate(rows, 0, scores.data(), kChunk, 64, queries.data());
    } else if (what == "softmax") {
      k->softmax(scores.data(), scores.size(), 1.0F);
    } else if (what == "digest") {  // a leaf
      benchmark::DoNotOptimize(k->digest(tensors().in, 65536));
    }
    benchmark::ClobberMemory();
  }
  if (what == "dots64" || what == "accumulate64") bytes /= static_cast<size_t>(g.heads);
  if (what == "softmax") bytes = scores.size() * 4;
  if (what == "digest") bytes = 65536;
  report(state, bytes);
}

}  // namespace

int main(int argc, char** argv) {
  tensors();
  benchmark::RegisterBenchmark("tensor/memcpy", copy_tensor)->Unit(benchmark::kMillisecond);
  for (int32_t target = SKV_TARGET_SCALAR; target <= SKV_TARGET_NEON; ++target) {
    const Kernels* k = kernels::kernels_of(target);
    if (k == nullptr) continue;
    for (const Geometry& g : kGeometries) {
      const std::string at = std::string("/") + k->name + "/" + g.name;
      for (const uint8_t tier : {1, 2, 3, 4}) {
        if (tier != 2 && std::strcmp(g.name, "d128x8") != 0) continue;
        const std::string with = at + "/" + std::to_string(2 * tier) + "bit";
        benchmark::RegisterBenchmark(("tensor/pack" + with).c_str(), pack_tensor, k, g, tier)
            ->Unit(benchmark::kMillisecond);
        benchmark::RegisterBenchmark(("tensor/unpack" + with).c_str(), unpack_tensor, k, g, tier)
            ->Unit(benchmark::kMillisecond);
      }
      for (const char* what : {"copy", "stats", "vectors", "packK", "packV", "unpackK", "unpackV", "absmax", "dots64",
                               "accumulate64", "softmax", "digest"}) {
        benchmark::RegisterBenchmark((std::string("cached/") + what + at).c_str(), cached, k, g, uint8_t{2},
                                     std::string(what));
      }
    }
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
