// SPDX-License-Identifier: Apache-2.0
// TLS 1.3 over a connected, non-blocking socket: OpenSSL behind two calls that never wait. Both ends prove who they
// are: certificates of one authority, or a pre-shared key (RFC 8446, external PSK with (EC)DHE). Nothing is resumed, no
// early data.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "transport/auth.h"

namespace skv::transport {

class TlsStream {
 public:
  enum class Step { kDone, kWantRead, kWantWrite, kEnd };
  struct Result {
    Step step;
    std::size_t bytes;
  };
  virtual ~TlsStream() = default;
  // Each goes on with the handshake first. Throw AUTH (the peer is not who it must be, or says so of us), VERSION (no
  // TLS 1.3), PROTOCOL (no TLS, or records that were changed), PEER_LOST.
  virtual Result read(std::span<std::byte> target) = 0;
  // What was given must be given again until it is done.
  virtual Result write(std::span<const std::byte> bytes) = 0;
  virtual bool established() const noexcept = 0;
  virtual void say_goodbye() noexcept = 0;
};

// One endpoint's identity and whom it trusts.
class TlsIdentity {
 public:
  virtual ~TlsIdentity() = default;
  // host: whom a connecting end wants to reach (a name or an address).
  virtual std::unique_ptr<TlsStream> start(int socket, bool connecting, const std::string& host) const = 0;
};

// PEM files. peer_name: what the peer's certificate must be for; empty: a connecting end takes the host it connects to,
// an accepting end any certificate of that authority. Throws AUTH naming the file that cannot be used.
std::shared_ptr<const TlsIdentity> tls_certificates(const std::string& certificate, const std::string& key,
                                                    const std::string& authority, const std::string& peer_name);
std::shared_ptr<const TlsIdentity> tls_psk(const SecretKey& key);

}  // namespace skv::transport
