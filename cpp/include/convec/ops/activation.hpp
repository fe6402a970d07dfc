/// @file activation.hpp
/// Element-wise activations, softmax, dropout and rescaling.
#pragma once

#include <cstdint>

#include <convec/context.hpp>
#include <convec/export.hpp>
#include <convec/tensor.hpp>

namespace convec {

/// Element-wise activations; formulas and constants are Keras 3's (keras.activations).
enum class Activation : std::uint8_t {
  linear,
  relu,        ///< max(x, 0)
  relu6,       ///< min(max(x, 0), 6)
  leaky_relu,  ///< x < 0 ? 0.2 x : x
  elu,         ///< x < 0 ? exp(x) - 1 : x
  selu,        ///< 1.05070098 (x < 0 ? 1.67326324 (exp(x) - 1) : x)
  gelu,        ///< x Phi(x), the exact form with erf
  silu,        ///< x sigmoid(x)
  sigmoid,
  tanh,
  softplus  ///< log(1 + exp(x))
};

/// "relu", "leaky_relu", ...
CONVEC_API const char* name_of(Activation activation) noexcept;

/// @throws ValueError the name is not one of the activations.
CONVEC_API Activation parse_activation(const char* name);

/// output = f(input). Any shape, float32; output may be the input's own memory.
/// @throws ShapeError the shapes differ. @throws DTypeError not float32. @throws DeviceError mixed devices.
CONVEC_API void activation_forward(const Context& context, Activation activation, ConstTensorView input,
                                   TensorView output);

/// grad_input = grad_output * f'(input). `input` is what activation_forward was given.
/// @throws ShapeError, DTypeError, DeviceError as activation_forward.
CONVEC_API void activation_backward(const Context& context, Activation activation, ConstTensorView grad_output,
                                    ConstTensorView input, TensorView grad_input);

/// Softmax over the last axis: exp(x - max) / sum(exp(x - max)). float32, rank 1 or more.
/// @throws ShapeError the shapes differ, rank 0 or an empty last axis. @throws DTypeError not float32.
CONVEC_API void softmax_forward(const Context& context, ConstTensorView input, TensorView output);

/// grad_input = output * (grad_output - sum(grad_output * output)) over the last axis; `output` is
/// softmax_forward's. @throws ShapeError, DTypeError, DeviceError as softmax_forward.
CONVEC_API void softmax_backward(const Context& context, ConstTensorView grad_output, ConstTensorView output,
                                 TensorView grad_input);

/// Inverted dropout: each element is zeroed with probability `rate`, the rest scaled by 1 / (1 - rate).
/// Element i is kept or not by Philox4x32-10 (Salmon et al., 2011) with key `seed` and counter
/// (i / 4, `offset`), so the backward pass is the same call on the gradient, and the result depends on neither
/// threads nor device. @throws ValueError rate outside [0, 1). @throws ShapeError, DTypeError, DeviceError.
CONVEC_API void dropout(const Context& context, float rate, std::uint64_t seed, std::uint64_t offset,
                        ConstTensorView input, TensorView output);

/// output = input * scale + offset. @throws ShapeError, DTypeError, DeviceError as activation_forward.
CONVEC_API void rescale(const Context& context, float scale, float offset, ConstTensorView input, TensorView output);

}  // namespace convec
