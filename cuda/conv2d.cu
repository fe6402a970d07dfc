// Convolutions as implicit matrix products (matmul.hpp): patches of the image are gathered while they are loaded, and
// nothing is unfolded in memory.
//
//   forward            C[pixel, filter]   = sum over (row, column, channel) of the window; short sums by a kernel of
//                                           their own
//   backward, input    C[pixel, channel]  = sum over (row, column, filter); with strides, pixels whose windows hit the
//                                           same rows and columns of the filters form a product of their own
//   backward, filters  C[(row, column, channel), filter] = sum over the output's pixels, in slices
//
// With a 2 x 2 max pooling behind it, the forward pass is one kernel that never stores the full-size image.
#include <atomic>

#include "cuda_backend.hpp"
#include "cuda_table.hpp"
#include "matmul.hpp"

namespace convec::cuda {

namespace {

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
  bool vectors;  // channels (filters) may be loaded four at a time

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

// Far outside of any image, and so is what is added to it.
constexpr int outside = -(1 << 30);

// Four neighbours along k of an operand whose elements are found by source().
template <typename Operand>
__device__ __forceinline__ Floats<4> load_along_k(const Operand& operand, const typename Operand::Outer& outer, int k,
                                                  int end) {
  Floats<4> values{};
  if (k >= end) return values;
  if (operand.vectors) {
    const Source source = operand.source(outer, operand.at_k(k, end));
    return source.inside ? cuda::load<4>(source.from) : values;
  }
  for (int i = 0; i < 4; ++i) {
    if (k + i >= end) break;
    const Source source = operand.source(outer, operand.at_k(k + i, end));
    if (source.inside) values.at[i] = *source.from;
  }
  return values;
}

// ---- Forward --------------------------------------------------------------------------------------------------------

// Windows of the image: row o is an output pixel, k a tap.
struct Windows {
  static constexpr bool along_k = true;
  Shape2d s;
  const float* input;
  int count;
  bool vectors;

  struct Outer {
    const float* at;  // the window's first element; it may lie outside
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
  __device__ __forceinline__ Source source(const Outer& outer, const AtK& at) const {
    return {outer.at + at.offset, within(outer.top + at.row, s.height) && within(outer.left + at.column, s.width)};
  }
  __device__ __forceinline__ Floats<4> load(const Outer& outer, int k, int end) const {
    return load_along_k(*this, outer, k, end);
  }
};

struct ForwardProblem {
  struct Operands {
    Windows a;
    Matrix<false> b;
    MaybePartial<MatrixOutput> c;
    int rows, columns, depth;
  };

  Windows windows;
  Matrix<false> filters;
  MatrixOutput output;
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

// The output's pixels one after the other.
struct AllPixels {
  Divider by_width, by_height;

  __device__ __forceinline__ Pixel at(int index) const { return split_pixel(index, by_width, by_height); }
};

// Few products a sum (a first layer): a product by tiles would be mostly empty. A thread computes four filters of four
// neighbouring pixels; the filters lie in shared memory, (tap, filter) with filters in fours.
template <typename Pixels, typename Output>
struct DirectProblem {
  Shape2d s;
  Pixels pixels;
  const float* input;
  const float* filters;
  Output output;
  int count;  // of pixels
  int depth;
  Divider by_fours;
};

constexpr int direct_pixels = 4;
constexpr int direct_depth = 32;
constexpr int direct_filters = 12288;  // floats of shared memory

template <typename Pixels, typename Output>
__global__ void __launch_bounds__(block_threads) direct_kernel(DirectProblem<Pixels, Output> p) {
  auto* filters = dynamic_shared<float>();
  const Shape2d& s = p.s;
  const int padded = static_cast<int>(p.by_fours.divisor()) * 4;
  for (int i = static_cast<int>(threadIdx.x); i < p.depth * padded; i += block_threads) {
    const int filter = i % padded;
    filters[i] = filter < s.filters ? p.filters[i / padded * s.filters + filter] : 0.0F;
  }
  __syncthreads();
  std::uint32_t four = blockIdx.x * blockDim.x + threadIdx.x;
  const int first = static_cast<int>(p.by_fours.split(four)) * direct_pixels;
  if (first >= p.count) return;
  const float* images[direct_pixels];
  int top[direct_pixels];
  int left[direct_pixels];
  CONVEC_UNROLL
  for (int i = 0; i < direct_pixels; ++i) {
    const Pixel at = p.pixels.at(min(first + i, p.count - 1));
    images[i] = p.input + static_cast<int64_t>(at.image) * s.height * s.width * s.channels;
    top[i] = at.row * s.stride_height - s.pad_top;
    left[i] = at.column * s.stride_width - s.pad_left;
  }
  float sums[direct_pixels][4] = {};
  const float* weights = filters + four * 4;
  for (int r = 0; r < s.kernel_height; ++r)
    for (int c = 0; c < s.kernel_width; ++c) {
      const float* from[direct_pixels];
      CONVEC_UNROLL
      for (int i = 0; i < direct_pixels; ++i) {
        const int y = top[i] + r * s.dilation_height;
        const int x = left[i] + c * s.dilation_width;
        const bool inside = within(y, s.height) && within(x, s.width);
        from[i] = inside ? images[i] + (static_cast<int64_t>(y) * s.width + x) * s.channels : nullptr;
      }
      for (int channel = 0; channel < s.channels; ++channel, weights += padded) {
        const Floats<4> w = load<4>(weights);
        CONVEC_UNROLL
        for (int i = 0; i < direct_pixels; ++i) {
          const float x = from[i] == nullptr ? 0.0F : from[i][channel];
          CONVEC_UNROLL
          for (int j = 0; j < 4; ++j) sums[i][j] += x * w.at[j];
        }
      }
    }
  const int column = static_cast<int>(four) * 4;
  if constexpr (TakesWindows<Output>::value) {
    p.output.template store_rows<direct_pixels, 0>(first, column, sums[0], 4, true, s.filters - column);
  } else {
    CONVEC_UNROLL
    for (int i = 0; i < direct_pixels; ++i)
      if (first + i < p.count) p.output.store(first + i, column, sums[i], s.filters - column);
  }
}

// Queues the direct kernel for `count` pixels where it can take them, or returns false.
template <typename Pixels, typename Output>
bool run_direct(const Context& context, const Shape2d& s, const Pixels& pixels, int64_t count, const float* input,
                const float* filters, const Output& output) {
  const int64_t depth = int64_t{s.taps()} * s.channels;
  const int64_t fours = (int64_t{s.filters} + 3) / 4;
  const int64_t threads = (count + direct_pixels - 1) / direct_pixels * fours;
  if (s.groups != 1 || depth > direct_depth || depth * fours * 4 > direct_filters || threads >= index_limit)
    return false;
  launch(direct_kernel<Pixels, Output>,
         {grid_of(threads), block_threads, static_cast<std::size_t>(depth * fours * 4) * sizeof(float),
          stream_of(context)},
         DirectProblem<Pixels, Output>{s, pixels, input, filters, output, static_cast<int>(count),
                                       static_cast<int>(depth), Divider(fours)});
  return true;
}

int64_t pixels_of(const Conv2dProblem& p) { return p.height * p.width; }
int64_t out_pixels_of(const Conv2dProblem& p) { return p.out_height * p.out_width; }

// Calls run(images, first element of the input, first of the output) for slices of the batch.
template <typename Run>
void for_slices(const Conv2dProblem& p, Run&& run) {
  for_image_slices(p.batch, std::max(pixels_of(p), out_pixels_of(p)), [&](int64_t first, int64_t images) {
    run(images, first * pixels_of(p) * p.channels, first * out_pixels_of(p) * p.filters);
  });
}

int64_t conv2d_prepared_size(const Conv2dProblem&) { return 0; }
void conv2d_prepare(const Conv2dProblem&, const float*, float*) {}

void conv2d_forward(const Context& context, const Conv2dProblem& p, const float* input, const float* filters,
                    const float*, const float* bias, Activation activation, float* output) {
  Scratch scratch(context);
  for_slices(p, [&](int64_t images, int64_t first_in, int64_t first_out) {
    const Shape2d s(p, images);
    const int64_t rows = images * out_pixels_of(p);
    const int64_t depth = int64_t{s.taps()} * s.channels;
    const bool filters_in_vectors = s.filters % 4 == 0;
    const MatrixOutput to{output + first_out, p.filters, bias, activation,
                          filters_in_vectors && aligned_for_vectors(output)};
    if (run_direct(context, s, AllPixels{s.by_out_width, s.by_out_height}, rows, input + first_in, filters, to)) return;
    const bool input_in_fours = s.channels % 4 == 0 && aligned_for_vectors(input);
    const bool filters_in_fours = filters_in_vectors && aligned_for_vectors(filters);
    const MatmulPlan plan(context, s.groups, rows, s.filters, depth, input_in_fours && filters_in_fours, true);
    float* parts = plan.slices.count == 1 ? nullptr : scratch.take<float>(plan.partial_floats());
    run_matmul(context, plan,
               ForwardProblem{{s, input + first_in, static_cast<int>(rows), input_in_fours},
                              {filters, p.filters, s.filters, filters_in_fours},
                              to,
                              plan.partial(parts),
                              static_cast<int>(depth)});
    if (parts != nullptr)
      add_slices(context, plan.partial(parts), plan.slices.count, s.groups, plan.rows, plan.columns, to, s.filters);
  });
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
struct Gradients {
  static constexpr bool along_k = true;
  Shape2d s;
  Phase2d phase;
  Divider by_width, by_height, by_taps_across;
  const float* grad_output;
  int count;
  bool vectors;

  struct Outer {
    const float* at;  // the gradient of the pixel's first tap; it may lie outside
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
  __device__ __forceinline__ Source source(const Outer& outer, const AtK& at) const {
    return {outer.at + at.offset,
            within(outer.row + at.row, s.out_height) && within(outer.column + at.column, s.out_width)};
  }
  __device__ __forceinline__ Floats<4> load(const Outer& outer, int k, int end) const {
    return load_along_k(*this, outer, k, end);
  }
};

// The filters turned over: column o is a channel, k a (tap, filter).
struct TurnedFilters {
  static constexpr bool along_k = true;
  Shape2d s;
  Phase2d phase;
  Divider by_taps_across;
  const float* filters;
  bool vectors;

  struct Outer {
    const float* at;
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
  __device__ __forceinline__ Source source(const Outer& outer, const AtK& at) const {
    return {outer.at + at.offset, outer.inside && at.inside};
  }
  __device__ __forceinline__ Floats<4> load(const Outer& outer, int k, int end) const {
    return load_along_k(*this, outer, k, end);
  }
};

// Pixels of a phase of the image.
struct PhaseOutput {
  Shape2d s;
  Phase2d phase;
  Divider by_width, by_height;
  float* grad_input;
  bool vectors;

  __device__ __forceinline__ void store(int row, int column, const float* four, int left) const {
    const Pixel at = split_pixel(row, by_width, by_height);
    const int y = phase.top + at.row * s.stride_height;
    const int x = phase.left + at.column * s.stride_width;
    float* to = grad_input + ((static_cast<int64_t>(at.image) * s.height + y) * s.width + x) * s.all_channels + column;
    if (vectors && left >= 4) {
      cuda::store<4>(to, {four[0], four[1], four[2], four[3]});
      return;
    }
    for (int i = 0; i < 4; ++i)
      if (i < left) to[i] = four[i];
  }
};

struct BackwardInputProblem {
  struct Operands {
    Gradients a;
    TurnedFilters b;
    PhaseOutput c;
    int rows, columns, depth;
  };

  Shape2d s;
  const float* grad_output;
  const float* filters;
  float* grad_input;
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

void conv2d_backward_input(const Context& context, const Conv2dProblem& p, const float* grad_output,
                           const float* filters, float* grad_input) {
  const Scratch scratch(context);
  const int64_t z = p.groups * p.stride_height * p.stride_width;
  if (z > 65535)
    throw ShapeError("groups * strides[0] * strides[1] is " + std::to_string(z) +
                     ", but the CUDA kernel of conv2d_backward_input takes at most 65535");
  for_slices(p, [&](int64_t images, int64_t first_in, int64_t first_out) {
    const Shape2d s(p, images);
    const auto phases = [](int64_t extent, int64_t stride) { return (extent + stride - 1) / stride; };
    const int64_t rows = images * phases(p.height, p.stride_height) * phases(p.width, p.stride_width);
    const bool filters_in_fours = s.filters % 4 == 0 && aligned_for_vectors(grad_output, filters);
    const MatmulPlan plan(context, static_cast<int>(z), rows, s.channels, int64_t{s.taps()} * s.filters,
                          filters_in_fours, false);
    run_matmul(context, plan,
               BackwardInputProblem{s, grad_output + first_out, filters, grad_input + first_in, filters_in_fours,
                                    s.channels % 4 == 0 && aligned_for_vectors(grad_input)});
  });
}

// ---- Backward to the filters ----------------------------------------------------------------------------------------

// Windows turned over: row o is a tap, k an output pixel.
struct TurnedWindows {
  static constexpr bool along_k = false;
  Shape2d s;
  const float* input;
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
    const float* at;
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
  __device__ __forceinline__ Source place(const typename Outer::Place& place, const AtK& at) const {
    return {at.at + place.offset, within(at.row + place.row, s.height) && within(at.column + place.column, s.width)};
  }
  __device__ __forceinline__ Source source(const Outer& outer, const AtK& at) const {
    return place(outer.places[0], at);
  }
  __device__ __forceinline__ Floats<4> load(const Outer& outer, int k, int end) const {
    Floats<4> values{};
    if (k >= end) return values;
    const AtK at = at_k(k, end);
    if (vectors) {
      const Source found = source(outer, at);
      return found.inside ? cuda::load<4>(found.from) : values;
    }
    for (int i = 0; i < 4; ++i) {
      const Source found = place(outer.places[i], at);
      if (found.inside) values.at[i] = *found.from;
    }
    return values;
  }
};

struct BackwardFiltersProblem {
  struct Operands {
    TurnedWindows a;
    Matrix<false> b;
    MaybePartial<MatrixOutput> c;
    int rows, columns, depth;
  };

  TurnedWindows windows;
  Matrix<false> grad_output;
  MatrixOutput grad_filters;
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

void conv2d_backward_filters(const Context& context, const Conv2dProblem& p, const float* input,
                             const float* grad_output, float* grad_filters, float* grad_bias) {
  Scratch scratch(context);
  if (p.batch > images_per_launch(std::max(pixels_of(p), out_pixels_of(p))))
    throw ShapeError(
        "the batch has 2^31 or more pixels, but the CUDA kernel of conv2d_backward_filters takes fewer; "
        "split the batch and add the gradients up");
  const Shape2d s(p, p.batch);
  const int64_t rows = int64_t{s.taps()} * s.channels;
  const int64_t depth = p.batch * out_pixels_of(p);
  const bool input_in_fours = s.channels % 4 == 0 && aligned_for_vectors(input);
  const bool filters_in_fours = s.filters % 4 == 0 && aligned_for_vectors(grad_output);
  const MatmulPlan plan(context, s.groups, rows, s.filters, depth, input_in_fours && filters_in_fours, true);
  float* parts = plan.slices.count == 1 ? nullptr : scratch.take<float>(plan.partial_floats());
  const MatrixOutput to{grad_filters, p.filters, nullptr, Activation::linear,
                        s.filters % 4 == 0 && aligned_for_vectors(grad_filters)};
  run_matmul(context, plan,
             BackwardFiltersProblem{{s, input, static_cast<int>(rows), input_in_fours},
                                    {grad_output, p.filters, s.filters, filters_in_fours},
                                    to,
                                    plan.partial(parts),
                                    static_cast<int>(depth)});
  if (parts != nullptr)
    add_slices(context, plan.partial(parts), plan.slices.count, s.groups, plan.rows, plan.columns, to, s.filters);
  if (grad_bias != nullptr) column_sums(context, depth, p.filters, grad_output, grad_bias);
}

// ---- Convolution, ReLU and max pooling ------------------------------------------------------------------------------

// Whether `best` stays the maximum beside a later `value`: NaN stays, and of equal ones the first.
__device__ __forceinline__ bool keeps(float best, float value) { return value <= best || best != best; }

// Pixels by 2 x 2 windows that lie side by side: four of one window, then four of the next.
struct WindowPixels {
  Divider by_width, by_height;  // of the pooled image

  __device__ __forceinline__ Pixel at(int index) const {
    const Pixel window = split_pixel(index / 4, by_width, by_height);
    return {window.image, window.row * 2 + index % 4 / 2, window.column * 2 + index % 2};
  }
};

// The maxima of windows of four pixels, with bias and activation, and which of the four each is.
struct PooledOutput {
  using TakesWindows = std::true_type;
  float* data;
  int64_t stride;
  const float* bias;  // or null
  Activation activation;
  std::uint8_t* argmax;  // or null
  bool vectors;

  template <int Rows, int Lanes>
  __device__ __forceinline__ void store_rows(int row, int column, const float* sums, int step, bool within,
                                             int left) const {
    static_assert(Rows == 4 || Rows == 2);
    Floats<4> best{};
    int position[4];
    CONVEC_UNROLL
    for (int c = 0; c < 4; ++c) {
      const float added = bias == nullptr || c >= left ? 0.0F : bias[column + c];
      CONVEC_UNROLL
      for (int i = 0; i < Rows; ++i) {
        const float value = activate(activation, sums[i * step + c] + added);
        if (i > 0 && keeps(best.at[c], value)) continue;
        best.at[c] = value;
        position[c] = row % 4 + i;
      }
      if constexpr (Rows == 2) {
        const float value = __shfl_xor_sync(whole_warp, best.at[c], Lanes);
        const int other = __shfl_xor_sync(whole_warp, position[c], Lanes);
        if (keeps(best.at[c], value)) continue;
        best.at[c] = value;
        position[c] = other;
      }
    }
    // The lane of the upper half, whose elements come first, stores the window.
    if (row % 4 != 0 || !within || left <= 0) return;
    const int64_t to = row / 4 * stride + column;
    struct alignas(4) Bytes {
      std::uint8_t at[4];
    };
    Bytes bytes;
    for (int c = 0; c < 4; ++c) bytes.at[c] = static_cast<std::uint8_t>(position[c]);
    if (vectors && left >= 4) {
      cuda::store<4>(data + to, best);
      if (argmax != nullptr) *reinterpret_cast<Bytes*>(argmax + to) = bytes;
      return;
    }
    for (int c = 0; c < 4; ++c) {
      if (c >= left) break;
      data[to + c] = best.at[c];
      if (argmax != nullptr) argmax[to + c] = bytes.at[c];
    }
  }
};

// As Windows, the pixels by pooling windows.
struct PooledWindows : Windows {
  WindowPixels pixels;

  __device__ __forceinline__ Outer outer(int o) const {
    if (o >= count) return {input, outside, outside};
    return outer_of(pixels.at(o));
  }
};

struct PooledForwardProblem {
  struct Operands {
    PooledWindows a;
    Matrix<false> b;
    PooledOutput c;
    int rows, columns, depth;
  };

  PooledWindows windows;
  Matrix<false> filters;
  PooledOutput output;
  int depth;

  __device__ __forceinline__ Operands operands(int, int) const {
    return {windows, filters, output, windows.count, windows.s.filters, depth};
  }
};

struct PooledShape {
  int out_height, out_width, filters;  // of the convolution
  int pooled_height, pooled_width;
  int pool_height, pool_width, stride_height, stride_width, pad_top, pad_left;
  Divider by_pooled_width, by_pooled_height, by_out_width, by_out_height, by_stride_height, by_stride_width,
      by_pool_width;

  PooledShape(const Conv2dProblem& conv, const Pool2dProblem& pool)
      : out_height(static_cast<int>(conv.out_height)),
        out_width(static_cast<int>(conv.out_width)),
        filters(static_cast<int>(conv.filters)),
        pooled_height(static_cast<int>(pool.out_height)),
        pooled_width(static_cast<int>(pool.out_width)),
        pool_height(static_cast<int>(pool.pool_height)),
        pool_width(static_cast<int>(pool.pool_width)),
        stride_height(static_cast<int>(pool.stride_height)),
        stride_width(static_cast<int>(pool.stride_width)),
        pad_top(static_cast<int>(pool.pad_top)),
        pad_left(static_cast<int>(pool.pad_left)),
        by_pooled_width(pool.out_width),
        by_pooled_height(pool.out_height),
        by_out_width(conv.out_width),
        by_out_height(conv.out_height),
        by_stride_height(pool.stride_height),
        by_stride_width(pool.stride_width),
        by_pool_width(pool.pool_width) {}
};

// The pooled maxima of a convolution's output and where they were: row by row within the whole window. A thread for
// each pooled element.
__global__ void __launch_bounds__(block_threads) pool_kernel(PooledShape s, Divider by_filters, std::uint32_t count,
                                                             const float* full, float* pooled, std::uint8_t* argmax) {
  const std::uint32_t index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= count) return;
  std::uint32_t filter = index;
  const Pixel window = split_pixel(static_cast<int>(by_filters.split(filter)), s.by_pooled_width, s.by_pooled_height);
  const int top = window.row * s.stride_height - s.pad_top;
  const int left = window.column * s.stride_width - s.pad_left;
  float best = 0.0F;
  int winner = -1;
  for (int r = 0; r < s.pool_height; ++r)
    for (int c = 0; c < s.pool_width; ++c) {
      const int y = top + r;
      const int x = left + c;
      if (!within(y, s.out_height) || !within(x, s.out_width)) continue;
      const float value =
          full[((static_cast<int64_t>(window.image) * s.out_height + y) * s.out_width + x) * s.filters + filter];
      if (winner < 0 || !keeps(best, value)) {
        best = value;
        winner = r * s.pool_width + c;
      }
    }
  pooled[index] = best;
  if (argmax != nullptr) argmax[index] = static_cast<std::uint8_t>(winner);
}

// What the backward pass knows of the pooled output.
struct PooledGradient {
  const float* pooled;  // null: no ReLU
  const std::uint8_t* argmax;
  const float* gradient;

  // Of the element before the ReLU that became maximum number `index`.
  __device__ __forceinline__ float at(int64_t index) const {
    return pooled != nullptr && !(pooled[index] > 0.0F) ? 0.0F : gradient[index];
  }
};

// The gradient before the pooling: a thread for `Width` filters of a pixel, 0 where its window's maximum is elsewhere.
template <int Width>
__global__ void __launch_bounds__(block_threads)
    unpool_kernel(PooledShape s, Divider by_filters, std::uint32_t count, PooledGradient from, float* full) {
  const std::uint32_t index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= count) return;
  std::uint32_t filter = index;
  const Pixel at = split_pixel(static_cast<int>(by_filters.split(filter)), s.by_out_width, s.by_out_height);
  auto r = static_cast<std::uint32_t>(at.row + s.pad_top);
  auto c = static_cast<std::uint32_t>(at.column + s.pad_left);
  const auto row = static_cast<int>(s.by_stride_height.split(r));
  const auto column = static_cast<int>(s.by_stride_width.split(c));
  Floats<Width> values{};
  // Windows do not overlap, but may leave pixels out.
  if (static_cast<int>(r) < s.pool_height && static_cast<int>(c) < s.pool_width && row < s.pooled_height &&
      column < s.pooled_width) {
    const int position = static_cast<int>(r) * s.pool_width + static_cast<int>(c);
    const int64_t first =
        ((static_cast<int64_t>(at.image) * s.pooled_height + row) * s.pooled_width + column) * s.filters +
        static_cast<int64_t>(filter) * Width;
    CONVEC_UNROLL
    for (int i = 0; i < Width; ++i)
      if (from.argmax[first + i] == position) values.at[i] = from.at(first + i);
  }
  store<Width>(full + static_cast<int64_t>(index) * Width, values);
}

// The filters' gradient of short sums, from the maxima alone: a lane for each filter, the warps of a block and the
// blocks share the windows out. Each block leaves its part of the sums: (block, tap, filter), and (block, filter) for
// the bias.
struct PooledFiltersProblem {
  Shape2d s;
  PooledShape pool;
  const float* input;
  PooledGradient from;
  int windows;
  int block_windows;  // of one block
  int depth;
  float* parts;
  float* bias_parts;
};

constexpr int pooled_warps = block_threads / warp_size;

template <int Depth>
__global__ void __launch_bounds__(block_threads) pooled_filters_kernel(PooledFiltersProblem p) {
  __shared__ Tap taps[Depth];
  __shared__ float shared[pooled_warps][Depth + 1][warp_size];
  const Shape2d& s = p.s;
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < p.depth) {
    Tap tap = split_tap(thread, s.by_channels, s.by_kernel_width);
    tap.row = tap.row * s.dilation_height - s.pad_top;
    tap.column = tap.column * s.dilation_width - s.pad_left;
    taps[thread] = tap;
  }
  __syncthreads();
  const int lane = thread % warp_size;
  const int warp = thread / warp_size;
  const int filter = static_cast<int>(blockIdx.y) * warp_size + lane;
  float sums[Depth + 1] = {};
  const int begin = static_cast<int>(blockIdx.x) * p.block_windows;
  const int end = min(begin + p.block_windows, p.windows);
  for (int window = begin + warp; window < end && filter < s.filters; window += pooled_warps) {
    const int64_t index = static_cast<int64_t>(window) * s.filters + filter;
    const float gradient = p.from.at(index);
    if (gradient == 0.0F) continue;
    const Pixel at = split_pixel(window, p.pool.by_pooled_width, p.pool.by_pooled_height);
    std::uint32_t c = p.from.argmax[index];
    const auto r = static_cast<int>(p.pool.by_pool_width.split(c));
    const int top = (at.row * p.pool.stride_height - p.pool.pad_top + r) * s.stride_height;
    const int left = (at.column * p.pool.stride_width - p.pool.pad_left + static_cast<int>(c)) * s.stride_width;
    const float* image = p.input + static_cast<int64_t>(at.image) * s.height * s.width * s.channels;
    CONVEC_UNROLL
    for (int k = 0; k < Depth; ++k) {
      if (k >= p.depth) break;
      const Tap tap = taps[k];
      const int y = top + tap.row;
      const int x = left + tap.column;
      if (within(y, s.height) && within(x, s.width))
        sums[k] += gradient * image[(static_cast<int64_t>(y) * s.width + x) * s.channels + tap.channel];
    }
    sums[Depth] += gradient;
  }
  CONVEC_UNROLL
  for (int k = 0; k <= Depth; ++k) shared[warp][k][lane] = sums[k];
  __syncthreads();
  // The bias' sum comes last.
  for (int i = thread; i < (Depth + 1) * warp_size; i += block_threads) {
    const int k = i / warp_size;
    const int to = static_cast<int>(blockIdx.y) * warp_size + i % warp_size;
    if (to >= s.filters || (k >= p.depth && k < Depth)) continue;
    float sum = 0.0F;
    for (int other = 0; other < pooled_warps; ++other) sum += shared[other][k][i % warp_size];
    if (k < Depth)
      p.parts[(static_cast<int64_t>(blockIdx.x) * p.depth + k) * s.filters + to] = sum;
    else
      p.bias_parts[static_cast<int64_t>(blockIdx.x) * s.filters + to] = sum;
  }
}

std::atomic<bool> pooling_is_fused{true};

// The position of a maximum fits a byte, and no element lies in two windows.
bool conv2d_max_pool2d_fusible(const Conv2dProblem&, const Pool2dProblem& pool) {
  return pool.stride_height >= pool.pool_height && pool.stride_width >= pool.pool_width &&
         pool.pool_height * pool.pool_width <= 256;
}

int64_t conv2d_max_pool2d_prepared_size(const Conv2dProblem&, const Pool2dProblem&) { return 0; }
void conv2d_max_pool2d_prepare(const Conv2dProblem&, const Pool2dProblem&, const float*, float*) {}

int64_t pooled_size(const Conv2dProblem& conv, const Pool2dProblem& pool) {
  return pool.out_height * pool.out_width * conv.filters;
}

// One kernel for all of it, where the windows are 2 x 2 and whole. False where nothing was done.
bool forward_in_one(const Context& context, const Conv2dProblem& conv, const Pool2dProblem& pool, const float* input,
                    const float* filters, const float* bias, Activation activation, float* output,
                    std::uint8_t* argmax) {
  if (!pooling_is_fused || conv.groups != 1 || pool.pool_height != 2 || pool.pool_width != 2 ||
      pool.stride_height != 2 || pool.stride_width != 2 || pool.pad_top != 0 || pool.pad_left != 0 ||
      pool.out_height * 2 > conv.out_height || pool.out_width * 2 > conv.out_width)
    return false;
  const int64_t depth = conv.kernel_height * conv.kernel_width * conv.channels;
  const int64_t windows = pool.out_height * pool.out_width;
  // The parts of sums in slices must be added up before there is a maximum. Two slices are given up for the kernels
  // that are saved; more are not.
  constexpr int slices_given_up = 2;
  const MatmulPlan sliced(context, 1, conv.batch * windows * 4, conv.filters, depth, false, true);
  const bool takes = sliced.precision == MatmulPrecision::float32 && sliced.slices.count <= slices_given_up;
  if (depth > direct_depth && !takes) return false;
  const bool vectors =
      conv.filters % 4 == 0 && aligned_for_vectors(output) && reinterpret_cast<std::uintptr_t>(argmax) % 4 == 0;
  for_slices(conv, [&](int64_t images, int64_t first_in, int64_t first_out) {
    const Shape2d s(conv, images);
    const int64_t first = first_out / (out_pixels_of(conv) * conv.filters) * windows * conv.filters;
    const int64_t rows = images * windows * 4;
    const WindowPixels pixels{Divider(pool.out_width), Divider(pool.out_height)};
    const PooledOutput to{output + first, conv.filters, bias, activation, argmax == nullptr ? nullptr : argmax + first,
                          vectors};
    if (run_direct(context, s, pixels, rows, input + first_in, filters, to)) return;
    const MatmulPlan plan(context, 1, rows, s.filters, depth, false, false);
    run_in_float32(
        context, plan,
        PooledForwardProblem{
            {{s, input + first_in, static_cast<int>(rows), s.channels % 4 == 0 && aligned_for_vectors(input)}, pixels},
            {filters, conv.filters, s.filters, s.filters % 4 == 0 && aligned_for_vectors(filters)},
            to,
            static_cast<int>(depth)});
  });
  return true;
}

void conv2d_max_pool2d_forward(const Context& context, const Conv2dProblem& conv, const Pool2dProblem& pool,
                               const float* input, const float* filters, const float*, const float* bias, bool relu,
                               float* output, std::uint8_t* argmax) {
  Scratch scratch(context);
  const Activation activation = relu ? Activation::relu : Activation::linear;
  if (forward_in_one(context, conv, pool, input, filters, bias, activation, output, argmax)) return;
  const int64_t full_size = out_pixels_of(conv) * conv.filters;
  float* full = scratch.take<float>(conv.batch * full_size);
  conv2d_forward(context, conv, input, filters, nullptr, bias, activation, full);
  const int64_t size = pooled_size(conv, pool);
  for_image_slices(conv.batch, size, [&](int64_t first, int64_t images) {
    const int64_t count = images * size;
    launch(pool_kernel, {grid_of(count), block_threads, 0, stream_of(context)}, PooledShape(conv, pool),
           Divider(conv.filters), static_cast<std::uint32_t>(count), full + first * full_size, output + first * size,
           argmax == nullptr ? nullptr : argmax + first * size);
  });
}

// The filters' gradient without that of the full-size image. False where nothing was done.
bool backward_filters_in_one(const Context& context, const Conv2dProblem& conv, const Pool2dProblem& pool,
                             const float* input, const PooledGradient& from, float* grad_filters, float* grad_bias) {
  const int64_t depth = conv.kernel_height * conv.kernel_width * conv.channels;
  const int64_t windows = conv.batch * pool.out_height * pool.out_width;
  if (!pooling_is_fused || conv.groups != 1 || depth > direct_depth || windows >= index_limit ||
      conv.batch > images_per_launch(pixels_of(conv)))
    return false;
  const int64_t across = (conv.filters + warp_size - 1) / warp_size;
  if (across > 65535) return false;
  constexpr int64_t least = int64_t{4} * pooled_warps;  // windows of a block
  const int64_t wanted = std::max<int64_t>(1, int64_t{2} * multiprocessors(context.device.index) / across);
  const int64_t most = std::min(wanted, (windows + least - 1) / least);
  const int64_t block_windows = (windows + most - 1) / most;
  const int64_t blocks = (windows + block_windows - 1) / block_windows;
  Scratch scratch(context);
  float* parts = scratch.take<float>(blocks * depth * conv.filters);
  float* bias_parts = scratch.take<float>(blocks * conv.filters);
  const PooledFiltersProblem problem{
      Shape2d(conv, conv.batch),       PooledShape(conv, pool), input, from,      static_cast<int>(windows),
      static_cast<int>(block_windows), static_cast<int>(depth), parts, bias_parts};
  constexpr int shallow = 12;  // 3 x 3 of one channel
  launch(depth <= shallow ? pooled_filters_kernel<shallow> : pooled_filters_kernel<direct_depth>,
         {dim3(static_cast<unsigned int>(blocks), static_cast<unsigned int>(across)), block_threads, 0,
          stream_of(context)},
         problem);
  column_sums(context, blocks, depth * conv.filters, parts, grad_filters);
  if (grad_bias != nullptr) column_sums(context, blocks, conv.filters, bias_parts, grad_bias);
  return true;
}

void conv2d_max_pool2d_backward(const Context& context, const Conv2dProblem& conv, const Pool2dProblem& pool,
                                const float* input, const float* filters, bool relu, const float* output,
                                const std::uint8_t* argmax, const float* grad_output, float* grad_input,
                                float* grad_filters, float* grad_bias) {
  Scratch scratch(context);
  const PooledGradient from{relu ? output : nullptr, argmax, grad_output};
  if (grad_filters != nullptr && backward_filters_in_one(context, conv, pool, input, from, grad_filters, grad_bias))
    grad_filters = nullptr;
  if (grad_filters == nullptr && grad_input == nullptr) return;
  const int64_t full_size = out_pixels_of(conv) * conv.filters;
  const int64_t size = pooled_size(conv, pool);
  float* full = scratch.take<float>(conv.batch * full_size);
  for_image_slices(conv.batch, full_size, [&](int64_t first, int64_t images) {
    PooledGradient here{relu ? output + first * size : nullptr, argmax + first * size, grad_output + first * size};
    const auto run = [&](auto width) {
      const int64_t count = images * full_size / width;
      launch(unpool_kernel<width>, {grid_of(count), block_threads, 0, stream_of(context)}, PooledShape(conv, pool),
             Divider(conv.filters / width), static_cast<std::uint32_t>(count), here, full + first * full_size);
    };
    if (conv.filters % 4 == 0)
      run(std::integral_constant<int, 4>{});
    else
      run(std::integral_constant<int, 1>{});
  });
  if (grad_filters != nullptr) conv2d_backward_filters(context, conv, input, full, grad_filters, grad_bias);
  if (grad_input != nullptr) conv2d_backward_input(context, conv, full, filters, grad_input);
}

}  // namespace

bool fuse_pooling(bool enabled) { return pooling_is_fused.exchange(enabled); }

void fill_conv2d(OpTable& table) {
  table.conv2d_prepared_size = conv2d_prepared_size;
  table.conv2d_prepare = conv2d_prepare;
  table.conv2d_forward = conv2d_forward;
  table.conv2d_backward_input = conv2d_backward_input;
  table.conv2d_backward_filters = conv2d_backward_filters;
  table.conv2d_max_pool2d_fusible = conv2d_max_pool2d_fusible;
  table.conv2d_max_pool2d_prepared_size = conv2d_max_pool2d_prepared_size;
  table.conv2d_max_pool2d_prepare = conv2d_max_pool2d_prepare;
  table.conv2d_max_pool2d_forward = conv2d_max_pool2d_forward;
  table.conv2d_max_pool2d_backward = conv2d_max_pool2d_backward;
}

}  // namespace convec::cuda
