// Optimizer steps, element-wise and four floats a thread, and sums of squares.
#include <cmath>

#include "cuda_table.hpp"
#include "kernel.hpp"
#include "network.hpp"
#include "reduce.hpp"

namespace convec::cuda {

namespace {

// The rule's numbers. Rates and the factor on the gradient come from the device's memory within a captured step.
struct Rule {
  const StepState* state = nullptr;
  const float* scale_at = nullptr;
  float learning_rate;
  float corrected_rate;
  float gradient_scale;
  float clip;
  float weight_decay;
  float momentum;
  float gain_1;  // 1 - beta_1, or 1 - rho
  float gain_2;  // 1 - beta_2
  float rho;
  float epsilon;
  bool nesterov;
  bool amsgrad;
  bool centered;

  explicit Rule(const OptimizerOptions& o)
      : learning_rate(o.learning_rate),
        corrected_rate(o.learning_rate),
        gradient_scale(1.0F),
        clip(o.clipvalue),
        weight_decay(o.weight_decay),
        momentum(o.momentum),
        rho(static_cast<float>(o.rho)),
        epsilon(o.epsilon),
        nesterov(o.nesterov),
        amsgrad(o.amsgrad),
        centered(o.centered) {
    const bool adam = o.optimizer == Optimizer::adam || o.optimizer == Optimizer::adamw;
    gain_1 = static_cast<float>(1.0 - (adam ? o.beta_1 : o.rho));
    gain_2 = static_cast<float>(1.0 - o.beta_2);
  }
};

struct Slots {
  float* at[3];
};

// One element: p and the slots change.
template <Optimizer optimizer>
__device__ __forceinline__ void update(const Rule& rule, float rate, float g, float& p, float& s0, float& s1,
                                       float& s2) {
  if constexpr (optimizer == Optimizer::sgd) {
    const float step = g * rate;
    if (rule.momentum == 0.0F) {
      p -= step;
    } else {
      s0 = s0 * rule.momentum - step;
      p += rule.nesterov ? s0 * rule.momentum - step : s0;
    }
  } else if constexpr (optimizer == Optimizer::adam) {
    s0 += (g - s0) * rule.gain_1;
    s1 += (g * g - s1) * rule.gain_2;
    float v = s1;
    if (rule.amsgrad) {
      v = v < s2 ? s2 : v;
      s2 = v;
    }
    p -= s0 * rate / (sqrtf(v) + rule.epsilon);
  } else if constexpr (optimizer == Optimizer::rmsprop) {
    // s1: momentum, or the average gradient where there is no momentum; s2: the average gradient.
    s0 = s0 * rule.rho + rule.gain_1 * (g * g);
    float spread = s0;
    if (rule.centered) {
      float& average = rule.momentum > 0.0F ? s2 : s1;
      average = average * rule.rho + rule.gain_1 * g;
      spread -= average * average;
    }
    const float step = rate * g / sqrtf(spread + rule.epsilon);
    if (rule.momentum > 0.0F) {
      s1 = s1 * rule.momentum + step;
      p -= s1;
    } else {
      p -= step;
    }
  } else {
    s0 = s0 * rule.rho + rule.gain_1 * (g * g);
    const float delta = -(sqrtf(s1 + rule.epsilon) * g / sqrtf(s0 + rule.epsilon));
    s1 = s1 * rule.rho + rule.gain_1 * (delta * delta);
    p += rate * delta;
  }
}

template <Optimizer optimizer, int Width>
__device__ __forceinline__ void update_vector(const Rule& rule, float rate, float decay, float scale, int64_t i,
                                              float* parameter, const float* gradient, const Slots& slots) {
  Floats<Width> p = load<Width>(parameter + i);
  const Floats<Width> g = load<Width>(gradient + i);
  Floats<Width> s[3];
  for (int slot = 0; slot < 3; ++slot)
    s[slot] = slots.at[slot] == nullptr ? Floats<Width>{} : load<Width>(slots.at[slot] + i);
  for (int k = 0; k < Width; ++k) {
    float grad = g.at[k] * scale;
    if (rule.clip > 0.0F) grad = grad < -rule.clip ? -rule.clip : grad > rule.clip ? rule.clip : grad;
    if (decay > 0.0F) p.at[k] -= p.at[k] * decay;
    update<optimizer>(rule, rate, grad, p.at[k], s[0].at[k], s[1].at[k], s[2].at[k]);
  }
  store<Width>(parameter + i, p);
  for (int slot = 0; slot < 3; ++slot)
    if (slots.at[slot] != nullptr) store<Width>(slots.at[slot] + i, s[slot]);
}

template <Optimizer optimizer, int Width>
__global__ void __launch_bounds__(block_threads)
    step_kernel(Rule rule, int64_t size, float* parameter, const float* gradient, Slots slots) {
  const float rate = rule.state == nullptr ? rule.corrected_rate : rule.state->corrected_rate;
  const float decay = rule.weight_decay * (rule.state == nullptr ? rule.learning_rate : rule.state->learning_rate);
  const float scale = rule.scale_at == nullptr ? rule.gradient_scale : *rule.scale_at;
  const int64_t vectors = size / Width;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  for (int64_t i = first; i < vectors; i += step)
    update_vector<optimizer, Width>(rule, rate, decay, scale, i * Width, parameter, gradient, slots);
  const int64_t rest = vectors * Width + first;
  if (Width > 1 && rest < size) update_vector<optimizer, 1>(rule, rate, decay, scale, rest, parameter, gradient, slots);
}

void run(const Context& context, Optimizer optimizer, int slot_count, const Rule& rule, int64_t size, float* parameter,
         const float* gradient, float* const* slots) {
  const DeviceGuard guard(context.device.index);
  Slots used{};
  bool vectors = aligned_for_vectors(parameter, gradient);
  for (int slot = 0; slot < slot_count; ++slot) {
    used.at[slot] = slots[slot];
    vectors = vectors && aligned_for_vectors(slots[slot]);
  }
  const auto start = [&](auto which) {
    constexpr Optimizer rule_of = decltype(which)::value;
    const int width = vectors ? 4 : 1;
    const Launch where{loop_grid(context.device.index, size / width + width), block_threads, 0, stream_of(context)};
    launch(vectors ? step_kernel<rule_of, 4> : step_kernel<rule_of, 1>, where, rule, size, parameter, gradient, used);
  };
  switch (optimizer) {
    case Optimizer::sgd:
      return start(std::integral_constant<Optimizer, Optimizer::sgd>{});
    case Optimizer::adam:
    case Optimizer::adamw:
      return start(std::integral_constant<Optimizer, Optimizer::adam>{});
    case Optimizer::rmsprop:
      return start(std::integral_constant<Optimizer, Optimizer::rmsprop>{});
    case Optimizer::adadelta:
      return start(std::integral_constant<Optimizer, Optimizer::adadelta>{});
  }
}

void optimizer_step(const Context& context, const OptimizerOptions& options, int64_t iteration, int64_t size,
                    float* parameter, const float* gradient, float* const* slots, float gradient_scale) {
  Rule rule(options);
  rule.gradient_scale = gradient_scale;
  if (options.optimizer == Optimizer::adam || options.optimizer == Optimizer::adamw) {
    const auto step = static_cast<double>(iteration);
    rule.corrected_rate =
        static_cast<float>(static_cast<double>(options.learning_rate) *
                           std::sqrt(1.0 - std::pow(options.beta_2, step)) / (1.0 - std::pow(options.beta_1, step)));
  }
  run(context, options.optimizer, optimizer_slot_count(options), rule, size, parameter, gradient, slots);
}

// ---- Sums of squares ------------------------------------------------------------------------------------------------

__global__ void __launch_bounds__(block_threads) squares_kernel(int64_t size, const float* array, double* sums) {
  __shared__ double shared[block_threads / warp_size];
  double sum = 0.0;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < size; i += step) {
    const auto x = static_cast<double>(array[i]);
    sum += x * x;
  }
  sum = reduce_block<block_threads>(sum, shared);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// The sum of the blocks' sums of `arrays` arrays.
__device__ double total_of(int arrays, const double* sums, double* shared) {
  double sum = 0.0;
  for (int i = static_cast<int>(threadIdx.x); i < arrays * square_blocks; i += block_threads) sum += sums[i];
  return reduce_block<block_threads>(sum, shared);
}

__global__ void __launch_bounds__(block_threads) total_kernel(const double* sums, double* total) {
  __shared__ double shared[block_threads / warp_size];
  const double sum = total_of(1, sums, shared);
  if (threadIdx.x == 0) *total = sum;
}

__global__ void __launch_bounds__(block_threads)
    scale_kernel(int arrays, const double* sums, float norm, float* scale) {
  __shared__ double shared[block_threads / warp_size];
  const double length = sqrt(total_of(arrays, sums, shared));
  if (threadIdx.x == 0)
    *scale = length > static_cast<double>(norm) ? static_cast<float>(static_cast<double>(norm) / length) : 1.0F;
}

double sum_of_squares(const Context& context, int64_t size, const float* array) {
  Scratch scratch(context);
  double* sums = scratch.take<double>(square_blocks);
  double* total = scratch.take<double>(1);
  sum_squares(context, size, array, sums);
  launch(total_kernel, {1, block_threads, 0, stream_of(context)}, sums, total);
  double result = 0.0;
  check(cudaMemcpyAsync(&result, total, sizeof result, cudaMemcpyDeviceToHost, stream_of(context)), "cudaMemcpyAsync");
  check(cudaStreamSynchronize(stream_of(context)), "cudaStreamSynchronize");
  return result;
}

}  // namespace

void sum_squares(const Context& context, int64_t size, const float* array, double* sums) {
  launch(squares_kernel, {square_blocks, block_threads, 0, stream_of(context)}, size, array, sums);
}

void optimizer_at_step(const Context& context, const OptimizerOptions& options, const StepState* state, int64_t size,
                       float* parameter, const float* gradient, float* const* slots, const float* gradient_scale) {
  Rule rule(options);
  rule.state = state;
  rule.scale_at = gradient_scale;
  run(context, options.optimizer, optimizer_slot_count(options), rule, size, parameter, gradient, slots);
}

void clip_scale(const Context& context, const std::vector<const float*>& arrays, const std::vector<int64_t>& sizes,
                float norm, float* scale) {
  Scratch scratch(context);
  double* sums = scratch.take<double>(static_cast<int64_t>(arrays.size()) * square_blocks);
  for (std::size_t i = 0; i < arrays.size(); ++i) sum_squares(context, sizes[i], arrays[i], sums + i * square_blocks);
  launch(scale_kernel, {1, block_threads, 0, stream_of(context)}, static_cast<int>(arrays.size()), sums, norm, scale);
}

void fill_optimizer(OpTable& table) {
  table.optimizer_step = optimizer_step;
  table.sum_of_squares = sum_of_squares;
}

}  // namespace convec::cuda
