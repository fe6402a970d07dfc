#include "cpu/kernels/pool2d.hpp"

#include "cpu/kernels/math.hpp"

namespace convec::cpu::CONVEC_ISA_NAMESPACE {

void fill_pool2d(PoolKernels& kernels);

namespace {

// The part of a window that lies inside the image.
struct Span {
  std::int64_t begin;
  std::int64_t end;
};

CONVEC_INLINE Span clip_span(std::int64_t start, std::int64_t length, std::int64_t limit) {
  const std::int64_t end = start + length;
  return {start > 0 ? start : 0, end < limit ? end : limit};
}

// The larger of `best` and `x`; NaN once either is NaN, `best` where they are equal.
CONVEC_INLINE VecInt keeps(Vec best, Vec x) { return vec_less_equal(x, best) | vec_is_nan(best); }

void max_forward_row(const Pool2dProblem& p, std::int64_t out_row, const float* image, float* output) {
  const Span rows = clip_span(out_row * p.stride_height - p.pad_top, p.pool_height, p.height);
  for (std::int64_t ow = 0; ow < p.out_width; ++ow, output += p.channels) {
    const Span columns = clip_span(ow * p.stride_width - p.pad_left, p.pool_width, p.width);
    for (std::int64_t c = 0; c < p.channels; c += vec_width) {
      const std::int64_t left = p.channels - c;
      const float* corner = image + (rows.begin * p.width + columns.begin) * p.channels + c;
      Vec best = vec_load_some(corner, left);
      for (std::int64_t y = rows.begin; y < rows.end; ++y) {
        const float* pixel = image + (y * p.width + columns.begin) * p.channels + c;
        for (std::int64_t x = columns.begin; x < columns.end; ++x, pixel += p.channels) {
          const Vec value = vec_load_some(pixel, left);
          best = vec_select(keeps(best, value), best, value);
        }
      }
      vec_store_some(output + c, best, left);
    }
  }
}

void average_forward_row(const Pool2dProblem& p, std::int64_t out_row, const float* image, float* output) {
  const Span rows = clip_span(out_row * p.stride_height - p.pad_top, p.pool_height, p.height);
  for (std::int64_t ow = 0; ow < p.out_width; ++ow, output += p.channels) {
    const Span columns = clip_span(ow * p.stride_width - p.pad_left, p.pool_width, p.width);
    const Vec count = vec_set(static_cast<float>((rows.end - rows.begin) * (columns.end - columns.begin)));
    for (std::int64_t c = 0; c < p.channels; c += vec_width) {
      const std::int64_t left = p.channels - c;
      // A sum a row and then a sum of rows: the rounding error of a large window stays small.
      Vec sum = vec_zero();
      for (std::int64_t y = rows.begin; y < rows.end; ++y) {
        const float* pixel = image + (y * p.width + columns.begin) * p.channels + c;
        Vec row = vec_zero();
        for (std::int64_t x = columns.begin; x < columns.end; ++x, pixel += p.channels)
          row = vec_add(row, vec_load_some(pixel, left));
        sum = vec_add(sum, row);
      }
      vec_store_some(output + c, sum / count, left);
    }
  }
}

CONVEC_INLINE void clear(const Pool2dProblem& p, std::int64_t first, std::int64_t last, float* image) {
  for (std::int64_t pixel = 0; pixel < p.height * p.width; ++pixel, image += p.channels)
    for (std::int64_t c = first; c < last; c += vec_width) vec_store_some(image + c, vec_zero(), last - c);
}

// Whether every pixel lies in exactly one window: all of the gradient is then written.
CONVEC_INLINE bool tiles(const Pool2dProblem& p) {
  return p.stride_height == p.pool_height && p.stride_width == p.pool_width && p.pad_top == 0 && p.pad_left == 0 &&
         p.out_height * p.pool_height >= p.height && p.out_width * p.pool_width >= p.width;
}

void max_backward_image(const Pool2dProblem& p, std::int64_t first, std::int64_t last, const float* grad_output,
                        const float* image, float* grad_input) {
  if (!tiles(p)) clear(p, first, last, grad_input);
  const bool overlapping = p.stride_height < p.pool_height || p.stride_width < p.pool_width;
  for (std::int64_t oh = 0; oh < p.out_height; ++oh) {
    const Span rows = clip_span(oh * p.stride_height - p.pad_top, p.pool_height, p.height);
    for (std::int64_t ow = 0; ow < p.out_width; ++ow, grad_output += p.channels) {
      const Span columns = clip_span(ow * p.stride_width - p.pad_left, p.pool_width, p.width);
      for (std::int64_t c = first; c < last; c += vec_width) {
        const std::int64_t left = last - c;
        const std::int64_t corner = (rows.begin * p.width + columns.begin) * p.channels + c;
        Vec best = vec_load_some(image + corner, left);
        // Number of the best element within the window, row by row (2^31 of them would be 8 GB a channel).
        VecInt winner{};
        std::int32_t number = 0;
        for (std::int64_t y = rows.begin; y < rows.end; ++y) {
          std::int64_t pixel = (y * p.width + columns.begin) * p.channels + c;
          for (std::int64_t x = columns.begin; x < columns.end; ++x, pixel += p.channels, ++number) {
            const Vec value = vec_load_some(image + pixel, left);
            const VecInt keep = keeps(best, value);
            best = vec_select(keep, best, value);
            winner = keep ? winner : vec_set_int(number);
          }
        }
        const Vec gradient = vec_load_some(grad_output + c, left);
        number = 0;
        for (std::int64_t y = rows.begin; y < rows.end; ++y) {
          std::int64_t pixel = (y * p.width + columns.begin) * p.channels + c;
          for (std::int64_t x = columns.begin; x < columns.end; ++x, pixel += p.channels, ++number) {
            const VecInt wins = winner == vec_set_int(number);
            Vec share = vec_select(wins, gradient, vec_zero());
            if (overlapping) share = vec_add(vec_load_some(grad_input + pixel, left), share);
            vec_store_some(grad_input + pixel, share, left);
          }
        }
      }
    }
  }
}

void average_backward_image(const Pool2dProblem& p, std::int64_t first, std::int64_t last, const float* grad_output,
                            float* grad_input) {
  clear(p, first, last, grad_input);
  for (std::int64_t oh = 0; oh < p.out_height; ++oh) {
    const Span rows = clip_span(oh * p.stride_height - p.pad_top, p.pool_height, p.height);
    for (std::int64_t ow = 0; ow < p.out_width; ++ow, grad_output += p.channels) {
      const Span columns = clip_span(ow * p.stride_width - p.pad_left, p.pool_width, p.width);
      const Vec count = vec_set(static_cast<float>((rows.end - rows.begin) * (columns.end - columns.begin)));
      for (std::int64_t c = first; c < last; c += vec_width) {
        const std::int64_t left = last - c;
        const Vec share = vec_load_some(grad_output + c, left) / count;
        for (std::int64_t y = rows.begin; y < rows.end; ++y) {
          float* pixel = grad_input + (y * p.width + columns.begin) * p.channels + c;
          for (std::int64_t x = columns.begin; x < columns.end; ++x, pixel += p.channels)
            vec_store_some(pixel, vec_add(vec_load_some(pixel, left), share), left);
        }
      }
    }
  }
}

// Sums of this many pixels are summed in turn: the rounding error grows with the square root of the image.
constexpr std::int64_t chunk = 64;

// Means of `Vectors` adjacent vectors of channels; `left` channels in the last.
template <int Vectors>
CONVEC_INLINE void means(std::int64_t pixels, std::int64_t channels, const float* image, std::int64_t left,
                         float* output) {
  Vec sum[Vectors];
  for (int v = 0; v < Vectors; ++v) sum[v] = vec_zero();
  for (std::int64_t begin = 0; begin < pixels; begin += chunk) {
    const std::int64_t end = begin + chunk < pixels ? begin + chunk : pixels;
    // Two sums hide the latency of the addition.
    Vec even[Vectors];
    Vec odd[Vectors];
    for (int v = 0; v < Vectors; ++v) even[v] = odd[v] = vec_zero();
    const float* pixel = image + begin * channels;
    std::int64_t i = begin;
    for (; i + 2 <= end; i += 2, pixel += 2 * channels)
      for (int v = 0; v < Vectors; ++v) {
        even[v] = vec_add(even[v], vec_load_some(pixel + v * vec_width, left - v * vec_width));
        odd[v] = vec_add(odd[v], vec_load_some(pixel + channels + v * vec_width, left - v * vec_width));
      }
    if (i < end)
      for (int v = 0; v < Vectors; ++v)
        even[v] = vec_add(even[v], vec_load_some(pixel + v * vec_width, left - v * vec_width));
    for (int v = 0; v < Vectors; ++v) sum[v] = vec_add(sum[v], vec_add(even[v], odd[v]));
  }
  const Vec count = vec_set(static_cast<float>(pixels));
  for (int v = 0; v < Vectors; ++v) vec_store_some(output + v * vec_width, sum[v] / count, left - v * vec_width);
}

void global_average_forward(std::int64_t pixels, std::int64_t channels, std::int64_t first, std::int64_t last,
                            const float* image, float* output) {
  std::int64_t c = first;
  for (; c + 4 * vec_width <= last; c += 4 * vec_width)
    means<4>(pixels, channels, image + c, 4 * vec_width, output + c);
  for (; c + 2 * vec_width <= last; c += 2 * vec_width)
    means<2>(pixels, channels, image + c, 2 * vec_width, output + c);
  for (; c < last; c += vec_width) means<1>(pixels, channels, image + c, last - c, output + c);
}

void global_average_backward(std::int64_t pixels, std::int64_t channels, std::int64_t first, std::int64_t last,
                             const float* grad_output, float* grad_input) {
  const Vec count = vec_set(static_cast<float>(pixels));
  for (std::int64_t c = first; c < last; c += vec_width) {
    const std::int64_t left = last - c;
    const Vec share = vec_load_some(grad_output + c, left) / count;
    float* pixel = grad_input + c;
    for (std::int64_t i = 0; i < pixels; ++i, pixel += channels) vec_store_some(pixel, share, left);
  }
}

}  // namespace

void fill_pool2d(PoolKernels& kernels) {
  kernels.max_forward_row = max_forward_row;
  kernels.average_forward_row = average_forward_row;
  kernels.max_backward_image = max_backward_image;
  kernels.average_backward_image = average_backward_image;
  kernels.global_average_forward = global_average_forward;
  kernels.global_average_backward = global_average_backward;
}

}  // namespace convec::cpu::CONVEC_ISA_NAMESPACE
