// Matrix products C = A B, for dense layers and for convolutions as implicit products: a block computes a tile of C
// from tiles of A and B in shared memory, the next of which are loaded while the present are used. In float32 a thread
// keeps a few rows and columns of C in registers; in the other precisions a warp does, and multiplies on tensor cores.
// Sums run in the order of k, so that results repeat bit by bit.
//
// A Problem describes one product (or several, one a value of blockIdx.z) by three parts, each of which finds its
// elements in memory as it likes:
//
//   struct Operands { A a; B b; C c; int rows, columns, depth; };   A and B of float32, or both of bfloat16 (pipelined)
//   __device__ Operands operands(int z) const;
//
//   A, B: static constexpr bool along_k;                   the four neighbours that are loaded at once lie along k, or
//                                                          along the rows of A (the columns of B)
//         Outer outer(int o) const;                        what depends on the row of A (the column of B) alone
//         Floats<4> load(const Outer&, int k, int end);    zero at k >= end and where o lies outside
//         and what pipelined.hpp asks for
//   C:    void store(int row, int column, const float* four, int left);   `left` columns of them are within C
//         or, where windows of four rows become one each, with a member type TakesWindows
//         void store_rows<Rows, Lanes>(int row, int column, const float* sums, int step, bool within, int left);
//         `Rows` of 4 or 2 neighbouring rows, `step` floats apart; 2 are half a window, whose other half the lane has
//         whose number differs in the bit `Lanes`. All lanes of a warp call it together.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <type_traits>

#include "activation.hpp"
#include "block_tile.hpp"
#include "kernel.hpp"
#include "pipelined.hpp"
#include "tensor_core.hpp"

namespace convec::cuda {

template <int Rows, int Columns, int Depth, int ThreadRows, int ThreadColumns>
struct Tile {
  static constexpr int rows = Rows;
  static constexpr int columns = Columns;
  static constexpr int depth = Depth;
  static constexpr int thread_rows = ThreadRows;
  static constexpr int thread_columns = ThreadColumns;
  static constexpr int threads = (Rows / ThreadRows) * (Columns / ThreadColumns);
  // Rows of a thread that lie together, and columns.
  static constexpr int row_group = ThreadRows < 4 ? ThreadRows : 4;
  static constexpr int column_group = 4;
  static_assert(ThreadColumns % column_group == 0 && ThreadRows % row_group == 0);
  static_assert(Rows * Depth == 4 * threads && Columns * Depth == 4 * threads, "a thread loads four of each operand");
};

using LargeTile = Tile<128, 128, 8, 8, 8>;
using MediumTile = Tile<64, 64, 16, 4, 4>;
using SmallTile = Tile<32, 32, 16, 2, 4>;

// Shared memory of one operand: its tile with k outermost, twice. The padding keeps the columns that a warp writes at
// once in different banks.
template <int Outer, int Depth>
struct alignas(4 * sizeof(float)) SharedTile {
  static constexpr int padding = 4;
  float at[2][Depth][Outer + padding];
};

// The part of an operand's tile that a thread loads.
template <typename Operand, int Outer, int Depth>
struct Loading {
  __device__ static int outer_of(int thread) {
    return Operand::along_k ? thread / (Depth / 4) : thread % (Outer / 4) * 4;
  }
  __device__ static int k_of(int thread) { return Operand::along_k ? thread % (Depth / 4) * 4 : thread / (Outer / 4); }

  __device__ static void keep(SharedTile<Outer, Depth>& shared, int buffer, int thread, const Floats<4>& values) {
    const int o = outer_of(thread);
    const int k = k_of(thread);
    if constexpr (Operand::along_k) {
      for (int i = 0; i < 4; ++i) shared.at[buffer][k + i][o] = values.at[i];
    } else {
      store<4>(&shared.at[buffer][k][o], values);
    }
  }
};

template <typename C, typename = void>
struct TakesWindows : std::false_type {};
template <typename C>
struct TakesWindows<C, std::void_t<typename C::TakesWindows>> : std::true_type {};

template <typename T, typename Problem>
__global__ void __launch_bounds__(T::threads) matmul_kernel(Problem problem, DepthSlices slices, Divider by_columns) {
  const auto operands = problem.operands(static_cast<int>(blockIdx.z), static_cast<int>(blockIdx.y));
  using A = std::remove_const_t<decltype(operands.a)>;
  using B = std::remove_const_t<decltype(operands.b)>;
  using LoadA = Loading<A, T::rows, T::depth>;
  using LoadB = Loading<B, T::columns, T::depth>;
  __shared__ SharedTile<T::rows, T::depth> shared_a;
  __shared__ SharedTile<T::columns, T::depth> shared_b;

  const auto [first_row, first_column, begin, end] = tile_of_block<T>(by_columns, slices, operands.depth);
  // Products of the same launch may have fewer rows than the largest.
  if (first_row >= operands.rows) return;

  const int thread = static_cast<int>(threadIdx.x);
  const auto outer_a = operands.a.outer(first_row + LoadA::outer_of(thread));
  const auto outer_b = operands.b.outer(first_column + LoadB::outer_of(thread));
  const int k_a = LoadA::k_of(thread);
  const int k_b = LoadB::k_of(thread);
  constexpr int threads_across = T::columns / T::thread_columns;
  const int row = thread / threads_across * T::row_group;
  const int column = thread % threads_across * T::column_group;
  constexpr int row_step = T::rows / (T::thread_rows / T::row_group);
  constexpr int column_step = T::columns / (T::thread_columns / T::column_group);

  float sums[T::thread_rows][T::thread_columns] = {};
  LoadA::keep(shared_a, 0, thread, operands.a.load(outer_a, begin + k_a, end));
  LoadB::keep(shared_b, 0, thread, operands.b.load(outer_b, begin + k_b, end));
  __syncthreads();
  int buffer = 0;
  for (int k0 = begin; k0 < end; k0 += T::depth) {
    const bool more = k0 + T::depth < end;
    Floats<4> next_a{};
    Floats<4> next_b{};
    if (more) {
      next_a = operands.a.load(outer_a, k0 + T::depth + k_a, end);
      next_b = operands.b.load(outer_b, k0 + T::depth + k_b, end);
    }
    CONVEC_UNROLL
    for (int k = 0; k < T::depth; ++k) {
      float a[T::thread_rows];
      float b[T::thread_columns];
      CONVEC_UNROLL
      for (int i = 0; i < T::thread_rows; i += T::row_group) {
        const auto values = load<T::row_group>(&shared_a.at[buffer][k][row + i / T::row_group * row_step]);
        for (int n = 0; n < T::row_group; ++n) a[i + n] = values.at[n];
      }
      CONVEC_UNROLL
      for (int i = 0; i < T::thread_columns; i += T::column_group) {
        const auto values = load<T::column_group>(&shared_b.at[buffer][k][column + i / T::column_group * column_step]);
        for (int n = 0; n < T::column_group; ++n) b[i + n] = values.at[n];
      }
      CONVEC_UNROLL
      for (int i = 0; i < T::thread_rows; ++i)
        for (int j = 0; j < T::thread_columns; ++j) sums[i][j] += a[i] * b[j];
    }
    if (more) {
      buffer ^= 1;
      LoadA::keep(shared_a, buffer, thread, next_a);
      LoadB::keep(shared_b, buffer, thread, next_b);
      __syncthreads();
    }
  }

  if constexpr (TakesWindows<std::remove_const_t<decltype(operands.c)>>::value) {
    CONVEC_UNROLL
    for (int i = 0; i < T::thread_rows; i += T::row_group) {
      const int m = first_row + row + i / T::row_group * row_step;
      CONVEC_UNROLL
      for (int j = 0; j < T::thread_columns; j += T::column_group) {
        const int n = first_column + column + j / T::column_group * column_step;
        operands.c.template store_rows<T::row_group, threads_across>(m, n, &sums[i][j], T::thread_columns,
                                                                     m < operands.rows, operands.columns - n);
      }
    }
  } else {
    CONVEC_UNROLL
    for (int i = 0; i < T::thread_rows; ++i) {
      const int m = first_row + row + i / T::row_group * row_step + i % T::row_group;
      if (m >= operands.rows) continue;
      CONVEC_UNROLL
      for (int j = 0; j < T::thread_columns; j += T::column_group) {
        const int n = first_column + column + j / T::column_group * column_step;
        if (n < operands.columns) operands.c.store(m, n, &sums[i][j], operands.columns - n);
      }
    }
  }
}

// ---- On tensor cores ------------------------------------------------------------------------------------------------

template <int Rows, int Columns, int WarpRows, int WarpColumns>
struct TensorTile {
  static constexpr int rows = Rows;
  static constexpr int columns = Columns;
  static constexpr int depth = 16;  // words
  static constexpr int warp_rows = WarpRows;
  static constexpr int warp_columns = WarpColumns;
  static constexpr int threads = (Rows / WarpRows) * (Columns / WarpColumns) * warp_size;
  static_assert(WarpRows % 16 == 0 && WarpColumns % 8 == 0);
};

using LargeTensorTile = TensorTile<128, 128, 64, 32>;
using MediumTensorTile = TensorTile<64, 64, 32, 32>;

// Shared memory of one operand: its tile, twice, with k innermost where it is loaded along k, else outermost. Either
// padding puts the words that a warp reads at once, eight neighbours of o by four of k, in different banks.
template <bool AlongK, int Edge, int Depth>
struct alignas(4 * sizeof(Word)) SharedWords {
  Word at[2][AlongK ? Edge : Depth][AlongK ? Depth + 4 : Edge + 8];

  __device__ __forceinline__ Word word(int buffer, int o, int k) const {
    return AlongK ? at[buffer][o][k] : at[buffer][k][o];
  }
};

// The part of an operand's tile that a thread loads: four numbers here and there, kept in registers until they are
// stored.
template <typename Math, typename Operand, typename T, int Edge>
class TensorLoading {
 public:
  using Shared = SharedWords<Operand::along_k, Edge, T::depth>;

  __device__ __forceinline__ TensorLoading(const Operand& operand, int first, int thread)
      : four_(thread % fours * 4), line_(thread / fours) {
    CONVEC_UNROLL
    for (int i = 0; i < outers; ++i) outer_[i] = operand.outer(first + (Operand::along_k ? line_ + i * lines : four_));
  }

  __device__ __forceinline__ void load(const Operand& operand, int k, int end) {
    CONVEC_UNROLL
    for (int i = 0; i < loads; ++i)
      if constexpr (Operand::along_k) {
        values_[i][0] = operand.load(outer_[i], k + four_, end);
      } else {
        CONVEC_UNROLL
        for (int n = 0; n < neighbours; ++n)
          values_[i][n] = operand.load(outer_[0], k + (line_ + i * lines) * neighbours + n, end);
      }
  }

#if CONVEC_TENSOR_CORES
  __device__ __forceinline__ void keep(Shared& shared, int buffer) const {
    CONVEC_UNROLL
    for (int i = 0; i < loads; ++i) {
      Word* const to = &shared.at[buffer][line_ + i * lines][Operand::along_k ? four_ / Math::per_word : four_];
      if constexpr (Operand::along_k && Math::per_word == 2) {
        const Floats<4>& v = values_[i][0];
        store_words<2>(to, {{Math::keep(v.at[0], v.at[1]), Math::keep(v.at[2], v.at[3])}});
      } else {
        Words<4> words;
        CONVEC_UNROLL
        for (int j = 0; j < 4; ++j)
          if constexpr (Math::per_word == 2) {
            words.at[j] = Math::keep(values_[i][0].at[j], values_[i][1].at[j]);
          } else {
            words.at[j] = Math::keep(values_[i][0].at[j]);
          }
        store_words<4>(to, words);
      }
    }
  }
#endif

 private:
  // Fours of a line of shared memory, lines that the block stores at once, and what is left for a thread.
  static constexpr int fours = Operand::along_k ? T::depth * Math::per_word / 4 : Edge / 4;
  static constexpr int lines = T::threads / fours;
  static constexpr int loads = (Operand::along_k ? Edge : T::depth) / lines;
  static constexpr int outers = Operand::along_k ? loads : 1;
  // Lines of numbers that become one of words.
  static constexpr int neighbours = Operand::along_k ? 1 : Math::per_word;
  static_assert(T::threads % fours == 0 && (Operand::along_k ? Edge : T::depth) % lines == 0);

  template <int Count>
  __device__ static __forceinline__ void store_words(Word* to, const Words<Count>& words) {
    struct alignas(Count * sizeof(Word)) Vector {
      Words<Count> words;
    };
    *reinterpret_cast<Vector*>(to) = {words};
  }

  int four_;
  int line_;
  typename Operand::Outer outer_[outers];
  Floats<4> values_[loads][neighbours];
};

template <typename T, typename Math, typename Problem>
__global__ void __launch_bounds__(T::threads)
    tensor_matmul_kernel(Problem problem, DepthSlices slices, Divider by_columns) {
#if CONVEC_TENSOR_CORES
  const auto operands = problem.operands(static_cast<int>(blockIdx.z), static_cast<int>(blockIdx.y));
  using A = std::remove_const_t<decltype(operands.a)>;
  using B = std::remove_const_t<decltype(operands.b)>;
  using LoadA = TensorLoading<Math, A, T, T::rows>;
  using LoadB = TensorLoading<Math, B, T, T::columns>;
  __shared__ typename LoadA::Shared shared_a;
  __shared__ typename LoadB::Shared shared_b;

  const auto [first_row, first_column, begin, end] = tile_of_block<T>(by_columns, slices, operands.depth);
  // Products of the same launch may have fewer rows than the largest.
  if (first_row >= operands.rows) return;

  const int thread = static_cast<int>(threadIdx.x);
  const auto [lane, group, member, row, column] = WarpPlace<T>(thread);
  constexpr int row_count = WarpPlace<T>::row_count;
  constexpr int column_count = WarpPlace<T>::column_count;

  float sums[row_count][column_count][4] = {};
  LoadA load_a(operands.a, first_row, thread);
  LoadB load_b(operands.b, first_column, thread);
  load_a.load(operands.a, begin, end);
  load_b.load(operands.b, begin, end);
  load_a.keep(shared_a, 0);
  load_b.keep(shared_b, 0);
  __syncthreads();
  int buffer = 0;
  constexpr int step = T::depth * Math::per_word;
  for (int k0 = begin; k0 < end; k0 += step) {
    const bool more = k0 + step < end;
    if (more) {
      load_a.load(operands.a, k0 + step, end);
      load_b.load(operands.b, k0 + step, end);
    }
    CONVEC_UNROLL
    for (int k = 0; k < T::depth; k += 8) {
      typename Math::template Factor<2> b[column_count];
      CONVEC_UNROLL
      for (int j = 0; j < column_count; ++j) {
        const int o = column + j * 8 + group;
        b[j] = Math::factor(Words<2>{{shared_b.word(buffer, o, k + member), shared_b.word(buffer, o, k + member + 4)}});
      }
      CONVEC_UNROLL
      for (int i = 0; i < row_count; ++i) {
        const int o = row + i * 16 + group;
        const auto a = Math::factor(
            Words<4>{{shared_a.word(buffer, o, k + member), shared_a.word(buffer, o + 8, k + member),
                      shared_a.word(buffer, o, k + member + 4), shared_a.word(buffer, o + 8, k + member + 4)}});
        CONVEC_UNROLL
        for (int j = 0; j < column_count; ++j) Math::multiply(sums[i][j], a, b[j]);
      }
    }
    if (more) {
      buffer ^= 1;
      load_a.keep(shared_a, buffer);
      load_b.keep(shared_b, buffer);
      __syncthreads();
    }
  }

  // Sixteen rows of each warp at a time lie down in shared memory, fours in places that depend on the row, and are
  // stored from there: one place in the code for the activations.
  static_assert(sizeof(shared_a) >= sizeof(Word) * T::threads / warp_size * 16 * T::warp_columns);
  Word* const own = &shared_a.at[0][0][0] + thread / warp_size * 16 * T::warp_columns;
  const auto place = [&](int r, int c) { return own + r * T::warp_columns + (c ^ (r % 8 * 4)); };
  __syncthreads();
  CONVEC_NO_UNROLL
  for (int pass = 0; pass < row_count; ++pass) {
    CONVEC_UNROLL
    for (int i = 0; i < row_count; ++i) {
      if (i != pass) continue;
      CONVEC_UNROLL
      for (int j = 0; j < column_count; ++j) {
        CONVEC_UNROLL
        for (int n = 0; n < 4; ++n)
          *place(group + n / 2 * 8, j * 8 + member * 2 + n % 2) = __float_as_uint(sums[i][j][n]);
      }
    }
    __syncwarp();
    constexpr int fours = T::warp_columns / 4;
    CONVEC_NO_UNROLL
    for (int i = lane; i < 16 * fours; i += warp_size) {
      const int m = first_row + row + pass * 16 + i / fours;
      const int n = first_column + column + i % fours * 4;
      const Word* const from = place(i / fours, i % fours * 4);
      const float four[4] = {__uint_as_float(from[0]), __uint_as_float(from[1]), __uint_as_float(from[2]),
                             __uint_as_float(from[3])};
      if (m < operands.rows && n < operands.columns) operands.c.store(m, n, four, operands.columns - n);
    }
    __syncwarp();
  }
#else
  __trap();  // tensor_cores() is asked before
#endif
}

// ---- Parts that several problems share ------------------------------------------------------------------------------

// Numbers that are read and stored at once: four floats, or eight bfloat16 numbers.
template <typename Element>
constexpr int vector_numbers = 16 / static_cast<int>(sizeof(Element));

// An operand that is a matrix in memory: element (o, k) at o * stride + k (along k) or k * stride + o.
template <bool AlongK, typename Number = float>
struct Matrix {
  using Element = Number;
  static constexpr bool along_k = AlongK;
  const Element* data;
  int64_t stride;
  int count;     // of o
  bool vectors;  // neighbours lie in one aligned vector, and within the matrix together

  struct Outer {
    const Element* data;
    int left;  // of o
  };
  __device__ __forceinline__ Outer outer(int o) const { return {data + o * (AlongK ? stride : 1), count - o}; }
  struct AtK {
    int64_t offset;
    bool inside;
  };
  __device__ __forceinline__ AtK at_k(int k, int end) const { return {k * (AlongK ? 1 : stride), k < end}; }
  __device__ __forceinline__ Source<Element> source(const Outer& outer, const AtK& at) const {
    return {outer.data + at.offset, at.inside && outer.left > 0};
  }
  __device__ __forceinline__ Floats<4> load(const Outer& outer, int k, int end) const {
    Floats<4> values{};
    if (k >= end || outer.left <= 0) return values;
    const float* from = outer.data + k * (AlongK ? 1 : stride);
    const int left = AlongK ? end - k : outer.left;
    if (vectors && left >= 4) return cuda::load<4>(from);
    for (int i = 0; i < 4; ++i)
      if (i < left) values.at[i] = from[i];
    return values;
  }
};

// Four neighbours of which `left` are within an array, all at once where it may be written in vectors.
__device__ __forceinline__ void store_four(float* to, const Floats<4>& values, int left, bool vectors) {
  if (vectors && left >= 4) return store<4>(to, values);
  for (int i = 0; i < 4; ++i)
    if (i < left) to[i] = values.at[i];
}
__device__ __forceinline__ void store_four(BFloat16* to, const Floats<4>& values, int left, bool vectors) {
  struct alignas(8) Pairs {
    Word at[2];
  };
  const Pairs pairs{{to_bfloat16_pair(values.at[0], values.at[1]), to_bfloat16_pair(values.at[2], values.at[3])}};
  if (vectors && left >= 4) {
    *reinterpret_cast<Pairs*>(to) = pairs;
    return;
  }
  for (int i = 0; i < 4; ++i)
    if (i < left) to[i].bits = static_cast<std::uint16_t>(pairs.at[i / 2] >> (i % 2 * 16));
}

// C as a matrix in memory, with bias and activation.
template <typename Number = float>
struct MatrixOutput {
  using Element = Number;
  Element* data;
  int64_t stride;
  const float* bias;  // one a column, or null
  Activation activation;
  bool vectors;

  __device__ __forceinline__ void store(int row, int column, const float* four, int left) const {
    Floats<4> values;
    for (int i = 0; i < 4; ++i)
      values.at[i] = i < left ? activate(activation, four[i] + (bias == nullptr ? 0.0F : bias[column + i])) : 0.0F;
    store_four(data + row * stride + column, values, left, vectors);
  }
};

// Where the slices of a sum leave their parts: (slices, z, rows, columns).
struct PartialSums {
  float* data = nullptr;  // null: there is one slice, which writes C itself
  int64_t slice_size = 0;
  int64_t z_size = 0;
};

// What a problem's C is: its own, or a part of the sum.
template <typename Own>
struct MaybePartial {
  Own own;
  float* part;  // null: own
  int64_t columns;

  __device__ __forceinline__ void store(int row, int column, const float* four, int left) const {
    if (part == nullptr) return own.store(row, column, four, left);
    for (int i = 0; i < 4; ++i)
      if (i < left) part[row * columns + column + i] = four[i];
  }
};

// Whether products on tensor cores have their tiles copied asynchronously where they can (pipelined.hpp; at first they
// have), or through registers.
bool products_are_pipelined();
// Whether products of bfloat16 arrays run by a warpgroup (warpgroup.hpp): the device is of compute capability 9.0, this
// build has code for it, and they are asked to (at first they are not: no GPU has run it yet).
bool warpgroups_multiply(int device);

// What a launch looks like, and what it needs. This is the only place where a kernel is chosen.
struct MatmulPlan {
  MatmulPrecision precision;
  bool pipelined;
  bool by_warpgroups = false;
  // Of a tile: 32 x 32 (in float32 only), 64 x 64, 128 x 64 (pipelined only) or 128 x 128.
  int tile_rows = 32;
  int tile_columns = 32;
  int z = 1;
  DepthSlices slices;
  int rows, columns;  // of the largest product

  // `z` products of rows x depth and depth x columns. `fours`: both operands are loaded in aligned fours.
  MatmulPlan(const Context& context, int z_, int64_t rows_, int64_t columns_, int64_t depth, bool fours, bool may_slice)
      : MatmulPlan(context.device.index,
                   tensor_cores(context.device.index) ? context.matmul_precision : MatmulPrecision::float32,
                   fours && products_are_pipelined(), z_, rows_, columns_, depth, may_slice, 16) {}

  // The same of bfloat16 arrays, which must be loaded in aligned eights, on a device with tensor cores.
  template <typename Element>
  static MatmulPlan of(const Context& context, int z, int64_t rows, int64_t columns, int64_t depth, bool vectors,
                       bool may_slice) {
    if constexpr (std::is_same_v<Element, BFloat16>) {
      const int device = context.device.index;
      MatmulPlan plan{device, MatmulPrecision::mixed_bfloat16, true, z, rows, columns, depth, may_slice, 32};
      plan.by_warpgroups = warpgroups_multiply(device);
      return plan;
    } else {
      return {context, z, rows, columns, depth, vectors, may_slice};
    }
  }

 private:
  // `step`: slices start at multiples of it, whole tiles.
  MatmulPlan(int device, MatmulPrecision precision_, bool may_pipeline, int z_, int64_t rows_, int64_t columns_,
             int64_t depth, bool may_slice, int64_t step)
      : precision(precision_),
        pipelined(may_pipeline && precision != MatmulPrecision::float32),
        z(z_),
        rows(static_cast<int>(rows_)),
        columns(static_cast<int>(columns_)) {
    const int64_t wanted = multiprocessors(device);
    const auto tiles = [&](int64_t down, int64_t across) {
      return z * ((rows_ + down - 1) / down) * ((columns_ + across - 1) / across);
    };
    const auto take = [&](int down, int across) {
      tile_rows = down;
      tile_columns = across;
    };
    // The largest tile of which there are enough to fill the device, and that rows and columns do not leave mostly
    // empty. 3xTF32 has three products a load and more words in registers: 128 x 64 is its largest of the pipelined.
    const bool largest = columns_ > 64 && !(pipelined && precision == MatmulPrecision::tf32x3);
    // Slices make up for few tiles, but each should be deep enough to be worth its part of the sums.
    const int64_t slices_of_depth = pipelined && may_slice ? std::max<int64_t>(depth / 512, 1) : 1;
    if (rows_ > 64 && largest && tiles(128, 128) * slices_of_depth >= wanted)
      take(128, 128);
    else if (pipelined && rows_ > 64 && tiles(128, 64) * slices_of_depth >= wanted)
      take(128, 64);
    else if (precision != MatmulPrecision::float32 || (columns_ > 32 && rows_ > 32 && tiles(64, 64) >= wanted))
      take(64, 64);
    slices.size = static_cast<int>(std::max<int64_t>(depth, 1));
    if (!may_slice) return;
    if (tile_rows == 32 && depth >= 512 && columns_ > 32 && rows_ > 32) take(64, 64);  // slices will fill it
    // Two blocks for every multiprocessor. The pipelined are all there at once, and one more would wait for the end of
    // the others; they take a few steps to get going.
    const int64_t least_depth = pipelined ? 128 : 64;
    const int64_t present = tiles(tile_rows, tile_columns);
    const int64_t most = std::min<int64_t>((depth + least_depth - 1) / least_depth, 65535);
    const int64_t count = std::min(most, (2 * wanted + (pipelined ? 0 : present - 1)) / present);
    if (count < 2) return;
    slices.size = static_cast<int>(((depth + count - 1) / count + step - 1) / step * step);
    slices.count = static_cast<int>((depth + slices.size - 1) / slices.size);
  }

 public:
  int64_t partial_floats() const { return slices.count == 1 ? 0 : int64_t{slices.count} * z * rows * columns; }
  PartialSums partial(float* data) const {
    return {slices.count == 1 ? nullptr : data, int64_t{z} * rows * columns, int64_t{rows} * columns};
  }
};

template <typename T, typename Problem>
void launch_tile(const Context& context, const MatmulPlan& plan, const Problem& problem,
                 void (*kernel)(Problem, DepthSlices, Divider), std::size_t shared_bytes = 0) {
  const int64_t across = (plan.columns + T::columns - 1) / T::columns;
  const int64_t down = (plan.rows + T::rows - 1) / T::rows;
  const dim3 grid(static_cast<unsigned int>(across * down), static_cast<unsigned int>(plan.slices.count),
                  static_cast<unsigned int>(plan.z));
  launch(kernel, {grid, T::threads, shared_bytes, stream_of(context)}, problem, plan.slices, Divider(across));
}

template <typename T, typename Math, typename Problem>
void run_pipelined(const Context& context, const MatmulPlan& plan, const Problem& problem) {
  launch_tile<T>(context, plan, problem, pipelined_matmul_kernel<T, Math, Problem>, T::shared_bytes);
}

template <typename Math, typename Problem>
void run_on_tensor_cores(const Context& context, const MatmulPlan& plan, const Problem& problem) {
  if (plan.pipelined) {
    if (plan.tile_rows == 64) return run_pipelined<SmallPipelinedTile, Math>(context, plan, problem);
    if (plan.tile_columns == 64) return run_pipelined<TallPipelinedTile, Math>(context, plan, problem);
    // The plan does not choose it for 3xTF32.
    if constexpr (!std::is_same_v<Math, Tf32x3>) return run_pipelined<LargePipelinedTile, Math>(context, plan, problem);
  }
  if (plan.tile_rows == 128)
    launch_tile<LargeTensorTile>(context, plan, problem, tensor_matmul_kernel<LargeTensorTile, Math, Problem>);
  else
    launch_tile<MediumTensorTile>(context, plan, problem, tensor_matmul_kernel<MediumTensorTile, Math, Problem>);
}

// A plan for float32.
template <typename Problem>
void run_in_float32(const Context& context, const MatmulPlan& plan, const Problem& problem) {
  switch (plan.tile_rows) {
    case 128:
      return launch_tile<LargeTile>(context, plan, problem, matmul_kernel<LargeTile, Problem>);
    case 64:
      return launch_tile<MediumTile>(context, plan, problem, matmul_kernel<MediumTile, Problem>);
    default:
      return launch_tile<SmallTile>(context, plan, problem, matmul_kernel<SmallTile, Problem>);
  }
}

// A plan `by_warpgroups`, of a problem that conv2d_warpgroup.cu or dense_warpgroup.cu has it for.
template <typename Problem>
void run_on_warpgroups(const Context& context, const MatmulPlan& plan, const Problem& problem);

// A plan MatmulPlan::of<Element>().
template <typename Element = float, typename Problem>
void run_matmul(const Context& context, const MatmulPlan& plan, const Problem& problem) {
  if constexpr (std::is_same_v<Element, BFloat16>) {
#if CONVEC_WARPGROUPS
    if (plan.by_warpgroups) return run_on_warpgroups(context, plan, problem);
#endif
    if (plan.tile_rows == 64) return run_pipelined<SmallPipelinedTile, MixedBFloat16>(context, plan, problem);
    if (plan.tile_columns == 64) return run_pipelined<TallPipelinedTile, MixedBFloat16>(context, plan, problem);
    return run_pipelined<LargePipelinedTile, MixedBFloat16>(context, plan, problem);
  } else {
    switch (plan.precision) {
      case MatmulPrecision::tf32:
        return run_on_tensor_cores<Tf32>(context, plan, problem);
      case MatmulPrecision::tf32x3:
        return run_on_tensor_cores<Tf32x3>(context, plan, problem);
      case MatmulPrecision::mixed_bfloat16:
        return run_on_tensor_cores<MixedBFloat16>(context, plan, problem);
      case MatmulPrecision::float32:
        return run_in_float32(context, plan, problem);
    }
  }
}

// Whether bfloat16 arrays can be multiplied as they are: whole eights along the lines of each, and a device that can.
template <typename... Pointers>
bool takes_bfloat16(const Context& context, std::initializer_list<int64_t> lines, const Pointers*... pointers) {
  return tensor_cores(context.device.index) && aligned_for_vectors(pointers...) &&
         std::all_of(lines.begin(), lines.end(),
                     [](int64_t numbers) { return numbers % vector_numbers<BFloat16> == 0; });
}

// Adds up the slices' parts in order and writes C: output z at to + z * z_step. Of float32 or bfloat16.
template <typename Element>
void add_slices(const Context& context, const PartialSums& parts, int slices, int z, int rows, int columns,
                const MatrixOutput<Element>& to, int64_t z_step);

// sums[c] = the sum of column c of a matrix (rows, columns), in a fixed order. Of float32 or bfloat16.
template <typename Element>
void column_sums(const Context& context, int64_t rows, int64_t columns, const Element* matrix, float* sums);

// Copies lines of `from_numbers` as lines of `to_numbers`: cut, or with zeros behind. Of float32 or bfloat16.
template <typename Element>
void resize_lines(const Context& context, int64_t lines, int64_t from_numbers, int64_t to_numbers, const Element* from,
                  Element* to);

// Copies of bfloat16 arrays as float32, and the way back: what the products of bfloat16 do not take as it is.
void widen(const Context& context, int64_t size, const BFloat16* from, float* to);
void narrow(const Context& context, int64_t size, const float* from, BFloat16* to);

}  // namespace convec::cuda
