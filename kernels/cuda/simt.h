// SPDX-License-Identifier: Apache-2.0
// What the .cu files take from the compiler: nvcc's own words, or those that tests/shim defines before this is read.
#pragma once

#if defined(__CUDACC__)
#include <cuda_runtime.h>
#define SKV_LAUNCH(kernel, grid, block, stream, ...) \
  kernel<<<(grid), (block), 0, static_cast<cudaStream_t>(stream)>>>(__VA_ARGS__)
#elif !defined(SKV_LAUNCH)
#error "a .cu file is for nvcc, or for tests/shim"
#endif

#define SKV_DEVICE __device__ __forceinline__
