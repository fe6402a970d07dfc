// What a network needs besides ops to run whole steps on a device (Backend has what each does).
#pragma once

#include <vector>

#include "backend.hpp"

namespace convec::cuda {

void begin_step(const Context& context, const OptimizerOptions& options, const EpochSource* source, StepState* state);
void gather(const Context& context, const EpochSource* source, const StepState* state, const GatheredBatch& batch);
void add_to_totals(const Context& context, std::int64_t size, std::int64_t mean_over, const float* values,
                   const float* weights, double* totals, float* gradients);
void dropout_at_step(const Context& context, float rate, std::uint64_t seed, const StepState* state, std::int64_t size,
                     const float* input, float* output);
void optimizer_at_step(const Context& context, const OptimizerOptions& options, const StepState* state,
                       std::int64_t size, float* parameter, const float* gradient, float* const* slots,
                       const float* gradient_scale);
void clip_scale(const Context& context, const std::vector<const float*>& arrays, const std::vector<std::int64_t>& sizes,
                float norm, float* scale);

}  // namespace convec::cuda
