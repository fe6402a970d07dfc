// Validation of optimizer settings, shared by the op and the network.
#pragma once

#include <convec/ops/optimizer.hpp>

namespace convec {

// Throws ValueError where a hyper-parameter is out of range.
void check_optimizer(const OptimizerOptions& options);

}  // namespace convec
