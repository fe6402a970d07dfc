// What ops/by_float32.hpp asks of a device: for lines that are no multiple of eight, and devices without tensor cores.
#pragma once

#include <cstdint>

#include "cuda_backend.hpp"
#include "matmul.hpp"
#include "op_table.hpp"
#include "ops/by_float32.hpp"

namespace convec::cuda {

// Copies in the stream's scratch memory.
class Widened {
 public:
  explicit Widened(const Context& context) : context_(context), scratch_(context) {
    // Nothing is left to round.
    context_.matmul_precision = MatmulPrecision::mixed_bfloat16;
  }

  const float* widen(int64_t size, const BFloat16* array) {
    float* const copy = take(size);
    cuda::widen(context_, size, array, copy);
    return copy;
  }
  float* take(int64_t size) { return scratch_.take<float>(size); }
  void narrow(int64_t size, const float* from, BFloat16* to) { cuda::narrow(context_, size, from, to); }

  const Context& context() const { return context_; }
  static const OpTable& ops() { return the_backend().ops(); }

 private:
  Context context_;
  Scratch scratch_;
};

using ByFloat32 = convec::ByFloat32<Widened>;

}  // namespace convec::cuda
