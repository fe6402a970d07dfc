// Transforms of Winograd's minimal filtering F(2x2, 3x3) (Lavin & Gray, 2016, section 4.1): an output tile of 2 x 2
// takes 16 products a channel instead of 36.
#pragma once

#include <cstddef>
#include <cstdint>

namespace convec::cpu {

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
};

}  // namespace convec::cpu
