// SPDX-License-Identifier: Apache-2.0
// What a "cudaStream_t" is where tests play a device on the host: a queue that does one thing after the other.
#pragma once

struct HostStream {
  void (*enqueue)(HostStream* stream, void (*run)(void*), void* argument);
};
