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

// Where a thread's warp works in a block's tile of multiplications by tensor cores (16 x 8 numbers of C each), and the
// lane's place in those.
template <typename T>
struct WarpPlace {
  static constexpr int row_count = T::warp_rows / 16;
  static constexpr int column_count = T::warp_columns / 8;

  __device__ explicit WarpPlace(int thread)
      : lane(thread % warp_size),
        group(lane / 4),
        member(lane % 4),
        row(thread / warp_size / warps_across * T::warp_rows),
        column(thread / warp_size % warps_across * T::warp_columns) {}

  int lane, group, member;
  int row, column;

 private:
  static constexpr int warps_across = T::columns / T::warp_columns;
};

}  // namespace convec::cuda
