// Gradient of a convolution to its filters, direct: every tap's matrix of channels x filters is a product over pixels,
// of the input's and of those of the output's gradient.
#include <algorithm>

#include "cpu/conv2d.hpp"
#include "cpu/grain.hpp"
#include "cpu/kernels/kernel_table.hpp"
#include "cpu/panels.hpp"
#include "cpu/scratch.hpp"
#include "cpu/thread_pool.hpp"
#include "cpu/winograd_conv2d.hpp"

namespace convec::cpu {

namespace {

// Bytes of packed pixels worked on at once: half of the smallest second-level caches. How sums are cut depends on the
// sizes alone, so that results depend neither on the machine nor on the number of threads.
constexpr int64_t cache_block = 256 * 1024;
// Pixels of a block: as many steps make up for reading and writing the sums, and a panel stays in the first-level
// cache.
constexpr int64_t block_pixels = 384;

// Output positions whose input position under a tap lies inside: [begin, end).
struct Span {
  int64_t begin, end;
};

Span positions_inside(int64_t in, int64_t out, int64_t stride, int64_t offset) {
  const int64_t begin = offset >= 0 ? 0 : (-offset + stride - 1) / stride;
  const int64_t end = offset >= in ? 0 : std::min(out, (in - 1 - offset) / stride + 1);
  return {std::min(begin, std::max(end, int64_t{0})), std::max(end, int64_t{0})};
}

// Some images, or some rows of the output's gradient of one image: what is worked on at once.
struct PixelBlock {
  int64_t image, images;
  int64_t row_begin, row_end;
};

// Where pixels of a block lie, the input's or the gradient's.
struct Pixels {
  const float* first;  // column 0 of row `first_row` of the block's first image
  int64_t first_row;
  std::ptrdiff_t column, row, image;  // floats from one to the next

  std::ptrdiff_t at(int64_t y, int64_t x) const { return (y - first_row) * row + x * column; }
};

// How the gradient is cut into tiles: numbered [group][rows][panel][tap], so that those that follow one another share
// the pixels they read.
struct Tiling {
  const Conv2dProblem& p;
  Panels panels;  // of the filters of a group
  // With few channels, the columns of a filter are taken together: they are adjacent in memory, once the input has its
  // padding.
  bool merge;
  int64_t in_width;   // of the input, with padding where it was copied
  int64_t columns;    // of taps
  int64_t tap_rows;   // rows of a tap's matrix
  int64_t row_tiles;  // of a tap
  int64_t tile_rows;
  const Span* row_spans;     // of the taps' rows
  const Span* column_spans;  // of the taps' columns, where those are taken one by one

  Tiling(Scratch& scratch, const Conv2dProblem& problem) : p(problem), panels(p.filters / p.groups, kernels().gemm) {
    const int64_t most = kernels().gemm.rows;
    merge = p.groups == 1 && p.dilation_width == 1 && p.channels < most / 2 + 1 && p.kernel_width > 1 &&
            is_narrow(p.pad_left + p.pad_right, p.width, p.kernel_width);
    in_width = p.width + (merge ? p.pad_left + p.pad_right : 0);
    columns = merge ? 1 : p.kernel_width;
    tap_rows = merge ? p.kernel_width * p.channels : p.channels / p.groups;
    row_tiles = (tap_rows + most - 1) / most;
    tile_rows = (tap_rows + row_tiles - 1) / row_tiles;
    Span* spans = scratch.take<Span>(p.kernel_height);
    for (int64_t row = 0; row < p.kernel_height; ++row)
      spans[row] = positions_inside(p.height, p.out_height, p.stride_height, row_offset(row));
    row_spans = spans;
    spans = scratch.take<Span>(columns);
    for (int64_t column = 0; column < columns; ++column)
      spans[column] = positions_inside(in_width, p.out_width, p.stride_width, column_offset(column));
    column_spans = spans;
  }

  // Of a tap from the input pixel that an output begins at.
  int64_t row_offset(int64_t row) const { return row * p.dilation_height - p.pad_top; }
  int64_t column_offset(int64_t column) const { return column * p.dilation_width - (merge ? 0 : p.pad_left); }

  int64_t taps() const { return p.kernel_height * columns; }
  int64_t tiles() const { return p.groups * row_tiles * panels.count() * taps(); }
  int64_t filter_floats() const { return p.kernel_height * p.kernel_width * (p.channels / p.groups) * p.filters; }
  // The images are cut into chunks whose sums are added in order.
  int64_t wanted_chunks() const {
    constexpr int64_t most_bytes = 1024 * 1024;
    constexpr int64_t most = 16;
    return std::clamp<int64_t>(most_bytes / (filter_floats() * static_cast<int64_t>(sizeof(float))), 1, most);
  }
};

// The blocks that pixels are taken in.
struct Blocks {
  int64_t rows, images;

  explicit Blocks(const Tiling& t) {
    const Conv2dProblem& p = t.p;
    // A task of the only chunk has a part of the tiles, and so of the input's channels.
    const int64_t channels = t.wanted_chunks() > 1 ? p.channels : (p.channels + 3) / 4;
    const int64_t row_bytes = (t.in_width * p.stride_height * channels + p.out_width * t.panels.stored()) *
                              static_cast<int64_t>(sizeof(float));
    const auto fitting = [&](int64_t count) {
      return std::min(cache_block / (row_bytes * count), block_pixels / (p.out_width * count));
    };
    rows = std::clamp<int64_t>(fitting(1), 1, p.out_height);
    images = rows < p.out_height ? 1 : std::clamp<int64_t>(fitting(p.out_height), 1, p.batch);
  }
};

// to[j] += the sum over `rows` rows of from[i * from_row + j], of one panel. A product with ones, in blocks whose sums
// are then added: fixed order, and the rounding error of a long sum grows with the block instead.
constexpr int64_t rows_summed_at_once = 256;

void add_rows(int64_t rows, int64_t columns, const float* from, int64_t from_row, float* to) {
  static constexpr std::ptrdiff_t no_offset[1] = {0};
  static constexpr float one = 1.0F;
  GemmTile t{};
  t.a = &one;
  t.a_segments = no_offset;
  t.a_row = 1;
  t.segments = 1;
  t.c = to;
  t.rows = 1;
  t.columns = static_cast<int>(columns);
  t.accumulate = true;
  for (int64_t row = 0; row < rows; row += rows_summed_at_once) {
    t.b = from + row * from_row;
    t.b_step = from_row;
    t.length = std::min(rows_summed_at_once, rows - row);
    kernels().gemm.tile_f32_across(t);
  }
}

// to[j] = sum over i of from[i * columns + j], j < columns, summed in a fixed order.
void sum_rows(int64_t rows, int64_t columns, const float* from, float* to) {
  const Panels panels(columns, kernels().gemm);
  parallel_for(panels.count(), [&](int64_t panel, int) {
    const int64_t used = panels.used(panel);
    const float* first = from + panels.begin(panel);
    float* sum = to + panels.begin(panel);
    std::fill_n(sum, used, 0.0F);
    if (used % panels.vector == 0) {
      add_rows(rows, used, first, columns, sum);
      return;
    }
    // The micro-kernel reads whole vectors.
    Scratch scratch;
    float* copy = scratch.take<float>(rows_summed_at_once * panels.full);
    for (int64_t row = 0; row < rows; row += rows_summed_at_once) {
      const int64_t count = std::min(rows_summed_at_once, rows - row);
      kernels().pack.copy_f32(first + row * columns, columns, copy, panels.full, count, used, panels.full);
      add_rows(count, used, copy, panels.full, sum);
    }
  });
}

// What a task reads next follows in memory what it reads now: it is fetched into the second-level cache meanwhile,
// first the input's floats and then the gradient's, some with each of so many steps.
class Ahead {
 public:
  Ahead() = default;
  Ahead(const float* input, int64_t inputs, const float* gradient, int64_t gradients, int64_t steps)
      : at_(input), left_(inputs), gradient_(gradient), floats_((inputs + gradients + steps - 1) / steps) {}

  // By the steps of this tile.
  void fetch(GemmTile& t) {
    if (at_ == nullptr) return;
    t.ahead = at_;
    t.ahead_bytes = floats_ * static_cast<int64_t>(sizeof(float));
    const int64_t count = t.segments * t.length * floats_;
    at_ += count;
    left_ -= count;
    if (left_ > 0 || gradient_ == nullptr) return;
    at_ = gradient_;
    gradient_ = nullptr;
  }

 private:
  const float* at_ = nullptr;
  int64_t left_ = 0;
  const float* gradient_ = nullptr;
  int64_t floats_ = 0;  // a step
};

// Some of the tiles, added up block by block.
class TileSums {
 public:
  // sums: the gradient; bias_sums: that of the bias, or null.
  TileSums(const Tiling& tiling, const Blocks& blocks, const float* input, const float* grad_output, int64_t begin,
           int64_t end, float* sums, float* bias_sums)
      : tiling_(tiling),
        p_(tiling.p),
        input_(input),
        grad_output_(grad_output),
        begin_(begin),
        end_(end),
        sums_(sums),
        bias_sums_(bias_sums) {
    const int64_t of_rows = tiling.panels.count() * tiling.taps();  // tiles that read the same of the input
    const int64_t uses = std::min(end - begin, of_rows) / (p_.stride_height * p_.stride_width);
    packs_input_ = !tiling.merge && uses >= fewest_input_uses;
    const int64_t panels = std::min(tiling.panels.count(), (end - begin + tiling.taps() - 1) / tiling.taps());
    packs_gradient_ = tiling.panels.columns % tiling.panels.vector != 0 ||
                      std::min(end - begin, of_rows * tiling.row_tiles) >= fewest_gradient_uses * panels;
    const int64_t in_rows = std::min(p_.height, (blocks.rows - 1) * p_.stride_height + reach());
    if (packs_input_)
      packed_input_ = scratch_.take<float>(blocks.images * in_rows * tiling.in_width * tiling.tile_rows);
    if (packs_gradient_) {
      packed_gradient_ =
          scratch_.take<float>(blocks.images * blocks.rows * p_.out_width * tiling.panels.count() * tiling.panels.full);
      is_packed_ = scratch_.take<bool>(tiling.panels.count());
    }
    const int64_t segments = blocks.rows * std::max(blocks.images, p_.out_width);
    a_segments_ = scratch_.take<std::ptrdiff_t>(segments);
    b_segments_ = scratch_.take<std::ptrdiff_t>(segments);
  }

  void add(const PixelBlock& block, bool accumulate) {
    const int64_t taps = tiling_.taps();
    const int64_t panel_count = tiling_.panels.count();
    int64_t tap = begin_ % taps;
    int64_t panel = begin_ / taps % panel_count;
    int64_t row_tile = begin_ / taps / panel_count % tiling_.row_tiles;
    int64_t group = begin_ / taps / panel_count / tiling_.row_tiles;
    Pixels a{};
    Pixels b{};
    Ahead ahead = ahead_of(block);
    for (int64_t i = begin_; i < end_; ++i) {
      const bool first = i == begin_;
      if (first || (tap == 0 && panel == 0 && row_tile == 0)) forget_gradient();
      if (first || (tap == 0 && panel == 0)) a = input_of(block, group, row_tile);
      if (first || tap == 0) b = gradient_of(block, group, panel);
      sum_tile(block, group, row_tile, panel, tap, a, b, ahead, accumulate);
      if (bias_sums_ != nullptr && tap == 0 && row_tile == 0) {
        float* bias = bias_sums_ + group * tiling_.panels.columns + tiling_.panels.begin(panel);
        const int64_t used = tiling_.panels.used(panel);
        if (!accumulate) std::fill_n(bias, used, 0.0F);
        const int64_t pixels = block.images * (block.row_end - block.row_begin) * p_.out_width;
        add_rows(pixels, used, b.first + b.at(block.row_begin, 0), b.column, bias);
      }
      if (++tap < taps) continue;
      tap = 0;
      if (++panel < panel_count) continue;
      panel = 0;
      if (++row_tile < tiling_.row_tiles) continue;
      row_tile = 0;
      ++group;
    }
  }

 private:
  // Fewer uses of a pixel do not make up for packing it: where the first use is the only one to wait for memory, the
  // micro-kernel reads as fast from where pixels are.
  static constexpr int64_t fewest_input_uses = 8;
  static constexpr int64_t fewest_gradient_uses = 16;

  // Rows of the input below a row of the output.
  int64_t reach() const { return (p_.kernel_height - 1) * p_.dilation_height + 1; }

  // The input's channels of a tile, each pixel's behind those of the one before.
  Pixels input_of(const PixelBlock& block, int64_t group, int64_t row_tile) {
    const int64_t channel = group * (p_.channels / p_.groups) + row_tile * tiling_.tile_rows;
    const std::ptrdiff_t row = tiling_.in_width * p_.channels;
    const float* from = input_ + block.image * p_.height * row + channel;
    if (!packs_input_) return {from, 0, p_.channels, row, p_.height * row};
    const int64_t top = block.row_begin * p_.stride_height - p_.pad_top;
    const int64_t begin = std::clamp<int64_t>(top, 0, p_.height);
    const int64_t end =
        std::clamp<int64_t>(top + (block.row_end - block.row_begin - 1) * p_.stride_height + reach(), begin, p_.height);
    const int64_t rows = std::min(tiling_.tile_rows, tiling_.tap_rows - row_tile * tiling_.tile_rows);
    const int64_t pixels = (end - begin) * tiling_.in_width;
    for (int64_t image = 0; image < block.images; ++image)
      kernels().pack.copy_tiles_f32(from + image * p_.height * row + begin * row, p_.channels,
                                    packed_input_ + image * pixels * rows, pixels, rows, rows);
    return {packed_input_, begin, rows, tiling_.in_width * rows, pixels * rows};
  }

  // The next block, where this task reads all of it.
  Ahead ahead_of(const PixelBlock& block) const {
    if (begin_ > 0 || end_ < tiling_.tiles()) return {};
    const int64_t rows = block.images * (block.row_end - block.row_begin);
    const int64_t in_row = tiling_.in_width * p_.channels;
    const int64_t out_row = p_.out_width * p_.filters;
    const float* input = input_ + (block.image * p_.height + (block.row_begin + rows) * p_.stride_height) * in_row;
    const float* gradient = grad_output_ + (block.image * p_.out_height + block.row_begin + rows) * out_row;
    return {input, rows * p_.stride_height * in_row, gradient, rows * out_row, rows * p_.out_width * (end_ - begin_)};
  }

  void forget_gradient() {
    if (packs_gradient_) std::fill_n(is_packed_, tiling_.panels.count(), false);
  }

  // A panel of the gradient's filters.
  Pixels gradient_of(const PixelBlock& block, int64_t group, int64_t panel) {
    const Panels& panels = tiling_.panels;
    const std::ptrdiff_t row = p_.out_width * p_.filters;
    const float* from = grad_output_ + block.image * p_.out_height * row + group * panels.columns + panels.begin(panel);
    if (!packs_gradient_) return {from, 0, p_.filters, row, p_.out_height * row};
    const int64_t pixels = (block.row_end - block.row_begin) * p_.out_width;
    const int64_t width = panels.width(panel);
    float* packed = packed_gradient_ + panels.offset(panel) * block.images * pixels;
    if (!is_packed_[panel])
      for (int64_t image = 0; image < block.images; ++image)
        kernels().pack.copy_f32(from + (image * p_.out_height + block.row_begin) * row, p_.filters,
                                packed + image * pixels * width, width, pixels, panels.used(panel), width);
    is_packed_[panel] = true;
    return {packed, block.row_begin, width, p_.out_width * width, pixels * width};
  }

  void sum_tile(const PixelBlock& block, int64_t group, int64_t row_tile, int64_t panel, int64_t tap, const Pixels& a,
                const Pixels& b, Ahead& ahead, bool accumulate) {
    const int64_t tap_row = tap / tiling_.columns;
    const int64_t tap_column = tap % tiling_.columns;
    const Span inside = tiling_.row_spans[tap_row];
    const Span rows{std::max(inside.begin, block.row_begin), std::min(inside.end, block.row_end)};
    const Span columns = tiling_.column_spans[tap_column];
    const int64_t row_offset = tiling_.row_offset(tap_row);
    const int64_t column_offset = tiling_.column_offset(tap_column);
    const int64_t first_row = row_tile * tiling_.tile_rows;
    GemmTile t{};
    t.a = a.first;
    t.a_segments = a_segments_;
    t.a_row = 1;
    t.b = b.first;
    t.b_segments = b_segments_;
    t.c = sums_ + ((tap_row * p_.kernel_width + tap_column) * (p_.channels / p_.groups) + first_row) * p_.filters +
          group * tiling_.panels.columns + tiling_.panels.begin(panel);
    t.c_row = p_.filters;
    t.rows = static_cast<int>(std::min(tiling_.tile_rows, tiling_.tap_rows - first_row));
    t.columns = static_cast<int>(tiling_.panels.used(panel));
    t.accumulate = accumulate;
    const auto begin_segment = [&](int64_t image, int64_t y, int64_t x) {
      a_segments_[t.segments] =
          image * a.image + a.at(y * p_.stride_height + row_offset, x * p_.stride_width + column_offset);
      b_segments_[t.segments++] = image * b.image + b.at(y, x);
    };
    const int64_t width = columns.end - columns.begin;
    const int64_t height = rows.end - rows.begin;
    if (width >= block.images) {  // the reduction runs along the rows
      t.a_step = p_.stride_width * a.column;
      t.b_step = b.column;
      // Rows that follow one another in both are one.
      const bool joined = p_.stride_height * a.row == width * t.a_step && b.row == width * t.b_step;
      t.length = joined ? std::max<int64_t>(height, 0) * width : width;
      for (int64_t image = 0; image < block.images; ++image)
        for (int64_t y = rows.begin; y < (joined ? std::min(rows.begin + 1, rows.end) : rows.end); ++y)
          begin_segment(image, y, columns.begin);
    } else {  // across the images
      t.a_step = a.image;
      t.b_step = b.image;
      t.length = block.images;
      for (int64_t y = rows.begin; y < rows.end; ++y)
        for (int64_t x = columns.begin; x < columns.end; ++x) begin_segment(0, y, x);
    }
    ahead.fetch(t);
    kernels().gemm.tile_f32_across(t);
  }

  Scratch scratch_;
  const Tiling& tiling_;
  const Conv2dProblem& p_;
  const float* input_;
  const float* grad_output_;
  int64_t begin_, end_;
  float* sums_;
  float* bias_sums_;
  bool packs_input_;
  bool packs_gradient_;
  float* packed_input_ = nullptr;
  float* packed_gradient_ = nullptr;
  bool* is_packed_ = nullptr;  // panels
  std::ptrdiff_t* a_segments_;
  std::ptrdiff_t* b_segments_;
};

}  // namespace

void conv2d_backward_filters(const Context&, const Conv2dProblem& p, const float* input, const float* grad_output,
                             float* grad_filters, float* grad_bias) {
  if (p.batch == 0) {  // the image may be of any size then
    std::fill_n(grad_filters, p.kernel_height * p.kernel_width * (p.channels / p.groups) * p.filters, 0.0F);
    if (grad_bias != nullptr) std::fill_n(grad_bias, p.filters, 0.0F);
    return;
  }
  if (winograd_conv2d_pays_unprepared(p)) {
    if (grad_bias != nullptr) sum_rows(p.batch * p.out_height * p.out_width, p.filters, grad_output, grad_bias);
    winograd_conv2d_backward_filters(p, input, grad_output, grad_filters);
    return;
  }
  Scratch scratch;
  const Tiling tiling(scratch, p);
  if (tiling.in_width > p.width) {
    float* copy = scratch.take<float>(p.batch * p.height * tiling.in_width * p.channels);
    parallel_for_range(p.batch * p.height, 64, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        float* to = copy + row * tiling.in_width * p.channels;
        std::fill_n(to, p.pad_left * p.channels, 0.0F);
        to = std::copy_n(input + row * p.width * p.channels, p.width * p.channels, to + p.pad_left * p.channels);
        std::fill_n(to, p.pad_right * p.channels, 0.0F);
      }
    });
    input = copy;
  }

  const Blocks blocks(tiling);
  const int64_t size = tiling.filter_floats();
  const int64_t image_blocks = (p.batch + blocks.images - 1) / blocks.images;
  const int64_t wanted_chunks = tiling.wanted_chunks();
  const int64_t chunk_images = (image_blocks + wanted_chunks - 1) / wanted_chunks * blocks.images;
  const int64_t chunks = (p.batch + chunk_images - 1) / chunk_images;
  // A few tasks for each thread, so that a slow one does not keep the others waiting.
  const int64_t tiles = tiling.tiles();
  const int64_t tiles_a_task = part_size(tiles, (4 * num_threads() + chunks - 1) / chunks);
  const int64_t tasks_a_chunk = (tiles + tiles_a_task - 1) / tiles_a_task;
  float* sums = chunks == 1 ? grad_filters : scratch.take<float>(chunks * size);
  float* bias_sums = grad_bias == nullptr || chunks == 1 ? grad_bias : scratch.take<float>(chunks * p.filters);

  parallel_for(chunks * tasks_a_chunk, [&](int64_t task, int) {
    const int64_t chunk = task / tasks_a_chunk;
    const int64_t begin = task % tasks_a_chunk * tiles_a_task;
    const int64_t images_begin = chunk * chunk_images;
    const int64_t images_end = std::min(images_begin + chunk_images, p.batch);
    TileSums tile_sums(tiling, blocks, input, grad_output, begin, std::min(begin + tiles_a_task, tiles),
                       sums + chunk * size, bias_sums == nullptr ? nullptr : bias_sums + chunk * p.filters);
    for (int64_t image = images_begin; image < images_end; image += blocks.images)
      for (int64_t row = 0; row < p.out_height; row += blocks.rows)
        tile_sums.add(
            {image, std::min(blocks.images, images_end - image), row, std::min(row + blocks.rows, p.out_height)},
            image > images_begin || row > 0);
  });
  if (chunks == 1) return;
  sum_rows(chunks, size, sums, grad_filters);
  if (grad_bias != nullptr) sum_rows(chunks, p.filters, bias_sums, grad_bias);
}

}  // namespace convec::cpu
