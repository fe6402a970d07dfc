/// @file context.hpp
/// Where an op runs, and the library's own thread pool.
#pragma once

#include <convec/export.hpp>
#include <convec/tensor.hpp>

namespace convec {

/// The device an op runs on and, on CUDA, the stream it is launched on (an opaque cudaStream_t; null is the
/// default stream). Cheap to copy. Scratch memory is cached per thread inside the library.
struct Context {
  Device device;
  void* stream = nullptr;
};

/// Threads used by ops on the CPU, the calling thread included. At first: CONVEC_NUM_THREADS, else the number
/// of processors this process may run on (its affinity, not the host's core count).
CONVEC_API int num_threads() noexcept;

/// Sets num_threads(). Results do not depend on it. @throws ValueError below 1 or above 1024.
CONVEC_API void set_num_threads(int threads);

/// Whether 3 x 3 convolutions may run by Winograd's minimal filtering F(2x2, 3x3) where that is faster (today: fused
/// with 2 x 2 max pooling in a network). Its rounding differs from the direct sum's by about twice the direct sum's
/// own. At first true, unless the environment variable CONVEC_WINOGRAD is 0.
CONVEC_API bool winograd() noexcept;
/// False: direct sums only. Not to be called while an op is running.
CONVEC_API void set_winograd(bool enabled) noexcept;

}  // namespace convec
