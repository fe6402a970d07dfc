// Philox4x32-10, the counter-based random number generator of Salmon, Moraes, Dror and Shaw, "Parallel random numbers:
// as easy as 1, 2, 3" (SC 2011). The one copy of it, for the processor and for GPUs: dropout's kernels, Word2Vec and
// the initializers use this header. Forced inline, so that no function of it exists as a symbol that objects of
// different instruction sets could share.
#pragma once

#include <cstdint>

// Of functions that kernels of all devices call.
#if defined(__CUDACC__)
#define CONVEC_ANY_DEVICE static __host__ __device__ __forceinline__
#else
#define CONVEC_ANY_DEVICE static inline __attribute__((always_inline))
#endif

namespace convec::philox {

// Four 32-bit words from a 128-bit counter (its halves `counter` and `stream`) and a 64-bit key. Written on plain
// integers so that a loop around it is vectorised.
CONVEC_ANY_DEVICE void words(std::uint64_t key, std::uint64_t counter, std::uint64_t stream, std::uint32_t& word0,
                             std::uint32_t& word1, std::uint32_t& word2, std::uint32_t& word3) {
  std::uint32_t c0 = static_cast<std::uint32_t>(counter);
  std::uint32_t c1 = static_cast<std::uint32_t>(counter >> 32U);
  std::uint32_t c2 = static_cast<std::uint32_t>(stream);
  std::uint32_t c3 = static_cast<std::uint32_t>(stream >> 32U);
  std::uint32_t k0 = static_cast<std::uint32_t>(key);
  std::uint32_t k1 = static_cast<std::uint32_t>(key >> 32U);
#if defined(__CUDA_ARCH__)
#pragma unroll
#elif !defined(__CUDACC__)
#pragma GCC unroll 10
#endif
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = std::uint64_t{0xD2511F53U} * c0;
    const std::uint64_t product1 = std::uint64_t{0xCD9E8D57U} * c2;
    c0 = static_cast<std::uint32_t>(product1 >> 32U) ^ c1 ^ k0;
    c1 = static_cast<std::uint32_t>(product1);
    c2 = static_cast<std::uint32_t>(product0 >> 32U) ^ c3 ^ k1;
    c3 = static_cast<std::uint32_t>(product0);
    k0 += 0x9E3779B9U;
    k1 += 0xBB67AE85U;
  }
  word0 = c0;
  word1 = c1;
  word2 = c2;
  word3 = c3;
}

}  // namespace convec::philox
