#include "cpu/kernels/loss.hpp"

#include "cpu/kernels/math.hpp"

namespace convec::cpu::CONVEC_ISA_NAMESPACE {

void fill_loss(LossKernels& kernels);

namespace {

constexpr float smallest_probability = 1e-7F;  // keras.backend.epsilon()

CONVEC_INLINE std::int64_t label_at(const Labels& labels, std::int64_t row) {
  switch (labels.dtype) {
    case DType::int32:
      return static_cast<const std::int32_t*>(labels.classes)[row];
    case DType::uint8:
      return static_cast<const std::uint8_t*>(labels.classes)[row];
    default:
      return static_cast<const std::int64_t*>(labels.classes)[row];
  }
}

// One row of targets after smoothing: q = base + share * (distribution, or 1 at `label`).
struct Targets {
  const float* distribution;  // null: a class number
  std::int64_t label;
  Vec share;
  Vec base;
};

CONVEC_INLINE Targets targets_of(const Labels& labels, const CrossEntropyOptions& options, std::int64_t row,
                                 std::int64_t classes) {
  return {labels.distribution == nullptr ? nullptr : labels.distribution + row * classes,
          labels.distribution == nullptr ? label_at(labels, row) : -1, vec_set(1.0F - options.label_smoothing),
          vec_set(options.label_smoothing / static_cast<float>(classes))};
}

// The targets of classes c to c + vec_width; 0 beyond the last.
CONVEC_INLINE Vec load_targets(const Targets& t, std::int64_t c, std::int64_t left) {
  Vec q = vec_zero();
  if (t.distribution != nullptr) {
    q = vec_load_some(t.distribution + c, left);
  } else if (t.label >= c && t.label < c + vec_width) {
    alignas(64) float hot[vec_width] = {};
    hot[t.label - c] = 1.0F;
    q = vec_load(hot);
  }
  return vec_fill_from(vec_fma(q, t.share, t.base), left, vec_zero());
}

CONVEC_INLINE Vec largest_of_row(const float* row, std::int64_t classes) {
  const Vec lowest = vec_set(-__builtin_inff());
  Vec largest = lowest;
  for (std::int64_t c = 0; c < classes; c += vec_width)
    largest = vec_max(largest, vec_fill_from(vec_load_some(row + c, classes - c), classes - c, lowest));
  return vec_set(vec_largest(largest));
}

CONVEC_INLINE float sum_of_row(const float* row, std::int64_t classes) {
  Vec sums = vec_zero();
  for (std::int64_t c = 0; c < classes; c += vec_width) sums = vec_add(sums, vec_load_some(row + c, classes - c));
  return vec_sum(sums);
}

CONVEC_INLINE Vec sum_of_exp(const float* row, std::int64_t classes, Vec peak) {
  Vec sums = vec_zero();
  for (std::int64_t c = 0; c < classes; c += vec_width) {
    const Vec e = vec_exp(vec_sub(vec_load_some(row + c, classes - c), peak));
    sums = vec_add(sums, vec_fill_from(e, classes - c, vec_zero()));
  }
  return vec_set(vec_sum(sums));
}

CONVEC_INLINE Vec clip_probability(Vec p) {
  return vec_clip(p, vec_set(smallest_probability), vec_set(1.0F - smallest_probability));
}

// All bits set where clip_probability passes a gradient.
CONVEC_INLINE VecInt inside_clip(Vec p) {
  return vec_less_equal(vec_set(smallest_probability), p) & vec_less_equal(p, vec_set(1.0F - smallest_probability));
}

void cross_entropy_forward(std::int64_t rows, std::int64_t classes, const float* input, const Labels& labels,
                           const CrossEntropyOptions& options, float* losses) {
  for (std::int64_t row = 0; row < rows; ++row, input += classes) {
    const Targets t = targets_of(labels, options, row, classes);
    Vec sums = vec_zero();
    if (options.from_logits) {
      // -log p = log(sum exp(x - peak)) + peak - x; the difference first, so that large logits cost no precision.
      const Vec peak = largest_of_row(input, classes);
      const Vec log_sum = vec_log(sum_of_exp(input, classes, peak));
      if (t.distribution == nullptr && options.label_smoothing == 0.0F) {
        losses[row] = vec_first(vec_add(log_sum, vec_sub(peak, vec_set(input[t.label]))));
        continue;
      }
      for (std::int64_t c = 0; c < classes; c += vec_width) {
        const Vec q = load_targets(t, c, classes - c);
        const Vec surprise = vec_add(log_sum, vec_sub(peak, vec_load_some(input + c, classes - c)));
        // A class with no weight does not count, even at minus infinity.
        sums = vec_add(sums, vec_select(vec_equal(q, vec_zero()), vec_zero(), vec_mul(q, surprise)));
      }
    } else {
      const Vec total = vec_set(t.distribution == nullptr ? 1.0F : sum_of_row(input, classes));
      if (t.distribution == nullptr && options.label_smoothing == 0.0F) {
        losses[row] = vec_first(vec_negate(vec_log(clip_probability(vec_set(input[t.label])))));
        continue;
      }
      for (std::int64_t c = 0; c < classes; c += vec_width) {
        const Vec q = load_targets(t, c, classes - c);
        const Vec p = clip_probability(vec_load_some(input + c, classes - c) / total);
        sums = vec_sub(sums, vec_fill_from(vec_mul(q, vec_log(p)), classes - c, vec_zero()));
      }
    }
    losses[row] = vec_sum(sums);
  }
}

void cross_entropy_backward(std::int64_t rows, std::int64_t classes, const float* grad_losses, const float* input,
                            const Labels& labels, const CrossEntropyOptions& options, float* grad_input) {
  for (std::int64_t row = 0; row < rows; ++row, input += classes, grad_input += classes) {
    const Targets t = targets_of(labels, options, row, classes);
    const Vec g = vec_set(grad_losses[row]);
    if (options.from_logits) {
      // g (p sum(q) - q); distributions need not sum to 1.
      const Vec peak = largest_of_row(input, classes);
      // The exponentials wait in the output, which may be the input itself.
      Vec sums = vec_zero();
      for (std::int64_t c = 0; c < classes; c += vec_width) {
        const Vec e = vec_exp(vec_sub(vec_load_some(input + c, classes - c), peak));
        vec_store_some(grad_input + c, e, classes - c);
        sums = vec_add(sums, vec_fill_from(e, classes - c, vec_zero()));
      }
      const Vec sum = vec_set(vec_sum(sums));
      Vec weight = vec_set(1.0F);
      if (t.distribution != nullptr)
        weight = vec_fma(vec_set(sum_of_row(t.distribution, classes)), t.share, vec_set(options.label_smoothing));
      const Vec scale = weight / sum;
      for (std::int64_t c = 0; c < classes; c += vec_width) {
        const Vec q = load_targets(t, c, classes - c);
        const Vec p = vec_mul(vec_load_some(grad_input + c, classes - c), scale);
        vec_store_some(grad_input + c, vec_mul(g, vec_sub(p, q)), classes - c);
      }
    } else if (t.distribution == nullptr) {
      // -g q / p where p is not clipped.
      for (std::int64_t c = 0; c < classes; c += vec_width) {
        const Vec p = vec_load_some(input + c, classes - c);
        const Vec q = load_targets(t, c, classes - c);
        const Vec slope = vec_negate(vec_mul(g, q) / p);
        vec_store_some(grad_input + c, vec_select(inside_clip(p), slope, vec_zero()), classes - c);
      }
    } else {
      // p = x / total: g (sum of the unclipped q - q / p where p is not clipped) / total.
      const Vec total = vec_set(sum_of_row(input, classes));
      Vec weights = vec_zero();
      for (std::int64_t c = 0; c < classes; c += vec_width) {
        const Vec p = vec_load_some(input + c, classes - c) / total;
        const Vec q = load_targets(t, c, classes - c);
        weights = vec_add(weights, vec_select(inside_clip(p), q, vec_zero()));
      }
      const Vec weight = vec_set(vec_sum(weights));
      for (std::int64_t c = 0; c < classes; c += vec_width) {
        const Vec p = vec_load_some(input + c, classes - c) / total;
        const Vec q = load_targets(t, c, classes - c);
        const Vec own = vec_select(inside_clip(p), q / p, vec_zero());
        vec_store_some(grad_input + c, vec_mul(g, vec_sub(weight, own)) / total, classes - c);
      }
    }
  }
}

template <typename Loss>
CONVEC_INLINE void row_means(std::int64_t rows, std::int64_t columns, const float* predictions, const float* targets,
                             float* losses, Loss loss) {
  for (std::int64_t row = 0; row < rows; ++row, predictions += columns, targets += columns) {
    Vec sums = vec_zero();
    for (std::int64_t c = 0; c < columns; c += vec_width) {
      const Vec value = loss(vec_load_some(predictions + c, columns - c), vec_load_some(targets + c, columns - c));
      sums = vec_add(sums, vec_fill_from(value, columns - c, vec_zero()));
    }
    losses[row] = vec_sum(sums) / static_cast<float>(columns);
  }
}

template <typename Slope>
CONVEC_INLINE void row_gradients(std::int64_t rows, std::int64_t columns, const float* grad_losses,
                                 const float* predictions, const float* targets, float* grad_predictions, Slope slope) {
  for (std::int64_t row = 0; row < rows; ++row) {
    const Vec g = vec_set(grad_losses[row] / static_cast<float>(columns));
    const float* p = predictions + row * columns;
    const float* t = targets + row * columns;
    float* out = grad_predictions + row * columns;
    for (std::int64_t c = 0; c < columns; c += vec_width)
      vec_store_some(out + c, vec_mul(g, slope(vec_load_some(p + c, columns - c), vec_load_some(t + c, columns - c))),
                     columns - c);
  }
}

void pointwise_forward(const PointwiseLossOptions& options, std::int64_t rows, std::int64_t columns,
                       const float* predictions, const float* targets, float* losses) {
  const Vec zero = vec_zero();
  const Vec one = vec_set(1.0F);
  const Vec half = vec_set(0.5F);
  const Vec keep = vec_set(1.0F - options.label_smoothing);
  const Vec shift = vec_set(0.5F * options.label_smoothing);
  switch (options.loss) {
    case PointwiseLoss::binary_crossentropy:
      if (options.from_logits)
        return row_means(rows, columns, predictions, targets, losses, [=](Vec x, Vec t) __attribute__((always_inline)) {
          // max(x, 0) - x t + log(1 + e^-|x|)
          t = vec_fma(t, keep, shift);
          const Vec positive = vec_select(vec_less(x, zero), zero, x);
          const Vec tail = vec_log1p(vec_exp(vec_negate(vec_abs(x))));
          return vec_add(vec_sub(positive, vec_mul(x, t)), tail);
        });
      return row_means(rows, columns, predictions, targets, losses, [=](Vec p, Vec t) __attribute__((always_inline)) {
        t = vec_fma(t, keep, shift);
        p = clip_probability(p);
        return vec_negate(vec_add(vec_mul(t, vec_log(p)), vec_mul(vec_sub(one, t), vec_log(vec_sub(one, p)))));
      });
    case PointwiseLoss::mean_squared_error:
      return row_means(rows, columns, predictions, targets, losses, [](Vec p, Vec t) __attribute__((always_inline)) {
        const Vec error = vec_sub(p, t);
        return vec_mul(error, error);
      });
    case PointwiseLoss::mean_absolute_error:
      return row_means(rows, columns, predictions, targets, losses,
                       [](Vec p, Vec t) __attribute__((always_inline)) { return vec_abs(vec_sub(p, t)); });
    case PointwiseLoss::huber:
      return row_means(rows, columns, predictions, targets, losses, [=](Vec p, Vec t) __attribute__((always_inline)) {
        const Vec error = vec_abs(vec_sub(p, t));
        return vec_select(vec_less(one, error), vec_sub(error, half), vec_mul(half, vec_mul(error, error)));
      });
  }
}

void pointwise_backward(const PointwiseLossOptions& options, std::int64_t rows, std::int64_t columns,
                        const float* grad_losses, const float* predictions, const float* targets,
                        float* grad_predictions) {
  const Vec one = vec_set(1.0F);
  const Vec keep = vec_set(1.0F - options.label_smoothing);
  const Vec shift = vec_set(0.5F * options.label_smoothing);
  switch (options.loss) {
    case PointwiseLoss::binary_crossentropy:
      if (options.from_logits)
        return row_gradients(rows, columns, grad_losses, predictions, targets, grad_predictions,
                             [=](Vec x, Vec t) __attribute__((always_inline)) {
                               return vec_sub(vec_sigmoid(x), vec_fma(t, keep, shift));
                             });
      return row_gradients(rows, columns, grad_losses, predictions, targets, grad_predictions,
                           [=](Vec p, Vec t) __attribute__((always_inline)) {
                             // (p - t) / (p (1 - p)) where p is not clipped
                             t = vec_fma(t, keep, shift);
                             const Vec slope = vec_sub(p, t) / vec_mul(p, vec_sub(one, p));
                             return vec_select(inside_clip(p), slope, vec_zero());
                           });
    case PointwiseLoss::mean_squared_error:
      return row_gradients(rows, columns, grad_losses, predictions, targets, grad_predictions,
                           [](Vec p, Vec t) __attribute__((always_inline)) {
                             const Vec error = vec_sub(p, t);
                             return vec_add(error, error);
                           });
    case PointwiseLoss::mean_absolute_error:
      return row_gradients(rows, columns, grad_losses, predictions, targets, grad_predictions,
                           [=](Vec p, Vec t) __attribute__((always_inline)) {
                             const Vec error = vec_sub(p, t);
                             return vec_select(vec_equal(error, vec_zero()), vec_zero(), vec_copysign(one, error));
                           });
    case PointwiseLoss::huber:
      return row_gradients(
          rows, columns, grad_losses, predictions, targets, grad_predictions,
          [=](Vec p, Vec t) __attribute__((always_inline)) { return vec_clip(vec_sub(p, t), vec_negate(one), one); });
  }
}

// Index of the first of the largest elements.
CONVEC_INLINE std::int64_t largest_index(const float* row, std::int64_t count) {
  std::int64_t best = 0;
  for (std::int64_t c = 1; c < count; ++c)
    if (row[c] > row[best]) best = c;
  return best;
}

// 1 where fewer than k predictions exceed that at `label`, which must not be NaN.
CONVEC_INLINE float in_top(const float* row, std::int64_t classes, std::int64_t label, std::int64_t k) {
  const float own = row[label];
  std::int64_t above = 0;
  for (std::int64_t c = 0; c < classes; ++c) above += row[c] > own ? 1 : 0;
  return above < k && own == own ? 1.0F : 0.0F;
}

// Share of the elements of each row that lie on the target's side of the threshold.
void binary_accuracy(float threshold, std::int64_t rows, std::int64_t columns, const float* predictions,
                     const float* targets, float* values) {
  for (std::int64_t row = 0; row < rows; ++row, predictions += columns, targets += columns) {
    std::int64_t right = 0;
    for (std::int64_t c = 0; c < columns; ++c)
      right += (predictions[c] > threshold ? 1.0F : 0.0F) == targets[c] ? 1 : 0;
    values[row] = static_cast<float>(right) / static_cast<float>(columns);
  }
}

void metric(const MetricOptions& options, std::int64_t rows, std::int64_t classes, const float* predictions,
            const Labels& labels, float* values) {
  if (options.metric == Metric::binary_accuracy)
    return binary_accuracy(options.threshold, rows, classes, predictions, labels.distribution, values);
  const bool top_k = options.metric == Metric::sparse_top_k_categorical_accuracy ||
                     options.metric == Metric::top_k_categorical_accuracy;
  for (std::int64_t row = 0; row < rows; ++row, predictions += classes) {
    const std::int64_t label = labels.distribution == nullptr
                                   ? label_at(labels, row)
                                   : largest_index(labels.distribution + row * classes, classes);
    if (top_k)
      values[row] = in_top(predictions, classes, label, options.k);
    else
      values[row] = largest_index(predictions, classes) == label ? 1.0F : 0.0F;
  }
}

}  // namespace

void fill_loss(LossKernels& kernels) {
  kernels.cross_entropy_forward = cross_entropy_forward;
  kernels.cross_entropy_backward = cross_entropy_backward;
  kernels.pointwise_forward = pointwise_forward;
  kernels.pointwise_backward = pointwise_backward;
  kernels.metric = metric;
}

}  // namespace convec::cpu::CONVEC_ISA_NAMESPACE
