// Output extents and padding of one axis, shared by convolution and pooling.
#pragma once

#include <cstdint>

namespace convec {

enum class PaddingMode : std::uint8_t;

struct WindowAxis {
  std::int64_t output;
  std::int64_t before;
  std::int64_t after;
};

// One axis of a sliding window. `explicit_before/after` are used in PaddingMode::explicit_ only. All sizes are at
// least 1 and below 2^31. Throws ShapeError, naming `axis` ("height"), where the output would be below 1.
WindowAxis resolve_window(const char* axis, std::int64_t input, std::int64_t window, std::int64_t stride,
                          std::int64_t dilation, PaddingMode mode, std::int64_t explicit_before,
                          std::int64_t explicit_after);

}  // namespace convec
