// SPDX-License-Identifier: Apache-2.0
// The nccl plane of an endpoint: payloads move between devices as groups of ncclSend and ncclRecv on a communicator of
// two ranks, one for each direction of a conn that is used. Ends on one device of one process copy on the device
// instead. One thread a device and process issues everything (issuing.h). docs/transport.md, "The nccl plane".
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "transport/device_calls.h"
#include "transport/lane.h"
#include "transport/nccl_library.h"

namespace skv::transport {

class IssuingThread;

class NcclPlane {
 public:
  // UNAVAILABLE (library, driver, device), NCCL_VERSION, POISONED (of an earlier endpoint's work on the device).
  NcclPlane(const std::string& library, DeviceCalls& calls, std::int32_t device, std::uint64_t abort_ns);
  ~NcclPlane();

  std::uint32_t version() const;
  // A number that two ends share if they use one device in one process.
  std::uint64_t place() const { return place_; }
  std::int32_t device() const { return device_; }
  DeviceCalls& calls() const { return calls_; }
  // Throws POISONED once an operation on the device could not be ended.
  void need_whole() const;
  std::shared_ptr<std::byte> allocate(std::uint64_t bytes) const;                // NO_MEMORY, CUDA
  void need_reach(const void* base, std::size_t bytes, const char* what) const;  // ARGUMENT, RANGE
  // epoch: of the session. beside: the peer has the same place.
  std::unique_ptr<Lane> open(std::uint64_t epoch, bool beside, std::shared_ptr<LaneOwner> owner) const;
  // A communicator of the caller's for one direction of a lane. Throws ARGUMENT, NCCL, STATE (the direction has one).
  void lend(Lane& lane, void* communicator, bool sending) const;

 private:
  std::shared_ptr<const NcclLibrary> library_;
  DeviceCalls& calls_;
  std::int32_t device_;
  std::uint64_t abort_ns_;
  std::uint64_t place_ = 0;
  std::shared_ptr<IssuingThread> thread_;
};

}  // namespace skv::transport
