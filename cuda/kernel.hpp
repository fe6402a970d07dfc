// What the kernels share: division by numbers known before the launch, vectors of floats, sums over warps and blocks in
// a fixed order.
#pragma once

#include <cuda_runtime.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>

#include <convec/error.hpp>

#include "launch.hpp"
#include "runtime.hpp"

namespace convec::cuda {

#if defined(__CUDA_ARCH__)
#define CONVEC_UNROLL _Pragma("unroll")
#define CONVEC_NO_UNROLL _Pragma("unroll 1")
#else
#define CONVEC_UNROLL
#define CONVEC_NO_UNROLL
#endif

constexpr int warp_size = 32;
constexpr unsigned int whole_warp = 0xFFFFFFFFU;
constexpr int block_threads = 256;

// Numbers that index a launch stay below this, so that a Divider may divide them.
constexpr int64_t index_limit = int64_t{1} << 31U;

// Division of n < 2^31 by a divisor of 1 to 2^31 - 1: a multiplication and a shift (Granlund & Montgomery, "Division by
// invariant integers using multiplication", PLDI 1994).
class Divider {
 public:
  Divider() = default;
  __host__ __device__ explicit Divider(int64_t divisor) : divisor_(static_cast<std::uint32_t>(divisor)) {
    while ((std::uint64_t{1} << shift_) < divisor_) ++shift_;
    const std::uint64_t power = std::uint64_t{1} << shift_;
    multiplier_ = static_cast<std::uint32_t>(((power - divisor_) << 32U) / divisor_ + 1);
  }

  __host__ __device__ std::uint32_t divisor() const { return divisor_; }
  __host__ __device__ std::uint32_t quotient(std::uint32_t n) const {
    const auto high = static_cast<std::uint32_t>((std::uint64_t{multiplier_} * n) >> 32U);
    return (high + n) >> shift_;
  }
  // The quotient; n becomes the remainder.
  __host__ __device__ std::uint32_t split(std::uint32_t& n) const {
    const std::uint32_t q = quotient(n);
    n -= q * divisor_;
    return q;
  }

 private:
  std::uint32_t divisor_ = 1;
  std::uint32_t multiplier_ = 1;
  std::uint32_t shift_ = 0;
};

// `Width` floats that are loaded and stored at once.
template <int Width>
struct alignas(Width * sizeof(float)) Floats {
  float at[Width];
};

template <int Width>
__device__ __forceinline__ Floats<Width> load(const float* from) {
  return *reinterpret_cast<const Floats<Width>*>(from);
}
template <int Width>
__device__ __forceinline__ void store(float* to, const Floats<Width>& values) {
  *reinterpret_cast<Floats<Width>*>(to) = values;
}

// Whether arrays may be read and written four floats at a time.
template <typename... Pointers>
bool aligned_for_vectors(const Pointers*... pointers) {
  return ((reinterpret_cast<std::uintptr_t>(pointers) % (4 * sizeof(float)) == 0) && ...);
}

inline dim3 grid_of(int64_t threads, int block = block_threads) {
  return dim3(static_cast<unsigned int>((threads + block - 1) / block));
}

// Blocks for a loop over `items` in steps of the whole grid: enough to fill the device several times.
inline dim3 loop_grid(int device, int64_t items, int block = block_threads) {
  const int64_t wanted = (items + block - 1) / block;
  const int64_t most = int64_t{16} * multiprocessors(device);
  return dim3(static_cast<unsigned int>(wanted < most ? wanted : most));
}

// How many images of a batch one launch may take, whose largest array has so many elements an image.
inline int64_t images_per_launch(int64_t elements_of_image) {
  if (elements_of_image >= index_limit)
    throw ShapeError("an image has " + std::to_string(elements_of_image) +
                     " elements, but the CUDA kernels take fewer than 2^31; split it");
  return (index_limit - 1) / elements_of_image;
}

// Calls run(first, count) for slices of a batch that one launch may take.
template <typename Run>
void for_image_slices(int64_t batch, int64_t elements_of_image, Run&& run) {
  const int64_t most = images_per_launch(elements_of_image);
  for (int64_t first = 0; first < batch; first += most) run(first, batch - first < most ? batch - first : most);
}

// ---- Reductions -----------------------------------------------------------------------------------------------------

struct Add {
  template <typename T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct Largest {
  __device__ __forceinline__ float operator()(float a, float b) const { return a < b ? b : a; }
};

// Over all lanes of a warp; every lane gets the result. All must take part.
template <typename T, typename Combine = Add>
__device__ __forceinline__ T reduce_warp(T value, Combine combine = {}) {
  for (int distance = warp_size / 2; distance > 0; distance /= 2)
    value = combine(value, __shfl_xor_sync(whole_warp, value, distance));
  return value;
}

// Over the threads of a block of `Threads`; every thread gets the result. `shared` holds one value a warp, and may be
// used again after the next barrier.
template <int Threads, typename T, typename Combine = Add>
__device__ __forceinline__ T reduce_block(T value, T* shared, Combine combine = {}) {
  constexpr int warps = Threads / warp_size;
  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  value = reduce_warp(value, combine);
  if (threadIdx.x % warp_size == 0) shared[warp] = value;
  __syncthreads();
  value = shared[0];
  for (int other = 1; other < warps; ++other) value = combine(value, shared[other]);
  return value;
}

}  // namespace convec::cuda
