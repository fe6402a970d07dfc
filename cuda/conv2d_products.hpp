// Convolutions as implicit matrix products (matmul.hpp): patches of the image are gathered while they are loaded, and
// nothing is unfolded in memory.
//
//   forward            C[pixel, filter]   = sum over (row, column, channel) of the window
//   backward, input    C[pixel, channel]  = sum over (row, column, filter); with strides, pixels whose windows hit the
//                                           same rows and columns of the filters form a product of their own
//   backward, filters  C[(row, column, channel), filter] = sum over the output's pixels, in slices
//
// Of float32 (conv2d.cu) or bfloat16 arrays (conv2d_bfloat16.cu).
#pragma once

#include <algorithm>
#include <string>

#include "matmul.hpp"
#include "op_table.hpp"

namespace convec::cuda {

// The problem in 32-bit numbers; counts of channels and filters are those of one group.
struct Shape2d {
  int batch, height, width, channels, all_channels;
  int out_height, out_width, filters, all_filters;
  int kernel_height, kernel_width;
  int stride_height, stride_width;
  int dilation_height, dilation_width;
  int pad_top, pad_left;
  int groups;
  Divider by_channels, by_filters, by_kernel_width, by_out_width, by_out_height;

  Shape2d(const Conv2dProblem& p, int64_t images)
      : batch(static_cast<int>(images)),
        height(static_cast<int>(p.height)),
        width(static_cast<int>(p.width)),
        channels(static_cast<int>(p.channels / p.groups)),
        all_channels(static_cast<int>(p.channels)),
        out_height(static_cast<int>(p.out_height)),
        out_width(static_cast<int>(p.out_width)),
        filters(static_cast<int>(p.filters / p.groups)),
        all_filters(static_cast<int>(p.filters)),
        kernel_height(static_cast<int>(p.kernel_height)),
        kernel_width(static_cast<int>(p.kernel_width)),
        stride_height(static_cast<int>(p.stride_height)),
        stride_width(static_cast<int>(p.stride_width)),
        dilation_height(static_cast<int>(p.dilation_height)),
        dilation_width(static_cast<int>(p.dilation_width)),
        pad_top(static_cast<int>(p.pad_top)),
        pad_left(static_cast<int>(p.pad_left)),
        groups(static_cast<int>(p.groups)),
        by_channels(channels),
        by_filters(filters),
        by_kernel_width(p.kernel_width),
        by_out_width(p.out_width),
        by_out_height(p.out_height) {}

  int taps() const { return kernel_height * kernel_width; }
};

struct Pixel {
  int image, row, column;
};
__device__ __forceinline__ Pixel split_pixel(int index, const Divider& by_width, const Divider& by_height) {
  auto column = static_cast<std::uint32_t>(index);
  std::uint32_t row = by_width.split(column);
  const std::uint32_t image = by_height.split(row);
  return {static_cast<int>(image), static_cast<int>(row), static_cast<int>(column)};
}

// A place in the window: row, column and channel.
struct Tap {
  int row, column, channel;
};
__device__ __forceinline__ Tap split_tap(int index, const Divider& by_channels, const Divider& by_width) {
  auto channel = static_cast<std::uint32_t>(index);
  std::uint32_t column = by_channels.split(channel);
  const std::uint32_t row = by_width.split(column);
  return {static_cast<int>(row), static_cast<int>(column), static_cast<int>(channel)};
}

__device__ __forceinline__ bool within(int y, int height) {
  return static_cast<unsigned int>(y) < static_cast<unsigned int>(height);
}

// Sums of at most so many products have kernels of their own in float32 (conv2d.cu).
constexpr int direct_depth = 32;

// Far outside of any image, and so is what is added to it.
constexpr int outside = -(1 << 30);

// Four neighbours along k of an operand whose elements are found by source().
template <typename Operand>
__device__ __forceinline__ Floats<4> load_along_k(const Operand& operand, const typename Operand::Outer& outer, int k,
                                                  int end) {
  Floats<4> values{};
  if (k >= end) return values;
  if (operand.vectors) {
    const auto source = operand.source(outer, operand.at_k(k, end));
    return source.inside ? cuda::load<4>(source.from) : values;
  }
  for (int i = 0; i < 4; ++i) {
    if (k + i >= end) break;
    const auto source = operand.source(outer, operand.at_k(k + i, end));
    if (source.inside) values.at[i] = *source.from;
  }
  return values;
}

// ---- Forward --------------------------------------------------------------------------------------------------------

// Windows of the image: row o is an output pixel, k a tap.
template <typename Number>
struct Windows {
  using Element = Number;
  static constexpr bool along_k = true;
  Shape2d s;
  const Element* input;
  int count;
  bool vectors;

  struct Outer {
    const Element* at;  // the window's first element; it may lie outside
    int top, left;
  };
  __device__ __forceinline__ Outer outer_of(const Pixel& at) const {
    const int top = at.row * s.stride_height - s.pad_top;
    const int left = at.column * s.stride_width - s.pad_left;
    return {input + ((static_cast<int64_t>(at.image) * s.height + top) * s.width + left) * s.all_channels, top, left};
  }
  __device__ __forceinline__ Outer outer(int o) const {
    if (o >= count) return {input, outside, outside};
    return outer_of(split_pixel(o, s.by_out_width, s.by_out_height));
  }
  struct AtK {
    int row, column;  // of the image, from the window's first
    int64_t offset;
  };
  __device__ __forceinline__ AtK at_k(int k, int end) const {
    if (k >= end) return {outside, outside, 0};
    const Tap tap = split_tap(k, s.by_channels, s.by_kernel_width);
    const int row = tap.row * s.dilation_height;
    const int column = tap.column * s.dilation_width;
    return {row, column, (static_cast<int64_t>(row) * s.width + column) * s.all_channels + tap.channel};
  }
  __device__ __forceinline__ Source<Element> source(const Outer& outer, const AtK& at) const {
    return {outer.at + at.offset, within(outer.top + at.row, s.height) && within(outer.left + at.column, s.width)};
  }
  __device__ __forceinline__ Floats<4> load(const Outer& outer, int k, int end) const {
    return load_along_k(*this, outer, k, end);
  }
};

template <typename Element>
struct ForwardProblem {
  struct Operands {
    Windows<Element> a;
    Matrix<false, Element> b;
    MaybePartial<MatrixOutput<Element>> c;
    int rows, columns, depth;
  };

  Windows<Element> windows;
  Matrix<false, Element> filters;
  MatrixOutput<Element> output;
  PartialSums partial;
  int depth;

  __device__ __forceinline__ Operands operands(int group, int slice) const {
    Operands found{windows, filters, {output, nullptr, windows.s.filters}, windows.count, windows.s.filters, depth};
    found.a.input += group * windows.s.channels;
    found.b.data += group * windows.s.filters;
    found.c.own.data += group * windows.s.filters;
    if (output.bias != nullptr) found.c.own.bias += group * windows.s.filters;
    if (partial.data != nullptr) found.c.part = partial.data + slice * partial.slice_size + group * partial.z_size;
    return found;
  }
};

inline int64_t pixels_of(const Conv2dProblem& p) { return p.height * p.width; }
inline int64_t out_pixels_of(const Conv2dProblem& p) { return p.out_height * p.out_width; }

// Calls run(images, first element of the input, first of the output) for slices of the batch.
template <typename Run>
void for_slices(const Conv2dProblem& p, Run&& run) {
  for_image_slices(p.batch, std::max(pixels_of(p), out_pixels_of(p)), [&](int64_t first, int64_t images) {
    run(images, first * pixels_of(p) * p.channels, first * out_pixels_of(p) * p.filters);
  });
}

// One slice of the batch.
template <typename Element>
void conv2d_product(const Context& context, Scratch& scratch, const Conv2dProblem& p, const Shape2d& s,
                    const Element* input, const Element* filters, const MatrixOutput<Element>& output) {
  const int64_t rows = s.batch * out_pixels_of(p);
  const int64_t depth = int64_t{s.taps()} * s.channels;
  const bool input_in_vectors = s.channels % vector_numbers<Element> == 0 && aligned_for_vectors(input);
  const bool filters_in_vectors = s.filters % vector_numbers<Element> == 0 && aligned_for_vectors(filters);
  const auto plan =
      MatmulPlan::of<Element>(context, s.groups, rows, s.filters, depth, input_in_vectors && filters_in_vectors, true);
  float* parts = plan.slices.count == 1 ? nullptr : scratch.take<float>(plan.partial_floats());
  run_matmul<Element>(context, plan,
                      ForwardProblem<Element>{{s, input, static_cast<int>(rows), input_in_vectors},
                                              {filters, p.filters, s.filters, filters_in_vectors},
                                              output,
                                              plan.partial(parts),
                                              static_cast<int>(depth)});
  if (parts != nullptr)
    add_slices(context, plan.partial(parts), plan.slices.count, s.groups, plan.rows, plan.columns, output, s.filters);
}

// ---- Backward to the input ------------------------------------------------------------------------------------------

// The rows (or columns) of the filters that reach the pixels `phase`, phase + stride, ... : first, first + step, ...
// (count of them), and the output row that tap number j of the pixel phase + i * stride comes from: i + origin - j *
// move.
struct Phase {
  int first, step, count;
  int origin, move;
  int pixels;  // of the phase
};
__host__ __device__ inline Phase phase_of(int phase, int extent, int pad, int kernel, int stride, int dilation) {
  int divisor = stride;  // the greatest common one of stride and dilation
  for (int rest = dilation; rest != 0;) {
    const int next = divisor % rest;
    divisor = rest;
    rest = next;
  }
  Phase found{0, stride / divisor, 0, 0, dilation / divisor, 0};
  if (phase < extent) found.pixels = (extent - phase + stride - 1) / stride;
  while (found.first < found.step && found.first < kernel && (phase + pad - found.first * dilation) % stride != 0)
    ++found.first;
  if (found.first >= found.step || found.first >= kernel) return found;
  found.count = (kernel - 1 - found.first) / found.step + 1;
  found.origin = (phase + pad - found.first * dilation) / stride;
  return found;
}

struct Phase2d {
  Phase vertical, horizontal;
  int top, left;  // the first pixel
};

// Gradients of the outputs that a pixel of the phase went into: row o is a pixel, k a (tap, filter).
template <typename Number>
struct Gradients {
  using Element = Number;
  static constexpr bool along_k = true;
  Shape2d s;
  Phase2d phase;
  Divider by_width, by_height, by_taps_across;
  const Element* grad_output;
  int count;
  bool vectors;

  struct Outer {
    const Element* at;  // the gradient of the pixel's first tap; it may lie outside
    int row, column;
  };
  __device__ __forceinline__ Outer outer(int o) const {
    if (o >= count) return {grad_output, outside, outside};
    const Pixel at = split_pixel(o, by_width, by_height);
    const int row = at.row + phase.vertical.origin;
    const int column = at.column + phase.horizontal.origin;
    return {
        grad_output + ((static_cast<int64_t>(at.image) * s.out_height + row) * s.out_width + column) * s.all_filters,
        row, column};
  }
  struct AtK {
    int row, column;  // of the output, from that of the pixel's first tap
    int64_t offset;
  };
  __device__ __forceinline__ AtK at_k(int k, int end) const {
    if (k >= end) return {outside, outside, 0};
    const Tap tap = split_tap(k, s.by_filters, by_taps_across);
    const int row = -tap.row * phase.vertical.move;
    const int column = -tap.column * phase.horizontal.move;
    return {row, column, (static_cast<int64_t>(row) * s.out_width + column) * s.all_filters + tap.channel};
  }
  __device__ __forceinline__ Source<Element> source(const Outer& outer, const AtK& at) const {
    return {outer.at + at.offset,
            within(outer.row + at.row, s.out_height) && within(outer.column + at.column, s.out_width)};
  }
  __device__ __forceinline__ Floats<4> load(const Outer& outer, int k, int end) const {
    return load_along_k(*this, outer, k, end);
  }
};

// The filters turned over: column o is a channel, k a (tap, filter).
template <typename Number>
struct TurnedFilters {
  using Element = Number;
  static constexpr bool along_k = true;
  Shape2d s;
  Phase2d phase;
  Divider by_taps_across;
  const Element* filters;
  bool vectors;

  struct Outer {
    const Element* at;
    bool inside;
  };
  __device__ __forceinline__ Outer outer(int o) const {
    return {filters + static_cast<int64_t>(o) * s.all_filters, o < s.channels};
  }
  struct AtK {
    int64_t offset;
    bool inside;
  };
  __device__ __forceinline__ AtK at_k(int k, int end) const {
    const Tap tap = split_tap(k, s.by_filters, by_taps_across);
    const int row = phase.vertical.first + tap.row * phase.vertical.step;
    const int column = phase.horizontal.first + tap.column * phase.horizontal.step;
    return {(static_cast<int64_t>(row) * s.kernel_width + column) * s.channels * s.all_filters + tap.channel, k < end};
  }
  __device__ __forceinline__ Source<Element> source(const Outer& outer, const AtK& at) const {
    return {outer.at + at.offset, outer.inside && at.inside};
  }
  __device__ __forceinline__ Floats<4> load(const Outer& outer, int k, int end) const {
    return load_along_k(*this, outer, k, end);
  }
};

// Pixels of a phase of the image.
template <typename Element>
struct PhaseOutput {
  Shape2d s;
  Phase2d phase;
  Divider by_width, by_height;
  Element* grad_input;
  bool vectors;

  __device__ __forceinline__ void store(int row, int column, const float* four, int left) const {
    const Pixel at = split_pixel(row, by_width, by_height);
    const int y = phase.top + at.row * s.stride_height;
    const int x = phase.left + at.column * s.stride_width;
    Element* to =
        grad_input + ((static_cast<int64_t>(at.image) * s.height + y) * s.width + x) * s.all_channels + column;
    store_four(to, {four[0], four[1], four[2], four[3]}, left, vectors);
  }
};

template <typename Element>
struct BackwardInputProblem {
  struct Operands {
    Gradients<Element> a;
    TurnedFilters<Element> b;
    PhaseOutput<Element> c;
    int rows, columns, depth;
  };

  Shape2d s;
  const Element* grad_output;
  const Element* filters;
  Element* grad_input;
  bool filters_in_vectors;
  bool channels_in_vectors;

  // z: the group, then the vertical and the horizontal phase.
  __device__ Operands operands(int z, int) const {
    const int across = z % s.stride_width;
    const int down = z / s.stride_width % s.stride_height;
    const int group = z / (s.stride_width * s.stride_height);
    const Phase2d phase{phase_of(down, s.height, s.pad_top, s.kernel_height, s.stride_height, s.dilation_height),
                        phase_of(across, s.width, s.pad_left, s.kernel_width, s.stride_width, s.dilation_width), down,
                        across};
    const int rows = s.batch * phase.vertical.pixels * phase.horizontal.pixels;
    const int taps = phase.vertical.count * phase.horizontal.count;
    const Divider by_width = small_divider(phase.horizontal.pixels);
    const Divider by_height = small_divider(phase.vertical.pixels);
    const Divider by_taps_across = small_divider(phase.horizontal.count);
    return {{s, phase, by_width, by_height, by_taps_across, grad_output + group * s.filters, rows, filters_in_vectors},
            {s, phase, by_taps_across, filters + group * s.filters, filters_in_vectors},
            {s, phase, by_width, by_height, grad_input + group * s.channels, channels_in_vectors},
            rows,
            s.channels,
            taps * s.filters};
  }
  __device__ static Divider small_divider(int divisor) { return Divider(divisor < 1 ? 1 : divisor); }
};

template <typename Element>
void conv2d_input_product(const Context& context, const Conv2dProblem& p, const Element* grad_output,
                          const Element* filters, Element* grad_input) {
  const Scratch scratch(context);
  const int64_t z = p.groups * p.stride_height * p.stride_width;
  if (z > 65535)
    throw ShapeError("groups * strides[0] * strides[1] is " + std::to_string(z) +
                     ", but the CUDA kernel of conv2d_backward_input takes at most 65535");
  for_slices(p, [&](int64_t images, int64_t first_in, int64_t first_out) {
    const Shape2d s(p, images);
    const auto phases = [](int64_t extent, int64_t stride) { return (extent + stride - 1) / stride; };
    const int64_t rows = images * phases(p.height, p.stride_height) * phases(p.width, p.stride_width);
    const bool filters_in_vectors =
        s.filters % vector_numbers<Element> == 0 && aligned_for_vectors(grad_output, filters);
    const auto plan = MatmulPlan::of<Element>(context, static_cast<int>(z), rows, s.channels,
                                              int64_t{s.taps()} * s.filters, filters_in_vectors, false);
    run_matmul<Element>(
        context, plan,
        BackwardInputProblem<Element>{s, grad_output + first_out, filters, grad_input + first_in, filters_in_vectors,
                                      s.channels % 4 == 0 && aligned_for_vectors(grad_input)});
  });
}

// ---- Backward to the filters ----------------------------------------------------------------------------------------

// Windows turned over: row o is a tap, k an output pixel.
template <typename Number>
struct TurnedWindows {
  using Element = Number;
  static constexpr bool along_k = false;
  Shape2d s;
  const Element* input;
  int count;
  bool vectors;

  struct Outer {
    struct Place {
      int row, column;  // of the image, from the pixel's
      int64_t offset;
    };
    Place places[4];  // the first alone where they are loaded at once
  };
  __device__ __forceinline__ Outer outer(int o) const {
    Outer found{};
    for (int i = 0; i < 4; ++i) {
      if (vectors && i > 0) break;
      if (o + i >= count) {
        found.places[i] = {outside, outside, 0};
        continue;
      }
      const Tap tap = split_tap(o + i, s.by_channels, s.by_kernel_width);
      const int row = tap.row * s.dilation_height - s.pad_top;
      const int column = tap.column * s.dilation_width - s.pad_left;
      found.places[i] = {row, column, (static_cast<int64_t>(row) * s.width + column) * s.all_channels + tap.channel};
    }
    return found;
  }
  struct AtK {
    const Element* at;
    int row, column;
  };
  __device__ __forceinline__ AtK at_k(int k, int end) const {
    if (k >= end) return {input, outside, outside};
    const Pixel at = split_pixel(k, s.by_out_width, s.by_out_height);
    const int row = at.row * s.stride_height;
    const int column = at.column * s.stride_width;
    return {input + ((static_cast<int64_t>(at.image) * s.height + row) * s.width + column) * s.all_channels, row,
            column};
  }
  __device__ __forceinline__ Source<Element> place(const typename Outer::Place& place, const AtK& at) const {
    return {at.at + place.offset, within(at.row + place.row, s.height) && within(at.column + place.column, s.width)};
  }
  __device__ __forceinline__ Source<Element> source(const Outer& outer, const AtK& at) const {
    return place(outer.places[0], at);
  }
  __device__ __forceinline__ Floats<4> load(const Outer& outer, int k, int end) const {
    Floats<4> values{};
    if (k >= end) return values;
    const AtK at = at_k(k, end);
    if (vectors) {
      const Source<Element> found = source(outer, at);
      return found.inside ? cuda::load<4>(found.from) : values;
    }
    for (int i = 0; i < 4; ++i) {
      const Source<Element> found = place(outer.places[i], at);
      if (found.inside) values.at[i] = *found.from;
    }
    return values;
  }
};

template <typename Element>
struct BackwardFiltersProblem {
  struct Operands {
    TurnedWindows<Element> a;
    Matrix<false, Element> b;
    MaybePartial<MatrixOutput<>> c;
    int rows, columns, depth;
  };

  TurnedWindows<Element> windows;
  Matrix<false, Element> grad_output;
  MatrixOutput<> grad_filters;
  PartialSums partial;
  int depth;

  __device__ __forceinline__ Operands operands(int group, int slice) const {
    const Shape2d& s = windows.s;
    Operands found{windows, grad_output, {grad_filters, nullptr, s.filters}, windows.count, s.filters, depth};
    found.a.input += group * s.channels;
    found.b.data += group * s.filters;
    found.c.own.data += group * s.filters;
    if (partial.data != nullptr) found.c.part = partial.data + slice * partial.slice_size + group * partial.z_size;
    return found;
  }
};

template <typename Element>
void conv2d_filters_product(const Context& context, const Conv2dProblem& p, const Element* input,
                            const Element* grad_output, float* grad_filters, float* grad_bias) {
  Scratch scratch(context);
  if (p.batch > images_per_launch(std::max(pixels_of(p), out_pixels_of(p))))
    throw ShapeError(
        "the batch has 2^31 or more pixels, but the CUDA kernel of conv2d_backward_filters takes fewer; "
        "split the batch and add the gradients up");
  const Shape2d s(p, p.batch);
  const int64_t rows = int64_t{s.taps()} * s.channels;
  const int64_t depth = p.batch * out_pixels_of(p);
  const bool input_in_vectors = s.channels % vector_numbers<Element> == 0 && aligned_for_vectors(input);
  const bool filters_in_vectors = s.filters % vector_numbers<Element> == 0 && aligned_for_vectors(grad_output);
  const auto plan =
      MatmulPlan::of<Element>(context, s.groups, rows, s.filters, depth, input_in_vectors && filters_in_vectors, true);
  float* parts = plan.slices.count == 1 ? nullptr : scratch.take<float>(plan.partial_floats());
  const MatrixOutput<> to{grad_filters, p.filters, nullptr, Activation::linear,
                          s.filters % 4 == 0 && aligned_for_vectors(grad_filters)};
  run_matmul<Element>(context, plan,
                      BackwardFiltersProblem<Element>{{s, input, static_cast<int>(rows), input_in_vectors},
                                                      {grad_output, p.filters, s.filters, filters_in_vectors},
                                                      to,
                                                      plan.partial(parts),
                                                      static_cast<int>(depth)});
  if (parts != nullptr)
    add_slices(context, plan.partial(parts), plan.slices.count, s.groups, plan.rows, plan.columns, to, s.filters);
  if (grad_bias != nullptr) column_sums(context, depth, p.filters, grad_output, grad_bias);
}

}  // namespace convec::cuda
