/// @file softmax_cross_entropy.hpp
/// Categorical cross-entropy over the last axis, with class numbers or one-hot targets, and its gradient.
#pragma once

#include <convec/context.hpp>
#include <convec/export.hpp>
#include <convec/tensor.hpp>

namespace convec {

/// Numbers of the cross-entropy.
struct CrossEntropyOptions {
  /// true: input holds logits and softmax is fused in. false: input holds probabilities, which are normalised
  /// to sum 1 (one-hot targets; Keras' categorical_crossentropy) and clipped to [1e-7, 1 - 1e-7] first.
  bool from_logits = true;
  /// Target q becomes q (1 - s) + s / classes.
  float label_smoothing = 0.0F;
};

/// losses[i] = -sum_c target[i, c] log p[i, c].
/// @param input (rows, classes) float32
/// @param labels class numbers (rows), int32, int64 or uint8, or target distributions (rows, classes) float32
/// @param losses (rows) float32
/// @throws ShapeError extents do not match. @throws DTypeError other element types.
/// @throws ValueError a label outside [0, classes) (checked before anything is written), smoothing outside [0, 1).
CONVEC_API void softmax_cross_entropy_forward(const Context& context, ConstTensorView input, ConstTensorView labels,
                                              const CrossEntropyOptions& options, TensorView losses);

/// grad_input[i, :] = grad_losses[i] * d losses[i] / d input[i, :].
/// @param grad_losses (rows) float32
/// @throws as softmax_cross_entropy_forward.
CONVEC_API void softmax_cross_entropy_backward(const Context& context, ConstTensorView grad_losses,
                                               ConstTensorView input, ConstTensorView labels,
                                               const CrossEntropyOptions& options, TensorView grad_input);

}  // namespace convec
