// SPDX-License-Identifier: Apache-2.0
// A payload as the source of another one: read whole, bound by its digests, written segment by segment.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "codec.h"

namespace skv {

// A segment's digest as it stands in the bytes: a payload encoded here keeps it nowhere else.
uint64_t digest_of(const Payload& payload, size_t layer);
std::vector<uint8_t> tiers_of(Payload& payload, size_t layer, int half);

// Throws unless the payload can be read row by row: whole, of rows (STATE), verified (CHECKSUM).
void need_payload(Payload& payload, const char* what);

// The plan takes the payload's shapes, tiers, digests and identity.
void adopt_payload(Plan& plan, Solves what, Payload& payload);
// Throws STATE for a plan that was not solved so, BASE for one of another payload.
void match_base(Payload& payload, const Plan& plan, Solves wanted, const char* solver);

// One new payload of segments of these sizes. write(layer, segment) fills everything but the digest.
std::shared_ptr<std::byte> compose(Header header, std::span<const uint64_t> sizes,
                                   const std::function<void(size_t layer, std::span<std::byte> segment)>& write);

}  // namespace skv
