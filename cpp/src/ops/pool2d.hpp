// Validation of a pooling, shared by the op and the network builder.
#pragma once

#include <convec/ops/pool2d.hpp>

#include "op_table.hpp"

namespace convec {

// Throws as pool2d_output_shape.
Pool2dProblem make_pool2d_problem(const Shape& input, const Pool2dOptions& options);

}  // namespace convec
