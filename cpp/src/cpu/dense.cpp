// Dense layers: a matrix product over the micro-kernel, blocked along the reduction.
#include <algorithm>

#include "cpu/cpu_table.hpp"
#include "cpu/dense.hpp"
#include "cpu/grain.hpp"
#include "cpu/kernels/kernel_table.hpp"
#include "cpu/panels.hpp"
#include "cpu/scratch.hpp"
#include "cpu/thread_pool.hpp"

namespace convec::cpu {

namespace {

constexpr std::ptrdiff_t no_offset[1] = {0};
// Steps of the reduction a tile takes at once: a panel's part then stays in the first-level cache.
constexpr int64_t reduction_block = 256;
// Panels a task takes at once, whose parts stay in the second-level cache.
constexpr int64_t most_panels = 8;
// Tiles that a panel is multiplied with before the next panel is. Together their rows fill cache lines to be packed.
constexpr int64_t tiles_at_once = 8;
// Fewer tiles do not make up for packing a panel, nor fewer panels for packing rows.
constexpr int64_t fewest_tiles = 4;
constexpr int64_t fewest_panels = 4;

// The right factor, steps x columns: in packed panels of `steps` rows each, or else row-major or transposed, with lines
// `line` apart, of which a task packs what it multiplies.
struct Right {
  const float* packed;
  const float* from;
  std::ptrdiff_t line;
  bool transposed;
};

// C (rows x columns) = A B + bias, where A[p, k] is at a[p * a_row + k * a_step] (one of the strides is 1).
struct Product {
  int64_t rows, columns, steps;
  const float* a;
  std::ptrdiff_t a_row, a_step;
  Right b;
  float* c;
  const float* bias;  // padded to the panels, or null
  bool relu;
};

// Steps [begin, begin + count) of a panel.
void pack(const Panels& panels, int64_t panel, const Right& b, int64_t begin, int64_t count, float* packed) {
  const int64_t width = panels.width(panel);
  if (b.transposed)
    kernels().pack.transpose_f32(b.from + panels.begin(panel) * b.line + begin, b.line, packed, width, count,
                                 panels.used(panel), width);
  else
    kernels().pack.copy_f32(b.from + begin * b.line + panels.begin(panel), b.line, packed, width, count,
                            panels.used(panel), width);
}

void multiply(const Product& m) {
  if (m.rows == 0) return;
  const GemmKernels& gemm = kernels().gemm;
  const Panels panels(m.columns, gemm);
  const int64_t tiles = (m.rows + gemm.rows - 1) / gemm.rows;
  const int64_t height = (m.rows + tiles - 1) / tiles;  // equally high tiles
  // A few tasks for each thread, so that a slow one does not keep the others waiting.
  const int64_t wanted = 4 * num_threads();
  const int64_t panels_a_task = std::min(part_size(panels.count(), wanted), most_panels);
  const int64_t panel_tasks = (panels.count() + panels_a_task - 1) / panels_a_task;
  const int64_t most_parts = m.b.packed == nullptr ? tiles / fewest_tiles : tiles;
  const int64_t parts =
      std::clamp<int64_t>((wanted + panel_tasks - 1) / panel_tasks, 1, std::max<int64_t>(most_parts, 1));
  const int64_t tiles_a_task = part_size(tiles, parts);
  const int64_t row_tasks = (tiles + tiles_a_task - 1) / tiles_a_task;
  const int64_t rows_at_once = height * tiles_at_once;
  const bool along = m.a_step == 1;
  const bool packs_rows = !along && m.rows > 1 && panels_a_task >= fewest_panels;
  parallel_for(panel_tasks * row_tasks, [&](int64_t task, int) {
    const int64_t first_panel = task / row_tasks * panels_a_task;
    const int64_t end_panel = std::min(first_panel + panels_a_task, panels.count());
    const int64_t begin_row = task % row_tasks * tiles_a_task * height;
    const int64_t end_row = std::min(begin_row + tiles_a_task * height, m.rows);
    Scratch scratch;
    float* packed_panels = m.b.packed != nullptr
                               ? nullptr
                               : scratch.take<float>(std::min(m.steps, reduction_block) * panels_a_task * panels.full);
    float* packed_rows = packs_rows ? scratch.take<float>(std::min(m.steps, reduction_block) * rows_at_once) : nullptr;
    GemmTile t{};
    t.a_segments = no_offset;
    t.segments = 1;
    t.c_row = m.columns;
    for (int64_t step = 0; step < m.steps; step += reduction_block) {
      t.length = std::min(reduction_block, m.steps - step);
      t.accumulate = step > 0;
      const bool last = step + t.length == m.steps;
      t.relu = last && m.relu;
      if (packed_panels != nullptr)
        for (int64_t panel = first_panel; panel < end_panel; ++panel)
          pack(panels, panel, m.b, step, t.length, packed_panels + (panel - first_panel) * panels.full * t.length);
      for (int64_t first = begin_row; first < end_row; first += rows_at_once) {
        const int64_t rows = std::min(rows_at_once, end_row - first);
        const float* a = m.a + first * m.a_row + step * m.a_step;
        if (packs_rows) kernels().pack.copy_tiles_f32(a, m.a_step, packed_rows, t.length, rows, height);
        for (int64_t panel = first_panel; panel < end_panel; ++panel) {
          const int64_t width = panels.width(panel);
          t.b = packed_panels != nullptr ? packed_panels + (panel - first_panel) * panels.full * t.length
                                         : m.b.packed + panels.offset(panel) * m.steps + step * width;
          t.b_step = width;
          t.columns = static_cast<int>(panels.used(panel));
          t.bias = last && m.bias != nullptr ? m.bias + panels.begin(panel) : nullptr;
          for (int64_t row = 0; row < rows; row += height) {
            t.rows = static_cast<int>(std::min(height, rows - row));
            t.a = packs_rows ? packed_rows + row * t.length : a + row * m.a_row;
            t.a_row = m.a_row;
            t.a_step = packs_rows ? t.rows : m.a_step;
            t.c = m.c + (first + row) * m.columns + panels.begin(panel);
            (along ? gemm.tile_f32_along : gemm.tile_f32_across)(t);
          }
        }
      }
    }
  });
}

int64_t dense_prepared_size(const DenseProblem& p) { return Panels(p.units, kernels().gemm).stored() * p.in; }

void dense_prepare(const DenseProblem& p, const float* weights, float* prepared) {
  const Panels panels(p.units, kernels().gemm);
  for (int64_t panel = 0; panel < panels.count(); ++panel)
    pack(panels, panel, {nullptr, weights, p.units, false}, 0, p.in, prepared + panels.offset(panel) * p.in);
}

void dense_forward(const Context& context, const DenseProblem& p, const float* input, const float* weights,
                   const float* prepared, const float* bias, Activation activation, float* output) {
  Scratch scratch;
  multiply({p.batch,
            p.units,
            p.in,
            input,
            p.in,
            1,
            {prepared, weights, p.units, false},
            output,
            padded_bias(scratch, bias, p.units),
            activation == Activation::relu});
  if (activation != Activation::linear && activation != Activation::relu)
    op_table(context.device).activation_forward(context, activation, p.batch * p.units, output, output);
}

void dense_backward_input(const Context&, const DenseProblem& p, const float* grad_output, const float* weights,
                          float* grad_input) {
  multiply(
      {p.batch, p.in, p.units, grad_output, p.units, 1, {nullptr, weights, p.units, true}, grad_input, nullptr, false});
}

void dense_backward_weights(const Context&, const DenseProblem& p, const float* input, const float* grad_output,
                            float* grad_weights, float* grad_bias) {
  if (p.batch == 0) {
    std::fill_n(grad_weights, p.in * p.units, 0.0F);
    if (grad_bias != nullptr) std::fill_n(grad_bias, p.units, 0.0F);
    return;
  }
  const Right gradient{nullptr, grad_output, p.units, false};
  multiply({p.in, p.units, p.batch, input, 1, p.in, gradient, grad_weights, nullptr, false});
  const float one = 1.0F;
  if (grad_bias != nullptr) multiply({1, p.units, p.batch, &one, 1, 0, gradient, grad_bias, nullptr, false});
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
