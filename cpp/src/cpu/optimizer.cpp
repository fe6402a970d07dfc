// Optimizer steps: slices of the parameter over threads.
#include <cmath>

#include "cpu/cpu_table.hpp"
#include "cpu/grain.hpp"
#include "cpu/kernels/kernel_table.hpp"
#include "cpu/scratch.hpp"
#include "cpu/thread_pool.hpp"

namespace convec::cpu {

namespace {

void optimizer_step(const Context&, const OptimizerOptions& options, int64_t iteration, int64_t size, float* parameter,
                    const float* gradient, float* const* slots, float gradient_scale) {
  constexpr int most_slots = 3;
  const int slot_count = optimizer_slot_count(options);
  float rate = options.learning_rate;
  if (options.optimizer == Optimizer::adam || options.optimizer == Optimizer::adamw) {
    const auto step = static_cast<double>(iteration);
    rate = static_cast<float>(static_cast<double>(rate) * std::sqrt(1.0 - std::pow(options.beta_2, step)) /
                              (1.0 - std::pow(options.beta_1, step)));
  }
  const auto run = kernels().optimizer.step;
  parallel_for_range(size, task_elements, [&](int64_t begin, int64_t end) {
    float* slices[most_slots] = {};
    for (int slot = 0; slot < slot_count; ++slot) slices[slot] = slots[slot] + begin;
    run(options, rate, end - begin, parameter + begin, gradient + begin, slices, gradient_scale);
  });
}

double sum_of_squares(const Context&, int64_t size, const float* array) {
  const auto run = kernels().optimizer.sum_of_squares;
  if (size <= task_elements) return run(size, array);
  Scratch scratch;
  const int64_t tasks = (size + task_elements - 1) / task_elements;
  double* sums = scratch.take<double>(tasks);
  parallel_for_range(size, task_elements, [&](int64_t begin, int64_t end) {
    sums[begin / task_elements] = run(end - begin, array + begin);
  });
  double total = 0.0;
  for (int64_t task = 0; task < tasks; ++task) total += sums[task];
  return total;
}

}  // namespace

void fill_optimizer(OpTable& table) {
  table.optimizer_step = optimizer_step;
  table.sum_of_squares = sum_of_squares;
}

}  // namespace convec::cpu
