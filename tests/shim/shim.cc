// SPDX-License-Identifier: Apache-2.0
// The scheduler and the runtime of shim.h.
#include "shim.h"

#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

dim3 threadIdx;
dim3 blockIdx;
dim3 blockDim;
dim3 gridDim;

namespace skv::shim {

Machine machine;

namespace {

constexpr uint32_t kWarp = 32;
constexpr size_t kStack = size_t{128} << 10;  // a thread's registers and arrays, with AddressSanitizer's redzones

[[noreturn]] void defect(const char* what) {
  std::fprintf(stderr, "shim: block (%u, %u) thread %u: %s\n", blockIdx.x, blockIdx.y, threadIdx.x, what);
  std::abort();
}

#if defined(__x86_64__)
// Saves what a call must preserve (System V ABI) on the stack left, takes it from the stack entered.
asm(R"(
.pushsection .text
.globl skv_shim_switch
.type skv_shim_switch, @function
skv_shim_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq (%rsi), %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size skv_shim_switch, .-skv_shim_switch
.popsection
)");
extern "C" void skv_shim_switch(void** from, void** to);
using Context = void*;
void enter(Context& from, Context& to) { skv_shim_switch(&from, &to); }
void prepare(Context& context, std::byte* stack, void (*entry)()) {
  auto top = reinterpret_cast<uintptr_t>(stack + kStack) & ~uintptr_t{15};
  auto* words = reinterpret_cast<uintptr_t*>(top) - 8;  // six registers, the entry, and where it would return to
  for (int i = 0; i < 6; ++i) words[i] = 0;
  words[6] = reinterpret_cast<uintptr_t>(entry);
  words[7] = 0;
  context = words;
}
#else
using Context = ucontext_t;
void enter(Context& from, Context& to) { swapcontext(&from, &to); }
void prepare(Context& context, std::byte* stack, void (*entry)()) {
  getcontext(&context);
  context.uc_stack.ss_sp = stack;
  context.uc_stack.ss_size = kStack;
  context.uc_link = nullptr;
  makecontext(&context, entry, 0);
}
#endif

struct Fiber {
  Context context{};
  std::unique_ptr<std::byte[]> stack;
  bool done = false;
  uint64_t block_meetings = 0;  // that this thread has reached
  uint64_t warp_meetings = 0;
};

struct Warp {
  uint32_t arrived = 0;
  uint64_t meetings = 0;  // that all lanes have reached
  uint64_t values[2][kWarp] = {};
};

struct Block {
  std::vector<Fiber> fibers;
  std::vector<Warp> warps;
  const std::function<void()>* kernel = nullptr;
  Context scheduler{};
  uint32_t running = 0;
  uint32_t arrived = 0;
  uint32_t alive = 0;
  uint64_t meetings = 0;
  bool progress = false;  // since all fibers had a turn

  void give_way() { enter(fibers[running].context, scheduler); }
  void release_if_all() {
    if (arrived != 0 && arrived == alive) {  // hardware too waits only for threads that have not left
      arrived = 0;
      ++meetings;
      progress = true;
    }
  }
};
Block block;

void thread_main() {
  for (;;) {  // a fiber serves one block after the other
    (*block.kernel)();
    block.fibers[block.running].done = true;
    --block.alive;
    block.progress = true;
    block.release_if_all();
    block.give_way();
  }
}

}  // namespace

uint32_t lane() { return threadIdx.x % kWarp; }

void meet_block() {
  Fiber& self = block.fibers[block.running];
  const uint64_t mine = ++self.block_meetings;
  ++block.arrived;
  block.release_if_all();
  while (block.meetings < mine) block.give_way();
}

const uint64_t* meet_warp(uint32_t mask, uint64_t value) {
  if (mask != 0xFFFFFFFFU) defect("a warp operation on part of a warp: not used, not simulated");
  Fiber& self = block.fibers[block.running];
  Warp& warp = block.warps[threadIdx.x / kWarp];
  const uint64_t mine = ++self.warp_meetings;
  uint64_t* values = warp.values[mine % 2];  // nobody can be two meetings ahead
  values[lane()] = value;
  if (++warp.arrived == kWarp) {
    warp.arrived = 0;
    ++warp.meetings;
    block.progress = true;
  }
  while (warp.meetings < mine) block.give_way();
  return values;
}

void launch(dim3 grid, dim3 threads, const std::function<void()>& kernel) {
  ++machine.launches;
  if (machine.fail_launch != 0) return;  // cudaGetLastError reports it
  if (threads.x % kWarp != 0 || threads.y != 1 || threads.z != 1 || threads.x > 1024 || grid.x == 0 || grid.y == 0 ||
      grid.y > 65535 || grid.x > 0x7FFFFFFFU) {
    defect("a launch that hardware would refuse");
  }
  gridDim = grid;
  blockDim = threads;
  if (block.fibers.size() < threads.x) {
    const size_t before = block.fibers.size();
    block.fibers.resize(threads.x);
    for (size_t i = before; i < threads.x; ++i) {
      block.fibers[i].stack = std::make_unique<std::byte[]>(kStack);
      prepare(block.fibers[i].context, block.fibers[i].stack.get(), thread_main);
    }
  }
  block.kernel = &kernel;
  for (uint32_t y = 0; y < grid.y; ++y) {
    for (uint32_t x = 0; x < grid.x; ++x) {
      blockIdx = dim3(x, y);
      block.warps.assign(threads.x / kWarp, Warp{});
      block.alive = threads.x;
      block.arrived = 0;
      block.meetings = 0;
      for (Fiber& fiber : block.fibers) {
        fiber.done = false;
        fiber.block_meetings = 0;
        fiber.warp_meetings = 0;
      }
      // Every second block runs its threads last to first, so that a missing barrier shows.
      const bool backwards = (x + y) % 2 == 1;
      while (block.alive != 0) {
        block.progress = false;
        for (uint32_t i = 0; i < threads.x; ++i) {
          block.running = backwards ? threads.x - 1 - i : i;
          if (block.fibers[block.running].done) continue;
          threadIdx = dim3(block.running, 0, 0);
          enter(block.scheduler, block.fibers[block.running].context);
        }
        if (!block.progress) defect("threads wait for each other for ever: a barrier or warp operation in a branch");
      }
    }
  }
}

namespace {

// Ranges that cudaMalloc and cudaMallocHost gave out, by their first byte.
struct Range {
  size_t bytes;
  cudaMemoryType type;
  int device;
};
std::map<uintptr_t, Range>& ranges() {
  static std::map<uintptr_t, Range> all;
  return all;
}
// Of ranges() and what the machine counts: planes of the transport free memory on threads of their own.
std::mutex memory_mutex;
int current = 0;
cudaError_t last = cudaSuccess;

cudaError_t give(void** out, size_t bytes, cudaMemoryType type) {
  std::lock_guard lock(memory_mutex);
  ++machine.allocations;
  if (type == cudaMemoryTypeDevice && machine.memory >= 0) {
    if (static_cast<int64_t>(bytes) > machine.memory) return last = cudaErrorMemoryAllocation;
    machine.memory -= static_cast<int64_t>(bytes);
  }
  *out = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  std::memset(*out, 0xA5, bytes);
  ranges()[reinterpret_cast<uintptr_t>(*out)] = {bytes, type, current};
  return cudaSuccess;
}
cudaError_t take(void* memory) {
  if (memory == nullptr) return cudaSuccess;
  std::lock_guard lock(memory_mutex);
  const auto found = ranges().find(reinterpret_cast<uintptr_t>(memory));
  if (found == ranges().end()) return last = cudaErrorInvalidValue;
  if (found->second.type == cudaMemoryTypeDevice && machine.memory >= 0) {
    machine.memory += static_cast<int64_t>(found->second.bytes);
  }
  ranges().erase(found);
  std::free(memory);
  return cudaSuccess;
}

}  // namespace
}  // namespace skv::shim

using namespace skv::shim;

const char* cudaGetErrorName(cudaError_t code) {
  switch (code) {
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInsufficientDriver:
      return "cudaErrorInsufficientDriver";
    case cudaErrorNoDevice:
      return "cudaErrorNoDevice";
    case cudaErrorLaunchFailure:
      return "cudaErrorLaunchFailure";
    default:
      return "cudaErrorOfTheShim";
  }
}
const char* cudaGetErrorString(cudaError_t) { return "as the test wants it"; }
cudaError_t cudaGetLastError() {
  const cudaError_t code = machine.fail_launch != 0 ? static_cast<cudaError_t>(machine.fail_launch) : last;
  machine.fail_launch = 0;
  last = cudaSuccess;
  return code;
}
cudaError_t cudaGetDeviceCount(int* count) {
  if (machine.driver != cudaSuccess) return static_cast<cudaError_t>(machine.driver);
  *count = machine.devices;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* out, int device) {
  if (device < 0 || device >= machine.devices) return cudaErrorInvalidDevice;
  *out = {"Fibers on a CPU", 9, 0};
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = current;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= machine.devices) return cudaErrorInvalidDevice;
  current = device;
  return cudaSuccess;
}
cudaError_t cudaMalloc(void** out, size_t bytes) { return give(out, bytes, cudaMemoryTypeDevice); }
cudaError_t cudaFree(void* memory) { return take(memory); }
cudaError_t cudaMallocHost(void** out, size_t bytes) { return give(out, bytes, cudaMemoryTypeHost); }
cudaError_t cudaFreeHost(void* memory) { return take(memory); }
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* out, const void* address) {
  *out = {cudaMemoryTypeUnregistered, -1};
  const auto at = reinterpret_cast<uintptr_t>(address);
  std::lock_guard lock(memory_mutex);
  auto found = ranges().upper_bound(at);
  if (found == ranges().begin()) return cudaSuccess;
  --found;
  if (at < found->first + found->second.bytes) *out = {found->second.type, found->second.device};
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t) {
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t) {
  std::memset(memory, value, bytes);
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* out, unsigned) {
  *out = nullptr;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
// Everything has happened by the time it was asked for.
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* out, unsigned) {
  *out = nullptr;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaEventQuery(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
