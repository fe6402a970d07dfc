/// @file pool2d.hpp
/// Max and average pooling over windows and over whole images, NHWC, float32.
#pragma once

#include <convec/context.hpp>
#include <convec/export.hpp>
#include <convec/ops/window.hpp>
#include <convec/tensor.hpp>

namespace convec {

/// A window that goes over an image.
struct Pool2dOptions {
  Size2d pool_size{2, 2};  ///< rows and columns of the window
  Size2d strides{2, 2};    ///< rows and columns between two windows
  Padding padding;         ///< pixels around the image, which never win nor count
};

/// Shape (batch, out_height, out_width, channels) of the pooled image.
/// @throws ShapeError rank is not 4 or an output extent would be below 1.
/// @throws ValueError sizes or strides below 1, padding negative or not smaller than the window.
CONVEC_API Shape pool2d_output_shape(const Shape& input, const Pool2dOptions& options);

/// Largest element of each window; padding never wins. NaN in a window gives NaN.
/// @throws ShapeError, ValueError as pool2d_output_shape. @throws DTypeError not float32.
/// @throws DeviceError arguments on different devices.
CONVEC_API void max_pool2d_forward(const Context& context, ConstTensorView input, const Pool2dOptions& options,
                                   TensorView output);

/// The gradient of each window goes to its largest element; of equal ones, the first in row-major order.
/// Overwrites grad_input. @throws as max_pool2d_forward.
CONVEC_API void max_pool2d_backward(const Context& context, ConstTensorView grad_output, ConstTensorView input,
                                    const Pool2dOptions& options, TensorView grad_input);

/// Mean of each window over the pixels that lie inside the image (Keras: 'same' padding is not counted).
/// @throws as max_pool2d_forward.
CONVEC_API void average_pool2d_forward(const Context& context, ConstTensorView input, const Pool2dOptions& options,
                                       TensorView output);

/// Overwrites grad_input. @throws as max_pool2d_forward.
CONVEC_API void average_pool2d_backward(const Context& context, ConstTensorView grad_output,
                                        const Pool2dOptions& options, TensorView grad_input);

/// (batch, height, width, channels) -> (batch, channels), the mean over the image.
/// @throws ShapeError wrong ranks or extents, empty image. @throws DTypeError, DeviceError.
CONVEC_API void global_average_pool2d_forward(const Context& context, ConstTensorView input, TensorView output);

/// Overwrites grad_input. @throws as global_average_pool2d_forward.
CONVEC_API void global_average_pool2d_backward(const Context& context, ConstTensorView grad_output,
                                               TensorView grad_input);

/// (batch, height, width, channels) -> (batch, channels), the largest over the image.
/// @throws as global_average_pool2d_forward.
CONVEC_API void global_max_pool2d_forward(const Context& context, ConstTensorView input, TensorView output);

/// Ties: the first element takes the gradient. @throws as global_average_pool2d_forward.
CONVEC_API void global_max_pool2d_backward(const Context& context, ConstTensorView grad_output, ConstTensorView input,
                                           TensorView grad_input);

}  // namespace convec
