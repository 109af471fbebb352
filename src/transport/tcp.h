// SPDX-License-Identifier: Apache-2.0
// The inline plane: sessions over TCP and Unix stream sockets, through Asio.
#pragma once

// clang-format off: its settings come before Asio
#include "transport/asio_setup.h"
// clang-format on

#include <asio/ip/tcp.hpp>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "transport/core.h"
#include "transport/uri.h"

namespace skv::transport {

using Addresses = std::vector<asio::ip::tcp::endpoint>;

// Numeric hosts at once, names within the deadline. Throws ADDRESS, TIMED_OUT.
Addresses resolve(const Uri& uri, std::uint64_t deadline);

// Throws PERMITTED for an address that strangers can reach when nothing keeps them out.
void want_permission(const Options& options, const Addresses& addresses);

// The lock is held in all of these. `bound` gets the URI peers can use.
std::unique_ptr<Listener> listen_tcp(Core& core, const Uri& uri, const Addresses& addresses, std::string& bound);
std::unique_ptr<Listener> listen_unix(Core& core, const Uri& uri, std::string& bound);
void connect_tcp(Peer& peer, const Uri& uri, const Addresses& addresses);
void connect_unix(Peer& peer, const Uri& uri);

// The network device that these addresses are of, or (connecting) are reached by; "" when there is no one.
std::string device_of(const Addresses& addresses, bool connecting);

}  // namespace skv::transport
