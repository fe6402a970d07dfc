// How finely work is split over threads. A split of what is summed depends on the sizes alone, never on the number of
// threads, so that neither do the results.
#pragma once

#include <algorithm>
#include <cstdint>

namespace convec::cpu {

// Work below this is not worth a second thread: about as many element operations as waking one costs.
constexpr std::int64_t task_elements = 16384;
// The same for elements that cost an exponential or a division each.
constexpr std::int64_t task_functions = 4096;

// Rows a task, of rows that cost `row_cost` element operations each.
inline std::int64_t rows_per_task(std::int64_t row_cost, std::int64_t task = task_elements) {
  const std::int64_t rows = task / (row_cost < 1 ? 1 : row_cost);
  return rows < 1 ? 1 : rows;
}

// Splits `extent` into about `wanted` parts: the size of one. Only where every result is one task's, whatever its part.
constexpr std::int64_t part_size(std::int64_t extent, std::int64_t wanted) {
  const std::int64_t parts = std::clamp<std::int64_t>(wanted, 1, std::max<std::int64_t>(extent, 1));
  return (extent + parts - 1) / parts;
}

}  // namespace convec::cpu
