// SPDX-License-Identifier: Apache-2.0
// The inproc plane: the same sessions, joined by memory. Names live in one process-wide registry.
#pragma once

#include <memory>
#include <string>

#include "transport/core.h"
#include "transport/uri.h"

namespace skv::transport {

// The lock is held in both. Throw ADDRESS: the name is taken, or nobody listens under it.
std::unique_ptr<Listener> listen_inproc(Core& core, const Uri& uri, std::string& bound);
void connect_inproc(Peer& peer, const Uri& uri);

}  // namespace skv::transport
