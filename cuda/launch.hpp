// Launches kernels, on a GPU or emulated (emulation/cuda_runtime.h), so that one source serves both: no <<<>>>.
//
//   __global__ void scale(float* values, int size, float by);
//   launch(scale, {dim3((size + 255) / 256), dim3(256), 0, stream}, values, size, 2.0F);
#pragma once

#include <cstddef>
#include <tuple>
#include <type_traits>
#include <utility>

#include <cuda_runtime.h>

#include "check.hpp"

#if defined(CONVEC_CUDA_EMULATION)
#include "emulation/emulation.hpp"
#endif

namespace convec::cuda {

struct Launch {
  dim3 grid;
  dim3 block;
  std::size_t shared_bytes = 0;  // dynamic shared memory of a block
  cudaStream_t stream = nullptr;
};

// Shared memory that a kernel takes without being asked whether it may have more.
constexpr std::size_t shared_bytes_without_asking = 48 * 1024;

// Queues the kernel. Arguments are converted to its parameters, which are copied before the call returns.
// Throws DeviceError where the launch fails; what goes wrong in the kernel is reported by a later call.
template <typename... P, typename... A>
void launch(void (*kernel)(P...), const Launch& where, A&&... arguments) {
  static_assert(sizeof...(P) == sizeof...(A), "as many arguments as the kernel has parameters");
  static_assert((!std::is_reference_v<P> && ...), "parameters of a kernel are values");
  std::tuple<std::remove_cv_t<P>...> values(static_cast<std::remove_cv_t<P>>(std::forward<A>(arguments))...);
#if defined(CONVEC_CUDA_EMULATION)
  check(emulation::launch(where.grid, where.block, where.shared_bytes, where.stream,
                          [kernel, values] { std::apply(kernel, values); }),
        "a kernel launch");
#else
  const void* function = reinterpret_cast<const void*>(kernel);
  if (where.shared_bytes > shared_bytes_without_asking)
    check(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(where.shared_bytes)),
          "a request for shared memory");
  std::apply(
      [&](auto&... value) {
        // One more, so that it is never empty.
        void* pointers[] = {&value..., nullptr};
        check(cudaLaunchKernel(function, where.grid, where.block, pointers, where.shared_bytes, where.stream),
              "a kernel launch");
      },
      values);
#endif
}

// The block's dynamic shared memory, aligned to 16 bytes or to 1,024, one of which all kernels of a source file ask
// for.
template <typename T, int Alignment = 16>
__device__ inline T* dynamic_shared() {
#if defined(CONVEC_CUDA_EMULATION)
  return reinterpret_cast<T*>(emulation::dynamic_shared_memory());
#else
  extern __shared__ __align__(Alignment) unsigned char convec_dynamic_shared[];
  return reinterpret_cast<T*>(convec_dynamic_shared);
#endif
}

}  // namespace convec::cuda
