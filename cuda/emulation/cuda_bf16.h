// bfloat16 of the emulated CUDA (cuda_runtime.h): the upper half of a float.
#pragma once

#include <cuda_runtime.h>

// NOLINTBEGIN(bugprone-reserved-identifier)

struct __nv_bfloat16_raw {
  unsigned short x;
};

struct __nv_bfloat16 {
  unsigned short bits;
  __nv_bfloat16() = default;
  __nv_bfloat16(float value);
  __nv_bfloat16(const __nv_bfloat16_raw& raw) : bits(raw.x) {}
  operator float() const { return __uint_as_float(static_cast<unsigned int>(bits) << 16U); }
};

struct alignas(4) __nv_bfloat162 {
  __nv_bfloat16 x, y;
};

inline float __bfloat162float(__nv_bfloat16 value) { return value; }
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) { return __nv_bfloat16_raw{bits}; }
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 value) { return value.bits; }
// To the nearest, ties to even.
inline __nv_bfloat16 __float2bfloat16_rn(float value) {
  const unsigned int bits = __float_as_uint(value);
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return __ushort_as_bfloat16(0x7FFF);
  return __ushort_as_bfloat16(static_cast<unsigned short>((bits + 0x7FFFU + ((bits >> 16U) & 1U)) >> 16U));
}
inline __nv_bfloat16 __float2bfloat16(float value) { return __float2bfloat16_rn(value); }
inline __nv_bfloat16::__nv_bfloat16(float value) : __nv_bfloat16(__float2bfloat16_rn(value)) {}
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return {x, y}; }
inline __nv_bfloat162 __float22bfloat162_rn(float2 value) { return {value.x, value.y}; }
inline float2 __bfloat1622float2(__nv_bfloat162 value) { return {value.x, value.y}; }
inline float __low2float(__nv_bfloat162 value) { return value.x; }
inline float __high2float(__nv_bfloat162 value) { return value.y; }

// NOLINTEND(bugprone-reserved-identifier)
