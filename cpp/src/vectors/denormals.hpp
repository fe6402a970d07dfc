// Numbers below the smallest normal one, in tasks of the thread pool, which flushes them to zero.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace convec {

// Neither flushes denormals nor reads them as zero, for as long as it lives, on this thread.
class KeepDenormals {
 public:
#if defined(__x86_64__)
  KeepDenormals() noexcept : saved_(_mm_getcsr()) { _mm_setcsr(saved_ & ~0x8040U); }
  ~KeepDenormals() { _mm_setcsr(saved_); }
#else
  KeepDenormals() noexcept = default;
  ~KeepDenormals() {}
#endif
  KeepDenormals(const KeepDenormals&) = delete;
  KeepDenormals& operator=(const KeepDenormals&) = delete;

 private:
#if defined(__x86_64__)
  unsigned saved_;
#endif
};

}  // namespace convec
