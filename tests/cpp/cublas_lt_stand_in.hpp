// What the stand-in for cuBLASLt (cublas_lt_stand_in.cpp) lets a test see and decide, through convec_stand_in().
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace convec::test {

struct CublasLtStandIn {
  // A call of cublasLtMatmul, in the library's own words: matrices with their columns one after the other.
  struct Call {
    std::uint64_t m, n, k;
    bool transposed_a, transposed_b;
    int compute_type;
    std::uint32_t epilogue;
    std::uint32_t reduction_schemes;  // that the choice of the algorithm allowed
    std::size_t workspace;            // bytes
  };

  // Queues work on a stream.
  void (*launch)(void* stream, void (*work)(void*), void* data) = nullptr;
  std::vector<Call> calls;
  int searches = 0;                        // calls of cublasLtMatmulAlgoGetHeuristic
  int objects = 0;                         // made and not destroyed
  std::uint32_t unsupported_epilogue = 0;  // for which there is no algorithm
  bool nothing_supported = false;
  int matmul_status = 0;  // other than 0: what cublasLtMatmul returns
};

}  // namespace convec::test
