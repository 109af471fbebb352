// SPDX-License-Identifier: Apache-2.0
// A session over a connected stream socket, whatever its address family.
#pragma once

#include "transport/asio_setup.h"

#include <asio/generic/stream_protocol.hpp>
#include <vector>

#include "transport/core.h"

namespace skv::transport {

using StreamProtocol = asio::generic::stream_protocol;

// The lock is held. Takes over a socket that a listener accepted; drops it when a cap is reached.
void adopt_stream(Core& core, StreamProtocol::socket socket);
// Tries the addresses in order; the session ends with ADDRESS when none answers.
void connect_stream(Peer& peer, std::vector<StreamProtocol::endpoint> addresses);

}  // namespace skv::transport
