// Dense layers of float32 arrays: by cuBLASLt where there is one (cublas_lt.hpp), else by matmul.hpp.
#include "cublas_lt.hpp"
#include "cuda_table.hpp"
#include "dense_products.hpp"

namespace convec::cuda {

namespace {

bool by_library(const Context& context, Scratch& scratch, const LtProduct& product) {
  CublasLt* const library = cublas_lt();
  return library != nullptr && library->multiply(context, scratch, product);
}

template <bool AlongA, bool AlongB>
void multiply(const Context& context, const float* a, int64_t a_stride, const float* b, int64_t b_stride,
              const float* bias, Activation activation, float* c, int64_t rows, int64_t columns, int64_t depth) {
  Scratch scratch(context);
  if (by_library(context, scratch, {rows, columns, depth, a, !AlongA, b, AlongB, c, bias, activation})) return;
  multiply_matrices<AlongA, AlongB>(context, scratch, a, a_stride, b, b_stride, bias, activation, c, rows, columns,
                                    depth);
}

int64_t dense_prepared_size(const DenseProblem&) { return 0; }
void dense_prepare(const DenseProblem&, const float*, float*) {}

void dense_forward(const Context& context, const DenseProblem& p, const float* input, const float* weights,
                   const float*, const float* bias, Activation activation, float* output) {
  multiply<true, false>(context, input, p.in, weights, p.units, bias, activation, output, p.batch, p.units, p.in);
}

void dense_backward_input(const Context& context, const DenseProblem& p, const float* grad_output, const float* weights,
                          float* grad_input) {
  multiply<true, true>(context, grad_output, p.units, weights, p.units, nullptr, Activation::linear, grad_input,
                       p.batch, p.in, p.units);
}

void dense_backward_weights(const Context& context, const DenseProblem& p, const float* input, const float* grad_output,
                            float* grad_weights, float* grad_bias) {
  if (grad_bias != nullptr) {
    Scratch scratch(context);
    if (by_library(context, scratch,
                   {p.in, p.units, p.batch, input, true, grad_output, false, grad_weights, nullptr, Activation::linear,
                    grad_bias}))
      return;
  }
  multiply<false, false>(context, input, p.in, grad_output, p.units, nullptr, Activation::linear, grad_weights, p.in,
                         p.units, p.batch);
  if (grad_bias == nullptr) return;
  const Scratch scratch(context);
  column_sums(context, p.batch, p.units, grad_output, grad_bias);
}

}  // namespace

void fill_dense(OpTable& table) {
  table.dense_prepared_size = dense_prepared_size;
  table.dense_prepare = dense_prepare;
  table.dense_forward = dense_forward;
  table.dense_backward_input = dense_backward_input;
  table.dense_backward_weights = dense_backward_weights;
  fill_dense_bfloat16(table);
}

}  // namespace convec::cuda
