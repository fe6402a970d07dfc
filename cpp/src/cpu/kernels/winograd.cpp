#include "cpu/kernels/winograd.hpp"

#include "cpu/kernels/pool_four.hpp"
#include "cpu/kernels/vec.hpp"

namespace convec::cpu::CONVEC_ISA_NAMESPACE {

void fill_winograd(WinogradKernels& kernels);

namespace {

CONVEC_INLINE Vec load_lanes(const float* p, int lanes) {
  return lanes == vec_width ? vec_load(p) : vec_load_first(p, lanes);
}
CONVEC_INLINE void store_lanes(float* p, Vec v, int lanes) {
  if (lanes == vec_width)
    vec_store(p, v);
  else
    vec_store_first(p, v, lanes);
}

// B^T d of one column (or row) of the tile.
CONVEC_INLINE void input_transform(const Vec (&d)[4], Vec (&t)[4]) {
  t[0] = vec_sub(d[0], d[2]);
  t[1] = vec_add(d[1], d[2]);
  t[2] = vec_sub(d[2], d[1]);
  t[3] = vec_sub(d[1], d[3]);
}

void input_f32(const float* input, std::ptrdiff_t row, std::ptrdiff_t column, std::int64_t channels, float* output,
               std::ptrdiff_t frequency) {
  for (std::int64_t c = 0; c < channels; c += vec_width) {
    const int lanes = channels - c < vec_width ? static_cast<int>(channels - c) : vec_width;
    Vec rows[4][4];  // [column][frequency along the rows]
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      Vec d[4];
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) d[i] = load_lanes(input + i * row + j * column + c, lanes);
      input_transform(d, rows[j]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const Vec d[4] = {rows[0][i], rows[1][i], rows[2][i], rows[3][i]};
      Vec t[4];
      input_transform(d, t);
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) store_lanes(output + (i * 4 + j) * frequency + c, t[j], lanes);
    }
  }
}

// G g of one column (or row) of a filter.
CONVEC_INLINE void filter_transform(const Vec (&g)[3], Vec (&t)[4]) {
  const Vec half = vec_set(0.5F);
  const Vec outer = vec_mul(half, vec_add(g[0], g[2]));
  const Vec inner = vec_mul(half, g[1]);
  t[0] = g[0];
  t[1] = vec_add(outer, inner);
  t[2] = vec_sub(outer, inner);
  t[3] = g[2];
}

void filters_f32(const float* filters, std::ptrdiff_t tap, std::int64_t count, float* output,
                 std::ptrdiff_t frequency) {
  for (std::int64_t k = 0; k < count; k += vec_width) {
    const int lanes = count - k < vec_width ? static_cast<int>(count - k) : vec_width;
    Vec rows[3][4];  // [column][frequency along the rows]
#pragma GCC unroll 3
    for (int j = 0; j < 3; ++j) {
      Vec g[3];
#pragma GCC unroll 3
      for (int i = 0; i < 3; ++i) g[i] = load_lanes(filters + (i * 3 + j) * tap + k, lanes);
      filter_transform(g, rows[j]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const Vec g[3] = {rows[0][i], rows[1][i], rows[2][i]};
      Vec t[4];
      filter_transform(g, t);
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) store_lanes(output + (i * 4 + j) * frequency + k, t[j], lanes);
    }
  }
}

// A^T m of one column (or row) of the products.
CONVEC_INLINE void output_transform(const Vec (&m)[4], Vec (&t)[2]) {
  t[0] = vec_add(vec_add(m[0], m[1]), m[2]);
  t[1] = vec_sub(vec_sub(m[1], m[2]), m[3]);
}

void max_of_output_f32(const float* products, std::ptrdiff_t frequency, const float* bias, bool relu,
                       std::int64_t channels, float* output, std::uint8_t* argmax) {
  for (std::int64_t k = 0; k < channels; k += vec_width) {
    Vec rows[4][2];  // [column][row of the output]
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      Vec m[4];
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) m[i] = vec_load(products + (i * 4 + j) * frequency + k);
      output_transform(m, rows[j]);
    }
    const Vec shift = bias == nullptr ? vec_zero() : vec_load(bias + k);
    Vec value[4];
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      const Vec m[4] = {rows[0][i], rows[1][i], rows[2][i], rows[3][i]};
      Vec t[2];
      output_transform(m, t);
      value[i * 2] = vec_add(t[0], shift);
      value[i * 2 + 1] = vec_add(t[1], shift);
    }
    pool_four(value, relu, channels - k, output + k, argmax == nullptr ? nullptr : argmax + k);
  }
}

}  // namespace

void fill_winograd(WinogradKernels& kernels) {
  kernels.input_f32 = input_f32;
  kernels.filters_f32 = filters_f32;
  kernels.max_of_output_f32 = max_of_output_f32;
}

}  // namespace convec::cpu::CONVEC_ISA_NAMESPACE
