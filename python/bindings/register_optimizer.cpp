// convec.ops.optimizer_step, optimizer_slot_count and sum_of_squares.
#include <pybind11/pybind11.h>

#include <string>
#include <vector>

#include <convec/error.hpp>
#include <convec/ops/optimizer.hpp>

#include "array.hpp"
#include "bindings.hpp"
#include "device_array.hpp"
#include "gil.hpp"
#include "options.hpp"

namespace convec::python {

namespace {

void optimizer_step_(const char* optimizer, const py::object& parameter, const py::object& gradient,
                     const py::sequence& slots, std::int64_t iteration, const py::dict& settings,
                     float gradient_scale) {
  const OptimizerOptions options = parse_optimizer_options(optimizer, settings);
  const auto wanted = static_cast<std::size_t>(optimizer_slot_count(options));
  if (slots.size() != wanted)
    throw ShapeError("slots has " + std::to_string(slots.size()) + " arrays, but " + optimizer +
                     " with these settings keeps " + std::to_string(wanted) + "; see optimizer_slot_count");
  Array p = to_array(parameter, "parameter");
  const Array g = to_array(gradient, "gradient");
  const TensorView p_view = mutable_view(p, "parameter");
  const ConstTensorView g_view = view(g, "gradient");
  std::vector<Array> holders;
  std::vector<TensorView> slot_views;
  for (std::size_t slot = 0; slot < wanted; ++slot) {
    const std::string name = "slots[" + std::to_string(slot) + "]";
    holders.push_back(to_array(slots[slot], name.c_str()));
    slot_views.push_back(mutable_view(holders.back(), name.c_str()));
  }
  const ReleaseGil release;
  optimizer_step(p.context(), options, iteration, p_view, g_view, slot_views.data(), gradient_scale);
}

double sum_of_squares_(const py::object& array) {
  const Array a = to_array(array, "array");
  const ConstTensorView a_view = view(a, "array");
  const ReleaseGil release;
  return sum_of_squares(a.context(), a_view);
}

}  // namespace

void register_optimizer(py::module_& module) {
  module.def("optimizer_step", &optimizer_step_, py::arg("optimizer"), py::arg("parameter"), py::arg("gradient"),
             py::arg("slots"), py::arg("iteration"), py::arg("settings"), py::arg("gradient_scale"));
  module.def(
      "optimizer_slot_count",
      [](const char* optimizer, const py::dict& settings) {
        return optimizer_slot_count(parse_optimizer_options(optimizer, settings));
      },
      py::arg("optimizer"), py::arg("settings"));
  module.def("sum_of_squares", &sum_of_squares_, py::arg("array"));
}

}  // namespace convec::python
