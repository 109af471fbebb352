// SPDX-License-Identifier: Apache-2.0
// Include before any Asio header. ThreadSanitizer does not model the fences that Asio puts around handlers; without
// them handlers are still ordered by Asio's own mutex, and everything of ours by the core's.
#pragma once

#if defined(__SANITIZE_THREAD__)
#define ASIO_DISABLE_FENCED_BLOCK 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define ASIO_DISABLE_FENCED_BLOCK 1
#endif
#endif
