// Losses and metrics: rows over threads.
#include "cpu/cpu_table.hpp"
#include "cpu/grain.hpp"
#include "cpu/kernels/kernel_table.hpp"
#include "cpu/thread_pool.hpp"

namespace convec::cpu {

namespace {

// The labels from row `row` on.
Labels labels_from(const Labels& labels, int64_t row, int64_t classes) {
  Labels rest = labels;
  if (labels.distribution != nullptr)
    rest.distribution = labels.distribution + row * classes;
  else
    rest.classes =
        static_cast<const std::byte*>(labels.classes) + static_cast<std::size_t>(row) * size_of(labels.dtype);
  return rest;
}

void softmax_cross_entropy_forward(const Context&, int64_t rows, int64_t classes, const float* input,
                                   const Labels& labels, const CrossEntropyOptions& options, float* losses) {
  const auto run = kernels().loss.cross_entropy_forward;
  parallel_for_range(rows, rows_per_task(classes, task_functions), [&](int64_t begin, int64_t end) {
    run(end - begin, classes, input + begin * classes, labels_from(labels, begin, classes), options, losses + begin);
  });
}

void softmax_cross_entropy_backward(const Context&, int64_t rows, int64_t classes, const float* grad_losses,
                                    const float* input, const Labels& labels, const CrossEntropyOptions& options,
                                    float* grad_input) {
  const auto run = kernels().loss.cross_entropy_backward;
  parallel_for_range(rows, rows_per_task(classes, task_functions), [&](int64_t begin, int64_t end) {
    run(end - begin, classes, grad_losses + begin, input + begin * classes, labels_from(labels, begin, classes),
        options, grad_input + begin * classes);
  });
}

template <typename T>
int64_t first_outside(int64_t rows, int64_t classes, const void* labels) {
  const T* values = static_cast<const T*>(labels);
  // A pass without an early exit, which is vectorised; the position is looked for only where there is one.
  bool bad = false;
  for (int64_t row = 0; row < rows; ++row)
    bad |= static_cast<std::uint64_t>(static_cast<int64_t>(values[row])) >= static_cast<std::uint64_t>(classes);
  if (!bad) return -1;
  for (int64_t row = 0;; ++row)
    if (values[row] < 0 || static_cast<int64_t>(values[row]) >= classes) return row;
}

int64_t find_bad_label(const Context&, int64_t rows, int64_t classes, const Labels& labels) {
  if (labels.classes == nullptr) return -1;
  switch (labels.dtype) {
    case DType::int32:
      return first_outside<std::int32_t>(rows, classes, labels.classes);
    case DType::uint8:
      return first_outside<std::uint8_t>(rows, classes, labels.classes);
    default:
      return first_outside<std::int64_t>(rows, classes, labels.classes);
  }
}

void pointwise_loss_forward(const Context&, const PointwiseLossOptions& options, int64_t rows, int64_t columns,
                            const float* predictions, const float* targets, float* losses) {
  const auto run = kernels().loss.pointwise_forward;
  parallel_for_range(rows, rows_per_task(columns, task_functions), [&](int64_t begin, int64_t end) {
    run(options, end - begin, columns, predictions + begin * columns, targets + begin * columns, losses + begin);
  });
}

void pointwise_loss_backward(const Context&, const PointwiseLossOptions& options, int64_t rows, int64_t columns,
                             const float* grad_losses, const float* predictions, const float* targets,
                             float* grad_predictions) {
  const auto run = kernels().loss.pointwise_backward;
  parallel_for_range(rows, rows_per_task(columns, task_functions), [&](int64_t begin, int64_t end) {
    run(options, end - begin, columns, grad_losses + begin, predictions + begin * columns, targets + begin * columns,
        grad_predictions + begin * columns);
  });
}

void metric_forward(const Context&, const MetricOptions& options, int64_t rows, int64_t classes,
                    const float* predictions, const Labels& labels, float* values) {
  const auto run = kernels().loss.metric;
  parallel_for_range(rows, rows_per_task(classes), [&](int64_t begin, int64_t end) {
    run(options, end - begin, classes, predictions + begin * classes, labels_from(labels, begin, classes),
        values + begin);
  });
}

}  // namespace

void fill_loss(OpTable& table) {
  table.softmax_cross_entropy_forward = softmax_cross_entropy_forward;
  table.softmax_cross_entropy_backward = softmax_cross_entropy_backward;
  table.find_bad_label = find_bad_label;
  table.pointwise_loss_forward = pointwise_loss_forward;
  table.pointwise_loss_backward = pointwise_loss_backward;
  table.metric_forward = metric_forward;
}

}  // namespace convec::cpu
