// Version, processor and threads.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <convec/context.hpp>
#include <convec/cpu_features.hpp>
#include <convec/version.hpp>

#include "bindings.hpp"

namespace convec::python {

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
      "available_isas",
      [] {
        std::vector<std::string> names;
        for (const IsaLevel level : available_isas()) names.emplace_back(name_of(level));
        return names;
      },
      "Levels that can be chosen here, lowest first.");
}

}  // namespace convec::python
