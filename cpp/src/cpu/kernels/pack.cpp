#include "cpu/kernels/pack.hpp"

#include "cpu/kernels/vec.hpp"

namespace convec::cpu::CONVEC_ISA_NAMESPACE {

void fill_pack(PackKernels& kernels);

namespace {

#if defined(__AVX2__)
constexpr int block = 8;

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
constexpr int block = 4;

CONVEC_INLINE void transpose_block(const float* from, std::ptrdiff_t from_row, float* to, std::ptrdiff_t to_row) {
  for (int i = 0; i < 4; ++i)
    for (int j = 0; j < 4; ++j) to[i * to_row + j] = from[j * from_row + i];
}
#endif

void transpose_f32(const float* from, std::ptrdiff_t from_row, float* to, std::ptrdiff_t to_row, std::int64_t rows,
                   std::int64_t columns, std::int64_t width) {
  std::int64_t i = 0;
  for (; i + block <= rows; i += block) {
    std::int64_t j = 0;
    for (; j + block <= columns; j += block)
      transpose_block(from + j * from_row + i, from_row, to + i * to_row + j, to_row);
    for (std::int64_t k = i; k < i + block; ++k) {
      for (std::int64_t l = j; l < columns; ++l) to[k * to_row + l] = from[l * from_row + k];
      for (std::int64_t l = columns; l < width; ++l) to[k * to_row + l] = 0.0F;
    }
  }
  for (; i < rows; ++i) {
    for (std::int64_t l = 0; l < columns; ++l) to[i * to_row + l] = from[l * from_row + i];
    for (std::int64_t l = columns; l < width; ++l) to[i * to_row + l] = 0.0F;
  }
}

void copy_f32(const float* from, std::ptrdiff_t from_row, float* to, std::ptrdiff_t to_row, std::int64_t rows,
              std::int64_t columns, std::int64_t width) {
  for (std::int64_t i = 0; i < rows; ++i) {
    const float* source = from + i * from_row;
    float* target = to + i * to_row;
    std::int64_t j = 0;
    for (; j + vec_width <= columns; j += vec_width) vec_store(target + j, vec_load(source + j));
    for (; j < columns; ++j) target[j] = source[j];
    for (; j < width; ++j) target[j] = 0.0F;
  }
}

}  // namespace

void fill_pack(PackKernels& kernels) {
  kernels.transpose_f32 = transpose_f32;
  kernels.copy_f32 = copy_f32;
}

}  // namespace convec::cpu::CONVEC_ISA_NAMESPACE
