// Random arrays for the initializers.
#include <pybind11/pybind11.h>

#include <convec/random.hpp>

#include "array.hpp"
#include "bindings.hpp"
#include "gil.hpp"

namespace convec::python {

namespace {

using Fill = void (*)(TensorView, float, float, std::uint64_t);

template <Fill fill>
py::array random(const py::sequence& shape, float first, float second, std::uint64_t seed) {
  py::array array = empty(to_shape(shape, "shape"));
  const TensorView array_view = mutable_view(array, "array");
  {
    const ReleaseGil release;
    fill(array_view, first, second, seed);
  }
  return array;
}

}  // namespace

void register_random(py::module_& module) {
  module.def("random_uniform", &random<fill_uniform>, py::arg("shape"), py::arg("low"), py::arg("high"),
             py::arg("seed"), "A float32 array of numbers uniform in [low, high).");
  module.def("random_normal", &random<fill_normal>, py::arg("shape"), py::arg("mean"), py::arg("stddev"),
             py::arg("seed"), "A float32 array of normally distributed numbers.");
  module.def("random_truncated_normal", &random<fill_truncated_normal>, py::arg("shape"), py::arg("mean"),
             py::arg("stddev"), py::arg("seed"),
             "A float32 array of normally distributed numbers within two standard deviations of the mean.");
}

}  // namespace convec::python
