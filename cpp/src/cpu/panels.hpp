// How a matrix's columns are cut into the panels that the micro-kernel reads.
#pragma once

#include <cstdint>

#include "cpu/kernels/kernel_table.hpp"

namespace convec::cpu {

// Panels of GemmKernels::columns columns; the last may be narrower, and is stored one vector wide where that is enough.
struct Panels {
  std::int64_t columns;  // of the matrix
  std::int64_t full;     // columns of a full panel
  std::int64_t vector;

  Panels(std::int64_t columns_, const GemmKernels& gemm) : columns(columns_), full(gemm.columns), vector(gemm.vector) {}

  std::int64_t count() const { return (columns + full - 1) / full; }
  std::int64_t begin(std::int64_t panel) const { return panel * full; }
  // Columns in use.
  std::int64_t used(std::int64_t panel) const {
    const std::int64_t left = columns - panel * full;
    return left < full ? left : full;
  }
  // Columns stored.
  std::int64_t width(std::int64_t panel) const { return used(panel) > vector ? full : vector; }
  // Columns stored in all panels before this one; every one of them is full.
  std::int64_t offset(std::int64_t panel) const { return panel * full; }
  std::int64_t stored() const { return count() == 0 ? 0 : offset(count() - 1) + width(count() - 1); }
};

}  // namespace convec::cpu
