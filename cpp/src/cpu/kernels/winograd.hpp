// Transforms of Winograd's minimal filtering (Lavin & Gray, 2016): F(2x2, 3x3), where an output tile of 2 x 2 takes 16
// products a channel instead of 36, and F(4x4, 3x3), where one of 4 x 4 takes 36 instead of 144. The latter
// interpolates at 0, +-sqrt(1/2), +-sqrt(2) and infinity, which rounds less than the usual 0, +-1, +-2 (the matrices
// are those of Toom and Cook for these points).
#pragma once

#include <cstddef>
#include <cstdint>

namespace convec::cpu {

// A tile of an image, part of which may lie outside: rows [row_begin, row_end) and columns [column_begin, column_end)
// of it are there. What is outside counts as zero when it is read, and is not written.
struct WinogradTile {
  std::ptrdiff_t row;     // distance of two rows, in floats
  std::ptrdiff_t column;  // of two pixels
  int row_begin, row_end;
  int column_begin, column_end;
  std::int64_t channels;
  std::ptrdiff_t frequency;  // distance of two frequencies
};

struct WinogradKernels {
  // Frequencies of a 4 x 4 input tile: output[f * frequency + c], f < 16.
  void (*input_f32)(const float* input, std::ptrdiff_t row, std::ptrdiff_t column, std::int64_t channels, float* output,
                    std::ptrdiff_t frequency);
  // Frequencies of the 3 x 3 filters of one input channel: tap t of filter k is at filters[t * tap + k].
  void (*filters_f32)(const float* filters, std::ptrdiff_t tap, std::int64_t count, float* output,
                      std::ptrdiff_t frequency);
  // The 2 x 2 outputs out of their frequencies, bias, ReLU and the maximum of the four. `bias` (or null) and
  // `products` are readable to a whole vector.
  void (*max_of_output_f32)(const float* products, std::ptrdiff_t frequency, const float* bias, bool relu,
                            std::int64_t channels, float* output, std::uint8_t* argmax);

  // F(4x4, 3x3). `image` is the (possibly absent) first pixel of the tile, frequency f is at frequencies[f *
  // frequency]. Of a 6 x 6 tile of the input.
  void (*input_4x4_f32)(const WinogradTile&, const float* image, float* frequencies);
  // Of a 4 x 4 tile of the output's gradient.
  void (*gradient_4x4_f32)(const WinogradTile&, const float* image, float* frequencies);
  // As filters_f32.
  void (*filters_4x4_f32)(const float* filters, std::ptrdiff_t tap, std::int64_t count, float* output,
                          std::ptrdiff_t frequency);
  // A 4 x 4 tile of the output out of its frequencies, bias and ReLU. `bias` and `frequencies` as in max_of_output_f32.
  void (*output_4x4_f32)(const WinogradTile&, const float* frequencies, const float* bias, bool relu, float* image);
  // The gradient of 3 x 3 filters out of its frequencies: the other way round from filters_4x4_f32.
  void (*filters_gradient_4x4_f32)(const float* frequencies, std::ptrdiff_t frequency, std::int64_t count,
                                   float* filters, std::ptrdiff_t tap);
};

}  // namespace convec::cpu
