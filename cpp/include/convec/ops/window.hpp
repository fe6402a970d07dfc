/// @file window.hpp
/// Sizes, padding and output extents shared by convolution and pooling.
#pragma once

#include <cstdint>

#include <convec/export.hpp>
#include <convec/tensor.hpp>

namespace convec {

/// (vertical, horizontal).
struct Size2d {
  std::int64_t height = 1;
  std::int64_t width = 1;
};

enum class PaddingMode : std::uint8_t {
  valid,     ///< none
  same,      ///< Keras' 'same': output = ceil(input / stride); an odd total puts the extra row below and right
  explicit_  ///< the four numbers
};

/// Zeros (for pooling: nothing) around an image.
struct Padding {
  PaddingMode mode = PaddingMode::valid;
  std::int64_t top = 0;
  std::int64_t bottom = 0;
  std::int64_t left = 0;
  std::int64_t right = 0;

  static Padding valid() { return {}; }
  static Padding same() { return {PaddingMode::same, 0, 0, 0, 0}; }
  static Padding pixels(std::int64_t top, std::int64_t bottom, std::int64_t left, std::int64_t right) {
    return {PaddingMode::explicit_, top, bottom, left, right};
  }
};

}  // namespace convec
