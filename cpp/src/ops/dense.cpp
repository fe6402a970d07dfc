#include <convec/ops/dense.hpp>

#include "op_table.hpp"
#include "ops/check.hpp"

namespace convec {

namespace {

DenseProblem make_problem(const ConstTensorView& input, const char* input_name, const ConstTensorView& weights,
                          const char* weights_name, const ConstTensorView& output, const char* output_name) {
  check::rank(input, input_name, 2, "(batch, in)");
  check::rank(weights, weights_name, 2, "(in, units)");
  check::rank(output, output_name, 2, "(batch, units)");
  for (const auto& [view, name] :
       {std::pair{&input, input_name}, std::pair{&weights, weights_name}, std::pair{&output, output_name}}) {
    check::float32(*view, name);
    check::same_device(input, input_name, *view, name);
    static_cast<void>(view->shape.size());
  }
  const DenseProblem p{input.shape[0], weights.shape[0], weights.shape[1]};
  check::at_least(p.in, 1, "in");
  check::at_least(p.units, 1, "units");
  check::shape(input, input_name, {p.batch, p.in}, "(batch, in) for the weights' (in, units)");
  check::shape(output, output_name, {p.batch, p.units}, "(batch, units) for the input's batch and the weights' units");
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
  const DenseProblem p = make_problem(input, "input", weights, "weights", output, "output");
  check_bias(bias, "bias", p, input);
  check::no_overlap(output, "output", input, "input");
  check::no_overlap(output, "output", weights, "weights");
  if (p.batch == 0) return;
  op_table(input.device)
      .dense_forward(context, p, input.f32(), weights.f32(), nullptr, bias.f32(), activation, output.f32());
}

void dense_backward_input(const Context& context, ConstTensorView grad_output, ConstTensorView weights,
                          TensorView grad_input) {
  const DenseProblem p = make_problem(grad_input, "grad_input", weights, "weights", grad_output, "grad_output");
  check::no_overlap(grad_input, "grad_input", grad_output, "grad_output");
  check::no_overlap(grad_input, "grad_input", weights, "weights");
  if (p.batch == 0) return;
  op_table(grad_output.device).dense_backward_input(context, p, grad_output.f32(), weights.f32(), grad_input.f32());
}

void dense_backward_weights(const Context& context, ConstTensorView input, ConstTensorView grad_output,
                            TensorView grad_weights, TensorView grad_bias) {
  const DenseProblem p = make_problem(input, "input", grad_weights, "grad_weights", grad_output, "grad_output");
  check_bias(grad_bias, "grad_bias", p, input);
  check::no_overlap(grad_weights, "grad_weights", input, "input");
  check::no_overlap(grad_weights, "grad_weights", grad_output, "grad_output");
  op_table(input.device)
      .dense_backward_weights(context, p, input.f32(), grad_output.f32(), grad_weights.f32(), grad_bias.f32());
}

}  // namespace convec
