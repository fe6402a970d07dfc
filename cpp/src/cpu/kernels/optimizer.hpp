// One fused pass of an optimizer over an array.
#pragma once

#include <cstdint>

#include <convec/ops/optimizer.hpp>

namespace convec::cpu {

struct OptimizerKernels {
  // `rate` is the learning rate, for Adam with its bias correction.
  void (*step)(const OptimizerOptions&, float rate, std::int64_t size, float* parameter, const float* gradient,
               float* const* slots, float gradient_scale);
  // In double precision; float products are exact there.
  double (*sum_of_squares)(std::int64_t size, const float* array);
};

}  // namespace convec::cpu
