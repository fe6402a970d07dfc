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

}  // namespace convec
