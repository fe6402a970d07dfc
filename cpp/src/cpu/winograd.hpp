// Convolution with max pooling behind it by Winograd's minimal filtering: a 2 x 2 tile is just a pooling window.
#pragma once

#include "op_table.hpp"

namespace convec::cpu {

// Whether it is allowed (set_winograd) and pays for this problem, which must satisfy small_windows().
bool winograd_pays(const Conv2dProblem& p);

int64_t winograd_prepared_size(const Conv2dProblem& p);
void winograd_prepare(const Conv2dProblem& p, const float* filters, float* prepared);
void winograd_max_pool2d_forward(const Conv2dProblem& p, const Pool2dProblem& pool, const float* input,
                                 const float* prepared, const float* bias, bool relu, float* output,
                                 std::uint8_t* argmax);

}  // namespace convec::cpu
