#include "cuda_vectors.hpp"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <convec/cuda/vectors.hpp>

#include "array.hpp"
#include "gil.hpp"
#include "vector_arguments.hpp"

namespace convec::python {

namespace {

using cuda::VectorsOnDevice;
using std::int64_t;

using Excluded = std::vector<std::vector<int64_t>>;

void copy_in(VectorsOnDevice& there, int64_t first, const py::object& vectors, const py::object& norms) {
  const py::array array = as_array(vectors, "vectors");
  const VectorTable table = table_of(array);
  py::array norm_array;
  const float* norm_data = norms_of(norms, table, norm_array);
  const ReleaseGil release;
  there.copy_in(first, table, norm_data);
}

// Rows that are searched, for the size of a result; what is out of order is refused by the search.
int64_t extent(int64_t begin, int64_t end) { return std::max<int64_t>(0, end - begin); }

py::array similarities(const VectorsOnDevice& there, const py::object& queries, int64_t begin, int64_t end) {
  const py::array query_array = as_array(queries, "queries");
  const float* query_data = nullptr;
  const int64_t count = queries_of(query_array, there.dim(), "queries", query_data);
  py::array_t<float> result = empty({count, extent(begin, end)});
  float* data = result.mutable_data();
  {
    const ReleaseGil release;
    there.similarities(query_data, count, begin, end, data);
  }
  return result;
}

py::tuple nearest(const VectorsOnDevice& there, const py::object& queries, int64_t topn, int64_t begin, int64_t end,
                  const Excluded& excluded) {
  const py::array query_array = as_array(queries, "queries");
  const float* query_data = nullptr;
  const int64_t count = queries_of(query_array, there.dim(), "queries", query_data);
  const Search search(topn, begin, end, excluded, count);
  py::array_t<int64_t> rows({count, search.width()});
  py::array_t<float> values({count, search.width()});
  int64_t* row_data = rows.mutable_data();
  float* value_data = values.mutable_data();
  {
    const ReleaseGil release;
    there.nearest(query_data, count, search.options, row_data, value_data);
  }
  return py::make_tuple(rows, values);
}

py::array multiplicative(const VectorsOnDevice& there, const py::object& positive, const py::object& negative,
                         int64_t begin, int64_t end) {
  const ProductTerms terms(positive, negative, there.dim());
  py::array_t<float> result = empty({extent(begin, end)});
  float* data = result.mutable_data();
  {
    const ReleaseGil release;
    there.multiplicative(terms.positive, terms.positive_count, terms.negative, terms.negative_count, begin, end, data);
  }
  return result;
}

py::tuple nearest_multiplicative(const VectorsOnDevice& there, const py::object& positive, const py::object& negative,
                                 int64_t topn, int64_t begin, int64_t end, const std::vector<int64_t>& excluded) {
  const ProductTerms terms(positive, negative, there.dim());
  const Search search(topn, begin, end, {excluded}, 1);
  py::array_t<int64_t> rows(search.width());
  py::array_t<float> values(search.width());
  int64_t* row_data = rows.mutable_data();
  float* value_data = values.mutable_data();
  {
    const ReleaseGil release;
    there.nearest_multiplicative(terms.positive, terms.positive_count, terms.negative, terms.negative_count,
                                 search.options, row_data, value_data);
  }
  return py::make_tuple(rows, values);
}

}  // namespace

void register_cuda_vectors(py::module_& module) {
  // Local: a test may load this module and the emulated one.
  py::class_<VectorsOnDevice>(module, "VectorsOnDevice", py::module_local(),
                              "A table of vectors in the memory of a CUDA device, and searches among them.")
      .def(py::init([](int64_t rows, int64_t dim, int device) {
             const ReleaseGil release;
             return std::make_unique<VectorsOnDevice>(rows, dim, device);
           }),
           py::arg("rows"), py::arg("dim"), py::kw_only(), py::arg("device") = 0)
      .def_property_readonly("rows", &VectorsOnDevice::rows, "Number of vectors.")
      .def_property_readonly("dim", &VectorsOnDevice::dim, "Elements of a vector.")
      .def("copy_in", &copy_in, py::arg("first"), py::arg("vectors"), py::arg("norms"),
           "Copies float32 vectors, and their norms or None, to the rows from `first` on.")
      .def("similarities", &similarities, py::arg("queries"), py::arg("begin"), py::arg("end"),
           "As convec._core.vector_similarities, with rows [begin, end).")
      .def("nearest", &nearest, py::arg("queries"), py::kw_only(), py::arg("topn"), py::arg("begin"), py::arg("end"),
           py::arg("excluded") = Excluded{}, "As convec._core.nearest_vectors.")
      .def("multiplicative", &multiplicative, py::arg("positive"), py::arg("negative"), py::arg("begin"),
           py::arg("end"), "As convec._core.multiplicative_similarities, with rows [begin, end).")
      .def("nearest_multiplicative", &nearest_multiplicative, py::arg("positive"), py::arg("negative"), py::kw_only(),
           py::arg("topn"), py::arg("begin"), py::arg("end"), py::arg("excluded") = std::vector<int64_t>{},
           "As convec._core.nearest_multiplicative.");
}

}  // namespace convec::python
