// Checks of the arguments of vectors.hpp.
#pragma once

#include <cstdint>

#include <convec/vectors.hpp>

namespace convec::check {

// Throws ShapeError for a negative extent, rows that overlap, or a size that overflows.
void table(const VectorTable& table);
// Throws ShapeError: "-1 queries were given, but there must be at least 0".
void count(std::int64_t count, const char* what);
// Throws ValueError: [begin, end) is not within a table of so many rows.
void range(std::int64_t begin, std::int64_t end, std::int64_t rows);
// Throws as nearest_vectors() for `count` queries to a table of so many rows.
void search(std::int64_t rows, const NearestOptions& options, std::int64_t count);

}  // namespace convec::check
