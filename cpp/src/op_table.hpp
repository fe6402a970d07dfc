// One row an op. Each backend fills the same table; cpp/src/ops validates, then calls a row. Rows may assume that
// every pointer is valid, every extent positive and every argument in range.
#pragma once

#include <cstddef>
#include <cstdint>

#include <convec/context.hpp>
#include <convec/ops/activation.hpp>
#include <convec/ops/loss.hpp>
#include <convec/ops/optimizer.hpp>
#include <convec/ops/softmax_cross_entropy.hpp>

namespace convec {

using std::int64_t;

// Geometry of a convolution with padding already resolved to numbers.
struct Conv2dProblem {
  int64_t batch, height, width, channels;
  int64_t out_height, out_width, filters;
  int64_t kernel_height, kernel_width;
  int64_t stride_height, stride_width;
  int64_t dilation_height, dilation_width;
  int64_t pad_top, pad_bottom, pad_left, pad_right;
  int64_t groups;
};

// Geometry of a pooling with padding already resolved to numbers.
struct Pool2dProblem {
  int64_t batch, height, width, channels;
  int64_t out_height, out_width;
  int64_t pool_height, pool_width;
  int64_t stride_height, stride_width;
  int64_t pad_top, pad_left;
};

struct DenseProblem {
  int64_t batch, in, units;
};

// Class labels in the type they came in, or target distributions; exactly one is not null.
struct Labels {
  const void* classes = nullptr;  // int32, int64 or uint8, see dtype
  DType dtype = DType::int64;
  const float* distribution = nullptr;
};

struct OpTable {
  // conv2d. A backend may keep weights in a layout of its own: `prepare` makes it (prepared_size floats; 0: none),
  // and forward takes it where the weights are used again and again, or null to make it for this call only.
  int64_t (*conv2d_prepared_size)(const Conv2dProblem&);
  void (*conv2d_prepare)(const Conv2dProblem&, const float* filters, float* prepared);
  void (*conv2d_forward)(const Context&, const Conv2dProblem&, const float* input, const float* filters,
                         const float* prepared, const float* bias, Activation, float* output);
  void (*conv2d_backward_input)(const Context&, const Conv2dProblem&, const float* grad_output, const float* filters,
                                float* grad_input);
  void (*conv2d_backward_filters)(const Context&, const Conv2dProblem&, const float* input, const float* grad_output,
                                  float* grad_filters, float* grad_bias);
  // conv2d, ReLU and max pooling in one, where `fusible`. Forward writes the pooled output and, where argmax is not
  // null, the position of each maximum in its window; backward takes the gradient of the pooled output.
  bool (*conv2d_max_pool2d_fusible)(const Conv2dProblem&, const Pool2dProblem&);
  int64_t (*conv2d_max_pool2d_prepared_size)(const Conv2dProblem&, const Pool2dProblem&);
  void (*conv2d_max_pool2d_prepare)(const Conv2dProblem&, const Pool2dProblem&, const float* filters, float* prepared);
  void (*conv2d_max_pool2d_forward)(const Context&, const Conv2dProblem&, const Pool2dProblem&, const float* input,
                                    const float* filters, const float* prepared, const float* bias, bool relu,
                                    float* output, std::uint8_t* argmax);
  // grad_input and grad_filters may be null: not wanted. grad_bias too.
  void (*conv2d_max_pool2d_backward)(const Context&, const Conv2dProblem&, const Pool2dProblem&, const float* input,
                                     const float* filters, bool relu, const float* output, const std::uint8_t* argmax,
                                     const float* grad_output, float* grad_input, float* grad_filters,
                                     float* grad_bias);
  // dense
  int64_t (*dense_prepared_size)(const DenseProblem&);
  void (*dense_prepare)(const DenseProblem&, const float* weights, float* prepared);
  void (*dense_forward)(const Context&, const DenseProblem&, const float* input, const float* weights,
                        const float* prepared, const float* bias, Activation, float* output);
  void (*dense_backward_input)(const Context&, const DenseProblem&, const float* grad_output, const float* weights,
                               float* grad_input);
  void (*dense_backward_weights)(const Context&, const DenseProblem&, const float* input, const float* grad_output,
                                 float* grad_weights, float* grad_bias);
  // conv2d and dense on bfloat16 arrays. Sums are float32, and so are bias and gradients of weights, which are sums
  // over the batch.
  void (*conv2d_forward_bfloat16)(const Context&, const Conv2dProblem&, const BFloat16* input, const BFloat16* filters,
                                  const float* bias, Activation, BFloat16* output);
  void (*conv2d_backward_input_bfloat16)(const Context&, const Conv2dProblem&, const BFloat16* grad_output,
                                         const BFloat16* filters, BFloat16* grad_input);
  void (*conv2d_backward_filters_bfloat16)(const Context&, const Conv2dProblem&, const BFloat16* input,
                                           const BFloat16* grad_output, float* grad_filters, float* grad_bias);
  void (*dense_forward_bfloat16)(const Context&, const DenseProblem&, const BFloat16* input, const BFloat16* weights,
                                 const float* bias, Activation, BFloat16* output);
  void (*dense_backward_input_bfloat16)(const Context&, const DenseProblem&, const BFloat16* grad_output,
                                        const BFloat16* weights, BFloat16* grad_input);
  void (*dense_backward_weights_bfloat16)(const Context&, const DenseProblem&, const BFloat16* input,
                                          const BFloat16* grad_output, float* grad_weights, float* grad_bias);
  // pool2d
  void (*max_pool2d_forward)(const Context&, const Pool2dProblem&, const float* input, float* output);
  void (*max_pool2d_backward)(const Context&, const Pool2dProblem&, const float* grad_output, const float* input,
                              float* grad_input);
  void (*average_pool2d_forward)(const Context&, const Pool2dProblem&, const float* input, float* output);
  void (*average_pool2d_backward)(const Context&, const Pool2dProblem&, const float* grad_output, float* grad_input);
  void (*global_average_pool2d_forward)(const Context&, int64_t batch, int64_t pixels, int64_t channels,
                                        const float* input, float* output);
  void (*global_average_pool2d_backward)(const Context&, int64_t batch, int64_t pixels, int64_t channels,
                                         const float* grad_output, float* grad_input);
  void (*global_max_pool2d_forward)(const Context&, int64_t batch, int64_t pixels, int64_t channels, const float* input,
                                    float* output);
  void (*global_max_pool2d_backward)(const Context&, int64_t batch, int64_t pixels, int64_t channels,
                                     const float* grad_output, const float* input, float* grad_input);
  // activation
  void (*activation_forward)(const Context&, Activation, int64_t size, const float* input, float* output);
  void (*activation_backward)(const Context&, Activation, int64_t size, const float* grad_output, const float* input,
                              float* grad_input);
  void (*softmax_forward)(const Context&, int64_t rows, int64_t classes, const float* input, float* output);
  void (*softmax_backward)(const Context&, int64_t rows, int64_t classes, const float* grad_output, const float* output,
                           float* grad_input);
  void (*dropout)(const Context&, float rate, std::uint64_t seed, std::uint64_t offset, int64_t size,
                  const float* input, float* output);
  void (*rescale)(const Context&, float scale, float offset, int64_t size, const float* input, float* output);
  // losses and metrics
  void (*softmax_cross_entropy_forward)(const Context&, int64_t rows, int64_t classes, const float* input,
                                        const Labels&, const CrossEntropyOptions&, float* losses);
  void (*softmax_cross_entropy_backward)(const Context&, int64_t rows, int64_t classes, const float* grad_losses,
                                         const float* input, const Labels&, const CrossEntropyOptions&,
                                         float* grad_input);
  // Index of the first label outside [0, classes), or -1.
  int64_t (*find_bad_label)(const Context&, int64_t rows, int64_t classes, const Labels&);
  void (*pointwise_loss_forward)(const Context&, const PointwiseLossOptions&, int64_t rows, int64_t columns,
                                 const float* predictions, const float* targets, float* losses);
  void (*pointwise_loss_backward)(const Context&, const PointwiseLossOptions&, int64_t rows, int64_t columns,
                                  const float* grad_losses, const float* predictions, const float* targets,
                                  float* grad_predictions);
  void (*metric_forward)(const Context&, const MetricOptions&, int64_t rows, int64_t classes, const float* predictions,
                         const Labels&, float* values);
  // batch normalisation
  void (*batch_norm_forward_training)(const Context&, int64_t rows, int64_t channels, const float* input,
                                      const float* gamma, const float* beta, float momentum, float epsilon,
                                      float* moving_mean, float* moving_variance, float* batch_mean,
                                      float* batch_inverse_std, float* output);
  // moving_mean may be null: 0.
  void (*batch_norm_forward_inference)(const Context&, int64_t rows, int64_t channels, const float* input,
                                       const float* gamma, const float* beta, const float* moving_mean,
                                       const float* moving_variance, float epsilon, float* output);
  void (*batch_norm_backward)(const Context&, int64_t rows, int64_t channels, const float* grad_output,
                              const float* input, const float* gamma, const float* batch_mean,
                              const float* batch_inverse_std, float* grad_input, float* grad_gamma, float* grad_beta);
  // optimizers
  void (*optimizer_step)(const Context&, const OptimizerOptions&, int64_t iteration, int64_t size, float* parameter,
                         const float* gradient, float* const* slots, float gradient_scale);
  double (*sum_of_squares)(const Context&, int64_t size, const float* array);
};

// The device's table. Throws DeviceError where this build or machine has none.
const OpTable& op_table(Device device);

}  // namespace convec
