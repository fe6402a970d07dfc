// Dense layers of bfloat16 arrays by warpgroups. Compiled for 9.0a alone.
#include "dense_products.hpp"
#include "warpgroup.hpp"

namespace convec::cuda {

template void run_on_warpgroups(const Context&, const MatmulPlan&,
                                const MatrixProduct<true, false, BFloat16, BFloat16>&);
template void run_on_warpgroups(const Context&, const MatmulPlan&,
                                const MatrixProduct<true, true, BFloat16, BFloat16>&);
template void run_on_warpgroups(const Context&, const MatmulPlan&, const MatrixProduct<false, false, BFloat16, float>&);

}  // namespace convec::cuda
