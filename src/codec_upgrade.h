// SPDX-License-Identifier: Apache-2.0
// Payloads whose precision changes after they were made: upgrades send what more bits need and nothing else, truncation
// leaves low planes out.
#pragma once

#include <memory>

#include "codec.h"

namespace skv {

// Solves `plan` for raising rows of `base`, which must be a payload of this cache (LAYOUT, MODEL, REQUEST). The budget
// is the upgrade's; without one no row is raised. Scores as in solve().
void solve_upgrade(Engine& engine, Plan& plan, Payload& base, const Cache& cache, const Scores* scores);
// What the plan adds to `base`, in host memory; on a CUDA engine from copies of the cache's layers. Rows that are
// raised are compared with the base's on the way (BASE when they differ).
std::unique_ptr<Payload> encode_upgrade(Engine& engine, const Cache& cache, Payload& base, const Plan& plan);
// The base at its new tiers, in host memory. Throws BASE for another base's upgrade.
std::unique_ptr<Payload> apply_upgrade(Payload& base, Payload& upgrade);

// Solves `plan` for cutting rows of `payload`: to the permitted tiers, and to the budget if there is one. scores (null:
// the recency prior) say which rows matter; their errors are told by the payload's own scales.
void solve_truncation(Plan& plan, Payload& payload, const Scores* scores);
// The payload at the plan's tiers, in host memory. Throws BASE when the plan was solved for another payload.
std::unique_ptr<Payload> truncate(Payload& payload, const Plan& plan);

}  // namespace skv
