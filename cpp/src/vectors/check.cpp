#include "vectors/check.hpp"

#include <limits>
#include <string>

#include <convec/error.hpp>

namespace convec::check {

void table(const VectorTable& table) {
  if (table.rows < 0 || table.dim < 0)
    throw ShapeError("the table of vectors has shape (" + std::to_string(table.rows) + ", " +
                     std::to_string(table.dim) + "), but extents must be at least 0");
  if (table.stride < table.dim)
    throw ShapeError("rows of the table of vectors are " + std::to_string(table.stride) +
                     " elements apart, but must be at least " + std::to_string(table.dim) + ", the size of a vector");
  constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max() / 8;
  if (table.stride > 0 && table.rows > most / table.stride)
    throw ShapeError("the table of vectors is too large: " + std::to_string(table.rows) + " rows " +
                     std::to_string(table.stride) + " elements apart");
}

void count(std::int64_t count, const char* what) {
  if (count < 0) throw ShapeError(std::to_string(count) + " " + what + " were given, but there must be at least 0");
}

void range(std::int64_t begin, std::int64_t end, std::int64_t rows) {
  if (begin < 0 || end < begin || end > rows)
    throw ValueError("rows " + std::to_string(begin) + " to " + std::to_string(end) +
                     " are to be searched, but the table has " + std::to_string(rows));
}

void search(std::int64_t rows, const NearestOptions& options, std::int64_t count) {
  check::count(count, "queries");
  if (options.topn < 0) throw ValueError("topn is " + std::to_string(options.topn) + ", but must be at least 0");
  range(options.begin, options.end, rows);
  if (options.excluded == nullptr) return;
  for (std::int64_t q = 0; q < count; ++q)
    if (options.excluded_offsets[q] < 0 || options.excluded_offsets[q + 1] < options.excluded_offsets[q])
      throw ValueError("excluded_offsets must rise from at least 0");
}

}  // namespace convec::check
