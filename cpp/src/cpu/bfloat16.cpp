// Convolutions and dense layers of bfloat16 arrays: on float32 copies, which makes them slower than float32 arrays.
// They are here for the results, which are those of a CUDA device.
#include <cstring>

#include "cpu/cpu_table.hpp"
#include "cpu/grain.hpp"
#include "cpu/scratch.hpp"
#include "cpu/thread_pool.hpp"
#include "ops/by_float32.hpp"

namespace convec::cpu {

namespace {

// To the nearest, ties to even; NaN stays one.
BFloat16 rounded(float value) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  const bool nan = (bits & 0x7FFFFFFFU) > 0x7F800000U;
  return {static_cast<std::uint16_t>(nan ? 0x7FC0U : (bits + 0x7FFFU + ((bits >> 16U) & 1U)) >> 16U)};
}

class Copies {
 public:
  explicit Copies(const Context& context) : context_(context) {}

  const float* widen(int64_t size, const BFloat16* array) {
    float* const copy = take(size);
    parallel_for_range(size, task_elements, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const std::uint32_t bits = std::uint32_t{array[i].bits} << 16U;
        std::memcpy(copy + i, &bits, sizeof bits);
      }
    });
    return copy;
  }
  float* take(int64_t size) { return scratch_.take<float>(size); }
  static void narrow(int64_t size, const float* from, BFloat16* to) {
    parallel_for_range(size, task_elements, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) to[i] = rounded(from[i]);
    });
  }

  const Context& context() const { return context_; }
  static const OpTable& ops() { return op_table({}); }

 private:
  const Context& context_;
  Scratch scratch_;
};

}  // namespace

void fill_bfloat16(OpTable& table) {
  using Ops = ByFloat32<Copies>;
  table.conv2d_forward_bfloat16 = Ops::conv2d_forward;
  table.conv2d_backward_input_bfloat16 = Ops::conv2d_backward_input;
  table.conv2d_backward_filters_bfloat16 = Ops::conv2d_backward_filters;
  table.dense_forward_bfloat16 = Ops::dense_forward;
  table.dense_backward_input_bfloat16 = Ops::dense_backward_input;
  table.dense_backward_weights_bfloat16 = Ops::dense_backward_weights;
}

}  // namespace convec::cpu
