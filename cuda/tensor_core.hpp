// Tensor cores (compute capability 8.0 and later): a warp multiplies small matrices whose elements lie in its lanes'
// registers, 32-bit words of one TF32 number or of two bfloat16 numbers. Seen as words, both shapes are alike: a is
// 16 x 8 (row, k), b is 8 x 8 (k, column), c is 16 x 8. With group = lane / 4 and member = lane % 4 a lane holds
//
//   a[0], a[1]: rows group and group + 8 at k = member;  a[2], a[3]: the same at k = member + 4
//   b[0], b[1]: column group at k = member and member + 4
//   c[0], c[1]: row group at columns 2 * member and 2 * member + 1;  c[2], c[3]: the same of row group + 8
//
// (PTX ISA, "Matrix fragments for mma.m16n8k8" and "... mma.m16n8k16"). A word of bfloat16 has the even k in its lower
// half.
//
// load_matrices() brings four matrices of 8 x 8 bfloat16 numbers from shared memory: of each a lane gets the word of
// row `group` with the numbers 2 * member and 2 * member + 1, or, transposed, those numbers of column `group`. Row i %
// 8 of matrix i / 8, 16 aligned bytes, is where lane i says (PTX ISA, "ldmatrix").
#pragma once

#include <cstdint>

#include <convec/tensor.hpp>

#include "kernel.hpp"

namespace convec::cuda {

// Whether this pass of the compiler may use tensor cores: the host's only declares.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#define CONVEC_TENSOR_CORES 0
#else
#define CONVEC_TENSOR_CORES 1
#endif

using Word = std::uint32_t;

#if defined(CONVEC_CUDA_EMULATION) || !CONVEC_TENSOR_CORES
// Two bfloat16 numbers, to the nearest, ties to even.
__device__ __forceinline__ Word to_bfloat16_pair(float low, float high) {
  const auto round = [](float value) {
    const Word bits = __float_as_uint(value);
    if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return Word{0x7FFF};
    return (bits + 0x7FFFU + ((bits >> 16U) & 1U)) >> 16U;
  };
  return round(low) | round(high) << 16U;
}
#endif

#if defined(CONVEC_CUDA_EMULATION)

// To the nearest, ties to even.
inline Word to_tf32(float value) {
  const Word bits = __float_as_uint(value);
  if ((bits & 0x7F800000U) == 0x7F800000U) return (bits & 0x007FFFFFU) == 0 ? bits : 0x7FFFE000U;
  return (bits + 0x0FFFU + ((bits >> 13U) & 1U)) & 0xFFFFE000U;
}

inline Word to_tf32_apart(float value) { return to_tf32(value); }

namespace emulation {

// Products are exact and summed in double, and c is rounded once. (Hardware rounds in ways of its own in between.)
// `factor(word, i)` is number i of a word of `PerWord`.
template <int PerWord, typename Factor>
void multiply(float (&c)[4], const Word (&a)[4], const Word (&b)[2], const Factor& factor) {
  struct Lane {
    Word a[4];
    Word b[2];
  };
  static thread_local Lane lanes[1024];
  const unsigned int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  Lane* const warp = lanes + thread / warp_size * warp_size;
  const unsigned int lane = thread % warp_size;
  for (int i = 0; i < 4; ++i) warp[lane].a[i] = a[i];
  for (int i = 0; i < 2; ++i) warp[lane].b[i] = b[i];
  __syncwarp();
  for (unsigned int i = 0; i < 4; ++i) {
    const unsigned int row = lane / 4 + i / 2 * 8;
    const unsigned int column = lane % 4 * 2 + i % 2;
    double sum = c[i];
    for (unsigned int k = 0; k < 8; ++k) {
      const Word of_a = warp[row % 8 * 4 + k % 4].a[row / 8 + k / 4 * 2];
      const Word of_b = warp[column * 4 + k % 4].b[k / 4];
      for (int n = 0; n < PerWord; ++n) sum += factor(of_a, n) * factor(of_b, n);
    }
    c[i] = static_cast<float>(sum);
  }
  __syncwarp();
}

// Lane i passes row i % 8 of matrix i / 8.
inline void load_matrices(Word (&words)[4], const void* row, bool transposed) {
  static thread_local const BFloat16* rows[1024];
  const unsigned int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const BFloat16** const warp = rows + thread / warp_size * warp_size;
  const unsigned int lane = thread % warp_size;
  if (reinterpret_cast<std::uintptr_t>(row) % 16 != 0) __trap();
  warp[lane] = static_cast<const BFloat16*>(row);
  __syncwarp();
  for (unsigned int matrix = 0; matrix < 4; ++matrix) {
    const auto number = [&](unsigned int n) {
      const unsigned int group = lane / 4;
      return Word{transposed ? warp[matrix * 8 + n][group].bits : warp[matrix * 8 + group][n].bits};
    };
    words[matrix] = number(lane % 4 * 2) | number(lane % 4 * 2 + 1) << 16U;
  }
  __syncwarp();
}

}  // namespace emulation

template <bool Transposed>
void load_matrices(Word (&words)[4], const void* row) {
  emulation::load_matrices(words, row, Transposed);
}

// c += a b
inline void multiply_tf32(float (&c)[4], const Word (&a)[4], const Word (&b)[2]) {
  // The hardware ignores the low bits of a word.
  emulation::multiply<1>(c, a, b, [](Word word, int) { return double{__uint_as_float(word & 0xFFFFE000U)}; });
}
inline void multiply_bfloat16(float (&c)[4], const Word (&a)[4], const Word (&b)[2]) {
  emulation::multiply<2>(
      c, a, b, [](Word word, int n) { return double{__uint_as_float(n == 0 ? word << 16U : word & 0xFFFF0000U)}; });
}

#elif CONVEC_TENSOR_CORES

// To the nearest. Ties go to even from 9.0 on, which has an instruction for it; before, away from zero, in two or
// three.
__device__ __forceinline__ Word to_tf32(float value) {
  Word word;
#if __CUDA_ARCH__ >= 900
  asm("cvt.rn.tf32.f32 %0, %1;" : "=r"(word) : "f"(value));
#else
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(word) : "f"(value));
#endif
  return word;
}
// The same, from a copy of the value: ptxas (13.0) rounds where the value lies, and then moves the words to where a
// fragment must lie, many of them more than once. With the multiplication that writes the copy, which it does not
// remove, a step of a tile has a third fewer instructions.
__device__ __forceinline__ Word to_tf32_apart(float value) {
  float copy;
  asm("mul.rn.f32 %0, %1, 0f3F800000;" : "=f"(copy) : "f"(value));
  return to_tf32(copy);
}
__device__ __forceinline__ Word to_bfloat16_pair(float low, float high) {
  Word word;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
}
template <bool Transposed>
__device__ __forceinline__ void load_matrices(Word (&words)[4], const void* row) {
  const auto from = static_cast<std::uint32_t>(__cvta_generic_to_shared(row));
  if constexpr (Transposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                 : "r"(from)
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                 : "r"(from)
                 : "memory");
}
__device__ __forceinline__ void multiply_tf32(float (&c)[4], const Word (&a)[4], const Word (&b)[2]) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ __forceinline__ void multiply_bfloat16(float (&c)[4], const Word (&a)[4], const Word (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

#endif

// ---- Ways to multiply -----------------------------------------------------------------------------------------------
//
//   per_word                     numbers of a word, neighbours along k
//   keep(numbers)                a word of them for shared memory
//   Factor<Count>                words of a lane as they are multiplied
//   multiply(c, a, b)            c += a b
//   in_turn                      words are to be loaded in turn: all at once, as ptxas would like, their factors do not
//                                fit into registers

template <int Count>
struct Words {
  Word at[Count];
};

// Words are multiplied as they are kept.
struct AsKept {
  static constexpr bool in_turn = false;
  template <int Count>
  using Factor = Words<Count>;
  template <int Count>
  __device__ static __forceinline__ Factor<Count> factor(const Words<Count>& words) {
    return words;
  }
};

struct Tf32 : AsKept {
  static constexpr int per_word = 1;
#if CONVEC_TENSOR_CORES
  __device__ static __forceinline__ Word keep(float value) { return to_tf32_apart(value); }
  __device__ static __forceinline__ void multiply(float (&c)[4], const Factor<4>& a, const Factor<2>& b) {
    multiply_tf32(c, a.at, b.at);
  }
#endif
};

// Each factor is the sum of its nearest TF32 number and of that of the rest; the product of the two rests, 2^-22 of the
// whole, is left out. The sums over k are added up outside the tensor cores, which cut off what does not fit where
// additions round to the nearest (Ootomo & Yokota, "Recovering single precision accuracy from Tensor Cores while
// surpassing the FP32 theoretical peak performance", 2022). Infinities give NaN.
struct Tf32x3 {
  static constexpr int per_word = 1;
  static constexpr bool in_turn = true;
  template <int Count>
  struct Factor {
    Word large[Count];
    Word rest[Count];
  };
#if CONVEC_TENSOR_CORES
  __device__ static __forceinline__ Word keep(float value) { return __float_as_uint(value); }
  template <int Count>
  __device__ static __forceinline__ Factor<Count> factor(const Words<Count>& words) {
    Factor<Count> found;
    CONVEC_UNROLL
    for (int i = 0; i < Count; ++i) {
      const float value = __uint_as_float(words.at[i]);
      found.large[i] = to_tf32(value);
      found.rest[i] = to_tf32(value - __uint_as_float(found.large[i]));
    }
    return found;
  }
  __device__ static __forceinline__ void multiply(float (&c)[4], const Factor<4>& a, const Factor<2>& b) {
    float sums[4] = {};
    multiply_tf32(sums, a.rest, b.large);
    multiply_tf32(sums, a.large, b.rest);
    multiply_tf32(sums, a.large, b.large);
    CONVEC_UNROLL
    for (int i = 0; i < 4; ++i) c[i] += sums[i];
  }
#endif
};

struct MixedBFloat16 : AsKept {
  static constexpr int per_word = 2;
#if CONVEC_TENSOR_CORES
  __device__ static __forceinline__ Word keep(float even, float odd) { return to_bfloat16_pair(even, odd); }
  __device__ static __forceinline__ void multiply(float (&c)[4], const Factor<4>& a, const Factor<2>& b) {
    multiply_bfloat16(c, a.at, b.at);
  }
#endif
};

// Whether products may run on the tensor cores of a device: it has them, and this build has code for it. Asked for
// once.
bool tensor_cores(int device);

}  // namespace convec::cuda
