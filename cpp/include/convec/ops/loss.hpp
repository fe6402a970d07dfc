/// @file loss.hpp
/// The losses and metrics of a network other than categorical cross-entropy, one number a row. Definitions are
/// Keras 3's (keras.losses, keras.metrics) without the reduction over the batch.
#pragma once

#include <cstdint>

#include <convec/context.hpp>
#include <convec/export.hpp>
#include <convec/tensor.hpp>

namespace convec {

/// Losses on predictions and targets of the same shape (rows, ...), each averaged over all but the first axis.
enum class PointwiseLoss : std::uint8_t {
  binary_crossentropy,  ///< -(t log p + (1 - t) log(1 - p)), p clipped to [1e-7, 1 - 1e-7]; stable with logits
  mean_squared_error,   ///< (t - p)^2
  mean_absolute_error,  ///< |t - p|
  huber                 ///< 0.5 e^2 where |e| <= 1, else |e| - 0.5
};

/// A pointwise loss and its numbers.
struct PointwiseLossOptions {
  PointwiseLoss loss = PointwiseLoss::mean_squared_error;  ///< which
  /// binary_crossentropy only: predictions are logits.
  bool from_logits = false;
  /// binary_crossentropy only: t becomes t (1 - s) + s / 2.
  float label_smoothing = 0.0F;
};

/// losses[i] for every row. @param predictions, targets (rows, ...) float32 @param losses (rows) float32
/// @throws ShapeError shapes differ. @throws DTypeError not float32. @throws ValueError smoothing outside [0, 1).
CONVEC_API void pointwise_loss_forward(const Context& context, const PointwiseLossOptions& options,
                                       ConstTensorView predictions, ConstTensorView targets, TensorView losses);

/// grad_predictions[i] = grad_losses[i] * d losses[i] / d predictions[i]. @throws as pointwise_loss_forward.
CONVEC_API void pointwise_loss_backward(const Context& context, const PointwiseLossOptions& options,
                                        ConstTensorView grad_losses, ConstTensorView predictions,
                                        ConstTensorView targets, TensorView grad_predictions);

/// Shares of right predictions.
enum class Metric : std::uint8_t {
  sparse_categorical_accuracy,        ///< 1 where the largest prediction is at the label
  categorical_accuracy,               ///< 1 where prediction and one-hot target peak at the same class
  binary_accuracy,                    ///< share of elements with (p > threshold) == t
  sparse_top_k_categorical_accuracy,  ///< 1 where fewer than k predictions exceed the label's
  top_k_categorical_accuracy
};

/// A metric and its numbers.
struct MetricOptions {
  Metric metric = Metric::sparse_categorical_accuracy;  ///< which
  std::int64_t k = 5;                                   ///< of top_k metrics: how many guesses count
  float threshold = 0.5F;                               ///< of binary_accuracy: predictions above it mean 1
};

/// values[i] of every row. Labels as in softmax_cross_entropy_forward, or float32 targets of the predictions' shape.
/// @throws ShapeError, DTypeError, ValueError as softmax_cross_entropy_forward.
CONVEC_API void metric_forward(const Context& context, const MetricOptions& options, ConstTensorView predictions,
                               ConstTensorView targets, TensorView values);

}  // namespace convec
