#include "array.hpp"

#include <string>

#include <convec/error.hpp>

namespace convec::python {

namespace {

std::string type_name(py::handle object) { return py::str(py::type::of(object).attr("__name__")); }

bool integer(py::handle object) { return PyIndex_Check(object.ptr()) != 0 && !PyBool_Check(object.ptr()); }

std::int64_t to_int64(py::handle object, const char* name) {
  const py::object index = py::reinterpret_steal<py::object>(PyNumber_Index(object.ptr()));
  if (!index) throw py::error_already_set();
  const long long value = PyLong_AsLongLong(index.ptr());
  if (value == -1 && PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    throw ValueError(std::string(name) + " is " + std::string(py::str(object)) + ", which does not fit 64 bits");
  }
  return value;
}

DType dtype_of(const py::array& array, const char* name) {
  const py::dtype dtype = array.dtype();
  const char kind = dtype.kind();
  const auto size = dtype.itemsize();
  if (dtype.byteorder() != '>') {
    if (kind == 'f' && size == 4) return DType::float32;
    if (kind == 'f' && size == 8) return DType::float64;
    if (kind == 'i' && size == 4) return DType::int32;
    if (kind == 'i' && size == 8) return DType::int64;
    if (kind == 'u' && size == 1) return DType::uint8;
    // Of ml_dtypes.
    if (kind == 'V' && size == 2 && std::string(py::str(dtype.attr("name"))) == "bfloat16") return DType::bfloat16;
  }
  throw DTypeError(std::string(name) + " has dtype " + std::string(py::str(dtype)) +
                   ", which convec does not handle; convert it, e.g. " + name + ".astype('float32')");
}

}  // namespace

py::array as_array(py::handle object, const char* name) {
  if (py::isinstance<py::array>(object)) return py::reinterpret_borrow<py::array>(object);
  const bool dlpack = py::hasattr(object, "__dlpack__");
  if (dlpack || PyObject_CheckBuffer(object.ptr()) != 0 || py::hasattr(object, "__array_interface__")) {
    const py::module_ numpy = py::module_::import("numpy");
    const py::object array = numpy.attr(dlpack ? "from_dlpack" : "asarray")(object);
    return py::reinterpret_borrow<py::array>(array);
  }
  throw DTypeError(std::string(name) + " is of type " + type_name(object) +
                   ", but must be an array (NumPy, DLPack or the buffer protocol); wrap it in "
                   "numpy.asarray(..., dtype='float32')");
}

ConstTensorView view(const py::array& array, const char* name) {
  const DType dtype = dtype_of(array, name);
  constexpr int wanted = py::array::c_style | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
  if ((array.flags() & wanted) != wanted)
    throw ShapeError(std::string(name) +
                     " is not C-contiguous (its strides do not match its shape); pass "
                     "numpy.ascontiguousarray(" +
                     name + ")");
  const auto rank = static_cast<std::size_t>(array.ndim());
  std::int64_t extents[Shape::max_rank] = {};
  for (std::size_t axis = 0; axis < rank && axis < Shape::max_rank; ++axis) extents[axis] = array.shape(axis);
  return {array.data(), dtype, rank <= Shape::max_rank ? Shape(extents, rank) : Shape(nullptr, rank), {}};
}

TensorView mutable_view(py::array& array, const char* name) {
  if (!array.writeable())
    throw ValueError(std::string(name) +
                     " is read-only, but would be written to; pass a writable copy, "
                     "e.g. " +
                     name + ".copy()");
  const ConstTensorView read = view(array, name);
  return {array.mutable_data(), read.dtype, read.shape, read.device};
}

py::array_t<float> empty(const Shape& shape) {
  constexpr std::int64_t line = 64;
  constexpr std::int64_t large = 4096;
  const std::vector<py::ssize_t> extents(shape.begin(), shape.end());
  const std::int64_t size = shape.size();  // refuses what would overflow
  if (size < large) return py::array_t<float>(extents);
  // NumPy's own memory begins at any multiple of 16 bytes, and vectors that lie across two cache lines cost a quarter
  // of the speed of a pointwise convolution.
  py::array_t<std::uint8_t> memory(size * static_cast<std::int64_t>(sizeof(float)) + line);
  std::uint8_t* const first = memory.mutable_data();
  const auto past = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(first) % line);
  return py::array_t<float>(extents, reinterpret_cast<float*>(first + (line - past) % line), memory);
}

py::array output(const py::object& out, const Shape& shape, const char* name) {
  if (out.is_none()) return empty(shape);
  return as_array(out, name);
}

ConstTensorView optional_view(py::handle object, const char* name, py::array& holder) {
  if (object.is_none()) return {};
  holder = as_array(object, name);
  return view(holder, name);
}

Size2d parse_size(py::handle object, const char* name) {
  if (integer(object)) {
    const std::int64_t value = to_int64(object, name);
    return {value, value};
  }
  if (PyTuple_Check(object.ptr()) != 0 || PyList_Check(object.ptr()) != 0) {
    const auto pair = py::reinterpret_borrow<py::sequence>(object);
    if (pair.size() == 2 && integer(pair[0]) && integer(pair[1]))
      return {to_int64(pair[0], name), to_int64(pair[1], name)};
  }
  throw DTypeError(std::string(name) + " is " + std::string(py::repr(object)) +
                   ", but must be an integer or a pair of integers");
}

Padding parse_padding(py::handle object) {
  if (py::isinstance<py::str>(object)) {
    const std::string text = py::str(object);
    if (text == "valid") return Padding::valid();
    if (text == "same") return Padding::same();
  } else if ((PyTuple_Check(object.ptr()) != 0 || PyList_Check(object.ptr()) != 0) && py::len(object) == 2) {
    const auto pair = py::reinterpret_borrow<py::sequence>(object);
    const Size2d rows = parse_size(pair[0], "padding");
    const Size2d columns = parse_size(pair[1], "padding");
    return Padding::pixels(rows.height, rows.width, columns.height, columns.width);
  }
  throw ValueError("padding is " + std::string(py::repr(object)) +
                   ", but must be 'valid', 'same' or ((top, bottom), (left, right))");
}

py::tuple to_tuple(const Shape& shape) {
  py::tuple tuple(static_cast<std::size_t>(shape.rank()));
  for (int axis = 0; axis < shape.rank(); ++axis) tuple[static_cast<std::size_t>(axis)] = shape[axis];
  return tuple;
}

Shape to_shape(const py::sequence& extents, const char* name) {
  std::vector<std::int64_t> values;
  for (const py::handle extent : extents) {
    if (!integer(extent))
      throw DTypeError(std::string(name) + " is " + std::string(py::repr(extents)) + ", but must hold integers only");
    values.push_back(to_int64(extent, name));
  }
  return {values.data(), values.size()};
}

}  // namespace convec::python
