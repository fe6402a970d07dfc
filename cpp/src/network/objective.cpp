#include "network/objective.hpp"

#include <string>
#include <utility>

#include <convec/error.hpp>
#include "backend.hpp"
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
      check_labels({targets.device, nullptr}, targets, "targets", labels, output_[0]);
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

// Targets were checked for the whole epoch, so that the rows of the table are called directly: on a device a check
// would wait for the result.
namespace {

Labels labels_of(const ConstTensorView& targets) {
  Labels labels;
  if (targets.dtype == DType::float32) {
    labels.distribution = targets.f32();
  } else {
    labels.classes = targets.data;
    labels.dtype = targets.dtype;
  }
  return labels;
}

}  // namespace

void Objective::rows_of_loss(const Context& context, const LossOptions& loss, bool logits, const float* output,
                             const ConstTensorView& targets, std::int64_t size, float* losses) const {
  const OpTable& table = op_table(context.device);
  if (categorical(loss.loss))
    table.softmax_cross_entropy_forward(context, size, output_[0], output, labels_of(targets),
                                        {logits, loss.label_smoothing}, losses);
  else
    table.pointwise_loss_forward(context, pointwise(loss), size, output_.size(), output, targets.f32(), losses);
}

void Objective::metric_rows(const Context& context, const NetworkMetric& metric, const Batch& batch,
                            float* values) const {
  if (const auto* options = std::get_if<MetricOptions>(&metric.measure)) {
    op_table(context.device)
        .metric_forward(context, *options, batch.size, output_.size(), batch.predictions, labels_of(batch.targets),
                        values);
    return;
  }
  const auto& loss = std::get<LossOptions>(metric.measure);
  rows_of_loss(context, loss, loss.from_logits, batch.predictions, batch.targets, batch.size, values);
}

void Objective::gradient_rows(const Context& context, const Batch& batch, const float* gradients,
                              float* gradient) const {
  const OpTable& table = op_table(context.device);
  if (categorical(loss_.loss))
    table.softmax_cross_entropy_backward(context, batch.size, output_[0], gradients, batch.output,
                                         labels_of(batch.targets),
                                         {takes_logits_ || loss_.from_logits, loss_.label_smoothing}, gradient);
  else
    table.pointwise_loss_backward(context, pointwise(loss_), batch.size, output_.size(), gradients, batch.output,
                                  batch.targets.f32(), gradient);
}

void Objective::evaluate(const Context& context, const Batch& batch, const Scratch& scratch, float* gradient,
                         Accumulator& totals) const {
  const std::int64_t size = batch.size;
  rows_of_loss(context, loss_, takes_logits_ || loss_.from_logits, batch.output, batch.targets, size, scratch.losses);
  // Keras' sum_over_batch_size: the weighted losses over the number of samples.
  double sum = 0.0;
  for (std::int64_t i = 0; i < size; ++i) {
    const float weight = batch.weights == nullptr ? 1.0F : batch.weights[i];
    sum += static_cast<double>(scratch.losses[i]) * static_cast<double>(weight);
    scratch.gradients[i] = weight / static_cast<float>(batch.mean_over);
  }
  totals.add_batch(size, sum / static_cast<double>(size));

  for (std::size_t index = 0; index < metrics_.size(); ++index) {
    const NetworkMetric& metric = metrics_[index];
    metric_rows(context, metric, batch, scratch.values);
    double values = 0.0;
    double weights = 0.0;
    for (std::int64_t i = 0; i < size; ++i) {
      const double weight = metric.weighted && batch.weights != nullptr ? static_cast<double>(batch.weights[i]) : 1.0;
      values += weight * static_cast<double>(scratch.values[i]);
      weights += weight;
    }
    totals.add_metric(index, values, weights);
  }

  if (gradient != nullptr) gradient_rows(context, batch, scratch.gradients, gradient);
}

void Objective::evaluate_on_device(const Context& context, const Batch& batch, const Scratch& scratch, float* gradient,
                                   double* totals) const {
  Backend& owner = backend(context.device);
  rows_of_loss(context, loss_, takes_logits_ || loss_.from_logits, batch.output, batch.targets, batch.size,
               scratch.losses);
  owner.add_to_totals(context, batch.size, batch.mean_over, scratch.losses, batch.weights, totals, scratch.gradients);
  for (std::size_t index = 0; index < metrics_.size(); ++index) {
    metric_rows(context, metrics_[index], batch, scratch.values);
    owner.add_to_totals(context, batch.size, batch.mean_over, scratch.values,
                        metrics_[index].weighted ? batch.weights : nullptr, totals + 2 * (index + 1), nullptr);
  }
  if (gradient != nullptr) gradient_rows(context, batch, scratch.gradients, gradient);
}

}  // namespace convec
