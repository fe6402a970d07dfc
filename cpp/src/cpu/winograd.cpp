#include "cpu/winograd.hpp"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>

#include <convec/context.hpp>

#include "cpu/conv2d.hpp"
#include "cpu/dense.hpp"
#include "cpu/kernels/kernel_table.hpp"
#include "cpu/panels.hpp"
#include "cpu/scratch.hpp"
#include "cpu/thread_pool.hpp"

namespace convec {

namespace {

std::atomic<bool>& allowed() {
  static std::atomic<bool> flag{[] {
    const char* text = std::getenv("CONVEC_WINOGRAD");
    return text == nullptr || std::strcmp(text, "0") != 0;
  }()};
  return flag;
}

}  // namespace

bool winograd() noexcept { return allowed().load(std::memory_order_relaxed); }
void set_winograd(bool enabled) noexcept { allowed().store(enabled, std::memory_order_relaxed); }

namespace cpu {

namespace {

constexpr int64_t frequencies = 16;
constexpr std::ptrdiff_t no_offset[1] = {0};

}  // namespace

bool winograd_pays(const Conv2dProblem& p) {
  // Below, the transforms cost more than they save; above, the transformed tiles leave the second-level cache.
  constexpr int64_t fewest_channels = 16;
  constexpr int64_t most_channels = 256;
  return winograd() && p.channels >= fewest_channels && p.channels <= most_channels && p.filters >= fewest_channels;
}

// [frequency][panel][channel][width]
int64_t winograd_prepared_size(const Conv2dProblem& p) {
  return frequencies * Panels(p.filters, kernels().gemm).stored() * p.channels;
}

void winograd_prepare(const Conv2dProblem& p, const float* filters, float* prepared) {
  const Panels panels(p.filters, kernels().gemm);
  const int64_t frequency = panels.stored() * p.channels;
  std::fill_n(prepared, frequencies * frequency, 0.0F);  // the columns that pad the last panel
  for (int64_t panel = 0; panel < panels.count(); ++panel)
    for (int64_t c = 0; c < p.channels; ++c)
      kernels().winograd.filters_f32(filters + c * p.filters + panels.begin(panel), p.channels * p.filters,
                                     panels.used(panel),
                                     prepared + panels.offset(panel) * p.channels + c * panels.width(panel), frequency);
}

void winograd_max_pool2d_forward(const Conv2dProblem& p, const Pool2dProblem& pool, const float* input,
                                 const float* prepared, const float* bias, bool relu, float* output,
                                 std::uint8_t* argmax) {
  Scratch scratch;
  const GemmKernels& gemm = kernels().gemm;
  const WinogradKernels& winograd = kernels().winograd;
  const Panels panels(p.filters, gemm);
  bias = padded_bias(scratch, bias, p.filters);
  const int64_t windows = pool.out_height * pool.out_width;
  // Windows worked on at once: a few full tiles of the micro-kernel, so that their transforms stay in the caches.
  const int64_t most = 28 / gemm.rows * gemm.rows;
  const int64_t blocks = std::max((windows + most - 1) / most, std::min(windows, 2 * num_threads() / p.batch));
  const int64_t block = (windows + blocks - 1) / blocks;
  const int64_t tiles = (block + gemm.rows - 1) / gemm.rows;
  const int64_t tile_rows = (block + tiles - 1) / tiles;
  const int64_t pitch = p.width + p.pad_left + p.pad_right;
  const bool border = padded(p);

  parallel_for(p.batch * blocks, [&](int64_t task, int) {
    const int64_t image = task / blocks;
    const int64_t first = task % blocks * block;
    const int64_t count = std::min(block, windows - first);
    if (count <= 0) return;
    Scratch local;
    const float* source = input + image * p.height * p.width * p.channels;
    if (border) {
      float* copy = local.take<float>((p.height + p.pad_top + p.pad_bottom) * pitch * p.channels);
      copy_padded(p, source, copy);
      source = copy;
    }
    float* transformed = local.take<float>(frequencies * block * p.channels);
    for (int64_t w = 0; w < count; ++w) {
      const int64_t y = (first + w) / pool.out_width;
      const int64_t x = (first + w) % pool.out_width;
      winograd.input_f32(source + (2 * y * pitch + 2 * x) * p.channels, pitch * p.channels, p.channels, p.channels,
                         transformed + w * p.channels, block * p.channels);
    }
    float* products = local.take<float>(frequencies * block * panels.full);
    for (int64_t panel = 0; panel < panels.count(); ++panel) {
      const int64_t width = panels.width(panel);
      GemmTile t{};
      t.a_segments = no_offset;
      t.a_row = p.channels;
      t.a_step = 1;
      t.b_step = width;
      t.segments = 1;
      t.length = p.channels;
      t.c_row = width;
      t.columns = static_cast<int>(width);
      for (int64_t f = 0; f < frequencies; ++f) {
        t.b = prepared + (f * panels.stored() + panels.offset(panel)) * p.channels;
        for (int64_t w = 0; w < count; w += tile_rows) {
          t.a = transformed + (f * block + w) * p.channels;
          t.c = products + (f * block + w) * width;
          t.rows = static_cast<int>(std::min(tile_rows, count - w));
          gemm.tile_f32_along(t);
        }
      }
      for (int64_t w = 0; w < count; ++w) {
        const int64_t at = (image * windows + first + w) * p.filters + panels.begin(panel);
        winograd.max_of_output_f32(products + w * width, block * width,
                                   bias == nullptr ? nullptr : bias + panels.begin(panel), relu, panels.used(panel),
                                   output + at, argmax == nullptr ? nullptr : argmax + at);
      }
    }
  });
}

}  // namespace cpu

}  // namespace convec
