// SPDX-License-Identifier: Apache-2.0
// The part of UCP's stable C interface that the UCX plane uses, as of 1.13 (ucp/api/ucp.h, BSD-3-Clause; structs are
// extended behind field masks, so later libraries take these). tests/faults/ucx_test.cc compares it with a real header
// where there is one.
#pragma once

#include <sys/socket.h>

#include <cstddef>
#include <cstdint>

namespace skv::transport::ucp {

using Status = std::int8_t;  // ucs_status_t is a packed enum
inline constexpr Status kOk = 0, kInProgress = 1, kBusy = -15, kUnsupported = -22, kLast = -100;

struct Params {
  std::uint64_t field_mask, features;
  std::size_t request_size;
  void *request_init, *request_cleanup;
  std::uint64_t tag_sender_mask;
  int mt_workers_shared;
  std::size_t estimated_num_eps, estimated_num_ppn;
  const char* name;
};
inline constexpr std::uint64_t kParamFeatures = 1;
inline constexpr std::uint64_t kFeatureWakeup = 1 << 4, kFeatureAm = 1 << 6;

struct WorkerParams {
  std::uint64_t field_mask;
  int thread_mode;
  std::uint64_t cpu_mask[16];
  unsigned events;
  void* user_data;
  int event_fd;
  std::uint64_t flags;
  const char* name;
  std::size_t am_alignment;
  std::uint64_t client_id;
};
inline constexpr std::uint64_t kWorkerThreadMode = 1;
inline constexpr int kThreadSerialized = 1;

struct SocketAddress {
  const sockaddr* address;
  socklen_t length;
};
using ErrorCallback = void (*)(void* arg, void* ep, Status status);
struct EpParams {
  std::uint64_t field_mask;
  const void* address;
  int error_mode;
  ErrorCallback on_error;
  void* on_error_arg;
  void* user_data;
  unsigned flags;
  SocketAddress remote;
  void* conn_request;
  const char* name;
  SocketAddress local;
};
inline constexpr std::uint64_t kEpAddress = 1, kEpErrorMode = 1 << 1, kEpErrorHandler = 1 << 2;
inline constexpr int kErrorPeer = 1;

using SendCallback = void (*)(void* request, Status status, void* user_data);
struct RequestParam {
  std::uint32_t mask, flags;
  void* request;
  SendCallback on_sent;
  std::uint64_t datatype;
  void *user_data, *reply_buffer;
  int memory_type;
  void *recv_info, *memh;
};
inline constexpr std::uint32_t kOpCallback = 1 << 1, kOpUserData = 1 << 2, kOpFlags = 1 << 4;
inline constexpr std::uint32_t kSendEager = 1 << 1, kCloseForce = 1;

struct RecvParam {
  std::uint64_t attributes;
  void* reply_ep;
};
inline constexpr std::uint64_t kRecvData = 1 << 16, kRecvRendezvous = 1 << 17;
using RecvCallback = Status (*)(void* arg, const void* header, std::size_t header_length, void* data,
                                std::size_t length, const RecvParam* param);
struct AmHandler {
  std::uint64_t field_mask;
  unsigned id;
  std::uint32_t flags;
  RecvCallback on_message;
  void* arg;
};
inline constexpr std::uint64_t kAmId = 1, kAmFlags = 2, kAmCallback = 4, kAmArg = 8;
inline constexpr std::uint32_t kAmWholeMessage = 1;

}  // namespace skv::transport::ucp
