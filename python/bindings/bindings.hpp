// The register functions of the extension module, one a domain.
#pragma once

#include <pybind11/pybind11.h>

namespace convec::python {

void register_system(pybind11::module_& module);
void register_conv2d(pybind11::module_& module);

}  // namespace convec::python
