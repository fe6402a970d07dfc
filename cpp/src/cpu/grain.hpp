// How finely work is split over threads. The split depends on the sizes alone, never on the number of threads, so that
// neither do the results.
#pragma once

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

}  // namespace convec::cpu
