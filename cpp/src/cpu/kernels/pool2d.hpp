// Pooling kernels: one row of output, or one image of gradient, at a time.
#pragma once

#include <cstdint>

#include "op_table.hpp"

namespace convec::cpu {

struct PoolKernels {
  // One row of windows: `image` is (height, width, channels), `output` (out_width, channels).
  void (*max_forward_row)(const Pool2dProblem&, std::int64_t out_row, const float* image, float* output);
  void (*average_forward_row)(const Pool2dProblem&, std::int64_t out_row, const float* image, float* output);
  // One image, channels [first, last). Overwrites these channels of grad_input.
  void (*max_backward_image)(const Pool2dProblem&, std::int64_t first, std::int64_t last, const float* grad_output,
                             const float* image, float* grad_input);
  void (*average_backward_image)(const Pool2dProblem&, std::int64_t first, std::int64_t last, const float* grad_output,
                                 float* grad_input);
  // One image of (pixels, channels), channels [first, last); `output` and `grad_output` hold all channels.
  void (*global_average_forward)(std::int64_t pixels, std::int64_t channels, std::int64_t first, std::int64_t last,
                                 const float* image, float* output);
  void (*global_average_backward)(std::int64_t pixels, std::int64_t channels, std::int64_t first, std::int64_t last,
                                  const float* grad_output, float* grad_input);
};

}  // namespace convec::cpu
