// Kernels of convolution fused with max pooling: the pooling, and gradients that touch only the maxima.
#pragma once

#include <cstddef>
#include <cstdint>

namespace convec::cpu {

// Non-overlapping windows over rows of pixels; output rows lie one after the other.
struct MaxWindows {
  const float* input;
  std::ptrdiff_t input_row;
  std::ptrdiff_t input_column;
  std::int64_t pool_height, pool_width;
  std::int64_t rows, columns;  // of the output
  std::int64_t channels;
  float* output;
  std::uint8_t* argmax;  // position in the window, row-major; or null
  std::ptrdiff_t output_column;
};

// Maxima that carry a gradient: where each belongs, in floats, and its gradient.
struct Maxima {
  std::int32_t* offsets;
  float* gradients;
};

// Sorts the maxima of some windows into lists, in the order of the windows (list_by_channel) or of the channels
// (list_by_position). Lists are `capacity` apart, and whole vectors are written: capacity is a multiple of 16 and has
// 16 to spare.
struct MaximaLists {
  const float* gradient;       // [windows][channel_pitch]
  const float* output;         // pooled; a maximum that is not positive carries no gradient; null: all do
  const std::uint8_t* argmax;  // position in the window
  std::int64_t windows;
  std::int64_t channels;
  std::int64_t channel_pitch;
  // list_by_channel: the offset of a maximum is window_offsets[window] + position_offsets[position].
  // list_by_position: it is channel * channel_step.
  const std::int32_t* window_offsets;
  const std::int32_t* position_offsets;  // 16, or as many as a window has positions where that is more
  std::int64_t positions;
  std::int32_t channel_step;
  Maxima lists;
  std::int64_t capacity;
  std::int32_t* counts;  // written: one a list
};

// acc[r * width + i] += sum over the list of gradient * input[offset + r * input_row + i], r < rows, i < width.
struct SparseFilterGradient {
  const float* input;
  std::ptrdiff_t input_row;
  std::int64_t rows;
  std::int64_t width;
  const std::int32_t* offsets;
  const float* gradients;
  std::int32_t count;
  float* sums;
};

// 3 x 3 convolution of a single input channel under 2 x 2 windows, bias, ReLU and pooling, for one or two vectors of
// filters: the filters stay in registers, and nothing is stored but the pooled values.
struct PatchForward {
  const float* input;
  std::ptrdiff_t input_row;
  std::int64_t rows, columns;  // of windows
  const float* filters;        // [9 taps][panel]
  std::ptrdiff_t panel;
  const float* bias;  // padded to the panel; or null
  bool relu;
  std::int64_t channels;  // of the panel in use
  float* output;          // [windows][output_column]
  std::uint8_t* argmax;   // or null
  std::ptrdiff_t output_column;
};

// Gradient to 3 x 3 filters of a single input channel under 2 x 2 windows, for one vector of filters: of the 4 x 4
// pixels under a window each filter takes the nine below its own maximum.
struct PatchFilterGradient {
  const float* input;
  std::ptrdiff_t input_row;
  std::int64_t rows, columns;  // of windows
  const float* gradient;       // [windows][channel_pitch]
  const float* output;         // as in MaximaLists
  const std::uint8_t* argmax;
  std::int64_t channel_pitch;
  std::int64_t channels;  // of the vector in use
  float* sums;            // [9 taps, then the bias][vector], added to
};

// A 4 x 4 patch of the gradient to the input, under a 2 x 2 window of a 3 x 3 convolution, for one vector of
// channels: patch[(i + r) * row + (j + s) * column] += gradient * filters[k][r * 3 + s] for every maximum of filter k
// at position (i, j) of the window.
struct SparsePatch {
  const std::int32_t* offsets;  // four lists, `capacity` apart, one a position; of a filter's nine vectors
  const float* gradients;
  std::int64_t capacity;
  const std::int32_t* counts;
  const float* filters;
  float* patch;
  std::ptrdiff_t row;
  std::ptrdiff_t column;
};

struct ConvPoolKernels {
  void (*max_windows_f32)(const MaxWindows&);
  // A list for each channel.
  void (*list_by_channel_f32)(const MaximaLists&);
  // For each window, a list for each of four positions. Null at the baseline.
  void (*list_by_position_f32)(const MaximaLists&);
  void (*sparse_filter_gradient_f32)(const SparseFilterGradient&);
  void (*patch_forward_f32)(const PatchForward&);
  // Null at the baseline.
  void (*patch_filter_gradient_f32)(const PatchFilterGradient&);
  // Sum of an array, in a fixed order.
  float (*sum_f32)(const float* values, std::int64_t count);
  // Null at the baseline.
  void (*sparse_patch_f32)(const SparsePatch&);
};

}  // namespace convec::cpu
