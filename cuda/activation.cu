// Element-wise ops, four floats a thread where the arrays are aligned, and softmax, a warp a row.
#include "activation.hpp"

#include "cuda_table.hpp"
#include "dropout.hpp"
#include "kernel.hpp"

namespace convec::cuda {

namespace {

// Calls function(i, width) for every index in steps of width: vectors first, then the rest one by one.
template <int Width, typename Function>
__device__ __forceinline__ void for_elements(int64_t size, const Function& function) {
  const int64_t vectors = size / Width;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  for (int64_t i = first; i < vectors; i += step) function(i * Width, std::integral_constant<int, Width>{});
  const int64_t rest = vectors * Width + first;
  if (Width > 1 && rest < size) function(rest, std::integral_constant<int, 1>{});
}

// The grid's threads, of which one takes `Width` elements; at least 4 for the rest.
template <int Width>
Launch elements(const Context& context, int64_t size) {
  return {loop_grid(context.device.index, size / Width + Width), block_threads, 0, stream_of(context)};
}

template <Activation activation, int Width>
__global__ void __launch_bounds__(block_threads) forward(int64_t size, const float* input, float* output) {
  for_elements<Width>(size, [=](int64_t i, auto width) {
    constexpr int count = decltype(width)::value;
    Floats<count> x = load<count>(input + i);
    for (int k = 0; k < count; ++k) x.at[k] = activate<activation>(x.at[k]);
    store<count>(output + i, x);
  });
}

template <Activation activation, int Width>
__global__ void __launch_bounds__(block_threads)
    backward(int64_t size, const float* grad_output, const float* input, float* grad_input) {
  for_elements<Width>(size, [=](int64_t i, auto width) {
    constexpr int count = decltype(width)::value;
    const Floats<count> x = load<count>(input + i);
    Floats<count> g = load<count>(grad_output + i);
    for (int k = 0; k < count; ++k) g.at[k] = activate_gradient<activation>(g.at[k], x.at[k]);
    store<count>(grad_input + i, g);
  });
}

template <int Width>
__global__ void __launch_bounds__(block_threads)
    rescale_kernel(float scale, float offset, int64_t size, const float* input, float* output) {
  for_elements<Width>(size, [=](int64_t i, auto width) {
    constexpr int count = decltype(width)::value;
    Floats<count> x = load<count>(input + i);
    for (int k = 0; k < count; ++k) x.at[k] = x.at[k] * scale + offset;
    store<count>(output + i, x);
  });
}

// A thread takes the four elements of one Philox counter.
__global__ void __launch_bounds__(block_threads)
    dropout_kernel(Dropout options, int64_t size, const float* input, float* output) {
  drop_elements(options, options.offset, size, input, output);
}

// ---- Softmax --------------------------------------------------------------------------------------------------------

constexpr int rows_of_block = block_threads / warp_size;

__device__ __forceinline__ int64_t row_of_warp() {
  return static_cast<int64_t>(blockIdx.x) * rows_of_block + threadIdx.x / warp_size;
}

__global__ void __launch_bounds__(block_threads)
    softmax_forward_kernel(int64_t rows, int64_t classes, const float* input, float* output) {
  const int64_t row = row_of_warp();
  if (row >= rows) return;
  const float* x = input + row * classes;
  float* y = output + row * classes;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  float peak = -INFINITY;
  for (int64_t c = lane; c < classes; c += warp_size) peak = Largest{}(peak, x[c]);
  peak = reduce_warp(peak, Largest{});
  float sum = 0.0F;
  for (int64_t c = lane; c < classes; c += warp_size) {
    const float e = expf(x[c] - peak);
    y[c] = e;
    sum += e;
  }
  const float scale = 1.0F / reduce_warp(sum);
  for (int64_t c = lane; c < classes; c += warp_size) y[c] *= scale;
}

__global__ void __launch_bounds__(block_threads)
    softmax_backward_kernel(int64_t rows, int64_t classes, const float* grad_output, const float* output,
                            float* grad_input) {
  const int64_t row = row_of_warp();
  if (row >= rows) return;
  const float* g = grad_output + row * classes;
  const float* y = output + row * classes;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  float sum = 0.0F;
  for (int64_t c = lane; c < classes; c += warp_size) sum += g[c] * y[c];
  sum = reduce_warp(sum);
  for (int64_t c = lane; c < classes; c += warp_size) grad_input[row * classes + c] = y[c] * (g[c] - sum);
}

// ---- Rows of the table ----------------------------------------------------------------------------------------------

// Calls run(activation, width), both constants.
template <typename Run>
void with_activation(Activation activation, bool vectors, Run&& run) {
  const auto at = [&](auto which) {
    if (vectors)
      run(which, std::integral_constant<int, 4>{});
    else
      run(which, std::integral_constant<int, 1>{});
  };
  switch (activation) {
    case Activation::linear:
      return at(std::integral_constant<Activation, Activation::linear>{});
    case Activation::relu:
      return at(std::integral_constant<Activation, Activation::relu>{});
    case Activation::relu6:
      return at(std::integral_constant<Activation, Activation::relu6>{});
    case Activation::leaky_relu:
      return at(std::integral_constant<Activation, Activation::leaky_relu>{});
    case Activation::elu:
      return at(std::integral_constant<Activation, Activation::elu>{});
    case Activation::selu:
      return at(std::integral_constant<Activation, Activation::selu>{});
    case Activation::gelu:
      return at(std::integral_constant<Activation, Activation::gelu>{});
    case Activation::silu:
      return at(std::integral_constant<Activation, Activation::silu>{});
    case Activation::sigmoid:
      return at(std::integral_constant<Activation, Activation::sigmoid>{});
    case Activation::tanh:
      return at(std::integral_constant<Activation, Activation::tanh>{});
    case Activation::softplus:
      return at(std::integral_constant<Activation, Activation::softplus>{});
  }
}

void activation_forward(const Context& context, Activation activation, int64_t size, const float* input,
                        float* output) {
  const DeviceGuard guard(context.device.index);
  with_activation(activation, aligned_for_vectors(input, output), [&](auto which, auto width) {
    launch(forward<which, width>, elements<width>(context, size), size, input, output);
  });
}

void activation_backward(const Context& context, Activation activation, int64_t size, const float* grad_output,
                         const float* input, float* grad_input) {
  const DeviceGuard guard(context.device.index);
  with_activation(activation, aligned_for_vectors(grad_output, input, grad_input), [&](auto which, auto width) {
    launch(backward<which, width>, elements<width>(context, size), size, grad_output, input, grad_input);
  });
}

// Calls run(where, first row, rows) for slices that one launch may take.
template <typename Run>
void for_rows(const Context& context, int64_t rows, Run&& run) {
  const DeviceGuard guard(context.device.index);
  for_image_slices(rows, 1, [&](int64_t first, int64_t count) {
    run(Launch{grid_of(count, rows_of_block), block_threads, 0, stream_of(context)}, first, count);
  });
}

void softmax_forward(const Context& context, int64_t rows, int64_t classes, const float* input, float* output) {
  for_rows(context, rows, [&](const Launch& where, int64_t first, int64_t count) {
    launch(softmax_forward_kernel, where, count, classes, input + first * classes, output + first * classes);
  });
}

void softmax_backward(const Context& context, int64_t rows, int64_t classes, const float* grad_output,
                      const float* output, float* grad_input) {
  for_rows(context, rows, [&](const Launch& where, int64_t first, int64_t count) {
    launch(softmax_backward_kernel, where, count, classes, grad_output + first * classes, output + first * classes,
           grad_input + first * classes);
  });
}

void dropout(const Context& context, float rate, std::uint64_t seed, std::uint64_t offset, int64_t size,
             const float* input, float* output) {
  const DeviceGuard guard(context.device.index);
  launch(dropout_kernel, elements<4>(context, size), Dropout(rate, seed, offset), size, input, output);
}

void rescale(const Context& context, float scale, float offset, int64_t size, const float* input, float* output) {
  const DeviceGuard guard(context.device.index);
  if (aligned_for_vectors(input, output))
    launch(rescale_kernel<4>, elements<4>(context, size), scale, offset, size, input, output);
  else
    launch(rescale_kernel<1>, elements<1>(context, size), scale, offset, size, input, output);
}

}  // namespace

void fill_activation(OpTable& table) {
  table.activation_forward = activation_forward;
  table.activation_backward = activation_backward;
  table.softmax_forward = softmax_forward;
  table.softmax_backward = softmax_backward;
  table.dropout = dropout;
  table.rescale = rescale;
}

}  // namespace convec::cuda
