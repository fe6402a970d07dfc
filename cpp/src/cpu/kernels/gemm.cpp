#include "cpu/kernels/gemm.hpp"

#include "cpu/kernels/vec.hpp"

namespace convec::cpu::CONVEC_ISA_NAMESPACE {

void fill_gemm(GemmKernels& kernels);

namespace {

// Accumulators of a tile fill most of the registers: 14 x 2 of 32 (AVX-512), 6 x 2 of 16 (AVX2, SSE).
#if defined(__AVX512F__)
constexpr int most_rows = 14;
#else
constexpr int most_rows = 6;
#endif
constexpr int panel_vectors = 2;

// `Along`: A runs along the reduction (a_step is 1), rows are a_row apart. Otherwise rows are adjacent (a_row is 1).
template <int Rows, int Vectors, bool Along>
void tile(const GemmTile& t) {
  Vec acc[Rows][Vectors];
#pragma GCC unroll 16
  for (int p = 0; p < Rows; ++p)
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v) acc[p][v] = vec_zero();

  const std::ptrdiff_t row = Along ? t.a_row : 1;
  const std::ptrdiff_t step = Along ? 1 : t.a_step;
  const std::ptrdiff_t b_step = t.b_step;
  const float* b = t.b;
  // Without anything to fetch, a line that is there.
  const char* ahead = reinterpret_cast<const char*>(t.a);
  std::ptrdiff_t ahead_bytes = 0;
  if (t.ahead != nullptr) {
    ahead = reinterpret_cast<const char*>(t.ahead);
    ahead_bytes = t.ahead_bytes;
    if constexpr (Along) {
#pragma GCC unroll 16
      for (int p = 0; p < Rows; ++p) __builtin_prefetch(t.c + p * t.c_row, 1);
    }
  }
  for (std::int64_t s = 0; s < t.segments; ++s) {
    if (t.b_segments != nullptr) b = t.b + t.b_segments[s];
    const float* a = t.a + t.a_segments[s];
    // One base pointer for three rows keeps all addresses in the registers there are.
    constexpr int bases = Along ? (Rows + 2) / 3 : 1;
    const float* base[bases];
#pragma GCC unroll 5
    for (int i = 0; i < bases; ++i) {
      base[i] = a + 3 * i * row;
      // Hides from the compiler that the pointers are related; it would keep one for each row and spill.
      __asm__("" : "+r"(base[i]));
    }
    for (std::int64_t k = 0; k < t.length; ++k) {
      __builtin_prefetch(ahead, 0, Along ? 3 : 2);
      ahead += ahead_bytes;
      Vec bv[Vectors];
#pragma GCC unroll 2
      for (int v = 0; v < Vectors; ++v) bv[v] = vec_load(b + v * vec_width);
      b += b_step;
#if !defined(__AVX512F__)
      __asm__("" : "+r"(b));  // or GCC keeps it on the stack, and each step waits for the last one's store
#endif
#pragma GCC unroll 16
      for (int p = 0; p < Rows; ++p) {
        const Vec av = vec_set(Along ? base[p / 3][(p % 3) * row] : base[0][p]);
#pragma GCC unroll 2
        for (int v = 0; v < Vectors; ++v) acc[p][v] = vec_fma(av, bv[v], acc[p][v]);
      }
#pragma GCC unroll 5
      for (int i = 0; i < bases; ++i) base[i] += step;
    }
  }

#pragma GCC unroll 2
  for (int v = 0; v < Vectors; ++v) {
    const int left = t.columns - v * vec_width;
    if (left <= 0) break;
    const Vec bias = t.bias == nullptr ? vec_zero() : vec_load(t.bias + v * vec_width);
#pragma GCC unroll 16
    for (int p = 0; p < Rows; ++p) {
      float* c = t.c + p * t.c_row + v * vec_width;
      Vec value = acc[p][v];
      if (t.accumulate) value = vec_add(value, left >= vec_width ? vec_load(c) : vec_load_first(c, left));
      value = vec_add(value, bias);
      if (t.relu) value = vec_max(vec_zero(), value);
      if (left >= vec_width)
        vec_store(c, value);
      else
        vec_store_first(c, value, left);
    }
  }
}

using TileFunction = void (*)(const GemmTile&);

// [rows - 1][vectors - 1]
template <bool Along, int... Row>
struct TileFunctions {
  static constexpr TileFunction of[][2] = {{tile<Row, 1, Along>, tile<Row, 2, Along>}...};
};
#if defined(__AVX512F__)
template <bool Along>
using Tiles = TileFunctions<Along, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14>;
#else
template <bool Along>
using Tiles = TileFunctions<Along, 1, 2, 3, 4, 5, 6>;
#endif

void tile_f32_along(const GemmTile& t) { Tiles<true>::of[t.rows - 1][t.columns > vec_width ? 1 : 0](t); }
void tile_f32_across(const GemmTile& t) { Tiles<false>::of[t.rows - 1][t.columns > vec_width ? 1 : 0](t); }

}  // namespace

void fill_gemm(GemmKernels& kernels) {
  kernels.rows = most_rows;
  kernels.columns = panel_vectors * vec_width;
  kernels.vector = vec_width;
  kernels.tile_f32_along = tile_f32_along;
  kernels.tile_f32_across = tile_f32_across;
}

}  // namespace convec::cpu::CONVEC_ISA_NAMESPACE
