// Batch normalisation kernels over (rows, channels).
#pragma once

#include <cstdint>

namespace convec::cpu {

struct BatchNormKernels {
  // Mean of each channel over the rows, and the sum of squared distances from it.
  void (*statistics)(std::int64_t rows, std::int64_t channels, const float* input, float* mean, float* squares);
  // output = input * scale + shift, a number a channel.
  void (*scale_shift)(std::int64_t rows, std::int64_t channels, const float* input, const float* scale,
                      const float* shift, float* output);
  // Sums over the rows of grad_output and of grad_output * (input - mean).
  void (*gradient_sums)(std::int64_t rows, std::int64_t channels, const float* grad_output, const float* input,
                        const float* mean, float* sum, float* sum_centred);
  // grad_input = a * grad_output + b * (input - mean) + c, numbers a channel.
  void (*gradient)(std::int64_t rows, std::int64_t channels, const float* grad_output, const float* input,
                   const float* mean, const float* a, const float* b, const float* c, float* grad_input);
};

}  // namespace convec::cpu
