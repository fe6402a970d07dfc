// Checks of the arguments of vectors.hpp.
#pragma once

#include <cstdint>

#include <convec/vectors.hpp>

namespace convec::check {

// Throws ShapeError for a negative extent, rows that overlap, or a size that overflows.
void table(const VectorTable& table);
// Throws ShapeError: "-1 queries were given, but there must be at least 0".
void count(std::int64_t count, const char* what);

}  // namespace convec::check
