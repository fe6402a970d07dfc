// The kernels that update float32 tables, and the choice and launch of all.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "launch.hpp"
#include "word2vec_team.hpp"

namespace convec::cuda {

namespace {

// negative = 5, the usual number, has kernels of its own.
Word2VecKernel kernel_float32(std::int32_t vector_size, bool skip_gram, int negative) {
  if (vector_size > word2vec_team::largest_of_a_warp) return word2vec_team::kernel_of_a_block<float>(skip_gram);
  if (negative == 5) return word2vec_team::kernel_of_a_warp<float, 6>(vector_size, skip_gram);
  return word2vec_team::kernel_of_a_warp<float, word2vec_team::most_outputs>(vector_size, skip_gram);
}

}  // namespace

Word2VecUpdate::Word2VecUpdate(int device, bool skip_gram, std::int32_t vector_size, std::int32_t negative,
                               TablePrecision precision, int concurrency, std::int64_t most) {
  kernel_ = precision == TablePrecision::bfloat16 ? word2vec_kernel_bfloat16(vector_size, skip_gram)
                                                  : kernel_float32(vector_size, skip_gram, negative);
  const bool block_team = vector_size > word2vec_team::largest_of_a_warp;
  teams_a_block_ = block_team ? 1 : word2vec_team::most_warps;
  threads_ = (block_team ? (vector_size + 255) / 256 : word2vec_team::most_warps) * warp_size;
  if (concurrency > 0) {
    teams_ = concurrency;
  } else {
    int blocks = 0;
    check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel_, threads_, 0),
          "cudaOccupancyMaxActiveBlocksPerMultiprocessor");
    const std::int64_t held = static_cast<std::int64_t>(blocks) * multiprocessors(device) * teams_a_block_;
    teams_ = static_cast<int>(std::max<std::int64_t>(1, std::min(held, most)));
  }
  if (!block_team && teams_ < teams_a_block_) {
    teams_a_block_ = teams_;
    threads_ = teams_ * warp_size;
  }
}

void Word2VecUpdate::operator()(const Word2VecPiece& piece, const Word2VecUpdateSettings& settings,
                                cudaStream_t stream) const {
  const int blocks = (teams_ + teams_a_block_ - 1) / teams_a_block_;
  launch(kernel_, {dim3(static_cast<unsigned>(blocks)), dim3(static_cast<unsigned>(threads_)), 0, stream}, piece,
         settings);
}

}  // namespace convec::cuda
