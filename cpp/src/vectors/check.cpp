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

}  // namespace convec::check
