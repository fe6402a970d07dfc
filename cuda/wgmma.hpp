// wgmma (compute capability 9.0a): a warpgroup, 128 threads, multiplies 64 x 16 by 16 x Columns bfloat16 numbers that
// lie in shared memory, while its threads go on. As with mma.sync (tensor_core.hpp), of 64 rows warp w has 16 * w to 16
// * w + 15, and a lane's sums[j] are c of eight columns; of each step all threads take part (PTX ISA,
// "wgmma.mma_async").
//
// A descriptor says where a matrix lies (PTX ISA, "Matrix descriptor"; the layouts are those of StageLayout<BFloat16>):
//
//   bits 0 to 13    address, in 16 bytes, as all distances are
//   bits 16 to 29   across k: from a panel of 64 numbers to the next
//   bits 32 to 45   from eight lines to the next
//   bits 62 and 63  2: lines of 64 bytes, bits 4 and 5 of an address XOR bits 7 and 8; 1: of 128 bytes, bits 4 to 6 XOR
//                   bits 7 to 9
//
// Not seen to work: no GPU has run it, and the emulation follows the same reading of the documents.
#pragma once

#include <cstddef>
#include <cstdint>

#include <convec/tensor.hpp>

#include "async_copy.hpp"
#include "kernel.hpp"

#if defined(CONVEC_CUDA_EMULATION)
#include <array>
#include <cstring>
#include <deque>
#include <vector>
#endif

#if defined(CONVEC_CUDA_EMULATION) || !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define CONVEC_WGMMA 1
#else
#define CONVEC_WGMMA 0
#endif

namespace convec::cuda {

#if CONVEC_WGMMA

// Of a stage, or the part of one, that begins at a multiple of 1,024 bytes.
template <bool AlongK>
__device__ __forceinline__ std::uint64_t wgmma_descriptor(const void* shared) {
#if defined(CONVEC_CUDA_EMULATION)
  const auto address =
      static_cast<std::uint64_t>(static_cast<const std::byte*>(shared) - convec::emulation::dynamic_shared_memory());
#else
  const auto address = static_cast<std::uint64_t>(__cvta_generic_to_shared(shared));
#endif
  constexpr std::uint64_t layout =
      AlongK ? std::uint64_t{512 / 16} << 32U | std::uint64_t{2} << 62U
             : std::uint64_t{4096 / 16} << 16U | std::uint64_t{1024 / 16} << 32U | std::uint64_t{1} << 62U;
  return address / 16 | layout;
}

#if defined(CONVEC_CUDA_EMULATION)

// What copies have brought becomes visible to wgmma.
inline void show_to_wgmma() { copies_to_show() = false; }

// Sums may be used from here on.
template <int Count>
void hold(float (&)[Count][4]) {}

// The products that a thread's warpgroup has under way. They read shared memory as late as they may, when they are
// waited for.
class WgmmaQueue {
 public:
  // Before the first product behind anything else that changes sums.
  void begin() { begun_ = true; }

  template <bool TransposedA, bool TransposedB, int Count>
  void add(float (&sums)[Count][4], std::uint64_t a, std::uint64_t b) {
    if (!begun_ || copies_to_show()) __trap();
    gathered_.push_back({sums, Count, {a, TransposedA}, {b, TransposedB}});
  }
  void commit() {
    groups_.push_back(std::move(gathered_));
    gathered_.clear();
    begun_ = false;
  }
  // Until at most the last `Groups` groups are under way.
  template <int Groups>
  void wait() {
    for (; groups_.size() > Groups; groups_.pop_front())
      for (const Product& product : groups_.front()) product.run();
  }

 private:
  struct Matrix {
    std::uint64_t descriptor;
    bool transposed;

    // Term k of number o.
    double at(unsigned int o, unsigned int k) const {
      const auto bits = [&](unsigned int first, unsigned int count) {
        return descriptor >> first & ((std::uint64_t{1} << count) - 1);
      };
      const std::uint64_t mode = bits(62, 2);
      if (mode != (transposed ? 1U : 2U)) __trap();
      std::uint64_t address = bits(0, 14) * 16;
      if (transposed)
        address += o / 64 * bits(16, 14) * 16 + k / 8 * bits(32, 14) * 16 + k % 8 * 128 + o % 64 * 2;
      else
        address += o / 8 * bits(32, 14) * 16 + o % 8 * 64 + k * 2;
      address ^= transposed ? (address >> 7U & 7U) << 4U : (address >> 7U & 3U) << 4U;
      std::uint16_t number = 0;
      std::memcpy(&number, convec::emulation::dynamic_shared_memory() + address, sizeof number);
      return double{__uint_as_float(static_cast<std::uint32_t>(number) << 16U)};
    }
  };
  struct Product {
    float (*sums)[4];
    unsigned int count;
    Matrix a, b;

    // Exact products, added up in double, and rounded once. (Hardware rounds in ways of its own in between.)
    void run() const {
      const unsigned int lane = threadIdx.x % warp_size;
      for (unsigned int j = 0; j < count; ++j)
        for (unsigned int n = 0; n < 4; ++n) {
          const unsigned int row = threadIdx.x / warp_size % 4 * 16 + lane / 4 + n / 2 * 8;
          const unsigned int column = j * 8 + lane % 4 * 2 + n % 2;
          double sum = sums[j][n];
          for (unsigned int k = 0; k < 16; ++k) sum += a.at(row, k) * b.at(column, k);
          sums[j][n] = static_cast<float>(sum);
        }
    }
  };

  bool begun_ = false;
  std::vector<Product> gathered_;
  std::deque<std::vector<Product>> groups_;
};

#else

// What copies have brought becomes visible to wgmma, which reads by another way (PTX ISA, "Async proxy").
__device__ __forceinline__ void show_to_wgmma() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// Sums may be used from here on: the compiler does not know that wgmma writes them later.
template <int Count>
__device__ __forceinline__ void hold(float (&sums)[Count][4]) {
  CONVEC_UNROLL
  for (int j = 0; j < Count; ++j)
    asm volatile("" : "+f"(sums[j][0]), "+f"(sums[j][1]), "+f"(sums[j][2]), "+f"(sums[j][3])::"memory");
}

// The products that a thread's warpgroup has under way.
class WgmmaQueue {
 public:
  // Before the first product behind anything else that changes sums.
  __device__ __forceinline__ void begin() const { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

#define CONVEC_FOUR(j) "+f"(sums[j][0]), "+f"(sums[j][1]), "+f"(sums[j][2]), "+f"(sums[j][3])
#define CONVEC_SIXTEEN(j) CONVEC_FOUR(j), CONVEC_FOUR((j) + 1), CONVEC_FOUR((j) + 2), CONVEC_FOUR((j) + 3)
  template <bool TransposedA, bool TransposedB>
  __device__ __forceinline__ void add(float (&sums)[8][4], std::uint64_t a, std::uint64_t b) const {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, 1, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, "
        "%8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, "
        "%24, %25, %26, %27, %28, %29, %30, %31}, "
        "%32, %33, p, 1, 1, %34, %35;\n}\n"
        : CONVEC_SIXTEEN(0), CONVEC_SIXTEEN(4)
        : "l"(a), "l"(b), "n"(TransposedA), "n"(TransposedB));
  }
  template <bool TransposedA, bool TransposedB>
  __device__ __forceinline__ void add(float (&sums)[16][4], std::uint64_t a, std::uint64_t b) const {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, 1, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, "
        "%8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, "
        "%24, %25, %26, %27, %28, %29, %30, %31, "
        "%32, %33, %34, %35, %36, %37, %38, %39, "
        "%40, %41, %42, %43, %44, %45, %46, %47, "
        "%48, %49, %50, %51, %52, %53, %54, %55, "
        "%56, %57, %58, %59, %60, %61, %62, %63}, "
        "%64, %65, p, 1, 1, %66, %67;\n}\n"
        : CONVEC_SIXTEEN(0), CONVEC_SIXTEEN(4), CONVEC_SIXTEEN(8), CONVEC_SIXTEEN(12)
        : "l"(a), "l"(b), "n"(TransposedA), "n"(TransposedB));
  }
#undef CONVEC_SIXTEEN
#undef CONVEC_FOUR

  __device__ __forceinline__ void commit() const { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
  // Until at most the last `Groups` groups are under way.
  template <int Groups>
  __device__ __forceinline__ void wait() const {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Groups) : "memory");
  }
};

#endif
#endif

}  // namespace convec::cuda
