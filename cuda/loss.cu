// Losses and metrics: a warp a row.
#include <climits>

#include "activation.hpp"
#include "cuda_table.hpp"
#include "kernel.hpp"

namespace convec::cuda {

namespace {

constexpr float smallest_probability = 1e-7F;  // keras.backend.epsilon()
constexpr int rows_of_block = block_threads / warp_size;

__device__ __forceinline__ int64_t row_of_warp() {
  return static_cast<int64_t>(blockIdx.x) * rows_of_block + threadIdx.x / warp_size;
}
__device__ __forceinline__ int lane_of_thread() { return static_cast<int>(threadIdx.x) % warp_size; }

__device__ __forceinline__ int64_t label_at(const Labels& labels, int64_t row) {
  switch (labels.dtype) {
    case DType::int32:
      return static_cast<const std::int32_t*>(labels.classes)[row];
    case DType::uint8:
      return static_cast<const std::uint8_t*>(labels.classes)[row];
    default:
      return static_cast<const int64_t*>(labels.classes)[row];
  }
}

__device__ __forceinline__ float clip_probability(float p) {
  return clip(p, smallest_probability, 1.0F - smallest_probability);
}
// Where clip_probability passes a gradient.
__device__ __forceinline__ bool inside_clip(float p) {
  return smallest_probability <= p && p <= 1.0F - smallest_probability;
}

// One row of targets after smoothing: q = base + share * (distribution, or 1 at `label`).
struct Targets {
  const float* distribution;  // null: a class number
  int64_t label;
  float share;
  float base;

  __device__ __forceinline__ float at(int64_t c) const {
    const float q = distribution != nullptr ? distribution[c] : c == label ? 1.0F : 0.0F;
    return q * share + base;
  }
};
__device__ __forceinline__ Targets targets_of(const Labels& labels, const CrossEntropyOptions& options, int64_t row,
                                              int64_t classes) {
  return {labels.distribution == nullptr ? nullptr : labels.distribution + row * classes,
          labels.distribution == nullptr ? label_at(labels, row) : -1, 1.0F - options.label_smoothing,
          options.label_smoothing / static_cast<float>(classes)};
}

__device__ __forceinline__ float largest_of_row(const float* row, int64_t classes) {
  float peak = -INFINITY;
  for (int64_t c = lane_of_thread(); c < classes; c += warp_size) peak = Largest{}(peak, row[c]);
  return reduce_warp(peak, Largest{});
}
__device__ __forceinline__ float sum_of_row(const float* row, int64_t classes) {
  float sum = 0.0F;
  for (int64_t c = lane_of_thread(); c < classes; c += warp_size) sum += row[c];
  return reduce_warp(sum);
}
__device__ __forceinline__ float sum_of_exp(const float* row, int64_t classes, float peak) {
  float sum = 0.0F;
  for (int64_t c = lane_of_thread(); c < classes; c += warp_size) sum += expf(row[c] - peak);
  return reduce_warp(sum);
}

__global__ void __launch_bounds__(block_threads)
    cross_entropy_forward(int64_t rows, int64_t classes, const float* input, Labels labels, CrossEntropyOptions options,
                          float* losses) {
  const int64_t row = row_of_warp();
  if (row >= rows) return;
  const float* x = input + row * classes;
  const Targets t = targets_of(labels, options, row, classes);
  const bool one_class = t.distribution == nullptr && options.label_smoothing == 0.0F;
  float loss = 0.0F;
  if (options.from_logits) {
    // -log p = log(sum exp(x - peak)) + (peak - x); the difference first, so that large logits cost no precision.
    const float peak = largest_of_row(x, classes);
    const float log_sum = logf(sum_of_exp(x, classes, peak));
    if (one_class) {
      loss = log_sum + (peak - x[t.label]);
    } else {
      for (int64_t c = lane_of_thread(); c < classes; c += warp_size) {
        const float q = t.at(c);
        // A class with no weight does not count, even at minus infinity.
        if (q != 0.0F) loss += q * (log_sum + (peak - x[c]));
      }
      loss = reduce_warp(loss);
    }
  } else {
    const float total = t.distribution == nullptr ? 1.0F : sum_of_row(x, classes);
    if (one_class) {
      loss = -logf(clip_probability(x[t.label]));
    } else {
      for (int64_t c = lane_of_thread(); c < classes; c += warp_size)
        loss -= t.at(c) * logf(clip_probability(x[c] / total));
      loss = reduce_warp(loss);
    }
  }
  if (lane_of_thread() == 0) losses[row] = loss;
}

__global__ void __launch_bounds__(block_threads)
    cross_entropy_backward(int64_t rows, int64_t classes, const float* grad_losses, const float* input, Labels labels,
                           CrossEntropyOptions options, float* grad_input) {
  const int64_t row = row_of_warp();
  if (row >= rows) return;
  const float* x = input + row * classes;
  float* dx = grad_input + row * classes;  // may be x
  const Targets t = targets_of(labels, options, row, classes);
  const float g = grad_losses[row];
  if (options.from_logits) {
    // g (p sum(q) - q); distributions need not sum to 1.
    const float peak = largest_of_row(x, classes);
    const float sum = sum_of_exp(x, classes, peak);
    float weight = 1.0F;
    if (t.distribution != nullptr) weight = sum_of_row(t.distribution, classes) * t.share + options.label_smoothing;
    const float scale = weight / sum;
    for (int64_t c = lane_of_thread(); c < classes; c += warp_size) dx[c] = g * (expf(x[c] - peak) * scale - t.at(c));
  } else if (t.distribution == nullptr) {
    // -g q / p where p is not clipped.
    for (int64_t c = lane_of_thread(); c < classes; c += warp_size) {
      const float p = x[c];
      dx[c] = inside_clip(p) ? -(g * t.at(c) / p) : 0.0F;
    }
  } else {
    // p = x / total: g (sum of the unclipped q - q / p where p is not clipped) / total.
    const float total = sum_of_row(x, classes);
    float weight = 0.0F;
    for (int64_t c = lane_of_thread(); c < classes; c += warp_size)
      if (inside_clip(x[c] / total)) weight += t.at(c);
    weight = reduce_warp(weight);
    for (int64_t c = lane_of_thread(); c < classes; c += warp_size) {
      const float p = x[c] / total;
      const float own = inside_clip(p) ? t.at(c) / p : 0.0F;
      dx[c] = g * (weight - own) / total;
    }
  }
}

// ---- Labels ---------------------------------------------------------------------------------------------------------

// first[0] = the smallest index of a label outside [0, classes), where there is one.
__global__ void __launch_bounds__(block_threads)
    find_kernel(int64_t rows, int64_t classes, Labels labels, unsigned long long* first) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; row < rows; row += step) {
    const int64_t label = label_at(labels, row);
    if (label < 0 || label >= classes) {
      atomicMin(first, static_cast<unsigned long long>(row));
      return;
    }
  }
}

int64_t find_bad_label(const Context& context, int64_t rows, int64_t classes, const Labels& labels) {
  if (labels.classes == nullptr) return -1;
  Scratch scratch(context);
  auto* first = scratch.take<unsigned long long>(1);
  check(cudaMemsetAsync(first, 0xFF, sizeof *first, stream_of(context)), "cudaMemsetAsync");
  launch(find_kernel, {loop_grid(context.device.index, rows), block_threads, 0, stream_of(context)}, rows, classes,
         labels, first);
  unsigned long long found = 0;
  check(cudaMemcpyAsync(&found, first, sizeof found, cudaMemcpyDeviceToHost, stream_of(context)), "cudaMemcpyAsync");
  check(cudaStreamSynchronize(stream_of(context)), "cudaStreamSynchronize");
  return found == ULLONG_MAX ? -1 : static_cast<int64_t>(found);
}

// ---- Losses on predictions and targets of the same shape ------------------------------------------------------------

__device__ __forceinline__ float pointwise(const PointwiseLossOptions& options, float p, float t) {
  switch (options.loss) {
    case PointwiseLoss::binary_crossentropy:
      t = t * (1.0F - options.label_smoothing) + 0.5F * options.label_smoothing;
      // max(x, 0) - x t + log(1 + e^-|x|)
      if (options.from_logits) return (p < 0.0F ? 0.0F : p) - p * t + log1pf(expf(-fabsf(p)));
      p = clip_probability(p);
      return -(t * logf(p) + (1.0F - t) * logf(1.0F - p));
    case PointwiseLoss::mean_squared_error:
      return (p - t) * (p - t);
    case PointwiseLoss::mean_absolute_error:
      return fabsf(p - t);
    case PointwiseLoss::huber: {
      const float error = fabsf(p - t);
      return error > 1.0F ? error - 0.5F : 0.5F * (error * error);
    }
  }
  return 0.0F;
}

__device__ __forceinline__ float pointwise_slope(const PointwiseLossOptions& options, float p, float t) {
  switch (options.loss) {
    case PointwiseLoss::binary_crossentropy:
      t = t * (1.0F - options.label_smoothing) + 0.5F * options.label_smoothing;
      if (options.from_logits) return sigmoid(p) - t;
      return inside_clip(p) ? (p - t) / (p * (1.0F - p)) : 0.0F;
    case PointwiseLoss::mean_squared_error:
      return 2.0F * (p - t);
    case PointwiseLoss::mean_absolute_error:
      return p == t ? 0.0F : copysignf(1.0F, p - t);
    case PointwiseLoss::huber:
      return clip(p - t, -1.0F, 1.0F);
  }
  return 0.0F;
}

__global__ void __launch_bounds__(block_threads)
    pointwise_forward(PointwiseLossOptions options, int64_t rows, int64_t columns, const float* predictions,
                      const float* targets, float* losses) {
  const int64_t row = row_of_warp();
  if (row >= rows) return;
  float sum = 0.0F;
  for (int64_t c = lane_of_thread(); c < columns; c += warp_size)
    sum += pointwise(options, predictions[row * columns + c], targets[row * columns + c]);
  sum = reduce_warp(sum);
  if (lane_of_thread() == 0) losses[row] = sum / static_cast<float>(columns);
}

__global__ void __launch_bounds__(block_threads)
    pointwise_backward(PointwiseLossOptions options, int64_t rows, int64_t columns, const float* grad_losses,
                       const float* predictions, const float* targets, float* grad_predictions) {
  const int64_t row = row_of_warp();
  if (row >= rows) return;
  const float g = grad_losses[row] / static_cast<float>(columns);
  for (int64_t c = lane_of_thread(); c < columns; c += warp_size)
    grad_predictions[row * columns + c] =
        g * pointwise_slope(options, predictions[row * columns + c], targets[row * columns + c]);
}

// ---- Metrics --------------------------------------------------------------------------------------------------------

// Index of the first of the largest elements, as the comparison x > best finds it from element 0 on: a NaN there stays,
// elsewhere it never wins.
struct Peak {
  float value;
  int64_t index;
};
__device__ int64_t largest_index(const float* row, int64_t classes) {
  const float first = row[0];
  if (first != first) return 0;
  Peak best{first, 0};
  for (int64_t c = lane_of_thread(); c < classes; c += warp_size)
    if (row[c] > best.value) best = {row[c], c};
  for (int distance = warp_size / 2; distance > 0; distance /= 2) {
    const Peak other{__shfl_xor_sync(whole_warp, best.value, distance),
                     __shfl_xor_sync(whole_warp, static_cast<long long>(best.index), distance)};
    if (other.value > best.value || (other.value == best.value && other.index < best.index)) best = other;
  }
  return best.index;
}

__device__ int count_of_warp(int count) { return reduce_warp(count); }

__global__ void __launch_bounds__(block_threads) metric_kernel(MetricOptions options, int64_t rows, int64_t classes,
                                                               const float* predictions, Labels labels, float* values) {
  const int64_t row = row_of_warp();
  if (row >= rows) return;
  const float* p = predictions + row * classes;
  float value = 0.0F;
  if (options.metric == Metric::binary_accuracy) {
    const float* t = labels.distribution + row * classes;
    int right = 0;
    for (int64_t c = lane_of_thread(); c < classes; c += warp_size)
      right += (p[c] > options.threshold ? 1.0F : 0.0F) == t[c] ? 1 : 0;
    value = static_cast<float>(count_of_warp(right)) / static_cast<float>(classes);
  } else {
    const int64_t label = labels.distribution == nullptr ? label_at(labels, row)
                                                         : largest_index(labels.distribution + row * classes, classes);
    if (options.metric == Metric::sparse_top_k_categorical_accuracy ||
        options.metric == Metric::top_k_categorical_accuracy) {
      const float own = p[label];
      int above = 0;
      for (int64_t c = lane_of_thread(); c < classes; c += warp_size) above += p[c] > own ? 1 : 0;
      value = count_of_warp(above) < options.k && own == own ? 1.0F : 0.0F;
    } else {
      value = largest_index(p, classes) == label ? 1.0F : 0.0F;
    }
  }
  if (lane_of_thread() == 0) values[row] = value;
}

// ---- Rows of the table ----------------------------------------------------------------------------------------------

Labels labels_from(const Labels& labels, int64_t row, int64_t classes) {
  Labels rest = labels;
  if (labels.distribution != nullptr)
    rest.distribution = labels.distribution + row * classes;
  else
    rest.classes =
        static_cast<const std::byte*>(labels.classes) + static_cast<std::size_t>(row) * size_of(labels.dtype);
  return rest;
}

// Calls run(where, first row, rows) for slices that one launch may take.
template <typename Run>
void for_rows(const Context& context, int64_t rows, Run&& run) {
  const DeviceGuard guard(context.device.index);
  for_image_slices(rows, 1, [&](int64_t first, int64_t count) {
    run(Launch{grid_of(count, rows_of_block), block_threads, 0, stream_of(context)}, first, count);
  });
}

void softmax_cross_entropy_forward(const Context& context, int64_t rows, int64_t classes, const float* input,
                                   const Labels& labels, const CrossEntropyOptions& options, float* losses) {
  for_rows(context, rows, [&](const Launch& where, int64_t first, int64_t count) {
    launch(cross_entropy_forward, where, count, classes, input + first * classes, labels_from(labels, first, classes),
           options, losses + first);
  });
}

void softmax_cross_entropy_backward(const Context& context, int64_t rows, int64_t classes, const float* grad_losses,
                                    const float* input, const Labels& labels, const CrossEntropyOptions& options,
                                    float* grad_input) {
  for_rows(context, rows, [&](const Launch& where, int64_t first, int64_t count) {
    launch(cross_entropy_backward, where, count, classes, grad_losses + first, input + first * classes,
           labels_from(labels, first, classes), options, grad_input + first * classes);
  });
}

void pointwise_loss_forward(const Context& context, const PointwiseLossOptions& options, int64_t rows, int64_t columns,
                            const float* predictions, const float* targets, float* losses) {
  for_rows(context, rows, [&](const Launch& where, int64_t first, int64_t count) {
    launch(pointwise_forward, where, options, count, columns, predictions + first * columns, targets + first * columns,
           losses + first);
  });
}

void pointwise_loss_backward(const Context& context, const PointwiseLossOptions& options, int64_t rows, int64_t columns,
                             const float* grad_losses, const float* predictions, const float* targets,
                             float* grad_predictions) {
  for_rows(context, rows, [&](const Launch& where, int64_t first, int64_t count) {
    launch(pointwise_backward, where, options, count, columns, grad_losses + first, predictions + first * columns,
           targets + first * columns, grad_predictions + first * columns);
  });
}

void metric_forward(const Context& context, const MetricOptions& options, int64_t rows, int64_t classes,
                    const float* predictions, const Labels& labels, float* values) {
  for_rows(context, rows, [&](const Launch& where, int64_t first, int64_t count) {
    launch(metric_kernel, where, options, count, classes, predictions + first * classes,
           labels_from(labels, first, classes), values + first);
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

}  // namespace convec::cuda
