// Transposition of one small block of floats.
#pragma once

#include "cpu/kernels/vec.hpp"

namespace convec::cpu::CONVEC_ISA_NAMESPACE {

#if defined(__AVX2__)
constexpr int transpose_size = 8;

// One 8 x 8 block.
CONVEC_INLINE void transpose_block(const float* from, std::ptrdiff_t from_row, float* to, std::ptrdiff_t to_row) {
  __m256 r[8];
  for (int j = 0; j < 8; ++j) r[j] = _mm256_loadu_ps(from + j * from_row);
  __m256 t[8];
  for (int j = 0; j < 8; j += 2) {
    t[j] = _mm256_unpacklo_ps(r[j], r[j + 1]);
    t[j + 1] = _mm256_unpackhi_ps(r[j], r[j + 1]);
  }
  for (int j = 0; j < 8; j += 4) {
    r[j] = _mm256_shuffle_ps(t[j], t[j + 2], 0x44);
    r[j + 1] = _mm256_shuffle_ps(t[j], t[j + 2], 0xEE);
    r[j + 2] = _mm256_shuffle_ps(t[j + 1], t[j + 3], 0x44);
    r[j + 3] = _mm256_shuffle_ps(t[j + 1], t[j + 3], 0xEE);
  }
  for (int j = 0; j < 4; ++j) {
    _mm256_storeu_ps(to + j * to_row, _mm256_permute2f128_ps(r[j], r[j + 4], 0x20));
    _mm256_storeu_ps(to + (j + 4) * to_row, _mm256_permute2f128_ps(r[j], r[j + 4], 0x31));
  }
}
#else
constexpr int transpose_size = 4;

CONVEC_INLINE void transpose_block(const float* from, std::ptrdiff_t from_row, float* to, std::ptrdiff_t to_row) {
  for (int i = 0; i < 4; ++i)
    for (int j = 0; j < 4; ++j) to[i * to_row + j] = from[j * from_row + i];
}
#endif

}  // namespace convec::cpu::CONVEC_ISA_NAMESPACE
