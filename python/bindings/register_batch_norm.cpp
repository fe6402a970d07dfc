// convec.ops.batch_norm_training, batch_norm_inference and batch_norm_backward.
#include <pybind11/pybind11.h>

#include <convec/ops/batch_norm.hpp>

#include "array.hpp"
#include "bindings.hpp"
#include "device_array.hpp"
#include "gil.hpp"

namespace convec::python {

namespace {

// (channels) of an input; a scalar is refused by the op.
Shape channels_of(const ConstTensorView& input) {
  return {input.shape.rank() == 0 ? 0 : input.shape[input.shape.rank() - 1]};
}

py::tuple batch_norm_training(const py::object& input, const py::object& gamma, const py::object& beta,
                              const py::object& moving_mean, const py::object& moving_variance, float momentum,
                              float epsilon, const py::object& out) {
  const Array x = to_array(input, "input");
  Array gamma_holder;
  Array beta_holder;
  Array mean = to_array(moving_mean, "moving_mean");
  Array variance = to_array(moving_variance, "moving_variance");
  const ConstTensorView x_view = view(x, "input");
  const ConstTensorView gamma_view = optional_view(gamma, "gamma", gamma_holder);
  const ConstTensorView beta_view = optional_view(beta, "beta", beta_holder);
  const TensorView mean_view = mutable_view(mean, "moving_mean");
  const TensorView variance_view = mutable_view(variance, "moving_variance");
  Array batch_mean = empty(channels_of(x_view), x);
  Array batch_inverse_std = empty(channels_of(x_view), x);
  const TensorView batch_mean_view = mutable_view(batch_mean, "batch_mean");
  const TensorView batch_inverse_std_view = mutable_view(batch_inverse_std, "batch_inverse_std");
  Array y = output(out, x_view.shape, x);
  const TensorView y_view = mutable_view(y, "out");
  {
    const ReleaseGil release;
    batch_norm_forward_training(x.context(), x_view, gamma_view, beta_view, momentum, epsilon, mean_view, variance_view,
                                batch_mean_view, batch_inverse_std_view, y_view);
  }
  return py::make_tuple(y.object(), batch_mean.object(), batch_inverse_std.object());
}

py::array batch_norm_inference(const py::object& input, const py::object& gamma, const py::object& beta,
                               const py::object& moving_mean, const py::object& moving_variance, float epsilon,
                               const py::object& out) {
  const Array x = to_array(input, "input");
  Array gamma_holder;
  Array beta_holder;
  const Array mean = to_array(moving_mean, "moving_mean");
  const Array variance = to_array(moving_variance, "moving_variance");
  const ConstTensorView x_view = view(x, "input");
  const ConstTensorView gamma_view = optional_view(gamma, "gamma", gamma_holder);
  const ConstTensorView beta_view = optional_view(beta, "beta", beta_holder);
  const ConstTensorView mean_view = view(mean, "moving_mean");
  const ConstTensorView variance_view = view(variance, "moving_variance");
  Array y = output(out, x_view.shape, x);
  const TensorView y_view = mutable_view(y, "out");
  {
    const ReleaseGil release;
    batch_norm_forward_inference(x.context(), x_view, gamma_view, beta_view, mean_view, variance_view, epsilon, y_view);
  }
  return y.object();
}

py::tuple batch_norm_backward_(const py::object& grad_output, const py::object& input, const py::object& gamma,
                               const py::object& batch_mean, const py::object& batch_inverse_std,
                               const py::object& out) {
  const Array g = to_array(grad_output, "grad_output");
  const Array x = to_array(input, "input");
  Array gamma_holder;
  const Array mean = to_array(batch_mean, "batch_mean");
  const Array inverse_std = to_array(batch_inverse_std, "batch_inverse_std");
  const ConstTensorView g_view = view(g, "grad_output");
  const ConstTensorView x_view = view(x, "input");
  const ConstTensorView gamma_view = optional_view(gamma, "gamma", gamma_holder);
  const ConstTensorView mean_view = view(mean, "batch_mean");
  const ConstTensorView inverse_std_view = view(inverse_std, "batch_inverse_std");
  Array dx = output(out, x_view.shape, g);
  Array dgamma = empty(channels_of(x_view), g);
  Array dbeta = empty(channels_of(x_view), g);
  const TensorView dx_view = mutable_view(dx, "out");
  const TensorView dgamma_view = mutable_view(dgamma, "grad_gamma");
  const TensorView dbeta_view = mutable_view(dbeta, "grad_beta");
  {
    const ReleaseGil release;
    batch_norm_backward(g.context(), g_view, x_view, gamma_view, mean_view, inverse_std_view, dx_view, dgamma_view,
                        dbeta_view);
  }
  return py::make_tuple(dx.object(), dgamma.object(), dbeta.object());
}

}  // namespace

void register_batch_norm(py::module_& module) {
  module.def("batch_norm_training", &batch_norm_training, py::arg("input"), py::arg("gamma"), py::arg("beta"),
             py::arg("moving_mean"), py::arg("moving_variance"), py::arg("momentum"), py::arg("epsilon"),
             py::arg("out"));
  module.def("batch_norm_inference", &batch_norm_inference, py::arg("input"), py::arg("gamma"), py::arg("beta"),
             py::arg("moving_mean"), py::arg("moving_variance"), py::arg("epsilon"), py::arg("out"));
  module.def("batch_norm_backward", &batch_norm_backward_, py::arg("grad_output"), py::arg("input"), py::arg("gamma"),
             py::arg("batch_mean"), py::arg("batch_inverse_std"), py::arg("out"));
}

}  // namespace convec::python
