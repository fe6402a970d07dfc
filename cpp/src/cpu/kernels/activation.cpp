#include "cpu/kernels/activation.hpp"

#include "cpu/kernels/math.hpp"
#include "philox.hpp"

namespace convec::cpu::CONVEC_ISA_NAMESPACE {

void fill_activation(ActivationKernels& kernels);

namespace {

constexpr float leaky_slope = 0.2F;
constexpr float selu_alpha = 1.67326324F;
constexpr float selu_scale = 1.05070098F;

template <typename Function>
CONVEC_INLINE void map(std::int64_t size, const float* input, float* output, Function function) {
  std::int64_t i = 0;
  for (; i + vec_width <= size; i += vec_width) vec_store(output + i, function(vec_load(input + i)));
  if (i < size) {
    const int left = static_cast<int>(size - i);
    vec_store_first(output + i, function(vec_load_first(input + i, left)), left);
  }
}

// grad_input = grad_output * derivative(input)
template <typename Derivative>
CONVEC_INLINE void map_gradient(std::int64_t size, const float* grad_output, const float* input, float* grad_input,
                                Derivative derivative) {
  std::int64_t i = 0;
  for (; i + vec_width <= size; i += vec_width)
    vec_store(grad_input + i, derivative(vec_load(grad_output + i), vec_load(input + i)));
  if (i < size) {
    const int left = static_cast<int>(size - i);
    vec_store_first(grad_input + i, derivative(vec_load_first(grad_output + i, left), vec_load_first(input + i, left)),
                    left);
  }
}

CONVEC_INLINE Vec softplus(Vec x) {
  // max(x, 0) + log(1 + e^-|x|)
  const Vec positive = vec_select(vec_less(x, vec_zero()), vec_zero(), x);
  return vec_add(positive, vec_log1p(vec_exp(vec_negate(vec_abs(x)))));
}

void forward(Activation activation, std::int64_t size, const float* input, float* output) {
  const Vec zero = vec_zero();
  switch (activation) {
    case Activation::linear:
      return map(size, input, output, [](Vec x) __attribute__((always_inline)) { return x; });
    case Activation::relu:
      return map(size, input, output,
                 [=](Vec x) __attribute__((always_inline)) { return vec_select(vec_less(x, zero), zero, x); });
    case Activation::relu6:
      return map(size, input, output,
                 [=](Vec x) __attribute__((always_inline)) { return vec_clip(x, zero, vec_set(6.0F)); });
    case Activation::leaky_relu:
      return map(size, input, output, [=](Vec x) __attribute__((always_inline)) {
        return vec_select(vec_less(x, zero), vec_mul(x, vec_set(leaky_slope)), x);
      });
    case Activation::elu:
      return map(size, input, output,
                 [=](Vec x) __attribute__((always_inline)) { return vec_select(vec_less(x, zero), vec_expm1(x), x); });
    case Activation::selu:
      return map(size, input, output, [=](Vec x) __attribute__((always_inline)) {
        const Vec negative = vec_mul(vec_expm1(x), vec_set(selu_scale * selu_alpha));
        return vec_select(vec_less(x, zero), negative, vec_mul(x, vec_set(selu_scale)));
      });
    case Activation::gelu:
      return map(size, input, output, [](Vec x) __attribute__((always_inline)) {
        // Below -14 the product is under the smallest number; without this, -infinity times 0 would be NaN.
        return vec_select(vec_less(x, vec_set(-14.0F)), vec_zero(), vec_mul(x, vec_normal_cdf(x)));
      });
    case Activation::silu:
      return map(size, input, output, [](Vec x) __attribute__((always_inline)) {
        return vec_select(vec_less(x, vec_set(-104.0F)), vec_zero(), vec_mul(x, vec_sigmoid(x)));
      });
    case Activation::sigmoid:
      return map(size, input, output, [](Vec x) __attribute__((always_inline)) { return vec_sigmoid(x); });
    case Activation::tanh:
      return map(size, input, output, [](Vec x) __attribute__((always_inline)) { return vec_tanh(x); });
    case Activation::softplus:
      return map(size, input, output, [](Vec x) __attribute__((always_inline)) { return softplus(x); });
  }
}

void backward(Activation activation, std::int64_t size, const float* grad_output, const float* input,
              float* grad_input) {
  const Vec zero = vec_zero();
  const Vec one = vec_set(1.0F);
  switch (activation) {
    case Activation::linear:
      return map_gradient(size, grad_output, input, grad_input,
                          [](Vec g, Vec) __attribute__((always_inline)) { return g; });
    case Activation::relu:
      return map_gradient(size, grad_output, input, grad_input, [=](Vec g, Vec x) __attribute__((always_inline)) {
        return vec_select(vec_less(zero, x), g, zero);
      });
    case Activation::relu6:
      return map_gradient(size, grad_output, input, grad_input, [=](Vec g, Vec x) __attribute__((always_inline)) {
        return vec_select(vec_less(zero, x) & vec_less(x, vec_set(6.0F)), g, zero);
      });
    case Activation::leaky_relu:
      return map_gradient(size, grad_output, input, grad_input, [=](Vec g, Vec x) __attribute__((always_inline)) {
        return vec_select(vec_less(zero, x), g, vec_mul(g, vec_set(leaky_slope)));
      });
    case Activation::elu:
      return map_gradient(size, grad_output, input, grad_input, [=](Vec g, Vec x) __attribute__((always_inline)) {
        return vec_select(vec_less(x, zero), vec_mul(g, vec_exp(x)), g);
      });
    case Activation::selu:
      return map_gradient(size, grad_output, input, grad_input, [=](Vec g, Vec x) __attribute__((always_inline)) {
        const Vec negative = vec_mul(vec_exp(x), vec_set(selu_scale * selu_alpha));
        return vec_mul(g, vec_select(vec_less(x, zero), negative, vec_set(selu_scale)));
      });
    case Activation::gelu:
      return map_gradient(size, grad_output, input, grad_input, [](Vec g, Vec x) __attribute__((always_inline)) {
        // Phi(x) + x phi(x); x is limited where the density is 0 anyway, so that infinity times 0 does not arise.
        const Vec near = vec_clip(x, vec_set(-14.0F), vec_set(14.0F));
        const Vec density = vec_mul(vec_exp(vec_mul(vec_mul(near, near), vec_set(-0.5F))), vec_set(0.39894228F));
        return vec_mul(g, vec_fma(near, density, vec_normal_cdf(near)));
      });
    case Activation::silu:
      return map_gradient(size, grad_output, input, grad_input, [=](Vec g, Vec x) __attribute__((always_inline)) {
        const Vec near = vec_clip(x, vec_set(-104.0F), vec_set(104.0F));
        const Vec s = vec_sigmoid(near);
        // s (1 + x (1 - s))
        return vec_mul(g, vec_mul(s, vec_fma(near, vec_sub(one, s), one)));
      });
    case Activation::sigmoid:
      return map_gradient(size, grad_output, input, grad_input, [=](Vec g, Vec x) __attribute__((always_inline)) {
        return vec_mul(g, vec_mul(vec_sigmoid(x), vec_sigmoid(vec_negate(x))));
      });
    case Activation::tanh:
      return map_gradient(size, grad_output, input, grad_input, [=](Vec g, Vec x) __attribute__((always_inline)) {
        // 1 / cosh(x)^2 = 4 e / (1 + e)^2 with e = e^-2|x|: no cancellation where tanh is near 1.
        const Vec magnitude = vec_abs(x);
        const Vec e = vec_exp(vec_negate(vec_add(magnitude, magnitude)));
        const Vec sum = vec_add(one, e);
        return vec_mul(g, vec_mul(vec_set(4.0F), e) / vec_mul(sum, sum));
      });
    case Activation::softplus:
      return map_gradient(size, grad_output, input, grad_input,
                          [](Vec g, Vec x) __attribute__((always_inline)) { return vec_mul(g, vec_sigmoid(x)); });
  }
}

void softmax_forward(std::int64_t rows, std::int64_t classes, const float* input, float* output) {
  const Vec lowest = vec_set(-__builtin_inff());
  for (std::int64_t row = 0; row < rows; ++row, input += classes, output += classes) {
    Vec largest = lowest;
    for (std::int64_t c = 0; c < classes; c += vec_width)
      largest = vec_max(largest, vec_fill_from(vec_load_some(input + c, classes - c), classes - c, lowest));
    const Vec peak = vec_set(vec_largest(largest));
    Vec sums = vec_zero();
    for (std::int64_t c = 0; c < classes; c += vec_width) {
      const Vec e = vec_exp(vec_sub(vec_load_some(input + c, classes - c), peak));
      vec_store_some(output + c, e, classes - c);
      sums = vec_add(sums, vec_fill_from(e, classes - c, vec_zero()));
    }
    const Vec scale = vec_set(1.0F / vec_sum(sums));
    for (std::int64_t c = 0; c < classes; c += vec_width)
      vec_store_some(output + c, vec_mul(vec_load_some(output + c, classes - c), scale), classes - c);
  }
}

void softmax_backward(std::int64_t rows, std::int64_t classes, const float* grad_output, const float* output,
                      float* grad_input) {
  for (std::int64_t row = 0; row < rows; ++row, grad_output += classes, output += classes, grad_input += classes) {
    Vec sums = vec_zero();
    for (std::int64_t c = 0; c < classes; c += vec_width)
      sums = vec_fma(vec_load_some(grad_output + c, classes - c), vec_load_some(output + c, classes - c), sums);
    const Vec sum = vec_set(vec_sum(sums));
    for (std::int64_t c = 0; c < classes; c += vec_width) {
      const Vec centred = vec_sub(vec_load_some(grad_output + c, classes - c), sum);
      vec_store_some(grad_input + c, vec_mul(vec_load_some(output + c, classes - c), centred), classes - c);
    }
  }
}

void dropout(float rate, std::uint64_t seed, std::uint64_t offset, std::int64_t begin, std::int64_t size,
             const float* input, float* output) {
  // Element i is dropped where its word, as a fraction of 2^32, is below the rate.
  const auto threshold = static_cast<std::uint32_t>(static_cast<double>(rate) * 4294967296.0);
  const Vec scale = vec_set(1.0F / (1.0F - rate));
  constexpr std::int64_t counters = 16;
  alignas(64) std::uint32_t words[4 * counters];
  alignas(64) std::int32_t keep[4 * counters];
  for (std::int64_t i = 0; i < size; i += 4 * counters) {
    const auto first = static_cast<std::uint64_t>(begin + i) / 4;
    for (std::uint64_t k = 0; k < counters; ++k)
      philox::words(seed, first + k, offset, words[4 * k], words[4 * k + 1], words[4 * k + 2], words[4 * k + 3]);
    for (std::int64_t k = 0; k < 4 * counters; ++k) keep[k] = words[k] >= threshold ? -1 : 0;
    const std::int64_t left = size - i < 4 * counters ? size - i : 4 * counters;
    for (std::int64_t k = 0; k < left; k += vec_width) {
      VecInt mask;
      __builtin_memcpy(&mask, keep + k, sizeof mask);
      const Vec scaled = vec_mul(vec_load_some(input + i + k, left - k), scale);
      vec_store_some(output + i + k, vec_select(mask, scaled, vec_zero()), left - k);
    }
  }
}

void rescale(float scale, float offset, std::int64_t size, const float* input, float* output) {
  const Vec a = vec_set(scale);
  const Vec b = vec_set(offset);
  map(size, input, output, [=](Vec x) __attribute__((always_inline)) { return vec_fma(x, a, b); });
}

}  // namespace

void fill_activation(ActivationKernels& kernels) {
  kernels.forward = forward;
  kernels.backward = backward;
  kernels.softmax_forward = softmax_forward;
  kernels.softmax_backward = softmax_backward;
  kernels.dropout = dropout;
  kernels.rescale = rescale;
}

}  // namespace convec::cpu::CONVEC_ISA_NAMESPACE
