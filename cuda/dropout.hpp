// Dropout's arithmetic, for kernels that take the step's number as an argument or from memory.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "philox.hpp"

namespace convec::cuda {

struct Dropout {
  std::uint64_t seed;
  std::uint64_t offset;
  std::uint32_t threshold;  // an element is dropped where its word, as a fraction of 2^32, is below the rate
  float scale;

  Dropout(float rate, std::uint64_t seed_, std::uint64_t offset_)
      : seed(seed_),
        offset(offset_),
        threshold(static_cast<std::uint32_t>(static_cast<double>(rate) * 4294967296.0)),
        scale(1.0F / (1.0F - rate)) {}
};

// The grid's threads take the four elements of one counter each.
__device__ __forceinline__ void drop_elements(const Dropout& options, std::uint64_t offset, std::int64_t size,
                                              const float* input, float* output) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t k = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; 4 * k < size; k += step) {
    std::uint32_t words[4];
    philox::words(options.seed, static_cast<std::uint64_t>(k), offset, words[0], words[1], words[2], words[3]);
    for (int i = 0; i < 4 && 4 * k + i < size; ++i)
      output[4 * k + i] = words[i] >= options.threshold ? input[4 * k + i] * options.scale : 0.0F;
  }
}

}  // namespace convec::cuda
