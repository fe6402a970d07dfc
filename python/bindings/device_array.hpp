// Arrays of NumPy or of a CUDA device, for ops that run where their arguments are.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <convec/context.hpp>
#include <convec/tensor.hpp>

namespace convec::python {

namespace py = pybind11;

// What ops on a device's arrays and new models multiply in: as set, at first by the environment variable
// CONVEC_MATMUL_PRECISION, else float32. Throws ValueError where that names none.
MatmulPrecision matmul_precision();
void set_matmul_precision(MatmulPrecision chosen);

// An array and who keeps it alive. On a device: what has `__cuda_array_interface__` (CuPy, torch, JAX, Numba), or is
// on a CUDA device by `__dlpack_device__` (through CuPy).
class Array {
 public:
  Array() = default;
  explicit Array(py::array array) : object_(std::move(array)) {}

  bool on_device() const noexcept { return device_.type != DeviceType::cpu; }
  Device device() const noexcept { return device_; }
  // Where an op on this array runs: on a device, on CuPy's current stream.
  Context context() const { return {device_, stream_, on_device() ? matmul_precision() : MatmulPrecision::float32}; }
  // The object for Python. It is typed as NumPy's whatever it is.
  py::array object() const { return py::reinterpret_borrow<py::array>(object_); }

 private:
  friend Array to_array(py::handle object, const char* name);
  friend ConstTensorView view(const Array& array, const char* name);
  friend TensorView mutable_view(Array& array, const char* name);

  py::object object_;
  Device device_;
  void* stream_ = nullptr;
  // Of a device's array.
  ConstTensorView view_;
  bool contiguous_ = true;
  bool read_only_ = false;
};

// As as_array(), on any device. The current stream waits for what the array's producer has launched.
// Throws DeviceError where the array is on a device and CUDA cannot be used; the message says why.
Array to_array(py::handle object, const char* name);

// As the functions of the same names for NumPy arrays.
ConstTensorView view(const Array& array, const char* name);
TensorView mutable_view(Array& array, const char* name);
ConstTensorView optional_view(py::handle object, const char* name, Array& holder);

// A new array of the shape on the device of `like`, uninitialised: NumPy's, which is float32, or CuPy's.
Array empty(const Shape& shape, const Array& like, DType dtype = DType::float32);
// `out` where given (its shape is checked by the op), else a new array on the device of `like`.
Array output(const py::object& out, const Shape& shape, const Array& like, const char* name = "out");
// The same for ops that multiply bfloat16 arrays too: a new array is bfloat16 where `like` is.
Array product(const py::object& out, const Shape& shape, const Array& like);

}  // namespace convec::python
