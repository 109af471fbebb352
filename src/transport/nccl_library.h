// SPDX-License-Identifier: Apache-2.0
// libnccl.so.2, loaded when a plane asks for it and never linked against. Once loaded it stays: its threads do not end
// with the last communicator, so it is never closed.
#pragma once

#include <memory>
#include <string>

#include "transport/nccl_abi.h"

namespace skv::transport {

namespace nccl {
// The functions by their names; an optional one may be null.
struct Table {
#define SKV_NCCL_MEMBER(required, name, result, parameters) result(*name) parameters = nullptr;
  SKV_NCCL_FUNCTIONS(SKV_NCCL_MEMBER)
#undef SKV_NCCL_MEMBER
};
}  // namespace nccl

class NcclLibrary {
 public:
  // Loads, in this order: `path` (if not empty), the environment's SPECTRUMKV_NCCL_LIBRARY, a libnccl.so.2 that this
  // process has already (torch's: two copies in a process do not know of each other), the system's. Throws UNAVAILABLE
  // (not found, a required function missing, NCCL_COMM_BLOCKING=1) or NCCL_VERSION (older than 2.19.1).
  static std::shared_ptr<const NcclLibrary> load(const std::string& path);

  const nccl::Table& call() const noexcept { return table_; }
  int version() const noexcept { return version_; }
  const std::string& where() const noexcept { return where_; }
  // "ncclSend: unhandled cuda error (1): what the library says of it", for a result that is not success.
  std::string describe(const char* function, nccl::Result result, nccl::Comm comm) const;

 private:
  nccl::Table table_;
  int version_ = 0;
  std::string where_;
};

}  // namespace skv::transport
