// Pooling: rows of output, or images of gradient, over threads.
#include "cpu/cpu_table.hpp"
#include "cpu/grain.hpp"
#include "cpu/kernels/kernel_table.hpp"
#include "cpu/thread_pool.hpp"

namespace convec::cpu {

namespace {

// Channels of one image that a task takes: a gradient is scattered within an image, but channels never mix.
constexpr int64_t channel_block = 64;

using ForwardRow = void (*)(const Pool2dProblem&, int64_t out_row, const float* image, float* output);

void forward_rows(const Pool2dProblem& p, const float* input, float* output, ForwardRow run) {
  const int64_t row_size = p.out_width * p.channels;
  const int64_t grain = rows_per_task(row_size * p.pool_height * p.pool_width);
  parallel_for_range(p.batch * p.out_height, grain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      run(p, row % p.out_height, input + row / p.out_height * p.height * p.width * p.channels, output + row * row_size);
  });
}

// Calls task(image, first channel, end of channels).
template <typename Task>
void channel_blocks(int64_t batch, int64_t image_size, int64_t channels, Task&& task) {
  const int64_t blocks = (channels + channel_block - 1) / channel_block;
  parallel_for_range(batch * blocks, rows_per_task(image_size / blocks), [&](int64_t begin, int64_t end) {
    for (int64_t index = begin; index < end; ++index) {
      const int64_t first = index % blocks * channel_block;
      task(index / blocks, first, first + channel_block < channels ? first + channel_block : channels);
    }
  });
}

void max_pool2d_forward(const Context&, const Pool2dProblem& p, const float* input, float* output) {
  forward_rows(p, input, output, kernels().pool.max_forward_row);
}

void average_pool2d_forward(const Context&, const Pool2dProblem& p, const float* input, float* output) {
  forward_rows(p, input, output, kernels().pool.average_forward_row);
}

void max_pool2d_backward(const Context&, const Pool2dProblem& p, const float* grad_output, const float* input,
                         float* grad_input) {
  const auto run = kernels().pool.max_backward_image;
  const int64_t in_size = p.height * p.width * p.channels;
  const int64_t out_size = p.out_height * p.out_width * p.channels;
  channel_blocks(p.batch, in_size, p.channels, [&](int64_t image, int64_t first, int64_t last) {
    run(p, first, last, grad_output + image * out_size, input + image * in_size, grad_input + image * in_size);
  });
}

void average_pool2d_backward(const Context&, const Pool2dProblem& p, const float* grad_output, float* grad_input) {
  const auto run = kernels().pool.average_backward_image;
  const int64_t in_size = p.height * p.width * p.channels;
  const int64_t out_size = p.out_height * p.out_width * p.channels;
  channel_blocks(p.batch, in_size, p.channels, [&](int64_t image, int64_t first, int64_t last) {
    run(p, first, last, grad_output + image * out_size, grad_input + image * in_size);
  });
}

void global_average_pool2d_forward(const Context&, int64_t batch, int64_t pixels, int64_t channels, const float* input,
                                   float* output) {
  const auto run = kernels().pool.global_average_forward;
  channel_blocks(batch, pixels * channels, channels, [&](int64_t image, int64_t first, int64_t last) {
    run(pixels, channels, first, last, input + image * pixels * channels, output + image * channels);
  });
}

void global_average_pool2d_backward(const Context&, int64_t batch, int64_t pixels, int64_t channels,
                                    const float* grad_output, float* grad_input) {
  const auto run = kernels().pool.global_average_backward;
  channel_blocks(batch, pixels * channels, channels, [&](int64_t image, int64_t first, int64_t last) {
    run(pixels, channels, first, last, grad_output + image * channels, grad_input + image * pixels * channels);
  });
}

// The largest over an image is one window as large as the image.
Pool2dProblem whole_image(int64_t batch, int64_t pixels, int64_t channels) {
  return {batch, 1, pixels, channels, 1, 1, 1, pixels, 1, 1, 0, 0};
}

void global_max_pool2d_forward(const Context& context, int64_t batch, int64_t pixels, int64_t channels,
                               const float* input, float* output) {
  max_pool2d_forward(context, whole_image(batch, pixels, channels), input, output);
}

void global_max_pool2d_backward(const Context& context, int64_t batch, int64_t pixels, int64_t channels,
                                const float* grad_output, const float* input, float* grad_input) {
  max_pool2d_backward(context, whole_image(batch, pixels, channels), grad_output, input, grad_input);
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

}  // namespace convec::cpu
