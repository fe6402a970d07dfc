#include <convec/ops/conv2d.hpp>

#include <string>

#include "op_table.hpp"
#include "ops/check.hpp"
#include "ops/conv2d.hpp"
#include "ops/window.hpp"

namespace convec {

Conv2dProblem make_conv2d_problem(const Shape& input, const Shape& filters, const Conv2dOptions& options) {
  check::rank({nullptr, DType::float32, input}, "input", 4, "(batch, height, width, channels)");
  check::rank({nullptr, DType::float32, filters}, "filters", 4, "(rows, columns, channels / groups, filters)");
  check::at_least(options.strides.height, 1, "strides[0]");
  check::at_least(options.strides.width, 1, "strides[1]");
  check::at_least(options.dilation.height, 1, "dilation[0]");
  check::at_least(options.dilation.width, 1, "dilation[1]");
  check::at_least(options.groups, 1, "groups");
  if (options.padding.mode == PaddingMode::explicit_) {
    check::at_least(options.padding.top, 0, "padding[0][0]");
    check::at_least(options.padding.bottom, 0, "padding[0][1]");
    check::at_least(options.padding.left, 0, "padding[1][0]");
    check::at_least(options.padding.right, 0, "padding[1][1]");
  }
  check::at_least(filters[0], 1, "filters.shape[0]");
  check::at_least(filters[1], 1, "filters.shape[1]");
  check::at_least(filters[2], 1, "filters.shape[2]");
  check::at_least(filters[3], 1, "filters.shape[3]");
  check::at_least(input[0], 0, "input.shape[0]");
  check::at_least(input[1], 1, "input.shape[1]");
  check::at_least(input[2], 1, "input.shape[2]");
  static_cast<void>(input.size());
  static_cast<void>(filters.size());
  if (input[3] != filters[2] * options.groups)
    throw ShapeError("input has " + std::to_string(input[3]) + " channels, but filters of shape " + to_string(filters) +
                     " with groups=" + std::to_string(options.groups) + " expect " +
                     std::to_string(filters[2] * options.groups));
  if (filters[3] % options.groups != 0)
    throw ShapeError("filters has " + std::to_string(filters[3]) +
                     " filters, which groups=" + std::to_string(options.groups) + " does not divide");
  const WindowAxis rows =
      resolve_window("height", input[1], filters[0], options.strides.height, options.dilation.height,
                     options.padding.mode, options.padding.top, options.padding.bottom);
  const WindowAxis columns =
      resolve_window("width", input[2], filters[1], options.strides.width, options.dilation.width, options.padding.mode,
                     options.padding.left, options.padding.right);
  static_cast<void>(Shape{input[0], rows.output, columns.output, filters[3]}.size());
  return {input[0],
          input[1],
          input[2],
          input[3],
          rows.output,
          columns.output,
          filters[3],
          filters[0],
          filters[1],
          options.strides.height,
          options.strides.width,
          options.dilation.height,
          options.dilation.width,
          rows.before,
          rows.after,
          columns.before,
          columns.after,
          options.groups};
}

Shape conv2d_output_shape(const Shape& input, const Shape& filters, const Conv2dOptions& options) {
  const Conv2dProblem p = make_conv2d_problem(input, filters, options);
  return {p.batch, p.out_height, p.out_width, p.filters};
}

void conv2d_forward(const Context& context, ConstTensorView input, ConstTensorView filters, ConstTensorView bias,
                    const Conv2dOptions& options, Activation activation, TensorView output) {
  const Conv2dProblem p = make_conv2d_problem(input.shape, filters.shape, options);
  check::factor(filters, "filters", input, "input");
  check::same_device(input, "input", filters, "filters");
  if (bias.present()) {
    check::float32(bias, "bias");
    check::shape(bias, "bias", {p.filters}, "one number a filter");
    check::same_device(input, "input", bias, "bias");
  }
  check::factor(output, "output", input, "input");
  check::shape(output, "output", {p.batch, p.out_height, p.out_width, p.filters},
               "what input, filters, strides and padding give");
  check::same_device(input, "input", output, "output");
  check::no_overlap(output, "output", input, "input");
  check::no_overlap(output, "output", filters, "filters");
  if (p.batch == 0) return;
  const OpTable& table = op_table(input.device);
  if (input.dtype == DType::bfloat16)
    table.conv2d_forward_bfloat16(context, p, input.bf16(), filters.bf16(), bias.f32(), activation, output.bf16());
  else
    table.conv2d_forward(context, p, input.f32(), filters.f32(), nullptr, bias.f32(), activation, output.f32());
}

void conv2d_backward_input(const Context& context, ConstTensorView grad_output, ConstTensorView filters,
                           const Conv2dOptions& options, TensorView grad_input) {
  const Conv2dProblem p = make_conv2d_problem(grad_input.shape, filters.shape, options);
  check::factor(filters, "filters", grad_output, "grad_output");
  check::factor(grad_input, "grad_input", grad_output, "grad_output");
  check::shape(grad_output, "grad_output", {p.batch, p.out_height, p.out_width, p.filters},
               "the shape of the forward output for this input");
  check::same_device(grad_output, "grad_output", filters, "filters");
  check::same_device(grad_output, "grad_output", grad_input, "grad_input");
  check::no_overlap(grad_input, "grad_input", grad_output, "grad_output");
  check::no_overlap(grad_input, "grad_input", filters, "filters");
  if (p.batch == 0) return;
  const OpTable& table = op_table(grad_output.device);
  if (grad_output.dtype == DType::bfloat16)
    table.conv2d_backward_input_bfloat16(context, p, grad_output.bf16(), filters.bf16(), grad_input.bf16());
  else
    table.conv2d_backward_input(context, p, grad_output.f32(), filters.f32(), grad_input.f32());
}

void conv2d_backward_filters(const Context& context, ConstTensorView input, ConstTensorView grad_output,
                             const Conv2dOptions& options, TensorView grad_filters, TensorView grad_bias) {
  const Conv2dProblem p = make_conv2d_problem(input.shape, grad_filters.shape, options);
  check::factor(grad_output, "grad_output", input, "input");
  check::float32(grad_filters, "grad_filters");
  check::shape(grad_output, "grad_output", {p.batch, p.out_height, p.out_width, p.filters},
               "the shape of the forward output for this input and kernel_size");
  check::same_device(input, "input", grad_output, "grad_output");
  check::same_device(input, "input", grad_filters, "grad_filters");
  check::no_overlap(grad_filters, "grad_filters", input, "input");
  check::no_overlap(grad_filters, "grad_filters", grad_output, "grad_output");
  if (grad_bias.present()) {
    check::float32(grad_bias, "grad_bias");
    check::shape(grad_bias, "grad_bias", {p.filters}, "one number a filter");
    check::same_device(input, "input", grad_bias, "grad_bias");
  }
  const OpTable& table = op_table(input.device);
  if (input.dtype == DType::bfloat16)
    table.conv2d_backward_filters_bfloat16(context, p, input.bf16(), grad_output.bf16(), grad_filters.f32(),
                                           grad_bias.f32());
  else
    table.conv2d_backward_filters(context, p, input.f32(), grad_output.f32(), grad_filters.f32(), grad_bias.f32());
}

}  // namespace convec
