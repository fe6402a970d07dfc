// Matrix products of bfloat16 arrays (matmul.hpp) by Hopper's own instructions (compute capability 9.0, code for 9.0a):
// a warpgroup, four warps, multiplies what lies in shared memory while its threads go on. Tiles come and lie there as
// in pipelined.hpp. Included where the kernels are made (conv2d_warpgroup.cu, dense_warpgroup.cu).
#pragma once

#include "matmul.hpp"
#include "wgmma.hpp"

namespace convec::cuda {

// Of 128 threads; the stages are those of which copies are under way, one that is multiplied, and one that may be
// still.
template <int Rows, int Columns, int BlocksOfMultiprocessor>
struct WarpgroupTile {
  static constexpr int rows = Rows;
  static constexpr int columns = Columns;
  static constexpr int depth = 16;  // words
  static constexpr int stages = 6;
  static constexpr int threads = 4 * warp_size;
  static constexpr int blocks = BlocksOfMultiprocessor;
  static constexpr int stage_floats = (Rows + Columns) * depth;
  static constexpr std::size_t shared_bytes = sizeof(float) * stages * stage_floats;
  static_assert(Rows % 64 == 0 && Rows * Columns <= stages * stage_floats);
};

// Shared memory: 96, 72 and 48 KB.
using LargeWarpgroupTile = WarpgroupTile<128, 128, 2>;
using TallWarpgroupTile = WarpgroupTile<128, 64, 3>;
using SmallWarpgroupTile = WarpgroupTile<64, 64, 4>;

// Where a warp's sums are in the tile: sixteen rows of each 64, and all columns.
template <typename T>
struct WarpgroupPlace {
  static constexpr int row_count = T::rows / 64;
  static constexpr int column_count = T::columns / 8;

  __device__ explicit WarpgroupPlace(int thread)
      : group(thread % warp_size / 4), member(thread % 4), row(thread / warp_size * 16) {}

  int group, member, row;
  static constexpr int column = 0;
};
struct WarpgroupRows {
  __device__ static __forceinline__ int o_of(int u, int group) { return u / 2 * 64 + u % 2 * 8 + group; }
  __device__ static __forceinline__ int spread(int o) { return o % 4; }
};

// What an instruction reads of an operand's stage: 64 rows number `m` (or all columns), and 16 terms number `step`.
template <bool AlongK>
__device__ __forceinline__ std::uint64_t part_of(std::uint64_t stage, int m, int step) {
  return stage + (AlongK ? m * 4096 + step * 32 : m * 4096 + step * 2048) / 16;
}

template <typename T, typename Problem>
__global__ void __launch_bounds__(T::threads, T::blocks)
    warpgroup_matmul_kernel(Problem problem, DepthSlices slices, Divider by_columns) {
#if CONVEC_WGMMA
  const auto operands = problem.operands(static_cast<int>(blockIdx.z), static_cast<int>(blockIdx.y));
  using A = std::remove_const_t<decltype(operands.a)>;
  using B = std::remove_const_t<decltype(operands.b)>;
  using CopyA = Copying<A, T, T::rows>;
  using CopyB = Copying<B, T, T::columns>;
  static_assert(std::is_same_v<typename A::Element, BFloat16> && std::is_same_v<typename B::Element, BFloat16>);
  float* const shared = dynamic_shared<float, 1024>();

  const BlockTile tile = tile_of_block<T>(by_columns, slices, operands.depth);
  if (tile.first_row >= operands.rows) return;

  const int thread = static_cast<int>(threadIdx.x);
  const WarpgroupPlace<T> warp(thread);
  constexpr int depth = CopyA::Layout::depth;
  const CopyA copy_a(operands.a, tile.first_row, thread);
  const CopyB copy_b(operands.b, tile.first_column, thread);
  const auto fetch = [&](int stage, int k) {
    if (k < tile.end) {
      float* const to = shared + stage * T::stage_floats;
      copy_a.copy(operands.a, to, k, tile.end);
      copy_b.copy(operands.b, to + T::rows * T::depth, k, tile.end);
    }
    commit_copies();
  };
  CONVEC_UNROLL
  for (int stage = 0; stage < T::stages - 2; ++stage) fetch(stage, tile.begin + stage * depth);

  constexpr int stage_bytes = T::stage_floats * static_cast<int>(sizeof(float));
  const std::uint64_t a_first = wgmma_descriptor<A::along_k>(shared);
  const std::uint64_t b_first = wgmma_descriptor<B::along_k>(shared + T::rows * T::depth);
  float sums[WarpgroupPlace<T>::row_count][WarpgroupPlace<T>::column_count][4] = {};
  WgmmaQueue queue;
  int stage = 0;
  int next = T::stages - 2;
  for (int k0 = tile.begin; k0 < tile.end; k0 += depth) {
    // The stage has landed, for the tensor cores as well; and the one before the last, which is filled next, has been
    // multiplied by all.
    wait_for_copies<T::stages - 3>();
    show_to_wgmma();
    __syncthreads();
    const std::uint64_t a = a_first + static_cast<std::uint64_t>(stage * (stage_bytes / 16));
    const std::uint64_t b = b_first + static_cast<std::uint64_t>(stage * (stage_bytes / 16));
    queue.begin();
    CONVEC_UNROLL
    for (int step = 0; step < 2; ++step) {
      CONVEC_UNROLL
      for (int m = 0; m < WarpgroupPlace<T>::row_count; ++m)
        queue.template add<!A::along_k, !B::along_k>(sums[m], part_of<A::along_k>(a, m, step),
                                                     part_of<B::along_k>(b, 0, step));
    }
    queue.commit();
    fetch(next, k0 + (T::stages - 2) * depth);
    queue.template wait<1>();
    stage = stage + 1 == T::stages ? 0 : stage + 1;
    next = next + 1 == T::stages ? 0 : next + 1;
  }
  queue.template wait<0>();
  CONVEC_UNROLL
  for (auto& of_rows : sums) hold(of_rows);
  wait_for_copies<0>();
  __syncthreads();
  store_tile<T, WarpgroupRows, typename CopyB::Layout>(shared, operands, tile, warp, thread, sums);
#else
  __trap();  // warpgroups_multiply() is asked before
#endif
}

template <typename Problem>
void run_on_warpgroups(const Context& context, const MatmulPlan& plan, const Problem& problem) {
  const auto run = [&](auto tile) {
    using T = decltype(tile);
    launch_tile<T>(context, plan, problem, warpgroup_matmul_kernel<T, Problem>, T::shared_bytes);
  };
  if (plan.tile_rows == 64) return run(SmallWarpgroupTile{});
  if (plan.tile_columns == 64) return run(TallWarpgroupTile{});
  run(LargeWarpgroupTile{});
}

}  // namespace convec::cuda
