// Pieces of the direct convolution that the fused ops share.
#pragma once

#include "op_table.hpp"

namespace convec::cpu {

// to[j] = sum over i of from[i * from_row + j], j < columns, summed in a fixed order. `from` must be readable up to a
// whole vector behind its last row.
void sum_rows(int64_t rows, int64_t columns, const float* from, int64_t from_row, float* to);

}  // namespace convec::cpu
