// SPDX-License-Identifier: Apache-2.0
// XXH3-64, seed 0 (xxhash.com, doc/xxhash_spec.md), for the two kinds of input the format has: leaves, and a segment's
// header with its leaf digests. The stripes of a 1024-byte block are sums and independent of what came before, so all
// blocks are summed at once and only the scrambles between them follow each other.
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/simt.h"

namespace skv::cuda {
namespace {

constexpr uint64_t kHeaderBytes = 64;       // of a segment, docs/wire-format.md
constexpr uint64_t kHashedHeaderWords = 7;  // bytes 0 .. 55 of it
constexpr uint64_t kLeafBytes = 65536;
constexpr int32_t kDigestThreads = 256;  // 64 blocks of a leaf, four columns of 16 bytes each
constexpr int32_t kColumns = 4;
constexpr uint64_t kBlocksAtOnce = kDigestThreads / kColumns;
constexpr uint64_t kBlockBytes = 1024;
constexpr uint64_t kStripeBytes = 64;
constexpr uint64_t kStripes = kBlockBytes / kStripeBytes;
constexpr int32_t kSecretWords = 24;
constexpr uint32_t kSecretBytes = 8 * kSecretWords;
constexpr uint32_t kSecretMin = 136;  // XXH3_SECRET_SIZE_MIN

constexpr uint64_t kPrime32_1 = 0x9E3779B1U;
constexpr uint64_t kPrime32_2 = 0x85EBCA77U;
constexpr uint64_t kPrime32_3 = 0xC2B2AE3DU;
constexpr uint64_t kPrime64_1 = 0x9E3779B185EBCA87ULL;
constexpr uint64_t kPrime64_2 = 0xC2B2AE3D27D4EB4FULL;
constexpr uint64_t kPrime64_3 = 0x165667B19E3779F9ULL;
constexpr uint64_t kPrime64_4 = 0x85EBCA77C2B2AE63ULL;
constexpr uint64_t kPrime64_5 = 0x27D4EB2F165667C5ULL;

// XXH3_kSecret as little-endian words.
__constant__ uint64_t kSecret[kSecretWords] = {
    0xBE4BA423396CFEB8ULL, 0x1CAD21F72C81017CULL, 0xDB979083E96DD4DEULL, 0x1F67B3B7A4A44072ULL, 0x78E5C0CC4EE679CBULL,
    0x2172FFCC7DD05A82ULL, 0x8E2443F7744608B8ULL, 0x4C263A81E69035E0ULL, 0xCB00C391BB52283CULL, 0xA32E531B8B65D088ULL,
    0x4EF90DA297486471ULL, 0xD8ACDEA946EF1938ULL, 0x3F349CE33F76FAA8ULL, 0x1D4F0BC7C7BBDCF9ULL, 0x3159B4CD4BE0518AULL,
    0x647378D9C97E9FC8ULL, 0xC3EBD33483ACC5EAULL, 0xEB6313FAFFA081C5ULL, 0x49DAF0B751DD0D17ULL, 0x9E68D429265516D3ULL,
    0xFCA1477D58BE162BULL, 0xCE31D07AD1B8F88FULL, 0x280416958F3ACB45ULL, 0x7E404BBBCAFBD7AFULL,
};

SKV_DEVICE uint64_t secret_at(const uint64_t* secret, uint32_t byte) {
  const uint32_t word = byte / 8;
  const uint32_t shift = byte % 8 * 8;
  return shift == 0 ? secret[word] : secret[word] >> shift | secret[word + 1] << (64 - shift);
}
SKV_DEVICE uint64_t avalanche(uint64_t h) {
  h ^= h >> 37U;
  h *= 0x165667919E3779F9ULL;
  return h ^ h >> 32U;
}
SKV_DEVICE uint64_t fold(uint64_t a, uint64_t b) { return a * b ^ __umul64hi(a, b); }
SKV_DEVICE uint64_t swap_bytes(uint64_t x) {
  uint64_t out = 0;
  for (int i = 0; i < 8; ++i) out |= (x >> (8 * i) & 0xFFU) << (56 - 8 * i);
  return out;
}

// Input is a number of 64-bit words; word(i) reads one.
struct Leaf {
  const uint64_t* words;
  uint64_t bytes;
  SKV_DEVICE uint64_t word(uint64_t i) const { return words[i]; }
};
struct Root {
  const uint64_t* header;
  const uint64_t* leaves;
  uint64_t bytes;
  SKV_DEVICE uint64_t word(uint64_t i) const {
    return i < kHashedHeaderWords ? header[i] : leaves[i - kHashedHeaderWords];
  }
};

template <class Input>
SKV_DEVICE uint64_t mix(const Input& in, uint64_t byte, const uint64_t* secret, uint32_t at) {
  return fold(in.word(byte / 8) ^ secret_at(secret, at), in.word(byte / 8 + 1) ^ secret_at(secret, at + 8));
}

// 9 .. 240 bytes, a multiple of 8.
template <class Input>
SKV_DEVICE uint64_t short_digest(const Input& in, const uint64_t* secret) {
  const uint64_t n = in.bytes;
  if (n <= 16) {
    const uint64_t low = in.word(0) ^ secret[3] ^ secret[4];
    const uint64_t high = in.word(n / 8 - 1) ^ secret[5] ^ secret[6];
    return avalanche(n + swap_bytes(low) + high + fold(low, high));
  }
  uint64_t acc = n * kPrime64_1;
  if (n <= 128) {
    for (uint32_t i = 0; i < 4; ++i) {
      if (n <= 32 * i) break;
      acc += mix(in, 16 * i, secret, 32 * i) + mix(in, n - 16 * (i + 1), secret, 32 * i + 16);
    }
    return avalanche(acc);
  }
  for (uint32_t i = 0; i < 8; ++i) acc += mix(in, 16 * i, secret, 16 * i);
  acc = avalanche(acc);
  for (uint32_t i = 8; i < n / 16; ++i) acc += mix(in, 16 * i, secret, 16 * (i - 8) + 3);
  return avalanche(acc + mix(in, n - 16, secret, kSecretMin - 17));
}

// Two lanes of a stripe.
SKV_DEVICE void accumulate(uint64_t a, uint64_t b, uint64_t key_a, uint64_t key_b, uint64_t* sum) {
  key_a ^= a;
  key_b ^= b;
  sum[0] += b + (key_a & 0xFFFFFFFFU) * (key_a >> 32U);
  sum[1] += a + (key_b & 0xFFFFFFFFU) * (key_b >> 32U);
}

// The digest of an input, on thread 0; called by all kDigestThreads threads.
template <class Input>
SKV_DEVICE uint64_t digest(const Input& in) {
  __shared__ uint64_t secret[kSecretWords];
  __shared__ uint64_t sums[kBlocksAtOnce][8];
  __shared__ uint64_t lanes[8];
  const uint32_t thread = threadIdx.x;
  if (thread < kSecretWords) secret[thread] = kSecret[thread];
  __syncthreads();
  if (in.bytes <= 240) return thread == 0 ? short_digest(in, secret) : 0;

  const uint64_t last = (in.bytes - 1) / kBlockBytes;  // the block without a scramble
  const uint64_t column = thread % kColumns;
  uint64_t acc = 0;
  if (thread < 8) {
    constexpr uint64_t kStart[8] = {kPrime32_3, kPrime64_1, kPrime64_2, kPrime64_3,
                                    kPrime64_4, kPrime32_2, kPrime64_5, kPrime32_1};
    for (uint32_t i = 0; i < 8; ++i) acc = thread == i ? kStart[i] : acc;
  }
  for (uint64_t base = 0; base <= last; base += kBlocksAtOnce) {
    const uint64_t block = base + thread / kColumns;
    uint64_t sum[2] = {0, 0};
    if (block <= last) {
      const uint64_t stripes = block < last ? kStripes : (in.bytes - 1 - last * kBlockBytes) / kStripeBytes;
      uint64_t word = block * (kBlockBytes / 8) + column * 2;
#pragma unroll 8
      for (uint64_t s = 0; s < stripes; ++s, word += kStripeBytes / 8) {
        accumulate(in.word(word), in.word(word + 1), secret[s + column * 2], secret[s + column * 2 + 1], sum);
      }
      if (block == last) {
        const auto at = static_cast<uint32_t>(kSecretBytes - kStripeBytes - 7 + column * 16);
        word = (in.bytes - kStripeBytes) / 8 + column * 2;
        accumulate(in.word(word), in.word(word + 1), secret_at(secret, at), secret_at(secret, at + 8), sum);
      }
    }
    sums[thread / kColumns][column * 2] = sum[0];
    sums[thread / kColumns][column * 2 + 1] = sum[1];
    __syncthreads();
    if (thread < 8) {
      for (uint64_t b = 0; b < kBlocksAtOnce && base + b <= last; ++b) {
        acc += sums[b][thread];
        if (base + b == last) break;
        acc = (acc ^ acc >> 47U ^ secret[16 + thread]) * kPrime32_1;
      }
    }
    __syncthreads();
  }
  if (thread < 8) lanes[thread] = acc;
  __syncthreads();
  if (thread != 0) return 0;
  uint64_t result = in.bytes * kPrime64_1;
  for (uint32_t i = 0; i < 4; ++i) {
    result += fold(lanes[2 * i] ^ secret_at(secret, 11 + 16 * i), lanes[2 * i + 1] ^ secret_at(secret, 19 + 16 * i));
  }
  return avalanche(result);
}

__global__ void __launch_bounds__(kDigestThreads)
    leaves_kernel(const Segment* segments, uint32_t count, uint64_t* out) {
  const uint64_t leaf = blockIdx.x;
  uint32_t low = 0;  // the last segment whose first leaf is not beyond this one
  for (uint32_t high = count; high - low > 1;) {
    const uint32_t middle = low + (high - low) / 2;
    if (segments[middle].first_leaf <= leaf) {
      low = middle;
    } else {
      high = middle;
    }
  }
  const Segment& segment = segments[low];
  const uint64_t begin = kHeaderBytes + (leaf - segment.first_leaf) * kLeafBytes;
  const uint64_t bytes = segment.size - begin < kLeafBytes ? segment.size - begin : kLeafBytes;
  const uint64_t result = digest(Leaf{reinterpret_cast<const uint64_t*>(segment.bytes + begin), bytes});
  if (threadIdx.x == 0) out[leaf] = result;
}

SKV_DEVICE Root root_of(const Segment& segment, const uint64_t* leaves) {
  const uint64_t count = (segment.size - kHeaderBytes + kLeafBytes - 1) / kLeafBytes;
  return {reinterpret_cast<const uint64_t*>(segment.bytes), leaves + segment.first_leaf,
          8 * (kHashedHeaderWords + count)};
}

__global__ void __launch_bounds__(kDigestThreads) seal_kernel(const Segment* segments, const uint64_t* leaves) {
  const Segment& segment = segments[blockIdx.x];
  const uint64_t result = digest(root_of(segment, leaves));
  if (threadIdx.x == 0) reinterpret_cast<uint64_t*>(segment.bytes)[kHashedHeaderWords] = result;
}

// The digest, and that all scales are finite (all exponent bits of a binary16 set: they are not).
__global__ void __launch_bounds__(kDigestThreads)
    verify_kernel(const Segment* segments, const uint64_t* leaves, Faults* faults) {
  const Segment& segment = segments[blockIdx.x];
  const uint64_t result = digest(root_of(segment, leaves));
  bool bad = threadIdx.x == 0 && result != segment.wanted;
  for (int half = 0; half < 2; ++half) {
    for (uint64_t i = threadIdx.x; i < segment.scale_count[half]; i += kDigestThreads) {
      bad = bad || (segment.scales[half][i] & 0x7C00U) == 0x7C00U;
    }
  }
  if (bad) atomicMin(&faults->segment, segment.ordinal);
}

}  // namespace

int digest_leaves(const Segment* segments, uint32_t count, uint64_t leaves, uint64_t* out, void* stream) {
  if (leaves == 0) return kSuccess;
  SKV_LAUNCH(leaves_kernel, dim3(static_cast<uint32_t>(leaves)), dim3(kDigestThreads), stream, segments, count, out);
  return static_cast<int>(cudaGetLastError());
}

int seal(const Segment* segments, uint32_t count, const uint64_t* leaves, void* stream) {
  if (count == 0) return kSuccess;
  SKV_LAUNCH(seal_kernel, dim3(count), dim3(kDigestThreads), stream, segments, leaves);
  return static_cast<int>(cudaGetLastError());
}

int verify(const Segment* segments, uint32_t count, const uint64_t* leaves, Faults* faults, void* stream) {
  if (count == 0) return kSuccess;
  SKV_LAUNCH(verify_kernel, dim3(count), dim3(kDigestThreads), stream, segments, leaves, faults);
  return static_cast<int>(cudaGetLastError());
}

}  // namespace skv::cuda
