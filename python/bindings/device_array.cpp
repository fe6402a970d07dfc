#include "device_array.hpp"

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include <convec/error.hpp>

#include "array.hpp"
#include "backend.hpp"

namespace convec::python {

namespace {

// DLPack's device types.
constexpr int dlpack_cuda = 2;
constexpr int dlpack_cuda_managed = 13;

// An empty array has no address, but an absent one is told by that.
void* const address_of_nothing = reinterpret_cast<void*>(std::uintptr_t{256});

py::module_ device_module() { return py::module_::import("convec._device"); }

DType dtype_of(const std::string& type, const char* name) {
  if (type == "<f4") return DType::float32;
  if (type == "<f8") return DType::float64;
  if (type == "<i4") return DType::int32;
  if (type == "<i8") return DType::int64;
  if (type == "|u1") return DType::uint8;
  if (type == "<V2") return DType::bfloat16;  // so do ml_dtypes, CuPy and torch call it
  throw DTypeError(std::string(name) + " has the element type '" + type +
                   "', which convec does not handle; convert it, e.g. " + name + ".astype('float32')");
}

bool c_contiguous(const Shape& shape, const py::object& strides, std::size_t item) {
  if (strides.is_none() || shape.size() == 0) return true;
  const auto steps = py::reinterpret_borrow<py::sequence>(strides);
  auto expected = static_cast<std::int64_t>(item);
  for (int axis = shape.rank() - 1; axis >= 0; --axis) {
    if (shape[axis] != 1 && steps[static_cast<std::size_t>(axis)].cast<std::int64_t>() != expected) return false;
    expected *= shape[axis];
  }
  return true;
}

bool on_cuda_by_dlpack(py::handle object) {
  if (!py::hasattr(object, "__dlpack_device__")) return false;
  const auto device = py::reinterpret_borrow<py::tuple>(object.attr("__dlpack_device__")());
  const int type = py::int_(device[0]);
  return type == dlpack_cuda || type == dlpack_cuda_managed;
}

}  // namespace

namespace {

std::atomic<MatmulPrecision>& chosen_matmul_precision() {
  static std::atomic<MatmulPrecision> chosen{[] {
    const char* text = std::getenv("CONVEC_MATMUL_PRECISION");
    try {
      return text == nullptr || *text == '\0' ? MatmulPrecision::float32 : parse_matmul_precision(text);
    } catch (const ValueError& error) {
      throw ValueError("the environment variable CONVEC_MATMUL_PRECISION: " + std::string(error.what()));
    }
  }()};
  return chosen;
}

}  // namespace

MatmulPrecision matmul_precision() { return chosen_matmul_precision().load(std::memory_order_relaxed); }
void set_matmul_precision(MatmulPrecision chosen) {
  chosen_matmul_precision().store(chosen, std::memory_order_relaxed);
}

Array to_array(py::handle object, const char* name) {
  if (py::isinstance<py::array>(object)) return Array(py::reinterpret_borrow<py::array>(object));
  py::object owner = py::reinterpret_borrow<py::object>(object);
  if (!py::hasattr(owner, "__cuda_array_interface__")) {
    if (!on_cuda_by_dlpack(object)) return Array(as_array(object, name));
    owner = device_module().attr("from_dlpack")(object);
  }
  device_module().attr("load_cuda")();
  const auto interface = py::reinterpret_borrow<py::dict>(owner.attr("__cuda_array_interface__"));
  Array array;
  const auto data = py::reinterpret_borrow<py::tuple>(interface["data"]);
  const auto address = reinterpret_cast<void*>(data[0].cast<std::uintptr_t>());
  array.read_only_ = data[1].cast<bool>();
  const DType dtype = dtype_of(interface["typestr"].cast<std::string>(), name);
  const Shape shape = to_shape(py::reinterpret_borrow<py::sequence>(interface["shape"]), name);
  array.device_ = shape.size() == 0 ? Device{DeviceType::cuda, device_module().attr("index_of")(owner).cast<int>()}
                                    : backend({DeviceType::cuda, 0}).device_of(address);
  array.view_ = {address == nullptr ? address_of_nothing : address, dtype, shape, array.device_};
  if (interface.contains("strides")) array.contiguous_ = c_contiguous(shape, interface["strides"], size_of(dtype));
  array.stream_ =
      reinterpret_cast<void*>(device_module().attr("current_stream")(array.device_.index).cast<std::uintptr_t>());
  if (interface.contains("stream") && !interface["stream"].is_none()) {
    // 1 is the default stream by another name; 0 is not allowed, because it is ambiguous.
    const auto number = interface["stream"].cast<std::uintptr_t>();
    backend(array.device_).wait_for(array.context(), reinterpret_cast<void*>(number == 1 ? 0 : number));
  }
  array.object_ = std::move(owner);
  return array;
}

ConstTensorView view(const Array& array, const char* name) {
  if (!array.on_device()) return view(array.object(), name);
  if (!array.contiguous_)
    throw ShapeError(std::string(name) +
                     " is not C-contiguous (its strides do not match its shape); pass cupy.ascontiguousarray(" + name +
                     ")");
  return array.view_;
}

TensorView mutable_view(Array& array, const char* name) {
  if (!array.on_device()) {
    py::array host = array.object();
    return mutable_view(host, name);
  }
  if (array.read_only_)
    throw ValueError(std::string(name) + " is read-only, but would be written to; pass a writable copy, e.g. " + name +
                     ".copy()");
  const ConstTensorView read = view(array, name);
  return {const_cast<void*>(read.data), read.dtype, read.shape, read.device};
}

ConstTensorView optional_view(py::handle object, const char* name, Array& holder) {
  if (object.is_none()) return {};
  holder = to_array(object, name);
  return view(holder, name);
}

Array empty(const Shape& shape, const Array& like, DType dtype) {
  if (!like.on_device()) return Array(empty(shape));
  static_cast<void>(shape.size());  // refuses what would overflow
  return to_array(device_module().attr("empty")(to_tuple(shape), like.device().index, name_of(dtype)), "out");
}

Array output(const py::object& out, const Shape& shape, const Array& like, const char* name) {
  return out.is_none() ? empty(shape, like) : to_array(out, name);
}

Array product(const py::object& out, const Shape& shape, const Array& like) {
  if (!out.is_none()) return to_array(out, "out");
  if (view(like, "out").dtype != DType::bfloat16) return empty(shape, like);
  if (like.on_device()) return empty(shape, like, DType::bfloat16);
  static_cast<void>(shape.size());  // refuses what would overflow
  return Array(py::array(like.object().dtype(), std::vector<py::ssize_t>(shape.begin(), shape.end())));
}

}  // namespace convec::python
