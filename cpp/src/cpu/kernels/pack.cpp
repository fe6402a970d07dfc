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

// Rows [begin, rows) of one of copy_tiles_f32()'s tiles, lane by lane.
void copy_tile(const float* from, std::ptrdiff_t from_row, float* to, std::int64_t begin, std::int64_t rows,
               std::int64_t columns) {
  for (std::int64_t i = begin; i < rows; ++i)
    for (std::int64_t j = 0; j < columns; ++j) to[i * columns + j] = from[i * from_row + j];
}

void copy_tiles_f32(const float* from, std::ptrdiff_t from_row, float* to, std::int64_t rows, std::int64_t columns,
                    std::int64_t tile) {
  const std::int64_t whole = columns / tile * tile;
  const int lanes = static_cast<int>(tile < vec_width ? tile : vec_width);
  const float* row = from;
  // The lanes of a vector that a tile does not use lie where the next row goes: the last row is left out.
  for (std::int64_t i = 0; i + 1 < rows; ++i) {
    float* target = to + i * tile;
    for (std::int64_t j = 0; j < whole; j += tile) {
      __builtin_prefetch(row + j + rows_ahead * from_row);
      vec_store(target, vec_load_first(row + j, lanes));
      for (std::int64_t k = vec_width; k < tile; ++k) target[k] = row[j + k];
      target += tile * rows;
    }
    row += from_row;
  }
  for (std::int64_t j = 0; j < whole; j += tile) copy_tile(from + j, from_row, to + j * rows, rows - 1, rows, tile);
  copy_tile(from + whole, from_row, to + whole * rows, 0, rows, columns - whole);
}

}  // namespace

void fill_pack(PackKernels& kernels) {
  kernels.transpose_f32 = transpose_f32;
  kernels.copy_f32 = copy_f32;
  kernels.copy_tiles_f32 = copy_tiles_f32;
}

}  // namespace convec::cpu::CONVEC_ISA_NAMESPACE
