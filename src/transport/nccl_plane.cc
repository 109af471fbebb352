// SPDX-License-Identifier: Apache-2.0
#include "transport/nccl_plane.h"

#include <sys/random.h>

#include <array>
#include <cstdio>
#include <set>
#include <utility>

#include "error.h"
#include "transport/digest.h"
#include "transport/issuing.h"
#include "transport/nccl_lane.h"

namespace skv::transport {
namespace {

constexpr const char* kPoisoned = "an earlier operation of NCCL on device %d could not be ended";

// Of this process and device, and of no other.
std::uint64_t place_of_process(const DeviceCalls& calls, std::int32_t device) {
  struct Words {
    std::array<std::uint64_t, 2> process{};
    const void* calls = nullptr;
    std::uint64_t device = 0;
  };
  static const std::array<std::uint64_t, 2> process = [] {
    std::array<std::uint64_t, 2> random{};
    if (getrandom(random.data(), sizeof random, 0) != sizeof random) fail_errno(SKV_E_NO_RESOURCE, errno, "getrandom");
    return random;
  }();
  const Words words{process, &calls, static_cast<std::uint64_t>(device)};
  const std::uint64_t place = digest64(std::as_bytes(std::span(&words, 1)));
  return place == 0 ? 1 : place;
}

// Hands the core's commands to the issuing thread.
class ConnLane final : public Lane {
 public:
  ConnLane(const NcclContext& context, std::shared_ptr<IssuingThread> thread, std::uint64_t epoch, bool beside,
           std::shared_ptr<LaneOwner> owner)
      : bound_ns_(context.abort_ns),
        device_(context.device),
        thread_(std::move(thread)),
        owner_(owner),
        lane_(std::make_shared<NcclLane>(context, thread_->state(), epoch, beside, std::move(owner))) {
    add(*thread_->state(), lane_);
  }
  ~ConnLane() override {
    post(*thread_->state(), [lane = lane_] { lane->close(); });
  }

  void begin(LaneTransfer transfer) override {
    const std::uint64_t id = transfer.id;
    if (poisoned(*thread_->state())) {
      char message[96];
      std::snprintf(message, sizeof message, kPoisoned, device_);
      return owner_->failed(id, SKV_E_POISONED, message);
    }
    begun_.insert(id);
    auto moved = std::make_shared<LaneTransfer>(std::move(transfer));
    post(*thread_->state(), [lane = lane_, moved] { lane->begin(std::move(*moved)); });
  }
  void extend(std::uint64_t id, std::uint32_t ready) override {
    post(*thread_->state(), [lane = lane_, id, ready] { lane->extend(id, ready); });
  }
  void ready(std::uint64_t id, const Ready& ready) override {
    post(*thread_->state(), [lane = lane_, id, ready] { lane->ready(id, ready); });
  }
  void finished(std::uint64_t id) override {
    begun_.erase(id);
    post(*thread_->state(), [lane = lane_, id] { lane->finished(id); });
  }
  void stop(std::uint64_t id, bool at_once) override {
    if (begun_.erase(id) == 0) return owner_->released(id, false);
    auto expectation = expect(thread_->state(), bound_ns_, [owner = owner_, id] { owner->released(id, true); });
    if (!expectation) return;  // told already
    post(*thread_->state(),
         [lane = lane_, id, at_once, expectation = std::move(expectation)] { lane->stop(id, at_once, expectation); });
  }
  void lend(void* communicator, bool sending) {
    post(*thread_->state(), [lane = lane_, communicator, sending] { lane->lend(communicator, sending); });
  }

 private:
  const std::uint64_t bound_ns_;
  const std::int32_t device_;
  const std::shared_ptr<IssuingThread> thread_;
  const std::shared_ptr<LaneOwner> owner_;
  const std::shared_ptr<NcclLane> lane_;
  std::set<std::uint64_t> begun_;
};

}  // namespace

NcclPlane::NcclPlane(const std::string& library, DeviceCalls& calls, std::int32_t device, std::uint64_t abort_ns)
    : library_(NcclLibrary::load(library)), calls_(calls), device_(device), abort_ns_(abort_ns) {
  std::int32_t count = 0;
  const int counted = calls.count(&count);
  if (counted != 0) {
    char message[248];
    std::snprintf(message, sizeof message,
                  "plane nccl: NCCL %d of %s, but %s (%s); wanted an NVIDIA driver and a GPU, or another plane",
                  library_->version(), library_->where().c_str(), calls.name(counted), calls.text(counted));
    throw Error(SKV_E_UNAVAILABLE, message, counted);
  }
  if (device >= count) {
    fail(SKV_E_UNAVAILABLE, "plane nccl: device %d of SKV_ENDPOINT_DEVICE, this process sees %d", device, count);
  }
  place_ = place_of_process(calls, device);
  thread_ = IssuingThread::of(calls, device);
  need_whole();
}
NcclPlane::~NcclPlane() = default;

std::uint32_t NcclPlane::version() const { return static_cast<std::uint32_t>(library_->version()); }

void NcclPlane::need_whole() const {
  if (poisoned(*thread_->state())) fail(SKV_E_POISONED, kPoisoned, device_);
}

std::shared_ptr<std::byte> NcclPlane::allocate(std::uint64_t bytes) const {
  std::int32_t before = 0;
  check_device(calls_, calls_.current(&before), "asking for the current device");
  check_device(calls_, calls_.use(device_), "making the device current");
  void* memory = nullptr;
  const int code = calls_.allocate(&memory, bytes);
  static_cast<void>(calls_.use(before));
  check_device(calls_, code, "allocating the payload");
  return {static_cast<std::byte*>(memory), [&calls = calls_](std::byte* p) { static_cast<void>(calls.release(p)); }};
}

void NcclPlane::need_reach(const void* base, std::size_t bytes, const char* what) const {
  const auto* first = static_cast<const std::byte*>(base);
  for (const std::byte* at : {first, first + bytes - 1}) {
    DeviceCalls::Place place;
    check_device(calls_, calls_.place_of(at, &place), "asking where memory lies");
    if (!place.reachable) {
      fail(SKV_E_ARGUMENT,
           "%s at %p of %zu bytes is in the host's memory; this conn's plane is nccl, wanted memory of device %d", what,
           base, bytes, device_);
    }
    if (place.device >= 0 && place.device != device_) {
      fail(SKV_E_RANGE, "%s at %p is in device %d; this endpoint's device is %d (SKV_ENDPOINT_DEVICE)", what, base,
           place.device, device_);
    }
  }
}

std::unique_ptr<Lane> NcclPlane::open(std::uint64_t epoch, bool beside, std::shared_ptr<LaneOwner> owner) const {
  const NcclContext context{library_, calls_, device_, abort_ns_};
  return std::make_unique<ConnLane>(context, thread_, epoch, beside, std::move(owner));
}

void NcclPlane::lend(Lane& lane, void* communicator, bool sending) const {
  const nccl::Table& nccl = library_->call();
  int ranks = 0, device = 0;
  for (const nccl::Result result : {nccl.CommCount(communicator, &ranks), nccl.CommCuDevice(communicator, &device)}) {
    if (result != nccl::kSuccess)
      throw Error(SKV_E_NCCL, library_->describe("CommCount", result, communicator), result);
  }
  if (ranks != 2) fail(SKV_E_ARGUMENT, "a communicator of %d ranks, want 2", ranks);
  if (device != device_) {
    fail(SKV_E_RANGE, "a communicator on device %d, this endpoint's is %d (SKV_ENDPOINT_DEVICE)", device, device_);
  }
  static_cast<ConnLane&>(lane).lend(communicator, sending);
}

}  // namespace skv::transport
