// SPDX-License-Identifier: Apache-2.0
// A session over a connected stream socket, whatever its address family.
#pragma once

// clang-format off: its settings come before Asio
#include "transport/asio_setup.h"
// clang-format on

#include <asio/generic/stream_protocol.hpp>
#include <string>
#include <vector>

#include "transport/core.h"

namespace skv::transport {

using StreamProtocol = asio::generic::stream_protocol;

// The lock is held. Takes over a socket that a listener accepted; drops it when a cap is reached.
void adopt_stream(Core& core, StreamProtocol::socket socket);
// Tries the addresses in order; the session ends with ADDRESS when none answers.
// host: whom a certificate must be for.
void connect_stream(Peer& peer, std::vector<StreamProtocol::endpoint> addresses, std::string host);
// A Unix peer must run as our user, as root, or as the user that was configured: the kernel vouches for it.
bool is_trusted_user(const Core& core, int socket);

}  // namespace skv::transport
