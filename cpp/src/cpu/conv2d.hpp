// Pieces of the direct convolution that the fused ops share.
#pragma once

#include "op_table.hpp"

namespace convec::cpu {

void conv2d_backward_input(const Context& context, const Conv2dProblem& p, const float* grad_output,
                           const float* filters, float* grad_input);

void conv2d_backward_filters(const Context& context, const Conv2dProblem& p, const float* input,
                             const float* grad_output, float* grad_filters, float* grad_bias);

bool padded(const Conv2dProblem& p);
// Whether a copy of `extent` pixels with zeros beside them, for a filter of `taps`, is worth its memory: large strides
// allow any padding, so that a small image with it need not fit anywhere.
constexpr bool is_narrow(int64_t zeros, int64_t extent, int64_t taps) { return zeros <= extent + 2 * taps; }
// An image with its padding all round.
void copy_padded(const Conv2dProblem& p, const float* image, float* to);

// 3 x 3, stride 1, under windows of 2 x 2: the case that has kernels of its own.
bool small_windows(const Conv2dProblem& p, const Pool2dProblem& pool);

bool conv2d_max_pool2d_fusible(const Conv2dProblem& p, const Pool2dProblem& pool);

void conv2d_max_pool2d_backward(const Context& context, const Conv2dProblem& p, const Pool2dProblem& pool,
                                const float* input, const float* filters, bool relu, const float* output,
                                const std::uint8_t* argmax, const float* grad_output, float* grad_input,
                                float* grad_filters, float* grad_bias);

}  // namespace convec::cpu
