// The kernels that update bfloat16 tables.
#include "word2vec_team.hpp"

namespace convec::cuda {

Word2VecKernel word2vec_kernel_bfloat16(std::int32_t vector_size, bool skip_gram) {
  if (vector_size > word2vec_team::largest_of_a_warp) return word2vec_team::kernel_of_a_block<__nv_bfloat16>(skip_gram);
  return word2vec_team::kernel_of_a_warp<__nv_bfloat16, word2vec_team::most_outputs>(vector_size, skip_gram);
}

}  // namespace convec::cuda
