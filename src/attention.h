// SPDX-License-Identifier: Apache-2.0
// What the last queries of a layer say of its rows: attention, and what an error in each row would do to the outputs.
#pragma once

#include <vector>

#include "kernels/kernels.h"
#include "row_errors.h"
#include "score.h"

namespace skv {

struct HeadCosts {
  std::vector<float> half[2];  // [tokens], errors at 8 bits included
  std::vector<float> mass;     // [tokens]: attention, summed over the queries
  double output = 0;           // sum over queries of |o|^2
};

// Throws GEOMETRY or STRIDE for queries that do not fit the layer.
void check_queries(const QueryView& q, const CacheLayer& view, int32_t layer);

// Costs of one kv-head (arXiv 2606.08635 has none of this; see docs/architecture.md, "Scores"): with A the attention of
// query i on token j and o_i its output, an error e_V adds A^2 |e_V|^2 to |o|^2, an error e_K adds
// A^2 |v_j - o_i|^2 (scale q_i . e_K)^2.
// Throws NON_FINITE.
void attend(Engine& engine, const Cache& cache, int32_t layer, int32_t head, const QueryView& queries,
            const Transforms transforms[2], const HalfErrors errors[2], HeadCosts& costs, Scratch& scratch);

}  // namespace skv
