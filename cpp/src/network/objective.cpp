#include "network/objective.hpp"

#include <string>
#include <utility>

#include <convec/error.hpp>
#include <convec/ops/loss.hpp>
#include <convec/ops/softmax_cross_entropy.hpp>

#include "op_table.hpp"
#include "ops/check.hpp"
#include "ops/softmax_cross_entropy.hpp"

namespace convec {

namespace {

bool categorical(Loss loss) {
  return loss == Loss::sparse_categorical_crossentropy || loss == Loss::categorical_crossentropy;
}

PointwiseLossOptions pointwise(const LossOptions& loss) {
  PointwiseLossOptions options;
  options.from_logits = loss.from_logits;
  options.label_smoothing = loss.label_smoothing;
  switch (loss.loss) {
    case Loss::binary_crossentropy:
      options.loss = PointwiseLoss::binary_crossentropy;
      break;
    case Loss::mean_absolute_error:
      options.loss = PointwiseLoss::mean_absolute_error;
      break;
    case Loss::huber:
      options.loss = PointwiseLoss::huber;
      break;
    default:
      options.loss = PointwiseLoss::mean_squared_error;
      break;
  }
  return options;
}

// The kind of targets a loss or a metric reads.
enum class Target { classes, distribution, same_shape };

Target target_of(const LossOptions& loss) {
  if (loss.loss == Loss::sparse_categorical_crossentropy) return Target::classes;
  return loss.loss == Loss::categorical_crossentropy ? Target::distribution : Target::same_shape;
}

Target target_of(const MetricOptions& metric) {
  switch (metric.metric) {
    case Metric::sparse_categorical_accuracy:
    case Metric::sparse_top_k_categorical_accuracy:
      return Target::classes;
    case Metric::categorical_accuracy:
    case Metric::top_k_categorical_accuracy:
      return Target::distribution;
    case Metric::binary_accuracy:
      break;
  }
  return Target::same_shape;
}

Target target_of(const NetworkMetric& metric) {
  return std::visit([](const auto& measure) { return target_of(measure); }, metric.measure);
}

void require_classes(const Shape& output, const char* who) {
  if (output.rank() != 1)
    throw ShapeError(std::string(who) + " needs one vector of classes a sample, but the network's output is " +
                     to_string(output) + "; end it in Flatten and Dense, or a global pooling");
}

}  // namespace

Totals Accumulator::totals() const {
  Totals totals;
  totals.samples = samples_;
  totals.batches = batches_;
  totals.loss = samples_ == 0 ? 0.0 : loss_sum_ / static_cast<double>(samples_);
  for (std::size_t index = 0; index < metric_sums_.size(); ++index)
    totals.metrics.push_back(metric_weights_[index] == 0.0 ? 0.0 : metric_sums_[index] / metric_weights_[index]);
  return totals;
}

Objective::Objective(const LossOptions& loss, std::vector<NetworkMetric> metrics, const Shape& output,
                     bool ends_in_softmax)
    : loss_(loss), metrics_(std::move(metrics)), output_(output) {
  check::in_range(loss.label_smoothing, 0.0F, 1.0F, "label_smoothing");
  if (target_of(loss) != Target::same_shape) require_classes(output, "the loss");
  for (const NetworkMetric& metric : metrics_) {
    if (target_of(metric) != Target::same_shape) require_classes(output, "a metric");
    const auto* options = std::get_if<MetricOptions>(&metric.measure);
    if (options != nullptr) check::at_least(options->k, 1, "k");
    // Only the order of the predictions matters to the categorical metrics, and a softmax keeps it.
    if (options == nullptr || options->metric == Metric::binary_accuracy) needs_probabilities_ = true;
  }
  takes_logits_ = ends_in_softmax && categorical(loss.loss) && !loss.from_logits;
}

void Objective::check_targets(const ConstTensorView& targets, std::int64_t rows) const {
  const auto check_one = [&](Target target) {
    if (targets.shape.rank() == 0 || targets.shape[0] != rows)
      throw ShapeError("targets has shape " + to_string(targets.shape) + ", but inputs holds " + std::to_string(rows) +
                       " samples; both must have the same length");
    if (target == Target::classes) {
      const bool column = targets.shape.rank() == 2 && targets.shape[1] == 1;
      if (targets.shape.rank() != 1 && !column)
        throw ShapeError("targets has shape " + to_string(targets.shape) +
                         ", but class numbers must be (n,) or (n, 1); for one-hot rows use "
                         "categorical_crossentropy");
      if (targets.dtype == DType::float32 || targets.dtype == DType::float64)
        throw DTypeError(std::string("targets is ") + name_of(targets.dtype) +
                         ", but class numbers must be int32, int64 or uint8");
      const Labels labels{targets.data, targets.dtype, nullptr};
      check_labels({}, targets, "targets", labels, output_[0]);
    } else {
      check::float32(targets, "targets");
      const bool scalar = output_ == Shape{1} && targets.shape.rank() == 1;
      if (!scalar && targets.shape != output_.with_batch(rows))
        throw ShapeError(
            "targets has shape " + to_string(targets.shape) + ", but must be " + to_string(output_.with_batch(rows)) +
            ", the shape of the network's output" +
            (target == Target::distribution ? "; for class numbers use sparse_categorical_crossentropy" : ""));
    }
  };
  check_one(target_of(loss_));
  for (const NetworkMetric& metric : metrics_) check_one(target_of(metric));
}

ConstTensorView Objective::labels(const ConstTensorView& targets, std::int64_t size) const {
  return {targets.data, targets.dtype, targets.dtype == DType::float32 ? output_.with_batch(size) : Shape{size},
          targets.device};
}

ConstTensorView Objective::shaped(const ConstTensorView& targets, std::int64_t size) const {
  return {targets.data, targets.dtype, output_.with_batch(size), targets.device};
}

void Objective::rows_of_loss(const Context& context, const LossOptions& loss, bool logits, const float* output,
                             const ConstTensorView& targets, std::int64_t size, float* losses) const {
  const ConstTensorView predictions{output, output_.with_batch(size)};
  if (categorical(loss.loss))
    softmax_cross_entropy_forward(context, predictions, labels(targets, size), {logits, loss.label_smoothing},
                                  {losses, {size}});
  else
    pointwise_loss_forward(context, pointwise(loss), predictions, shaped(targets, size), {losses, {size}});
}

void Objective::evaluate(const Context& context, const Batch& batch, const Scratch& scratch, float* gradient,
                         Accumulator& totals) const {
  const std::int64_t size = batch.size;
  const bool logits = takes_logits_ || loss_.from_logits;
  rows_of_loss(context, loss_, logits, batch.output, batch.targets, size, scratch.losses);
  // Keras' sum_over_batch_size: the weighted losses over the number of samples.
  double sum = 0.0;
  for (std::int64_t i = 0; i < size; ++i) {
    const float weight = batch.weights == nullptr ? 1.0F : batch.weights[i];
    sum += static_cast<double>(scratch.losses[i]) * static_cast<double>(weight);
    scratch.gradients[i] = weight / static_cast<float>(size);
  }
  totals.add_batch(size, sum / static_cast<double>(size));

  for (std::size_t index = 0; index < metrics_.size(); ++index) {
    const NetworkMetric& metric = metrics_[index];
    if (const auto* options = std::get_if<MetricOptions>(&metric.measure)) {
      const bool pointwise_metric = target_of(*options) == Target::same_shape;
      metric_forward(context, *options, {batch.predictions, output_.with_batch(size)},
                     pointwise_metric ? shaped(batch.targets, size) : labels(batch.targets, size),
                     {scratch.values, {size}});
    } else {
      const auto& loss = std::get<LossOptions>(metric.measure);
      rows_of_loss(context, loss, loss.from_logits, batch.predictions, batch.targets, size, scratch.values);
    }
    double values = 0.0;
    double weights = 0.0;
    for (std::int64_t i = 0; i < size; ++i) {
      const double weight = metric.weighted && batch.weights != nullptr ? static_cast<double>(batch.weights[i]) : 1.0;
      values += weight * static_cast<double>(scratch.values[i]);
      weights += weight;
    }
    totals.add_metric(index, values, weights);
  }

  if (gradient == nullptr) return;
  const ConstTensorView output{batch.output, output_.with_batch(size)};
  const ConstTensorView gradients{scratch.gradients, {size}};
  const TensorView grad_output{gradient, output_.with_batch(size)};
  if (categorical(loss_.loss))
    softmax_cross_entropy_backward(context, gradients, output, labels(batch.targets, size),
                                   {logits, loss_.label_smoothing}, grad_output);
  else
    pointwise_loss_backward(context, pointwise(loss_), gradients, output, shaped(batch.targets, size), grad_output);
}

}  // namespace convec
