// SPDX-License-Identifier: Apache-2.0
// Addresses: inproc://NAME, unix:///PATH, unix://@NAME, tcp://HOST:PORT, tcp://[V6]:PORT.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace skv::transport {

struct Uri {
  enum class Scheme { kInproc, kUnix, kTcp };
  Scheme scheme = Scheme::kInproc;
  std::string name;        // inproc name, socket path ('@' first: abstract), or host
  std::uint16_t port = 0;  // tcp
};

// Throws ADDRESS; NULL when text is null.
Uri parse_uri(const char* text);

}  // namespace skv::transport
