// SPDX-License-Identifier: Apache-2.0
// NVIDIA's own libnccl.so.2 where scripts/setup.sh put one: what it exports, and what is said of it without a driver.
#include <cstdlib>
#include <filesystem>

#include "transport/device_calls.h"
#include "transport/nccl_library.h"
#include "watch.h"

#ifdef SKV_REAL_NCCL_HEADER
#include <nccl.h>
#endif

namespace skv::transport {
namespace {

std::string real_nccl() {
  const char* named = std::getenv("SPECTRUMKV_NCCL_LIBRARY");
  return named != nullptr ? named : SKV_REAL_NCCL;
}
#define NEED_REAL_NCCL()                                                                                     \
  if (!std::filesystem::exists(real_nccl())) {                                                               \
    GTEST_SKIP() << "SKIPPED, NOTHING SHOWN: no NCCL at " << real_nccl() << "; run scripts/setup.sh --nccl"; \
  }

TEST(NcclReal, ExportsWhatIsUsed) {
  NEED_REAL_NCCL();
  const auto library = NcclLibrary::load(real_nccl());
  EXPECT_GE(library->version(), nccl::kLeastVersion);
  EXPECT_NE(library->describe("Send", nccl::kRemoteError, nullptr).find("ncclSend: "), std::string::npos);
#ifdef SKV_REAL_NCCL_HEADER
  EXPECT_EQ(library->version(), NCCL_VERSION_CODE);
#endif
}

TEST(NcclReal, WithoutADriverIsUnavailableWithAHintAndTheEndpointStaysUsable) {
  NEED_REAL_NCCL();
  std::int32_t count = 0;
  if (cuda_calls().count(&count) == 0) GTEST_SKIP() << "there is a driver here: tests/gpu is for that";
  Endpoint endpoint;
  endpoint.set(SKV_ENDPOINT_PLANES, 1 << SKV_PLANE_NCCL);
  endpoint.set_library(SKV_PLANE_NCCL, real_nccl().c_str());
  char bound[64];
  std::string why;
  try {
    endpoint.listen("tcp://127.0.0.1:0", bound, sizeof bound);
    FAIL() << "there is no driver";
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), SKV_E_UNAVAILABLE);
    why = error.message();
  }
  EXPECT_NE(why.find("wanted an NVIDIA driver and a GPU, or another plane"), std::string::npos) << why;
  std::printf("         %s\n", why.c_str());
  endpoint.set(SKV_ENDPOINT_PLANES, 1 << SKV_PLANE_INLINE);
  endpoint.listen("tcp://127.0.0.1:0", bound, sizeof bound);
  Endpoint other;
  EXPECT_EQ(other.connect(bound, deadline_ms(kSoon))->get(SKV_CONN_PLANE), SKV_PLANE_INLINE);
}

#ifdef SKV_REAL_NCCL_HEADER
// The ABI of nccl_abi.h against the header of the library that is loaded above.
static_assert(sizeof(nccl::UniqueId) == sizeof(ncclUniqueId) && nccl::kUniqueIdBytes == NCCL_UNIQUE_ID_BYTES);
static_assert(nccl::kSuccess == ncclSuccess && nccl::kInvalidUsage == ncclInvalidUsage &&
              nccl::kRemoteError == ncclRemoteError && nccl::kInProgress == ncclInProgress);
static_assert(nccl::kUint8 == ncclUint8 && nccl::kUndefined == NCCL_CONFIG_UNDEF_INT);
static_assert(sizeof(nccl::Config) <= sizeof(ncclConfig_t));
static_assert(offsetof(nccl::Config, magic) == offsetof(ncclConfig_t, magic) &&
              offsetof(nccl::Config, version) == offsetof(ncclConfig_t, version) &&
              offsetof(nccl::Config, blocking) == offsetof(ncclConfig_t, blocking) &&
              offsetof(nccl::Config, min_ctas) == offsetof(ncclConfig_t, minCTAs) &&
              offsetof(nccl::Config, max_ctas) == offsetof(ncclConfig_t, maxCTAs) &&
              offsetof(nccl::Config, net_name) == offsetof(ncclConfig_t, netName) &&
              offsetof(nccl::Config, split_share) == offsetof(ncclConfig_t, splitShare));
static_assert(nccl::kLeastVersion == NCCL_VERSION(2, 19, 1));
TEST(NcclReal, ConfigIsFilledLikeItsInitializer) {
  const ncclConfig_t theirs = NCCL_CONFIG_INITIALIZER;
  const nccl::Config ours;
  EXPECT_EQ(ours.magic, theirs.magic);
  EXPECT_EQ(ours.min_ctas, theirs.minCTAs);
  EXPECT_EQ(ours.split_share, theirs.splitShare);
}
#endif

}  // namespace
}  // namespace skv::transport
