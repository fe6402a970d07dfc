// Version, processor, threads, and which threads use a model.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <convec/context.hpp>
#include <convec/cpu_features.hpp>
#include <convec/version.hpp>

#include "bindings.hpp"
#include "device_array.hpp"
#include "in_use.hpp"

namespace convec::python {

namespace {

// What `with` holds: a thread uses an object within it.
class Use {
 public:
  Use(InUse& object, bool changes, std::string what) : object_(object), changes_(changes), what_(std::move(what)) {}
  void enter() { object_.enter(changes_, what_); }
  void leave() noexcept { object_.leave(changes_); }

 private:
  InUse& object_;
  bool changes_;
  std::string what_;
};

std::unique_ptr<Use> use(InUse& object, bool changes, std::string what) {
  return std::make_unique<Use>(object, changes, std::move(what));
}

}  // namespace

void register_system(pybind11::module_& module) {
  namespace py = pybind11;
  module.attr("__version__") = CONVEC_VERSION;
  module.def("num_threads", &num_threads, "Threads used by ops on the CPU.");
  module.def("set_num_threads", &set_num_threads, py::arg("threads"), "Sets the number of threads.");
  module.def("cpu_name", &cpu_name, "The processor's own name.");
  module.def("current_isa", [] { return std::string(name_of(current_isa())); }, "Instruction-set level in use.");
  module.def("detected_isa", [] { return std::string(name_of(detected_isa())); }, "Best level of this machine.");
  module.def(
      "set_isa", [](const std::string& name) { set_isa(parse_isa(name)); }, py::arg("name"),
      "Chooses an instruction-set level.");
  module.def("winograd", &winograd, "Whether 3 x 3 convolutions may run by Winograd's minimal filtering.");
  module.def("set_winograd", &set_winograd, py::arg("enabled"), "Allows or forbids Winograd's minimal filtering.");
  module.def(
      "matmul_precision", [] { return name_of(matmul_precision()); },
      R"(How exactly dense layers and convolutions multiply on a GPU, in new models and in convec.ops.

Returns:
    'float32', 'tf32', '3xtf32' or 'mixed_bfloat16'; at first that of the environment variable
    CONVEC_MATMUL_PRECISION, or 'float32'.

Raises:
    ValueError: CONVEC_MATMUL_PRECISION names none.)");
  module.def(
      "set_matmul_precision",
      [](const std::string& name) { set_matmul_precision(parse_matmul_precision(name.c_str())); }, py::arg("precision"),
      R"(Sets how exactly dense layers and convolutions multiply on a GPU, in models made from now on and in convec.ops.

Arrays, weights and sums stay float32, and all other ops compute in float32. It is a floor: the CPU, and GPUs before
compute capability 8.0, compute in float32 whatever is allowed here.

Args:
    precision: 'float32'; 'tf32': factors with a significand of 10 stored bits; '3xtf32': three products of TF32 in
        place of one, with float32's error; 'mixed_bfloat16': factors rounded to bfloat16 (7 stored bits).

Raises:
    ValueError: there is no such precision.)");
  module.def(
      "check_matmul_precision", [](const std::string& name) { return name_of(parse_matmul_precision(name.c_str())); },
      py::arg("precision"), "The name of a precision. Raises ValueError for another.");
  py::class_<Use>(module, "Use", "A thread uses a model while it is within `with`.")
      .def("__enter__", &Use::enter)
      .def(
          "__exit__", [](Use& self, const py::object&, const py::object&, const py::object&) { self.leave(); },
          py::arg("type"), py::arg("value"), py::arg("traceback"));
  py::class_<InUse>(module, "InUse", "Which threads use a model: several may look at it at once, or one may change it.")
      .def(py::init([] { return InUse("the model", "give each thread a copy of the model (copy.deepcopy(model))"); }))
      .def(
          "looking", [](InUse& self, std::string what) { return use(self, false, std::move(what)); }, py::arg("what"),
          py::keep_alive<0, 1>(), "To do `what` within `with`. Raises RuntimeError where another thread changes it.")
      .def(
          "changing", [](InUse& self, std::string what) { return use(self, true, std::move(what)); }, py::arg("what"),
          py::keep_alive<0, 1>(), "To do `what` within `with`. Raises RuntimeError where another thread uses it.");
  module.def(
      "available_isas",
      [] {
        std::vector<std::string> names;
        for (const IsaLevel level : available_isas()) names.emplace_back(name_of(level));
        return names;
      },
      "Levels that can be chosen here, lowest first.");
}

}  // namespace convec::python
