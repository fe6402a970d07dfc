// The register functions of the extension module, one a domain.
#pragma once

#include <pybind11/pybind11.h>

namespace convec::python {

void register_system(pybind11::module_& module);
void register_device(pybind11::module_& module);
void register_conv2d(pybind11::module_& module);
void register_corpus(pybind11::module_& module);
void register_pool2d(pybind11::module_& module);
void register_dense(pybind11::module_& module);
void register_activation(pybind11::module_& module);
void register_loss(pybind11::module_& module);
void register_batch_norm(pybind11::module_& module);
void register_optimizer(pybind11::module_& module);
void register_random(pybind11::module_& module);
void register_network(pybind11::module_& module);
void register_serialize(pybind11::module_& module);
void register_word2vec(pybind11::module_& module);
void register_vectors(pybind11::module_& module);

}  // namespace convec::python
