// Pooling: a thread for each output element, or for four neighbouring channels of it. Gradients are gathered, so that
// every element is written once and sums run in the order of the windows.
#include "cuda_table.hpp"
#include "kernel.hpp"

namespace convec::cuda {

namespace {

struct Window {
  int height, width, channels;  // of the image; channels in vectors
  int out_height, out_width;
  int pool_height, pool_width;
  int stride_height, stride_width;
  int pad_top, pad_left;
  Divider by_channels, by_out_width, by_out_height, by_width, by_height;
  Divider by_stride_height, by_stride_width;

  Window(const Pool2dProblem& p, int vector)
      : height(static_cast<int>(p.height)),
        width(static_cast<int>(p.width)),
        channels(static_cast<int>(p.channels / vector)),
        out_height(static_cast<int>(p.out_height)),
        out_width(static_cast<int>(p.out_width)),
        pool_height(static_cast<int>(p.pool_height)),
        pool_width(static_cast<int>(p.pool_width)),
        stride_height(static_cast<int>(p.stride_height)),
        stride_width(static_cast<int>(p.stride_width)),
        pad_top(static_cast<int>(p.pad_top)),
        pad_left(static_cast<int>(p.pad_left)),
        by_channels(p.channels / vector),
        by_out_width(p.out_width),
        by_out_height(p.out_height),
        by_width(p.width),
        by_height(p.height),
        by_stride_height(p.stride_height),
        by_stride_width(p.stride_width) {}
};

// The part of a window that lies inside the image.
struct Span {
  int begin;
  int end;
};

__device__ __forceinline__ Span clip_span(int start, int length, int limit) {
  const int end = start + length;
  return {start > 0 ? start : 0, end < limit ? end : limit};
}
__device__ __forceinline__ Span rows_of(const Window& w, int out_row) {
  return clip_span(out_row * w.stride_height - w.pad_top, w.pool_height, w.height);
}
__device__ __forceinline__ Span columns_of(const Window& w, int out_column) {
  return clip_span(out_column * w.stride_width - w.pad_left, w.pool_width, w.width);
}

// The windows that cover a pixel: those from (pixel + pad - pool) / stride rounded up to (pixel + pad) / stride.
__device__ __forceinline__ Span windows_over(int pixel, int pad, int pool, int stride, const Divider& by_stride,
                                             int outputs) {
  const int first = pixel + pad - pool + 1;
  const int begin =
      first <= 0 ? 0 : static_cast<int>(by_stride.quotient(static_cast<std::uint32_t>(first + stride - 1)));
  const int last = static_cast<int>(by_stride.quotient(static_cast<std::uint32_t>(pixel + pad)));
  return {begin, last + 1 < outputs ? last + 1 : outputs};
}

// Whether `best` stays the maximum beside a later `value`: NaN stays, and of equal ones the first.
__device__ __forceinline__ bool keeps(float best, float value) { return value <= best || best != best; }

struct Place {
  int image, row, column, channel;
};
__device__ __forceinline__ Place split(std::uint32_t index, const Divider& by_channels, const Divider& by_width,
                                       const Divider& by_height) {
  std::uint32_t channel = index;
  std::uint32_t column = by_channels.split(channel);
  std::uint32_t row = by_width.split(column);
  const std::uint32_t image = by_height.split(row);
  return {static_cast<int>(image), static_cast<int>(row), static_cast<int>(column), static_cast<int>(channel)};
}

// Index of the first element of a pixel's vector.
template <int Width>
__device__ __forceinline__ int64_t offset_of(const Window& w, int image, int row, int column, int channel) {
  return (((static_cast<int64_t>(image) * w.height + row) * w.width + column) * w.channels + channel) * Width;
}
template <int Width>
__device__ __forceinline__ int64_t out_offset_of(const Window& w, int image, int row, int column, int channel) {
  return (((static_cast<int64_t>(image) * w.out_height + row) * w.out_width + column) * w.channels + channel) * Width;
}

template <int Width>
__global__ void __launch_bounds__(block_threads)
    max_forward(Window w, std::uint32_t count, const float* input, float* output) {
  const std::uint32_t index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= count) return;
  const Place at = split(index, w.by_channels, w.by_out_width, w.by_out_height);
  const Span rows = rows_of(w, at.row);
  const Span columns = columns_of(w, at.column);
  Floats<Width> best = load<Width>(input + offset_of<Width>(w, at.image, rows.begin, columns.begin, at.channel));
  for (int y = rows.begin; y < rows.end; ++y)
    for (int x = columns.begin; x < columns.end; ++x) {
      const Floats<Width> value = load<Width>(input + offset_of<Width>(w, at.image, y, x, at.channel));
      for (int i = 0; i < Width; ++i)
        if (!keeps(best.at[i], value.at[i])) best.at[i] = value.at[i];
    }
  store<Width>(output + static_cast<int64_t>(index) * Width, best);
}

// Where windows lie side by side and cover the image: a thread for each window.
template <int Width>
__global__ void __launch_bounds__(block_threads)
    max_backward_tiles(Window w, std::uint32_t count, const float* grad_output, const float* input, float* grad_input) {
  const std::uint32_t index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= count) return;
  const Place at = split(index, w.by_channels, w.by_out_width, w.by_out_height);
  const Span rows = rows_of(w, at.row);
  const Span columns = columns_of(w, at.column);
  Floats<Width> best = load<Width>(input + offset_of<Width>(w, at.image, rows.begin, columns.begin, at.channel));
  int winner[Width] = {};
  int number = 0;
  for (int y = rows.begin; y < rows.end; ++y)
    for (int x = columns.begin; x < columns.end; ++x, ++number) {
      const Floats<Width> value = load<Width>(input + offset_of<Width>(w, at.image, y, x, at.channel));
      for (int i = 0; i < Width; ++i)
        if (!keeps(best.at[i], value.at[i])) {
          best.at[i] = value.at[i];
          winner[i] = number;
        }
    }
  const Floats<Width> gradient = load<Width>(grad_output + static_cast<int64_t>(index) * Width);
  number = 0;
  for (int y = rows.begin; y < rows.end; ++y)
    for (int x = columns.begin; x < columns.end; ++x, ++number) {
      Floats<Width> share;
      for (int i = 0; i < Width; ++i) share.at[i] = winner[i] == number ? gradient.at[i] : 0.0F;
      store<Width>(grad_input + offset_of<Width>(w, at.image, y, x, at.channel), share);
    }
}

// Any windows: a thread for each pixel looks at the windows over it.
template <int Width>
__global__ void __launch_bounds__(block_threads)
    max_backward(Window w, std::uint32_t count, const float* grad_output, const float* input, float* grad_input) {
  const std::uint32_t index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= count) return;
  const Place at = split(index, w.by_channels, w.by_width, w.by_height);
  const Span outer = windows_over(at.row, w.pad_top, w.pool_height, w.stride_height, w.by_stride_height, w.out_height);
  const Span inner = windows_over(at.column, w.pad_left, w.pool_width, w.stride_width, w.by_stride_width, w.out_width);
  Floats<Width> sum{};
  for (int oh = outer.begin; oh < outer.end; ++oh)
    for (int ow = inner.begin; ow < inner.end; ++ow) {
      const Span rows = rows_of(w, oh);
      const Span columns = columns_of(w, ow);
      Floats<Width> best = load<Width>(input + offset_of<Width>(w, at.image, rows.begin, columns.begin, at.channel));
      bool wins[Width];
      for (int i = 0; i < Width; ++i) wins[i] = rows.begin == at.row && columns.begin == at.column;
      for (int y = rows.begin; y < rows.end; ++y)
        for (int x = columns.begin; x < columns.end; ++x) {
          const Floats<Width> value = load<Width>(input + offset_of<Width>(w, at.image, y, x, at.channel));
          for (int i = 0; i < Width; ++i)
            if (!keeps(best.at[i], value.at[i])) {
              best.at[i] = value.at[i];
              wins[i] = y == at.row && x == at.column;
            }
        }
      const Floats<Width> gradient = load<Width>(grad_output + out_offset_of<Width>(w, at.image, oh, ow, at.channel));
      for (int i = 0; i < Width; ++i)
        if (wins[i]) sum.at[i] += gradient.at[i];
    }
  store<Width>(grad_input + static_cast<int64_t>(index) * Width, sum);
}

template <int Width>
__global__ void __launch_bounds__(block_threads)
    average_forward(Window w, std::uint32_t count, const float* input, float* output) {
  const std::uint32_t index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= count) return;
  const Place at = split(index, w.by_channels, w.by_out_width, w.by_out_height);
  const Span rows = rows_of(w, at.row);
  const Span columns = columns_of(w, at.column);
  Floats<Width> sum{};
  for (int y = rows.begin; y < rows.end; ++y) {
    // A sum a row and then a sum of rows: the rounding error of a large window stays small.
    Floats<Width> row{};
    for (int x = columns.begin; x < columns.end; ++x) {
      const Floats<Width> value = load<Width>(input + offset_of<Width>(w, at.image, y, x, at.channel));
      for (int i = 0; i < Width; ++i) row.at[i] += value.at[i];
    }
    for (int i = 0; i < Width; ++i) sum.at[i] += row.at[i];
  }
  const auto size = static_cast<float>((rows.end - rows.begin) * (columns.end - columns.begin));
  for (int i = 0; i < Width; ++i) sum.at[i] /= size;
  store<Width>(output + static_cast<int64_t>(index) * Width, sum);
}

template <int Width>
__global__ void __launch_bounds__(block_threads)
    average_backward(Window w, std::uint32_t count, const float* grad_output, float* grad_input) {
  const std::uint32_t index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= count) return;
  const Place at = split(index, w.by_channels, w.by_width, w.by_height);
  const Span outer = windows_over(at.row, w.pad_top, w.pool_height, w.stride_height, w.by_stride_height, w.out_height);
  const Span inner = windows_over(at.column, w.pad_left, w.pool_width, w.stride_width, w.by_stride_width, w.out_width);
  Floats<Width> sum{};
  for (int oh = outer.begin; oh < outer.end; ++oh)
    for (int ow = inner.begin; ow < inner.end; ++ow) {
      const Span rows = rows_of(w, oh);
      const Span columns = columns_of(w, ow);
      const auto size = static_cast<float>((rows.end - rows.begin) * (columns.end - columns.begin));
      const Floats<Width> gradient = load<Width>(grad_output + out_offset_of<Width>(w, at.image, oh, ow, at.channel));
      for (int i = 0; i < Width; ++i) sum.at[i] += gradient.at[i] / size;
    }
  store<Width>(grad_input + static_cast<int64_t>(index) * Width, sum);
}

// ---- Whole images ---------------------------------------------------------------------------------------------------

// A block takes 32 neighbouring channels of one image; its 8 warps share the pixels out.
constexpr int pool_lanes = 32;
constexpr int pool_rows = block_threads / pool_lanes;

struct Image {
  int64_t pixels;
  int64_t channels;
  Divider by_chunks;  // blocks an image
};

struct ImagePlace {
  int64_t image;
  int64_t channel;
  int lane;
  int row;
};
__device__ __forceinline__ ImagePlace place_in(const Image& shape) {
  std::uint32_t chunk = blockIdx.x;
  const int64_t image = shape.by_chunks.split(chunk);
  const int lane = static_cast<int>(threadIdx.x) % pool_lanes;
  const int row = static_cast<int>(threadIdx.x) / pool_lanes;
  return {image, static_cast<int64_t>(chunk) * pool_lanes + lane, lane, row};
}

__global__ void __launch_bounds__(block_threads)
    global_average_forward(Image shape, const float* input, float* output) {
  __shared__ float sums[pool_rows][pool_lanes];
  const ImagePlace at = place_in(shape);
  float sum = 0.0F;
  if (at.channel < shape.channels) {
    // Sums of 64 pixels are summed in turn: the rounding error stays small for any number of pixels.
    constexpr int chunk = 64;
    const float* pixel = input + at.image * shape.pixels * shape.channels + at.channel;
    for (int64_t begin = at.row; begin < shape.pixels; begin += chunk * pool_rows) {
      float part = 0.0F;
      for (int64_t i = begin; i < shape.pixels && i < begin + chunk * pool_rows; i += pool_rows)
        part += pixel[i * shape.channels];
      sum += part;
    }
  }
  sums[at.row][at.lane] = sum;
  __syncthreads();
  if (at.row != 0 || at.channel >= shape.channels) return;
  for (int row = 1; row < pool_rows; ++row) sum += sums[row][at.lane];
  output[at.image * shape.channels + at.channel] = sum / static_cast<float>(shape.pixels);
}

__global__ void __launch_bounds__(block_threads)
    global_average_backward(Image shape, const float* grad_output, float* grad_input) {
  const ImagePlace at = place_in(shape);
  if (at.channel >= shape.channels) return;
  const float share = grad_output[at.image * shape.channels + at.channel] / static_cast<float>(shape.pixels);
  float* pixel = grad_input + at.image * shape.pixels * shape.channels + at.channel;
  for (int64_t i = at.row; i < shape.pixels; i += pool_rows) pixel[i * shape.channels] = share;
}

// The maximum of a channel and the first pixel that has it, in every thread of the channel.
struct Winner {
  float value;
  int64_t pixel;
};
__device__ Winner find_winner(const Image& shape, const ImagePlace& at, const float* input) {
  __shared__ float values[pool_rows][pool_lanes];
  __shared__ int64_t pixels[pool_rows][pool_lanes];
  Winner best{0.0F, -1};
  if (at.channel < shape.channels) {
    const float* pixel = input + at.image * shape.pixels * shape.channels + at.channel;
    for (int64_t i = at.row; i < shape.pixels; i += pool_rows) {
      const float value = pixel[i * shape.channels];
      if (best.pixel < 0 || !keeps(best.value, value)) best = {value, i};
    }
  }
  values[at.row][at.lane] = best.value;
  pixels[at.row][at.lane] = best.pixel;
  __syncthreads();
  for (int row = 0; row < pool_rows; ++row) {
    const Winner other{values[row][at.lane], pixels[row][at.lane]};
    if (other.pixel < 0) continue;
    const bool nan = other.value != other.value;
    const bool best_nan = best.value != best.value;
    // NaN before numbers, larger before smaller, earlier before later.
    const bool tie = nan ? best_nan : !best_nan && other.value == best.value;
    const bool better = tie ? other.pixel < best.pixel : nan || (!best_nan && other.value > best.value);
    if (best.pixel < 0 || better) best = other;
  }
  return best;
}

__global__ void __launch_bounds__(block_threads) global_max_forward(Image shape, const float* input, float* output) {
  const ImagePlace at = place_in(shape);
  const Winner best = find_winner(shape, at, input);
  if (at.row == 0 && at.channel < shape.channels) output[at.image * shape.channels + at.channel] = best.value;
}

__global__ void __launch_bounds__(block_threads)
    global_max_backward(Image shape, const float* grad_output, const float* input, float* grad_input) {
  const ImagePlace at = place_in(shape);
  const Winner best = find_winner(shape, at, input);
  if (at.channel >= shape.channels) return;
  const float gradient = grad_output[at.image * shape.channels + at.channel];
  float* pixel = grad_input + at.image * shape.pixels * shape.channels + at.channel;
  for (int64_t i = at.row; i < shape.pixels; i += pool_rows)
    pixel[i * shape.channels] = i == best.pixel ? gradient : 0.0F;
}

// ---- Rows of the table ----------------------------------------------------------------------------------------------

int64_t image_size(const Pool2dProblem& p) { return p.height * p.width * p.channels; }
int64_t pooled_size(const Pool2dProblem& p) { return p.out_height * p.out_width * p.channels; }

// Calls run(window, images, first element of the images, first of the pooled ones, width) for slices of the batch; the
// width is a constant.
template <typename Run>
void for_slices(const Pool2dProblem& p, bool vectors, Run&& run) {
  const int64_t largest = image_size(p) > pooled_size(p) ? image_size(p) : pooled_size(p);
  for_image_slices(p.batch, largest, [&](int64_t first, int64_t images) {
    if (vectors && p.channels % 4 == 0)
      run(Window(p, 4), images, first * image_size(p), first * pooled_size(p), std::integral_constant<int, 4>{});
    else
      run(Window(p, 1), images, first * image_size(p), first * pooled_size(p), std::integral_constant<int, 1>{});
  });
}

void max_pool2d_forward(const Context& context, const Pool2dProblem& p, const float* input, float* output) {
  const DeviceGuard guard(context.device.index);
  for_slices(p, aligned_for_vectors(input, output),
             [&](const Window& w, int64_t images, int64_t in, int64_t out, auto width) {
               const int64_t count = images * pooled_size(p) / width;
               launch(max_forward<width>, {grid_of(count), block_threads, 0, stream_of(context)}, w,
                      static_cast<std::uint32_t>(count), input + in, output + out);
             });
}

// Whether every pixel lies in exactly one window.
bool tiles(const Pool2dProblem& p) {
  return p.stride_height == p.pool_height && p.stride_width == p.pool_width && p.pad_top == 0 && p.pad_left == 0 &&
         p.out_height * p.pool_height >= p.height && p.out_width * p.pool_width >= p.width;
}

void max_pool2d_backward(const Context& context, const Pool2dProblem& p, const float* grad_output, const float* input,
                         float* grad_input) {
  const DeviceGuard guard(context.device.index);
  const bool by_window = tiles(p);
  for_slices(p, aligned_for_vectors(grad_output, input, grad_input),
             [&](const Window& w, int64_t images, int64_t in, int64_t out, auto width) {
               const int64_t count = images * (by_window ? pooled_size(p) : image_size(p)) / width;
               launch(by_window ? max_backward_tiles<width> : max_backward<width>,
                      {grid_of(count), block_threads, 0, stream_of(context)}, w, static_cast<std::uint32_t>(count),
                      grad_output + out, input + in, grad_input + in);
             });
}

void average_pool2d_forward(const Context& context, const Pool2dProblem& p, const float* input, float* output) {
  const DeviceGuard guard(context.device.index);
  for_slices(p, aligned_for_vectors(input, output),
             [&](const Window& w, int64_t images, int64_t in, int64_t out, auto width) {
               const int64_t count = images * pooled_size(p) / width;
               launch(average_forward<width>, {grid_of(count), block_threads, 0, stream_of(context)}, w,
                      static_cast<std::uint32_t>(count), input + in, output + out);
             });
}

void average_pool2d_backward(const Context& context, const Pool2dProblem& p, const float* grad_output,
                             float* grad_input) {
  const DeviceGuard guard(context.device.index);
  for_slices(p, aligned_for_vectors(grad_output, grad_input),
             [&](const Window& w, int64_t images, int64_t in, int64_t out, auto width) {
               const int64_t count = images * image_size(p) / width;
               launch(average_backward<width>, {grid_of(count), block_threads, 0, stream_of(context)}, w,
                      static_cast<std::uint32_t>(count), grad_output + out, grad_input + in);
             });
}

// Calls run(shape, where, first image).
template <typename Run>
void for_whole_images(const Context& context, int64_t batch, int64_t pixels, int64_t channels, Run&& run) {
  const DeviceGuard guard(context.device.index);
  const int64_t chunks = (channels + pool_lanes - 1) / pool_lanes;
  for_image_slices(batch, chunks, [&](int64_t first, int64_t images) {
    run(Image{pixels, channels, Divider(chunks)},
        Launch{dim3(static_cast<unsigned int>(images * chunks)), block_threads, 0, stream_of(context)}, first);
  });
}

void global_average_pool2d_forward(const Context& context, int64_t batch, int64_t pixels, int64_t channels,
                                   const float* input, float* output) {
  for_whole_images(context, batch, pixels, channels, [&](const Image& shape, const Launch& where, int64_t first) {
    launch(global_average_forward, where, shape, input + first * pixels * channels, output + first * channels);
  });
}

void global_average_pool2d_backward(const Context& context, int64_t batch, int64_t pixels, int64_t channels,
                                    const float* grad_output, float* grad_input) {
  for_whole_images(context, batch, pixels, channels, [&](const Image& shape, const Launch& where, int64_t first) {
    launch(global_average_backward, where, shape, grad_output + first * channels,
           grad_input + first * pixels * channels);
  });
}

void global_max_pool2d_forward(const Context& context, int64_t batch, int64_t pixels, int64_t channels,
                               const float* input, float* output) {
  for_whole_images(context, batch, pixels, channels, [&](const Image& shape, const Launch& where, int64_t first) {
    launch(global_max_forward, where, shape, input + first * pixels * channels, output + first * channels);
  });
}

void global_max_pool2d_backward(const Context& context, int64_t batch, int64_t pixels, int64_t channels,
                                const float* grad_output, const float* input, float* grad_input) {
  for_whole_images(context, batch, pixels, channels, [&](const Image& shape, const Launch& where, int64_t first) {
    launch(global_max_backward, where, shape, grad_output + first * channels, input + first * pixels * channels,
           grad_input + first * pixels * channels);
  });
}

}  // namespace

void fill_pool2d(OpTable& table) {
  table.max_pool2d_forward = max_pool2d_forward;
  table.max_pool2d_backward = max_pool2d_backward;
  table.average_pool2d_forward = average_pool2d_forward;
  table.average_pool2d_backward = average_pool2d_backward;
  table.global_average_pool2d_forward = global_average_pool2d_forward;
  table.global_average_pool2d_backward = global_average_pool2d_backward;
  table.global_max_pool2d_forward = global_max_pool2d_forward;
  table.global_max_pool2d_backward = global_max_pool2d_backward;
}

}  // namespace convec::cuda
