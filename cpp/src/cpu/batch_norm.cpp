// Batch normalisation: blocks of rows over threads, whose statistics are joined in the order of the blocks.
#include <algorithm>
#include <cmath>

#include "cpu/cpu_table.hpp"
#include "cpu/grain.hpp"
#include "cpu/kernels/kernel_table.hpp"
#include "cpu/scratch.hpp"
#include "cpu/thread_pool.hpp"

namespace convec::cpu {

namespace {

// Two passes over a block of rows hit the second-level cache.
int64_t block_rows(int64_t channels) { return rows_per_task(channels); }

void apply(int64_t rows, int64_t channels, const float* input, const float* scale, const float* shift, float* output) {
  const auto run = kernels().batch_norm.scale_shift;
  parallel_for_range(rows, block_rows(channels), [&](int64_t begin, int64_t end) {
    run(end - begin, channels, input + begin * channels, scale, shift, output + begin * channels);
  });
}

void batch_norm_forward_training(const Context&, int64_t rows, int64_t channels, const float* input, const float* gamma,
                                 const float* beta, float momentum, float epsilon, float* moving_mean,
                                 float* moving_variance, float* batch_mean, float* batch_inverse_std, float* output) {
  Scratch scratch;
  const auto run = kernels().batch_norm.statistics;
  const int64_t grain = block_rows(channels);
  const int64_t blocks = (rows + grain - 1) / grain;
  float* means = scratch.take<float>(blocks * channels);
  float* squares = scratch.take<float>(blocks * channels);
  parallel_for_range(rows, grain, [&](int64_t begin, int64_t end) {
    const int64_t block = begin / grain;
    run(end - begin, channels, input + begin * channels, means + block * channels, squares + block * channels);
  });
  float* scale = scratch.take<float>(channels);
  float* shift = scratch.take<float>(channels);
  for (int64_t c = 0; c < channels; ++c) {
    // Joining two parts of a sample (Chan, Golub & LeVeque, 1983), in double precision.
    double mean = 0.0;
    double square = 0.0;
    double count = 0.0;
    for (int64_t block = 0; block < blocks; ++block) {
      const auto size = static_cast<double>(std::min(grain, rows - block * grain));
      const double distance = static_cast<double>(means[block * channels + c]) - mean;
      const double total = count + size;
      mean += distance * size / total;
      square += static_cast<double>(squares[block * channels + c]) + distance * distance * count * size / total;
      count = total;
    }
    const double variance = square / count;
    const double inverse_std = 1.0 / std::sqrt(variance + static_cast<double>(epsilon));
    const auto blend = [momentum](float moving, double now) {
      return static_cast<float>(static_cast<double>(moving) * static_cast<double>(momentum) +
                                now * (1.0 - static_cast<double>(momentum)));
    };
    moving_mean[c] = blend(moving_mean[c], mean);
    moving_variance[c] = blend(moving_variance[c], variance);
    batch_mean[c] = static_cast<float>(mean);
    batch_inverse_std[c] = static_cast<float>(inverse_std);
    const double slope = inverse_std * (gamma == nullptr ? 1.0 : static_cast<double>(gamma[c]));
    scale[c] = static_cast<float>(slope);
    shift[c] = static_cast<float>((beta == nullptr ? 0.0 : static_cast<double>(beta[c])) - mean * slope);
  }
  apply(rows, channels, input, scale, shift, output);
}

void batch_norm_forward_inference(const Context&, int64_t rows, int64_t channels, const float* input,
                                  const float* gamma, const float* beta, const float* moving_mean,
                                  const float* moving_variance, float epsilon, float* output) {
  Scratch scratch;
  float* scale = scratch.take<float>(channels);
  float* shift = scratch.take<float>(channels);
  for (int64_t c = 0; c < channels; ++c) {
    const double slope = (gamma == nullptr ? 1.0 : static_cast<double>(gamma[c])) /
                         std::sqrt(static_cast<double>(moving_variance[c]) + static_cast<double>(epsilon));
    const double mean = moving_mean == nullptr ? 0.0 : static_cast<double>(moving_mean[c]);
    scale[c] = static_cast<float>(slope);
    shift[c] = static_cast<float>((beta == nullptr ? 0.0 : static_cast<double>(beta[c])) - mean * slope);
  }
  apply(rows, channels, input, scale, shift, output);
}

void batch_norm_backward(const Context&, int64_t rows, int64_t channels, const float* grad_output, const float* input,
                         const float* gamma, const float* batch_mean, const float* batch_inverse_std, float* grad_input,
                         float* grad_gamma, float* grad_beta) {
  Scratch scratch;
  const BatchNormKernels& run = kernels().batch_norm;
  const int64_t grain = block_rows(channels);
  const int64_t blocks = (rows + grain - 1) / grain;
  float* sums = scratch.take<float>(blocks * channels);
  float* centred = scratch.take<float>(blocks * channels);
  parallel_for_range(rows, grain, [&](int64_t begin, int64_t end) {
    const int64_t block = begin / grain;
    run.gradient_sums(end - begin, channels, grad_output + begin * channels, input + begin * channels, batch_mean,
                      sums + block * channels, centred + block * channels);
  });
  // With x^ = (x - mean) r, r = 1 / sqrt(variance + epsilon):
  // grad_input = gamma r (g - mean(g) - x^ mean(g x^)) = a g + b (x - mean) + c.
  float* a = scratch.take<float>(channels);
  float* b = scratch.take<float>(channels);
  float* c = scratch.take<float>(channels);
  const auto count = static_cast<double>(rows);
  for (int64_t channel = 0; channel < channels; ++channel) {
    double sum = 0.0;
    double sum_normalised = 0.0;
    for (int64_t block = 0; block < blocks; ++block) {
      sum += static_cast<double>(sums[block * channels + channel]);
      sum_normalised += static_cast<double>(centred[block * channels + channel]);
    }
    const auto r = static_cast<double>(batch_inverse_std[channel]);
    sum_normalised *= r;
    const double slope = r * (gamma == nullptr ? 1.0 : static_cast<double>(gamma[channel]));
    a[channel] = static_cast<float>(slope);
    b[channel] = static_cast<float>(-slope * r * sum_normalised / count);
    c[channel] = static_cast<float>(-slope * sum / count);
    if (grad_gamma != nullptr) grad_gamma[channel] = static_cast<float>(sum_normalised);
    if (grad_beta != nullptr) grad_beta[channel] = static_cast<float>(sum);
  }
  parallel_for_range(rows, grain, [&](int64_t begin, int64_t end) {
    run.gradient(end - begin, channels, grad_output + begin * channels, input + begin * channels, batch_mean, a, b, c,
                 grad_input + begin * channels);
  });
}

}  // namespace

void fill_batch_norm(OpTable& table) {
  table.batch_norm_forward_training = batch_norm_forward_training;
  table.batch_norm_forward_inference = batch_norm_forward_inference;
  table.batch_norm_backward = batch_norm_backward;
}

}  // namespace convec::cpu
