// SPDX-License-Identifier: Apache-2.0
// CUDA graphs and events, for tests and benchmarks that are not compiled by nvcc.
#pragma once

#include <functional>

namespace skv::gpu {

// A graph of what `work` puts on a stream; null when the runtime refused to capture it, with the error in *code.
void* capture(void* stream, const std::function<void()>& work, int* code);
int replay(void* graph, void* stream);
void drop(void* graph);

// Milliseconds the device takes from before to after what `work` puts on the stream.
float milliseconds(void* stream, const std::function<void()>& work);

}  // namespace skv::gpu
