// SPDX-License-Identifier: Apache-2.0
// cuda.h in a build without CUDA.
#include "kernels/cuda/cuda.h"

namespace skv::cuda {

bool built() { return false; }
const char* error_name(int) { return "cudaErrorNotSupported"; }
const char* error_text(int) { return "this build has no CUDA"; }
int device_count(int32_t*) { return kNoDevice; }
int properties(int32_t, Properties*) { return kNoDevice; }
int loadable() { return kNoDevice; }
int current_device(int32_t*) { return kNoDevice; }
int use_device(int32_t) { return kNoDevice; }
int allocate(void**, size_t) { return kNoDevice; }
int release(void*) { return kNoDevice; }
int allocate_pinned(void**, size_t) { return kNoDevice; }
int release_pinned(void*) { return kNoDevice; }
int place_of(const void*, Place*) { return kNoDevice; }
int copy(void*, const void*, size_t, void*) { return kNoDevice; }
int open_stream(void**) { return kNoDevice; }
int close_stream(void*) { return kNoDevice; }
int clear(void*, size_t, void*) { return kNoDevice; }
int synchronize(void*) { return kNoDevice; }
int open_event(void**) { return kNoDevice; }
int close_event(void*) { return kNoDevice; }
int record(void*, void*) { return kNoDevice; }
int query(void*) { return kNoDevice; }
int wait_event(void*, void*) { return kNoDevice; }
int place(const Patch*, uint32_t, void*) { return kNoDevice; }
int statistics(const Half*, const Unit*, uint32_t, int32_t, Faults*, void*) { return kNoDevice; }
int pack(const Batch&, Faults*, void*) { return kNoDevice; }
int unpack(const Batch&, const Faults*, void*) { return kNoDevice; }
int absmax(const Batch&, Faults*, void*) { return kNoDevice; }
int digest_leaves(const Segment*, uint32_t, uint64_t, uint64_t*, void*) { return kNoDevice; }
int seal(const Segment*, uint32_t, const uint64_t*, void*) { return kNoDevice; }
int verify(const Segment*, uint32_t, const uint64_t*, Faults*, void*) { return kNoDevice; }

}  // namespace skv::cuda
