#include "vector_arguments.hpp"

#include <algorithm>
#include <string>

#include <convec/error.hpp>

#include "array.hpp"
#include "gil.hpp"

namespace convec::python {

using std::int64_t;

VectorTable table_of(const py::array& array) {
  if (!py::isinstance<py::array_t<float>>(array))
    throw DTypeError("vectors has dtype " + std::string(py::str(array.dtype())) + ", but must be float32");
  if (array.ndim() != 2)
    throw ShapeError("vectors has " + std::to_string(array.ndim()) + " dimensions, but must have 2: one row a vector");
  constexpr py::ssize_t element = sizeof(float);
  const VectorTable table{static_cast<const float*>(array.data()), array.shape(0), array.shape(1),
                          array.shape(0) < 2 ? array.shape(1) : array.strides(0) / element};
  const bool adjacent = table.rows == 0 || table.dim < 2 || array.strides(1) == element;
  const bool whole = array.shape(0) < 2 || (array.strides(0) % element == 0 && table.stride >= table.dim);
  if (!adjacent || !whole || (array.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_) == 0)
    throw ShapeError(
        "the rows of vectors must be C-contiguous and must not overlap; pass "
        "numpy.ascontiguousarray(vectors)");
  return table;
}

const float* norms_of(const py::object& norms, const VectorTable& table, py::array& holder) {
  const ConstTensorView norms_view = optional_view(norms, "norms", holder);
  if (norms.is_none()) return nullptr;
  if (norms_view.dtype != DType::float32) throw DTypeError("norms must be float32");
  if (norms_view.shape != Shape{table.rows})
    throw ShapeError("norms has shape " + to_string(norms_view.shape) + ", but must be " +
                     to_string(Shape{table.rows}) + ": one number a vector");
  return norms_view.f32();
}

int64_t queries_of(const py::array& array, int64_t dim, const char* name, const float*& data) {
  const ConstTensorView queries = view(array, name);
  if (queries.dtype != DType::float32) throw DTypeError(std::string(name) + " must be float32");
  if (queries.shape.rank() != 2 || queries.shape[1] != dim)
    throw ShapeError(std::string(name) + " has shape " + to_string(queries.shape) + ", but must be (count, " +
                     std::to_string(dim) + "), as long as the vectors");
  data = queries.f32();
  return queries.shape[0];
}

ProductTerms::ProductTerms(const py::object& positive_object, const py::object& negative_object, int64_t dim)
    : positive_array(as_array(positive_object, "positive")),
      negative_array(as_array(negative_object, "negative")),
      positive_count(queries_of(positive_array, dim, "positive", positive)),
      negative_count(queries_of(negative_array, dim, "negative", negative)) {}

Search::Search(int64_t topn, int64_t begin, int64_t end, const std::vector<std::vector<int64_t>>& excluded_rows,
               int64_t queries) {
  options.begin = begin;
  options.end = end;
  options.topn = std::min(topn, std::max<int64_t>(0, end - begin));
  options.poll = [] {
    const AcquireGil acquire;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
  };
  if (excluded_rows.empty()) return;
  if (static_cast<int64_t>(excluded_rows.size()) != queries)
    throw ShapeError("excluded has " + std::to_string(excluded_rows.size()) + " lists for " + std::to_string(queries) +
                     " queries, but must have one for each");
  for (const std::vector<int64_t>& rows : excluded_rows) {
    excluded.insert(excluded.end(), rows.begin(), rows.end());
    offsets.push_back(static_cast<int64_t>(excluded.size()));
  }
  options.excluded = excluded.data();
  options.excluded_offsets = offsets.data();
}

}  // namespace convec::python
