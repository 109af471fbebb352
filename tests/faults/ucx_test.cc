// SPDX-License-Identifier: Apache-2.0
// Bytes over UCX active messages between two nodes of this process, through the real library. Skipped, and saying so,
// where it is not installed.
#include "transport/ucx.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>

#include <chrono>
#include <cstring>

#include "error.h"
#include "payloads.h"
#include "transport/clock.h"
#include "transport/endpoint.h"
#include "transport/ucx_abi.h"

#if __has_include(<ucp/api/ucp.h>)
#include <ucp/api/ucp.h>
#define SAME(ours, field, theirs, member) \
  static_assert(offsetof(skv::transport::ucp::ours, field) == offsetof(theirs, member), #member)
static_assert(sizeof(skv::transport::ucp::Status) == sizeof(ucs_status_t));
static_assert(skv::transport::ucp::kBusy == UCS_ERR_BUSY && skv::transport::ucp::kLast == UCS_ERR_LAST);
static_assert(skv::transport::ucp::kInProgress == UCS_INPROGRESS);
static_assert(sizeof(skv::transport::ucp::Params) == sizeof(ucp_params_t));
SAME(Params, features, ucp_params_t, features);
SAME(Params, name, ucp_params_t, name);
static_assert(skv::transport::ucp::kParamFeatures == UCP_PARAM_FIELD_FEATURES);
static_assert(skv::transport::ucp::kFeatureWakeup == UCP_FEATURE_WAKEUP &&
              skv::transport::ucp::kFeatureAm == UCP_FEATURE_AM);
static_assert(sizeof(skv::transport::ucp::WorkerParams) == sizeof(ucp_worker_params_t));
SAME(WorkerParams, thread_mode, ucp_worker_params_t, thread_mode);
SAME(WorkerParams, client_id, ucp_worker_params_t, client_id);
static_assert(skv::transport::ucp::kThreadSerialized == UCS_THREAD_MODE_SERIALIZED);
static_assert(sizeof(skv::transport::ucp::EpParams) == sizeof(ucp_ep_params_t));
SAME(EpParams, address, ucp_ep_params_t, address);
SAME(EpParams, error_mode, ucp_ep_params_t, err_mode);
SAME(EpParams, on_error, ucp_ep_params_t, err_handler);
SAME(EpParams, remote, ucp_ep_params_t, sockaddr);
static_assert(skv::transport::ucp::kErrorPeer == UCP_ERR_HANDLING_MODE_PEER);
static_assert(skv::transport::ucp::kEpErrorHandler == UCP_EP_PARAM_FIELD_ERR_HANDLER);
static_assert(sizeof(skv::transport::ucp::RequestParam) == sizeof(ucp_request_param_t));
SAME(RequestParam, flags, ucp_request_param_t, flags);
SAME(RequestParam, on_sent, ucp_request_param_t, cb);
SAME(RequestParam, user_data, ucp_request_param_t, user_data);
static_assert(skv::transport::ucp::kOpCallback == UCP_OP_ATTR_FIELD_CALLBACK);
static_assert(skv::transport::ucp::kOpUserData == UCP_OP_ATTR_FIELD_USER_DATA);
static_assert(skv::transport::ucp::kOpFlags == UCP_OP_ATTR_FIELD_FLAGS);
static_assert(skv::transport::ucp::kSendEager == UCP_AM_SEND_FLAG_EAGER);
static_assert(skv::transport::ucp::kCloseForce == UCP_EP_CLOSE_FLAG_FORCE);
static_assert(sizeof(skv::transport::ucp::RecvParam) == sizeof(ucp_am_recv_param_t));
static_assert(skv::transport::ucp::kRecvData == UCP_AM_RECV_ATTR_FLAG_DATA);
static_assert(skv::transport::ucp::kRecvRendezvous == UCP_AM_RECV_ATTR_FLAG_RNDV);
static_assert(sizeof(skv::transport::ucp::AmHandler) == sizeof(ucp_am_handler_param_t));
SAME(AmHandler, on_message, ucp_am_handler_param_t, cb);
static_assert(skv::transport::ucp::kAmWholeMessage == UCP_AM_FLAG_WHOLE_MSG);
#endif

namespace skv::transport {
namespace {

using Bytes = std::vector<std::byte>;

std::unique_ptr<UcxNode> open_or_null() {
  try {
    return UcxNode::open("", "lo");
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), SKV_E_UNAVAILABLE);
    EXPECT_NE(error.message().find("libucx0"), std::string::npos) << "says what to do: " << error.message();
    return nullptr;
  }
}

// Two nodes and a channel between them.
struct Nodes {
  std::unique_ptr<UcxNode> a = open_or_null(), b = a ? UcxNode::open("", "lo") : nullptr;
  std::unique_ptr<UcxChannel> to_b, to_a;
  explicit Nodes(std::size_t most = 64 << 20) {
    if (!a) return;
    to_b = a->connect(b->address(), 11, 22, most);
    to_a = b->connect(a->address(), 22, 11, most);
  }
  ~Nodes() {
    to_a.reset();
    to_b.reset();
  }
  Nodes(const Nodes&) = delete;
  Nodes& operator=(const Nodes&) = delete;
  // Until done, or a generous time has passed.
  template <typename F>
  bool until(F done) const {
    const std::uint64_t deadline = deadline_ms(30'000);
    while (!done()) {
      if (now_ns() > deadline) return false;
      if (a) a->progress();
      if (b) b->progress();
    }
    return true;
  }
};

#define NODES_OR_SKIP(nodes) \
  if (!(nodes).a) GTEST_SKIP() << "SKIPPED: libucp is not installed here: the UCX plane is not tested"

TEST(Ucx, AMissingLibraryIsUnavailableAndSaysWhatToDo) {
  try {
    UcxNode::open("libucp-that-is-not-there.so", "");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), SKV_E_UNAVAILABLE);
    EXPECT_NE(error.message().find("libucp-that-is-not-there.so"), std::string::npos);
    EXPECT_NE(error.message().find("libucx0"), std::string::npos);
  }
}

TEST(Ucx, ALibraryThatIsNoneIsUnavailable) {
  try {
    UcxNode::open("libc.so.6", "");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), SKV_E_UNAVAILABLE);
    EXPECT_NE(error.message().find("ucp_"), std::string::npos) << error.message();
  }
}

TEST(Ucx, LoadingLeavesSignalHandlersAlone) {
  struct sigaction before = {}, after = {};
  ::sigaction(SIGSEGV, nullptr, &before);
  const auto node = open_or_null();
  if (!node) GTEST_SKIP() << "SKIPPED: libucp is not installed here";
  ::sigaction(SIGSEGV, nullptr, &after);
  EXPECT_EQ(before.sa_handler, after.sa_handler);
  EXPECT_EQ(std::getenv("UCX_HANDLE_ERRORS"), nullptr) << "the environment is as it was";
}

TEST(Ucx, ADeviceThatIsNotThereIsUnavailable) {
  if (!open_or_null()) GTEST_SKIP() << "SKIPPED: libucp is not installed here";
  try {
    const auto node = UcxNode::open("", "no-such-device");
    // Without a network device only itself is in reach; whichever way, it says so.
    EXPECT_THROW(node->connect(std::vector<std::byte>(8), 1, 2, 1), Error);
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), SKV_E_UNAVAILABLE);
  }
}

TEST(Ucx, IsRefusedWhereItsBytesWouldLeaveTls) {
  if (!open_or_null()) GTEST_SKIP() << "SKIPPED: libucp is not installed here";
  const std::vector<std::uint8_t> key(32, 9);
  Endpoint endpoint;
  endpoint.set(SKV_ENDPOINT_PLANES, 1 << SKV_PLANE_UCX | 1 << SKV_PLANE_INLINE);
  endpoint.set_psk(SKV_SECURITY_TLS_PSK, key.data(), key.size());
  try {
    endpoint.listen("tcp://127.0.0.1:0", nullptr, 0);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), SKV_E_PERMITTED);
  }
}

TEST(Ucx, AnEndpointWithoutTheLibrarySaysSoWhenItListens) {
  Endpoint endpoint;
  endpoint.set(SKV_ENDPOINT_PLANES, 1 << SKV_PLANE_UCX);
  endpoint.set_library(SKV_PLANE_UCX, "libucp-that-is-not-there.so");
  for (const bool connects : {false, true}) {
    try {
      if (connects) {
        endpoint.connect("tcp://127.0.0.1:1", deadline_ms(5'000));
      } else {
        endpoint.listen("tcp://127.0.0.1:0", nullptr, 0);
      }
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.status(), SKV_E_UNAVAILABLE) << error.message();
    }
  }
}

TEST(Ucx, BytesArriveInOrderBothWaysWhateverTheSizes) {
  Nodes nodes;
  NODES_OR_SKIP(nodes);
  for (const std::size_t size :
       {std::size_t{1}, std::size_t{63}, std::size_t{4'097}, std::size_t{65'537}, std::size_t{9} << 20}) {
    for (const bool back : {false, true}) {
      UcxChannel& from = back ? *nodes.to_a : *nodes.to_b;
      UcxChannel& to = back ? *nodes.to_b : *nodes.to_a;
      const Bytes bytes = make_bytes(size, size);
      Bytes got(size);
      std::size_t sent = 0, have = 0;
      ASSERT_TRUE(nodes.until([&] {
        sent += from.send(std::span(bytes).subspan(sent));
        have += to.read(std::span(got).subspan(have, std::min<std::size_t>(7'777, size - have)));
        return have == size;
      })) << size
          << " bytes: " << have << " " << from.broken() << to.broken();
      EXPECT_EQ(sent, size);
      EXPECT_EQ(got, bytes);
      EXPECT_EQ(to.arrived(), 0u);
    }
  }
}

TEST(Ucx, ASenderIsHeldWhileItsSlotsAreUnderWay) {
  Nodes nodes;
  NODES_OR_SKIP(nodes);
  const Bytes bytes = make_bytes(64 << 20, 1);
  std::size_t sent = 0;
  for (std::size_t step = 1; step > 0 && sent < bytes.size();) {  // nobody makes progress
    step = nodes.to_b->send(std::span(bytes).subspan(sent));
    sent += step;
  }
  EXPECT_GT(sent, 0u);
  EXPECT_LT(sent, bytes.size());
  EXPECT_TRUE(nodes.to_b->broken().empty());
}

TEST(Ucx, MoreThanWasAskedForBreaksTheChannel) {
  Nodes nodes(100'000);
  NODES_OR_SKIP(nodes);
  const Bytes bytes = make_bytes(1 << 20, 1);
  std::size_t sent = 0;
  ASSERT_TRUE(nodes.until([&] {
    sent += nodes.to_b->send(std::span(bytes).subspan(sent, std::min<std::size_t>(60'000, bytes.size() - sent)));
    return !nodes.to_a->broken().empty();
  }));
  EXPECT_NE(nodes.to_a->broken().find("100000"), std::string::npos) << nodes.to_a->broken();
}

TEST(Ucx, AChannelThatIsGoneTakesItsBytesWithIt) {
  Nodes nodes;
  NODES_OR_SKIP(nodes);
  Bytes bytes = make_bytes(1 << 20, 1);
  nodes.to_b->send(bytes);
  nodes.until([&] { return nodes.to_a->arrived() > 0; });
  nodes.to_a.reset();  // with a message that was not read
  for (int i = 0; i < 3; i++) nodes.to_b->send(bytes);
  nodes.to_b.reset();  // with messages under way
  std::fill(bytes.begin(), bytes.end(), std::byte{0});
  EXPECT_TRUE(nodes.until([&] { return nodes.a->slots_busy() == 0; })) << "slots come back";
  nodes.to_b = nodes.a->connect(nodes.b->address(), 33, 44, 1 << 20);  // and the nodes go on
  nodes.to_a = nodes.b->connect(nodes.a->address(), 44, 33, 1 << 20);
  Bytes got(5);
  nodes.to_b->send(make_bytes(5, 5));
  ASSERT_TRUE(nodes.until([&] { return nodes.to_a->arrived() == 5; }));
  nodes.to_a->read(got);
  EXPECT_EQ(got, make_bytes(5, 5));
}

TEST(Ucx, APeerThatWentAwayIsNoticedOrNothingIsTaken) {
  Nodes nodes;
  NODES_OR_SKIP(nodes);
  Bytes got(5);
  nodes.to_b->send(make_bytes(5, 5));
  ASSERT_TRUE(nodes.until([&] { return nodes.to_a->arrived() == 5; }));
  nodes.to_a.reset();
  nodes.b.reset();
  const Bytes bytes = make_bytes(1 << 20, 1);
  bool held = false;
  ASSERT_TRUE(nodes.until([&] {
    held = nodes.to_b->send(bytes) == 0;
    return held;
  }));
}

TEST(Ucx, TheDescriptorWakesWhoeverWaits) {
  Nodes nodes;
  NODES_OR_SKIP(nodes);
  while (!nodes.b->arm()) nodes.b->progress();
  nodes.to_b->send(make_bytes(100, 1));
  const std::uint64_t deadline = deadline_ms(30'000);
  while (nodes.to_a->arrived() == 0 && now_ns() < deadline) {
    nodes.a->progress();
    pollfd poll{nodes.b->fd(), POLLIN, 0};
    if (::poll(&poll, 1, 10) == 1) nodes.b->progress();
    while (!nodes.b->arm()) nodes.b->progress();
  }
  EXPECT_EQ(nodes.to_a->arrived(), 100u);
}

}  // namespace
}  // namespace skv::transport
