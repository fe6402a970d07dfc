// Elementary functions of one vector of floats, on top of vec.hpp. Polynomials were fitted for this file by the Remez
// exchange algorithm; the errors stated are those measured over the whole range (tests/python/test_ops_values.py).
// Results below the smallest normal number may be flushed to zero. Forced inline like vec.hpp.
#pragma once

#include "cpu/kernels/vec.hpp"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace convec::cpu::CONVEC_ISA_NAMESPACE {

// One integer a lane; what a comparison of two Vec gives (all bits set where true).
typedef std::int32_t VecInt __attribute__((vector_size(vec_width * 4)));

CONVEC_INLINE VecInt vec_bits(Vec v) { return reinterpret_cast<VecInt>(v); }
CONVEC_INLINE Vec vec_from_bits(VecInt v) { return reinterpret_cast<Vec>(v); }
CONVEC_INLINE VecInt vec_less(Vec a, Vec b) { return reinterpret_cast<VecInt>(a < b); }
CONVEC_INLINE VecInt vec_less_equal(Vec a, Vec b) { return reinterpret_cast<VecInt>(a <= b); }
CONVEC_INLINE VecInt vec_equal(Vec a, Vec b) { return reinterpret_cast<VecInt>(a == b); }
CONVEC_INLINE VecInt vec_is_nan(Vec a) { return reinterpret_cast<VecInt>(a != a); }
CONVEC_INLINE Vec vec_select(VecInt mask, Vec a, Vec b) { return mask ? a : b; }
CONVEC_INLINE VecInt vec_set_int(std::int32_t x) { return VecInt{} + x; }
CONVEC_INLINE Vec vec_negate(Vec a) { return vec_from_bits(vec_bits(a) ^ vec_set_int(INT32_MIN)); }
CONVEC_INLINE Vec vec_abs(Vec a) { return vec_from_bits(vec_bits(a) & vec_set_int(INT32_MAX)); }
// The magnitude of the first with the sign of the second.
CONVEC_INLINE Vec vec_copysign(Vec a, Vec b) {
  return vec_from_bits((vec_bits(a) & vec_set_int(INT32_MAX)) | (vec_bits(b) & vec_set_int(INT32_MIN)));
}
// a < b ? a : b: the second operand where either is NaN.
CONVEC_INLINE Vec vec_min(Vec a, Vec b) {
#if defined(__AVX512F__)
  return _mm512_min_ps(a, b);
#elif defined(__AVX2__)
  return _mm256_min_ps(a, b);
#else
  return a < b ? a : b;
#endif
}
// x limited to [low, high]; NaN stays NaN, because it is the second operand of both.
CONVEC_INLINE Vec vec_clip(Vec x, Vec low, Vec high) { return vec_min(high, vec_max(low, x)); }

CONVEC_INLINE Vec vec_sqrt(Vec x) {
#if defined(__AVX512F__)
  return _mm512_sqrt_ps(x);
#elif defined(__AVX2__)
  return _mm256_sqrt_ps(x);
#elif defined(__SSE2__)
  return _mm_sqrt_ps(x);
#else
  for (int lane = 0; lane < vec_width; ++lane) x[lane] = __builtin_sqrtf(x[lane]);
  return x;
#endif
}

// Loads and stores of `count` lanes: whole vectors in the body of a loop, fewer in its tail.
CONVEC_INLINE Vec vec_load_some(const float* p, std::int64_t count) {
  return count >= vec_width ? vec_load(p) : vec_load_first(p, static_cast<int>(count));
}
CONVEC_INLINE void vec_store_some(float* p, Vec v, std::int64_t count) {
  if (count >= vec_width)
    vec_store(p, v);
  else
    vec_store_first(p, v, static_cast<int>(count));
}
// `v` with `fill` in the lanes from `count` on.
CONVEC_INLINE Vec vec_fill_from(Vec v, std::int64_t count, Vec fill) {
  if (count >= vec_width) return v;
  VecInt lane{};
  for (int i = 0; i < vec_width; ++i) lane[i] = i;
  return vec_select(lane < vec_set_int(static_cast<std::int32_t>(count)), v, fill);
}

CONVEC_INLINE float vec_first(Vec v) { return v[0]; }

// Sum and maximum over the lanes, in a fixed order. The maximum is NaN or not where a lane is NaN.
CONVEC_INLINE float vec_sum(Vec v) {
  alignas(64) float lanes[vec_width];
  vec_store(lanes, v);
#pragma GCC unroll 4
  for (int half = vec_width / 2; half > 0; half /= 2)
#pragma GCC unroll 8
    for (int lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  return lanes[0];
}
CONVEC_INLINE float vec_largest(Vec v) {
  alignas(64) float lanes[vec_width];
  vec_store(lanes, v);
#pragma GCC unroll 4
  for (int half = vec_width / 2; half > 0; half /= 2)
#pragma GCC unroll 8
    for (int lane = 0; lane < half; ++lane)
      lanes[lane] = lanes[lane] < lanes[lane + half] ? lanes[lane + half] : lanes[lane];
  return lanes[0];
}

// exp(x) = 2^n (1 + expm1(r)), r = x - n ln 2 in [-ln 2 / 2, ln 2 / 2]. `n` is found by adding 1.5 * 2^23, which leaves
// the rounded integer in the low bits; ln 2 is split in two so that n * high is exact. Returns expm1(r).
CONVEC_INLINE Vec vec_reduce_exp(Vec x, VecInt& n) {
  const Vec shifter = vec_set(12582912.0F);
  const Vec shifted = vec_fma(x, vec_set(1.44269504F), shifter);
  n = vec_bits(shifted) - vec_set_int(0x4B400000);
  const Vec count = vec_sub(shifted, shifter);
  Vec r = vec_fma(count, vec_set(-0.693359375F), x);
  r = vec_fma(count, vec_set(2.12194440e-4F), r);
  Vec q = vec_set(1.9845879e-4F);
  q = vec_fma(q, r, vec_set(1.3940628e-3F));
  q = vec_fma(q, r, vec_set(8.33339e-3F));
  q = vec_fma(q, r, vec_set(4.1666362e-2F));
  q = vec_fma(q, r, vec_set(1.6666666e-1F));
  q = vec_fma(q, r, vec_set(0.5F));
  return vec_fma(vec_mul(r, r), q, r);
}

// 2^n for n in [-126, 127].
CONVEC_INLINE Vec vec_power_of_two(VecInt n) { return vec_from_bits((n + vec_set_int(127)) << 23); }

// e^x to 2 ulp; 0 below about -87.3, infinity above 88.72, NaN for NaN.
CONVEC_INLINE Vec vec_exp(Vec x) {
  x = vec_clip(x, vec_set(-104.0F), vec_set(89.0F));
  VecInt n;
  const Vec p = vec_reduce_exp(x, n);
  // In two factors, because 2^n itself may overflow where the result does not.
  const VecInt half = n >> 1;
  const Vec first = vec_power_of_two(half);
  return vec_mul(vec_fma(p, first, first), vec_power_of_two(n - half));
}

// e^x - 1 to 2 ulp for x up to 88; saturates at e^88 - 1. NaN for NaN.
CONVEC_INLINE Vec vec_expm1(Vec x) {
  x = vec_clip(x, vec_set(-30.0F), vec_set(88.0F));
  VecInt n;
  const Vec p = vec_reduce_exp(x, n);
  const Vec scale = vec_power_of_two(n);
  return vec_fma(p, scale, vec_sub(scale, vec_set(1.0F)));
}

// Natural logarithm of a positive normal number to 2 ulp; infinity for infinity, NaN for NaN.
CONVEC_INLINE Vec vec_log(Vec x) {
  // x = 2^e (1 + f), 1 + f in [sqrt(1/2), sqrt(2)).
  const VecInt root = vec_set_int(0x3F3504F3);
  const VecInt offset = vec_bits(x) - root;
  const Vec e = __builtin_convertvector(offset >> 23, Vec);
  const Vec f = vec_sub(vec_from_bits((offset & vec_set_int(0x7FFFFF)) + root), vec_set(1.0F));
  Vec p = vec_set(-0.076344885F);
  p = vec_fma(p, f, vec_set(0.12761962F));
  p = vec_fma(p, f, vec_set(-0.13160364F));
  p = vec_fma(p, f, vec_set(0.14201719F));
  p = vec_fma(p, f, vec_set(-0.16623336F));
  p = vec_fma(p, f, vec_set(0.20001228F));
  p = vec_fma(p, f, vec_set(-0.25000823F));
  p = vec_fma(p, f, vec_set(0.3333333F));
  const Vec square = vec_mul(f, f);
  Vec y = vec_mul(vec_mul(f, square), p);
  y = vec_fma(e, vec_set(-2.12194440e-4F), y);
  y = vec_fma(square, vec_set(-0.5F), y);
  y = vec_add(f, y);
  y = vec_fma(e, vec_set(0.693359375F), y);
  return vec_select(vec_less(x, vec_set(__builtin_inff())), y, x);
}

// log(1 + x) for x in [0, 1], to 3 ulp. NaN for NaN.
CONVEC_INLINE Vec vec_log1p(Vec x) {
  const Vec one = vec_set(1.0F);
  const Vec sum = vec_add(one, x);
  // What rounding the sum lost, to first order.
  const Vec lost = vec_sub(x, vec_sub(sum, one));
  return vec_add(vec_log(sum), lost / sum);
}

// 1 / (1 + e^-x) to 3 ulp.
CONVEC_INLINE Vec vec_sigmoid(Vec x) {
  const Vec one = vec_set(1.0F);
  return one / vec_add(one, vec_exp(vec_negate(x)));
}

// tanh(x) = expm1(2x) / (expm1(2x) + 2), to 3 ulp; odd by construction.
CONVEC_INLINE Vec vec_tanh(Vec x) {
  const Vec magnitude = vec_abs(x);
  const Vec t = vec_expm1(vec_clip(vec_add(magnitude, magnitude), vec_zero(), vec_set(30.0F)));
  return vec_copysign(t / vec_add(t, vec_set(2.0F)), x);
}

// The standard normal distribution function, to 10 ulp for x above -3 and 1e-7 (1 + x^2) relative below (the error of
// x^2 under the exponential).
CONVEC_INLINE Vec vec_normal_cdf(Vec x) {
  const Vec half = vec_set(0.5F);
  const Vec one = vec_set(1.0F);
  const Vec z = vec_mul(x, vec_set(0.70710678F));
  const Vec magnitude = vec_abs(z);
  // z^2, from x: the constant's own rounding error would double under the square.
  const Vec u = vec_mul(vec_mul(x, x), half);
  // Near zero: (1 + erf(z)) / 2 by erf(z) = z P(z^2).
  Vec p = vec_set(0.0048099025F);
  p = vec_fma(p, u, vec_set(-0.02679371F));
  p = vec_fma(p, u, vec_set(0.112832695F));
  p = vec_fma(p, u, vec_set(-0.37612626F));
  p = vec_fma(p, u, vec_set(1.1283792F));
  const Vec near = vec_fma(vec_mul(z, p), half, half);
  // Elsewhere: erfc(|z|) = t exp(-z^2 + P(t)), t = 1 / (1 + |z| / 2).
  const Vec t = one / vec_fma(magnitude, half, one);
  Vec q = vec_set(0.23028931F);
  q = vec_fma(q, t, vec_set(-1.0888728F));
  q = vec_fma(q, t, vec_set(1.9975626F));
  q = vec_fma(q, t, vec_set(-1.6736665F));
  q = vec_fma(q, t, vec_set(0.6239013F));
  q = vec_fma(q, t, vec_set(-0.32379058F));
  q = vec_fma(q, t, vec_set(0.13045448F));
  q = vec_fma(q, t, vec_set(0.36927608F));
  q = vec_fma(q, t, vec_set(1.000383F));
  q = vec_fma(q, t, vec_set(-1.2655227F));
  const Vec tail = vec_mul(vec_mul(half, t), vec_exp(vec_sub(q, u)));
  const Vec far = vec_select(vec_less(z, vec_zero()), tail, vec_sub(one, tail));
  return vec_select(vec_less(magnitude, vec_set(0.45F)), near, far);
}

}  // namespace convec::cpu::CONVEC_ISA_NAMESPACE
