// One vector of floats at the level this source is compiled for. Everything is forced inline, so that no function of
// this file exists as a symbol that another level could pick up.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

#define CONVEC_INLINE static inline __attribute__((always_inline))

namespace convec::cpu::CONVEC_ISA_NAMESPACE {

#if defined(__AVX512F__)

using Vec = __m512;
constexpr int vec_width = 16;

CONVEC_INLINE Vec vec_zero() { return _mm512_setzero_ps(); }
CONVEC_INLINE Vec vec_set(float x) { return _mm512_set1_ps(x); }
CONVEC_INLINE Vec vec_load(const float* p) { return _mm512_loadu_ps(p); }
CONVEC_INLINE void vec_store(float* p, Vec v) { _mm512_storeu_ps(p, v); }
CONVEC_INLINE Vec vec_load_first(const float* p, int count) {
  return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1U << static_cast<unsigned>(count)) - 1U), p);
}
CONVEC_INLINE void vec_store_first(float* p, Vec v, int count) {
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1U << static_cast<unsigned>(count)) - 1U), v);
}
CONVEC_INLINE Vec vec_add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
CONVEC_INLINE Vec vec_sub(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
CONVEC_INLINE Vec vec_mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
CONVEC_INLINE Vec vec_fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }  // a * b + c
// The second operand where either is NaN, as in the instruction.
CONVEC_INLINE Vec vec_max(Vec a, Vec b) { return _mm512_max_ps(a, b); }
using VecMask = __mmask16;
// Lanes where `value` beats `best` as a maximum: it is greater, or a NaN that meets a number.
CONVEC_INLINE VecMask vec_wins(Vec value, Vec best) {
  return _mm512_cmp_ps_mask(value, best, _CMP_NLE_UQ) & _mm512_cmp_ps_mask(best, best, _CMP_ORD_Q);
}
CONVEC_INLINE Vec vec_blend(VecMask mask, Vec yes, Vec no) { return _mm512_mask_mov_ps(no, mask, yes); }
// The first `count` lanes, small whole numbers, as bytes.
CONVEC_INLINE void vec_store_bytes_first(std::uint8_t* p, Vec v, int count) {
  _mm512_mask_cvtepi32_storeu_epi8(p, static_cast<__mmask16>((1U << static_cast<unsigned>(count)) - 1U),
                                   _mm512_cvtps_epi32(v));
}

#elif defined(__AVX2__)

using Vec = __m256;
constexpr int vec_width = 8;

CONVEC_INLINE __m256i vec_mask(int count) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), lane);
}
CONVEC_INLINE Vec vec_zero() { return _mm256_setzero_ps(); }
CONVEC_INLINE Vec vec_set(float x) { return _mm256_set1_ps(x); }
CONVEC_INLINE Vec vec_load(const float* p) { return _mm256_loadu_ps(p); }
CONVEC_INLINE void vec_store(float* p, Vec v) { _mm256_storeu_ps(p, v); }
CONVEC_INLINE Vec vec_load_first(const float* p, int count) { return _mm256_maskload_ps(p, vec_mask(count)); }
CONVEC_INLINE void vec_store_first(float* p, Vec v, int count) { _mm256_maskstore_ps(p, vec_mask(count), v); }
CONVEC_INLINE Vec vec_add(Vec a, Vec b) { return _mm256_add_ps(a, b); }
CONVEC_INLINE Vec vec_sub(Vec a, Vec b) { return _mm256_sub_ps(a, b); }
CONVEC_INLINE Vec vec_mul(Vec a, Vec b) { return _mm256_mul_ps(a, b); }
CONVEC_INLINE Vec vec_fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
CONVEC_INLINE Vec vec_max(Vec a, Vec b) { return _mm256_max_ps(a, b); }
using VecMask = __m256;
CONVEC_INLINE VecMask vec_wins(Vec value, Vec best) {
  return _mm256_and_ps(_mm256_cmp_ps(value, best, _CMP_NLE_UQ), _mm256_cmp_ps(best, best, _CMP_ORD_Q));
}
CONVEC_INLINE Vec vec_blend(VecMask mask, Vec yes, Vec no) { return _mm256_blendv_ps(no, yes, mask); }
CONVEC_INLINE void vec_store_bytes_first(std::uint8_t* p, Vec v, int count) {
  alignas(32) std::int32_t lanes[8];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), _mm256_cvtps_epi32(v));
  for (int lane = 0; lane < count; ++lane) p[lane] = static_cast<std::uint8_t>(lanes[lane]);
}

#else

// Portable: the compiler's own four-wide vectors (SSE on x86-64, NEON on Arm).
typedef float Vec __attribute__((vector_size(16), aligned(4), may_alias));
constexpr int vec_width = 4;

CONVEC_INLINE Vec vec_zero() { return Vec{0, 0, 0, 0}; }
CONVEC_INLINE Vec vec_set(float x) { return Vec{x, x, x, x}; }
CONVEC_INLINE Vec vec_load(const float* p) { return *reinterpret_cast<const Vec*>(p); }
CONVEC_INLINE void vec_store(float* p, Vec v) { *reinterpret_cast<Vec*>(p) = v; }
CONVEC_INLINE Vec vec_load_first(const float* p, int count) {
  Vec v = vec_zero();
  for (int lane = 0; lane < count; ++lane) v[lane] = p[lane];
  return v;
}
CONVEC_INLINE void vec_store_first(float* p, Vec v, int count) {
  for (int lane = 0; lane < count; ++lane) p[lane] = v[lane];
}
CONVEC_INLINE Vec vec_add(Vec a, Vec b) { return a + b; }
CONVEC_INLINE Vec vec_sub(Vec a, Vec b) { return a - b; }
CONVEC_INLINE Vec vec_mul(Vec a, Vec b) { return a * b; }
CONVEC_INLINE Vec vec_fma(Vec a, Vec b, Vec c) { return a * b + c; }
CONVEC_INLINE Vec vec_max(Vec a, Vec b) { return a > b ? a : b; }
typedef std::int32_t VecMask __attribute__((vector_size(16)));
CONVEC_INLINE VecMask vec_wins(Vec value, Vec best) { return ~(value <= best) & (best == best); }
CONVEC_INLINE Vec vec_blend(VecMask mask, Vec yes, Vec no) { return mask ? yes : no; }
CONVEC_INLINE void vec_store_bytes_first(std::uint8_t* p, Vec v, int count) {
  for (int lane = 0; lane < count; ++lane) p[lane] = static_cast<std::uint8_t>(v[lane]);
}

#endif

}  // namespace convec::cpu::CONVEC_ISA_NAMESPACE
