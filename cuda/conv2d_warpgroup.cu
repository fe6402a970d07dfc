// Convolutions of bfloat16 arrays by warpgroups. Compiled for 9.0a alone.
#include "conv2d_products.hpp"
#include "warpgroup.hpp"

namespace convec::cuda {

template void run_on_warpgroups(const Context&, const MatmulPlan&, const ForwardProblem<BFloat16>&);
template void run_on_warpgroups(const Context&, const MatmulPlan&, const BackwardInputProblem<BFloat16>&);
template void run_on_warpgroups(const Context&, const MatmulPlan&, const BackwardFiltersProblem<BFloat16>&);

}  // namespace convec::cuda
