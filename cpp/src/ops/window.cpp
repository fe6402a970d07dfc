#include "ops/window.hpp"

#include <algorithm>
#include <string>

#include <convec/error.hpp>
#include <convec/ops/window.hpp>

namespace convec {

WindowAxis resolve_window(const char* axis, std::int64_t input, std::int64_t window, std::int64_t stride,
                          std::int64_t dilation, PaddingMode mode, std::int64_t explicit_before,
                          std::int64_t explicit_after) {
  const std::int64_t extent = (window - 1) * dilation + 1;
  if (mode == PaddingMode::same && input > 0) {
    // Keras: as many outputs as strides fit; an odd total of padding puts the extra one after.
    const std::int64_t output = (input + stride - 1) / stride;
    const std::int64_t total = std::max<std::int64_t>((output - 1) * stride + extent - input, 0);
    return {output, total / 2, total - total / 2};
  }
  const std::int64_t before = mode == PaddingMode::explicit_ ? explicit_before : 0;
  const std::int64_t after = mode == PaddingMode::explicit_ ? explicit_after : 0;
  const std::int64_t room = input + before + after - extent;
  if (input < 1 || room < 0)
    throw ShapeError(std::string("the output ") + axis + " would be below 1: the input's is " + std::to_string(input) +
                     " plus padding " + std::to_string(before + after) + ", the window covers " +
                     std::to_string(extent) + "; use padding='same', a smaller window or a larger input");
  return {room / stride + 1, before, after};
}

}  // namespace convec
