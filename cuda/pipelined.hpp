// Matrix products on tensor cores (matmul.hpp) whose tiles come to shared memory by asynchronous copies, several steps
// ahead: compute capability 8.0 and later, and operands that are loaded in aligned 16 bytes, four floats or eight
// bfloat16 numbers.
//
// Shared memory holds operands as they are in memory. A step takes 64 bytes along k of every number o, 16 terms of
// float32 or 32 of bfloat16, and lies without conflicts of banks for the copies and for the loads:
//
//   float32 along k   lines of the 16 terms of an o, two a 128 bytes, whose halves change places where bit 4 of o is
//   set float32 along o   lines of Edge neighbours of a k, whose fours are numbered XOR bits 2 and 3 of k bfloat16
//   along k  lines of the 32 terms of an o, two a 128 bytes, whose eights are numbered XOR bits 1 and 2 of o bfloat16
//   along o  lines of Edge neighbours of a k, whose eights are numbered XOR bits 0 to 2 of k
//
// Of bfloat16 ldmatrix loads fragments. Of float32, which is rounded after that, a lane loads four words at once, in as
// many wavefronts: the order of the terms of a sum is free, so that it takes, of sixteen neighbours along k, the four
// at 4 * member. Of the numbers o of a warp lane `group` takes o_of(u, group) for u = 0, 1, ... as the layout has it.
//
// An operand has, beside the members in matmul.hpp:
//
//   Element                                         float or BFloat16; a kernel's operands have the same
//   AtK at_k(int k, int end) const;                 what depends on k alone
//   Source source(const Outer&, const AtK&) const;  where 16 bytes are; not `inside`: zeros
#pragma once

#include "async_copy.hpp"
#include "block_tile.hpp"
#include "kernel.hpp"
#include "tensor_core.hpp"

namespace convec::cuda {

template <typename Element>
struct Source {
  const Element* from;
  bool inside;
};

template <int Rows, int Columns, int WarpRows, int WarpColumns, int Stages, int BlocksOfMultiprocessor>
struct PipelinedTile {
  static constexpr int rows = Rows;
  static constexpr int columns = Columns;
  static constexpr int depth = 16;  // words
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

// Where an operand's tile lies in a stage of shared memory, counted in words.
template <typename Element, bool AlongK, int Edge>
struct StageLayout;

template <bool AlongK, int Edge>
struct StageLayout<float, AlongK, Edge> {
  static_assert(Edge % 32 == 0);
  static constexpr int depth = 16;
  // The numbers of four u's are neighbours.
  static constexpr bool in_fours = true;
  __device__ static __forceinline__ int o_of(int u, int group) { return u / 4 * 32 + four_of(group) * 4 + u % 4; }
  // 0 to 3, different for the numbers of groups 0 to 3, and so for 4 to 7; in the lowest bit for neighbouring groups.
  __device__ static __forceinline__ int spread(int o) { return o / 16 % 2 + o / 4 % 2 * 2; }

  // Of the 16 bytes that begin at term k of number o (a multiple of what they hold along the line).
  __device__ static __forceinline__ int at(int o, int k) {
    if (AlongK) return o / 2 * 32 + ((o % 2 * 16 + k) ^ (o / 16 % 2 * 16));
    return k * Edge + (o ^ (k / 4 % 4 * 4));
  }

  // Where a lane's words begin, of the even and of the odd u: at() taken apart, so that the rest is known to the
  // compiler.
  struct Lane {
    int even, odd;
  };
  __device__ static __forceinline__ Lane lane(int first, int lane) {
    const int group = lane / 4;
    const int member = lane % 4;
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

 private:
  __device__ static __forceinline__ int four_of(int group) { return group % 2 * 4 + group / 2; }
};

template <bool AlongK, int Edge>
struct StageLayout<BFloat16, AlongK, Edge> {
  static_assert(Edge % 64 == 0);
  static constexpr int depth = 32;
  static constexpr int panel = depth * 32;
  static constexpr bool in_fours = false;
  __device__ static __forceinline__ int o_of(int u, int group) { return u * 8 + group; }
  __device__ static __forceinline__ int spread(int o) { return o % 4; }

  __device__ static __forceinline__ int at(int o, int k) {
    if (AlongK) return o / 2 * 32 + ((o % 2 * 4 + k / 8) ^ (o / 2 % 4)) * 4;
    return o / 64 * panel + k * 32 + ((o / 8 % 8) ^ (k % 8)) * 4;
  }

  // Where the row of a matrix lies that a lane passes to ldmatrix: at() taken apart. The four matrices are two eights
  // of o by two of k, those of o side by side in the fragments of A, those of k in those of B.
  struct Lane {
    int line, eight;
  };
  template <bool OfA>
  __device__ static __forceinline__ Lane lane(int first, int lane) {
    const int row = lane % 8;
    const int of_o = OfA ? lane / 8 % 2 : lane / 16;
    const int of_k = OfA ? lane / 16 : lane / 8 % 2;
    if (AlongK) return {(first + of_o * 8 + row) / 2 * 32, (row % 2 * 4 + of_k) ^ (row / 2)};
    return {first / 64 * panel + (of_k * 8 + row) * 32, (first / 8 % 8 + of_o) ^ row};
  }
  // Its words of u = 2 * pair and 2 * pair + 1, and of the terms that multiplication number `step` takes: those of A in
  // the order of a fragment, of B one fragment after the other.
  __device__ static __forceinline__ void load_pair(const float* stage, const Lane& lane, int pair, int step,
                                                   Word (&words)[4]) {
    if constexpr (AlongK)
      load_matrices<false>(words, stage + lane.line + pair * 256 + (lane.eight ^ (step * 2)) * 4);
    else
      load_matrices<true>(words, stage + lane.line + step * 16 * 32 + (lane.eight ^ (pair * 2)) * 4);
  }
};

// The part of an operand's tile that a thread copies.
template <typename Operand, typename T, int Edge>
class Copying {
  using Element = typename Operand::Element;
  static constexpr int numbers = 16 / static_cast<int>(sizeof(Element));  // of a copy

 public:
  using Layout = StageLayout<Element, Operand::along_k, Edge>;

  __device__ __forceinline__ Copying(const Operand& operand, int first, int thread)
      : place_(thread % pieces * numbers), line_(thread / pieces) {
    CONVEC_UNROLL
    for (int i = 0; i < outers; ++i) outer_[i] = operand.outer(first + (Operand::along_k ? line_ + i * lines : place_));
    CONVEC_UNROLL
    for (int i = 0; i < places; ++i)
      places_[i] = Operand::along_k ? Layout::at(line_, place_) : Layout::at(place_, line_ + i * lines);
  }

  __device__ __forceinline__ void copy(const Operand& operand, float* stage, int k, int end) const {
    if constexpr (Operand::along_k) {
      const auto at_k = operand.at_k(k + place_, end);
      CONVEC_UNROLL
      for (int i = 0; i < copies; ++i) {
        const auto source = operand.source(outer_[i], at_k);
        copy_async(stage + places_[0] + i * lines * T::depth, source.from, source.inside);
      }
    } else {
      CONVEC_UNROLL
      for (int i = 0; i < copies; ++i) {
        const auto source = operand.source(outer_[0], operand.at_k(k + line_ + i * lines, end));
        copy_async(stage + places_[i], source.from, source.inside);
      }
    }
  }

 private:
  // Copies of a line, lines that the block copies at once, and what is left for a thread.
  static constexpr int pieces = (Operand::along_k ? Layout::depth : Edge) / numbers;
  static constexpr int lines = T::threads / pieces;
  static constexpr int all_lines = Operand::along_k ? Edge : Layout::depth;
  static constexpr int copies = all_lines / lines;
  static constexpr int outers = Operand::along_k ? copies : 1;
  // Along k a thread's lines are 32 apart, or a multiple of it, and lie alike.
  static constexpr int places = Operand::along_k ? 1 : copies;
  static_assert(T::threads % pieces == 0 && copies > 0 && copies * lines == all_lines);
  static_assert(!Operand::along_k || lines % 32 == 0);

  int place_;
  int line_;
  typename Operand::Outer outer_[outers];
  int places_[places];
};

// What a warp adds to its sums from a stage.
template <typename T, typename Math, typename A, typename B>
class StageProduct;

// A lane's words of sixteen terms are for two multiplications, or in pairs for one.
template <typename T, typename Math, bool AlongA, bool AlongB>
class StageProduct<T, Math, StageLayout<float, AlongA, T::rows>, StageLayout<float, AlongB, T::columns>> {
  using A = StageLayout<float, AlongA, T::rows>;
  using B = StageLayout<float, AlongB, T::columns>;
  using Place = WarpPlace<T>;

 public:
  __device__ __forceinline__ explicit StageProduct(const Place& place)
      : a_(A::lane(place.row, place.lane)), b_(B::lane(place.column, place.lane)) {}

  __device__ __forceinline__ void add(const float* a_stage, const float* b_stage,
                                      float (&sums)[Place::row_count][Place::column_count][4]) const {
    Floats<4> b_words[Place::column_count];
    CONVEC_UNROLL
    for (int q = 0; q < Place::column_count / 4; ++q) B::load_four(b_stage, b_, q, b_words + q * 4);
    CONVEC_UNROLL
    for (int step = 0; step < 2 / Math::per_word; ++step) {
      typename Math::template Factor<2> b[Place::column_count];
      CONVEC_UNROLL
      for (int j = 0; j < Place::column_count; ++j)
        b[j] = Math::factor(Words<2>{{word_of(b_words[j], step, 0), word_of(b_words[j], step, 1)}});
      CONVEC_UNROLL
      for (int q = 0; q < Place::row_count / 2; ++q) {
        if constexpr (Math::in_turn) __syncwarp();
        Floats<4> words[4];
        A::load_four(a_stage, a_, q, words);
        CONVEC_UNROLL
        for (int i = 0; i < 2; ++i) {
          const auto a = Math::factor(Words<4>{{word_of(words[2 * i], step, 0), word_of(words[2 * i + 1], step, 0),
                                                word_of(words[2 * i], step, 1), word_of(words[2 * i + 1], step, 1)}});
          CONVEC_UNROLL
          for (int j = 0; j < Place::column_count; ++j) Math::multiply(sums[q * 2 + i][j], a, b[j]);
        }
      }
    }
  }

 private:
  // Of four terms, what a lane passes to multiplication number `step`: half 0 for the first four members' places, 1 for
  // the others.
  __device__ static __forceinline__ Word word_of(const Floats<4>& terms, int step, int half) {
    if constexpr (Math::per_word == 2)
      return Math::keep(terms.at[2 * half], terms.at[2 * half + 1]);
    else
      return Math::keep(terms.at[2 * step + half]);
  }

  typename A::Lane a_;
  typename B::Lane b_;
};

template <typename T, typename Math, bool AlongA, bool AlongB>
class StageProduct<T, Math, StageLayout<BFloat16, AlongA, T::rows>, StageLayout<BFloat16, AlongB, T::columns>> {
  using A = StageLayout<BFloat16, AlongA, T::rows>;
  using B = StageLayout<BFloat16, AlongB, T::columns>;
  using Place = WarpPlace<T>;

 public:
  __device__ __forceinline__ explicit StageProduct(const Place& place)
      : a_(A::template lane<true>(place.row, place.lane)), b_(B::template lane<false>(place.column, place.lane)) {}

  __device__ __forceinline__ void add(const float* a_stage, const float* b_stage,
                                      float (&sums)[Place::row_count][Place::column_count][4]) const {
    CONVEC_UNROLL
    for (int step = 0; step < 2; ++step) {
      Words<4> b[Place::column_count / 2];
      CONVEC_UNROLL
      for (int pair = 0; pair < Place::column_count / 2; ++pair) B::load_pair(b_stage, b_, pair, step, b[pair].at);
      CONVEC_UNROLL
      for (int i = 0; i < Place::row_count; ++i) {
        Words<4> a;
        A::load_pair(a_stage, a_, i, step, a.at);
        CONVEC_UNROLL
        for (int j = 0; j < Place::column_count; ++j)
          Math::multiply(sums[i][j], a, {{b[j / 2].at[j % 2 * 2], b[j / 2].at[j % 2 * 2 + 1]}});
      }
    }
  }

 private:
  typename A::Lane a_;
  typename B::Lane b_;
};

// Stores a block's sums by way of shared memory, which nobody uses any more. Lane `group` and `member` of the warp has
// those of the rows Rows::o_of(u, group) and columns Columns::o_of(j, 2 * member) and the next, for every u and j.
template <typename T, typename Rows, typename Columns, typename Operands, typename Place, typename Sums>
__device__ __forceinline__ void store_tile(float* shared, const Operands& operands, const BlockTile& tile,
                                           const Place& warp, int thread, const Sums& sums) {
  constexpr int row_count = Place::row_count;
  constexpr int column_count = Place::column_count;
  // The tile lies down row by row, whose parts change places from row to row so that lanes do not meet in a bank, and
  // is stored from there: one place in the code for the activations, and whole lines of C.
  const auto place = [&](int r, int c) {
    const int spread = Rows::spread(r);
    return shared + r * T::columns + (c ^ (Columns::in_fours ? spread % 2 * 16 : spread * 8));
  };
  CONVEC_UNROLL
  for (int u = 0; u < row_count * 2; ++u) {
    const int r = warp.row + Rows::o_of(u, warp.group);
    const int number = u % 2 * 2;
    if constexpr (Columns::in_fours) {
      CONVEC_UNROLL
      for (int q = 0; q < column_count / 4; ++q) {
        const auto* const of_four = &sums[u / 2][q * 4];
        CONVEC_UNROLL
        for (int n = number; n < number + 2; ++n)
          store<4>(place(r, warp.column + Columns::o_of(q * 4, 2 * warp.member + n % 2)),
                   {of_four[0][n], of_four[1][n], of_four[2][n], of_four[3][n]});
      }
    } else {
      CONVEC_UNROLL
      for (int j = 0; j < column_count; ++j)
        store<2>(place(r, warp.column + Columns::o_of(j, 2 * warp.member)),
                 {sums[u / 2][j][number], sums[u / 2][j][number + 1]});
    }
  }
  __syncthreads();
  constexpr int fours = T::columns / 4;
  CONVEC_NO_UNROLL
  for (int i = thread; i < T::rows * fours; i += T::threads) {
    const int r = i / fours;
    const int c = i % fours * 4;
    if (tile.first_row + r >= operands.rows || tile.first_column + c >= operands.columns) continue;
    const Floats<4> four = load<4>(place(r, c));
    operands.c.store(tile.first_row + r, tile.first_column + c, four.at, operands.columns - (tile.first_column + c));
  }
}

template <typename T, typename Math, typename Problem>
__global__ void __launch_bounds__(T::threads, T::blocks)
    pipelined_matmul_kernel(Problem problem, DepthSlices slices, Divider by_columns) {
#if CONVEC_TENSOR_CORES
  const auto operands = problem.operands(static_cast<int>(blockIdx.z), static_cast<int>(blockIdx.y));
  using A = std::remove_const_t<decltype(operands.a)>;
  using B = std::remove_const_t<decltype(operands.b)>;
  using Element = typename A::Element;
  static_assert(std::is_same_v<Element, typename B::Element>);
  using CopyA = Copying<A, T, T::rows>;
  using CopyB = Copying<B, T, T::columns>;
  using LayoutA = typename CopyA::Layout;
  using LayoutB = typename CopyB::Layout;
  float* const shared = dynamic_shared<float>();

  const BlockTile tile = tile_of_block<T>(by_columns, slices, operands.depth);
  const int end = tile.end;
  // Products of the same launch may have fewer rows than the largest.
  if (tile.first_row >= operands.rows) return;

  const int thread = static_cast<int>(threadIdx.x);
  const WarpPlace<T> warp(thread);
  constexpr int row_count = WarpPlace<T>::row_count;
  constexpr int column_count = WarpPlace<T>::column_count;
  constexpr int depth = LayoutA::depth;

  const CopyA copy_a(operands.a, tile.first_row, thread);
  const CopyB copy_b(operands.b, tile.first_column, thread);
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
  for (int stage = 0; stage < T::stages - 1; ++stage) fetch(stage, tile.begin + stage * depth);

  const StageProduct<T, Math, LayoutA, LayoutB> product(warp);
  float sums[row_count][column_count][4] = {};
  int stage = 0;
  int next = T::stages - 1;
  for (int k0 = tile.begin; k0 < end; k0 += depth) {
    // All but the latest stages have landed, and everybody is done with the one that is filled next.
    wait_for_copies<T::stages - 2>();
    __syncthreads();
    fetch(next, k0 + (T::stages - 1) * depth);
    next = next + 1 == T::stages ? 0 : next + 1;

    const float* const a_stage = shared + stage * T::stage_floats;
    const float* const b_stage = a_stage + T::rows * T::depth;
    stage = stage + 1 == T::stages ? 0 : stage + 1;
    product.add(a_stage, b_stage, sums);
  }
  // The last groups are empty.
  wait_for_copies<0>();
  __syncthreads();

  store_tile<T, LayoutA, LayoutB>(shared, operands, tile, warp, thread, sums);
#else
  __trap();  // tensor_cores() is asked before
#endif
}

}  // namespace convec::cuda
