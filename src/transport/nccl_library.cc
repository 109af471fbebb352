// SPDX-License-Identifier: Apache-2.0
#include "transport/nccl_library.h"

#include <dlfcn.h>

#include <cstdlib>
#include <cstring>

#include "error.h"

namespace skv::transport {
namespace {

constexpr const char* kName = "libnccl.so.2";
constexpr const char* kEnvironment = "SPECTRUMKV_NCCL_LIBRARY";
constexpr int kMode = RTLD_NOW | RTLD_LOCAL;

void* open_library(const std::string& path, std::string& where) {
  const char* named = std::getenv(kEnvironment);
  const std::string wanted = !path.empty() ? path : named != nullptr ? named : "";
  if (!wanted.empty()) {
    where = wanted;
    void* handle = ::dlopen(wanted.c_str(), kMode);
    if (handle == nullptr) {
      fail(SKV_E_UNAVAILABLE, "cannot load NCCL from %s (%s): %s", wanted.c_str(),
           path.empty() ? kEnvironment : "skv_endpoint_set_library", ::dlerror());
    }
    return handle;
  }
  where = std::string(kName) + " of this process";
  if (void* handle = ::dlopen(kName, kMode | RTLD_NOLOAD)) return handle;
  where = kName;
  void* handle = ::dlopen(kName, kMode);
  if (handle == nullptr) {
    fail(SKV_E_UNAVAILABLE,
         "cannot load NCCL: %s; wanted %s of NCCL 2.19 or later where the loader looks, or its path in %s or "
         "skv_endpoint_set_library (scripts/setup.sh --nccl installs one)",
         ::dlerror(), kName, kEnvironment);
  }
  return handle;
}

}  // namespace

std::shared_ptr<const NcclLibrary> NcclLibrary::load(const std::string& path) {
  // Overrides the `blocking` of every communicator, and a call that waits for a dead peer cannot be taken back.
  const char* blocking = std::getenv("NCCL_COMM_BLOCKING");
  if (blocking != nullptr && std::atoi(blocking) != 0) {
    fail(SKV_E_UNAVAILABLE, "NCCL_COMM_BLOCKING=%s makes NCCL's calls wait without a deadline; wanted unset or 0",
         blocking);
  }
  auto library = std::make_shared<NcclLibrary>();
  void* handle = open_library(path, library->where_);
  std::string missing;
  const auto find = [&](const char* name, bool required) {
    void* found = ::dlsym(handle, name);
    if (found == nullptr && required) missing += missing.empty() ? name : std::string(", ") + name;
    return found;
  };
  nccl::Table& table = library->table_;
#define SKV_NCCL_FIND(required, name, result, parameters) \
  table.name = reinterpret_cast<decltype(table.name)>(find("nccl" #name, required));
  SKV_NCCL_FUNCTIONS(SKV_NCCL_FIND)
#undef SKV_NCCL_FIND
  if (table.GetVersion != nullptr) {
    const nccl::Result result = table.GetVersion(&library->version_);
    if (result != nccl::kSuccess) {
      throw Error(SKV_E_NCCL, library->where_ + ": ncclGetVersion failed with " + std::to_string(result), result);
    }
    // Before what an older one lacks.
    if (library->version_ < nccl::kLeastVersion) {
      fail(SKV_E_NCCL_VERSION, "%s is NCCL %d, want %d (2.19.1) or later", library->where_.c_str(), library->version_,
           nccl::kLeastVersion);
    }
  }
  if (!missing.empty()) {
    fail(SKV_E_UNAVAILABLE, "%s lacks %s; wanted NCCL 2.19 or later", library->where_.c_str(), missing.c_str());
  }
  return library;
}

std::string NcclLibrary::describe(const char* function, nccl::Result result, nccl::Comm comm) const {
  std::string text =
      std::string("nccl") + function + ": " + table_.GetErrorString(result) + " (" + std::to_string(result) + ")";
  if (table_.GetLastError != nullptr) {
    const char* more = table_.GetLastError(comm);
    if (more != nullptr && *more != '\0') text += std::string(": ") + more;
  }
  return text;
}

}  // namespace skv::transport
