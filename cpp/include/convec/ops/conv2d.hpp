/// @file conv2d.hpp
/// 2-D convolution (cross-correlation, as in every deep-learning library), NHWC and HWIO.
///
/// Arrays are float32, or what is multiplied is bfloat16 (which saves time on CUDA devices alone): input and filters,
/// or the gradient of the output in place of either; the output and the gradient of the input are then bfloat16 as
/// well. Sums are float32, and so are bias and the gradients of filters and bias, which are sums over the batch.
#pragma once

#include <cstdint>

#include <convec/context.hpp>
#include <convec/export.hpp>
#include <convec/ops/activation.hpp>
#include <convec/ops/window.hpp>
#include <convec/tensor.hpp>

namespace convec {

/// How filters go over an image.
struct Conv2dOptions {
  Size2d strides;   ///< rows and columns between two outputs
  Padding padding;  ///< zeros around the image
  Size2d dilation;  ///< rows and columns between two taps of a filter
  /// Input channels and filters are split into this many groups that do not see each other.
  std::int64_t groups = 1;
};

/// Shape (batch, out_height, out_width, filters) that conv2d_forward writes.
/// @param input (batch, height, width, channels)
/// @param filters (rows, columns, channels / groups, filters)
/// @throws ShapeError a rank is not 4, channels do not match, or an output extent would be below 1.
/// @throws ValueError strides, dilation or groups below 1, negative padding, absurd sizes.
CONVEC_API Shape conv2d_output_shape(const Shape& input, const Shape& filters, const Conv2dOptions& options);

/// output = activation(conv(input, filters) + bias).
/// @param bias (filters) or absent
/// @param activation element-wise, fused
/// @param output shape of conv2d_output_shape; must not overlap the other arguments
/// @throws ShapeError, ValueError as conv2d_output_shape.
/// @throws DTypeError neither float32 nor bfloat16, or not alike.
/// @throws DeviceError arguments on different devices.
CONVEC_API void conv2d_forward(const Context& context, ConstTensorView input, ConstTensorView filters,
                               ConstTensorView bias, const Conv2dOptions& options, Activation activation,
                               TensorView output);

/// Gradient of a scalar loss with respect to conv2d_forward's input, given that with respect to its output
/// (before any activation). Writes all of grad_input (batch, height, width, channels).
/// @throws as conv2d_forward.
CONVEC_API void conv2d_backward_input(const Context& context, ConstTensorView grad_output, ConstTensorView filters,
                                      const Conv2dOptions& options, TensorView grad_input);

/// Gradients with respect to the filters and, where present, the bias. Overwrites both.
/// Summed in a fixed order: the result does not depend on the number of threads.
/// @throws as conv2d_forward.
CONVEC_API void conv2d_backward_filters(const Context& context, ConstTensorView input, ConstTensorView grad_output,
                                        const Conv2dOptions& options, TensorView grad_filters, TensorView grad_bias);

}  // namespace convec
