// Copies of weights and pixels into the panels that the matrix micro-kernel reads.
#pragma once

#include <cstddef>
#include <cstdint>

namespace convec::cpu {

struct PackKernels {
  // to[i * to_row + j] = from[j * from_row + i] for i < rows, j < columns; lanes from `columns` up to `width` are zero.
  void (*transpose_f32)(const float* from, std::ptrdiff_t from_row, float* to, std::ptrdiff_t to_row, std::int64_t rows,
                        std::int64_t columns, std::int64_t width);
  // to[i * to_row + j] = from[i * from_row + j] for j < columns; lanes from `columns` up to `width` are zero.
  void (*copy_f32)(const float* from, std::ptrdiff_t from_row, float* to, std::ptrdiff_t to_row, std::int64_t rows,
                   std::int64_t columns, std::int64_t width);
  // Columns cut into tiles, of which the last may be narrower: rows x tile columns each, one behind the other. Where
  // there are several, a tile is at least half a vector wide; less than a vector behind the only one may be
  // overwritten.
  void (*copy_tiles_f32)(const float* from, std::ptrdiff_t from_row, float* to, std::int64_t rows, std::int64_t columns,
                         std::int64_t tile);
};

}  // namespace convec::cpu
