#include "cpu/kernels/batch_norm.hpp"

#include "cpu/kernels/math.hpp"

namespace convec::cpu::CONVEC_ISA_NAMESPACE {

void fill_batch_norm(BatchNormKernels& kernels);

namespace {

// Sums of this many rows are summed in turn: the rounding error stays small for any number of rows.
constexpr std::int64_t chunk = 64;

CONVEC_INLINE std::int64_t chunk_end(std::int64_t begin, std::int64_t rows) {
  return begin + chunk < rows ? begin + chunk : rows;
}

void statistics(std::int64_t rows, std::int64_t channels, const float* input, float* mean, float* squares) {
  const Vec count = vec_set(static_cast<float>(rows));
  for (std::int64_t c = 0; c < channels; c += vec_width) {
    const std::int64_t left = channels - c;
    Vec sum = vec_zero();
    for (std::int64_t begin = 0; begin < rows; begin += chunk) {
      Vec part = vec_zero();
      for (std::int64_t row = begin; row < chunk_end(begin, rows); ++row)
        part = vec_add(part, vec_load_some(input + row * channels + c, left));
      sum = vec_add(sum, part);
    }
    const Vec centre = sum / count;
    sum = vec_zero();
    for (std::int64_t begin = 0; begin < rows; begin += chunk) {
      Vec part = vec_zero();
      for (std::int64_t row = begin; row < chunk_end(begin, rows); ++row) {
        const Vec distance = vec_sub(vec_load_some(input + row * channels + c, left), centre);
        part = vec_fma(distance, distance, part);
      }
      sum = vec_add(sum, part);
    }
    vec_store_some(mean + c, centre, left);
    vec_store_some(squares + c, sum, left);
  }
}

void scale_shift(std::int64_t rows, std::int64_t channels, const float* input, const float* scale, const float* shift,
                 float* output) {
  for (std::int64_t row = 0; row < rows; ++row, input += channels, output += channels)
    for (std::int64_t c = 0; c < channels; c += vec_width) {
      const std::int64_t left = channels - c;
      const Vec y =
          vec_fma(vec_load_some(input + c, left), vec_load_some(scale + c, left), vec_load_some(shift + c, left));
      vec_store_some(output + c, y, left);
    }
}

void gradient_sums(std::int64_t rows, std::int64_t channels, const float* grad_output, const float* input,
                   const float* mean, float* sum, float* sum_centred) {
  for (std::int64_t c = 0; c < channels; c += vec_width) {
    const std::int64_t left = channels - c;
    const Vec centre = vec_load_some(mean + c, left);
    Vec total = vec_zero();
    Vec total_centred = vec_zero();
    for (std::int64_t begin = 0; begin < rows; begin += chunk) {
      Vec part = vec_zero();
      Vec part_centred = vec_zero();
      for (std::int64_t row = begin; row < chunk_end(begin, rows); ++row) {
        const Vec g = vec_load_some(grad_output + row * channels + c, left);
        const Vec distance = vec_sub(vec_load_some(input + row * channels + c, left), centre);
        part = vec_add(part, g);
        part_centred = vec_fma(g, distance, part_centred);
      }
      total = vec_add(total, part);
      total_centred = vec_add(total_centred, part_centred);
    }
    vec_store_some(sum + c, total, left);
    vec_store_some(sum_centred + c, total_centred, left);
  }
}

void gradient(std::int64_t rows, std::int64_t channels, const float* grad_output, const float* input, const float* mean,
              const float* a, const float* b, const float* c, float* grad_input) {
  for (std::int64_t row = 0; row < rows; ++row, grad_output += channels, input += channels, grad_input += channels)
    for (std::int64_t i = 0; i < channels; i += vec_width) {
      const std::int64_t left = channels - i;
      const Vec distance = vec_sub(vec_load_some(input + i, left), vec_load_some(mean + i, left));
      Vec y = vec_fma(distance, vec_load_some(b + i, left), vec_load_some(c + i, left));
      y = vec_fma(vec_load_some(grad_output + i, left), vec_load_some(a + i, left), y);
      vec_store_some(grad_input + i, y, left);
    }
}

}  // namespace

void fill_batch_norm(BatchNormKernels& kernels) {
  kernels.statistics = statistics;
  kernels.scale_shift = scale_shift;
  kernels.gradient_sums = gradient_sums;
  kernels.gradient = gradient;
}

}  // namespace convec::cpu::CONVEC_ISA_NAMESPACE
