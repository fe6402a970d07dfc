// NumPy arrays and whatever can be seen as one (DLPack, the buffer protocol), as views. Never copies: what does not
// fit is refused with a message that says how to mend it.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <convec/ops/window.hpp>
#include <convec/tensor.hpp>

namespace convec::python {

namespace py = pybind11;

// The array behind `object`: itself, or a zero-copy NumPy view of an object with __dlpack__ or a buffer.
// Throws DTypeError for anything else (lists, scalars, None).
py::array as_array(py::handle object, const char* name);

// Views of a C-contiguous array. `name` is the argument's name for messages. The caller keeps the array alive.
// Throws ShapeError for an array that is not C-contiguous or not aligned, DTypeError for element types convec has not.
ConstTensorView view(const py::array& array, const char* name);

// As view(), and throws ValueError for a read-only array.
TensorView mutable_view(py::array& array, const char* name);

// A new float32 array of the shape, uninitialised. A large one begins at a cache line, in memory that another array
// owns.
py::array_t<float> empty(const Shape& shape);

// `out` where given (its shape is checked by the op), else a new array.
py::array output(const py::object& out, const Shape& shape, const char* name = "out");

// A view of an argument that may be None (absent). `holder` keeps the array alive.
ConstTensorView optional_view(py::handle object, const char* name, py::array& holder);

// Sizes from an int or a pair of ints. Throws DTypeError for anything else.
Size2d parse_size(py::handle object, const char* name);

// 'valid', 'same' or ((top, bottom), (left, right)).
Padding parse_padding(py::handle object);

py::tuple to_tuple(const Shape& shape);
Shape to_shape(const py::sequence& extents, const char* name);

}  // namespace convec::python
