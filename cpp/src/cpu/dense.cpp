// Dense layers: a matrix product over the micro-kernel, blocked along the reduction.
#include <algorithm>

#include "cpu/cpu_table.hpp"
#include "cpu/dense.hpp"
#include "cpu/kernels/kernel_table.hpp"
#include "cpu/panels.hpp"
#include "cpu/scratch.hpp"
#include "cpu/thread_pool.hpp"

namespace convec::cpu {

namespace {

constexpr std::ptrdiff_t no_offset[1] = {0};
// Steps of the reduction a tile takes at once: the panel's part then stays in the first- and second-level cache.
constexpr int64_t reduction_block = 1024;

// Rows a tile so that the tiles of `rows` rows are equally high.
int64_t balanced(int64_t rows, int64_t most) {
  const int64_t tiles = (rows + most - 1) / most;
  return (rows + tiles - 1) / tiles;
}

// C (rows x columns) = A B + bias, where A[p, k] is at a[p * a_row + k * a_step] (one of the strides is 1) and B comes
// in packed panels of `steps` rows each.
struct Product {
  int64_t rows, columns, steps;
  const float* a;
  std::ptrdiff_t a_row, a_step;
  const float* b;
  float* c;
  const float* bias;  // padded to the panels, or null
  bool relu;
};

void multiply(const Product& m) {
  const GemmKernels& gemm = kernels().gemm;
  const Panels panels(m.columns, gemm);
  const int64_t height = balanced(m.rows, gemm.rows);
  const int64_t row_tiles = (m.rows + height - 1) / height;
  const auto run = m.a_step == 1 ? gemm.tile_f32_along : gemm.tile_f32_across;
  parallel_for(row_tiles * panels.count(), [&](int64_t task, int) {
    const int64_t panel = task / row_tiles;
    const int64_t row = task % row_tiles * height;
    const int64_t width = panels.width(panel);
    GemmTile t{};
    t.a_segments = no_offset;
    t.a_row = m.a_row;
    t.a_step = m.a_step;
    t.b_step = width;
    t.segments = 1;
    t.c = m.c + row * m.columns + panels.begin(panel);
    t.c_row = m.columns;
    t.rows = static_cast<int>(std::min(height, m.rows - row));
    t.columns = static_cast<int>(panels.used(panel));
    for (int64_t step = 0; step < m.steps; step += reduction_block) {
      t.length = std::min(reduction_block, m.steps - step);
      const bool last = step + t.length == m.steps;
      t.a = m.a + row * m.a_row + step * m.a_step;
      t.b = m.b + panels.offset(panel) * m.steps + step * width;
      t.accumulate = step > 0;
      t.bias = last && m.bias != nullptr ? m.bias + panels.begin(panel) : nullptr;
      t.relu = last && m.relu;
      run(t);
    }
  });
}

// Packs B (steps x columns), row-major with rows `row` apart, into panels.
const float* pack(const Panels& panels, int64_t steps, const float* b, std::ptrdiff_t row, float* packed) {
  for (int64_t panel = 0; panel < panels.count(); ++panel)
    kernels().pack.copy_f32(b + panels.begin(panel), row, packed + panels.offset(panel) * steps, panels.width(panel),
                            steps, panels.used(panel), panels.width(panel));
  return packed;
}

int64_t dense_prepared_size(const DenseProblem& p) { return Panels(p.units, kernels().gemm).stored() * p.in; }

void dense_prepare(const DenseProblem& p, const float* weights, float* prepared) {
  pack(Panels(p.units, kernels().gemm), p.in, weights, p.units, prepared);
}

void dense_forward(const Context& context, const DenseProblem& p, const float* input, const float* weights,
                   const float* prepared, const float* bias, Activation activation, float* output) {
  Scratch scratch;
  if (prepared == nullptr) {
    float* packed = scratch.take<float>(dense_prepared_size(p));
    dense_prepare(p, weights, packed);
    prepared = packed;
  }
  multiply({p.batch, p.units, p.in, input, p.in, 1, prepared, output, padded_bias(scratch, bias, p.units),
            activation == Activation::relu});
  if (activation != Activation::linear && activation != Activation::relu)
    op_table(context.device).activation_forward(context, activation, p.batch * p.units, output, output);
}

void dense_backward_input(const Context&, const DenseProblem& p, const float* grad_output, const float* weights,
                          float* grad_input) {
  Scratch scratch;
  const Panels panels(p.in, kernels().gemm);
  float* packed = scratch.take<float>(panels.stored() * p.units);
  for (int64_t panel = 0; panel < panels.count(); ++panel)
    kernels().pack.transpose_f32(weights + panels.begin(panel) * p.units, p.units,
                                 packed + panels.offset(panel) * p.units, panels.width(panel), p.units,
                                 panels.used(panel), panels.width(panel));
  multiply({p.batch, p.in, p.units, grad_output, p.units, 1, packed, grad_input, nullptr, false});
}

void dense_backward_weights(const Context&, const DenseProblem& p, const float* input, const float* grad_output,
                            float* grad_weights, float* grad_bias) {
  if (p.batch == 0) {
    std::fill_n(grad_weights, p.in * p.units, 0.0F);
    if (grad_bias != nullptr) std::fill_n(grad_bias, p.units, 0.0F);
    return;
  }
  Scratch scratch;
  const Panels panels(p.units, kernels().gemm);
  const float* packed = pack(panels, p.batch, grad_output, p.units, scratch.take<float>(panels.stored() * p.batch));
  multiply({p.in, p.units, p.batch, input, 1, p.in, packed, grad_weights, nullptr, false});
  if (grad_bias != nullptr) {
    const float one = 1.0F;
    multiply({1, p.units, p.batch, &one, 1, 0, packed, grad_bias, nullptr, false});
  }
}

}  // namespace

const float* padded_bias(Scratch& scratch, const float* bias, int64_t columns) {
  if (bias == nullptr) return nullptr;
  const Panels panels(columns, kernels().gemm);
  float* padded = scratch.take<float>(panels.stored());
  kernels().pack.copy_f32(bias, 0, padded, 0, 1, columns, panels.stored());
  return padded;
}

void fill_dense(OpTable& table) {
  table.dense_prepared_size = dense_prepared_size;
  table.dense_prepare = dense_prepare;
  table.dense_forward = dense_forward;
  table.dense_backward_input = dense_backward_input;
  table.dense_backward_weights = dense_backward_weights;
}

}  // namespace convec::cpu
