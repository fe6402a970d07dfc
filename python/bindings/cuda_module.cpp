// The extension module convec._cuda: the CUDA backend, which convec._core takes over. Importing it needs no driver.
#include <pybind11/pybind11.h>

#include <cstdint>

#include <convec/error.hpp>

#include "cuda_backend.hpp"
#include "cuda_vectors.hpp"
#include "cuda_word2vec.hpp"
#include "gil.hpp"

namespace py = pybind11;

PYBIND11_MODULE(CONVEC_CUDA_MODULE, module) {
  module.doc() = "convec's CUDA backend. Use the modules of the package convec instead.";
  py::register_local_exception_translator([](std::exception_ptr error) {
    try {
      std::rethrow_exception(error);
    } catch (const convec::ShapeError& e) {
      PyErr_SetString(PyExc_ValueError, e.what());
    } catch (const convec::ValueError& e) {
      PyErr_SetString(PyExc_ValueError, e.what());
    } catch (const convec::DTypeError& e) {
      PyErr_SetString(PyExc_TypeError, e.what());
    } catch (const convec::Error& e) {
      PyErr_SetString(PyExc_RuntimeError, e.what());
    }
  });
  module.def(
      "status",
      [] {
        const convec::cuda::Status status = convec::cuda::status();
        py::dict dict;
        dict["devices"] = status.devices;
        dict["driver_version"] = status.driver_version;
        dict["runtime_version"] = status.runtime_version;
        dict["problem"] = status.problem;
        return dict;
      },
      "Number of devices, versions (13020 is 13.2; 0: none) and why no device can be used, or ''.");
  module.def(
      "device_info",
      [](int index) {
        const convec::DeviceInfo info = convec::cuda::the_backend().device_info(index);
        py::dict dict;
        dict["name"] = info.name;
        dict["compute_capability"] = py::make_tuple(info.major, info.minor);
        dict["multiprocessors"] = info.multiprocessors;
        dict["memory"] = info.memory;
        return dict;
      },
      py::arg("index"), "Name, compute capability, multiprocessors and bytes of memory of a device.");
  module.def("cublas_lt", &convec::cuda::cublas_lt_status,
             "Name and version of the cuBLASLt that dense layers use, or why there is none.");
  module.def("use_cublas_lt", &convec::cuda::use_cublas_lt, py::arg("use"),
             "Whether dense layers use it; returns whether they did.");
  module.def("add_cublas_lt", &convec::cuda::add_cublas_lt, py::arg("library"),
             "A file to look at where cuBLASLt's usual names lead nowhere.");
  module.def(
      "backend", [] { return py::capsule(&convec::cuda::the_backend(), "convec.Backend"); },
      "The backend, for convec._core.set_cuda_backend.");
  module.def(
      "synchronize",
      [](int device, std::uintptr_t stream) {
        const convec::python::ReleaseGil release;
        convec::cuda::the_backend().wait({{convec::DeviceType::cuda, device}, reinterpret_cast<void*>(stream)});
      },
      py::arg("device"), py::arg("stream"), "Returns when the stream at this address is done.");
  module.def("fuse_pooling", &convec::cuda::fuse_pooling, py::arg("enabled"),
             "Whether a convolution with a max pooling behind it is one kernel, for benchmarks and tests; returns what "
             "it was. Steps that were captured before stay as they are.");
  module.def("pipeline_products", &convec::cuda::pipeline_products, py::arg("enabled"),
             "Whether products on tensor cores have their tiles copied to shared memory asynchronously, for benchmarks "
             "and tests; returns what it was. Steps that were captured before stay as they are.");
  module.def(
      "use_warpgroups", &convec::cuda::use_warpgroups, py::arg("enabled"),
      "Whether products of bfloat16 arrays are multiplied by warpgroups (wgmma) on devices of compute capability "
      "9.0, for benchmarks and tests: at first they are not. Returns what it was.");
  convec::python::watch_for_exit();
  convec::python::register_cuda_vectors(module);
  convec::python::register_cuda_word2vec(module);
}
