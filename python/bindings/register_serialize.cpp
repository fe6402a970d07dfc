// Arrays in safetensors files.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <convec/error.hpp>
#include <convec/serialize.hpp>

#include "array.hpp"
#include "bindings.hpp"
#include "files.hpp"
#include "gil.hpp"

namespace convec::python {

std::string to_path(const py::object& path) {
  return py::module_::import("os").attr("fsencode")(path).cast<std::string>();
}

void check_signals(std::uint64_t, std::uint64_t) {
  const AcquireGil acquire;
  if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

namespace {

// NumPy's element type for the same bytes; null for those it has none for.
const char* numpy_name(StoredType type) {
  switch (type) {
    case StoredType::boolean:
      return "bool";
    case StoredType::uint8:
      return "u1";
    case StoredType::int8:
      return "i1";
    case StoredType::uint16:
      return "u2";
    case StoredType::int16:
      return "i2";
    case StoredType::float16:
      return "f2";
    case StoredType::uint32:
      return "u4";
    case StoredType::int32:
      return "i4";
    case StoredType::float32:
      return "f4";
    case StoredType::uint64:
      return "u8";
    case StoredType::int64:
      return "i8";
    case StoredType::float64:
      return "f8";
    case StoredType::complex64:
      return "c8";
    default:
      return nullptr;
  }
}

// An array to write, as it lies in memory where its rows are contiguous, else a contiguous copy. `kept` keeps it alive.
NamedTensor to_tensor(const std::string& name, const py::object& object, std::vector<py::array>& kept) {
  py::array array = as_array(object, name.c_str());
  std::int64_t row_stride = 0;
  const auto contiguous = [](const py::array& a) { return (a.flags() & py::array::c_style) != 0; };
  if (!contiguous(array) && array.ndim() > 0 && array.shape(0) > 1 && array.size() > 0) {
    const auto row = py::reinterpret_steal<py::array>(PySequence_GetItem(array.ptr(), 0));
    const py::ssize_t stride = array.strides(0);
    if (array.ndim() > 1 && contiguous(row) && stride >= row.nbytes() && stride % array.itemsize() == 0)
      row_stride = stride / array.itemsize();
  }
  if (row_stride != 0) {
    // A view needs contiguous memory: that of the first row, with the shape of all.
    const auto row = py::reinterpret_steal<py::array>(PySequence_GetItem(array.ptr(), 0));
    ConstTensorView rows = view(row, name.c_str());
    rows.shape = rows.shape.with_batch(array.shape(0));
    kept.push_back(array);
    return {name, rows, row_stride};
  }
  if ((array.flags() & (py::array::c_style | py::detail::npy_api::NPY_ARRAY_ALIGNED_)) !=
      (py::array::c_style | py::detail::npy_api::NPY_ARRAY_ALIGNED_))
    array =
        py::array(py::module_::import("numpy").attr("array")(array, py::arg("order") = "C", py::arg("copy") = true));
  kept.push_back(array);
  return {name, view(array, name.c_str()), 0};
}

void save(const py::object& path, const py::dict& tensors, const FileMetadata& metadata, bool sync) {
  const std::string file = to_path(path);
  std::vector<py::array> kept;
  std::vector<NamedTensor> named;
  // A copy: to_tensor() may run Python's code, and other threads run, too.
  const auto held = py::reinterpret_steal<py::dict>(PyDict_Copy(tensors.ptr()));
  for (const auto& [key, value] : held) {
    if (!py::isinstance<py::str>(key))
      throw DTypeError("tensors has the key " + std::string(py::repr(key)) + ", but names must be str");
    named.push_back(to_tensor(key.cast<std::string>(), py::reinterpret_borrow<py::object>(value), kept));
  }
  SaveOptions options;
  options.sync = sync;
  options.progress = check_signals;
  const ReleaseGil release;
  save_safetensors(file, named, metadata, options);
}

py::capsule keep(std::shared_ptr<const void> owner) {
  return {new std::shared_ptr<const void>(std::move(owner)),
          [](void* pointer) { delete static_cast<std::shared_ptr<const void>*>(pointer); }};
}

std::vector<py::ssize_t> extents(const StoredTensor& tensor) { return {tensor.shape.begin(), tensor.shape.end()}; }

py::array copied(const SafetensorsFile& file, const StoredTensor& tensor) {
  // NumPy has no bfloat16.
  const bool widen = tensor.type == StoredType::bfloat16;
  const char* const name = widen ? "f4" : numpy_name(tensor.type);
  if (name == nullptr)
    throw DTypeError("'" + tensor.name + "' holds " + name_of(tensor.type) + ", which NumPy has no arrays of");
  py::array array(py::dtype(name), extents(tensor));
  void* const memory = array.mutable_data();
  const ReleaseGil release;
  if (widen)
    file.read(tensor, TensorView(static_cast<float*>(memory), tensor.shape));
  else
    file.read_bytes(tensor, memory);
  return array;
}

py::dict arrays_of(const SafetensorsFile& file, bool copy) {
  py::dict arrays;
  py::object owner;
  for (const StoredTensor& tensor : file.tensors()) {
    const char* const name = numpy_name(tensor.type);
    if (copy || name == nullptr) {
      if (PyErr_CheckSignals() != 0) throw py::error_already_set();
      arrays[py::str(tensor.name)] = copied(file, tensor);
      continue;
    }
    if (!owner) owner = keep(file.owner());
    py::array array(py::dtype(name), extents(tensor), file.data(tensor), owner);
    array.attr("setflags")(py::arg("write") = false);
    arrays[py::str(tensor.name)] = array;
  }
  return arrays;
}

py::tuple load(const py::object& path, bool mmap) {
  const std::string name = to_path(path);
  const SafetensorsFile file = [&] {
    const ReleaseGil release;
    return SafetensorsFile(name, mmap ? FileAccess::map : FileAccess::read);
  }();
  return py::make_tuple(arrays_of(file, !mmap), file.metadata());
}

py::tuple parse(const py::bytes& data) {
  char* bytes = nullptr;
  py::ssize_t size = 0;
  if (PyBytes_AsStringAndSize(data.ptr(), &bytes, &size) != 0) throw py::error_already_set();
  // The arrays are copies, so nothing outlives the call.
  const SafetensorsFile file(std::shared_ptr<const void>(bytes, [](const void*) {}), static_cast<std::size_t>(size));
  return py::make_tuple(arrays_of(file, true), file.metadata());
}

py::tuple describe(const py::object& path) {
  const SafetensorsFile file(to_path(path), FileAccess::read);
  py::dict tensors;
  for (const StoredTensor& tensor : file.tensors())
    tensors[py::str(tensor.name)] = py::make_tuple(name_of(tensor.type), to_tuple(tensor.shape));
  return py::make_tuple(tensors, file.metadata());
}

}  // namespace

void register_serialize(py::module_& module) {
  module.def("safetensors_save", &save, py::arg("path"), py::arg("tensors"),
             py::arg_v("metadata", FileMetadata{}, "{}"), py::kw_only(), py::arg("sync") = true,
             "Writes a dict of arrays and metadata (str to str). The file is complete or absent; rows that are further "
             "apart than they are long are written without a copy.");
  module.def("safetensors_load", &load, py::arg("path"), py::kw_only(), py::arg("mmap") = true,
             "(arrays, metadata) of a file. With mmap the arrays are read-only views of the mapped file; else copies. "
             "BF16 becomes float32.");
  module.def("safetensors_parse", &parse, py::arg("data"), "(arrays, metadata) of a file's bytes; arrays are copies.");
  module.def("safetensors_describe", &describe, py::arg("path"),
             "({name: (type, shape)}, metadata) of a file, of which only the header is read.");
}

}  // namespace convec::python
