// SPDX-License-Identifier: Apache-2.0
// What this library uses of NCCL's ABI, as of NCCL 2.19.1 (nccl.h). Later versions of NCCL 2 keep it: results and types
// are never renumbered, and the config says its own size and version. tests/faults/nccl_real_test.cc holds it against a
// real nccl.h where there is one.
#pragma once

#include <climits>
#include <cstddef>
#include <cstdint>

namespace skv::transport::nccl {

using Result = int;  // ncclResult_t
constexpr Result kSuccess = 0;
constexpr Result kInvalidUsage = 5;
constexpr Result kRemoteError = 6;
constexpr Result kInProgress = 7;

constexpr int kUint8 = 1;             // ncclUint8
constexpr int kLeastVersion = 21901;  // 2.19.1: non-blocking communicators that can be aborted at any time
constexpr std::size_t kUniqueIdBytes = 128;
constexpr int kUndefined = INT_MIN;  // NCCL_CONFIG_UNDEF_INT
constexpr unsigned kConfigMagic = 0xcafebeef;

using Comm = void*;    // ncclComm_t
using Stream = void*;  // cudaStream_t

struct UniqueId {
  char internal[kUniqueIdBytes];
};

// ncclConfig_t of 2.19.
struct Config {
  std::size_t size = sizeof(Config);
  unsigned magic = kConfigMagic;
  unsigned version = kLeastVersion;
  int blocking = kUndefined;
  int cga_cluster_size = kUndefined;
  int min_ctas = kUndefined;
  int max_ctas = kUndefined;
  const char* net_name = nullptr;
  int split_share = kUndefined;
  int padding = kUndefined;  // trafficClass of 2.26 and later, which look at `version` first
};
static_assert(sizeof(Config) == 48 && offsetof(Config, blocking) == 16 && offsetof(Config, max_ctas) == 28 &&
              offsetof(Config, net_name) == 32 && offsetof(Config, split_share) == 40);

// The functions used, by their names without "nccl". F(required, name, result, parameters)
#define SKV_NCCL_FUNCTIONS(F)                                                                                \
  F(true, GetVersion, Result, (int* version))                                                                \
  F(true, GetUniqueId, Result, (UniqueId * id))                                                              \
  F(true, GetErrorString, const char*, (Result result))                                                      \
  F(true, CommInitRankConfig, Result, (Comm * comm, int ranks, UniqueId id, int rank, Config* config))       \
  F(true, CommGetAsyncError, Result, (Comm comm, Result * error))                                            \
  F(true, CommCount, Result, (Comm comm, int* ranks))                                                        \
  F(true, CommCuDevice, Result, (Comm comm, int* device))                                                    \
  F(true, CommUserRank, Result, (Comm comm, int* rank))                                                      \
  F(true, CommAbort, Result, (Comm comm))                                                                    \
  F(true, GroupStart, Result, ())                                                                            \
  F(true, GroupEnd, Result, ())                                                                              \
  F(true, Send, Result, (const void* from, std::size_t count, int type, int peer, Comm comm, Stream stream)) \
  F(true, Recv, Result, (void* to, std::size_t count, int type, int peer, Comm comm, Stream stream))         \
  F(false, GetLastError, const char*, (Comm comm))                                                           \
  F(false, CommRevoke, Result, (Comm comm, int flags))

}  // namespace skv::transport::nccl
