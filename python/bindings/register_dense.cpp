// convec.ops.dense and its gradients.
#include <pybind11/pybind11.h>

#include <convec/ops/dense.hpp>

#include "array.hpp"
#include "bindings.hpp"
#include "device_array.hpp"
#include "gil.hpp"

namespace convec::python {

namespace {

// The extent of an axis of a matrix; other ranks are refused by the op, with a message about the argument.
std::int64_t extent(const ConstTensorView& matrix, int axis) {
  return matrix.shape.rank() == 2 ? matrix.shape[axis] : 0;
}

py::array dense(const py::object& input, const py::object& weights, const py::object& bias, const char* activation,
                const py::object& out) {
  const Activation fused = parse_activation(activation);
  const Array x = to_array(input, "input");
  const Array w = to_array(weights, "weights");
  Array b;
  const ConstTensorView x_view = view(x, "input");
  const ConstTensorView w_view = view(w, "weights");
  const ConstTensorView b_view = optional_view(bias, "bias", b);
  Array y = product(out, {extent(x_view, 0), extent(w_view, 1)}, x);
  const TensorView y_view = mutable_view(y, "out");
  {
    const ReleaseGil release;
    dense_forward(x.context(), x_view, w_view, b_view, fused, y_view);
  }
  return y.object();
}

py::array dense_backward_input_(const py::object& grad_output, const py::object& weights, const py::object& out) {
  const Array g = to_array(grad_output, "grad_output");
  const Array w = to_array(weights, "weights");
  const ConstTensorView g_view = view(g, "grad_output");
  const ConstTensorView w_view = view(w, "weights");
  Array dx = product(out, {extent(g_view, 0), extent(w_view, 0)}, g);
  const TensorView dx_view = mutable_view(dx, "out");
  {
    const ReleaseGil release;
    dense_backward_input(g.context(), g_view, w_view, dx_view);
  }
  return dx.object();
}

py::tuple dense_backward_weights_(const py::object& input, const py::object& grad_output) {
  const Array x = to_array(input, "input");
  const Array g = to_array(grad_output, "grad_output");
  const ConstTensorView x_view = view(x, "input");
  const ConstTensorView g_view = view(g, "grad_output");
  Array dw = empty({extent(x_view, 1), extent(g_view, 1)}, x);
  Array db = empty({extent(g_view, 1)}, x);
  const TensorView dw_view = mutable_view(dw, "grad_weights");
  const TensorView db_view = mutable_view(db, "grad_bias");
  {
    const ReleaseGil release;
    dense_backward_weights(x.context(), x_view, g_view, dw_view, db_view);
  }
  return py::make_tuple(dw.object(), db.object());
}

}  // namespace

void register_dense(py::module_& module) {
  module.def("dense", &dense, py::arg("input"), py::arg("weights"), py::arg("bias"), py::arg("activation"),
             py::arg("out"));
  module.def("dense_backward_input", &dense_backward_input_, py::arg("grad_output"), py::arg("weights"),
             py::arg("out"));
  module.def("dense_backward_weights", &dense_backward_weights_, py::arg("input"), py::arg("grad_output"));
}

}  // namespace convec::python
