// What a network is trained for and judged by: its loss and metrics, on one batch and summed over many.
#pragma once

#include <cstdint>
#include <vector>

#include <convec/context.hpp>
#include <convec/network.hpp>

namespace convec {

// Sums over the batches of an epoch.
class Accumulator {
 public:
  explicit Accumulator(std::size_t metrics) : metric_sums_(metrics, 0.0), metric_weights_(metrics, 0.0) {}

  void add_batch(std::int64_t samples, double mean_loss) {
    samples_ += samples;
    ++batches_;
    loss_sum_ += mean_loss * static_cast<double>(samples);
  }
  void add_metric(std::size_t index, double sum, double weight) {
    metric_sums_[index] += sum;
    metric_weights_[index] += weight;
  }
  Totals totals() const;

  // The sums as numbers that may be added up over processes, and back.
  static std::int64_t sum_count(std::size_t metrics) { return 2 + 2 * static_cast<std::int64_t>(metrics); }
  template <typename T>
  void write_sums(T* sums) const {
    *sums++ = static_cast<T>(samples_);
    *sums++ = static_cast<T>(loss_sum_);
    for (const double sum : metric_sums_) *sums++ = static_cast<T>(sum);
    for (const double weight : metric_weights_) *sums++ = static_cast<T>(weight);
  }
  template <typename T>
  void add_sums(const T* sums, std::int64_t batches) {
    samples_ += static_cast<std::int64_t>(*sums++);
    batches_ += batches;
    loss_sum_ += static_cast<double>(*sums++);
    for (double& sum : metric_sums_) sum += static_cast<double>(*sums++);
    for (double& weight : metric_weights_) weight += static_cast<double>(*sums++);
  }

 private:
  std::int64_t samples_ = 0;
  std::int64_t batches_ = 0;
  double loss_sum_ = 0.0;
  std::vector<double> metric_sums_;
  std::vector<double> metric_weights_;
};

class Objective {
 public:
  // One batch after the forward pass.
  struct Batch {
    std::int64_t size = 0;
    std::int64_t mean_over = 0;          // samples that the gradient is a mean over: those of all processes
    const float* output = nullptr;       // what the loss is taken from
    const float* predictions = nullptr;  // what metrics see
    ConstTensorView targets;
    const float* weights = nullptr;  // one a sample, or null
  };
  // Memory for one number a sample each.
  struct Scratch {
    float* losses = nullptr;
    float* gradients = nullptr;
    float* values = nullptr;
  };

  Objective() = default;
  // `output` is the shape of one sample; `ends_in_softmax` says that a softmax made it.
  // Throws ValueError, ShapeError where loss or metrics do not fit it.
  Objective(const LossOptions& loss, std::vector<NetworkMetric> metrics, const Shape& output, bool ends_in_softmax);

  const LossOptions& loss() const noexcept { return loss_; }
  const std::vector<NetworkMetric>& metrics() const noexcept { return metrics_; }
  std::size_t metric_count() const noexcept { return metrics_.size(); }

  // Throws ShapeError, DTypeError, ValueError (a label out of range) for targets of `rows` samples that do not fit.
  void check_targets(const ConstTensorView& targets, std::int64_t rows) const;

  // The loss is taken from the input of the final softmax: exact, and the softmax needs no backward pass.
  bool takes_logits() const noexcept { return takes_logits_; }
  // A metric needs the network's own output even then (those that only look at the order do not).
  bool needs_probabilities() const noexcept { return needs_probabilities_; }

  // Adds the batch's loss and metrics to `totals` and, where `gradient` is not null, writes the gradient of its mean
  // loss with respect to `output`.
  void evaluate(const Context& context, const Batch& batch, const Scratch& scratch, float* gradient,
                Accumulator& totals) const;

  // The same on another device: everything stays in its memory, and the sums go to `totals`, two numbers each for the
  // loss and every metric (Backend::add_to_totals).
  void evaluate_on_device(const Context& context, const Batch& batch, const Scratch& scratch, float* gradient,
                          double* totals) const;

 private:
  void metric_rows(const Context& context, const NetworkMetric& metric, const Batch& batch, float* values) const;
  void gradient_rows(const Context& context, const Batch& batch, const float* gradients, float* gradient) const;

  void rows_of_loss(const Context& context, const LossOptions& loss, bool logits, const float* output,
                    const ConstTensorView& targets, std::int64_t size, float* losses) const;

  LossOptions loss_;
  std::vector<NetworkMetric> metrics_;
  Shape output_;
  bool takes_logits_ = false;
  bool needs_probabilities_ = false;
};

}  // namespace convec
