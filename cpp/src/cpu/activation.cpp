// Element-wise ops and softmax over threads.
#include "cpu/cpu_table.hpp"
#include "cpu/grain.hpp"
#include "cpu/kernels/kernel_table.hpp"
#include "cpu/thread_pool.hpp"

namespace convec::cpu {

namespace {

int64_t grain_of(Activation activation) {
  return activation <= Activation::leaky_relu ? task_elements : task_functions;
}

void activation_forward(const Context&, Activation activation, int64_t size, const float* input, float* output) {
  const auto run = kernels().activation.forward;
  parallel_for_range(size, grain_of(activation),
                     [&](int64_t begin, int64_t end) { run(activation, end - begin, input + begin, output + begin); });
}

void activation_backward(const Context&, Activation activation, int64_t size, const float* grad_output,
                         const float* input, float* grad_input) {
  const auto run = kernels().activation.backward;
  parallel_for_range(size, grain_of(activation), [&](int64_t begin, int64_t end) {
    run(activation, end - begin, grad_output + begin, input + begin, grad_input + begin);
  });
}

void softmax_forward(const Context&, int64_t rows, int64_t classes, const float* input, float* output) {
  const auto run = kernels().activation.softmax_forward;
  parallel_for_range(rows, rows_per_task(classes, task_functions), [&](int64_t begin, int64_t end) {
    run(end - begin, classes, input + begin * classes, output + begin * classes);
  });
}

void softmax_backward(const Context&, int64_t rows, int64_t classes, const float* grad_output, const float* output,
                      float* grad_input) {
  const auto run = kernels().activation.softmax_backward;
  parallel_for_range(rows, rows_per_task(classes), [&](int64_t begin, int64_t end) {
    run(end - begin, classes, grad_output + begin * classes, output + begin * classes, grad_input + begin * classes);
  });
}

void dropout(const Context&, float rate, std::uint64_t seed, std::uint64_t offset, int64_t size, const float* input,
             float* output) {
  const auto run = kernels().activation.dropout;
  // Tasks start at multiples of 4 elements, the words of one Philox counter.
  static_assert(task_functions % 4 == 0);
  parallel_for_range(size, task_functions, [&](int64_t begin, int64_t end) {
    run(rate, seed, offset, begin, end - begin, input + begin, output + begin);
  });
}

void rescale(const Context&, float scale, float offset, int64_t size, const float* input, float* output) {
  const auto run = kernels().activation.rescale;
  parallel_for_range(size, task_elements, [&](int64_t begin, int64_t end) {
    run(scale, offset, end - begin, input + begin, output + begin);
  });
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

}  // namespace convec::cpu
