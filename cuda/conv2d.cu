// Convolutions as implicit matrix products (matmul.hpp): patches of the image are gathered while they are loaded, and
// nothing is unfolded in memory.
//
//   forward            C[pixel, filter]   = sum over (row, column, channel) of the window; short sums by a kernel of
//                                           their own
//   backward, input    C[pixel, channel]  = sum over (row, column, filter); with strides, pixels whose windows hit the
//                                           same rows and columns of the filters form a product of their own
//   backward, filters  C[(row, column, channel), filter] = sum over the output's pixels, in slices
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

// ---- Forward --------------------------------------------------------------------------------------------------------

// Windows of the image: row o is an output pixel, k a tap.
struct Windows {
  static constexpr bool along_k = true;
  Shape2d s;
  const float* input;
  int count;
  bool vectors;

  struct Outer {
    const float* image;  // null: outside
    int top, left;
  };
  __device__ __forceinline__ Outer outer(int o) const {
    if (o >= count) return {nullptr, 0, 0};
    const Pixel at = split_pixel(o, s.by_out_width, s.by_out_height);
    return {input + static_cast<int64_t>(at.image) * s.height * s.width * s.all_channels,
            at.row * s.stride_height - s.pad_top, at.column * s.stride_width - s.pad_left};
  }
  __device__ __forceinline__ const float* place(const Outer& outer, const Tap& tap) const {
    const int y = outer.top + tap.row * s.dilation_height;
    const int x = outer.left + tap.column * s.dilation_width;
    if (!within(y, s.height) || !within(x, s.width)) return nullptr;
    return outer.image + (static_cast<int64_t>(y) * s.width + x) * s.all_channels + tap.channel;
  }
  __device__ __forceinline__ Floats<4> load(const Outer& outer, int k, int end) const {
    Floats<4> values{};
    if (k >= end || outer.image == nullptr) return values;
    if (vectors) {
      const float* from = place(outer, split_tap(k, s.by_channels, s.by_kernel_width));
      return from == nullptr ? values : cuda::load<4>(from);
    }
    for (int i = 0; i < 4; ++i) {
      if (k + i >= end) break;
      const float* from = place(outer, split_tap(k + i, s.by_channels, s.by_kernel_width));
      if (from != nullptr) values.at[i] = *from;
    }
    return values;
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

// Few products a sum (a first layer): a product by tiles would be mostly empty. A thread computes four filters of four
// neighbouring pixels; the filters lie in shared memory, (tap, filter) with filters in fours.
struct DirectProblem {
  Shape2d s;
  const float* input;
  const float* filters;
  const float* bias;
  Activation activation;
  float* output;
  int pixels;
  int depth;
  Divider by_fours;
  bool vectors;
};

constexpr int direct_pixels = 4;
constexpr int direct_depth = 32;
constexpr int direct_filters = 12288;  // floats of shared memory

__global__ void __launch_bounds__(block_threads) direct_kernel(DirectProblem p) {
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
  if (first >= p.pixels) return;
  const float* images[direct_pixels];
  int top[direct_pixels];
  int left[direct_pixels];
  CONVEC_UNROLL
  for (int i = 0; i < direct_pixels; ++i) {
    const Pixel at = split_pixel(min(first + i, p.pixels - 1), s.by_out_width, s.by_out_height);
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
  const MatrixOutput to{p.output, s.filters, p.bias, p.activation, p.vectors};
  const int column = static_cast<int>(four) * 4;
  CONVEC_UNROLL
  for (int i = 0; i < direct_pixels; ++i)
    if (first + i < p.pixels) to.store(first + i, column, sums[i], s.filters - column);
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
    const int64_t fours = (int64_t{s.filters} + 3) / 4;
    const int64_t threads = (rows + direct_pixels - 1) / direct_pixels * fours;
    if (s.groups == 1 && depth <= direct_depth && depth * fours * 4 <= direct_filters && threads < index_limit) {
      launch(direct_kernel,
             {grid_of(threads), block_threads, static_cast<std::size_t>(depth * fours * 4) * sizeof(float),
              stream_of(context)},
             DirectProblem{s, input + first_in, filters, bias, activation, output + first_out, static_cast<int>(rows),
                           static_cast<int>(depth), Divider(fours), filters_in_vectors && aligned_for_vectors(output)});
      return;
    }
    const MatmulPlan plan(context, s.groups, rows, s.filters, depth, true);
    float* parts = plan.slices.count == 1 ? nullptr : scratch.take<float>(plan.partial_floats());
    const MatrixOutput to{output + first_out, p.filters, bias, activation,
                          filters_in_vectors && aligned_for_vectors(output)};
    run_matmul(
        context, plan,
        ForwardProblem{{s, input + first_in, static_cast<int>(rows), s.channels % 4 == 0 && aligned_for_vectors(input)},
                       {filters, p.filters, s.filters, filters_in_vectors && aligned_for_vectors(filters)},
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
    const float* image;  // null: outside
    int row, column;
  };
  __device__ __forceinline__ Outer outer(int o) const {
    if (o >= count) return {nullptr, 0, 0};
    const Pixel at = split_pixel(o, by_width, by_height);
    return {grad_output + static_cast<int64_t>(at.image) * s.out_height * s.out_width * s.all_filters,
            at.row + phase.vertical.origin, at.column + phase.horizontal.origin};
  }
  __device__ __forceinline__ const float* place(const Outer& outer, const Tap& tap) const {
    const int y = outer.row - tap.row * phase.vertical.move;
    const int x = outer.column - tap.column * phase.horizontal.move;
    if (!within(y, s.out_height) || !within(x, s.out_width)) return nullptr;
    return outer.image + (static_cast<int64_t>(y) * s.out_width + x) * s.all_filters + tap.channel;
  }
  __device__ __forceinline__ Floats<4> load(const Outer& outer, int k, int end) const {
    Floats<4> values{};
    if (k >= end || outer.image == nullptr) return values;
    if (vectors) {
      const float* from = place(outer, split_tap(k, s.by_filters, by_taps_across));
      return from == nullptr ? values : cuda::load<4>(from);
    }
    for (int i = 0; i < 4; ++i) {
      if (k + i >= end) break;
      const float* from = place(outer, split_tap(k + i, s.by_filters, by_taps_across));
      if (from != nullptr) values.at[i] = *from;
    }
    return values;
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
    int channel;
  };
  __device__ __forceinline__ Outer outer(int o) const { return {o}; }
  __device__ __forceinline__ const float* place(const Outer& outer, const Tap& tap) const {
    const int row = phase.vertical.first + tap.row * phase.vertical.step;
    const int column = phase.horizontal.first + tap.column * phase.horizontal.step;
    return filters +
           ((static_cast<int64_t>(row) * s.kernel_width + column) * s.channels + outer.channel) * s.all_filters +
           tap.channel;
  }
  __device__ __forceinline__ Floats<4> load(const Outer& outer, int k, int end) const {
    Floats<4> values{};
    if (k >= end || outer.channel >= s.channels) return values;
    if (vectors) return cuda::load<4>(place(outer, split_tap(k, s.by_filters, by_taps_across)));
    for (int i = 0; i < 4; ++i)
      if (k + i < end) values.at[i] = *place(outer, split_tap(k + i, s.by_filters, by_taps_across));
    return values;
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
    const MatmulPlan plan(context, static_cast<int>(z), rows, s.channels, int64_t{s.taps()} * s.filters, false);
    run_matmul(context, plan,
               BackwardInputProblem{s, grad_output + first_out, filters, grad_input + first_in,
                                    s.filters % 4 == 0 && aligned_for_vectors(grad_output, filters),
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
    Tap taps[4];
    int left;
  };
  __device__ __forceinline__ Outer outer(int o) const {
    Outer found{};
    found.left = count - o;
    for (int i = 0; i < 4; ++i) {
      if (i >= found.left || (vectors && i > 0)) break;
      Tap tap = split_tap(o + i, s.by_channels, s.by_kernel_width);
      tap.row = tap.row * s.dilation_height - s.pad_top;
      tap.column = tap.column * s.dilation_width - s.pad_left;
      found.taps[i] = tap;
    }
    return found;
  }
  __device__ __forceinline__ const float* place(const Pixel& at, const Tap& tap) const {
    const int y = at.row * s.stride_height + tap.row;
    const int x = at.column * s.stride_width + tap.column;
    if (!within(y, s.height) || !within(x, s.width)) return nullptr;
    return input + ((static_cast<int64_t>(at.image) * s.height + y) * s.width + x) * s.all_channels + tap.channel;
  }
  __device__ __forceinline__ Floats<4> load(const Outer& outer, int k, int end) const {
    Floats<4> values{};
    if (k >= end || outer.left <= 0) return values;
    const Pixel at = split_pixel(k, s.by_out_width, s.by_out_height);
    if (vectors) {
      const float* from = place(at, outer.taps[0]);
      return from == nullptr ? values : cuda::load<4>(from);
    }
    for (int i = 0; i < 4; ++i) {
      if (i >= outer.left) break;
      const float* from = place(at, outer.taps[i]);
      if (from != nullptr) values.at[i] = *from;
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
  const MatmulPlan plan(context, s.groups, rows, s.filters, depth, true);
  float* parts = plan.slices.count == 1 ? nullptr : scratch.take<float>(plan.partial_floats());
  const MatrixOutput to{grad_filters, p.filters, nullptr, Activation::linear,
                        s.filters % 4 == 0 && aligned_for_vectors(grad_filters)};
  run_matmul(context, plan,
             BackwardFiltersProblem{
                 {s, input, static_cast<int>(rows), s.channels % 4 == 0 && aligned_for_vectors(input)},
                 {grad_output, p.filters, s.filters, s.filters % 4 == 0 && aligned_for_vectors(grad_output)},
                 to,
                 plan.partial(parts),
                 static_cast<int>(depth)});
  if (parts != nullptr)
    add_slices(context, plan.partial(parts), plan.slices.count, s.groups, plan.rows, plan.columns, to, s.filters);
  if (grad_bias != nullptr) column_sums(context, depth, p.filters, grad_output, grad_bias);
}

// ---- Convolution, ReLU and max pooling ------------------------------------------------------------------------------

// Windows that lie side by side; what the pooling leaves over is not computed. A thread for each pooled element.
struct PooledShape {
  int out_height, out_width, filters;  // of the convolution
  int pooled_height, pooled_width;
  int pool_height, pool_width, stride_height, stride_width, pad_top, pad_left;
  Divider by_filters, by_pooled_width, by_pooled_height;

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
        by_filters(conv.filters),
        by_pooled_width(pool.out_width),
        by_pooled_height(pool.out_height) {}
};

struct PooledPlace {
  int image, top, left, filter;
};
__device__ __forceinline__ PooledPlace pooled_place(const PooledShape& s, std::uint32_t index) {
  std::uint32_t filter = index;
  std::uint32_t column = s.by_filters.split(filter);
  std::uint32_t row = s.by_pooled_width.split(column);
  const std::uint32_t image = s.by_pooled_height.split(row);
  return {static_cast<int>(image), static_cast<int>(row) * s.stride_height - s.pad_top,
          static_cast<int>(column) * s.stride_width - s.pad_left, static_cast<int>(filter)};
}

// The pooled maxima of a convolution's output and where they were: row by row within the whole window.
__global__ void __launch_bounds__(block_threads)
    pool_kernel(PooledShape s, std::uint32_t count, const float* full, float* pooled, std::uint8_t* argmax) {
  const std::uint32_t index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= count) return;
  const PooledPlace at = pooled_place(s, index);
  float best = 0.0F;
  int winner = -1;
  for (int r = 0; r < s.pool_height; ++r)
    for (int c = 0; c < s.pool_width; ++c) {
      const int y = at.top + r;
      const int x = at.left + c;
      if (!within(y, s.out_height) || !within(x, s.out_width)) continue;
      const float value =
          full[((static_cast<int64_t>(at.image) * s.out_height + y) * s.out_width + x) * s.filters + at.filter];
      if (winner < 0 || !(value <= best || best != best)) {
        best = value;
        winner = r * s.pool_width + c;
      }
    }
  pooled[index] = best;
  if (argmax != nullptr) argmax[index] = static_cast<std::uint8_t>(winner);
}

// The gradient before the pooling: a thread writes the window's elements. `full` is zero before, where windows do not
// cover it.
__global__ void __launch_bounds__(block_threads)
    unpool_kernel(PooledShape s, std::uint32_t count, bool relu, const float* pooled, const std::uint8_t* argmax,
                  const float* grad_pooled, float* full) {
  const std::uint32_t index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= count) return;
  const PooledPlace at = pooled_place(s, index);
  const int winner = argmax[index];
  const float gradient = relu && !(pooled[index] > 0.0F) ? 0.0F : grad_pooled[index];
  const int y = at.top + winner / s.pool_width;
  const int x = at.left + winner % s.pool_width;
  full[((static_cast<int64_t>(at.image) * s.out_height + y) * s.out_width + x) * s.filters + at.filter] = gradient;
}

// The position of a maximum fits a byte, and no element lies in two windows.
bool conv2d_max_pool2d_fusible(const Conv2dProblem&, const Pool2dProblem& pool) {
  return pool.stride_height >= pool.pool_height && pool.stride_width >= pool.pool_width &&
         pool.pool_height * pool.pool_width <= 256;
}

int64_t conv2d_max_pool2d_prepared_size(const Conv2dProblem&, const Pool2dProblem&) { return 0; }
void conv2d_max_pool2d_prepare(const Conv2dProblem&, const Pool2dProblem&, const float*, float*) {}

// Calls run(first, count): slices of the pooled elements by whole images.
template <typename Run>
void for_pooled(const Conv2dProblem& conv, const Pool2dProblem& pool, Run&& run) {
  const int64_t pooled = pool.out_height * pool.out_width * conv.filters;
  for_image_slices(conv.batch, pooled, [&](int64_t first, int64_t images) {
    run(first * pooled, first * out_pixels_of(conv) * conv.filters, static_cast<std::uint32_t>(images * pooled));
  });
}

void conv2d_max_pool2d_forward(const Context& context, const Conv2dProblem& conv, const Pool2dProblem& pool,
                               const float* input, const float* filters, const float*, const float* bias, bool relu,
                               float* output, std::uint8_t* argmax) {
  Scratch scratch(context);
  float* full = scratch.take<float>(conv.batch * out_pixels_of(conv) * conv.filters);
  conv2d_forward(context, conv, input, filters, nullptr, bias, relu ? Activation::relu : Activation::linear, full);
  for_pooled(conv, pool, [&](int64_t first, int64_t first_full, std::uint32_t count) {
    launch(pool_kernel, {grid_of(count), block_threads, 0, stream_of(context)}, PooledShape(conv, pool), count,
           full + first_full, output + first, argmax == nullptr ? nullptr : argmax + first);
  });
}

void conv2d_max_pool2d_backward(const Context& context, const Conv2dProblem& conv, const Pool2dProblem& pool,
                                const float* input, const float* filters, bool relu, const float* output,
                                const std::uint8_t* argmax, const float* grad_output, float* grad_input,
                                float* grad_filters, float* grad_bias) {
  Scratch scratch(context);
  const int64_t size = conv.batch * out_pixels_of(conv) * conv.filters;
  float* full = scratch.take<float>(size);
  check(cudaMemsetAsync(full, 0, static_cast<std::size_t>(size) * sizeof(float), stream_of(context)),
        "cudaMemsetAsync");
  for_pooled(conv, pool, [&](int64_t first, int64_t first_full, std::uint32_t count) {
    launch(unpool_kernel, {grid_of(count), block_threads, 0, stream_of(context)}, PooledShape(conv, pool), count, relu,
           output + first, argmax + first, grad_output + first, full + first_full);
  });
  if (grad_filters != nullptr) conv2d_backward_filters(context, conv, input, full, grad_filters, grad_bias);
  if (grad_input != nullptr) conv2d_backward_input(context, conv, full, filters, grad_input);
}

}  // namespace

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
