// SPDX-License-Identifier: Apache-2.0
// Memory for payloads, whether they are encoded, received or unpacked.
#pragma once

#include <cstddef>
#include <memory>

namespace skv {

// Uninitialised, aligned to a cache line: a payload may be gigabytes and every byte is about to be written. From 4 MiB
// on it is asked for in huge pages, from 32 MiB on rounded up to whole ones. Throws SKV_E_NO_MEMORY.
std::shared_ptr<std::byte> payload_memory(size_t bytes);

}  // namespace skv
