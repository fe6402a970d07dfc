// Nearest neighbours in the module convec._cuda.
#pragma once

#include <pybind11/pybind11.h>

namespace convec::python {

void register_cuda_vectors(pybind11::module_& module);

}  // namespace convec::python
