// The arguments of searches among vectors, on every device.
#pragma once

#include <cstdint>
#include <vector>

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <convec/vectors.hpp>

namespace convec::python {

// A float32 table whose rows may be further apart than they are long, as a slice of padded rows is.
// Throws DTypeError, ShapeError.
VectorTable table_of(const pybind11::array& array);

// The norms of a table's rows, or null for None. `holder` keeps the array alive. Throws DTypeError, ShapeError.
const float* norms_of(const pybind11::object& norms, const VectorTable& table, pybind11::array& holder);

// (count, dim) float32; returns the count. Throws DTypeError, ShapeError.
std::int64_t queries_of(const pybind11::array& array, std::int64_t dim, const char* name, const float*& data);

// The vectors that a search by products of similarities is near to and far from, and the arrays that keep them alive.
struct ProductTerms {
  // Throws as queries_of().
  ProductTerms(const pybind11::object& positive_object, const pybind11::object& negative_object, std::int64_t dim);

  pybind11::array positive_array;
  pybind11::array negative_array;
  const float* positive = nullptr;
  const float* negative = nullptr;
  std::int64_t positive_count;
  std::int64_t negative_count;
};

// Search options; the excluded rows of each query one after the other.
struct Search {
  // Throws ShapeError where there are neither no lists of excluded rows nor one for each query.
  Search(std::int64_t topn, std::int64_t begin, std::int64_t end,
         const std::vector<std::vector<std::int64_t>>& excluded_rows, std::int64_t queries);
  Search(const Search&) = delete;
  Search& operator=(const Search&) = delete;

  // Neighbours a query that are returned.
  std::int64_t width() const { return options.topn > 0 ? options.topn : 0; }

  NearestOptions options;
  std::vector<std::int64_t> excluded;
  std::vector<std::int64_t> offsets{0};
};

}  // namespace convec::python
