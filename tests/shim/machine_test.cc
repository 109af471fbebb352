// SPDX-License-Identifier: Apache-2.0
// Machines that are hard to come by: without a driver, out of memory, with a failing device, with two devices.
#include "shim.h"
#include "tests/cuda/on_device.h"

namespace skv::test {
namespace {

class Machines : public OnDevice {
 protected:
  void TearDown() override { shim::machine = before; }
  template <class Call>
  Error error_of(Call&& call) {
    try {
      call();
    } catch (const Error& e) {
      return e;
    }
    return {SKV_OK, "no error"};
  }
  shim::Machine before = shim::machine;
  Geometry g{2, 300, 2, {128, 128}, SKV_F16};
};

TEST_F(Machines, WithoutADriverSayWhatIsMissing) {
  for (const int driver : {cudaErrorInsufficientDriver, cudaErrorNoDevice}) {
    shim::machine.driver = driver;
    const Error error = error_of([] { Engine engine(0); });
    EXPECT_EQ(SKV_E_UNAVAILABLE, error.status());
    EXPECT_EQ(driver, error.native());
    EXPECT_NE(std::string::npos, error.message().find("driver")) << error.message();
  }
}

TEST_F(Machines, OutOfMemoryIsNoMemory) {
  Tensors source(g, Layout::kTokenMajor, true);
  DeviceTensors copy(*gpu->device(), source);
  Plan plan;
  plan.options.unproven = true;
  plan.set_strategy("uniform-4");
  solve(cpu, plan, source.cache(), nullptr);
  shim::machine.memory = 1000;
  const Error at_create = error_of([&] { Payload::create(copy.cache(), plan, {}, gpu->device()); });
  EXPECT_EQ(SKV_E_NO_MEMORY, at_create.status()) << at_create.message();
  EXPECT_EQ(cudaErrorMemoryAllocation, at_create.native());
  shim::machine.memory = static_cast<int64_t>(plan.payload_bytes());
  const Error at_scratch = error_of([&] { encode(*gpu, copy.cache(), plan); });
  EXPECT_EQ(SKV_E_NO_MEMORY, at_scratch.status()) << at_scratch.message();
  shim::machine.memory = -1;
  EXPECT_TRUE(same_bytes(*encode(cpu, source.cache(), plan), *encode(*gpu, copy.cache(), plan)));
}

TEST_F(Machines, AFailingDeviceIsACudaErrorWithItsCode) {
  Tensors source(g, Layout::kTokenMajor, true);
  DeviceTensors copy(*gpu->device(), source);
  Plan plan;
  plan.options.unproven = true;
  plan.set_strategy("uniform-4");
  solve(cpu, plan, source.cache(), nullptr);
  shim::machine.fail_launch = cudaErrorLaunchFailure;
  const Error error = error_of([&] { encode(*gpu, copy.cache(), plan); });
  EXPECT_EQ(SKV_E_CUDA, error.status());
  EXPECT_EQ(cudaErrorLaunchFailure, error.native());
  EXPECT_NE(std::string::npos, error.message().find("cudaErrorLaunchFailure")) << error.message();
}

TEST_F(Machines, AnotherDevicesMemoryIsOutOfRange) {
  Tensors source(g, Layout::kTokenMajor, true);
  Engine second(1);
  EXPECT_EQ(0U, second.describe().find("cuda:1 "));
  DeviceTensors there(*second.device(), source);
  Plan plan;
  plan.options.unproven = true;
  plan.set_strategy("uniform-4");
  solve(cpu, plan, source.cache(), nullptr);
  const Error error = error_of([&] { encode(*gpu, there.cache(), plan); });
  EXPECT_EQ(SKV_E_RANGE, error.status()) << error.message();
  // A payload of one device decodes on another by way of the host, and the current device is as it was.
  const auto made = encode(second, there.cache(), plan);
  int current = -1;
  cudaGetDevice(&current);
  EXPECT_EQ(0, current);
  Tensors host(g, Layout::kPaged16, false);
  DeviceTensors here(*gpu->device(), host);
  decode_layers(*gpu, *made, here.cache(), 0, g.layers);
  decode_layers(cpu, *made, host.cache(), 0, g.layers);
  EXPECT_TRUE(here.equals(host));
}

TEST_F(Machines, ASteadyStateAllocatesNothingOnTheDevice) {
  Tensors source(g, Layout::kPaged16, true);
  DeviceTensors copy(*gpu->device(), source);
  DeviceTensors to(*gpu->device(), source);
  Plan plan;
  plan.options.unproven = true;
  plan.set_fraction(0.3);
  solve(*gpu, plan, copy.cache(), nullptr);
  const auto buffer = gpu->device()->allocate(plan.payload_bytes());
  const auto once = [&] {
    auto payload = Payload::create(copy.cache(), plan, {buffer.get(), plan.payload_bytes()}, gpu->device());
    encode_layers(*gpu, copy.cache(), plan, *payload, 0, g.layers);
    decode_layers(*gpu, *payload, to.cache(), 0, g.layers);
    Plan again = plan;
    solve(*gpu, again, copy.cache(), nullptr);
  };
  once();
  const uint64_t allocations = shim::machine.allocations;
  const uint64_t launches = shim::machine.launches;
  once();
  EXPECT_EQ(allocations, shim::machine.allocations);
  EXPECT_GT(shim::machine.launches, launches);
}

}  // namespace
}  // namespace skv::test
