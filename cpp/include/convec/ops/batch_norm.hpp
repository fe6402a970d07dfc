/// @file batch_norm.hpp
/// Batch normalisation over the last axis (Ioffe & Szegedy, 2015), as keras.layers.BatchNormalization.
#pragma once

#include <convec/context.hpp>
#include <convec/export.hpp>
#include <convec/tensor.hpp>

namespace convec {

/// Training: normalises with the batch's own mean and (biased) variance over all axes but the last, and moves the
/// running statistics: moving = moving * momentum + batch * (1 - momentum).
/// @param input, output (..., channels) float32 @param gamma, beta (channels) or absent (1 and 0)
/// @param moving_mean, moving_variance (channels), updated in place
/// @param batch_mean, batch_inverse_std (channels), written, for the backward pass; inverse_std = 1/sqrt(var + epsilon)
/// @throws ShapeError, DTypeError, DeviceError. @throws ValueError epsilon not positive, momentum outside [0, 1].
CONVEC_API void batch_norm_forward_training(const Context& context, ConstTensorView input, ConstTensorView gamma,
                                            ConstTensorView beta, float momentum, float epsilon, TensorView moving_mean,
                                            TensorView moving_variance, TensorView batch_mean,
                                            TensorView batch_inverse_std, TensorView output);

/// Inference: output = gamma (input - moving_mean) / sqrt(moving_variance + epsilon) + beta.
/// @throws as batch_norm_forward_training.
CONVEC_API void batch_norm_forward_inference(const Context& context, ConstTensorView input, ConstTensorView gamma,
                                             ConstTensorView beta, ConstTensorView moving_mean,
                                             ConstTensorView moving_variance, float epsilon, TensorView output);

/// Gradients of the training form. grad_gamma and grad_beta may be absent. Fixed-order sums.
/// @throws as batch_norm_forward_training.
CONVEC_API void batch_norm_backward(const Context& context, ConstTensorView grad_output, ConstTensorView input,
                                    ConstTensorView gamma, ConstTensorView batch_mean,
                                    ConstTensorView batch_inverse_std, TensorView grad_input, TensorView grad_gamma,
                                    TensorView grad_beta);

}  // namespace convec
