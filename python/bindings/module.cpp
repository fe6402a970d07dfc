// The extension module convec._core.
#include <pybind11/pybind11.h>

#include <convec/error.hpp>

#include "bindings.hpp"
#include "gil.hpp"

namespace py = pybind11;

namespace {

void translate(std::exception_ptr error) {
  try {
    std::rethrow_exception(error);
  } catch (const convec::DTypeError& e) {
    PyErr_SetString(PyExc_TypeError, e.what());
  } catch (const convec::ShapeError& e) {
    PyErr_SetString(PyExc_ValueError, e.what());
  } catch (const convec::ValueError& e) {
    PyErr_SetString(PyExc_ValueError, e.what());
  } catch (const convec::EofError& e) {
    PyErr_SetString(PyExc_EOFError, e.what());
  } catch (const convec::IoError& e) {
    // With a code, Python chooses the subclass: FileNotFoundError, PermissionError, ...
    const py::object arguments =
        e.code() == 0 ? py::object(py::make_tuple(e.what())) : py::make_tuple(e.code(), e.what());
    PyErr_SetObject(PyExc_OSError, arguments.ptr());
  } catch (const convec::Error& e) {
    PyErr_SetString(PyExc_RuntimeError, e.what());
  }
}

}  // namespace

// What the interpreter's lock would protect is protected by InUse, locks and atomic numbers.
PYBIND11_MODULE(_core, module, py::mod_gil_not_used()) {
  module.doc() = "convec's compiled core. Use the modules of the package convec instead.";
  py::register_exception_translator(translate);
  convec::python::watch_for_exit();
  convec::python::register_system(module);
  convec::python::register_device(module);
  convec::python::register_conv2d(module);
  convec::python::register_pool2d(module);
  convec::python::register_dense(module);
  convec::python::register_activation(module);
  convec::python::register_loss(module);
  convec::python::register_batch_norm(module);
  convec::python::register_optimizer(module);
  convec::python::register_random(module);
  convec::python::register_network(module);
  convec::python::register_corpus(module);
  convec::python::register_serialize(module);
  convec::python::register_word2vec(module);
  convec::python::register_vectors(module);
}
