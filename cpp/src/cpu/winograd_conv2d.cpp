#include "cpu/winograd_conv2d.hpp"

#include <algorithm>

#include <convec/context.hpp>

#include "cpu/cache.hpp"
#include "cpu/dense.hpp"
#include "cpu/kernels/kernel_table.hpp"
#include "cpu/panels.hpp"
#include "cpu/scratch.hpp"
#include "cpu/thread_pool.hpp"

namespace convec::cpu {

namespace {

constexpr int64_t extent = 4;          // of an output tile
constexpr int64_t patch = extent + 2;  // of the input tile below it
constexpr int64_t frequencies = patch * patch;
constexpr int64_t taps = 9;
constexpr std::ptrdiff_t no_offset[1] = {0};

// Fewer tiles than this do not make up for transforming the filters.
constexpr int64_t fewest_tiles = 28;
// The same for the gradient to the filters, whose sums are read and written once a block: the last-level cache.
constexpr int64_t sum_block = 8 * 1024 * 1024;
// Tiles a task of the transforms.
constexpr int64_t tiles_a_task = 8;

// Bytes of transformed input worked on at once: half of the second-level cache, whose other half is for products and
// filters.
int64_t cache_block() { return second_level_cache() / 2; }

int64_t tiles_of(int64_t pixels) { return (pixels + extent - 1) / extent; }

// A correlation of images with 3 x 3 filters at stride 1: the forward pass or the gradient to the input.
struct Correlation {
  int64_t batch;
  int64_t in_height, in_width, channels;
  int64_t out_height, out_width, filters;
  int64_t pad_top, pad_left;

  int64_t tile_columns() const { return tiles_of(out_width); }
  int64_t tiles_an_image() const { return tiles_of(out_height) * tile_columns(); }
  int64_t tiles() const { return batch * tiles_an_image(); }
};

Correlation forward_correlation(const Conv2dProblem& p) {
  return {p.batch, p.height, p.width, p.channels, p.out_height, p.out_width, p.filters, p.pad_top, p.pad_left};
}

// The filters turned round and their channels exchanged: gradient position y lies under input position y + tap - pad.
Correlation backward_correlation(const Conv2dProblem& p) {
  return {p.batch, p.out_height, p.out_width, p.filters, p.height, p.width, p.channels, 2 - p.pad_top, 2 - p.pad_left};
}

bool pays(const Conv2dProblem& p, const Correlation& w) {
  // Fewer channels: the transforms cost more than they save. Tiles that hang over the edge are wasted.
  constexpr int64_t fewest_channels = 16;
  const int64_t tiled = w.tiles_an_image() * extent * extent;
  return winograd() && p.kernel_height == 3 && p.kernel_width == 3 && p.stride_height == 1 && p.stride_width == 1 &&
         p.dilation_height == 1 && p.dilation_width == 1 && p.groups == 1 && w.channels >= fewest_channels &&
         w.filters >= fewest_channels && 5 * tiled <= 8 * w.out_height * w.out_width;
}

// Distance of two tiles' channels: not a multiple of a kilobyte, or the rows of a product meet in few cache sets.
int64_t pitch_of(int64_t channels) {
  constexpr int64_t vector = 16;
  const int64_t rounded = (channels + vector - 1) / vector * vector;
  return rounded % 256 == 0 ? rounded + vector : rounded;
}

// Where tile `index` lies in images of height x width x channels; it begins at multiples of 4, less the offsets.
struct Place {
  WinogradTile tile;
  std::ptrdiff_t offset;
};

Place place_of(const Correlation& w, int64_t index, int64_t size, int64_t height, int64_t width, int64_t channels,
               int64_t up, int64_t left) {
  const int64_t image = index / w.tiles_an_image();
  const int64_t y = index % w.tiles_an_image() / w.tile_columns() * extent - up;
  const int64_t x = index % w.tile_columns() * extent - left;
  Place place{};
  place.tile.row = width * channels;
  place.tile.column = channels;
  place.tile.row_begin = static_cast<int>(std::clamp<int64_t>(-y, 0, size));
  place.tile.row_end = static_cast<int>(std::clamp<int64_t>(height - y, 0, size));
  place.tile.column_begin = static_cast<int>(std::clamp<int64_t>(-x, 0, size));
  place.tile.column_end = static_cast<int>(std::clamp<int64_t>(width - x, 0, size));
  place.tile.channels = channels;
  place.offset = ((image * height + y) * width + x) * channels;
  return place;
}

// Frequencies of some tiles: [frequency][tile][pitch].
struct Transformed {
  float* values;
  int64_t tiles;
  int64_t pitch;

  Transformed(Scratch& scratch, int64_t tiles_, int64_t channels)
      : values(scratch.take<float>(frequencies * tiles_ * pitch_of(channels))),
        tiles(tiles_),
        pitch(pitch_of(channels)) {}
  std::ptrdiff_t frequency() const { return tiles * pitch; }
};

void transform_input(const Correlation& w, const float* input, int64_t first, int64_t begin, int64_t end,
                     const Transformed& to) {
  for (int64_t i = begin; i < end; ++i) {
    Place place = place_of(w, first + i, patch, w.in_height, w.in_width, w.channels, w.pad_top, w.pad_left);
    place.tile.frequency = to.frequency();
    kernels().winograd.input_4x4_f32(place.tile, input + place.offset, to.values + i * to.pitch);
  }
}

// ---- Filters -------------------------------------------------------------------------------------------------------

// [panel][frequency][channel][width] from taps that are `tap` apart, each channels x columns.
void transform_filters(int64_t channels, int64_t columns, const float* filters, std::ptrdiff_t tap, float* prepared) {
  const Panels panels(columns, kernels().gemm);
  constexpr int64_t channels_a_task = 16;
  parallel_for_range(channels, channels_a_task, [&](int64_t begin, int64_t end) {
    for (int64_t panel = 0; panel < panels.count(); ++panel) {
      const int64_t width = panels.width(panel);
      float* to = prepared + panels.offset(panel) * frequencies * channels;
      if (panels.used(panel) < width)
        for (int64_t f = 0; f < frequencies; ++f)
          std::fill_n(to + (f * channels + begin) * width, (end - begin) * width, 0.0F);
      for (int64_t c = begin; c < end; ++c)
        kernels().winograd.filters_4x4_f32(filters + c * columns + panels.begin(panel), tap, panels.used(panel),
                                           to + c * width, width * channels);
    }
  });
}

int64_t prepared_size(int64_t channels, int64_t columns) {
  return frequencies * Panels(columns, kernels().gemm).stored() * channels;
}

// ---- Forward -------------------------------------------------------------------------------------------------------

class Correlator {
 public:
  Correlator(const Correlation& w, const float* prepared, const float* bias, bool relu, float* output)
      : w_(w), panels_(w.filters, kernels().gemm), prepared_(prepared), bias_(bias), relu_(relu), output_(output) {}

  // One panel of the outputs of tiles first + [0, count), whose inputs are [begin, begin + count) of `inputs`.
  void run(const Transformed& inputs, int64_t begin, int64_t first, int64_t count, int64_t panel) const {
    Scratch scratch;
    const GemmKernels& gemm = kernels().gemm;
    const int64_t width = panels_.width(panel);
    const int64_t row_tiles = (count + gemm.rows - 1) / gemm.rows;
    const int64_t rows = (count + row_tiles - 1) / row_tiles;
    float* products = scratch.take<float>(frequencies * count * width);
    GemmTile t{};
    t.a_segments = no_offset;
    t.a_row = inputs.pitch;
    t.a_step = 1;
    t.b_step = width;
    t.segments = 1;
    t.length = w_.channels;
    t.c_row = width;
    t.columns = static_cast<int>(width);
    for (int64_t f = 0; f < frequencies; ++f) {
      t.b = prepared_ + (panels_.offset(panel) * frequencies + f * width) * w_.channels;
      for (int64_t i = 0; i < count; i += rows) {
        t.a = inputs.values + f * inputs.frequency() + (begin + i) * inputs.pitch;
        t.c = products + (f * count + i) * width;
        t.rows = static_cast<int>(std::min(rows, count - i));
        gemm.tile_f32_along(t);
      }
    }
    const float* bias = bias_ == nullptr ? nullptr : bias_ + panels_.begin(panel);
    for (int64_t i = 0; i < count; ++i) {
      Place place = place_of(w_, first + i, extent, w_.out_height, w_.out_width, w_.filters, 0, 0);
      place.tile.channels = panels_.used(panel);
      place.tile.frequency = count * width;
      kernels().winograd.output_4x4_f32(place.tile, products + i * width, bias, relu_,
                                        output_ + place.offset + panels_.begin(panel));
    }
  }

 private:
  const Correlation& w_;
  Panels panels_;
  const float* prepared_;
  const float* bias_;
  bool relu_;
  float* output_;
};

void correlate(const Correlation& w, const float* input, const float* prepared, const float* bias, bool relu,
               float* output) {
  Scratch scratch;
  const int64_t rows = kernels().gemm.rows;
  const int64_t panel_count = Panels(w.filters, kernels().gemm).count();
  const Correlator correlator(w, prepared, padded_bias(scratch, bias, w.filters), relu, output);
  const int64_t fitting = cache_block() / (frequencies * pitch_of(w.channels) * static_cast<int64_t>(sizeof(float)));
  const int64_t most = std::max(fitting / rows, int64_t{2}) * rows;
  const int64_t blocks = (w.tiles() + most - 1) / most;
  const int64_t block = (w.tiles() + blocks - 1) / blocks;
  if (blocks >= 2 * num_threads()) {
    parallel_for(blocks, [&](int64_t task, int) {
      Scratch local;
      const int64_t first = task * block;
      const int64_t count = std::min(block, w.tiles() - first);
      if (count <= 0) return;
      const Transformed inputs(local, count, w.channels);
      transform_input(w, input, first, 0, count, inputs);
      for (int64_t panel = 0; panel < panel_count; ++panel) correlator.run(inputs, 0, first, count, panel);
    });
    return;
  }
  // Few tiles, and more filters than the caches hold: a task owns some of the filters, which are then read only once.
  const Transformed inputs(scratch, w.tiles(), w.channels);
  parallel_for_range(w.tiles(), tiles_a_task,
                     [&](int64_t begin, int64_t end) { transform_input(w, input, 0, begin, end, inputs); });
  parallel_for(panel_count, [&](int64_t panel, int) {
    for (int64_t first = 0; first < w.tiles(); first += block)
      correlator.run(inputs, first, first, std::min(block, w.tiles() - first), panel);
  });
}

}  // namespace

bool winograd_conv2d_pays(const Conv2dProblem& p) { return pays(p, forward_correlation(p)); }

bool winograd_conv2d_pays_unprepared(const Conv2dProblem& p) {
  const Correlation w = forward_correlation(p);
  return w.tiles() >= fewest_tiles && pays(p, w);
}

bool winograd_conv2d_backward_input_pays(const Conv2dProblem& p) {
  const Correlation w = backward_correlation(p);
  return w.tiles() >= fewest_tiles && pays(p, w);
}

int64_t winograd_conv2d_prepared_size(const Conv2dProblem& p) { return prepared_size(p.channels, p.filters); }

void winograd_conv2d_prepare(const Conv2dProblem& p, const float* filters, float* prepared) {
  transform_filters(p.channels, p.filters, filters, p.channels * p.filters, prepared);
}

void winograd_conv2d_forward(const Conv2dProblem& p, const float* input, const float* prepared, const float* bias,
                             bool relu, float* output) {
  correlate(forward_correlation(p), input, prepared, bias, relu, output);
}

void winograd_conv2d_backward_input(const Conv2dProblem& p, const float* grad_output, const float* filters,
                                    float* grad_input) {
  Scratch scratch;
  const int64_t size = p.channels * p.filters;
  float* exchanged = scratch.take<float>(taps * size);
  parallel_for(taps, [&](int64_t tap, int) {
    kernels().pack.transpose_f32(filters + tap * size, p.filters, exchanged + tap * size, p.channels, p.filters,
                                 p.channels, p.channels);
  });
  float* prepared = scratch.take<float>(prepared_size(p.filters, p.channels));
  // From the last tap to the first: turned round.
  transform_filters(p.filters, p.channels, exchanged + (taps - 1) * size, -size, prepared);
  correlate(backward_correlation(p), grad_output, prepared, nullptr, false, grad_input);
}

// ---- Gradient to the filters ---------------------------------------------------------------------------------------

void winograd_conv2d_backward_filters(const Conv2dProblem& p, const float* input, const float* grad_output,
                                      float* grad_filters) {
  Scratch scratch;
  const Correlation w = forward_correlation(p);
  const GemmKernels& gemm = kernels().gemm;
  const Panels panels(p.filters, gemm);
  const int64_t size = p.channels * p.filters;
  const int64_t bytes =
      frequencies * (pitch_of(p.channels) + pitch_of(p.filters)) * static_cast<int64_t>(sizeof(float));
  const int64_t block = std::min(std::max(sum_block / bytes, fewest_tiles), w.tiles());
  const Transformed inputs(scratch, block, p.channels);
  const Transformed gradients(scratch, block, p.filters);
  float* sums = scratch.take<float>(frequencies * size);
  const int64_t row_tiles = (p.channels + gemm.rows - 1) / gemm.rows;
  const int64_t rows = (p.channels + row_tiles - 1) / row_tiles;
  // Every sum runs over the tiles in their order, a block after the other.
  for (int64_t first = 0; first < w.tiles(); first += block) {
    const int64_t count = std::min(block, w.tiles() - first);
    parallel_for_range(count, tiles_a_task, [&](int64_t begin, int64_t end) {
      transform_input(w, input, first, begin, end, inputs);
      for (int64_t i = begin; i < end; ++i) {
        Place place = place_of(w, first + i, extent, w.out_height, w.out_width, w.filters, 0, 0);
        place.tile.frequency = gradients.frequency();
        kernels().winograd.gradient_4x4_f32(place.tile, grad_output + place.offset,
                                            gradients.values + i * gradients.pitch);
      }
    });
    parallel_for(frequencies * panels.count(), [&](int64_t task, int) {
      const int64_t f = task / panels.count();
      const int64_t panel = task % panels.count();
      GemmTile t{};
      t.a_segments = no_offset;
      t.a_row = 1;
      t.a_step = inputs.pitch;
      t.b = gradients.values + f * gradients.frequency() + panels.begin(panel);
      t.b_step = gradients.pitch;
      t.segments = 1;
      t.length = count;
      t.c_row = p.filters;
      t.columns = static_cast<int>(panels.used(panel));
      t.accumulate = first > 0;
      for (int64_t c = 0; c < p.channels; c += rows) {
        t.a = inputs.values + f * inputs.frequency() + c;
        t.c = sums + f * size + c * p.filters + panels.begin(panel);
        t.rows = static_cast<int>(std::min(rows, p.channels - c));
        gemm.tile_f32_across(t);
      }
    });
  }
  parallel_for_range(p.channels, tiles_a_task, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c)
      kernels().winograd.filters_gradient_4x4_f32(sums + c * p.filters, size, p.filters, grad_filters + c * p.filters,
                                                  size);
  });
}

}  // namespace convec::cpu
