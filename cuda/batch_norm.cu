// Batch normalisation. Statistics: blocks of 32 channels and a slice of the rows, whose parts are joined in the order
// of the slices in double precision.
#include <cmath>

#include "cuda_table.hpp"
#include "kernel.hpp"

namespace convec::cuda {

namespace {

constexpr int lanes = 32;
constexpr int rows_at_once = block_threads / lanes;
// Sums of this many elements are summed in turn: the rounding error stays small for any number of rows.
constexpr int chunk = 64;

// The rows' slices, and the channels' blocks.
struct Slices {
  int64_t rows;
  int64_t channels;
  int64_t size;  // rows of a slice
  int count;

  Slices(int64_t rows_, int64_t channels_) : rows(rows_), channels(channels_) {
    constexpr int64_t smallest = 256;
    constexpr int64_t most = 128;
    size = (rows + most - 1) / most;
    if (size < smallest) size = smallest;
    count = static_cast<int>((rows + size - 1) / size);
  }
  dim3 grid() const {
    return dim3(static_cast<unsigned int>((channels + lanes - 1) / lanes), static_cast<unsigned int>(count));
  }
};

struct Place {
  int64_t channel;
  int lane;
  int row;
  int64_t begin;
  int64_t end;
};
__device__ __forceinline__ Place place_in(const Slices& slices) {
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  const int64_t begin = static_cast<int64_t>(blockIdx.y) * slices.size;
  const int64_t end = begin + slices.size;
  return {static_cast<int64_t>(blockIdx.x) * lanes + lane, lane, static_cast<int>(threadIdx.x) / lanes, begin,
          end < slices.rows ? end : slices.rows};
}

// Sum of value(row) over the block's rows, the same in all threads of a channel.
template <typename Value>
__device__ __forceinline__ float sum_rows(const Place& at, bool inside, float (*shared)[lanes], const Value& value) {
  float sum = 0.0F;
  if (inside)
    for (int64_t begin = at.begin + at.row; begin < at.end; begin += chunk * rows_at_once) {
      float part = 0.0F;
      for (int64_t row = begin; row < at.end && row < begin + chunk * rows_at_once; row += rows_at_once)
        part += value(row);
      sum += part;
    }
  shared[at.row][at.lane] = sum;
  __syncthreads();
  sum = shared[0][at.lane];
  for (int row = 1; row < rows_at_once; ++row) sum += shared[row][at.lane];
  __syncthreads();
  return sum;
}

// Mean of each channel over each slice, and the sum of squares around it.
__global__ void __launch_bounds__(block_threads)
    statistics_kernel(Slices slices, const float* input, float* means, float* squares) {
  __shared__ float shared[rows_at_once][lanes];
  const Place at = place_in(slices);
  const bool inside = at.channel < slices.channels;
  const float* x = input + at.channel;
  const float mean = sum_rows(at, inside, shared, [=](int64_t row) { return x[row * slices.channels]; }) /
                     static_cast<float>(at.end - at.begin);
  const float square = sum_rows(at, inside, shared, [=](int64_t row) {
    const float distance = x[row * slices.channels] - mean;
    return distance * distance;
  });
  if (!inside || at.row != 0) return;
  means[static_cast<int64_t>(blockIdx.y) * slices.channels + at.channel] = mean;
  squares[static_cast<int64_t>(blockIdx.y) * slices.channels + at.channel] = square;
}

struct Moments {
  float momentum;
  float epsilon;
  const float* gamma;
  const float* beta;
  float* moving_mean;
  float* moving_variance;
  float* batch_mean;
  float* batch_inverse_std;
};

__global__ void __launch_bounds__(block_threads)
    join_kernel(Slices slices, Moments m, const float* means, const float* squares, float* scale, float* shift) {
  const int64_t c = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (c >= slices.channels) return;
  // Joining two parts of a sample (Chan, Golub & LeVeque, 1983), in double precision.
  double mean = 0.0;
  double square = 0.0;
  double count = 0.0;
  for (int slice = 0; slice < slices.count; ++slice) {
    const int64_t left = slices.rows - slice * slices.size;
    const auto size = static_cast<double>(left < slices.size ? left : slices.size);
    const double distance = static_cast<double>(means[slice * slices.channels + c]) - mean;
    const double total = count + size;
    mean += distance * size / total;
    square += static_cast<double>(squares[slice * slices.channels + c]) + distance * distance * count * size / total;
    count = total;
  }
  const double variance = square / count;
  const double inverse_std = 1.0 / sqrt(variance + static_cast<double>(m.epsilon));
  const auto momentum = static_cast<double>(m.momentum);
  m.moving_mean[c] = static_cast<float>(static_cast<double>(m.moving_mean[c]) * momentum + mean * (1.0 - momentum));
  m.moving_variance[c] =
      static_cast<float>(static_cast<double>(m.moving_variance[c]) * momentum + variance * (1.0 - momentum));
  m.batch_mean[c] = static_cast<float>(mean);
  m.batch_inverse_std[c] = static_cast<float>(inverse_std);
  const double slope = inverse_std * (m.gamma == nullptr ? 1.0 : static_cast<double>(m.gamma[c]));
  scale[c] = static_cast<float>(slope);
  shift[c] = static_cast<float>((m.beta == nullptr ? 0.0 : static_cast<double>(m.beta[c])) - mean * slope);
}

__global__ void __launch_bounds__(block_threads)
    inference_kernel(int64_t channels, const float* gamma, const float* beta, const float* moving_mean,
                     const float* moving_variance, float epsilon, float* scale, float* shift) {
  const int64_t c = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (c >= channels) return;
  const double slope = (gamma == nullptr ? 1.0 : static_cast<double>(gamma[c])) /
                       sqrt(static_cast<double>(moving_variance[c]) + static_cast<double>(epsilon));
  const double mean = moving_mean == nullptr ? 0.0 : static_cast<double>(moving_mean[c]);
  scale[c] = static_cast<float>(slope);
  shift[c] = static_cast<float>((beta == nullptr ? 0.0 : static_cast<double>(beta[c])) - mean * slope);
}

// Channels along x, rows along y and on.
template <int Width, typename Function>
__device__ __forceinline__ void for_rows(int64_t rows, int64_t channels, const Function& function) {
  const int64_t c = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * Width;
  if (c >= channels) return;
  const int64_t step = static_cast<int64_t>(gridDim.y) * blockDim.y;
  for (int64_t row = static_cast<int64_t>(blockIdx.y) * blockDim.y + threadIdx.y; row < rows; row += step)
    function(row * channels + c, c);
}

template <int Width>
__global__ void __launch_bounds__(block_threads) apply_kernel(int64_t rows, int64_t channels, const float* input,
                                                              const float* scale, const float* shift, float* output) {
  for_rows<Width>(rows, channels, [=](int64_t i, int64_t c) {
    Floats<Width> x = load<Width>(input + i);
    const Floats<Width> a = load<Width>(scale + c);
    const Floats<Width> b = load<Width>(shift + c);
    for (int k = 0; k < Width; ++k) x.at[k] = x.at[k] * a.at[k] + b.at[k];
    store<Width>(output + i, x);
  });
}

__global__ void __launch_bounds__(block_threads)
    gradient_sums_kernel(Slices slices, const float* grad_output, const float* input, const float* mean, float* sums,
                         float* centred_sums) {
  __shared__ float shared[rows_at_once][lanes];
  const Place at = place_in(slices);
  const bool inside = at.channel < slices.channels;
  const float* g = grad_output + at.channel;
  const float* x = input + at.channel;
  const float centre = inside ? mean[at.channel] : 0.0F;
  const float sum = sum_rows(at, inside, shared, [=](int64_t row) { return g[row * slices.channels]; });
  const float centred = sum_rows(
      at, inside, shared, [=](int64_t row) { return g[row * slices.channels] * (x[row * slices.channels] - centre); });
  if (!inside || at.row != 0) return;
  sums[static_cast<int64_t>(blockIdx.y) * slices.channels + at.channel] = sum;
  centred_sums[static_cast<int64_t>(blockIdx.y) * slices.channels + at.channel] = centred;
}

// With x^ = (x - mean) r, r = 1 / sqrt(variance + epsilon):
// grad_input = gamma r (g - mean(g) - x^ mean(g x^)) = a g + b (x - mean) + c.
__global__ void __launch_bounds__(block_threads)
    gradient_join_kernel(Slices slices, const float* gamma, const float* inverse_std, const float* sums,
                         const float* centred_sums, float* a, float* b, float* c, float* grad_gamma, float* grad_beta) {
  const int64_t channel = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (channel >= slices.channels) return;
  double sum = 0.0;
  double sum_normalised = 0.0;
  for (int slice = 0; slice < slices.count; ++slice) {
    sum += static_cast<double>(sums[slice * slices.channels + channel]);
    sum_normalised += static_cast<double>(centred_sums[slice * slices.channels + channel]);
  }
  const auto r = static_cast<double>(inverse_std[channel]);
  const auto count = static_cast<double>(slices.rows);
  sum_normalised *= r;
  const double slope = r * (gamma == nullptr ? 1.0 : static_cast<double>(gamma[channel]));
  a[channel] = static_cast<float>(slope);
  b[channel] = static_cast<float>(-slope * r * sum_normalised / count);
  c[channel] = static_cast<float>(-slope * sum / count);
  if (grad_gamma != nullptr) grad_gamma[channel] = static_cast<float>(sum_normalised);
  if (grad_beta != nullptr) grad_beta[channel] = static_cast<float>(sum);
}

template <int Width>
__global__ void __launch_bounds__(block_threads)
    gradient_kernel(int64_t rows, int64_t channels, const float* grad_output, const float* input, const float* mean,
                    const float* a, const float* b, const float* c, float* grad_input) {
  for_rows<Width>(rows, channels, [=](int64_t i, int64_t channel) {
    const Floats<Width> g = load<Width>(grad_output + i);
    Floats<Width> x = load<Width>(input + i);
    const Floats<Width> centre = load<Width>(mean + channel);
    const Floats<Width> a_of = load<Width>(a + channel);
    const Floats<Width> b_of = load<Width>(b + channel);
    const Floats<Width> c_of = load<Width>(c + channel);
    for (int k = 0; k < Width; ++k)
      x.at[k] = g.at[k] * a_of.at[k] + ((x.at[k] - centre.at[k]) * b_of.at[k] + c_of.at[k]);
    store<Width>(grad_input + i, x);
  });
}

Launch one_a_channel(const Context& context, int64_t channels) {
  return {grid_of(channels), block_threads, 0, stream_of(context)};
}

// A block as wide as the channels, up to a warp.
Launch rows_of_channels(const Context& context, int64_t rows, int64_t vectors) {
  unsigned int wide = 1;
  while (wide < warp_size && wide < vectors) wide *= 2;
  const unsigned int tall = block_threads / wide;
  const int64_t across = (vectors + wide - 1) / wide;
  const int64_t wanted = (rows + tall - 1) / tall;
  const int64_t most = 1 + int64_t{16} * multiprocessors(context.device.index) / across;
  const int64_t limit = most < 65535 ? most : 65535;
  return {dim3(static_cast<unsigned int>(across), static_cast<unsigned int>(wanted < limit ? wanted : limit)),
          dim3(wide, tall), 0, stream_of(context)};
}

void apply(const Context& context, int64_t rows, int64_t channels, const float* input, const float* scale,
           const float* shift, float* output) {
  const int width = channels % 4 == 0 && aligned_for_vectors(input, output) ? 4 : 1;
  launch(width == 4 ? apply_kernel<4> : apply_kernel<1>, rows_of_channels(context, rows, channels / width), rows,
         channels, input, scale, shift, output);
}

void batch_norm_forward_training(const Context& context, int64_t rows, int64_t channels, const float* input,
                                 const float* gamma, const float* beta, float momentum, float epsilon,
                                 float* moving_mean, float* moving_variance, float* batch_mean,
                                 float* batch_inverse_std, float* output) {
  Scratch scratch(context);
  const Slices slices(rows, channels);
  float* means = scratch.take<float>(slices.count * channels);
  float* squares = scratch.take<float>(slices.count * channels);
  float* scale = scratch.take<float>(channels);
  float* shift = scratch.take<float>(channels);
  launch(statistics_kernel, {slices.grid(), block_threads, 0, stream_of(context)}, slices, input, means, squares);
  launch(join_kernel, one_a_channel(context, channels), slices,
         Moments{momentum, epsilon, gamma, beta, moving_mean, moving_variance, batch_mean, batch_inverse_std}, means,
         squares, scale, shift);
  apply(context, rows, channels, input, scale, shift, output);
}

void batch_norm_forward_inference(const Context& context, int64_t rows, int64_t channels, const float* input,
                                  const float* gamma, const float* beta, const float* moving_mean,
                                  const float* moving_variance, float epsilon, float* output) {
  Scratch scratch(context);
  float* scale = scratch.take<float>(channels);
  float* shift = scratch.take<float>(channels);
  launch(inference_kernel, one_a_channel(context, channels), channels, gamma, beta, moving_mean, moving_variance,
         epsilon, scale, shift);
  apply(context, rows, channels, input, scale, shift, output);
}

void batch_norm_backward(const Context& context, int64_t rows, int64_t channels, const float* grad_output,
                         const float* input, const float* gamma, const float* batch_mean,
                         const float* batch_inverse_std, float* grad_input, float* grad_gamma, float* grad_beta) {
  Scratch scratch(context);
  const Slices slices(rows, channels);
  float* sums = scratch.take<float>(slices.count * channels);
  float* centred = scratch.take<float>(slices.count * channels);
  float* a = scratch.take<float>(channels);
  float* b = scratch.take<float>(channels);
  float* c = scratch.take<float>(channels);
  launch(gradient_sums_kernel, {slices.grid(), block_threads, 0, stream_of(context)}, slices, grad_output, input,
         batch_mean, sums, centred);
  launch(gradient_join_kernel, one_a_channel(context, channels), slices, gamma, batch_inverse_std, sums, centred, a, b,
         c, grad_gamma, grad_beta);
  const int width = channels % 4 == 0 && aligned_for_vectors(grad_output, input, batch_mean, grad_input) ? 4 : 1;
  launch(width == 4 ? gradient_kernel<4> : gradient_kernel<1>, rows_of_channels(context, rows, channels / width), rows,
         channels, grad_output, input, batch_mean, a, b, c, grad_input);
}

}  // namespace

void fill_batch_norm(OpTable& table) {
  table.batch_norm_forward_training = batch_norm_forward_training;
  table.batch_norm_forward_inference = batch_norm_forward_inference;
  table.batch_norm_backward = batch_norm_backward;
}

}  // namespace convec::cuda
