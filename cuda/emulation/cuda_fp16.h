// Half precision of the emulated CUDA (cuda_runtime.h).
#pragma once

#include <cuda_runtime.h>

// NOLINTBEGIN(bugprone-reserved-identifier)

struct __half_raw {
  unsigned short x;
};

struct __half {
  unsigned short bits;
  __half() = default;
  __half(float value);
  __half(const __half_raw& raw) : bits(raw.x) {}
  operator float() const;
};

struct alignas(4) __half2 {
  __half x, y;
};

inline __half __ushort_as_half(unsigned short bits) { return __half_raw{bits}; }
inline unsigned short __half_as_ushort(__half value) { return value.bits; }
inline float __half2float(__half value) {
  const unsigned int magnitude = value.bits & 0x7FFFU;
  const unsigned int sign = (value.bits & 0x8000U) << 16U;
  if (magnitude >= 0x7C00U) return __uint_as_float(sign | 0x7F800000U | (magnitude & 0x3FFU) << 13U);
  // Normal numbers get float's bias; subnormal ones are whole multiples of 2^-24.
  const float number =
      magnitude < 0x400U ? static_cast<float>(magnitude) * 0x1p-24F : __uint_as_float((magnitude << 13U) + 0x38000000U);
  return __uint_as_float(sign | __float_as_uint(number));
}
// To the nearest, ties to even.
inline __half __float2half_rn(float value) {
  const unsigned int bits = __float_as_uint(value);
  const unsigned int magnitude = bits & 0x7FFFFFFFU;
  unsigned int half = 0x7FFF;
  if (magnitude <= 0x7F800000U) {
    if (magnitude >= 0x477FF000U)
      half = 0x7C00;
    else if (magnitude < 0x38800000U)
      // Adding 1/2 leaves multiples of 2^-24 in the low bits.
      half = __float_as_uint(__uint_as_float(magnitude) + 0.5F) - 0x3F000000U;
    else
      half = (magnitude - 0x38000000U + 0xFFFU + ((magnitude >> 13U) & 1U)) >> 13U;
  }
  return __ushort_as_half(static_cast<unsigned short>((bits >> 16U & 0x8000U) | half));
}
inline __half __float2half(float value) { return __float2half_rn(value); }
inline __half::__half(float value) : __half(__float2half_rn(value)) {}
inline __half::operator float() const { return __half2float(*this); }
inline __half2 __floats2half2_rn(float x, float y) { return {x, y}; }
inline __half2 __float22half2_rn(float2 value) { return {value.x, value.y}; }
inline float2 __half22float2(__half2 value) { return {value.x, value.y}; }
inline float __low2float(__half2 value) { return value.x; }
inline float __high2float(__half2 value) { return value.y; }

using half = __half;
using half2 = __half2;

// NOLINTEND(bugprone-reserved-identifier)
