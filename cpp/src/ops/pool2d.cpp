#include <convec/ops/pool2d.hpp>

#include <string>

#include "op_table.hpp"
#include "ops/check.hpp"
#include "ops/pool2d.hpp"
#include "ops/window.hpp"

namespace convec {

namespace {

void smaller_than_window(std::int64_t padding, std::int64_t window, const char* name) {
  check::at_least(padding, 0, name);
  if (padding >= window)
    throw ValueError(std::string(name) + " is " + std::to_string(padding) + ", but must be below the window's " +
                     std::to_string(window) + ": a window must not lie in the padding alone");
}

// The shape (batch, height, width, channels) of an image that is pooled as a whole.
void check_image(const ConstTensorView& image, const char* name) {
  check::rank(image, name, 4, "(batch, height, width, channels)");
  check::float32(image, name);
  static_cast<void>(image.shape.size());
  if (image.shape[1] < 1 || image.shape[2] < 1 || image.shape[3] < 1)
    throw ShapeError(std::string(name) + " has shape " + to_string(image.shape) +
                     ", but height, width and channels must be at least 1");
}

void check_pooled(const ConstTensorView& pooled, const char* name, const ConstTensorView& image,
                  const char* image_name) {
  check::argument(pooled, name, {image.shape[0], image.shape[3]}, "(batch, channels) of the image", image, image_name);
}

std::int64_t pixels(const Shape& image) { return image[1] * image[2]; }

}  // namespace

Pool2dProblem make_pool2d_problem(const Shape& input, const Pool2dOptions& options) {
  check::rank({nullptr, DType::float32, input}, "input", 4, "(batch, height, width, channels)");
  check::at_least(options.pool_size.height, 1, "pool_size[0]");
  check::at_least(options.pool_size.width, 1, "pool_size[1]");
  check::at_least(options.strides.height, 1, "strides[0]");
  check::at_least(options.strides.width, 1, "strides[1]");
  if (options.padding.mode == PaddingMode::explicit_) {
    smaller_than_window(options.padding.top, options.pool_size.height, "padding[0][0]");
    smaller_than_window(options.padding.bottom, options.pool_size.height, "padding[0][1]");
    smaller_than_window(options.padding.left, options.pool_size.width, "padding[1][0]");
    smaller_than_window(options.padding.right, options.pool_size.width, "padding[1][1]");
  }
  check::at_least(input[0], 0, "input.shape[0]");
  check::at_least(input[1], 1, "input.shape[1]");
  check::at_least(input[2], 1, "input.shape[2]");
  check::at_least(input[3], 1, "input.shape[3]");
  static_cast<void>(input.size());
  const WindowAxis rows = resolve_window("height", input[1], options.pool_size.height, options.strides.height, 1,
                                         options.padding.mode, options.padding.top, options.padding.bottom);
  const WindowAxis columns = resolve_window("width", input[2], options.pool_size.width, options.strides.width, 1,
                                            options.padding.mode, options.padding.left, options.padding.right);
  static_cast<void>(Shape{input[0], rows.output, columns.output, input[3]}.size());
  return {input[0],
          input[1],
          input[2],
          input[3],
          rows.output,
          columns.output,
          options.pool_size.height,
          options.pool_size.width,
          options.strides.height,
          options.strides.width,
          rows.before,
          columns.before};
}

Shape pool2d_output_shape(const Shape& input, const Pool2dOptions& options) {
  const Pool2dProblem p = make_pool2d_problem(input, options);
  return {p.batch, p.out_height, p.out_width, p.channels};
}

namespace {

// `image` and `pooled` are input and output, or their gradients.
Pool2dProblem check_pair(const ConstTensorView& image, const char* image_name, const ConstTensorView& pooled,
                         const char* pooled_name, const Pool2dOptions& options) {
  const Pool2dProblem p = make_pool2d_problem(image.shape, options);
  check::float32(image, image_name);
  check::argument(pooled, pooled_name, {p.batch, p.out_height, p.out_width, p.channels},
                  "what the input's shape, pool_size, strides and padding give", image, image_name);
  check::no_overlap(pooled, pooled_name, image, image_name);
  return p;
}

}  // namespace

void max_pool2d_forward(const Context& context, ConstTensorView input, const Pool2dOptions& options,
                        TensorView output) {
  const Pool2dProblem p = check_pair(input, "input", output, "output", options);
  if (p.batch == 0) return;
  op_table(input.device).max_pool2d_forward(context, p, input.f32(), output.f32());
}

void max_pool2d_backward(const Context& context, ConstTensorView grad_output, ConstTensorView input,
                         const Pool2dOptions& options, TensorView grad_input) {
  const Pool2dProblem p = check_pair(input, "input", grad_output, "grad_output", options);
  check::argument(grad_input, "grad_input", input.shape, "the shape of input", input, "input");
  check::no_overlap(grad_input, "grad_input", input, "input");
  check::no_overlap(grad_input, "grad_input", grad_output, "grad_output");
  if (p.batch == 0) return;
  op_table(input.device).max_pool2d_backward(context, p, grad_output.f32(), input.f32(), grad_input.f32());
}

void average_pool2d_forward(const Context& context, ConstTensorView input, const Pool2dOptions& options,
                            TensorView output) {
  const Pool2dProblem p = check_pair(input, "input", output, "output", options);
  if (p.batch == 0) return;
  op_table(input.device).average_pool2d_forward(context, p, input.f32(), output.f32());
}

void average_pool2d_backward(const Context& context, ConstTensorView grad_output, const Pool2dOptions& options,
                             TensorView grad_input) {
  const Pool2dProblem p = check_pair(grad_input, "grad_input", grad_output, "grad_output", options);
  if (p.batch == 0) return;
  op_table(grad_output.device).average_pool2d_backward(context, p, grad_output.f32(), grad_input.f32());
}

void global_average_pool2d_forward(const Context& context, ConstTensorView input, TensorView output) {
  check_image(input, "input");
  check_pooled(output, "output", input, "input");
  check::no_overlap(output, "output", input, "input");
  if (input.shape[0] == 0) return;
  op_table(input.device)
      .global_average_pool2d_forward(context, input.shape[0], pixels(input.shape), input.shape[3], input.f32(),
                                     output.f32());
}

void global_average_pool2d_backward(const Context& context, ConstTensorView grad_output, TensorView grad_input) {
  check_image(grad_input, "grad_input");
  check_pooled(grad_output, "grad_output", grad_input, "grad_input");
  check::no_overlap(grad_input, "grad_input", grad_output, "grad_output");
  const Shape& image = grad_input.shape;
  if (image[0] == 0) return;
  op_table(grad_output.device)
      .global_average_pool2d_backward(context, image[0], pixels(image), image[3], grad_output.f32(), grad_input.f32());
}

void global_max_pool2d_forward(const Context& context, ConstTensorView input, TensorView output) {
  check_image(input, "input");
  check_pooled(output, "output", input, "input");
  check::no_overlap(output, "output", input, "input");
  if (input.shape[0] == 0) return;
  op_table(input.device)
      .global_max_pool2d_forward(context, input.shape[0], pixels(input.shape), input.shape[3], input.f32(),
                                 output.f32());
}

void global_max_pool2d_backward(const Context& context, ConstTensorView grad_output, ConstTensorView input,
                                TensorView grad_input) {
  check_image(input, "input");
  check_pooled(grad_output, "grad_output", input, "input");
  check::argument(grad_input, "grad_input", input.shape, "the shape of input", input, "input");
  check::no_overlap(grad_input, "grad_input", input, "input");
  check::no_overlap(grad_input, "grad_input", grad_output, "grad_output");
  if (input.shape[0] == 0) return;
  op_table(input.device)
      .global_max_pool2d_backward(context, input.shape[0], pixels(input.shape), input.shape[3], grad_output.f32(),
                                  input.f32(), grad_input.f32());
}

}  // namespace convec
