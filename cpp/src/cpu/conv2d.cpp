// Convolution and its gradients, direct: the taps are looped into the accumulators of the matrix micro-kernel, so
// that nothing like im2col is ever stored.
#include <algorithm>

#include <convec/context.hpp>

#include "cpu/conv2d.hpp"
#include "cpu/cpu_table.hpp"
#include "cpu/grain.hpp"
#include "cpu/kernels/kernel_table.hpp"
#include "cpu/panels.hpp"
#include "cpu/scratch.hpp"
#include "cpu/thread_pool.hpp"
#include "cpu/winograd.hpp"
#include "cpu/winograd_conv2d.hpp"

namespace convec::cpu {

namespace {

// ---- Geometry --------------------------------------------------------------------------------------------------
//
// The forward pass and the gradient to the input are the same gather: output position i of a phase reads input
// position i * in_step + offset through each of the phase's taps. Forward has one phase and steps by the stride; the
// gradient to the input has one phase for each residue of the stride and steps by one.

struct Tap {
  int64_t filter;  // row or column of the filter
  int64_t offset;
};

struct Phase {
  int64_t start;  // first output position
  int64_t count;  // output positions start, start + out_step, ...
  const Tap* taps;
  int64_t tap_count;
};

struct Axis {
  int64_t in_extent;
  int64_t in_step;
  int64_t out_step;
  const Phase* phases;
  int64_t phase_count;
};

// Without the taps that lie outside the input for every output position: the border of zeros that a row is copied with
// goes as far as the taps do, and the dilation may be anything.
Phase reaching(const Phase& phase, int64_t in_extent, int64_t in_step) {
  const int64_t last = (phase.count - 1) * in_step;
  const Tap* begin = phase.taps;
  const Tap* end = phase.taps + phase.tap_count;
  while (begin < end && begin->offset + last < 0) ++begin;
  while (begin < end && end[-1].offset >= in_extent) --end;
  return {phase.start, phase.count, begin, end - begin};
}

Axis forward_axis(Scratch& scratch, int64_t in, int64_t out, int64_t taps, int64_t stride, int64_t dilation,
                  int64_t pad) {
  Tap* list = scratch.take<Tap>(taps);
  for (int64_t t = 0; t < taps; ++t) list[t] = {t, t * dilation - pad};
  Phase* phase = scratch.take<Phase>(1);
  *phase = reaching({0, out, list, taps}, in, stride);
  return {in, stride, 1, phase, 1};
}

// in, out: extents of the gradient read and of the gradient written.
Axis backward_axis(Scratch& scratch, int64_t in, int64_t out, int64_t taps, int64_t stride, int64_t dilation,
                   int64_t pad) {
  const int64_t phase_count = std::min(stride, out);
  Phase* phases = scratch.take<Phase>(phase_count);
  for (int64_t start = 0; start < phase_count; ++start) {
    Tap* list = scratch.take<Tap>(taps);
    int64_t count = 0;
    // Falling filter index: rising offset.
    for (int64_t t = taps - 1; t >= 0; --t)
      if ((start + pad - t * dilation) % stride == 0) list[count++] = {t, (start + pad - t * dilation) / stride};
    phases[start] = reaching({start, (out - start + stride - 1) / stride, list, count}, in, 1);
  }
  return {in, 1, stride, phases, phase_count};
}

// The taps of a phase that lie inside the input for output position i: a range, because offsets rise.
struct TapRange {
  int64_t begin, end;
};

TapRange taps_inside(const Axis& axis, const Phase& phase, int64_t i) {
  TapRange range{0, phase.tap_count};
  while (range.begin < range.end && i * axis.in_step + phase.taps[range.begin].offset < 0) ++range.begin;
  while (range.end > range.begin && i * axis.in_step + phase.taps[range.end - 1].offset >= axis.in_extent) --range.end;
  return range;
}

struct Gather {
  Axis rows, columns;
  int64_t batch;
  int64_t in_channels, in_per_group;  // of the array read
  int64_t out_height, out_width, out_channels, out_per_group;
  int64_t groups;
  int64_t kernel_width, kernel_area;
  // Filters packed a group after the other, each in panels of [tap][in_per_group] rows.
  const float* packed;
  const float* bias;  // padded per group to whole panels, or null
  bool relu;
  const float* input;
  float* output;

  Panels panels() const { return {out_per_group, kernels().gemm}; }
  int64_t in_height() const { return rows.in_extent; }
  int64_t in_width() const { return columns.in_extent; }
  int64_t group_size() const { return panels().stored() * kernel_area * in_per_group; }
};

// Offsets of the segments of a tile: the product of a range of row taps and a range of column taps, in the array read
// and (in rows of a panel) in the packed filters.
struct Segments {
  std::ptrdiff_t* a;
  std::ptrdiff_t* b;
  int64_t count;
  int64_t length;

  Segments(Scratch& scratch, const Gather& g)
      : a(scratch.take<std::ptrdiff_t>(g.kernel_area)),
        b(scratch.take<std::ptrdiff_t>(g.kernel_area)),
        count(0),
        length(0) {}

  // `pitch` is the distance of two rows of the array read, in pixels.
  void build(const Gather& g, const Phase& row_phase, TapRange row_taps, const Phase& column_phase,
             TapRange column_taps, int64_t pitch) {
    const int64_t columns = column_taps.end - column_taps.begin;
    // Neighbouring taps that are neighbours in memory too are one long segment.
    bool merge = g.groups == 1 && columns > 0;
    for (int64_t t = column_taps.begin + 1; t < column_taps.end; ++t) {
      const Tap& before = column_phase.taps[t - 1];
      const Tap& tap = column_phase.taps[t];
      merge = merge && tap.offset == before.offset + 1 && tap.filter == before.filter + 1;
    }
    count = 0;
    length = merge ? columns * g.in_per_group : g.in_per_group;
    for (int64_t r = row_taps.begin; r < row_taps.end; ++r)
      for (int64_t c = column_taps.begin; c < (merge ? column_taps.begin + 1 : column_taps.end); ++c) {
        const Tap& row = row_phase.taps[r];
        const Tap& column = column_phase.taps[c];
        a[count] = (row.offset * pitch + column.offset) * g.in_channels;
        b[count] = (row.filter * g.kernel_width + column.filter) * g.in_per_group;
        ++count;
      }
  }
};

// ---- Tiles along a row of the output ------------------------------------------------------------------------------

// Zeros that a row needs on either side so that every tap of every phase stays inside it.
struct Border {
  int64_t left = 0, right = 0;
};

Border border_of(const Axis& axis) {
  Border border;
  for (int64_t index = 0; index < axis.phase_count; ++index) {
    const Phase& phase = axis.phases[index];
    if (phase.tap_count == 0) continue;
    const int64_t lowest = phase.taps[0].offset;
    const int64_t highest = (phase.count - 1) * axis.in_step + phase.taps[phase.tap_count - 1].offset;
    border.left = std::max(border.left, -lowest);
    border.right = std::max(border.right, highest - (axis.in_extent - 1));
  }
  return border;
}

// Copies input rows [begin, end) of an image with zeros on both sides.
void copy_with_border(const Gather& g, const float* image, int64_t begin, int64_t end, Border border, float* to) {
  const int64_t channels = g.in_channels;
  const int64_t width = g.in_width();
  for (int64_t row = begin; row < end; ++row) {
    std::fill_n(to, border.left * channels, 0.0F);
    to = std::copy_n(image + row * width * channels, width * channels, to + border.left * channels);
    std::fill_n(to, border.right * channels, 0.0F);
    to += border.right * channels;
  }
}

// With fewer channels a tile is too short to gain by fetching the next one's pixels.
constexpr int64_t fewest_channels_to_fetch = 16;

// Rows [begin, end) of one phase of one image: the part of the input that they read, with its border.
class RowGather {
 public:
  RowGather(const Gather& g, int64_t image, const Phase& row_phase, int64_t begin, int64_t end, Border border)
      : g_(g),
        row_phase_(row_phase),
        begin_(begin),
        end_(end),
        left_(border.left),
        pitch_(g.in_width() + border.left + border.right),
        source_(g.input + image * g.in_height() * g.in_width() * g.in_channels),
        segments_(scratch_, g),
        b_offsets_(scratch_.take<std::ptrdiff_t>(g.kernel_area)) {
    if (border.left + border.right == 0 || row_phase.tap_count == 0) return;
    const int64_t low = begin * g.rows.in_step + row_phase.taps[0].offset;
    const int64_t high = (end - 1) * g.rows.in_step + row_phase.taps[row_phase.tap_count - 1].offset;
    source_row_ = std::max<int64_t>(low, 0);
    const int64_t source_end = std::max(std::min(high + 1, g.in_height()), source_row_);
    float* copy = scratch_.take<float>((source_end - source_row_) * pitch_ * g.in_channels);
    copy_with_border(g, source_, source_row_, source_end, border, copy);
    source_ = copy;
  }

  void set_columns(const Phase& phase) {
    segments_.build(g_, row_phase_, {0, row_phase_.tap_count}, phase, {0, phase.tap_count}, pitch_);
    per_row_ = row_phase_.tap_count == 0 ? 0 : segments_.count / row_phase_.tap_count;
  }

  // Outputs 0 .. columns of the phase of set_columns(), one panel of one group. `out` is where the first goes.
  void run(int64_t group, int64_t panel, int64_t columns, float* out, std::ptrdiff_t out_row,
           std::ptrdiff_t out_column) {
    const GemmKernels& gemm = kernels().gemm;
    const Panels panels = g_.panels();
    const int64_t tiles = (columns + gemm.rows - 1) / gemm.rows;
    const int64_t tile_width = (columns + tiles - 1) / tiles;
    GemmTile t{};
    t.a_row = g_.columns.in_step * g_.in_channels;
    t.a_step = 1;
    t.b_step = panels.width(panel);
    t.length = segments_.length;
    t.c_row = out_column;
    t.columns = static_cast<int>(panels.used(panel));
    t.relu = g_.relu;
    t.bias = g_.bias == nullptr ? nullptr : g_.bias + group * panels.stored() + panels.begin(panel);
    t.b = g_.packed + group * g_.group_size() + panels.offset(panel) * g_.kernel_area * g_.in_per_group;
    for (int64_t s = 0; s < segments_.count; ++s) b_offsets_[s] = segments_.b[s] * t.b_step;
    for (int64_t i = begin_; i < end_; ++i) {
      const TapRange inside = taps_inside(g_.rows, row_phase_, i);
      t.segments = (inside.end - inside.begin) * per_row_;
      t.a_segments = segments_.a + inside.begin * per_row_;
      t.b_segments = b_offsets_ + inside.begin * per_row_;
      const float* row =
          source_ + ((i * g_.rows.in_step - source_row_) * pitch_ + left_) * g_.in_channels + group * g_.in_per_group;
      float* to = out + (i - begin_) * out_row;
      // The tile to the right reads as many new pixels, those of the last row of taps for the first time.
      const int64_t next_pixels = tile_width * t.a_row;
      const bool fetches = t.segments > 0 && g_.in_channels >= fewest_channels_to_fetch;
      const int64_t next = fetches ? t.a_segments[t.segments - 1] + next_pixels : 0;
      if (fetches) t.ahead_bytes = next_pixels * static_cast<int64_t>(sizeof(float)) / (t.segments * t.length);
      for (int64_t j = 0; j < columns; j += tile_width) {
        t.a = row + j * t.a_row;
        t.c = to + j * t.c_row;
        t.rows = static_cast<int>(std::min(tile_width, columns - j));
        if (fetches) t.ahead = t.a + next;
        gemm.tile_f32_along(t);
      }
    }
  }

 private:
  Scratch scratch_;
  const Gather& g_;
  const Phase& row_phase_;
  int64_t begin_, end_, left_, pitch_;
  const float* source_;
  int64_t source_row_ = 0;
  Segments segments_;
  int64_t per_row_ = 0;
  std::ptrdiff_t* b_offsets_;
};

// Bytes worked on at once, to stay in the second-level cache.
constexpr int64_t cache_block = 256 * 1024;

void gather_along_rows(const Gather& g) {
  const Border border = border_of(g.columns);
  const int64_t panel_count = g.panels().count();
  // A few tasks for each thread, so that a slow one does not keep the others waiting.
  const int64_t wanted = 4 * num_threads();
  for (int64_t phase_index = 0; phase_index < g.rows.phase_count; ++phase_index) {
    const Phase& phase = g.rows.phases[phase_index];
    const int64_t row_bytes = g.rows.in_step * g.in_width() * g.in_channels * static_cast<int64_t>(sizeof(float));
    // Every panel of filters reads the rows again.
    const int64_t cached = panel_count > 1 ? std::max<int64_t>(cache_block / row_bytes, 1) : phase.count;
    const int64_t rows = std::min(part_size(phase.count, (wanted + g.batch - 1) / g.batch), cached);
    const int64_t row_tasks = (phase.count + rows - 1) / rows;
    const int64_t panel_part = part_size(panel_count, wanted / (g.batch * row_tasks));
    const int64_t panel_tasks = (panel_count + panel_part - 1) / panel_part;
    parallel_for(g.batch * row_tasks * panel_tasks, [&](int64_t task, int) {
      const int64_t panel = task % panel_tasks * panel_part;
      const int64_t begin = task / panel_tasks % row_tasks * rows;
      const int64_t end = std::min(begin + rows, phase.count);
      const int64_t image = task / panel_tasks / row_tasks;
      RowGather gather(g, image, phase, begin, end, border);
      for (int64_t index = 0; index < g.columns.phase_count; ++index) {
        const Phase& columns = g.columns.phases[index];
        gather.set_columns(columns);
        const int64_t y = phase.start + begin * g.rows.out_step;
        float* out = g.output + ((image * g.out_height + y) * g.out_width + columns.start) * g.out_channels;
        for (int64_t group = 0; group < g.groups; ++group)
          for (int64_t p = panel; p < std::min(panel + panel_part, panel_count); ++p)
            gather.run(group, p, columns.count, out + group * g.out_per_group + g.panels().begin(p),
                       g.rows.out_step * g.out_width * g.out_channels, g.columns.out_step * g.out_channels);
      }
    });
  }
}

// ---- Tiles across the images of a batch --------------------------------------------------------------------------
//
// Where rows are short, a tile takes the same pixel of several images: it is full, and each pixel reads only the taps
// that lie inside, so that padding costs nothing.

constexpr int64_t images_a_tile = 8;
constexpr int64_t short_row = 8;

void gather_images(const Gather& g, int64_t first_image, int64_t images) {
  Scratch scratch;
  const GemmKernels& gemm = kernels().gemm;
  const Panels panels = g.panels();
  const int64_t tiles = (images + gemm.rows - 1) / gemm.rows;
  const int64_t tile_images = (images + tiles - 1) / tiles;  // equal tiles: small ones wait for their sums
  const int64_t in_image = g.in_height() * g.in_width() * g.in_channels;
  const int64_t out_image = g.out_height * g.out_width * g.out_channels;
  Segments segments(scratch, g);
  std::ptrdiff_t* b_offsets = scratch.take<std::ptrdiff_t>(g.kernel_area);
  for (int64_t row_index = 0; row_index < g.rows.phase_count; ++row_index)
    for (int64_t i = 0; i < g.rows.phases[row_index].count; ++i)
      for (int64_t column_index = 0; column_index < g.columns.phase_count; ++column_index)
        for (int64_t j = 0; j < g.columns.phases[column_index].count; ++j) {
          const Phase& row_phase = g.rows.phases[row_index];
          const Phase& column_phase = g.columns.phases[column_index];
          segments.build(g, row_phase, taps_inside(g.rows, row_phase, i), column_phase,
                         taps_inside(g.columns, column_phase, j), g.in_width());
          const int64_t pixel = i * g.rows.in_step * g.in_width() + j * g.columns.in_step;
          const int64_t y = row_phase.start + i * g.rows.out_step;
          const int64_t x = column_phase.start + j * g.columns.out_step;
          for (int64_t group = 0; group < g.groups; ++group)
            for (int64_t panel = 0; panel < panels.count(); ++panel) {
              GemmTile t{};
              t.a_segments = segments.a;
              t.a_row = in_image;
              t.a_step = 1;
              t.b = g.packed + group * g.group_size() + panels.offset(panel) * g.kernel_area * g.in_per_group;
              t.b_segments = b_offsets;
              t.b_step = panels.width(panel);
              t.segments = segments.count;
              t.length = segments.length;
              t.c_row = out_image;
              t.columns = static_cast<int>(panels.used(panel));
              t.relu = g.relu;
              t.bias = g.bias == nullptr ? nullptr : g.bias + group * panels.stored() + panels.begin(panel);
              for (int64_t s = 0; s < segments.count; ++s) b_offsets[s] = segments.b[s] * t.b_step;
              for (int64_t image = 0; image < images; image += tile_images) {
                t.a = g.input + (first_image + image) * in_image + pixel * g.in_channels + group * g.in_per_group;
                t.c = g.output + (first_image + image) * out_image + (y * g.out_width + x) * g.out_channels +
                      group * g.out_per_group + panels.begin(panel);
                t.rows = static_cast<int>(std::min(tile_images, images - image));
                gemm.tile_f32_along(t);
              }
            }
        }
}

void gather(const Gather& g) {
  const Border border = border_of(g.columns);
  const bool narrow = is_narrow(border.left + border.right, g.in_width(), g.kernel_width);
  if (!narrow || (g.out_width < short_row && g.batch >= images_a_tile)) {
    parallel_for((g.batch + images_a_tile - 1) / images_a_tile, [&](int64_t task, int) {
      const int64_t first = task * images_a_tile;
      gather_images(g, first, std::min(images_a_tile, g.batch - first));
    });
  } else {
    gather_along_rows(g);
  }
}

// ---- Forward -----------------------------------------------------------------------------------------------------

Gather forward_gather(Scratch& scratch, const Conv2dProblem& p, const float* input, const float* prepared,
                      const float* bias, bool relu, float* output) {
  Gather g{};
  g.rows =
      forward_axis(scratch, p.height, p.out_height, p.kernel_height, p.stride_height, p.dilation_height, p.pad_top);
  g.columns = forward_axis(scratch, p.width, p.out_width, p.kernel_width, p.stride_width, p.dilation_width, p.pad_left);
  g.batch = p.batch;
  g.in_channels = p.channels;
  g.in_per_group = p.channels / p.groups;
  g.out_height = p.out_height;
  g.out_width = p.out_width;
  g.out_channels = p.filters;
  g.out_per_group = p.filters / p.groups;
  g.groups = p.groups;
  g.kernel_width = p.kernel_width;
  g.kernel_area = p.kernel_height * p.kernel_width;
  g.packed = prepared;
  g.relu = relu;
  g.input = input;
  g.output = output;
  if (bias != nullptr) {
    const Panels panels = g.panels();
    float* padded = scratch.take<float>(panels.stored() * p.groups);
    for (int64_t group = 0; group < p.groups; ++group)
      kernels().pack.copy_f32(bias + group * g.out_per_group, 0, padded + group * panels.stored(), 0, 1,
                              g.out_per_group, panels.stored());
    g.bias = padded;
  }
  return g;
}

int64_t direct_prepared_size(const Conv2dProblem& p) {
  const Panels panels(p.filters / p.groups, kernels().gemm);
  return p.groups * panels.stored() * p.kernel_height * p.kernel_width * (p.channels / p.groups);
}

void direct_prepare(const Conv2dProblem& p, const float* filters, float* prepared) {
  const int64_t per_group = p.filters / p.groups;
  const int64_t steps = p.kernel_height * p.kernel_width * (p.channels / p.groups);
  const Panels panels(per_group, kernels().gemm);
  for (int64_t group = 0; group < p.groups; ++group)
    for (int64_t panel = 0; panel < panels.count(); ++panel)
      kernels().pack.copy_f32(filters + group * per_group + panels.begin(panel), p.filters,
                              prepared + (group * panels.stored() + panels.offset(panel)) * steps, panels.width(panel),
                              steps, panels.used(panel), panels.width(panel));
}

int64_t conv2d_prepared_size(const Conv2dProblem& p) {
  return winograd_conv2d_pays(p) ? winograd_conv2d_prepared_size(p) : direct_prepared_size(p);
}

void conv2d_prepare(const Conv2dProblem& p, const float* filters, float* prepared) {
  if (winograd_conv2d_pays(p))
    winograd_conv2d_prepare(p, filters, prepared);
  else
    direct_prepare(p, filters, prepared);
}

void conv2d_forward(const Context& context, const Conv2dProblem& p, const float* input, const float* filters,
                    const float* prepared, const float* bias, Activation activation, float* output) {
  Scratch scratch;
  const bool relu = activation == Activation::relu;
  const bool winograd = prepared == nullptr ? winograd_conv2d_pays_unprepared(p) : winograd_conv2d_pays(p);
  if (prepared == nullptr) {
    float* packed = scratch.take<float>(winograd ? winograd_conv2d_prepared_size(p) : direct_prepared_size(p));
    (winograd ? winograd_conv2d_prepare : direct_prepare)(p, filters, packed);
    prepared = packed;
  }
  if (winograd)
    winograd_conv2d_forward(p, input, prepared, bias, relu, output);
  else
    gather(forward_gather(scratch, p, input, prepared, bias, relu, output));
  if (activation != Activation::linear && activation != Activation::relu)
    op_table(context.device)
        .activation_forward(context, activation, p.batch * p.out_height * p.out_width * p.filters, output, output);
}

// ---- Forward, with max pooling behind it ---------------------------------------------------------------------------

bool uses_winograd(const Conv2dProblem& p, const Pool2dProblem& pool) {
  return small_windows(p, pool) && winograd_pays(p);
}

int64_t conv2d_max_pool2d_prepared_size(const Conv2dProblem& p, const Pool2dProblem& pool) {
  return uses_winograd(p, pool) ? winograd_prepared_size(p) : direct_prepared_size(p);
}

void conv2d_max_pool2d_prepare(const Conv2dProblem& p, const Pool2dProblem& pool, const float* filters,
                               float* prepared) {
  if (uses_winograd(p, pool))
    winograd_prepare(p, filters, prepared);
  else
    direct_prepare(p, filters, prepared);
}

void conv2d_max_pool2d_forward(const Context&, const Conv2dProblem& p, const Pool2dProblem& pool, const float* input,
                               const float* filters, const float* prepared, const float* bias, bool relu, float* output,
                               std::uint8_t* argmax) {
  Scratch scratch;
  if (prepared == nullptr) {
    float* packed = scratch.take<float>(conv2d_max_pool2d_prepared_size(p, pool));
    conv2d_max_pool2d_prepare(p, pool, filters, packed);
    prepared = packed;
  }
  if (uses_winograd(p, pool)) {
    winograd_max_pool2d_forward(p, pool, input, prepared, bias, relu, output, argmax);
    return;
  }
  const Gather g = forward_gather(scratch, p, input, prepared, bias, relu, nullptr);
  const Panels panels = g.panels();
  const Border border = border_of(g.columns);
  const Phase& rows = g.rows.phases[0];
  const Phase& columns = g.columns.phases[0];
  const int64_t needed = pool.out_width * pool.pool_width;  // columns that the pooling reads
  const int64_t part = part_size(pool.out_height, (4 * num_threads() + p.batch - 1) / p.batch);
  const int64_t parts = (pool.out_height + part - 1) / part;
  const bool patches = p.channels == 1 && small_windows(p, pool) && !padded(p);
  parallel_for(p.batch * parts, [&](int64_t task, int) {
    const int64_t image = task / parts;
    const int64_t begin = task % parts * part;
    const int64_t end = std::min(begin + part, pool.out_height);
    if (patches) {
      for (int64_t panel = 0; panel < panels.count(); ++panel) {
        const int64_t at = (image * pool.out_height + begin) * pool.out_width * p.filters + panels.begin(panel);
        PatchForward forward{};
        forward.input = input + (image * p.height + 2 * begin) * p.width;
        forward.input_row = p.width;
        forward.rows = end - begin;
        forward.columns = pool.out_width;
        forward.filters = prepared + panels.offset(panel) * g.kernel_area;
        forward.panel = panels.width(panel);
        forward.bias = g.bias == nullptr ? nullptr : g.bias + panels.begin(panel);
        forward.relu = relu;
        forward.channels = panels.used(panel);
        forward.output = output + at;
        forward.argmax = argmax == nullptr ? nullptr : argmax + at;
        forward.output_column = p.filters;
        kernels().conv_pool.patch_forward_f32(forward);
      }
      return;
    }
    Scratch local;
    RowGather gather(g, image, rows, begin * pool.pool_height, end * pool.pool_height, border);
    gather.set_columns(columns);
    float* image_rows = local.take<float>((end - begin) * pool.pool_height * needed * panels.full);
    for (int64_t group = 0; group < g.groups; ++group)
      for (int64_t panel = 0; panel < panels.count(); ++panel) {
        const int64_t width = panels.width(panel);
        gather.run(group, panel, needed, image_rows, needed * width, width);
        const int64_t at = (image * pool.out_height + begin) * pool.out_width * p.filters + group * g.out_per_group +
                           panels.begin(panel);
        MaxWindows windows{};
        windows.input = image_rows;
        windows.input_row = needed * width;
        windows.input_column = width;
        windows.pool_height = pool.pool_height;
        windows.pool_width = pool.pool_width;
        windows.rows = end - begin;
        windows.columns = pool.out_width;
        windows.channels = panels.used(panel);
        windows.output = output + at;
        windows.argmax = argmax == nullptr ? nullptr : argmax + at;
        windows.output_column = p.filters;
        kernels().conv_pool.max_windows_f32(windows);
      }
  });
}

}  // namespace

// ---- Gradient to the input -----------------------------------------------------------------------------------------

void conv2d_backward_input(const Context&, const Conv2dProblem& p, const float* grad_output, const float* filters,
                           float* grad_input) {
  if (winograd_conv2d_backward_input_pays(p)) {
    winograd_conv2d_backward_input(p, grad_output, filters, grad_input);
    return;
  }
  Scratch scratch;
  Gather g{};
  g.rows =
      backward_axis(scratch, p.out_height, p.height, p.kernel_height, p.stride_height, p.dilation_height, p.pad_top);
  g.columns =
      backward_axis(scratch, p.out_width, p.width, p.kernel_width, p.stride_width, p.dilation_width, p.pad_left);
  g.batch = p.batch;
  g.in_channels = p.filters;
  g.in_per_group = p.filters / p.groups;
  g.out_height = p.height;
  g.out_width = p.width;
  g.out_channels = p.channels;
  g.out_per_group = p.channels / p.groups;
  g.groups = p.groups;
  g.kernel_width = p.kernel_width;
  g.kernel_area = p.kernel_height * p.kernel_width;
  g.input = grad_output;
  g.output = grad_input;
  // Panels of [tap][filter] rows and input channels as columns: each tap's matrix transposed.
  const Panels panels = g.panels();
  float* packed = scratch.take<float>(g.group_size() * p.groups);
  for (int64_t group = 0; group < p.groups; ++group)
    for (int64_t panel = 0; panel < panels.count(); ++panel) {
      float* to = packed + group * g.group_size() + panels.offset(panel) * g.kernel_area * g.in_per_group;
      for (int64_t tap = 0; tap < g.kernel_area; ++tap)
        kernels().pack.transpose_f32(
            filters + (tap * g.out_per_group + panels.begin(panel)) * p.filters + group * g.in_per_group, p.filters,
            to + tap * g.in_per_group * panels.width(panel), panels.width(panel), g.in_per_group, panels.used(panel),
            panels.width(panel));
    }
  g.packed = packed;
  gather(g);
}

void fill_conv2d(OpTable& table) {
  table.conv2d_prepared_size = conv2d_prepared_size;
  table.conv2d_prepare = conv2d_prepare;
  table.conv2d_forward = conv2d_forward;
  table.conv2d_max_pool2d_prepared_size = conv2d_max_pool2d_prepared_size;
  table.conv2d_max_pool2d_prepare = conv2d_max_pool2d_prepare;
  table.conv2d_max_pool2d_fusible = conv2d_max_pool2d_fusible;
  table.conv2d_max_pool2d_forward = conv2d_max_pool2d_forward;
  table.conv2d_max_pool2d_backward = conv2d_max_pool2d_backward;
  table.conv2d_backward_input = conv2d_backward_input;
  table.conv2d_backward_filters = conv2d_backward_filters;
}

}  // namespace convec::cpu
