// The element-wise activations and their derivatives (convec/ops/activation.hpp has the formulas), for kernels that
// fuse them. On the host for tests.
#pragma once

#include <cuda_runtime.h>

#include <cmath>

#include <convec/ops/activation.hpp>

namespace convec::cuda {

constexpr float leaky_slope = 0.2F;
constexpr float selu_alpha = 1.67326324F;
constexpr float selu_scale = 1.05070098F;

__host__ __device__ inline float sigmoid(float x) { return 1.0F / (1.0F + expf(-x)); }

// The standard normal distribution function.
__host__ __device__ inline float normal_cdf(float x) { return 0.5F * erfcf(-0.70710678F * x); }

__host__ __device__ inline float clip(float x, float low, float high) {
  // NaN passes.
  return x < low ? low : x > high ? high : x;
}

template <Activation activation>
__host__ __device__ inline float activate(float x) {
  if constexpr (activation == Activation::relu) return x < 0.0F ? 0.0F : x;
  if constexpr (activation == Activation::relu6) return clip(x, 0.0F, 6.0F);
  if constexpr (activation == Activation::leaky_relu) return x < 0.0F ? leaky_slope * x : x;
  if constexpr (activation == Activation::elu) return x < 0.0F ? expm1f(x) : x;
  if constexpr (activation == Activation::selu) return x < 0.0F ? selu_scale * selu_alpha * expm1f(x) : selu_scale * x;
  // Below -14 the product is under the smallest number; without this, -infinity times 0 would be NaN.
  if constexpr (activation == Activation::gelu) return x < -14.0F ? 0.0F : x * normal_cdf(x);
  if constexpr (activation == Activation::silu) return x < -104.0F ? 0.0F : x * sigmoid(x);
  if constexpr (activation == Activation::sigmoid) return sigmoid(x);
  if constexpr (activation == Activation::tanh) return tanhf(x);
  if constexpr (activation == Activation::softplus) return (x < 0.0F ? 0.0F : x) + log1pf(expf(-fabsf(x)));
  return x;
}

// The derivative at x times g.
template <Activation activation>
__host__ __device__ inline float activate_gradient(float g, float x) {
  if constexpr (activation == Activation::relu) return x > 0.0F ? g : 0.0F;
  if constexpr (activation == Activation::relu6) return x > 0.0F && x < 6.0F ? g : 0.0F;
  if constexpr (activation == Activation::leaky_relu) return x > 0.0F ? g : leaky_slope * g;
  if constexpr (activation == Activation::elu) return x < 0.0F ? g * expf(x) : g;
  if constexpr (activation == Activation::selu) return g * (x < 0.0F ? selu_scale * selu_alpha * expf(x) : selu_scale);
  if constexpr (activation == Activation::gelu) {
    // Phi(x) + x phi(x); x is limited where the density is 0 anyway, so that infinity times 0 does not arise.
    const float near = clip(x, -14.0F, 14.0F);
    return g * (near * (0.39894228F * expf(-0.5F * near * near)) + normal_cdf(near));
  }
  if constexpr (activation == Activation::silu) {
    const float near = clip(x, -104.0F, 104.0F);
    const float s = sigmoid(near);
    return g * (s * (1.0F + near * (1.0F - s)));
  }
  if constexpr (activation == Activation::sigmoid) return g * (sigmoid(x) * sigmoid(-x));
  if constexpr (activation == Activation::tanh) {
    // 1 / cosh(x)^2 = 4 e / (1 + e)^2 with e = e^-2|x|: no cancellation where tanh is near 1.
    const float e = expf(-2.0F * fabsf(x));
    return g * (4.0F * e / ((1.0F + e) * (1.0F + e)));
  }
  if constexpr (activation == Activation::softplus) return g * sigmoid(x);
  return g;
}

// For kernels in which the function is not the work.
__host__ __device__ inline float activate(Activation activation, float x) {
  switch (activation) {
    case Activation::linear:
      return x;
    case Activation::relu:
      return activate<Activation::relu>(x);
    case Activation::relu6:
      return activate<Activation::relu6>(x);
    case Activation::leaky_relu:
      return activate<Activation::leaky_relu>(x);
    case Activation::elu:
      return activate<Activation::elu>(x);
    case Activation::selu:
      return activate<Activation::selu>(x);
    case Activation::gelu:
      return activate<Activation::gelu>(x);
    case Activation::silu:
      return activate<Activation::silu>(x);
    case Activation::sigmoid:
      return activate<Activation::sigmoid>(x);
    case Activation::tanh:
      return activate<Activation::tanh>(x);
    case Activation::softplus:
      return activate<Activation::softplus>(x);
  }
  return x;
}

}  // namespace convec::cuda
