// CUDA devices: the backend that convec._cuda hands over, and memory of a device.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>

#include <convec/error.hpp>

#include "array.hpp"
#include "backend.hpp"
#include "bindings.hpp"
#include "device_array.hpp"
#include "gil.hpp"

namespace convec::python {

namespace {

// Owns memory of a device.
class DeviceMemory {
 public:
  DeviceMemory(int index, std::size_t bytes)
      : device_{DeviceType::cuda, index}, bytes_(bytes), data_(backend(device_).allocate(device_, bytes)) {}
  ~DeviceMemory() {
    Backend* const owner = find_backend(device_.type);
    if (owner != nullptr) owner->release(device_, data_);
  }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  std::uintptr_t address() const noexcept { return reinterpret_cast<std::uintptr_t>(data_); }
  std::size_t bytes() const noexcept { return bytes_; }

  void copy_in(const py::array& host, std::size_t offset) {
    check(host, offset);
    const Context context{device_, nullptr};
    const ReleaseGil release;
    backend(device_).copy_in(context, static_cast<std::byte*>(data_) + offset, host.data(),
                             static_cast<std::size_t>(host.nbytes()));
    backend(device_).wait(context);
  }

  void copy_out(py::array& host, std::size_t offset) const {
    check(host, offset);
    void* to = host.mutable_data();
    const Context context{device_, nullptr};
    const ReleaseGil release;
    backend(device_).copy_out(context, to, static_cast<const std::byte*>(data_) + offset,
                              static_cast<std::size_t>(host.nbytes()));
    backend(device_).wait(context);
  }

 private:
  void check(const py::array& host, std::size_t offset) const {
    static_cast<void>(view(host, "host"));
    const auto size = static_cast<std::size_t>(host.nbytes());
    if (offset > bytes_ || size > bytes_ - offset)
      throw ShapeError("host holds " + std::to_string(size) + " bytes, which do not fit at byte " +
                       std::to_string(offset) + " of " + std::to_string(bytes_));
  }

  Device device_;
  std::size_t bytes_;
  void* data_;
};

}  // namespace

void register_device(py::module_& module) {
  module.def(
      "set_cuda_backend",
      [](const py::object& capsule) {
        set_backend(capsule.is_none() ? nullptr : py::cast<py::capsule>(capsule).get_pointer<Backend>());
      },
      py::arg("capsule"), "Takes over the backend of convec._cuda; None takes it away.");
  module.def(
      "has_cuda_backend", [] { return find_backend(DeviceType::cuda) != nullptr; },
      "Whether a CUDA backend was taken over.");
  module.def(
      "free_device_memory",
      [](int index) {
        const Device device{DeviceType::cuda, index};
        return backend(device).free_memory(device);
      },
      py::arg("index"), "Bytes of a CUDA device's memory that are free.");
  module.def(
      "cuda_array",
      [](const py::object& object, const std::string& name) -> py::object {
        const Array array = to_array(object, name.c_str());
        if (!array.on_device()) return py::none();
        const ConstTensorView found = view(array, name.c_str());
        return py::make_tuple(array.object(), reinterpret_cast<std::uintptr_t>(found.data), name_of(found.dtype),
                              to_tuple(found.shape), found.device.index,
                              reinterpret_cast<std::uintptr_t>(array.context().stream));
      },
      py::arg("object"), py::arg("name"),
      "What convec._cuda asks of a C-contiguous array on a CUDA device: who keeps it alive, its address, dtype, shape "
      "and device, and the stream that waits for what has made it. None: it is not on one.");
  py::class_<DeviceMemory>(module, "DeviceMemory", "Memory of a CUDA device, zeroed.")
      .def(py::init<int, std::size_t>(), py::arg("index"), py::arg("bytes"))
      .def_property_readonly("address", &DeviceMemory::address)
      .def_property_readonly("bytes", &DeviceMemory::bytes)
      .def("copy_in", &DeviceMemory::copy_in, py::arg("host"), py::arg("offset") = 0, "Copies an array into it.")
      .def("copy_out", &DeviceMemory::copy_out, py::arg("host"), py::arg("offset") = 0,
           "Fills an array from it, when all work of the default stream is done.");
}

}  // namespace convec::python
