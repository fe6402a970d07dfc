// convec.ops.conv2d and its gradients.
#include <pybind11/pybind11.h>

#include <convec/ops/conv2d.hpp>

#include "array.hpp"
#include "bindings.hpp"
#include "device_array.hpp"
#include "gil.hpp"

namespace convec::python {

namespace {

Conv2dOptions parse_options(py::handle strides, py::handle padding, py::handle dilation, std::int64_t groups) {
  Conv2dOptions options;
  options.strides = parse_size(strides, "strides");
  options.padding = parse_padding(padding);
  options.dilation = parse_size(dilation, "dilation");
  options.groups = groups;
  return options;
}

py::array conv2d(const py::object& input, const py::object& filters, const py::object& bias, const py::object& strides,
                 const py::object& padding, const py::object& dilation, std::int64_t groups, const char* activation,
                 const py::object& out) {
  const Conv2dOptions options = parse_options(strides, padding, dilation, groups);
  const Activation fused = parse_activation(activation);
  const Array x = to_array(input, "input");
  const Array w = to_array(filters, "filters");
  Array b;
  const ConstTensorView input_view = view(x, "input");
  const ConstTensorView filters_view = view(w, "filters");
  const ConstTensorView bias_view = optional_view(bias, "bias", b);
  Array y = product(out, conv2d_output_shape(input_view.shape, filters_view.shape, options), x);
  const TensorView output_view = mutable_view(y, "out");
  {
    const ReleaseGil release;
    conv2d_forward(x.context(), input_view, filters_view, bias_view, options, fused, output_view);
  }
  return y.object();
}

py::array conv2d_backward_input_(const py::object& grad_output, const py::object& filters,
                                 const py::sequence& input_shape, const py::object& strides, const py::object& padding,
                                 const py::object& dilation, std::int64_t groups, const py::object& out) {
  const Conv2dOptions options = parse_options(strides, padding, dilation, groups);
  const Array g = to_array(grad_output, "grad_output");
  const Array w = to_array(filters, "filters");
  const ConstTensorView g_view = view(g, "grad_output");
  const ConstTensorView w_view = view(w, "filters");
  Array dx = product(out, to_shape(input_shape, "input_shape"), g);
  const TensorView dx_view = mutable_view(dx, "out");
  {
    const ReleaseGil release;
    conv2d_backward_input(g.context(), g_view, w_view, options, dx_view);
  }
  return dx.object();
}

py::tuple conv2d_backward_filters_(const py::object& input, const py::object& grad_output,
                                   const py::object& kernel_size, const py::object& strides, const py::object& padding,
                                   const py::object& dilation, std::int64_t groups) {
  const Conv2dOptions options = parse_options(strides, padding, dilation, groups);
  const Size2d kernel = parse_size(kernel_size, "kernel_size");
  const Array x = to_array(input, "input");
  const Array g = to_array(grad_output, "grad_output");
  const ConstTensorView x_view = view(x, "input");
  const ConstTensorView g_view = view(g, "grad_output");
  const std::int64_t channels = x_view.shape.rank() == 4 ? x_view.shape[3] : 0;
  const std::int64_t filters = g_view.shape.rank() == 4 ? g_view.shape[3] : 0;
  const std::int64_t per_group = groups > 0 ? channels / groups : channels;
  Array dw = empty({kernel.height, kernel.width, per_group, filters}, x);
  Array db = empty({filters}, x);
  const TensorView dw_view = mutable_view(dw, "grad_filters");
  const TensorView db_view = mutable_view(db, "grad_bias");
  {
    const ReleaseGil release;
    conv2d_backward_filters(x.context(), x_view, g_view, options, dw_view, db_view);
  }
  return py::make_tuple(dw.object(), db.object());
}

}  // namespace

void register_conv2d(py::module_& module) {
  module.def("conv2d", &conv2d, py::arg("input"), py::arg("filters"), py::arg("bias"), py::arg("strides"),
             py::arg("padding"), py::arg("dilation"), py::arg("groups"), py::arg("activation"), py::arg("out"));
  module.def("conv2d_backward_input", &conv2d_backward_input_, py::arg("grad_output"), py::arg("filters"),
             py::arg("input_shape"), py::arg("strides"), py::arg("padding"), py::arg("dilation"), py::arg("groups"),
             py::arg("out"));
  module.def("conv2d_backward_filters", &conv2d_backward_filters_, py::arg("input"), py::arg("grad_output"),
             py::arg("kernel_size"), py::arg("strides"), py::arg("padding"), py::arg("dilation"), py::arg("groups"));
}

}  // namespace convec::python
