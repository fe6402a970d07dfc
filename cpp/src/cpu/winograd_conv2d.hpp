// Convolution and its gradients by Winograd's minimal filtering F(4x4, 3x3).
#pragma once

#include "op_table.hpp"

namespace convec::cpu {

// Whether the forward pass is allowed (set_winograd) and pays where the filters' frequencies are at hand.
bool winograd_conv2d_pays(const Conv2dProblem& p);
// Whether it pays although the filters' frequencies have to be made for this call. So for the gradient to the filters.
bool winograd_conv2d_pays_unprepared(const Conv2dProblem& p);
bool winograd_conv2d_backward_input_pays(const Conv2dProblem& p);

int64_t winograd_conv2d_prepared_size(const Conv2dProblem& p);
void winograd_conv2d_prepare(const Conv2dProblem& p, const float* filters, float* prepared);
void winograd_conv2d_forward(const Conv2dProblem& p, const float* input, const float* prepared, const float* bias,
                             bool relu, float* output);
void winograd_conv2d_backward_input(const Conv2dProblem& p, const float* grad_output, const float* filters,
                                    float* grad_input);
void winograd_conv2d_backward_filters(const Conv2dProblem& p, const float* input, const float* grad_output,
                                      float* grad_filters);

}  // namespace convec::cpu
