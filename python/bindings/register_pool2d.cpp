// convec.ops.max_pool2d, average_pool2d, the global poolings and their gradients.
#include <pybind11/pybind11.h>

#include <convec/ops/pool2d.hpp>

#include "array.hpp"
#include "bindings.hpp"
#include "device_array.hpp"
#include "gil.hpp"

namespace convec::python {

namespace {

// strides None: the pool's size.
Pool2dOptions parse_options(py::handle pool_size, py::handle strides, py::handle padding) {
  Pool2dOptions options;
  options.pool_size = parse_size(pool_size, "pool_size");
  options.strides = strides.is_none() ? options.pool_size : parse_size(strides, "strides");
  options.padding = parse_padding(padding);
  return options;
}

// (batch, channels) of an image; any other rank is refused by the op, with a message about the image.
Shape pooled_shape(const Shape& image) { return image.rank() == 4 ? Shape{image[0], image[3]} : Shape{0, 0}; }

using Forward = void (*)(const Context&, ConstTensorView, const Pool2dOptions&, TensorView);
using GlobalForward = void (*)(const Context&, ConstTensorView, TensorView);

template <Forward forward>
py::array pool(const py::object& input, const py::object& pool_size, const py::object& strides,
               const py::object& padding, const py::object& out) {
  const Pool2dOptions options = parse_options(pool_size, strides, padding);
  const Array x = to_array(input, "input");
  const ConstTensorView x_view = view(x, "input");
  Array y = output(out, pool2d_output_shape(x_view.shape, options), x);
  const TensorView y_view = mutable_view(y, "out");
  {
    const ReleaseGil release;
    forward(x.context(), x_view, options, y_view);
  }
  return y.object();
}

py::array max_pool2d_backward_(const py::object& grad_output, const py::object& input, const py::object& pool_size,
                               const py::object& strides, const py::object& padding, const py::object& out) {
  const Pool2dOptions options = parse_options(pool_size, strides, padding);
  const Array g = to_array(grad_output, "grad_output");
  const Array x = to_array(input, "input");
  const ConstTensorView g_view = view(g, "grad_output");
  const ConstTensorView x_view = view(x, "input");
  Array dx = output(out, x_view.shape, g);
  const TensorView dx_view = mutable_view(dx, "out");
  {
    const ReleaseGil release;
    max_pool2d_backward(g.context(), g_view, x_view, options, dx_view);
  }
  return dx.object();
}

py::array average_pool2d_backward_(const py::object& grad_output, const py::sequence& input_shape,
                                   const py::object& pool_size, const py::object& strides, const py::object& padding,
                                   const py::object& out) {
  const Pool2dOptions options = parse_options(pool_size, strides, padding);
  const Array g = to_array(grad_output, "grad_output");
  const ConstTensorView g_view = view(g, "grad_output");
  Array dx = output(out, to_shape(input_shape, "input_shape"), g);
  const TensorView dx_view = mutable_view(dx, "out");
  {
    const ReleaseGil release;
    average_pool2d_backward(g.context(), g_view, options, dx_view);
  }
  return dx.object();
}

template <GlobalForward forward>
py::array global_pool(const py::object& input, const py::object& out) {
  const Array x = to_array(input, "input");
  const ConstTensorView x_view = view(x, "input");
  Array y = output(out, pooled_shape(x_view.shape), x);
  const TensorView y_view = mutable_view(y, "out");
  {
    const ReleaseGil release;
    forward(x.context(), x_view, y_view);
  }
  return y.object();
}

py::array global_average_pool2d_backward_(const py::object& grad_output, const py::sequence& input_shape,
                                          const py::object& out) {
  const Array g = to_array(grad_output, "grad_output");
  const ConstTensorView g_view = view(g, "grad_output");
  Array dx = output(out, to_shape(input_shape, "input_shape"), g);
  const TensorView dx_view = mutable_view(dx, "out");
  {
    const ReleaseGil release;
    global_average_pool2d_backward(g.context(), g_view, dx_view);
  }
  return dx.object();
}

py::array global_max_pool2d_backward_(const py::object& grad_output, const py::object& input, const py::object& out) {
  const Array g = to_array(grad_output, "grad_output");
  const Array x = to_array(input, "input");
  const ConstTensorView g_view = view(g, "grad_output");
  const ConstTensorView x_view = view(x, "input");
  Array dx = output(out, x_view.shape, g);
  const TensorView dx_view = mutable_view(dx, "out");
  {
    const ReleaseGil release;
    global_max_pool2d_backward(g.context(), g_view, x_view, dx_view);
  }
  return dx.object();
}

}  // namespace

void register_pool2d(py::module_& module) {
  module.def("max_pool2d", &pool<max_pool2d_forward>, py::arg("input"), py::arg("pool_size"), py::arg("strides"),
             py::arg("padding"), py::arg("out"));
  module.def("max_pool2d_backward", &max_pool2d_backward_, py::arg("grad_output"), py::arg("input"),
             py::arg("pool_size"), py::arg("strides"), py::arg("padding"), py::arg("out"));
  module.def("average_pool2d", &pool<average_pool2d_forward>, py::arg("input"), py::arg("pool_size"),
             py::arg("strides"), py::arg("padding"), py::arg("out"));
  module.def("average_pool2d_backward", &average_pool2d_backward_, py::arg("grad_output"), py::arg("input_shape"),
             py::arg("pool_size"), py::arg("strides"), py::arg("padding"), py::arg("out"));
  module.def("global_average_pool2d", &global_pool<global_average_pool2d_forward>, py::arg("input"), py::arg("out"));
  module.def("global_average_pool2d_backward", &global_average_pool2d_backward_, py::arg("grad_output"),
             py::arg("input_shape"), py::arg("out"));
  module.def("global_max_pool2d", &global_pool<global_max_pool2d_forward>, py::arg("input"), py::arg("out"));
  module.def("global_max_pool2d_backward", &global_max_pool2d_backward_, py::arg("grad_output"), py::arg("input"),
             py::arg("out"));
}

}  // namespace convec::python
