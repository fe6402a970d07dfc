// convec.ops.softmax_cross_entropy, the pointwise losses and the metrics.
#include <pybind11/pybind11.h>

#include <convec/ops/loss.hpp>
#include <convec/ops/softmax_cross_entropy.hpp>

#include "array.hpp"
#include "bindings.hpp"
#include "device_array.hpp"
#include "gil.hpp"
#include "options.hpp"

namespace convec::python {

namespace {

// One number a row of `predictions`; a scalar is refused by the op.
Shape rows_of(const ConstTensorView& predictions) { return {predictions.shape.rank() == 0 ? 0 : predictions.shape[0]}; }

// Calls run(predictions, targets, values).
template <typename Run>
py::array by_row(const py::object& predictions, const char* predictions_name, const py::object& targets,
                 const char* targets_name, const py::object& out, Run&& run) {
  const Array p = to_array(predictions, predictions_name);
  const Array t = to_array(targets, targets_name);
  const ConstTensorView p_view = view(p, predictions_name);
  const ConstTensorView t_view = view(t, targets_name);
  Array values = output(out, rows_of(p_view), p);
  const TensorView values_view = mutable_view(values, "out");
  {
    const ReleaseGil release;
    run(p.context(), p_view, t_view, values_view);
  }
  return values.object();
}

// Calls run(grad_losses, predictions, targets, grad_predictions).
template <typename Run>
py::array gradient(const py::object& grad_losses, const py::object& predictions, const char* predictions_name,
                   const py::object& targets, const char* targets_name, const py::object& out, Run&& run) {
  const Array g = to_array(grad_losses, "grad_losses");
  const Array p = to_array(predictions, predictions_name);
  const Array t = to_array(targets, targets_name);
  const ConstTensorView g_view = view(g, "grad_losses");
  const ConstTensorView p_view = view(p, predictions_name);
  const ConstTensorView t_view = view(t, targets_name);
  Array dp = output(out, p_view.shape, g);
  const TensorView dp_view = mutable_view(dp, "out");
  {
    const ReleaseGil release;
    run(g.context(), g_view, p_view, t_view, dp_view);
  }
  return dp.object();
}

py::array softmax_cross_entropy(const py::object& logits, const py::object& labels, bool from_logits,
                                float label_smoothing, const py::object& out) {
  const CrossEntropyOptions options{from_logits, label_smoothing};
  return by_row(logits, "input", labels, "labels", out,
                [&](const Context& context, const ConstTensorView& x, const ConstTensorView& t, const TensorView& y) {
                  softmax_cross_entropy_forward(context, x, t, options, y);
                });
}

py::array softmax_cross_entropy_backward_(const py::object& grad_losses, const py::object& logits,
                                          const py::object& labels, bool from_logits, float label_smoothing,
                                          const py::object& out) {
  const CrossEntropyOptions options{from_logits, label_smoothing};
  return gradient(
      grad_losses, logits, "input", labels, "labels", out,
      [&](const Context& context, const ConstTensorView& g, const ConstTensorView& x, const ConstTensorView& t,
          const TensorView& dx) { softmax_cross_entropy_backward(context, g, x, t, options, dx); });
}

py::array pointwise_loss(const char* loss, const py::object& predictions, const py::object& targets, bool from_logits,
                         float label_smoothing, const py::object& out) {
  const PointwiseLossOptions options{parse_pointwise_loss(loss), from_logits, label_smoothing};
  return by_row(predictions, "predictions", targets, "targets", out,
                [&](const Context& context, const ConstTensorView& p, const ConstTensorView& t, const TensorView& y) {
                  pointwise_loss_forward(context, options, p, t, y);
                });
}

py::array pointwise_loss_backward_(const char* loss, const py::object& grad_losses, const py::object& predictions,
                                   const py::object& targets, bool from_logits, float label_smoothing,
                                   const py::object& out) {
  const PointwiseLossOptions options{parse_pointwise_loss(loss), from_logits, label_smoothing};
  return gradient(
      grad_losses, predictions, "predictions", targets, "targets", out,
      [&](const Context& context, const ConstTensorView& g, const ConstTensorView& p, const ConstTensorView& t,
          const TensorView& dp) { pointwise_loss_backward(context, options, g, p, t, dp); });
}

py::array metric(const char* name, const py::object& predictions, const py::object& targets, std::int64_t k,
                 float threshold, const py::object& out) {
  const MetricOptions options{parse_metric(name), k, threshold};
  return by_row(predictions, "predictions", targets, "targets", out,
                [&](const Context& context, const ConstTensorView& p, const ConstTensorView& t, const TensorView& y) {
                  metric_forward(context, options, p, t, y);
                });
}

}  // namespace

void register_loss(py::module_& module) {
  module.def("softmax_cross_entropy", &softmax_cross_entropy, py::arg("logits"), py::arg("labels"),
             py::arg("from_logits"), py::arg("label_smoothing"), py::arg("out"));
  module.def("softmax_cross_entropy_backward", &softmax_cross_entropy_backward_, py::arg("grad_losses"),
             py::arg("logits"), py::arg("labels"), py::arg("from_logits"), py::arg("label_smoothing"), py::arg("out"));
  module.def("pointwise_loss", &pointwise_loss, py::arg("loss"), py::arg("predictions"), py::arg("targets"),
             py::arg("from_logits"), py::arg("label_smoothing"), py::arg("out"));
  module.def("pointwise_loss_backward", &pointwise_loss_backward_, py::arg("loss"), py::arg("grad_losses"),
             py::arg("predictions"), py::arg("targets"), py::arg("from_logits"), py::arg("label_smoothing"),
             py::arg("out"));
  module.def("metric", &metric, py::arg("name"), py::arg("predictions"), py::arg("targets"), py::arg("k"),
             py::arg("threshold"), py::arg("out"));
}

}  // namespace convec::python
