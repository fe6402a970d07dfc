// convec.ops.activation, softmax, dropout, rescale and their gradients.
#include <pybind11/pybind11.h>

#include <convec/ops/activation.hpp>

#include "array.hpp"
#include "bindings.hpp"
#include "device_array.hpp"
#include "gil.hpp"

namespace convec::python {

namespace {

// Calls run(input, output) on an array and one of the same shape.
template <typename Run>
py::array elementwise(const py::object& input, const py::object& out, Run&& run) {
  const Array x = to_array(input, "input");
  const ConstTensorView x_view = view(x, "input");
  Array y = output(out, x_view.shape, x);
  const TensorView y_view = mutable_view(y, "out");
  {
    const ReleaseGil release;
    run(x.context(), x_view, y_view);
  }
  return y.object();
}

// Calls run(grad_output, other, grad_input); `name` is the other's.
template <typename Run>
py::array gradient(const py::object& grad_output, const py::object& other, const char* name, const py::object& out,
                   Run&& run) {
  const Array g = to_array(grad_output, "grad_output");
  const Array x = to_array(other, name);
  const ConstTensorView g_view = view(g, "grad_output");
  const ConstTensorView x_view = view(x, name);
  Array dx = output(out, x_view.shape, g);
  const TensorView dx_view = mutable_view(dx, "out");
  {
    const ReleaseGil release;
    run(g.context(), g_view, x_view, dx_view);
  }
  return dx.object();
}

py::array activation(const py::object& input, const char* name, const py::object& out) {
  const Activation function = parse_activation(name);
  return elementwise(input, out, [=](const Context& context, const ConstTensorView& x, const TensorView& y) {
    activation_forward(context, function, x, y);
  });
}

py::array activation_backward_(const py::object& grad_output, const py::object& input, const char* name,
                               const py::object& out) {
  const Activation function = parse_activation(name);
  return gradient(grad_output, input, "input", out,
                  [=](const Context& context, const ConstTensorView& g, const ConstTensorView& x,
                      const TensorView& dx) { activation_backward(context, function, g, x, dx); });
}

py::array softmax(const py::object& input, const py::object& out) {
  return elementwise(input, out, [](const Context& context, const ConstTensorView& x, const TensorView& y) {
    softmax_forward(context, x, y);
  });
}

py::array softmax_backward_(const py::object& grad_output, const py::object& output, const py::object& out) {
  return gradient(grad_output, output, "output", out,
                  [](const Context& context, const ConstTensorView& g, const ConstTensorView& y, const TensorView& dx) {
                    softmax_backward(context, g, y, dx);
                  });
}

py::array dropout_(const py::object& input, float rate, std::uint64_t seed, std::uint64_t offset,
                   const py::object& out) {
  return elementwise(input, out, [=](const Context& context, const ConstTensorView& x, const TensorView& y) {
    dropout(context, rate, seed, offset, x, y);
  });
}

py::array rescale_(const py::object& input, float scale, float offset, const py::object& out) {
  return elementwise(input, out, [=](const Context& context, const ConstTensorView& x, const TensorView& y) {
    rescale(context, scale, offset, x, y);
  });
}

}  // namespace

void register_activation(py::module_& module) {
  module.def("activation", &activation, py::arg("input"), py::arg("name"), py::arg("out"));
  module.def("activation_backward", &activation_backward_, py::arg("grad_output"), py::arg("input"), py::arg("name"),
             py::arg("out"));
  module.def("softmax", &softmax, py::arg("input"), py::arg("out"));
  module.def("softmax_backward", &softmax_backward_, py::arg("grad_output"), py::arg("output"), py::arg("out"));
  module.def("dropout", &dropout_, py::arg("input"), py::arg("rate"), py::arg("seed"), py::arg("offset"),
             py::arg("out"));
  module.def("rescale", &rescale_, py::arg("input"), py::arg("scale"), py::arg("offset"), py::arg("out"));
}

}  // namespace convec::python
