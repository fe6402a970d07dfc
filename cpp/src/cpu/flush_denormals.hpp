// Denormals cost hundreds of cycles each and carry no information in training (Adam's state decays into them).
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace convec::cpu {

// Flushes them to zero in this thread, for the lifetime of the object.
class FlushDenormals {
 public:
#if defined(__x86_64__)
  FlushDenormals() noexcept : saved_(_mm_getcsr()) { _mm_setcsr(saved_ | 0x8040U); }
  ~FlushDenormals() { _mm_setcsr(saved_); }
#else
  FlushDenormals() noexcept = default;
  ~FlushDenormals() {}
#endif
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;

 private:
#if defined(__x86_64__)
  unsigned saved_;
#endif
};

}  // namespace convec::cpu
