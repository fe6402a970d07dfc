// Convolutions of float32 arrays: matrix products (conv2d_products.hpp), and kernels of their own for short sums. With
// a 2 x 2 max pooling behind it, the forward pass is one kernel that never stores the full-size image.
#include <atomic>

#include "conv2d_products.hpp"
#include "cuda_backend.hpp"
#include "cuda_table.hpp"

namespace convec::cuda {

namespace {

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

int64_t conv2d_prepared_size(const Conv2dProblem&) { return 0; }
void conv2d_prepare(const Conv2dProblem&, const float*, float*) {}

void conv2d_forward(const Context& context, const Conv2dProblem& p, const float* input, const float* filters,
                    const float*, const float* bias, Activation activation, float* output) {
  Scratch scratch(context);
  for_slices(p, [&](int64_t images, int64_t first_in, int64_t first_out) {
    const Shape2d s(p, images);
    const MatrixOutput<> to{output + first_out, p.filters, bias, activation,
                            s.filters % 4 == 0 && aligned_for_vectors(output)};
    const AllPixels pixels{s.by_out_width, s.by_out_height};
    if (!run_direct(context, s, pixels, images * out_pixels_of(p), input + first_in, filters, to))
      conv2d_product(context, scratch, p, s, input + first_in, filters, to);
  });
}

void conv2d_backward_input(const Context& context, const Conv2dProblem& p, const float* grad_output,
                           const float* filters, float* grad_input) {
  conv2d_input_product(context, p, grad_output, filters, grad_input);
}

void conv2d_backward_filters(const Context& context, const Conv2dProblem& p, const float* input,
                             const float* grad_output, float* grad_filters, float* grad_bias) {
  conv2d_filters_product(context, p, input, grad_output, grad_filters, grad_bias);
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
struct PooledWindows : Windows<float> {
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
  fill_conv2d_bfloat16(table);
  table.conv2d_max_pool2d_fusible = conv2d_max_pool2d_fusible;
  table.conv2d_max_pool2d_prepared_size = conv2d_max_pool2d_prepared_size;
  table.conv2d_max_pool2d_prepare = conv2d_max_pool2d_prepare;
  table.conv2d_max_pool2d_forward = conv2d_max_pool2d_forward;
  table.conv2d_max_pool2d_backward = conv2d_max_pool2d_backward;
}

}  // namespace convec::cuda
