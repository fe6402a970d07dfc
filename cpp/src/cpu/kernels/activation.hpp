// Element-wise kernels and softmax. Every function may work in place.
#pragma once

#include <cstdint>

#include <convec/ops/activation.hpp>

namespace convec::cpu {

struct ActivationKernels {
  void (*forward)(Activation, std::int64_t size, const float* input, float* output);
  void (*backward)(Activation, std::int64_t size, const float* grad_output, const float* input, float* grad_input);
  void (*softmax_forward)(std::int64_t rows, std::int64_t classes, const float* input, float* output);
  void (*softmax_backward)(std::int64_t rows, std::int64_t classes, const float* grad_output, const float* output,
                           float* grad_input);
  // Elements [begin, begin + size) of the whole array; `begin` is a multiple of 4. The pointers are at `begin`.
  void (*dropout)(float rate, std::uint64_t seed, std::uint64_t offset, std::int64_t begin, std::int64_t size,
                  const float* input, float* output);
  void (*rescale)(float scale, float offset, std::int64_t size, const float* input, float* output);
};

}  // namespace convec::cpu
