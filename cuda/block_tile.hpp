// What a block computes of a matrix product (matmul.hpp).
#pragma once

#include "kernel.hpp"

namespace convec::cuda {

// Slices of the sum over k, each of which is a product of its own whose parts are added up afterwards.
struct DepthSlices {
  int count = 1;
  int size = 0;  // of a slice
};

// A tile of C, and of its sums over k those from `begin` to `end`.
struct BlockTile {
  int first_row, first_column, begin, end;
};
template <typename T>
__device__ __forceinline__ BlockTile tile_of_block(const Divider& by_columns, const DepthSlices& slices, int depth) {
  std::uint32_t column_tile = blockIdx.x;
  const int first_row = static_cast<int>(by_columns.split(column_tile)) * T::rows;
  const int begin = static_cast<int>(blockIdx.y) * slices.size;
  return {first_row, static_cast<int>(column_tile) * T::columns, begin, min(depth, begin + slices.size)};
}

}  // namespace convec::cuda
