/// @file dense.hpp
/// Fully connected layers on a blocked matrix product.
///
/// Arrays are float32, or what is multiplied is bfloat16 (which saves time on CUDA devices alone): input and weights,
/// or the gradient of the output in place of either; the output and the gradient of the input are then bfloat16 as
/// well. Sums are float32, and so are bias and the gradients of weights and bias, which are sums over the batch.
#pragma once

#include <convec/context.hpp>
#include <convec/export.hpp>
#include <convec/ops/activation.hpp>
#include <convec/tensor.hpp>

namespace convec {

/// output = activation(input @ weights + bias).
/// @param input (batch, in)
/// @param weights (in, units)
/// @param bias (units) or absent
/// @param output (batch, units); must not overlap the other arguments
/// @throws ShapeError ranks or extents do not match.
/// @throws DTypeError neither float32 nor bfloat16, or not alike.
/// @throws DeviceError arguments on different devices.
CONVEC_API void dense_forward(const Context& context, ConstTensorView input, ConstTensorView weights,
                              ConstTensorView bias, Activation activation, TensorView output);

/// grad_input = grad_output @ weights^T. Overwrites grad_input. @throws as dense_forward.
CONVEC_API void dense_backward_input(const Context& context, ConstTensorView grad_output, ConstTensorView weights,
                                     TensorView grad_input);

/// grad_weights = input^T @ grad_output and, where present, grad_bias = column sums of grad_output. Overwrites
/// both, summed in a fixed order. @throws as dense_forward.
CONVEC_API void dense_backward_weights(const Context& context, ConstTensorView input, ConstTensorView grad_output,
                                       TensorView grad_weights, TensorView grad_bias);

}  // namespace convec
