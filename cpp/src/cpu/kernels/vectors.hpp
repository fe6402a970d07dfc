// Kernels of nearest-neighbour search, over rows of a table of vectors.
#pragma once

#include <cstddef>
#include <cstdint>

namespace convec::cpu {

struct VectorKernels {
  // output[i] = <row i, query>, divided by norms[i] where norms are given (0 where the norm is 0). Every row is summed
  // in the same order, so equal rows have equal results. Returns the largest output, NaN left out; minus infinity
  // where there is none.
  float (*dots_f32)(std::int64_t rows, std::int64_t dim, const float* vectors, std::ptrdiff_t stride,
                    const float* query, const float* norms, float* output);
  // output[i] = <row i, row i>.
  void (*squared_norms_f32)(std::int64_t rows, std::int64_t dim, const float* vectors, std::ptrdiff_t stride,
                            float* output);
  // Divides each row of `values` (rows `row` apart) by its norm, as dots_f32, and lists the elements that are at least
  // their column's threshold as row * row_stride + column. Values and thresholds are readable to a whole vector.
  // Returns their number.
  std::int64_t (*select_f32)(std::int64_t rows, std::int64_t columns, float* values, std::ptrdiff_t row,
                             const float* norms, const float* thresholds, std::int32_t* selected);
};

}  // namespace convec::cpu
