// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime.h>

#include "graph.h"

namespace skv::gpu {

void* capture(void* stream, const std::function<void()>& work, int* code) {
  auto on = static_cast<cudaStream_t>(stream);
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t ready = nullptr;
  // Thread-local: anything that may not be captured, an allocation or a wait, is an error at once.
  cudaError_t status = cudaStreamBeginCapture(on, cudaStreamCaptureModeThreadLocal);
  if (status == cudaSuccess) {
    work();
    status = cudaStreamEndCapture(on, &graph);
  }
  if (status == cudaSuccess) status = cudaGraphInstantiate(&ready, graph, 0);
  if (graph != nullptr) static_cast<void>(cudaGraphDestroy(graph));
  *code = static_cast<int>(status);
  return ready;
}

int replay(void* graph, void* stream) {
  return static_cast<int>(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph), static_cast<cudaStream_t>(stream)));
}

void drop(void* graph) { static_cast<void>(cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph))); }

float milliseconds(void* stream, const std::function<void()>& work) {
  auto on = static_cast<cudaStream_t>(stream);
  cudaEvent_t before = nullptr;
  cudaEvent_t after = nullptr;
  float took = -1.0F;
  if (cudaEventCreate(&before) == cudaSuccess && cudaEventCreate(&after) == cudaSuccess &&
      cudaEventRecord(before, on) == cudaSuccess) {
    work();
    if (cudaEventRecord(after, on) == cudaSuccess && cudaEventSynchronize(after) == cudaSuccess) {
      if (cudaEventElapsedTime(&took, before, after) != cudaSuccess) took = -1.0F;
    }
  }
  static_cast<void>(cudaEventDestroy(before));
  static_cast<void>(cudaEventDestroy(after));
  return took;
}

}  // namespace skv::gpu
