#include <convec/ops/activation.hpp>

#include <cstring>
#include <string>

#include "op_table.hpp"
#include "ops/check.hpp"

namespace convec {

namespace {

constexpr Activation activations[] = {Activation::linear,     Activation::relu,    Activation::relu6,
                                      Activation::leaky_relu, Activation::elu,     Activation::selu,
                                      Activation::gelu,       Activation::silu,    Activation::sigmoid,
                                      Activation::tanh,       Activation::softplus};

// Checks an element-wise op and returns the number of elements.
std::int64_t check_elementwise(const ConstTensorView& input, const TensorView& output) {
  check::float32(input, "input");
  check::argument(output, "output", input.shape, "the shape of input", input, "input");
  check::in_place_or_apart(output, "output", input, "input");
  return input.shape.size();
}

// Checks the arguments of softmax or its gradient and returns the number of rows.
std::int64_t check_rows(const ConstTensorView& input, const char* name) {
  if (input.shape.rank() < 1)
    throw ShapeError(std::string(name) + " is a scalar, but must have at least 1 dimension (..., classes)");
  check::float32(input, name);
  const std::int64_t classes = input.shape[input.shape.rank() - 1];
  if (classes < 1)
    throw ShapeError(std::string(name) + " has shape " + to_string(input.shape) +
                     ", but its last axis must not be empty");
  return input.shape.size() / classes;
}

}  // namespace

const char* name_of(Activation activation) noexcept {
  switch (activation) {
    case Activation::linear:
      return "linear";
    case Activation::relu:
      return "relu";
    case Activation::relu6:
      return "relu6";
    case Activation::leaky_relu:
      return "leaky_relu";
    case Activation::elu:
      return "elu";
    case Activation::selu:
      return "selu";
    case Activation::gelu:
      return "gelu";
    case Activation::silu:
      return "silu";
    case Activation::sigmoid:
      return "sigmoid";
    case Activation::tanh:
      return "tanh";
    case Activation::softplus:
      return "softplus";
  }
  return "?";
}

Activation parse_activation(const char* name) {
  std::string names;
  for (const Activation activation : activations) {
    if (std::strcmp(name, name_of(activation)) == 0) return activation;
    names += std::string(names.empty() ? "" : ", ") + name_of(activation);
  }
  throw ValueError("activation is '" + std::string(name) + "', but must be one of " + names);
}

void activation_forward(const Context& context, Activation activation, ConstTensorView input, TensorView output) {
  const std::int64_t size = check_elementwise(input, output);
  if (size == 0) return;
  op_table(input.device).activation_forward(context, activation, size, input.f32(), output.f32());
}

void activation_backward(const Context& context, Activation activation, ConstTensorView grad_output,
                         ConstTensorView input, TensorView grad_input) {
  check::float32(input, "input");
  check::argument(grad_output, "grad_output", input.shape, "the shape of input", input, "input");
  check::argument(grad_input, "grad_input", input.shape, "the shape of input", input, "input");
  check::in_place_or_apart(grad_input, "grad_input", input, "input");
  check::in_place_or_apart(grad_input, "grad_input", grad_output, "grad_output");
  const std::int64_t size = input.shape.size();
  if (size == 0) return;
  op_table(input.device)
      .activation_backward(context, activation, size, grad_output.f32(), input.f32(), grad_input.f32());
}

void softmax_forward(const Context& context, ConstTensorView input, TensorView output) {
  const std::int64_t rows = check_rows(input, "input");
  check::argument(output, "output", input.shape, "the shape of input", input, "input");
  check::in_place_or_apart(output, "output", input, "input");
  if (rows == 0) return;
  op_table(input.device).softmax_forward(context, rows, input.shape[input.shape.rank() - 1], input.f32(), output.f32());
}

void softmax_backward(const Context& context, ConstTensorView grad_output, ConstTensorView output,
                      TensorView grad_input) {
  const std::int64_t rows = check_rows(output, "output");
  check::argument(grad_output, "grad_output", output.shape, "the shape of output", output, "output");
  check::argument(grad_input, "grad_input", output.shape, "the shape of output", output, "output");
  check::in_place_or_apart(grad_input, "grad_input", output, "output");
  check::in_place_or_apart(grad_input, "grad_input", grad_output, "grad_output");
  if (rows == 0) return;
  op_table(output.device)
      .softmax_backward(context, rows, output.shape[output.shape.rank() - 1], grad_output.f32(), output.f32(),
                        grad_input.f32());
}

void dropout(const Context& context, float rate, std::uint64_t seed, std::uint64_t offset, ConstTensorView input,
             TensorView output) {
  check::in_range(rate, 0.0F, 1.0F, "rate");
  const std::int64_t size = check_elementwise(input, output);
  if (size == 0) return;
  op_table(input.device).dropout(context, rate, seed, offset, size, input.f32(), output.f32());
}

void rescale(const Context& context, float scale, float offset, ConstTensorView input, TensorView output) {
  const std::int64_t size = check_elementwise(input, output);
  if (size == 0) return;
  op_table(input.device).rescale(context, scale, offset, size, input.f32(), output.f32());
}

}  // namespace convec
