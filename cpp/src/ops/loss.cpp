#include <convec/ops/loss.hpp>

#include <string>

#include "op_table.hpp"
#include "ops/check.hpp"
#include "ops/softmax_cross_entropy.hpp"

namespace convec {

namespace {

// Numbers a row: the product of all extents but the first.
std::int64_t columns_of(const ConstTensorView& predictions) {
  if (predictions.shape.rank() < 1)
    throw ShapeError("predictions is a scalar, but must have at least 1 dimension (rows, ...)");
  static_cast<void>(predictions.shape.size());
  const std::int64_t columns = predictions.shape.without_batch().size();
  if (columns < 1)
    throw ShapeError("predictions has shape " + to_string(predictions.shape) + ", but its rows must not be empty");
  return columns;
}

std::int64_t check_pointwise(const PointwiseLossOptions& options, const ConstTensorView& predictions,
                             const ConstTensorView& targets, const ConstTensorView& losses, const char* losses_name) {
  const std::int64_t columns = columns_of(predictions);
  check::float32(predictions, "predictions");
  check::in_range(options.label_smoothing, 0.0F, 1.0F, "label_smoothing");
  check::argument(targets, "targets", predictions.shape, "the shape of predictions", predictions, "predictions");
  check::argument(losses, losses_name, {predictions.shape[0]}, "one number a row", predictions, "predictions");
  return columns;
}

}  // namespace

void pointwise_loss_forward(const Context& context, const PointwiseLossOptions& options, ConstTensorView predictions,
                            ConstTensorView targets, TensorView losses) {
  const std::int64_t columns = check_pointwise(options, predictions, targets, losses, "losses");
  check::no_overlap(losses, "losses", predictions, "predictions");
  check::no_overlap(losses, "losses", targets, "targets");
  if (predictions.shape[0] == 0) return;
  op_table(predictions.device)
      .pointwise_loss_forward(context, options, predictions.shape[0], columns, predictions.f32(), targets.f32(),
                              losses.f32());
}

void pointwise_loss_backward(const Context& context, const PointwiseLossOptions& options, ConstTensorView grad_losses,
                             ConstTensorView predictions, ConstTensorView targets, TensorView grad_predictions) {
  const std::int64_t columns = check_pointwise(options, predictions, targets, grad_losses, "grad_losses");
  check::argument(grad_predictions, "grad_predictions", predictions.shape, "the shape of predictions", predictions,
                  "predictions");
  check::no_overlap(grad_predictions, "grad_predictions", grad_losses, "grad_losses");
  check::in_place_or_apart(grad_predictions, "grad_predictions", predictions, "predictions");
  check::in_place_or_apart(grad_predictions, "grad_predictions", targets, "targets");
  if (predictions.shape[0] == 0) return;
  op_table(predictions.device)
      .pointwise_loss_backward(context, options, predictions.shape[0], columns, grad_losses.f32(), predictions.f32(),
                               targets.f32(), grad_predictions.f32());
}

void metric_forward(const Context& context, const MetricOptions& options, ConstTensorView predictions,
                    ConstTensorView targets, TensorView values) {
  const std::int64_t columns = columns_of(predictions);
  check::float32(predictions, "predictions");
  check::argument(values, "values", {predictions.shape[0]}, "one number a row", predictions, "predictions");
  check::no_overlap(values, "values", predictions, "predictions");
  check::no_overlap(values, "values", targets, "targets");
  Labels labels;
  switch (options.metric) {
    case Metric::binary_accuracy:
      check::argument(targets, "targets", predictions.shape, "the shape of predictions", predictions, "predictions");
      labels.distribution = targets.f32();
      break;
    case Metric::categorical_accuracy:
    case Metric::top_k_categorical_accuracy:
      check::rank(predictions, "predictions", 2, "(rows, classes)");
      check::argument(targets, "targets", predictions.shape, "a distribution over the classes a row", predictions,
                      "predictions");
      labels.distribution = targets.f32();
      break;
    case Metric::sparse_categorical_accuracy:
    case Metric::sparse_top_k_categorical_accuracy:
      check::rank(predictions, "predictions", 2, "(rows, classes)");
      labels = make_labels(targets, "targets", predictions, "predictions");
      check_labels(context, targets, "targets", labels, columns);
      break;
  }
  if (options.metric == Metric::top_k_categorical_accuracy ||
      options.metric == Metric::sparse_top_k_categorical_accuracy)
    check::at_least(options.k, 1, "k");
  if (predictions.shape[0] == 0) return;
  op_table(predictions.device)
      .metric_forward(context, options, predictions.shape[0], columns, predictions.f32(), labels, values.f32());
}

}  // namespace convec
