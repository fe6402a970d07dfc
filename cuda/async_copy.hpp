// Asynchronous copies from global to shared memory (compute capability 8.0 and later): a thread goes on while its
// copies are under way, and waits for groups of them. Others see them once it has waited and all have passed a barrier.
#pragma once

#include <cstdint>

#include "kernel.hpp"

namespace convec::cuda {

#if defined(CONVEC_CUDA_EMULATION)

// 16 bytes, or zeros where not `inside`: `from` is not read then.
inline void copy_async(void* shared, const void* from, bool inside, const char* file = __builtin_FILE(),
                       int line = __builtin_LINE()) {
  emulation::copy_async(shared, from, 16, inside ? 16 : 0, file, line);
}
// The copies since the last call become a group.
inline void commit_copies() { emulation::commit_copies(); }
// Whether this thread's copies have landed since wgmma was shown what has (wgmma.hpp).
inline bool& copies_to_show() {
  static thread_local bool threads[1024];
  return threads[threadIdx.x];
}
// Until at most the last `Groups` of this thread's groups are under way.
template <int Groups>
void wait_for_copies() {
  emulation::wait_for_copies(Groups);
  copies_to_show() = true;
}

#elif !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800

__device__ __forceinline__ void copy_async(void* shared, const void* from, bool inside) {
  const auto to = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(inside ? 16 : 0) : "memory");
}
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int Groups>
__device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Groups) : "memory");
}

#endif

}  // namespace convec::cuda
