// Matrix products on tensor cores (matmul.hpp) whose tiles come to shared memory by asynchronous copies, several steps
// ahead: compute capability 8.0 and later, and operands that are loaded in aligned fours.
//
// Shared memory holds float32 as it is in memory; factors are rounded when they are loaded from there. The order of the
// terms of a sum is free, so that a lane takes, of sixteen neighbours along k, the four at 4 * member, and each of its
// loads brings four words: 512 bytes a warp in four wavefronts, as ldmatrix does, from a layout without conflicts.
// Where an operand lies is the same for both ways that it may lie in memory:
//
//   along k    lines of 16 terms of an o, two a 128 bytes, whose halves change places where bit 4 of o is set
//   along o    lines of Edge neighbours of a k, whose fours are numbered XOR bits 2 and 3 of k
//
// and of the numbers o of a warp, lane `group` takes o_of(u, group) for u = 0, 1, ...
//
// An operand has, beside the members in matmul.hpp, for aligned fours:
//
//   AtK at_k(int k, int end) const;                 what depends on k alone
//   Source source(const Outer&, const AtK&) const;  four floats; not `inside`: zeros
#pragma once

#include "async_copy.hpp"
#include "block_tile.hpp"
#include "kernel.hpp"
#include "tensor_core.hpp"

namespace convec::cuda {

struct Source {
  const float* from;
  bool inside;
};

template <int Rows, int Columns, int WarpRows, int WarpColumns, int Stages, int BlocksOfMultiprocessor>
struct PipelinedTile {
  static constexpr int rows = Rows;
  static constexpr int columns = Columns;
  static constexpr int depth = 16;  // floats
  static constexpr int warp_rows = WarpRows;
  static constexpr int warp_columns = WarpColumns;
  static constexpr int stages = Stages;
  static constexpr int threads = (Rows / WarpRows) * (Columns / WarpColumns) * warp_size;
  static constexpr int blocks = BlocksOfMultiprocessor;  // at least, as far as registers go
  static constexpr int stage_floats = (Rows + Columns) * depth;
  static constexpr std::size_t shared_bytes = sizeof(float) * Stages * stage_floats;
  static_assert(WarpRows % 32 == 0 && WarpColumns % 32 == 0);
  static_assert(Rows * Columns <= Stages * stage_floats, "the finished tile takes the stages' place");
};

// Four warps each. Shared memory: 64, 48 and 32 KB.
using LargePipelinedTile = PipelinedTile<128, 128, 64, 64, 4, 2>;
using TallPipelinedTile = PipelinedTile<128, 64, 64, 32, 4, 2>;
using SmallPipelinedTile = PipelinedTile<64, 64, 32, 32, 4, 3>;

// Number u of lane `group`'s within a warp's part of an operand.
__device__ __forceinline__ int four_of(int group) { return group % 2 * 4 + group / 2; }
__device__ __forceinline__ int o_of(int u, int group) { return u / 4 * 32 + four_of(group) * 4 + u % 4; }

// Where an operand's tile lies in a stage of shared memory.
template <bool AlongK, int Edge, int Depth>
struct StageLayout {
  static_assert(Depth == 16 && Edge % 32 == 0);
  // Of the four that begins at term k of number o (a multiple of 4 along its line).
  __device__ static __forceinline__ int at(int o, int k) {
    if (AlongK) return o / 2 * 32 + ((o % 2 * 16 + k) ^ (o / 16 % 2 * 16));
    return k * Edge + (o ^ (k / 4 % 4 * 4));
  }

  // Where a lane's words begin, of the even and of the odd u: at() taken apart, so that the rest is known to the
  // compiler.
  struct Lane {
    int even, odd;
  };
  __device__ static __forceinline__ Lane lane(int first, int group, int member) {
    if constexpr (AlongK) {
      const int line = (first + four_of(group) * 4) / 2 * 32 + member * 4;
      return {line + group % 2 * 16, line + (1 - group % 2) * 16};
    } else {
      const int line = member * 4 * Edge + first + (four_of(group) ^ member) * 4;
      return {line, line};
    }
  }
  // Its words of u = 4 * q to 4 * q + 3: terms 4 * member to 4 * member + 3 of each.
  __device__ static __forceinline__ void load_four(const float* stage, const Lane& lane, int q, Floats<4>* words) {
    if constexpr (AlongK) {
      CONVEC_UNROLL
      for (int e = 0; e < 4; ++e)
        words[e] = load<4>(stage + (e % 2 == 0 ? lane.even : lane.odd) + (q * 32 + e) / 2 * 32);
    } else {
      CONVEC_UNROLL
      for (int i = 0; i < 4; ++i) {
        const Floats<4> line = load<4>(stage + lane.even + i * Edge + q * 32);
        CONVEC_UNROLL
        for (int e = 0; e < 4; ++e) words[e].at[i] = line.at[e];
      }
    }
  }
};

// The part of an operand's tile that a thread copies.
template <typename Operand, typename T, int Edge>
class Copying {
 public:
  using Layout = StageLayout<Operand::along_k, Edge, T::depth>;

  __device__ __forceinline__ Copying(const Operand& operand, int first, int thread)
      : four_(thread % fours * 4), line_(thread / fours) {
    CONVEC_UNROLL
    for (int i = 0; i < outers; ++i) outer_[i] = operand.outer(first + (Operand::along_k ? line_ + i * lines : four_));
    CONVEC_UNROLL
    for (int i = 0; i < places; ++i)
      places_[i] = Operand::along_k ? Layout::at(line_, four_) : Layout::at(four_, line_ + i * lines);
  }

  __device__ __forceinline__ void copy(const Operand& operand, float* stage, int k, int end) const {
    if constexpr (Operand::along_k) {
      const auto at_k = operand.at_k(k + four_, end);
      CONVEC_UNROLL
      for (int i = 0; i < copies; ++i) {
        const Source source = operand.source(outer_[i], at_k);
        copy_async(stage + places_[0] + i * lines * T::depth, source.from, source.inside);
      }
    } else {
      CONVEC_UNROLL
      for (int i = 0; i < copies; ++i) {
        const Source source = operand.source(outer_[0], operand.at_k(k + line_ + i * lines, end));
        copy_async(stage + places_[i], source.from, source.inside);
      }
    }
  }

 private:
  // Fours of a line, lines that the block copies at once, and what is left for a thread.
  static constexpr int fours = (Operand::along_k ? T::depth : Edge) / 4;
  static constexpr int lines = T::threads / fours;
  static constexpr int copies = (Operand::along_k ? Edge : T::depth) / lines;
  static constexpr int outers = Operand::along_k ? copies : 1;
  // Along k a thread's lines are 32 apart, or a multiple of it, and lie alike.
  static constexpr int places = Operand::along_k ? 1 : copies;
  static_assert(T::threads % fours == 0 && copies > 0 && copies * lines == (Operand::along_k ? Edge : T::depth));
  static_assert(!Operand::along_k || lines % 32 == 0);

  int four_;
  int line_;
  typename Operand::Outer outer_[outers];
  int places_[places];
};

// Of sixteen terms, what a lane passes to multiplication number `step`: half 0 for the first four members' places, 1
// for the others.
template <typename Math>
__device__ __forceinline__ Word word_of(const Floats<4>& terms, int step, int half) {
  if constexpr (Math::per_word == 2)
    return Math::keep(terms.at[2 * half], terms.at[2 * half + 1]);
  else
    return Math::keep(terms.at[2 * step + half]);
}

template <typename T, typename Math, typename Problem>
__global__ void __launch_bounds__(T::threads, T::blocks)
    pipelined_matmul_kernel(Problem problem, DepthSlices slices, Divider by_columns) {
#if CONVEC_TENSOR_CORES
  const auto operands = problem.operands(static_cast<int>(blockIdx.z), static_cast<int>(blockIdx.y));
  using A = std::remove_const_t<decltype(operands.a)>;
  using B = std::remove_const_t<decltype(operands.b)>;
  using CopyA = Copying<A, T, T::rows>;
  using CopyB = Copying<B, T, T::columns>;
  float* const shared = dynamic_shared<float>();

  const BlockTile tile = tile_of_block<T>(by_columns, slices, operands.depth);
  const int first_row = tile.first_row;
  const int first_column = tile.first_column;
  const int end = tile.end;
  // Products of the same launch may have fewer rows than the largest.
  if (first_row >= operands.rows) return;

  const int thread = static_cast<int>(threadIdx.x);
  const auto [lane, group, member, row, column] = WarpPlace<T>(thread);
  constexpr int row_count = WarpPlace<T>::row_count;
  constexpr int column_count = WarpPlace<T>::column_count;
  constexpr int steps = 2 / Math::per_word;

  const CopyA copy_a(operands.a, first_row, thread);
  const CopyB copy_b(operands.b, first_column, thread);
  // Stage number `stage` for the terms from k on. Without any left the group is empty, so that groups can be counted.
  const auto fetch = [&](int stage, int k) {
    if (k < end) {
      float* const to = shared + stage * T::stage_floats;
      copy_a.copy(operands.a, to, k, end);
      copy_b.copy(operands.b, to + T::rows * T::depth, k, end);
    }
    commit_copies();
  };
  CONVEC_UNROLL
  for (int stage = 0; stage < T::stages - 1; ++stage) fetch(stage, tile.begin + stage * T::depth);

  const auto lane_a = CopyA::Layout::lane(row, group, member);
  const auto lane_b = CopyB::Layout::lane(column, group, member);
  float sums[row_count][column_count][4] = {};
  int stage = 0;
  int next = T::stages - 1;
  for (int k0 = tile.begin; k0 < end; k0 += T::depth) {
    // All but the latest stages have landed, and everybody is done with the one that is filled next.
    wait_for_copies<T::stages - 2>();
    __syncthreads();
    fetch(next, k0 + (T::stages - 1) * T::depth);
    next = next + 1 == T::stages ? 0 : next + 1;

    const float* const a_stage = shared + stage * T::stage_floats;
    const float* const b_stage = a_stage + T::rows * T::depth;
    stage = stage + 1 == T::stages ? 0 : stage + 1;
    Floats<4> b_words[column_count];
    CONVEC_UNROLL
    for (int q = 0; q < column_count / 4; ++q) CopyB::Layout::load_four(b_stage, lane_b, q, b_words + q * 4);
    CONVEC_UNROLL
    for (int step = 0; step < steps; ++step) {
      typename Math::template Factor<2> b[column_count];
      CONVEC_UNROLL
      for (int j = 0; j < column_count; ++j)
        b[j] = Math::factor(Words<2>{{word_of<Math>(b_words[j], step, 0), word_of<Math>(b_words[j], step, 1)}});
      CONVEC_UNROLL
      for (int q = 0; q < row_count / 2; ++q) {
        if constexpr (Math::in_turn) __syncwarp();
        Floats<4> words[4];
        CopyA::Layout::load_four(a_stage, lane_a, q, words);
        CONVEC_UNROLL
        for (int i = 0; i < 2; ++i) {
          const auto a =
              Math::factor(Words<4>{{word_of<Math>(words[2 * i], step, 0), word_of<Math>(words[2 * i + 1], step, 0),
                                     word_of<Math>(words[2 * i], step, 1), word_of<Math>(words[2 * i + 1], step, 1)}});
          CONVEC_UNROLL
          for (int j = 0; j < column_count; ++j) Math::multiply(sums[q * 2 + i][j], a, b[j]);
        }
      }
    }
  }
  // The last groups are empty.
  wait_for_copies<0>();
  __syncthreads();

  // The tile lies down in shared memory row by row, whose fours change places where bit 4 of the row is set, and is
  // stored from there: one place in the code for the activations, and whole lines of C.
  const auto place = [&](int r, int c) { return shared + r * T::columns + (c ^ (r / 16 % 2 * 16)); };
  CONVEC_UNROLL
  for (int u = 0; u < row_count * 2; ++u) {
    const int r = row + o_of(u, group);
    CONVEC_UNROLL
    for (int q = 0; q < column_count / 4; ++q) {
      CONVEC_UNROLL
      for (int n = 0; n < 2; ++n) {
        const auto* const of_four = &sums[u / 2][q * 4];
        const int number = u % 2 * 2 + n;
        store<4>(place(r, column + o_of(q * 4, 2 * member + n)),
                 {of_four[0][number], of_four[1][number], of_four[2][number], of_four[3][number]});
      }
    }
  }
  __syncthreads();
  constexpr int fours = T::columns / 4;
  CONVEC_NO_UNROLL
  for (int i = thread; i < T::rows * fours; i += T::threads) {
    const int r = i / fours;
    const int c = i % fours * 4;
    if (first_row + r >= operands.rows || first_column + c >= operands.columns) continue;
    const Floats<4> four = load<4>(place(r, c));
    operands.c.store(first_row + r, first_column + c, four.at, operands.columns - (first_column + c));
  }
#else
  __trap();  // tensor_cores() is asked before
#endif
}

}  // namespace convec::cuda
