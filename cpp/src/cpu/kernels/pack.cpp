#include "cpu/kernels/pack.hpp"

#include "cpu/kernels/transpose.hpp"
#include "cpu/kernels/vec.hpp"

namespace convec::cpu::CONVEC_ISA_NAMESPACE {

void fill_pack(PackKernels& kernels);

namespace {

// Rows that are fetched ahead of their copy: a column of pixels is too far apart for the processor to foresee.
constexpr int rows_ahead = 12;

void transpose_f32(const float* from, std::ptrdiff_t from_row, float* to, std::ptrdiff_t to_row, std::int64_t rows,
                   std::int64_t columns, std::int64_t width) {
  std::int64_t i = 0;
  for (; i + transpose_size <= rows; i += transpose_size) {
    std::int64_t j = 0;
    for (; j + transpose_size <= columns; j += transpose_size)
      transpose_block(from + j * from_row + i, from_row, to + i * to_row + j, to_row);
    for (std::int64_t k = i; k < i + transpose_size; ++k) {
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
    __builtin_prefetch(source + rows_ahead * from_row);
    std::int64_t j = 0;
    for (; j + vec_width <= columns; j += vec_width) vec_store(target + j, vec_load(source + j));
    for (; j < columns; ++j) target[j] = source[j];
    for (; j < width; ++j) target[j] = 0.0F;
  }
}

void copy_short_f32(const float* from, std::ptrdiff_t from_row, float* to, std::int64_t rows, std::int64_t columns) {
  // A row's surplus lanes lie where the next row goes.
  const std::int64_t whole = columns / vec_width * vec_width;
  const int left = static_cast<int>(columns - whole);
  for (std::int64_t i = 0; i < rows; ++i) {
    __builtin_prefetch(from + rows_ahead * from_row);
    for (std::int64_t j = 0; j < whole; j += vec_width) vec_store(to + j, vec_load(from + j));
    if (left > 0) vec_store(to + whole, vec_load_first(from + whole, left));
    from += from_row;
    to += columns;
  }
}

}  // namespace

void fill_pack(PackKernels& kernels) {
  kernels.transpose_f32 = transpose_f32;
  kernels.copy_f32 = copy_f32;
  kernels.copy_short_f32 = copy_short_f32;
}

}  // namespace convec::cpu::CONVEC_ISA_NAMESPACE
