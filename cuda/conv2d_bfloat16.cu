// Convolutions of bfloat16 arrays (conv2d_products.hpp).
#include "conv2d_products.hpp"
#include "cuda_table.hpp"
#include "widened.hpp"

namespace convec::cuda {

namespace {

int64_t taps_of(const Conv2dProblem& p) { return p.kernel_height * p.kernel_width; }

constexpr int64_t eight = vector_numbers<BFloat16>;

// The problem with channels added to make whole eights, a first layer's mostly: more arithmetic, but on tensor cores.
// Sums that have kernels of their own in float32 stay as they are.
Conv2dProblem with_whole_eights(const Conv2dProblem& p) {
  Conv2dProblem padded = p;
  if (p.groups == 1 && taps_of(p) * p.channels > direct_depth)
    padded.channels = (p.channels + eight - 1) / eight * eight;
  return padded;
}

bool taken(const Context& context, const Conv2dProblem& p, const BFloat16* image, const BFloat16* other) {
  // An image that gains channels is copied, to where it is aligned.
  return takes_bfloat16(context, {with_whole_eights(p).channels / p.groups, p.filters / p.groups}, other) &&
         (p.channels % eight != 0 || aligned_for_vectors(image));
}

// The array with lines of `to` numbers: itself, or a copy.
const BFloat16* with_lines(const Context& context, Scratch& scratch, int64_t lines, int64_t from, int64_t to,
                           const BFloat16* array) {
  if (from == to) return array;
  auto* const copy = scratch.take<BFloat16>(lines * to);
  resize_lines(context, lines, from, to, array, copy);
  return copy;
}

void conv2d_forward(const Context& context, const Conv2dProblem& p, const BFloat16* input, const BFloat16* filters,
                    const float* bias, Activation activation, BFloat16* output) {
  if (!taken(context, p, input, filters))
    return ByFloat32::conv2d_forward(context, p, input, filters, bias, activation, output);
  Scratch scratch(context);
  const Conv2dProblem padded = with_whole_eights(p);
  input = with_lines(context, scratch, p.batch * pixels_of(p), p.channels, padded.channels, input);
  filters = with_lines(context, scratch, taps_of(p), p.channels / p.groups * p.filters,
                       padded.channels / p.groups * p.filters, filters);
  for_slices(padded, [&](int64_t images, int64_t first_in, int64_t first_out) {
    const MatrixOutput<BFloat16> to{output + first_out, p.filters, bias, activation, aligned_for_vectors(output)};
    conv2d_product(context, scratch, padded, Shape2d(padded, images), input + first_in, filters, to);
  });
}

void conv2d_backward_input(const Context& context, const Conv2dProblem& p, const BFloat16* grad_output,
                           const BFloat16* filters, BFloat16* grad_input) {
  // Lines of channels are written, and may be of any length.
  if (!takes_bfloat16(context, {p.filters / p.groups}, grad_output, filters))
    return ByFloat32::conv2d_backward_input(context, p, grad_output, filters, grad_input);
  conv2d_input_product(context, p, grad_output, filters, grad_input);
}

void conv2d_backward_filters(const Context& context, const Conv2dProblem& p, const BFloat16* input,
                             const BFloat16* grad_output, float* grad_filters, float* grad_bias) {
  if (!taken(context, p, input, grad_output))
    return ByFloat32::conv2d_backward_filters(context, p, input, grad_output, grad_filters, grad_bias);
  Scratch scratch(context);
  const Conv2dProblem padded = with_whole_eights(p);
  if (padded.channels == p.channels) {
    conv2d_filters_product(context, p, input, grad_output, grad_filters, grad_bias);
    return;
  }
  input = with_lines(context, scratch, p.batch * pixels_of(p), p.channels, padded.channels, input);
  auto* const gradients = scratch.take<float>(taps_of(p) * padded.channels * p.filters);
  conv2d_filters_product(context, padded, input, grad_output, gradients, grad_bias);
  resize_lines(context, taps_of(p), padded.channels * p.filters, p.channels * p.filters, gradients, grad_filters);
}

}  // namespace

void fill_conv2d_bfloat16(OpTable& table) {
  table.conv2d_forward_bfloat16 = conv2d_forward;
  table.conv2d_backward_input_bfloat16 = conv2d_backward_input;
  table.conv2d_backward_filters_bfloat16 = conv2d_backward_filters;
}

}  // namespace convec::cuda
