// SPDX-License-Identifier: Apache-2.0
#include "transport/uri.h"

#include <charconv>

#include "error.h"

namespace skv::transport {
namespace {

constexpr std::size_t kMaxUri = 1024;
constexpr std::size_t kMaxPath = 107;  // sockaddr_un.sun_path less its NUL

bool take_prefix(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

}  // namespace

Uri parse_uri(const char* text) {
  if (text == nullptr) fail(SKV_E_NULL, "uri is NULL");
  std::string_view rest(text);
  if (rest.size() > kMaxUri) fail(SKV_E_ADDRESS, "uri of %zu characters, want at most %zu", rest.size(), kMaxUri);
  Uri uri;
  if (take_prefix(rest, "inproc://")) {
    if (rest.empty()) fail(SKV_E_ADDRESS, "\"%s\" has no name, want inproc://NAME", text);
    uri.name = rest;
    return uri;
  }
  if (take_prefix(rest, "unix://")) {
    uri.scheme = Uri::Scheme::kUnix;
    if (rest.size() < 2 || (rest[0] != '/' && rest[0] != '@')) {
      fail(SKV_E_ADDRESS, "\"%s\" is no socket address, want unix:///PATH or unix://@NAME", text);
    }
    if (rest.size() > kMaxPath)
      fail(SKV_E_ADDRESS, "socket path of %zu characters, want at most %zu", rest.size(), kMaxPath);
    uri.name = rest;
    return uri;
  }
  if (take_prefix(rest, "tcp://")) {
    uri.scheme = Uri::Scheme::kTcp;
    std::string_view host, port;
    if (rest.starts_with('[')) {
      const auto end = rest.find("]:");
      if (end != rest.npos) {
        host = rest.substr(1, end - 1);
        port = rest.substr(end + 2);
      }
    } else if (const auto colon = rest.find(':'); colon != rest.npos) {
      host = rest.substr(0, colon);
      port = rest.substr(colon + 1);
    }
    unsigned value = 0;
    const auto [end, ec] = std::from_chars(port.data(), port.data() + port.size(), value);
    if (host.empty() || port.empty() || ec != std::errc() || end != port.data() + port.size() || value > 65535) {
      fail(SKV_E_ADDRESS, "\"%s\" is no TCP address, want tcp://HOST:PORT or tcp://[V6]:PORT", text);
    }
    uri.name = host;
    uri.port = static_cast<std::uint16_t>(value);
    return uri;
  }
  fail(SKV_E_ADDRESS, "\"%s\": want inproc://, unix:// or tcp://", text);
}

}  // namespace skv::transport
