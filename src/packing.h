// SPDX-License-Identifier: Apache-2.0
// Plans whose budget counts packed bytes: how much may be spent before packing is only known after it.
#pragma once

#include <memory>

#include "codec.h"

namespace skv {

// After the first solution: packs a sample of layers and spends what packing will save.
void spend_packing(Engine& engine, Plan& plan, const Cache& cache);
// Encodes and packs, again with less or more where the whole came out above the budget or well below it. Throws BUDGET.
std::unique_ptr<Payload> encode_packed(Engine& engine, const Cache& cache, const Plan& plan, void* stream);

}  // namespace skv
