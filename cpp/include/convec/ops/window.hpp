/// @file window.hpp
/// Sizes, padding and output extents shared by convolution and pooling.
#pragma once

#include <cstdint>

#include <convec/export.hpp>
#include <convec/tensor.hpp>

namespace convec {

/// (vertical, horizontal).
struct Size2d {
  std::int64_t height = 1;  ///< rows
  std::int64_t width = 1;   ///< columns
};

/// How padding is given.
enum class PaddingMode : std::uint8_t {
  valid,     ///< none
  same,      ///< Keras' 'same': output = ceil(input / stride); an odd total puts the extra row below and right
  explicit_  ///< the four numbers
};

/// Zeros (for pooling: nothing) around an image.
struct Padding {
  PaddingMode mode = PaddingMode::valid;  ///< which of the ways
  std::int64_t top = 0;                   ///< rows above, where explicit
  std::int64_t bottom = 0;                ///< rows below
  std::int64_t left = 0;                  ///< columns on the left
  std::int64_t right = 0;                 ///< columns on the right

  static Padding valid() { return {}; }  ///< none
  /// As much as keeps the extent, divided by the stride and rounded up; an odd pixel goes after.
  static Padding same() { return {PaddingMode::same, 0, 0, 0, 0}; }
  /// So many pixels on each side.
  static Padding pixels(std::int64_t top, std::int64_t bottom, std::int64_t left, std::int64_t right) {
    return {PaddingMode::explicit_, top, bottom, left, right};
  }
};

}  // namespace convec
