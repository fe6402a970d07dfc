// Sums of whole arrays in a fixed order.
#pragma once

#include "kernel.hpp"

namespace convec::cuda {

// Blocks that share an array's sum out, each of which leaves one number.
constexpr int square_blocks = 256;

// Launches the sums of squares of an array's slices, in double precision: sums[0] to sums[square_blocks - 1].
void sum_squares(const Context& context, std::int64_t size, const float* array, double* sums);

}  // namespace convec::cuda
