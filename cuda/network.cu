// The parts of a network's step around its ops: the batch, its numbers, and the totals of an epoch.
#include "network.hpp"

#include <cmath>

#include "dropout.hpp"
#include "kernel.hpp"

namespace convec::cuda {

namespace {

__global__ void begin_step_kernel(bool adam, double beta_1, double beta_2, const EpochSource* source,
                                  StepState* state) {
  const int64_t step = ++state->step;
  const auto iteration = static_cast<double>(++state->iteration);
  if (source->learning_rates != nullptr) state->learning_rate = source->learning_rates[step];
  const auto rate = static_cast<double>(state->learning_rate);
  state->corrected_rate =
      adam ? static_cast<float>(rate * sqrt(1.0 - pow(beta_2, iteration)) / (1.0 - pow(beta_1, iteration)))
           : state->learning_rate;
}

// Rows of the batch over blocks; a block copies one row's inputs, targets and weight.
__global__ void __launch_bounds__(block_threads)
    gather_kernel(GatheredBatch batch, const EpochSource* source, const StepState* state) {
  const auto row = static_cast<int64_t>(blockIdx.x);
  const int64_t place = state->step * batch.batch_size + row;
  const int64_t from = source->order == nullptr ? place : source->order[place];
  const auto thread = static_cast<int64_t>(threadIdx.x);
  float* to = batch.inputs + row * batch.input_size;
  if (batch.input_type == DType::uint8) {
    const auto* read = static_cast<const std::uint8_t*>(source->inputs) + from * batch.input_size;
    for (int64_t i = thread; i < batch.input_size; i += block_threads) to[i] = static_cast<float>(read[i]);
  } else {
    const float* read = static_cast<const float*>(source->inputs) + from * batch.input_size;
    for (int64_t i = thread; i < batch.input_size; i += block_threads) to[i] = read[i];
  }
  const auto* read = static_cast<const unsigned char*>(source->targets) + from * batch.target_bytes;
  auto* write = static_cast<unsigned char*>(batch.targets) + row * batch.target_bytes;
  for (int64_t i = thread; i < batch.target_bytes; i += block_threads) write[i] = read[i];
  if (batch.weights != nullptr && thread == 0) batch.weights[row] = source->weights[from];
}

__global__ void __launch_bounds__(block_threads) totals_kernel(int64_t size, int64_t mean_over, const float* values,
                                                               const float* weights, double* totals, float* gradients) {
  __shared__ double shared[2][block_threads / warp_size];
  double sum = 0.0;
  double weight_sum = 0.0;
  for (auto i = static_cast<int64_t>(threadIdx.x); i < size; i += block_threads) {
    const float weight = weights == nullptr ? 1.0F : weights[i];
    sum += static_cast<double>(values[i]) * static_cast<double>(weight);
    weight_sum += static_cast<double>(weight);
    if (gradients != nullptr) gradients[i] = weight / static_cast<float>(mean_over);
  }
  sum = reduce_block<block_threads>(sum, shared[0]);
  weight_sum = reduce_block<block_threads>(weight_sum, shared[1]);
  if (threadIdx.x != 0) return;
  totals[0] += sum;
  totals[1] += weight_sum;
}

__global__ void __launch_bounds__(block_threads)
    dropout_kernel(Dropout options, const StepState* state, int64_t size, const float* input, float* output) {
  // The first step's number is 0, as on the CPU.
  drop_elements(options, static_cast<std::uint64_t>(state->iteration - 1), size, input, output);
}

}  // namespace

void begin_step(const Context& context, const OptimizerOptions& options, const EpochSource* source, StepState* state) {
  const DeviceGuard guard(context.device.index);
  const bool adam = options.optimizer == Optimizer::adam || options.optimizer == Optimizer::adamw;
  launch(begin_step_kernel, {1, 1, 0, stream_of(context)}, adam, options.beta_1, options.beta_2, source, state);
}

void gather(const Context& context, const EpochSource* source, const StepState* state, const GatheredBatch& batch) {
  const DeviceGuard guard(context.device.index);
  launch(gather_kernel, {dim3(static_cast<unsigned int>(batch.size)), block_threads, 0, stream_of(context)}, batch,
         source, state);
}

void add_to_totals(const Context& context, int64_t size, int64_t mean_over, const float* values, const float* weights,
                   double* totals, float* gradients) {
  const DeviceGuard guard(context.device.index);
  launch(totals_kernel, {1, block_threads, 0, stream_of(context)}, size, mean_over, values, weights, totals, gradients);
}

void dropout_at_step(const Context& context, float rate, std::uint64_t seed, const StepState* state, int64_t size,
                     const float* input, float* output) {
  const DeviceGuard guard(context.device.index);
  launch(dropout_kernel, {loop_grid(context.device.index, size / 4 + 1), block_threads, 0, stream_of(context)},
         Dropout(rate, seed, 0), state, size, input, output);
}

}  // namespace convec::cuda
