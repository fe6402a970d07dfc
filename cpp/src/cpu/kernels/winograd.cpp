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

// ---- F(4x4, 3x3) -------------------------------------------------------------------------------------------------

constexpr float root_half = 0.70710678118654752F;
constexpr float root_two = 1.41421356237309505F;

// B^T d.
CONVEC_INLINE void transform(const Vec (&d)[6], Vec (&t)[6]) {
  const Vec five_halves = vec_set(-2.5F);
  const Vec even_half = vec_fma(vec_set(-2.0F), d[2], d[4]);
  const Vec odd_half = vec_mul(vec_set(root_half), vec_fma(vec_set(-2.0F), d[1], d[3]));
  const Vec even_two = vec_fma(vec_set(-0.5F), d[2], d[4]);
  const Vec odd_two = vec_mul(vec_set(root_two), vec_fma(vec_set(-0.5F), d[1], d[3]));
  t[0] = vec_add(d[0], vec_fma(five_halves, d[2], d[4]));
  t[1] = vec_add(even_half, odd_half);
  t[2] = vec_sub(even_half, odd_half);
  t[3] = vec_add(even_two, odd_two);
  t[4] = vec_sub(even_two, odd_two);
  t[5] = vec_add(d[1], vec_fma(five_halves, d[3], d[5]));
}

// A y.
CONVEC_INLINE void transform(const Vec (&y)[4], Vec (&t)[6]) {
  const Vec even_half = vec_fma(vec_set(0.5F), y[2], y[0]);
  const Vec odd_half = vec_mul(vec_set(root_half), vec_fma(vec_set(0.5F), y[3], y[1]));
  const Vec even_two = vec_fma(vec_set(2.0F), y[2], y[0]);
  const Vec odd_two = vec_mul(vec_set(root_two), vec_fma(vec_set(2.0F), y[3], y[1]));
  t[0] = y[0];
  t[1] = vec_add(even_half, odd_half);
  t[2] = vec_sub(even_half, odd_half);
  t[3] = vec_add(even_two, odd_two);
  t[4] = vec_sub(even_two, odd_two);
  t[5] = y[3];
}

// G g.
CONVEC_INLINE void transform(const Vec (&g)[3], Vec (&t)[6]) {
  const Vec even_half = vec_fma(vec_set(-1.0F / 3), g[2], vec_mul(vec_set(-2.0F / 3), g[0]));
  const Vec odd_half = vec_mul(vec_set(-root_two / 3), g[1]);
  const Vec even_two = vec_fma(vec_set(1.0F / 3), g[2], vec_mul(vec_set(1.0F / 6), g[0]));
  const Vec odd_two = vec_mul(vec_set(root_two / 6), g[1]);
  t[0] = g[0];
  t[1] = vec_add(even_half, odd_half);
  t[2] = vec_sub(even_half, odd_half);
  t[3] = vec_add(even_two, odd_two);
  t[4] = vec_sub(even_two, odd_two);
  t[5] = g[2];
}

// A^T m.
CONVEC_INLINE void transform(const Vec (&m)[6], Vec (&t)[4]) {
  const Vec even_half = vec_add(m[1], m[2]);
  const Vec odd_half = vec_mul(vec_set(root_half), vec_sub(m[1], m[2]));
  const Vec even_two = vec_add(m[3], m[4]);
  const Vec odd_two = vec_mul(vec_set(root_two), vec_sub(m[3], m[4]));
  t[0] = vec_add(m[0], vec_add(even_half, even_two));
  t[1] = vec_add(odd_half, odd_two);
  t[2] = vec_fma(vec_set(0.5F), even_half, vec_mul(vec_set(2.0F), even_two));
  t[3] = vec_add(m[5], vec_fma(vec_set(0.5F), odd_half, vec_mul(vec_set(2.0F), odd_two)));
}

// G^T m.
CONVEC_INLINE void transform(const Vec (&m)[6], Vec (&t)[3]) {
  const Vec even_half = vec_add(m[1], m[2]);
  const Vec even_two = vec_add(m[3], m[4]);
  t[0] = vec_add(m[0], vec_fma(vec_set(-2.0F / 3), even_half, vec_mul(vec_set(1.0F / 6), even_two)));
  t[1] = vec_fma(vec_set(-root_two / 3), vec_sub(m[1], m[2]), vec_mul(vec_set(root_two / 6), vec_sub(m[3], m[4])));
  t[2] = vec_fma(vec_set(1.0F / 3), vec_sub(even_two, even_half), m[5]);
}

// Both ways of a tile of In x In values, each `at(row, column)`, into Out x Out values, each `put(row, column, value)`.
template <int In, int Out, typename At, typename Put>
CONVEC_INLINE void transform_tile(const At& at, const Put& put) {
  Vec columns[In][Out];
#pragma GCC unroll 6
  for (int j = 0; j < In; ++j) {
    Vec d[In];
#pragma GCC unroll 6
    for (int i = 0; i < In; ++i) d[i] = at(i, j);
    transform(d, columns[j]);
  }
#pragma GCC unroll 6
  for (int i = 0; i < Out; ++i) {
    Vec d[In];
#pragma GCC unroll 6
    for (int j = 0; j < In; ++j) d[j] = columns[j][i];
    Vec t[Out];
    transform(d, t);
#pragma GCC unroll 6
    for (int j = 0; j < Out; ++j) put(i, j, t[j]);
  }
}

CONVEC_INLINE bool there(const WinogradTile& tile, int i, int j) {
  return i >= tile.row_begin && i < tile.row_end && j >= tile.column_begin && j < tile.column_end;
}

template <int Size>
void image_to_frequencies(const WinogradTile& tile, const float* image, float* frequencies) {
  const bool whole = tile.row_begin <= 0 && tile.row_end >= Size && tile.column_begin <= 0 && tile.column_end >= Size;
  for (std::int64_t c = 0; c < tile.channels; c += vec_width) {
    const int lanes = tile.channels - c < vec_width ? static_cast<int>(tile.channels - c) : vec_width;
    const auto put = [&](int i, int j, Vec v) {
      store_lanes(frequencies + (i * 6 + j) * tile.frequency + c, v, lanes);
    };
    if (whole && lanes == vec_width)
      transform_tile<Size, 6>([&](int i, int j) { return vec_load(image + i * tile.row + j * tile.column + c); }, put);
    else
      transform_tile<Size, 6>(
          [&](int i, int j) {
            return there(tile, i, j) ? load_lanes(image + i * tile.row + j * tile.column + c, lanes) : vec_zero();
          },
          put);
  }
}

void input_4x4_f32(const WinogradTile& tile, const float* image, float* frequencies) {
  image_to_frequencies<6>(tile, image, frequencies);
}
void gradient_4x4_f32(const WinogradTile& tile, const float* image, float* frequencies) {
  image_to_frequencies<4>(tile, image, frequencies);
}

void filters_4x4_f32(const float* filters, std::ptrdiff_t tap, std::int64_t count, float* output,
                     std::ptrdiff_t frequency) {
  for (std::int64_t k = 0; k < count; k += vec_width) {
    const int lanes = count - k < vec_width ? static_cast<int>(count - k) : vec_width;
    transform_tile<3, 6>([&](int i, int j) { return load_lanes(filters + (i * 3 + j) * tap + k, lanes); },
                         [&](int i, int j, Vec v) { store_lanes(output + (i * 6 + j) * frequency + k, v, lanes); });
  }
}

void output_4x4_f32(const WinogradTile& tile, const float* frequencies, const float* bias, bool relu, float* image) {
  for (std::int64_t k = 0; k < tile.channels; k += vec_width) {
    const int lanes = tile.channels - k < vec_width ? static_cast<int>(tile.channels - k) : vec_width;
    const Vec shift = bias == nullptr ? vec_zero() : vec_load(bias + k);
    transform_tile<6, 4>([&](int i, int j) { return vec_load(frequencies + (i * 6 + j) * tile.frequency + k); },
                         [&](int i, int j, Vec v) {
                           if (!there(tile, i, j)) return;
                           v = vec_add(v, shift);
                           if (relu) v = vec_max(vec_zero(), v);
                           store_lanes(image + i * tile.row + j * tile.column + k, v, lanes);
                         });
  }
}

void filters_gradient_4x4_f32(const float* frequencies, std::ptrdiff_t frequency, std::int64_t count, float* filters,
                              std::ptrdiff_t tap) {
  for (std::int64_t k = 0; k < count; k += vec_width) {
    const int lanes = count - k < vec_width ? static_cast<int>(count - k) : vec_width;
    transform_tile<6, 3>([&](int i, int j) { return load_lanes(frequencies + (i * 6 + j) * frequency + k, lanes); },
                         [&](int i, int j, Vec v) { store_lanes(filters + (i * 3 + j) * tap + k, v, lanes); });
  }
}

}  // namespace

void fill_winograd(WinogradKernels& kernels) {
  kernels.input_f32 = input_f32;
  kernels.filters_f32 = filters_f32;
  kernels.max_of_output_f32 = max_of_output_f32;
  kernels.input_4x4_f32 = input_4x4_f32;
  kernels.gradient_4x4_f32 = gradient_4x4_f32;
  kernels.filters_4x4_f32 = filters_4x4_f32;
  kernels.output_4x4_f32 = output_4x4_f32;
  kernels.filters_gradient_4x4_f32 = filters_gradient_4x4_f32;
}

}  // namespace convec::cpu::CONVEC_ISA_NAMESPACE
