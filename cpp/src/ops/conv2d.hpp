// Validation of a convolution, shared by the op and the network builder.
#pragma once

#include <convec/ops/conv2d.hpp>

#include "op_table.hpp"

namespace convec {

// Throws as conv2d_output_shape.
Conv2dProblem make_conv2d_problem(const Shape& input, const Shape& filters, const Conv2dOptions& options);

}  // namespace convec
