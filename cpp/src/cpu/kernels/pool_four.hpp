// The end of a convolution under a 2 x 2 window: ReLU and the maximum of four values.
#pragma once

#include "cpu/kernels/vec.hpp"

namespace convec::cpu::CONVEC_ISA_NAMESPACE {

// The largest of four, the first of equal ones; a NaN wins and stays. Writes the first `channels` lanes, and to argmax
// (unless null) which it was.
CONVEC_INLINE void pool_four(const Vec (&value)[4], bool relu, std::int64_t channels, float* output,
                             std::uint8_t* argmax) {
  const int lanes = channels < vec_width ? static_cast<int>(channels) : vec_width;
  Vec best = value[0];
  Vec where = vec_zero();
#pragma GCC unroll 3
  for (int position = 1; position < 4; ++position) {
    const VecMask wins = vec_wins(value[position], best);
    best = vec_blend(wins, value[position], best);
    where = vec_blend(wins, vec_set(static_cast<float>(position)), where);
  }
  if (relu) best = vec_max(vec_zero(), best);
  if (lanes == vec_width)
    vec_store(output, best);
  else
    vec_store_first(output, best, lanes);
  if (argmax != nullptr) vec_store_bytes_first(argmax, where, lanes);
}

}  // namespace convec::cpu::CONVEC_ISA_NAMESPACE
