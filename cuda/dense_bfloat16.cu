// Dense layers of bfloat16 arrays: by cuBLASLt where there is one (cublas_lt.hpp), else by matmul.hpp.
#include "cublas_lt.hpp"
#include "cuda_table.hpp"
#include "dense_products.hpp"
#include "widened.hpp"

namespace convec::cuda {

namespace {

bool taken(const Context& context, const DenseProblem& p, const BFloat16* one, const BFloat16* other) {
  return takes_bfloat16(context, {p.in, p.units}, one, other);
}

template <bool AlongA, bool AlongB, typename Result>
void multiply(const Context& context, const BFloat16* a, int64_t a_stride, const BFloat16* b, int64_t b_stride,
              const float* bias, Activation activation, Result* c, int64_t rows, int64_t columns, int64_t depth) {
  Scratch scratch(context);
  // Its bias would be bfloat16.
  CublasLt* const library = bias == nullptr ? cublas_lt() : nullptr;
  if (library != nullptr) {
    LtProduct product{rows, columns, depth, a, !AlongA, b, AlongB, c, bias, activation};
    product.factors = DType::bfloat16;
    product.result = std::is_same_v<Result, BFloat16> ? DType::bfloat16 : DType::float32;
    if (library->multiply(context, scratch, product)) return;
  }
  multiply_matrices<AlongA, AlongB>(context, scratch, a, a_stride, b, b_stride, bias, activation, c, rows, columns,
                                    depth);
}

void dense_forward(const Context& context, const DenseProblem& p, const BFloat16* input, const BFloat16* weights,
                   const float* bias, Activation activation, BFloat16* output) {
  if (taken(context, p, input, weights)) {
    multiply<true, false>(context, input, p.in, weights, p.units, bias, activation, output, p.batch, p.units, p.in);
    return;
  }
  Widened in(context);
  const float* const wide_input = in.copy(p.batch * p.in, input);
  const float* const wide_weights = in.copy(p.in * p.units, weights);
  float* const wide_output = in.take(p.batch * p.units);
  Widened::ops().dense_forward(in.context(), p, wide_input, wide_weights, nullptr, bias, activation, wide_output);
  narrow(context, p.batch * p.units, wide_output, output);
}

void dense_backward_input(const Context& context, const DenseProblem& p, const BFloat16* grad_output,
                          const BFloat16* weights, BFloat16* grad_input) {
  if (taken(context, p, grad_output, weights)) {
    multiply<true, true>(context, grad_output, p.units, weights, p.units, nullptr, Activation::linear, grad_input,
                         p.batch, p.in, p.units);
    return;
  }
  Widened in(context);
  const float* const wide_gradient = in.copy(p.batch * p.units, grad_output);
  const float* const wide_weights = in.copy(p.in * p.units, weights);
  float* const wide_result = in.take(p.batch * p.in);
  Widened::ops().dense_backward_input(in.context(), p, wide_gradient, wide_weights, wide_result);
  narrow(context, p.batch * p.in, wide_result, grad_input);
}

void dense_backward_weights(const Context& context, const DenseProblem& p, const BFloat16* input,
                            const BFloat16* grad_output, float* grad_weights, float* grad_bias) {
  if (taken(context, p, input, grad_output)) {
    multiply<false, false>(context, input, p.in, grad_output, p.units, nullptr, Activation::linear, grad_weights, p.in,
                           p.units, p.batch);
    if (grad_bias == nullptr) return;
    const Scratch scratch(context);
    column_sums(context, p.batch, p.units, grad_output, grad_bias);
    return;
  }
  Widened in(context);
  const float* const wide_input = in.copy(p.batch * p.in, input);
  const float* const wide_gradient = in.copy(p.batch * p.units, grad_output);
  Widened::ops().dense_backward_weights(in.context(), p, wide_input, wide_gradient, grad_weights, grad_bias);
}

}  // namespace

void fill_dense_bfloat16(OpTable& table) {
  table.dense_forward_bfloat16 = dense_forward;
  table.dense_backward_input_bfloat16 = dense_backward_input;
  table.dense_backward_weights_bfloat16 = dense_backward_weights;
}

}  // namespace convec::cuda
