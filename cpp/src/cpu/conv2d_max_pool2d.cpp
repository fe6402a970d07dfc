// Gradients of a convolution through the max pooling behind it. Of a 2 x 2 window at most one output in four carries a
// gradient, and none where ReLU cut it off: the maxima are listed and only they are multiplied.
#include <algorithm>

#include "cpu/conv2d.hpp"
#include "cpu/kernels/kernel_table.hpp"
#include "cpu/scratch.hpp"
#include "cpu/thread_pool.hpp"

namespace convec::cpu {

namespace {

// Filters whose lists are made together.
constexpr int64_t list_block = 16;

int64_t list_capacity(int64_t longest) { return (longest + 15) / 16 * 16 + 16; }

struct Maps {
  const Conv2dProblem& p;
  const Pool2dProblem& pool;
  const float* output;  // null: every maximum carries its gradient
  const std::uint8_t* argmax;
  const float* grad_output;

  int64_t windows() const { return pool.out_height * pool.out_width; }
  int64_t positions() const { return pool.pool_height * pool.pool_width; }

  MaximaLists lists(int64_t image, int64_t channel, int64_t channels) const {
    const int64_t at = image * windows() * p.filters + channel;
    MaximaLists m{};
    m.gradient = grad_output + at;
    m.output = output == nullptr ? nullptr : output + at;
    m.argmax = argmax + at;
    m.windows = windows();
    m.channels = channels;
    m.channel_pitch = p.filters;
    m.positions = positions();
    return m;
  }
};

// Input offset of the first position of each window, and of each position relative to it.
struct WindowOffsets {
  std::int32_t* windows;
  std::int32_t* positions;

  WindowOffsets(Scratch& scratch, const Maps& maps, int64_t pitch, int64_t channels) {
    const Conv2dProblem& p = maps.p;
    const Pool2dProblem& pool = maps.pool;
    windows = scratch.take<std::int32_t>(maps.windows());
    positions = scratch.take<std::int32_t>(std::max<int64_t>(maps.positions(), 16));
    const int64_t row = p.stride_height * pitch * channels;
    const int64_t column = p.stride_width * channels;
    for (int64_t y = 0; y < pool.out_height; ++y)
      for (int64_t x = 0; x < pool.out_width; ++x)
        windows[y * pool.out_width + x] =
            static_cast<std::int32_t>(y * pool.pool_height * row + x * pool.pool_width * column);
    for (int64_t i = 0; i < pool.pool_height; ++i)
      for (int64_t j = 0; j < pool.pool_width; ++j)
        positions[i * pool.pool_width + j] = static_cast<std::int32_t>(i * row + j * column);
  }
};

// One input channel. A task owns a vector of filters and walks through the images in order.
void backward_filters_of_one_channel(const Maps& maps, const float* input, int64_t image_size, int64_t pitch,
                                     float* grad_filters, float* grad_bias) {
  constexpr int64_t taps = 9;
  const Conv2dProblem& p = maps.p;
  const int64_t vector = kernels().gemm.vector;
  parallel_for((p.filters + vector - 1) / vector, [&](int64_t block, int) {
    const int64_t first = block * vector;
    const int64_t filters = std::min(vector, p.filters - first);
    Scratch local;
    float* sums = local.take<float>((taps + 1) * vector);
    std::fill_n(sums, (taps + 1) * vector, 0.0F);
    for (int64_t image = 0; image < p.batch; ++image) {
      const MaximaLists m = maps.lists(image, first, filters);
      PatchFilterGradient g{};
      g.input = input + image * image_size;
      g.input_row = pitch;
      g.rows = maps.pool.out_height;
      g.columns = maps.pool.out_width;
      g.gradient = m.gradient;
      g.output = m.output;
      g.argmax = m.argmax;
      g.channel_pitch = p.filters;
      g.channels = filters;
      g.sums = sums;
      kernels().conv_pool.patch_filter_gradient_f32(g);
    }
    for (int64_t tap = 0; tap < taps; ++tap)
      std::copy_n(sums + tap * vector, filters, grad_filters + tap * p.filters + first);
    if (grad_bias != nullptr) std::copy_n(sums + taps * vector, filters, grad_bias + first);
  });
}

// A task owns some filters and walks through the images in order.
void backward_filters(const Maps& maps, const float* input, float* grad_filters, float* grad_bias) {
  const Conv2dProblem& p = maps.p;
  const ConvPoolKernels& kernel = kernels().conv_pool;
  Scratch scratch;
  const int64_t padded_height = p.height + p.pad_top + p.pad_bottom;
  const int64_t pitch = p.width + p.pad_left + p.pad_right;
  const int64_t image_size = padded_height * pitch * p.channels;
  if (padded(p)) {
    float* copy = scratch.take<float>(p.batch * image_size);
    parallel_for(p.batch, [&](int64_t image, int) {
      copy_padded(p, input + image * p.height * p.width * p.channels, copy + image * image_size);
    });
    input = copy;
  }
  if (p.channels == 1 && small_windows(p, maps.pool) && kernel.patch_filter_gradient_f32 != nullptr) {
    backward_filters_of_one_channel(maps, input, image_size, pitch, grad_filters, grad_bias);
    return;
  }
  const WindowOffsets offsets(scratch, maps, pitch, p.channels);
  const int64_t width = p.kernel_width * p.channels;  // neighbouring columns of a filter are neighbours in memory
  const int64_t blocks = (p.filters + list_block - 1) / list_block;
  parallel_for(blocks, [&](int64_t block, int) {
    const int64_t first = block * list_block;
    const int64_t filters = std::min(list_block, p.filters - first);
    Scratch local;
    const int64_t size = p.kernel_height * width;
    float* sums = local.take<float>(filters * size);
    std::fill_n(sums, filters * size, 0.0F);
    double bias[list_block] = {};
    std::int32_t counts[list_block];
    const int64_t capacity = list_capacity(maps.windows());
    Maxima lists{local.take<std::int32_t>(filters * capacity), local.take<float>(filters * capacity)};
    for (int64_t image = 0; image < p.batch; ++image) {
      MaximaLists m = maps.lists(image, first, filters);
      m.window_offsets = offsets.windows;
      m.position_offsets = offsets.positions;
      m.lists = lists;
      m.capacity = capacity;
      m.counts = counts;
      kernel.list_by_channel_f32(m);
      for (int64_t f = 0; f < filters; ++f) {
        SparseFilterGradient s{};
        s.input = input + image * image_size;
        s.input_row = pitch * p.channels;
        s.rows = p.kernel_height;
        s.width = width;
        s.offsets = lists.offsets + f * capacity;
        s.gradients = lists.gradients + f * capacity;
        s.count = counts[f];
        s.sums = sums + f * size;
        kernel.sparse_filter_gradient_f32(s);
        if (grad_bias != nullptr) bias[f] += static_cast<double>(kernel.sum_f32(s.gradients, s.count));
      }
    }
    kernels().pack.transpose_f32(sums, size, grad_filters + first, p.filters, size, filters, filters);
    if (grad_bias != nullptr)
      for (int64_t f = 0; f < filters; ++f) grad_bias[first + f] = static_cast<float>(bias[f]);
  });
}

// A task owns an image.
void backward_input_sparse(const Maps& maps, const float* filters, float* grad_input) {
  const Conv2dProblem& p = maps.p;
  const KernelTable& kernel = kernels();
  const int64_t vector = kernel.gemm.vector;
  constexpr int64_t taps = 9;
  constexpr int64_t positions = 4;
  // Filters whose weights for one vector of channels (18 KB together) stay in the first-level cache.
  const int64_t filter_block = 512 / vector;
  const int64_t vectors = p.channels / vector;
  Scratch scratch;
  // [vector of channels][filter][tap][vector]
  float* packed = scratch.take<float>(p.filters * taps * p.channels);
  for (int64_t tap = 0; tap < taps; ++tap)
    for (int64_t v = 0; v < vectors; ++v)
      kernel.pack.transpose_f32(filters + (tap * p.channels + v * vector) * p.filters, p.filters,
                                packed + (v * p.filters * taps + tap) * vector, taps * vector, p.filters, vector,
                                vector);
  const int64_t padded_height = p.height + p.pad_top + p.pad_bottom;
  const int64_t pitch = p.width + p.pad_left + p.pad_right;
  parallel_for(p.batch, [&](int64_t image, int) {
    Scratch local;
    const int64_t image_size = p.height * p.width * p.channels;
    float* target = grad_input + image * image_size;
    float* sums = padded(p) ? local.take<float>(padded_height * pitch * p.channels) : target;
    std::fill_n(sums, padded_height * pitch * p.channels, 0.0F);
    const int64_t capacity = list_capacity(filter_block);
    std::int32_t* counts = local.take<std::int32_t>(maps.windows() * positions);
    Maxima lists{local.take<std::int32_t>(maps.windows() * positions * capacity),
                 local.take<float>(maps.windows() * positions * capacity)};
    for (int64_t first = 0; first < p.filters; first += filter_block) {
      MaximaLists m = maps.lists(image, first, std::min(filter_block, p.filters - first));
      m.channel_step = static_cast<std::int32_t>(taps * vector);
      m.lists = lists;
      m.capacity = capacity;
      m.counts = counts;
      kernel.conv_pool.list_by_position_f32(m);
      for (int64_t v = 0; v < vectors; ++v)
        for (int64_t y = 0; y < maps.pool.out_height; ++y)
          for (int64_t x = 0; x < maps.pool.out_width; ++x) {
            const int64_t window = y * maps.pool.out_width + x;
            SparsePatch patch{};
            patch.offsets = lists.offsets + window * positions * capacity;
            patch.gradients = lists.gradients + window * positions * capacity;
            patch.capacity = capacity;
            patch.counts = counts + window * positions;
            patch.filters = packed + (v * p.filters + first) * taps * vector;
            patch.patch = sums + (2 * y * pitch + 2 * x) * p.channels + v * vector;
            patch.row = pitch * p.channels;
            patch.column = p.channels;
            kernel.conv_pool.sparse_patch_f32(patch);
          }
    }
    if (padded(p))
      for (int64_t y = 0; y < p.height; ++y)
        std::copy_n(sums + ((y + p.pad_top) * pitch + p.pad_left) * p.channels, p.width * p.channels,
                    target + y * p.width * p.channels);
  });
}

// Through the gradient of the convolution's own output.
void backward_input_dense(const Context& context, const Maps& maps, const float* filters, float* grad_input) {
  const Conv2dProblem& p = maps.p;
  const Pool2dProblem& pool = maps.pool;
  Scratch scratch;
  const int64_t image_size = p.out_height * p.out_width * p.filters;
  float* unpooled = scratch.take<float>(p.batch * image_size);
  parallel_for(p.batch, [&](int64_t image, int) {
    float* to = unpooled + image * image_size;
    std::fill_n(to, image_size, 0.0F);
    for (int64_t y = 0; y < pool.out_height; ++y)
      for (int64_t x = 0; x < pool.out_width; ++x) {
        const int64_t at = ((image * pool.out_height + y) * pool.out_width + x) * p.filters;
        for (int64_t f = 0; f < p.filters; ++f) {
          if (maps.output != nullptr && !(maps.output[at + f] > 0.0F)) continue;
          const int64_t position = maps.argmax[at + f];
          const int64_t row = y * pool.pool_height + position / pool.pool_width;
          const int64_t column = x * pool.pool_width + position % pool.pool_width;
          to[(row * p.out_width + column) * p.filters + f] = maps.grad_output[at + f];
        }
      }
  });
  conv2d_backward_input(context, p, unpooled, filters, grad_input);
}

}  // namespace

void copy_padded(const Conv2dProblem& p, const float* image, float* to) {
  const int64_t row = p.width * p.channels;
  const int64_t pitch = (p.width + p.pad_left + p.pad_right) * p.channels;
  to = std::fill_n(to, p.pad_top * pitch, 0.0F);
  for (int64_t y = 0; y < p.height; ++y) {
    to = std::fill_n(to, p.pad_left * p.channels, 0.0F);
    to = std::copy_n(image + y * row, row, to);
    to = std::fill_n(to, p.pad_right * p.channels, 0.0F);
  }
  std::fill_n(to, p.pad_bottom * pitch, 0.0F);
}

bool padded(const Conv2dProblem& p) { return p.pad_top + p.pad_bottom + p.pad_left + p.pad_right > 0; }

bool small_windows(const Conv2dProblem& p, const Pool2dProblem& pool) {
  return p.kernel_height == 3 && p.kernel_width == 3 && p.stride_height == 1 && p.stride_width == 1 &&
         pool.pool_height == 2 && pool.pool_width == 2;
}

// Windows must tile the image, so that every output of the convolution is read at most once.
bool conv2d_max_pool2d_fusible(const Conv2dProblem& p, const Pool2dProblem& pool) {
  constexpr int64_t largest_image = 1LL << 30;  // offsets are 32-bit
  return p.groups == 1 && p.dilation_height == 1 && p.dilation_width == 1 && pool.stride_height == pool.pool_height &&
         pool.stride_width == pool.pool_width && pool.pad_top == 0 && pool.pad_left == 0 &&
         pool.out_height * pool.pool_height <= pool.height && pool.out_width * pool.pool_width <= pool.width &&
         pool.pool_height * pool.pool_width <= 256 && is_narrow(p.pad_top + p.pad_bottom, p.height, p.kernel_height) &&
         is_narrow(p.pad_left + p.pad_right, p.width, p.kernel_width) &&
         (p.height + p.pad_top + p.pad_bottom) * (p.width + p.pad_left + p.pad_right) * p.channels < largest_image;
}

void conv2d_max_pool2d_backward(const Context& context, const Conv2dProblem& p, const Pool2dProblem& pool,
                                const float* input, const float* filters, bool relu, const float* output,
                                const std::uint8_t* argmax, const float* grad_output, float* grad_input,
                                float* grad_filters, float* grad_bias) {
  const Maps maps{p, pool, relu ? output : nullptr, argmax, grad_output};
  if (grad_filters != nullptr) backward_filters(maps, input, grad_filters, grad_bias);
  if (grad_input == nullptr) return;
  const bool sparse = kernels().conv_pool.sparse_patch_f32 != nullptr && small_windows(p, pool) &&
                      p.channels % kernels().gemm.vector == 0;
  if (sparse)
    backward_input_sparse(maps, filters, grad_input);
  else
    backward_input_dense(context, maps, filters, grad_input);
}

}  // namespace convec::cpu
