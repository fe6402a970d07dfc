// bfloat16 arrays that the kernels for them do not take (lines that are no multiple of eight, a device without tensor
// cores): the op runs on float32 copies. The products are the same, since every bfloat16 number is a float32.
#pragma once

#include <cstdint>

#include "cuda_backend.hpp"
#include "matmul.hpp"
#include "op_table.hpp"

namespace convec::cuda {

// Copies that live as long as this, in the stream's scratch memory.
class Widened {
 public:
  explicit Widened(const Context& context) : context_(context), scratch_(context) {
    // Nothing is left to round.
    context_.matmul_precision = MatmulPrecision::mixed_bfloat16;
  }

  const float* copy(int64_t size, const BFloat16* array) {
    float* const wide = take(size);
    widen(context_, size, array, wide);
    return wide;
  }
  // For a result.
  float* take(int64_t size) { return scratch_.take<float>(size); }

  const Context& context() const { return context_; }
  static const OpTable& ops() { return the_backend().ops(); }

 private:
  Context context_;
  Scratch scratch_;
};

}  // namespace convec::cuda
