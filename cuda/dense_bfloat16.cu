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
  if (!taken(context, p, input, weights))
    return ByFloat32::dense_forward(context, p, input, weights, bias, activation, output);
  multiply<true, false>(context, input, p.in, weights, p.units, bias, activation, output, p.batch, p.units, p.in);
}

void dense_backward_input(const Context& context, const DenseProblem& p, const BFloat16* grad_output,
                          const BFloat16* weights, BFloat16* grad_input) {
  if (!taken(context, p, grad_output, weights))
    return ByFloat32::dense_backward_input(context, p, grad_output, weights, grad_input);
  multiply<true, true>(context, grad_output, p.units, weights, p.units, nullptr, Activation::linear, grad_input,
                       p.batch, p.in, p.units);
}

void dense_backward_weights(const Context& context, const DenseProblem& p, const BFloat16* input,
                            const BFloat16* grad_output, float* grad_weights, float* grad_bias) {
  if (!taken(context, p, input, grad_output))
    return ByFloat32::dense_backward_weights(context, p, input, grad_output, grad_weights, grad_bias);
  multiply<false, false>(context, input, p.in, grad_output, p.units, nullptr, Activation::linear, grad_weights, p.in,
                         p.units, p.batch);
  if (grad_bias == nullptr) return;
  const Scratch scratch(context);
  column_sums(context, p.batch, p.units, grad_output, grad_bias);
}

}  // namespace

void fill_dense_bfloat16(OpTable& table) {
  table.dense_forward_bfloat16 = dense_forward;
  table.dense_backward_input_bfloat16 = dense_backward_input;
  table.dense_backward_weights_bfloat16 = dense_backward_weights;
}

}  // namespace convec::cuda
