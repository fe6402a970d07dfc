#include <convec/ops/batch_norm.hpp>

#include <string>

#include "op_table.hpp"
#include "ops/check.hpp"

namespace convec {

namespace {

struct Sizes {
  std::int64_t rows;
  std::int64_t channels;
};

Sizes sizes_of(const ConstTensorView& input) {
  const int rank = input.shape.rank();
  if (rank < 2)
    throw ShapeError("input has shape " + to_string(input.shape) +
                     ", but must have at least 2 dimensions (batch, ..., channels)");
  check::float32(input, "input");
  const std::int64_t channels = input.shape[rank - 1];
  if (channels < 1)
    throw ShapeError("input has shape " + to_string(input.shape) + ", but must have at least one channel");
  return {input.shape.size() / channels, channels};
}

void check_channels(const ConstTensorView& tensor, const char* name, std::int64_t channels,
                    const ConstTensorView& input) {
  check::argument(tensor, name, {channels}, "one number a channel", input, "input");
}

void check_optional(const ConstTensorView& tensor, const char* name, std::int64_t channels,
                    const ConstTensorView& input) {
  if (tensor.present()) check_channels(tensor, name, channels, input);
}

void check_epsilon(float epsilon) {
  if (epsilon > 0.0F) return;
  throw ValueError("epsilon is " + std::to_string(epsilon) + ", but must be positive");
}

void not_empty(const Sizes& sizes, const ConstTensorView& input) {
  if (sizes.rows == 0)
    throw ShapeError("input has shape " + to_string(input.shape) + ", but an empty batch has no mean and variance");
}

}  // namespace

void batch_norm_forward_training(const Context& context, ConstTensorView input, ConstTensorView gamma,
                                 ConstTensorView beta, float momentum, float epsilon, TensorView moving_mean,
                                 TensorView moving_variance, TensorView batch_mean, TensorView batch_inverse_std,
                                 TensorView output) {
  const Sizes sizes = sizes_of(input);
  not_empty(sizes, input);
  check_epsilon(epsilon);
  if (!(momentum >= 0.0F && momentum <= 1.0F))
    throw ValueError("momentum is " + std::to_string(momentum) + ", but must be at least 0 and at most 1");
  check_optional(gamma, "gamma", sizes.channels, input);
  check_optional(beta, "beta", sizes.channels, input);
  check_channels(moving_mean, "moving_mean", sizes.channels, input);
  check_channels(moving_variance, "moving_variance", sizes.channels, input);
  check_channels(batch_mean, "batch_mean", sizes.channels, input);
  check_channels(batch_inverse_std, "batch_inverse_std", sizes.channels, input);
  check::argument(output, "output", input.shape, "the shape of input", input, "input");
  check::in_place_or_apart(output, "output", input, "input");
  op_table(input.device)
      .batch_norm_forward_training(context, sizes.rows, sizes.channels, input.f32(), gamma.f32(), beta.f32(), momentum,
                                   epsilon, moving_mean.f32(), moving_variance.f32(), batch_mean.f32(),
                                   batch_inverse_std.f32(), output.f32());
}

void batch_norm_forward_inference(const Context& context, ConstTensorView input, ConstTensorView gamma,
                                  ConstTensorView beta, ConstTensorView moving_mean, ConstTensorView moving_variance,
                                  float epsilon, TensorView output) {
  const Sizes sizes = sizes_of(input);
  check_epsilon(epsilon);
  check_optional(gamma, "gamma", sizes.channels, input);
  check_optional(beta, "beta", sizes.channels, input);
  check_channels(moving_mean, "moving_mean", sizes.channels, input);
  check_channels(moving_variance, "moving_variance", sizes.channels, input);
  check::argument(output, "output", input.shape, "the shape of input", input, "input");
  check::in_place_or_apart(output, "output", input, "input");
  if (sizes.rows == 0) return;
  op_table(input.device)
      .batch_norm_forward_inference(context, sizes.rows, sizes.channels, input.f32(), gamma.f32(), beta.f32(),
                                    moving_mean.f32(), moving_variance.f32(), epsilon, output.f32());
}

void batch_norm_backward(const Context& context, ConstTensorView grad_output, ConstTensorView input,
                         ConstTensorView gamma, ConstTensorView batch_mean, ConstTensorView batch_inverse_std,
                         TensorView grad_input, TensorView grad_gamma, TensorView grad_beta) {
  const Sizes sizes = sizes_of(input);
  not_empty(sizes, input);
  check::argument(grad_output, "grad_output", input.shape, "the shape of input", input, "input");
  check_optional(gamma, "gamma", sizes.channels, input);
  check_channels(batch_mean, "batch_mean", sizes.channels, input);
  check_channels(batch_inverse_std, "batch_inverse_std", sizes.channels, input);
  check::argument(grad_input, "grad_input", input.shape, "the shape of input", input, "input");
  check::in_place_or_apart(grad_input, "grad_input", input, "input");
  check::in_place_or_apart(grad_input, "grad_input", grad_output, "grad_output");
  check_optional(grad_gamma, "grad_gamma", sizes.channels, input);
  check_optional(grad_beta, "grad_beta", sizes.channels, input);
  op_table(input.device)
      .batch_norm_backward(context, sizes.rows, sizes.channels, grad_output.f32(), input.f32(), gamma.f32(),
                           batch_mean.f32(), batch_inverse_std.f32(), grad_input.f32(), grad_gamma.f32(),
                           grad_beta.f32());
}

}  // namespace convec
