#include <convec/ops/dense.hpp>

#include "op_table.hpp"
#include "ops/check.hpp"

namespace convec {

namespace {

struct Argument {
  const ConstTensorView& view;
  const char* name;
};

// `input` and `output` may be those of the gradient.
DenseProblem make_problem(const Argument& input, const Argument& weights, const Argument& output) {
  check::rank(input.view, input.name, 2, "(batch, in)");
  check::rank(weights.view, weights.name, 2, "(in, units)");
  check::rank(output.view, output.name, 2, "(batch, units)");
  for (const Argument* other : {&weights, &output})
    check::same_device(input.view, input.name, other->view, other->name);
  for (const Argument* each : {&input, &weights, &output}) static_cast<void>(each->view.shape.size());
  const DenseProblem p{input.view.shape[0], weights.view.shape[0], weights.view.shape[1]};
  check::at_least(p.in, 1, "in");
  check::at_least(p.units, 1, "units");
  check::shape(input.view, input.name, {p.batch, p.in}, "(batch, in) for the weights' (in, units)");
  check::shape(output.view, output.name, {p.batch, p.units},
               "(batch, units) for the input's batch and the weights' units");
  return p;
}

void check_bias(const ConstTensorView& bias, const char* name, const DenseProblem& p, const ConstTensorView& input) {
  if (!bias.present()) return;
  check::float32(bias, name);
  check::shape(bias, name, {p.units}, "one number a unit");
  check::same_device(input, "input", bias, name);
}

}  // namespace

void dense_forward(const Context& context, ConstTensorView input, ConstTensorView weights, ConstTensorView bias,
                   Activation activation, TensorView output) {
  check::factor(weights, "weights", input, "input");
  check::factor(output, "output", input, "input");
  const DenseProblem p = make_problem({input, "input"}, {weights, "weights"}, {output, "output"});
  check_bias(bias, "bias", p, input);
  check::no_overlap(output, "output", input, "input");
  check::no_overlap(output, "output", weights, "weights");
  if (p.batch == 0) return;
  const OpTable& table = op_table(input.device);
  if (input.dtype == DType::bfloat16)
    table.dense_forward_bfloat16(context, p, input.bf16(), weights.bf16(), bias.f32(), activation, output.bf16());
  else
    table.dense_forward(context, p, input.f32(), weights.f32(), nullptr, bias.f32(), activation, output.f32());
}

void dense_backward_input(const Context& context, ConstTensorView grad_output, ConstTensorView weights,
                          TensorView grad_input) {
  check::factor(weights, "weights", grad_output, "grad_output");
  check::factor(grad_input, "grad_input", grad_output, "grad_output");
  const DenseProblem p = make_problem({grad_input, "grad_input"}, {weights, "weights"}, {grad_output, "grad_output"});
  check::no_overlap(grad_input, "grad_input", grad_output, "grad_output");
  check::no_overlap(grad_input, "grad_input", weights, "weights");
  if (p.batch == 0) return;
  const OpTable& table = op_table(grad_output.device);
  if (grad_output.dtype == DType::bfloat16)
    table.dense_backward_input_bfloat16(context, p, grad_output.bf16(), weights.bf16(), grad_input.bf16());
  else
    table.dense_backward_input(context, p, grad_output.f32(), weights.f32(), grad_input.f32());
}

void dense_backward_weights(const Context& context, ConstTensorView input, ConstTensorView grad_output,
                            TensorView grad_weights, TensorView grad_bias) {
  check::factor(grad_output, "grad_output", input, "input");
  check::float32(grad_weights, "grad_weights");
  const DenseProblem p = make_problem({input, "input"}, {grad_weights, "grad_weights"}, {grad_output, "grad_output"});
  check_bias(grad_bias, "grad_bias", p, input);
  check::no_overlap(grad_weights, "grad_weights", input, "input");
  check::no_overlap(grad_weights, "grad_weights", grad_output, "grad_output");
  const OpTable& table = op_table(input.device);
  if (input.dtype == DType::bfloat16)
    table.dense_backward_weights_bfloat16(context, p, input.bf16(), grad_output.bf16(), grad_weights.f32(),
                                          grad_bias.f32());
  else
    table.dense_backward_weights(context, p, input.f32(), grad_output.f32(), grad_weights.f32(), grad_bias.f32());
}

}  // namespace convec
