#include "cpu/kernels/conv_pool.hpp"

#include "cpu/kernels/pool_four.hpp"
#include "cpu/kernels/transpose.hpp"
#include "cpu/kernels/vec.hpp"

namespace convec::cpu::CONVEC_ISA_NAMESPACE {

void fill_conv_pool(ConvPoolKernels& kernels);

namespace {

// ---- Max pooling -----------------------------------------------------------------------------------------------

// One window, all channels. The first of equal elements wins; a NaN wins and stays.
void max_window(const MaxWindows& w, const float* window, float* output, std::uint8_t* argmax) {
  for (std::int64_t c = 0; c < w.channels; c += vec_width) {
    const int lanes = w.channels - c < vec_width ? static_cast<int>(w.channels - c) : vec_width;
    Vec best = vec_load_first(window + c, lanes);
    Vec where = vec_zero();
    float position = 0.0F;
    for (std::int64_t i = 0; i < w.pool_height; ++i)
      for (std::int64_t j = 0; j < w.pool_width; ++j) {
        const Vec value = vec_load_first(window + i * w.input_row + j * w.input_column + c, lanes);
        const VecMask wins = vec_wins(value, best);
        best = vec_blend(wins, value, best);
        where = vec_blend(wins, vec_set(position), where);
        position += 1.0F;
      }
    vec_store_first(output + c, best, lanes);
    if (argmax != nullptr) vec_store_bytes_first(argmax + c, where, lanes);
  }
}

void max_windows_f32(const MaxWindows& w) {
  for (std::int64_t row = 0; row < w.rows; ++row)
    for (std::int64_t column = 0; column < w.columns; ++column) {
      const std::ptrdiff_t at = (row * w.columns + column) * w.output_column;
      max_window(w, w.input + row * w.pool_height * w.input_row + column * w.pool_width * w.input_column, w.output + at,
                 w.argmax == nullptr ? nullptr : w.argmax + at);
    }
}

// visit(pixel, tap, position) for every product of a patch of 4x4 pixels with a 3x3 filter at its four positions.
template <typename Visit>
inline __attribute__((always_inline)) void visit_products(const float* corner, std::ptrdiff_t row, const Visit& visit) {
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const Vec pixel = vec_set(corner[i * row + j]);
#pragma GCC unroll 4
      for (int position = 0; position < 4; ++position) {
        const int r = i - position / 2;
        const int s = j - position % 2;
        if (r < 0 || r > 2 || s < 0 || s > 2) continue;
        visit(pixel, r * 3 + s, position);
      }
    }
}

template <int Vectors>
void patch_forward(const PatchForward& p) {
  Vec filters[9][Vectors];
  Vec bias[Vectors];
#pragma GCC unroll 2
  for (int v = 0; v < Vectors; ++v) {
#pragma GCC unroll 9
    for (int tap = 0; tap < 9; ++tap) filters[tap][v] = vec_load(p.filters + tap * p.panel + v * vec_width);
    bias[v] = p.bias == nullptr ? vec_zero() : vec_load(p.bias + v * vec_width);
  }
  for (std::int64_t y = 0; y < p.rows; ++y)
    for (std::int64_t x = 0; x < p.columns; ++x) {
      const float* corner = p.input + 2 * y * p.input_row + 2 * x;
      Vec value[Vectors][4];
#pragma GCC unroll 2
      for (int v = 0; v < Vectors; ++v)
#pragma GCC unroll 4
        for (int position = 0; position < 4; ++position) value[v][position] = bias[v];
      visit_products(corner, p.input_row, [&](Vec pixel, int tap, int position) __attribute__((always_inline)) {
#pragma GCC unroll 2
        for (int v = 0; v < Vectors; ++v) value[v][position] = vec_fma(pixel, filters[tap][v], value[v][position]);
      });
      const std::ptrdiff_t at = (y * p.columns + x) * p.output_column;
#pragma GCC unroll 2
      for (int v = 0; v < Vectors; ++v)
        pool_four(value[v], p.relu, p.channels - v * vec_width, p.output + at + v * vec_width,
                  p.argmax == nullptr ? nullptr : p.argmax + at + v * vec_width);
    }
}

void patch_forward_f32(const PatchForward& p) {
#if defined(__AVX512F__)
  constexpr int most = 2;  // vectors of filters that the registers hold
#else
  constexpr int most = 1;
#endif
  PatchForward part = p;
  for (std::int64_t c = 0; c < p.channels; c += most * vec_width) {
    part.filters = p.filters + c;
    part.bias = p.bias == nullptr ? nullptr : p.bias + c;
    part.channels = p.channels - c;
    part.output = p.output + c;
    part.argmax = p.argmax == nullptr ? nullptr : p.argmax + c;
    if (most == 2 && part.channels > vec_width)
      patch_forward<most>(part);
    else
      patch_forward<1>(part);
  }
}

// ---- Lists of maxima ---------------------------------------------------------------------------------------------

#if defined(__AVX512F__)

CONVEC_INLINE __mmask16 first_lanes(std::int64_t count) {
  return static_cast<__mmask16>(count >= 16 ? 0xFFFFU : (1U << static_cast<unsigned>(count)) - 1U);
}

// Gradients of 16 channels, zero where they are not carried on.
template <typename Maps>
CONVEC_INLINE Vec carried(const Maps& m, std::int64_t at, __mmask16 lanes) {
  const Vec gradient = _mm512_maskz_loadu_ps(lanes, m.gradient + at);
  if (m.output == nullptr) return gradient;
  const Vec output = _mm512_maskz_loadu_ps(lanes, m.output + at);
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(output, vec_zero(), _CMP_GT_OQ), gradient);
}

CONVEC_INLINE int append(const MaximaLists& m, std::int64_t at, __mmask16 which, __m512i offsets, Vec gradients) {
  _mm512_storeu_si512(m.lists.offsets + at, _mm512_maskz_compress_epi32(which, offsets));
  vec_store(m.lists.gradients + at, _mm512_maskz_compress_ps(which, gradients));
  return __builtin_popcount(which);
}

// 16 windows by 16 channels at a time: looked up along the channels, transposed, and compressed along the windows.
void list_by_channel_16(const MaximaLists& m, std::int64_t first, __mmask16 lanes) {
  alignas(64) float gradients[2][256];
  alignas(64) float offsets[2][256];
  std::int32_t counts[16] = {};
  const __m512i table = _mm512_loadu_si512(m.position_offsets);
  for (std::int64_t window = 0; window < m.windows; window += 16) {
    const std::int64_t rows = m.windows - window < 16 ? m.windows - window : 16;
    for (std::int64_t i = 0; i < 16; ++i) {
      Vec gradient = vec_zero();
      __m512i offset = _mm512_setzero_si512();
      if (i < rows) {
        const std::int64_t at = (window + i) * m.channel_pitch + first;
        gradient = carried(m, at, lanes);
        const __m512i where = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(lanes, m.argmax + at));
        offset =
            _mm512_add_epi32(_mm512_permutexvar_epi32(where, table), _mm512_set1_epi32(m.window_offsets[window + i]));
      }
      vec_store(gradients[0] + i * 16, gradient);
      vec_store(offsets[0] + i * 16, _mm512_castsi512_ps(offset));
    }
    for (int i = 0; i < 16; i += 8)
      for (int j = 0; j < 16; j += 8) {
        transpose_block(gradients[0] + i * 16 + j, 16, gradients[1] + j * 16 + i, 16);
        transpose_block(offsets[0] + i * 16 + j, 16, offsets[1] + j * 16 + i, 16);
      }
    for (std::int64_t c = 0; c < 16 && first + c < m.channels; ++c) {
      const Vec gradient = vec_load(gradients[1] + c * 16);
      const __mmask16 which = _mm512_cmp_ps_mask(gradient, vec_zero(), _CMP_NEQ_UQ);
      counts[c] +=
          append(m, (first + c) * m.capacity + counts[c], which, _mm512_loadu_si512(offsets[1] + c * 16), gradient);
    }
  }
  for (std::int64_t c = 0; c < 16 && first + c < m.channels; ++c) m.counts[first + c] = counts[c];
}

#elif defined(__AVX2__)

// AVX2 has no instruction that moves chosen lanes to the front: byte k of entry `m` is the number of the k-th bit that
// is set in m.
struct CompressionTable {
  std::uint64_t of[256];
};
constexpr CompressionTable compression_table() {
  CompressionTable table{};
  for (unsigned mask = 0; mask < 256; ++mask) {
    unsigned count = 0;
    for (std::uint64_t lane = 0; lane < 8; ++lane)
      if ((mask >> lane & 1U) != 0) table.of[mask] |= lane << 8 * count++;
  }
  return table;
}
constexpr CompressionTable compression = compression_table();

// The first `count` bytes, one a lane; none behind them is read.
CONVEC_INLINE __m256i load_bytes_first(const std::uint8_t* p, std::int64_t count) {
  if (count >= 8) return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  alignas(8) std::uint8_t bytes[8] = {};
  for (std::int64_t i = 0; i < count; ++i) bytes[i] = p[i];
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes)));
}

// Gradients of the first `lanes` of 8 channels, zero where they are not carried on.
template <typename Maps>
CONVEC_INLINE Vec carried(const Maps& m, std::int64_t at, std::int64_t lanes) {
  const int count = static_cast<int>(lanes);
  const Vec gradient = lanes >= 8 ? vec_load(m.gradient + at) : vec_load_first(m.gradient + at, count);
  if (m.output == nullptr) return gradient;
  const Vec output = lanes >= 8 ? vec_load(m.output + at) : vec_load_first(m.output + at, count);
  return _mm256_and_ps(gradient, _mm256_cmp_ps(output, vec_zero(), _CMP_GT_OQ));
}

CONVEC_INLINE unsigned not_zero(Vec v) {
  return static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(v, vec_zero(), _CMP_NEQ_UQ)));
}

CONVEC_INLINE int append(const MaximaLists& m, std::int64_t at, unsigned which, __m256i offsets, Vec gradients) {
  const __m256i order = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(compression.of + which)));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(m.lists.offsets + at), _mm256_permutevar8x32_epi32(offsets, order));
  vec_store(m.lists.gradients + at, _mm256_permutevar8x32_ps(gradients, order));
  return __builtin_popcount(which);
}

// 8 windows by 8 channels at a time: looked up along the channels, transposed, and compressed along the windows.
void list_by_channel_8(const MaximaLists& m, std::int64_t first) {
  alignas(32) float gradients[2][64];
  alignas(32) float offsets[2][64];
  std::int32_t counts[8] = {};
  const std::int64_t lanes = m.channels - first < 8 ? m.channels - first : 8;
  const __m256i table = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(m.position_offsets));
  for (std::int64_t window = 0; window < m.windows; window += 8) {
    for (std::int64_t i = 0; i < 8; ++i) {
      Vec gradient = vec_zero();
      __m256i offset = _mm256_setzero_si256();
      if (window + i < m.windows) {
        const std::int64_t at = (window + i) * m.channel_pitch + first;
        gradient = carried(m, at, lanes);
        const __m256i where = load_bytes_first(m.argmax + at, lanes);
        offset = _mm256_add_epi32(_mm256_permutevar8x32_epi32(table, where),
                                  _mm256_set1_epi32(m.window_offsets[window + i]));
      }
      vec_store(gradients[0] + i * 8, gradient);
      vec_store(offsets[0] + i * 8, _mm256_castsi256_ps(offset));
    }
    transpose_block(gradients[0], 8, gradients[1], 8);
    transpose_block(offsets[0], 8, offsets[1], 8);
    for (std::int64_t c = 0; c < lanes; ++c) {
      const Vec gradient = vec_load(gradients[1] + c * 8);
      counts[c] += append(m, (first + c) * m.capacity + counts[c], not_zero(gradient),
                          _mm256_castps_si256(vec_load(offsets[1] + c * 8)), gradient);
    }
  }
  for (std::int64_t c = 0; c < lanes; ++c) m.counts[first + c] = counts[c];
}

#endif

void list_by_channel_f32(const MaximaLists& m) {
#if defined(__AVX512F__)
  if (m.positions <= 16) {
    for (std::int64_t c = 0; c < m.channels; c += 16) list_by_channel_16(m, c, first_lanes(m.channels - c));
    return;
  }
#elif defined(__AVX2__)
  if (m.positions <= 8) {
    for (std::int64_t c = 0; c < m.channels; c += 8) list_by_channel_8(m, c);
    return;
  }
#endif
  for (std::int64_t c = 0; c < m.channels; ++c) m.counts[c] = 0;
  for (std::int64_t window = 0; window < m.windows; ++window) {
    const std::int64_t row = window * m.channel_pitch;
    // Stored whether or not it counts: no branch to mispredict.
    for (std::int64_t c = 0; c < m.channels; ++c) {
      const float gradient = m.gradient[row + c];
      const std::int32_t count = m.counts[c];
      m.lists.offsets[c * m.capacity + count] = m.window_offsets[window] + m.position_offsets[m.argmax[row + c]];
      m.lists.gradients[c * m.capacity + count] = gradient;
      const bool carries = gradient != 0.0F && (m.output == nullptr || m.output[row + c] > 0.0F);
      m.counts[c] = count + (carries ? 1 : 0);
    }
  }
}

#if defined(__AVX512F__)

void list_by_position_f32(const MaximaLists& m) {
  const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i step = _mm512_set1_epi32(m.channel_step);
  for (std::int64_t window = 0; window < m.windows; ++window) {
    std::int32_t counts[4] = {};
    for (std::int64_t c = 0; c < m.channels; c += 16) {
      const __mmask16 lanes = first_lanes(m.channels - c);
      const std::int64_t at = window * m.channel_pitch + c;
      const Vec gradient = carried(m, at, lanes);
      const __mmask16 carries = _mm512_cmp_ps_mask(gradient, vec_zero(), _CMP_NEQ_UQ);
      const __m512i where = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(lanes, m.argmax + at));
      const __m512i offsets = _mm512_mullo_epi32(_mm512_add_epi32(lane, _mm512_set1_epi32(static_cast<int>(c))), step);
      for (int position = 0; position < 4; ++position) {
        const __mmask16 which = carries & _mm512_cmpeq_epi32_mask(where, _mm512_set1_epi32(position));
        counts[position] +=
            append(m, (window * 4 + position) * m.capacity + counts[position], which, offsets, gradient);
      }
    }
    for (int position = 0; position < 4; ++position) m.counts[window * 4 + position] = counts[position];
  }
}

#elif defined(__AVX2__)

void list_by_position_f32(const MaximaLists& m) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i step = _mm256_set1_epi32(m.channel_step);
  for (std::int64_t window = 0; window < m.windows; ++window) {
    std::int32_t counts[4] = {};
    for (std::int64_t c = 0; c < m.channels; c += 8) {
      const std::int64_t at = window * m.channel_pitch + c;
      const Vec gradient = carried(m, at, m.channels - c);
      const unsigned carries = not_zero(gradient);
      const __m256i where = load_bytes_first(m.argmax + at, m.channels - c);
      const __m256i offsets = _mm256_mullo_epi32(_mm256_add_epi32(lane, _mm256_set1_epi32(static_cast<int>(c))), step);
#pragma GCC unroll 4
      for (int position = 0; position < 4; ++position) {
        const __m256i here = _mm256_cmpeq_epi32(where, _mm256_set1_epi32(position));
        const unsigned which = carries & static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(here)));
        counts[position] +=
            append(m, (window * 4 + position) * m.capacity + counts[position], which, offsets, gradient);
      }
    }
    for (int position = 0; position < 4; ++position) m.counts[window * 4 + position] = counts[position];
  }
}

#endif

// ---- Gradient to the filters --------------------------------------------------------------------------------------

template <int Rows, int Vectors>
void sparse_rows(const SparseFilterGradient& s, std::int64_t first_row, std::int64_t first_column, int last_lanes) {
  Vec acc[Rows][Vectors];
  float* sums = s.sums + first_row * s.width + first_column;
#pragma GCC unroll 4
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v)
      acc[r][v] = v + 1 < Vectors || last_lanes == vec_width
                      ? vec_load(sums + r * s.width + v * vec_width)
                      : vec_load_first(sums + r * s.width + v * vec_width, last_lanes);
  const float* input = s.input + first_row * s.input_row + first_column;
  for (std::int32_t i = 0; i < s.count; ++i) {
    const Vec gradient = vec_set(s.gradients[i]);
    const float* from = input + s.offsets[i];
#pragma GCC unroll 4
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) {
        const float* at = from + r * s.input_row + v * vec_width;
        const bool whole = v + 1 < Vectors || last_lanes == vec_width;
        acc[r][v] = vec_fma(gradient, whole ? vec_load(at) : vec_load_first(at, last_lanes), acc[r][v]);
      }
  }
#pragma GCC unroll 4
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) {
      float* to = sums + r * s.width + v * vec_width;
      if (v + 1 < Vectors || last_lanes == vec_width)
        vec_store(to, acc[r][v]);
      else
        vec_store_first(to, acc[r][v], last_lanes);
    }
}

// Three rows of a filter at once keep enough sums in flight; the others one by one.
template <int Rows>
void sparse_row_block(const SparseFilterGradient& s, std::int64_t row) {
#if defined(__AVX512F__)
  constexpr int most = 6;
#else
  constexpr int most = Rows == 3 ? 4 : 6;
#endif
  std::int64_t column = 0;
  while (column < s.width) {
    const std::int64_t left = s.width - column;
    const std::int64_t vectors = (left + vec_width - 1) / vec_width;
    const int take = vectors < most ? static_cast<int>(vectors) : most;
    const std::int64_t lanes = left - (take - 1) * vec_width;
    const int last = lanes < vec_width ? static_cast<int>(lanes) : vec_width;
    switch (take) {
      case 1:
        sparse_rows<Rows, 1>(s, row, column, last);
        break;
      case 2:
        sparse_rows<Rows, 2>(s, row, column, last);
        break;
      case 3:
        sparse_rows<Rows, 3>(s, row, column, last);
        break;
      case 4:
        sparse_rows<Rows, 4>(s, row, column, last);
        break;
#if defined(__AVX512F__)
      case 5:
        sparse_rows<Rows, 5>(s, row, column, last);
        break;
      default:
        sparse_rows<Rows, 6>(s, row, column, last);
        break;
#else
      default:
        if constexpr (Rows == 1) {
          if (take == 5)
            sparse_rows<Rows, 5>(s, row, column, last);
          else
            sparse_rows<Rows, 6>(s, row, column, last);
        }
        break;
#endif
    }
    column += take * vec_width;
  }
}

void sparse_filter_gradient_f32(const SparseFilterGradient& s) {
  std::int64_t row = 0;
  for (; row + 3 <= s.rows; row += 3) sparse_row_block<3>(s, row);
  for (; row < s.rows; ++row) sparse_row_block<1>(s, row);
}

#if defined(__AVX512F__)

void patch_filter_gradient_f32(const PatchFilterGradient& p) {
  Vec sums[10];
#pragma GCC unroll 10
  for (int i = 0; i < 10; ++i) sums[i] = vec_load(p.sums + i * vec_width);
  const __mmask16 lanes = first_lanes(p.channels);
  for (std::int64_t y = 0; y < p.rows; ++y)
    for (std::int64_t x = 0; x < p.columns; ++x) {
      const float* corner = p.input + 2 * y * p.input_row + 2 * x;
      Vec patch = _mm512_castps128_ps512(_mm_loadu_ps(corner));
      patch = _mm512_insertf32x4(patch, _mm_loadu_ps(corner + p.input_row), 1);
      patch = _mm512_insertf32x4(patch, _mm_loadu_ps(corner + 2 * p.input_row), 2);
      patch = _mm512_insertf32x4(patch, _mm_loadu_ps(corner + 3 * p.input_row), 3);
      const std::int64_t at = (y * p.columns + x) * p.channel_pitch;
      const Vec gradient = carried(p, at, lanes);
      const __m512i where = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(lanes, p.argmax + at));
      // Positions 0, 1, 2, 3 of a window are pixels 0, 1, 4, 5 of the patch.
      const __m512i pixel = _mm512_add_epi32(where, _mm512_and_si512(where, _mm512_set1_epi32(2)));
#pragma GCC unroll 3
      for (int r = 0; r < 3; ++r)
#pragma GCC unroll 3
        for (int s = 0; s < 3; ++s) {
          const __m512i index = _mm512_add_epi32(pixel, _mm512_set1_epi32(r * 4 + s));
          sums[r * 3 + s] = vec_fma(gradient, _mm512_permutexvar_ps(index, patch), sums[r * 3 + s]);
        }
      sums[9] = vec_add(sums[9], gradient);
    }
#pragma GCC unroll 10
  for (int i = 0; i < 10; ++i) vec_store(p.sums + i * vec_width, sums[i]);
}

#elif defined(__AVX2__)

// Two vectors hold the sixteen pixels, and picking nine of them lane by lane takes longer than multiplying each by the
// gradients of the filters with their maximum at each of the four positions.
void patch_filter_gradient_f32(const PatchFilterGradient& p) {
  Vec sums[10];
#pragma GCC unroll 10
  for (int i = 0; i < 10; ++i) sums[i] = vec_load(p.sums + i * vec_width);
  for (std::int64_t y = 0; y < p.rows; ++y)
    for (std::int64_t x = 0; x < p.columns; ++x) {
      const float* corner = p.input + 2 * y * p.input_row + 2 * x;
      const std::int64_t at = (y * p.columns + x) * p.channel_pitch;
      const Vec gradient = carried(p, at, p.channels);
      const __m256i where = load_bytes_first(p.argmax + at, p.channels);
      Vec of[4];
#pragma GCC unroll 4
      for (int position = 0; position < 4; ++position)
        of[position] =
            _mm256_and_ps(gradient, _mm256_castsi256_ps(_mm256_cmpeq_epi32(where, _mm256_set1_epi32(position))));
      visit_products(corner, p.input_row, [&](Vec pixel, int tap, int position) __attribute__((always_inline)) {
        sums[tap] = vec_fma(pixel, of[position], sums[tap]);
      });
      sums[9] = vec_add(sums[9], gradient);
    }
#pragma GCC unroll 10
  for (int i = 0; i < 10; ++i) vec_store(p.sums + i * vec_width, sums[i]);
}

#endif

float sum_f32(const float* values, std::int64_t count) {
  Vec sum = vec_zero();
  std::int64_t i = 0;
  for (; i + vec_width <= count; i += vec_width) sum = vec_add(sum, vec_load(values + i));
  if (i < count) sum = vec_add(sum, vec_load_first(values + i, static_cast<int>(count - i)));
  float lanes[vec_width];
  vec_store(lanes, sum);
  float total = 0.0F;
  for (int lane = 0; lane < vec_width; ++lane) total += lanes[lane];
  return total;
}

// ---- Gradient to the input ----------------------------------------------------------------------------------------

#if defined(__AVX512F__)

template <int Row, int Column>
CONVEC_INLINE void add_maxima(Vec (&acc)[4][4], const SparsePatch& p) {
  constexpr int position = Row * 2 + Column;
  const std::int32_t* offsets = p.offsets + position * p.capacity;
  const float* gradients = p.gradients + position * p.capacity;
  for (std::int32_t i = 0; i < p.counts[position]; ++i) {
    const Vec gradient = vec_set(gradients[i]);
    const float* filter = p.filters + offsets[i];
#pragma GCC unroll 3
    for (int r = 0; r < 3; ++r)
#pragma GCC unroll 3
      for (int s = 0; s < 3; ++s)
        acc[Row + r][Column + s] =
            vec_fma(gradient, vec_load(filter + (r * 3 + s) * vec_width), acc[Row + r][Column + s]);
  }
}

void sparse_patch_f32(const SparsePatch& p) {
  Vec acc[4][4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) acc[i][j] = vec_load(p.patch + i * p.row + j * p.column);
  add_maxima<0, 0>(acc, p);
  add_maxima<0, 1>(acc, p);
  add_maxima<1, 0>(acc, p);
  add_maxima<1, 1>(acc, p);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) vec_store(p.patch + i * p.row + j * p.column, acc[i][j]);
}

#elif defined(__AVX2__)

// The registers hold the nine sums of one position.
template <int Row, int Column>
CONVEC_INLINE void add_maxima(const SparsePatch& p) {
  constexpr int position = Row * 2 + Column;
  const std::int32_t count = p.counts[position];
  if (count == 0) return;
  const std::int32_t* offsets = p.offsets + position * p.capacity;
  const float* gradients = p.gradients + position * p.capacity;
  float* patch = p.patch + Row * p.row + Column * p.column;
  Vec acc[9];
#pragma GCC unroll 9
  for (int tap = 0; tap < 9; ++tap) acc[tap] = vec_load(patch + tap / 3 * p.row + tap % 3 * p.column);
  for (std::int32_t i = 0; i < count; ++i) {
    const Vec gradient = vec_set(gradients[i]);
    const float* filter = p.filters + offsets[i];
#pragma GCC unroll 9
    for (int tap = 0; tap < 9; ++tap) acc[tap] = vec_fma(gradient, vec_load(filter + tap * vec_width), acc[tap]);
  }
#pragma GCC unroll 9
  for (int tap = 0; tap < 9; ++tap) vec_store(patch + tap / 3 * p.row + tap % 3 * p.column, acc[tap]);
}

void sparse_patch_f32(const SparsePatch& p) {
  add_maxima<0, 0>(p);
  add_maxima<0, 1>(p);
  add_maxima<1, 0>(p);
  add_maxima<1, 1>(p);
}

#endif

}  // namespace

void fill_conv_pool(ConvPoolKernels& kernels) {
  kernels.max_windows_f32 = max_windows_f32;
  kernels.patch_forward_f32 = patch_forward_f32;
  kernels.list_by_channel_f32 = list_by_channel_f32;
  kernels.sparse_filter_gradient_f32 = sparse_filter_gradient_f32;
  kernels.sum_f32 = sum_f32;
#if defined(__AVX2__)
  kernels.patch_filter_gradient_f32 = patch_filter_gradient_f32;
  kernels.list_by_position_f32 = list_by_position_f32;
  kernels.sparse_patch_f32 = sparse_patch_f32;
#else
  kernels.patch_filter_gradient_f32 = nullptr;
  kernels.list_by_position_f32 = nullptr;
  kernels.sparse_patch_f32 = nullptr;
#endif
}

}  // namespace convec::cpu::CONVEC_ISA_NAMESPACE
