// SPDX-License-Identifier: Apache-2.0
// Include before any Asio header. ThreadSanitizer does not model the fences that Asio puts around handlers; without
// them handlers are still ordered by Asio's own mutex, and everything of ours by the core's.
//
// Asio 1.22 asks libstdc++'s own macros whether there is an aligned_alloc, which exist only after a standard header: a
// file that included Asio first would free with delete what another one allocated with aligned_alloc.
#pragma once

#include <cstddef>

#if defined(__SANITIZE_THREAD__)
#define ASIO_DISABLE_FENCED_BLOCK 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define ASIO_DISABLE_FENCED_BLOCK 1
#endif
#endif
