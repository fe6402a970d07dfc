// Kernels of losses and metrics, over rows of predictions.
#pragma once

#include <cstdint>

#include "op_table.hpp"

namespace convec::cpu {

struct LossKernels {
  // Labels start at the first of the rows.
  void (*cross_entropy_forward)(std::int64_t rows, std::int64_t classes, const float* input, const Labels&,
                                const CrossEntropyOptions&, float* losses);
  void (*cross_entropy_backward)(std::int64_t rows, std::int64_t classes, const float* grad_losses, const float* input,
                                 const Labels&, const CrossEntropyOptions&, float* grad_input);
  void (*pointwise_forward)(const PointwiseLossOptions&, std::int64_t rows, std::int64_t columns,
                            const float* predictions, const float* targets, float* losses);
  void (*pointwise_backward)(const PointwiseLossOptions&, std::int64_t rows, std::int64_t columns,
                             const float* grad_losses, const float* predictions, const float* targets,
                             float* grad_predictions);
  void (*metric)(const MetricOptions&, std::int64_t rows, std::int64_t classes, const float* predictions, const Labels&,
                 float* values);
};

}  // namespace convec::cpu
