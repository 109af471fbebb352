// SPDX-License-Identifier: Apache-2.0
// How many instructions each kernel takes for a fixed chunk: noise cannot hide a regression in them.
//
//   valgrind --tool=callgrind --collect-atstart=no ... bench/instructions   one dump a case, named after it; valgrind
//                                                                          knows no AVX-512: that target is not there
//   bench/instructions --step TARGET [DIM...]   counts by single-stepping a child (ptrace), which any target can, but
//                                               at some ten thousand instructions a second: a shorter chunk
//
// Prints the compiler, then "CASE ELEMENTS", and with --step the count too. bench/instructions.py runs both and does
// the arithmetic.
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>
#include <valgrind/callgrind.h>

#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/kernels.h"
#include "kernels/tiers.h"
#include "spectrumkv.h"

namespace {

using skv::kernels::Kernels;
using skv::kernels::Rows;
namespace kernels = skv::kernels;
namespace tiers = skv::tiers;

// Token-major f16 rows, as engines keep them.
struct Geometry {
  int32_t heads;
  int32_t dim;
};
constexpr Geometry kGeometries[] = {{3, 64}, {8, 80}, {8, 128}, {1, 256}};  // SmolLM2, Phi-2, Llama-3, Gemma-3
constexpr int32_t kQueries = 64;
constexpr size_t kStepTokens = 16;
constexpr size_t kLeaf = 65536;  // bytes of a digest's leaf

constexpr uint32_t kKeys = tiers::kMean | tiers::kBalance | tiers::kHadamard8;
constexpr uint32_t kValues = tiers::kHadamard8;

// One chunk, its payload and everything the kernels ask for.
class Chunk {
 public:
  Chunk(const Kernels& k, Geometry g, size_t tokens) : k_(k), g_(g), tokens_(tokens) {
    uint64_t state = 88172645463325252ULL;
    for (uint16_t& word : in_) {  // f16 of ordinary size: sign and mantissa at random, exponents 2^-3 .. 2^0
      state ^= state << 13U;
      state ^= state >> 7U;
      state ^= state << 17U;
      word = static_cast<uint16_t>((state & 0x8FFFU) | 0x3000U);
    }
    for (size_t t = 0; t < tokens_; ++t) offsets_[t] = static_cast<int64_t>(t * channels_ * 2);
    stats();
    vectors();
  }
  uint64_t elements() const { return tokens_ * channels_; }
  uint64_t rows() const { return tokens_; }
  uint64_t head_elements() const { return tokens_ * static_cast<size_t>(g_.dim) * kQueries; }
  uint64_t scores() const { return scores_.size(); }

  void tier(uint8_t tier) { tiers_.assign(tokens_, tier); }
  void stats() { k_.stats(view(in_), tiers_.data(), sum_.data(), lo_.data(), hi_.data()); }
  void vectors() {
    k_.vectors(kKeys, static_cast<int32_t>(tokens_), g_.heads, g_.dim, sum_.data(), lo_.data(), hi_.data(),
               mean16_.data(), balance16_.data(), mean_.data(), balance_.data(), recip_.data());
  }
  void pack(uint32_t flags) {
    const auto verdict =
        k_.pack({view(in_), tiers_.data(), transform(flags), tiers::kCodeEmbedded, tiers::kF16, sections()});
    if (verdict.kind != kernels::Verdict::kOk) std::abort();
  }
  void unpack(uint32_t flags) {
    k_.unpack(
        {view(out_), tiers_.data(), transform(flags), tiers::kCodeEmbedded, tiers::kF16, g_.heads, 0, sections()});
  }
  void absmax() { k_.absmax(view(in_), transform(kKeys), largest_.data()); }
  void dots() { k_.dots(view(in_), 0, queries_.data(), kQueries, scores_.data(), static_cast<int64_t>(tokens_)); }
  void norms() { k_.norms(view(in_), 0, norms_.data()); }
  void accumulate() {
    k_.accumulate(view(in_), 0, scores_.data(), static_cast<int64_t>(tokens_), kQueries, queries_.data());
  }
  void softmax() { k_.softmax(scores_.data(), scores_.size(), 1.0F); }
  void charge() {
    k_.charge(scores_.data(), scores_.data(), norms_.data(), tokens_, 1.0F, 1.0F, mass_.data(), cost_.data(),
              spread_.data());
  }
  void digest() { sink_ = k_.digest(leaf_.data(), leaf_.size()); }

 private:
  Rows view(std::vector<uint16_t>& memory) {
    return {reinterpret_cast<std::byte*>(memory.data()),
            offsets_.data(),
            static_cast<int32_t>(tokens_),
            g_.heads,
            g_.dim,
            tiers::kF16,
            2L * g_.dim,
            2};
  }
  kernels::Transform transform(uint32_t flags) const {
    return {(flags & tiers::kMean) != 0 ? mean_.data() : nullptr,
            (flags & tiers::kBalance) != 0 ? recip_.data() : nullptr,
            (flags & tiers::kBalance) != 0 ? balance_.data() : nullptr, tiers::hadamard_of(flags)};
  }
  kernels::Sections sections() {
    std::byte* body = payload_.data() + tokens_ * static_cast<size_t>(g_.heads) * 2;
    const size_t plane = elements() / 4;
    return {payload_.data(), body, body, body + 2 * plane, body + 3 * plane, body};
  }

  const Kernels& k_;
  Geometry g_;
  size_t tokens_;
  size_t channels_ = static_cast<size_t>(g_.heads) * static_cast<size_t>(g_.dim);
  std::vector<uint16_t> in_ = std::vector<uint16_t>(tokens_ * channels_), out_ = in_;
  std::vector<std::byte> payload_ = std::vector<std::byte>(tokens_ * channels_ * 3);
  std::vector<int64_t> offsets_ = std::vector<int64_t>(tokens_);
  std::vector<uint8_t> tiers_ = std::vector<uint8_t>(tokens_, 2);
  std::vector<float> sum_ = std::vector<float>(channels_), lo_ = sum_, hi_ = sum_, mean_ = sum_, balance_ = sum_,
                     recip_ = sum_;
  std::vector<uint16_t> mean16_ = std::vector<uint16_t>(channels_), balance16_ = mean16_;
  std::vector<float> largest_ = std::vector<float>(tokens_ * static_cast<size_t>(g_.heads));
  std::vector<float> queries_ = std::vector<float>(static_cast<size_t>(kQueries * g_.dim), 0.5F);
  std::vector<float> scores_ = std::vector<float>(kQueries * tokens_, 0.01F);
  std::vector<float> norms_ = std::vector<float>(tokens_, 1.0F), mass_ = norms_, cost_ = norms_, spread_ = norms_;
  std::vector<std::byte> leaf_ = std::vector<std::byte>(kLeaf, std::byte{0x5A});
  volatile uint64_t sink_ = 0;
};

// Called with the name, what the count is divided by, and the call that is counted.
using Count = std::function<void(const std::string& name, uint64_t elements, const std::function<void()>& call)>;

void count_kernels(const Kernels& k, Geometry g, size_t tokens, const Count& count) {
  Chunk chunk(k, g, tokens);
  const std::string at = std::string(k.name) + "/d" + std::to_string(g.dim) + "x" + std::to_string(g.heads) + "/";
  count(at + "stats", chunk.elements(), [&] { chunk.stats(); });
  count(at + "vectors", chunk.elements(), [&] { chunk.vectors(); });
  struct Kind {
    const char* name;
    uint32_t flags;
  };
  for (const Kind kind : {Kind{"K", kKeys}, Kind{"V", kValues}, Kind{"plain", 0}}) {
    for (const uint8_t tier : {1, 2, 3, 4}) {
      const std::string rest = std::string(kind.name) + "/" + std::to_string(2 * tier) + "bit";
      chunk.tier(tier);
      count(at + "pack/" + rest, chunk.elements(), [&] { chunk.pack(kind.flags); });
      count(at + "unpack/" + rest, chunk.elements(), [&] { chunk.unpack(kind.flags); });
    }
  }
  count(at + "absmax", chunk.elements(), [&] { chunk.absmax(); });
  count(at + "dots", chunk.head_elements(), [&] { chunk.dots(); });
  count(at + "norms", chunk.rows(), [&] { chunk.norms(); });
  count(at + "accumulate", chunk.head_elements(), [&] { chunk.accumulate(); });
  if (g.dim != 128) return;  // what follows knows no dims
  count(at + "softmax", chunk.scores(), [&] { chunk.softmax(); });
  count(at + "charge", chunk.rows(), [&] { chunk.charge(); });
  count(at + "digest", kLeaf, [&] { chunk.digest(); });
}

void under_callgrind() {
  for (int32_t target = SKV_TARGET_SCALAR; target <= SKV_TARGET_NEON; ++target) {
    const Kernels* k = kernels::kernels_of(target);
    if (k == nullptr) continue;
    for (const Geometry g : kGeometries) {
      count_kernels(*k, g, tiers::kMaxChunk,
                    [](const std::string& name, uint64_t elements, const std::function<void()>& call) {
                      call();  // the first may resolve symbols
                      CALLGRIND_ZERO_STATS;
                      CALLGRIND_TOGGLE_COLLECT;
                      call();
                      CALLGRIND_TOGGLE_COLLECT;
                      CALLGRIND_DUMP_STATS_AT(name.c_str());
                      std::printf("%s %llu\n", name.c_str(), static_cast<unsigned long long>(elements));
                    });
    }
  }
}

// What parent and child say to each other.
struct Shared {
  volatile uint64_t counting;
  volatile uint64_t elements;
  char name[120];
};

// The child: stops before each call, so that the parent steps through it.
void stepped(const Kernels& k, const std::vector<Geometry>& geometries, Shared& shared) {
  const Count count = [&](const std::string& name, uint64_t elements, const std::function<void()>& call) {
    call();
    std::snprintf(shared.name, sizeof shared.name, "%s", name.c_str());
    shared.elements = elements;
    shared.counting = 1;
    std::raise(SIGTRAP);
    call();
    shared.counting = 0;
  };
  count("nothing", 1, [] {});
  for (const Geometry g : geometries) count_kernels(k, g, kStepTokens, count);
}

int by_steps(const Kernels& k, const std::vector<Geometry>& geometries) {
  void* memory = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return 1;
  Shared& shared = *static_cast<Shared*>(memory);
  const pid_t child = fork();
  if (child < 0) return 1;
  if (child == 0) {
    if (ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) _exit(77);
    stepped(k, geometries, shared);
    _exit(0);
  }
  uint64_t nothing = 0;
  for (;;) {
    int status = 0;
    if (waitpid(child, &status, 0) != child) return 1;
    if (WIFEXITED(status)) return WEXITSTATUS(status);
    if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP) return 1;
    uint64_t steps = 0;
    for (; shared.counting != 0; ++steps) {
      if (ptrace(PTRACE_SINGLESTEP, child, nullptr, nullptr) != 0 || waitpid(child, &status, 0) != child) return 1;
      if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP) return 1;
    }
    if (nothing == 0) {  // the way out of raise() and into the call
      nothing = steps;
    } else {
      std::printf("%s %llu %llu\n", shared.name, static_cast<unsigned long long>(shared.elements),
                  static_cast<unsigned long long>(steps - nothing));
      std::fflush(stdout);
    }
    if (ptrace(PTRACE_CONT, child, nullptr, nullptr) != 0) return 1;
  }
}

// Counts of one compiler say nothing of another's.
void print_compiler() {
#if defined(__clang__)
  const char* name = "clang ";
#else
  const char* name = "gcc ";
#endif
#if defined(NDEBUG)
  const char* build = "release";
#else
  const char* build = "debug";
#endif
  std::printf("compiler %s%s, %s\n", name, __VERSION__, build);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 1) {
    print_compiler();
    under_callgrind();
    return 0;
  }
  if (argc < 3 || std::string_view(argv[1]) != "--step") {
    std::fprintf(stderr, "usage: instructions [--step TARGET [DIM...]]\n");
    return 2;
  }
  for (int32_t target = SKV_TARGET_SCALAR; target <= SKV_TARGET_NEON; ++target) {
    const Kernels* k = kernels::kernels_of(target);
    if (k == nullptr || std::string_view(argv[2]) != k->name) continue;
    std::vector<Geometry> geometries;
    for (const Geometry g : kGeometries) {
      bool wanted = argc == 3;
      for (int i = 3; i < argc; ++i) wanted |= std::atoi(argv[i]) == g.dim;
      if (wanted) geometries.push_back(g);
    }
    print_compiler();
    return by_steps(*k, geometries);
  }
  std::fprintf(stderr, "instructions: no kernels %s on this CPU\n", argv[2]);
  return 3;
}
