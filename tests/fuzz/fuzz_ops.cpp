// The ops' validation: shapes, strides, padding, element types and devices from anywhere are refused by an exception,
// or the op stays within its arrays, on every instruction-set level.
#include <algorithm>
#include <optional>

#include <convec/cpu_features.hpp>
#include <convec/ops/activation.hpp>
#include <convec/ops/batch_norm.hpp>
#include <convec/ops/conv2d.hpp>
#include <convec/ops/dense.hpp>
#include <convec/ops/loss.hpp>
#include <convec/ops/optimizer.hpp>
#include <convec/ops/pool2d.hpp>
#include <convec/ops/softmax_cross_entropy.hpp>

#include "fuzz.hpp"
#include "guarded.hpp"

using convec::ConstTensorView;
using convec::Context;
using convec::DType;
using convec::Shape;
using convec::TensorView;
using convec::fuzz::Guarded;
using convec::fuzz::Input;
using convec::fuzz::returns;
using convec::fuzz::some_bytes;

namespace {

// An input asks for an array that is allowed, but too large to run.
struct TooLarge {};

class Case {
 public:
  explicit Case(Input& input) : input_(input) {}

  Input& input() { return input_; }

  // Of the given rank and at most the given extents, save where the input has it otherwise.
  Shape shape(std::initializer_list<std::int64_t> most) {
    std::vector<std::int64_t> extents;
    for (const std::int64_t extent : most) extents.push_back(input_.extent(extent));
    const std::uint8_t odd = input_.byte();
    if (odd == 255 && !extents.empty()) extents.pop_back();
    if (odd == 254) extents.push_back(input_.extent(4));
    return {extents.data(), extents.size()};
  }

  // Now and then another shape than the one that fits.
  Shape perhaps(const Shape& fitting) {
    std::vector<std::int64_t> extents(fitting.begin(), fitting.end());
    const std::uint8_t odd = input_.byte();
    if (odd >= 250 && !extents.empty()) extents[input_.below(extents.size())] = input_.extent(20);
    if (odd == 249 && !extents.empty()) extents.pop_back();
    return {extents.data(), extents.size()};
  }

  // An array of that shape, mostly of float32 on the CPU. What has no shape gets no memory, and must be refused.
  TensorView array(const Shape& shape) {
    TensorView view;
    view.shape = shape;
    const std::uint8_t odd = input_.byte();
    if (odd >= 252) view.dtype = static_cast<DType>(odd - 251);
    if (odd == 251) view.device = {convec::DeviceType::cuda, 0};
    std::int64_t elements = 0;
    if (!returns([&] { elements = shape.size(); })) view.shape = shape;
    if (static_cast<std::uint64_t>(elements) > Guarded::most_bytes / 8) throw TooLarge();
    const std::size_t size = static_cast<std::size_t>(elements) * size_of(view.dtype);
    view.data = guarded_.bytes(size);
    auto* const bytes = static_cast<std::uint8_t*>(view.data);
    if (view.dtype == DType::float32) {
      const float first = input_.number();
      const float step = input_.number();
      for (std::int64_t i = 0; i < elements; ++i) view.f32()[i] = first + step * static_cast<float>(i % 7);
    } else {
      for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::uint8_t>(i % 8 == 0 ? i / 8 % 3 : 0);
    }
    return view;
  }
  TensorView array_like(const Shape& fitting) { return array(perhaps(fitting)); }
  // Or absent.
  TensorView optional(const Shape& fitting) { return input_.byte() < 64 ? TensorView() : array_like(fitting); }

  // Class numbers for rows of `classes`, mostly valid ones.
  TensorView labels(std::int64_t rows, std::int64_t classes) {
    constexpr DType types[] = {DType::int32, DType::int64, DType::uint8};
    TensorView view(nullptr, types[input_.below(3)], Shape{rows});
    if (rows < 0 || rows > 1000) throw TooLarge();
    view.data = guarded_.bytes(static_cast<std::size_t>(rows) * size_of(view.dtype));
    for (std::int64_t i = 0; i < rows; ++i) {
      const std::uint8_t choice = input_.byte();
      const std::int64_t label = choice < 250 ? choice % std::clamp<std::int64_t>(classes, 1, 256) : input_.extent(300);
      if (view.dtype == DType::int32) static_cast<std::int32_t*>(view.data)[i] = static_cast<std::int32_t>(label);
      if (view.dtype == DType::int64) static_cast<std::int64_t*>(view.data)[i] = label;
      if (view.dtype == DType::uint8) static_cast<std::uint8_t*>(view.data)[i] = static_cast<std::uint8_t>(label);
    }
    return view;
  }

  convec::Padding padding() {
    switch (input_.below(4)) {
      case 0:
        return convec::Padding::valid();
      case 1:
        return convec::Padding::same();
      default:
        return convec::Padding::pixels(input_.from_zero(4), input_.from_zero(4), input_.from_zero(4),
                                       input_.from_zero(4));
    }
  }
  convec::Size2d size2d(std::int64_t most) { return {input_.extent(most), input_.extent(most)}; }
  convec::Activation activation() { return static_cast<convec::Activation>(input_.below(11)); }

 private:
  Input& input_;
  Guarded guarded_;
};

constexpr Context context{};

void limit_work(std::int64_t outputs, std::int64_t each) {
  constexpr std::int64_t most = 2'000'000;
  if (outputs > 0 && each > most / outputs) throw TooLarge();
}

void conv2d(Case& c) {
  convec::Conv2dOptions options;
  options.strides = c.size2d(3);
  options.padding = c.padding();
  options.dilation = c.size2d(3);
  options.groups = c.input().extent(3);
  const Shape input = c.shape({3, 14, 14, 18});
  Shape filters = c.shape({4, 4, 18, 24});
  if (c.input().byte() < 220 && input.rank() == 4 && filters.rank() == 4 && options.groups > 0)
    filters = {filters[0], filters[1], input[3] / options.groups, filters[3]};
  Shape output{1, 1, 1, 1};
  const bool fits = returns([&] { output = convec::conv2d_output_shape(input, filters, options); });
  if (fits) limit_work(output.size(), filters[0] * filters[1] * filters[2]);
  const TensorView x = c.array(input);
  const TensorView w = c.array(filters);
  const TensorView y = c.array_like(output);
  const Shape per_filter{filters.rank() == 4 ? filters[3] : 1};
  const TensorView bias = c.optional(per_filter);
  const convec::Activation activation = c.activation();
  const bool ran = returns([&] { convec::conv2d_forward(context, x, w, bias, options, activation, y); });
  FUZZ_CHECK(fits || !ran);
  FUZZ_CHECK(!returns([&] { convec::conv2d_backward_input(context, y, w, options, x); }) || fits);
  FUZZ_CHECK(!returns([&] { convec::conv2d_backward_filters(context, x, y, options, w, bias); }) || fits);
}

void pool2d(Case& c) {
  convec::Pool2dOptions options;
  options.pool_size = c.size2d(5);
  options.strides = c.size2d(4);
  options.padding = c.padding();
  const Shape input = c.shape({3, 14, 14, 20});
  Shape output{1, 1, 1, 1};
  const bool fits = returns([&] { output = convec::pool2d_output_shape(input, options); });
  const TensorView x = c.array(input);
  const TensorView y = c.array_like(output);
  const TensorView grad = c.array_like(input);
  FUZZ_CHECK(!returns([&] { convec::max_pool2d_forward(context, x, options, y); }) || fits);
  FUZZ_CHECK(!returns([&] { convec::max_pool2d_backward(context, y, x, options, grad); }) || fits);
  FUZZ_CHECK(!returns([&] { convec::average_pool2d_forward(context, x, options, y); }) || fits);
  // The only one that sees no input: its gradient may have another shape, which fits.
  const bool grad_fits = returns([&] { convec::pool2d_output_shape(grad.shape, options); });
  FUZZ_CHECK(!returns([&] { convec::average_pool2d_backward(context, y, options, grad); }) || grad_fits);
}

void global_pool2d(Case& c) {
  const Shape input = c.shape({3, 14, 14, 20});
  const TensorView x = c.array(input);
  const TensorView y = c.array_like(input.rank() == 4 ? Shape{input[0], input[3]} : Shape{1, 1});
  const TensorView grad = c.array_like(input);
  returns([&] { convec::global_average_pool2d_forward(context, x, y); });
  returns([&] { convec::global_average_pool2d_backward(context, y, grad); });
  returns([&] { convec::global_max_pool2d_forward(context, x, y); });
  returns([&] { convec::global_max_pool2d_backward(context, y, x, grad); });
}

void dense(Case& c) {
  const Shape input = c.shape({20, 70});
  const Shape output = c.shape({20, 70});
  const std::int64_t in = input.rank() == 2 ? input[1] : 1;
  const std::int64_t units = output.rank() == 2 ? output[1] : 1;
  const TensorView x = c.array(input);
  const TensorView w = c.array_like({in, units});
  const TensorView y = c.array_like({input.rank() == 2 ? input[0] : 1, units});
  const TensorView bias = c.optional(Shape{units});
  const convec::Activation activation = c.activation();
  returns([&] { convec::dense_forward(context, x, w, bias, activation, y); });
  returns([&] { convec::dense_backward_input(context, y, w, x); });
  returns([&] { convec::dense_backward_weights(context, x, y, w, bias); });
}

void elementwise(Case& c) {
  const Shape input = c.shape({5, 7, 40});
  const TensorView x = c.array(input);
  const TensorView y = c.array_like(input);
  const TensorView grad = c.array_like(input);
  const convec::Activation activation = c.activation();
  const float rate = c.input().number();
  const float offset = c.input().number();
  returns([&] { convec::activation_forward(context, activation, x, y); });
  returns([&] { convec::activation_backward(context, activation, y, x, grad); });
  returns([&] { convec::activation_forward(context, activation, x, x); });
  returns([&] { convec::softmax_forward(context, x, y); });
  returns([&] { convec::softmax_backward(context, y, x, grad); });
  returns([&] { convec::dropout(context, rate, c.input().bits(), c.input().bits(), x, y); });
  returns([&] { convec::rescale(context, rate, offset, x, y); });
  returns([&] { static_cast<void>(convec::sum_of_squares(context, x)); });
}

void batch_norm(Case& c) {
  const Shape input = c.shape({3, 6, 6, 24});
  const Shape channels{input.rank() == 0 ? 1 : input[input.rank() - 1]};
  const TensorView x = c.array(input);
  const TensorView y = c.array_like(input);
  const TensorView gamma = c.optional(channels);
  const TensorView beta = c.optional(channels);
  const TensorView mean = c.array_like(channels);
  const TensorView variance = c.array_like(channels);
  const TensorView batch_mean = c.array_like(channels);
  const TensorView batch_std = c.array_like(channels);
  const float momentum = c.input().number();
  const float epsilon = c.input().number();
  returns([&] {
    convec::batch_norm_forward_training(context, x, gamma, beta, momentum, epsilon, mean, variance, batch_mean,
                                        batch_std, y);
  });
  returns([&] { convec::batch_norm_forward_inference(context, x, gamma, beta, mean, variance, epsilon, y); });
  returns([&] { convec::batch_norm_backward(context, y, x, gamma, batch_mean, batch_std, x, gamma, beta); });
}

void losses(Case& c) {
  const Shape predictions = c.shape({16, 20});
  const std::int64_t rows = predictions.rank() == 0 ? 1 : predictions[0];
  const std::int64_t classes = predictions.rank() == 2 ? predictions[1] : 1;
  const TensorView p = c.array(predictions);
  const TensorView t = c.array_like(predictions);
  const TensorView each = c.array_like(Shape{rows});
  const TensorView grad = c.array_like(predictions);
  const TensorView labels = c.labels(rows, classes);
  const convec::CrossEntropyOptions cross{c.input().flag(), c.input().number()};
  const convec::PointwiseLossOptions pointwise{static_cast<convec::PointwiseLoss>(c.input().below(4)), c.input().flag(),
                                               c.input().number()};
  const convec::MetricOptions metric{static_cast<convec::Metric>(c.input().below(5)), c.input().extent(6),
                                     c.input().number()};
  for (const TensorView& targets : {t, labels}) {
    returns([&] { convec::softmax_cross_entropy_forward(context, p, targets, cross, each); });
    returns([&] { convec::softmax_cross_entropy_backward(context, each, p, targets, cross, grad); });
    returns([&] { convec::pointwise_loss_forward(context, pointwise, p, targets, each); });
    returns([&] { convec::pointwise_loss_backward(context, pointwise, each, p, targets, grad); });
    returns([&] { convec::metric_forward(context, metric, p, targets, each); });
  }
}

void optimizer(Case& c) {
  Input& input = c.input();
  convec::OptimizerOptions options = convec::OptimizerOptions::defaults(static_cast<convec::Optimizer>(input.below(5)));
  const unsigned flags = input.byte();
  options.nesterov = (flags & 1U) != 0;
  options.amsgrad = (flags & 2U) != 0;
  options.centered = (flags & 4U) != 0;
  if ((flags & 8U) != 0) options.momentum = input.number();
  if ((flags & 16U) != 0) options.learning_rate = input.number();
  if ((flags & 32U) != 0) options.beta_1 = static_cast<double>(input.number());
  if ((flags & 64U) != 0) options.weight_decay = input.number();
  if ((flags & 128U) != 0) options.clipvalue = input.number();
  const std::int64_t iteration = input.extent(100);
  const Shape shape = c.shape({9, 30});
  const TensorView parameter = c.array(shape);
  const TensorView gradient = c.array_like(shape);
  const TensorView slots[] = {c.array_like(shape), c.array_like(shape), c.array_like(shape), c.array_like(shape)};
  const float scale = input.number();
  returns([&] { convec::optimizer_step(context, options, iteration, parameter, gradient, slots, scale); });
}

constexpr void (*ops[])(Case&) = {&conv2d,      &pool2d,     &global_pool2d, &dense,
                                  &elementwise, &batch_norm, &losses,        &optimizer};

std::vector<std::string> seeds() {
  std::vector<std::string> all;
  // For every op, settings and extents that are small numbers, in some order that depends on the seed.
  for (char op = 0; op < static_cast<char>(std::size(ops)); ++op) {
    for (unsigned round = 0; round < 6; ++round) {
      all.push_back(std::string{op, static_cast<char>(round)} + some_bytes(17 * round + 1, 120, 100));
    }
  }
  return all;
}

}  // namespace

FUZZ_TARGET(ops, seeds) {
  const std::size_t op = input.below(std::size(ops));
  static const std::vector<convec::IsaLevel> levels = convec::available_isas();
  convec::set_isa(levels[input.below(levels.size())]);
  try {
    Case c(input);
    ops[op](c);
  } catch (const TooLarge&) {
  }
}
