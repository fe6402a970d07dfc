#include "cpu/kernels/conv_pool.hpp"

#include "cpu/kernels/transpose.hpp"
#include "cpu/kernels/vec.hpp"

namespace convec::cpu::CONVEC_ISA_NAMESPACE {

void fill_conv_pool(ConvPoolKernels& kernels);

namespace {

// ---- Max pooling -----------------------------------------------------------------------------------------------

// One window, all channels. The first of equal elements wins; a NaN wins and stays.
void max_window(const MaxWindows& w, const float* window, float* output, std::uint8_t* argmax) {
  std::int64_t c = 0;
#if defined(__AVX512F__)
  for (; c + vec_width <= w.channels; c += vec_width) {
    Vec best = vec_load(window + c);
    __m512i where = _mm512_setzero_si512();
    int position = 0;
    for (std::int64_t i = 0; i < w.pool_height; ++i)
      for (std::int64_t j = 0; j < w.pool_width; ++j, ++position) {
        const Vec value = vec_load(window + i * w.input_row + j * w.input_column + c);
        // Greater, or a NaN that meets a number.
        const __mmask16 wins =
            _mm512_cmp_ps_mask(value, best, _CMP_NLE_UQ) & _mm512_cmp_ps_mask(best, best, _CMP_ORD_Q);
        best = _mm512_mask_mov_ps(best, wins, value);
        where = _mm512_mask_mov_epi32(where, wins, _mm512_set1_epi32(position));
      }
    vec_store(output + c, best);
    if (argmax != nullptr)
      _mm_storeu_si128(reinterpret_cast<__m128i*>(argmax + c), _mm512_cvtepi32_epi8(where));
  }
#endif
  for (; c < w.channels; ++c) {
    float best = window[c];
    int where = 0;
    int position = 0;
    for (std::int64_t i = 0; i < w.pool_height; ++i)
      for (std::int64_t j = 0; j < w.pool_width; ++j, ++position) {
        const float value = window[i * w.input_row + j * w.input_column + c];
        const bool wins = !(value <= best) && best == best;
        best = wins ? value : best;
        where = wins ? position : where;
      }
    output[c] = best;
    if (argmax != nullptr) argmax[c] = static_cast<std::uint8_t>(where);
  }
}

void max_windows_f32(const MaxWindows& w) {
  for (std::int64_t row = 0; row < w.rows; ++row)
    for (std::int64_t column = 0; column < w.columns; ++column) {
      const std::ptrdiff_t at = (row * w.columns + column) * w.output_column;
      max_window(w, w.input + row * w.pool_height * w.input_row + column * w.pool_width * w.input_column,
                 w.output + at, w.argmax == nullptr ? nullptr : w.argmax + at);
    }
}

// ---- Lists of maxima ---------------------------------------------------------------------------------------------

#if defined(__AVX512F__)

// Gradients of 16 channels, zero where they are not carried on.
CONVEC_INLINE Vec carried(const MaximaLists& m, std::int64_t at, __mmask16 lanes) {
  const Vec gradient = _mm512_maskz_loadu_ps(lanes, m.gradient + at);
  if (m.output == nullptr) return gradient;
  const Vec output = _mm512_maskz_loadu_ps(lanes, m.output + at);
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(output, vec_zero(), _CMP_GT_OQ), gradient);
}

CONVEC_INLINE __mmask16 first_lanes(std::int64_t count) {
  return static_cast<__mmask16>(count >= 16 ? 0xFFFFU : (1U << static_cast<unsigned>(count)) - 1U);
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
        offset = _mm512_add_epi32(_mm512_permutexvar_epi32(where, table),
                                  _mm512_set1_epi32(m.window_offsets[window + i]));
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
      counts[c] += append(m, (first + c) * m.capacity + counts[c], which, _mm512_loadu_si512(offsets[1] + c * 16),
                          gradient);
    }
  }
  for (std::int64_t c = 0; c < 16 && first + c < m.channels; ++c) m.counts[first + c] = counts[c];
}

#endif

void list_by_channel_f32(const MaximaLists& m) {
#if defined(__AVX512F__)
  if (m.positions <= 16) {
    for (std::int64_t c = 0; c < m.channels; c += 16) list_by_channel_16(m, c, first_lanes(m.channels - c));
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
      const __m512i offsets =
          _mm512_mullo_epi32(_mm512_add_epi32(lane, _mm512_set1_epi32(static_cast<int>(c))), step);
      for (int position = 0; position < 4; ++position) {
        const __mmask16 which = carries & _mm512_cmpeq_epi32_mask(where, _mm512_set1_epi32(position));
        counts[position] += append(m, (window * 4 + position) * m.capacity + counts[position], which, offsets,
                                   gradient);
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
      acc[r][v] = v + 1 < Vectors || last_lanes == vec_width ? vec_load(sums + r * s.width + v * vec_width)
                                                             : vec_load_first(sums + r * s.width + v * vec_width,
                                                                              last_lanes);
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

#endif

}  // namespace

void fill_conv_pool(ConvPoolKernels& kernels) {
  kernels.max_windows_f32 = max_windows_f32;
  kernels.list_by_channel_f32 = list_by_channel_f32;
  kernels.sparse_filter_gradient_f32 = sparse_filter_gradient_f32;
  kernels.sum_f32 = sum_f32;
#if defined(__AVX512F__)
  kernels.list_by_position_f32 = list_by_position_f32;
  kernels.sparse_patch_f32 = sparse_patch_f32;
#else
  kernels.list_by_position_f32 = nullptr;
  kernels.sparse_patch_f32 = nullptr;
#endif
}

}  // namespace convec::cpu::CONVEC_ISA_NAMESPACE
