// Ops through the C++ API: against sums written out in double precision, at every instruction-set level, and what the
// door refuses. The Python tests hold the full case lists; these show that C++ callers get the same.
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include <convec/context.hpp>
#include <convec/cpu_features.hpp>
#include <convec/error.hpp>
#include <convec/ops/activation.hpp>
#include <convec/ops/batch_norm.hpp>
#include <convec/ops/conv2d.hpp>
#include <convec/ops/dense.hpp>
#include <convec/ops/loss.hpp>
#include <convec/ops/optimizer.hpp>
#include <convec/ops/pool2d.hpp>
#include <convec/ops/softmax_cross_entropy.hpp>
#include <convec/tensor.hpp>

#include "test.hpp"

using convec::Activation;
using convec::ConstTensorView;
using convec::Conv2dOptions;
using convec::DType;
using convec::Padding;
using convec::Pool2dOptions;
using convec::Shape;
using convec::Tensor;
using std::int64_t;

namespace {

// Sums of at most a few hundred products of numbers in [-1, 1], each rounded to 2^-24 of at most the sum's size.
constexpr double sum_tolerance = 2e-5;

// Numbers in [-1, 1) from a linear congruential generator: the same on every machine.
Tensor random(const Shape& shape, std::uint32_t seed) {
  Tensor tensor(shape);
  std::uint32_t state = seed * 2654435761U + 12345U;
  for (int64_t i = 0; i < shape.size(); ++i) {
    state = state * 1664525U + 1013904223U;
    tensor.f32()[i] = static_cast<float>(state >> 8U) / 8388608.0F - 1.0F;
  }
  return tensor;
}

template <typename Body>
void at_every_isa(Body&& body) {
  const convec::IsaLevel before = convec::current_isa();
  for (const convec::IsaLevel level : convec::available_isas()) {
    convec::set_isa(level);
    body();
  }
  convec::set_isa(before);
}

void check_all_near(const Tensor& tensor, const std::vector<double>& expected, double tolerance) {
  CHECK_EQ(tensor.shape().size(), static_cast<int64_t>(expected.size()));
  for (std::size_t i = 0; i < expected.size(); ++i) CHECK_NEAR(tensor.f32()[i], expected[i], tolerance);
}

struct Reference {
  std::vector<double> output, grad_input, grad_filters, grad_bias;
};

// The convolution and its gradients for the upstream gradient g, straight from the definition.
Reference reference_conv2d(const Tensor& x, const Tensor& w, const Tensor& b, const Tensor& g, const Conv2dOptions& o,
                           int64_t pad_top, int64_t pad_left) {
  const Shape xs = x.shape();
  const Shape ws = w.shape();
  const Shape ys = g.shape();
  const int64_t group_in = ws[2];
  const int64_t group_out = ws[3] / o.groups;
  Reference r;
  r.output.assign(static_cast<std::size_t>(ys.size()), 0.0);
  r.grad_input.assign(static_cast<std::size_t>(xs.size()), 0.0);
  r.grad_filters.assign(static_cast<std::size_t>(ws.size()), 0.0);
  r.grad_bias.assign(static_cast<std::size_t>(ws[3]), 0.0);
  for (int64_t n = 0; n < ys[0]; ++n)
    for (int64_t oy = 0; oy < ys[1]; ++oy)
      for (int64_t ox = 0; ox < ys[2]; ++ox)
        for (int64_t f = 0; f < ys[3]; ++f) {
          const int64_t out = ((n * ys[1] + oy) * ys[2] + ox) * ys[3] + f;
          const double up = g.f32()[out];
          double sum = b.f32()[f];
          r.grad_bias[static_cast<std::size_t>(f)] += up;
          for (int64_t ky = 0; ky < ws[0]; ++ky)
            for (int64_t kx = 0; kx < ws[1]; ++kx) {
              const int64_t iy = oy * o.strides.height + ky * o.dilation.height - pad_top;
              const int64_t ix = ox * o.strides.width + kx * o.dilation.width - pad_left;
              if (iy < 0 || iy >= xs[1] || ix < 0 || ix >= xs[2]) continue;
              for (int64_t c = 0; c < group_in; ++c) {
                const int64_t in = ((n * xs[1] + iy) * xs[2] + ix) * xs[3] + f / group_out * group_in + c;
                const int64_t tap = ((ky * ws[1] + kx) * ws[2] + c) * ws[3] + f;
                sum += static_cast<double>(x.f32()[in]) * static_cast<double>(w.f32()[tap]);
                r.grad_input[static_cast<std::size_t>(in)] += up * static_cast<double>(w.f32()[tap]);
                r.grad_filters[static_cast<std::size_t>(tap)] += up * static_cast<double>(x.f32()[in]);
              }
            }
          r.output[static_cast<std::size_t>(out)] = sum;
        }
  return r;
}

void check_conv2d(const Shape& input, const Shape& filters, const Conv2dOptions& options, int64_t pad_top,
                  int64_t pad_left) {
  const Tensor x = random(input, 1);
  const Tensor w = random(filters, 2);
  const Tensor b = random({filters[3]}, 3);
  const Shape output = convec::conv2d_output_shape(input, filters, options);
  const Tensor g = random(output, 4);
  const Reference expected = reference_conv2d(x, w, b, g, options, pad_top, pad_left);
  at_every_isa([&] {
    Tensor y(output);
    conv2d_forward({}, x.view(), w.view(), b.view(), options, Activation::linear, y.view());
    check_all_near(y, expected.output, sum_tolerance);
    Tensor grad_input(input);
    conv2d_backward_input({}, g.view(), w.view(), options, grad_input.view());
    check_all_near(grad_input, expected.grad_input, sum_tolerance);
    Tensor grad_filters(filters);
    Tensor grad_bias(Shape{filters[3]});
    conv2d_backward_filters({}, x.view(), g.view(), options, grad_filters.view(), grad_bias.view());
    check_all_near(grad_filters, expected.grad_filters, sum_tolerance);
    check_all_near(grad_bias, expected.grad_bias, sum_tolerance);
  });
}

}  // namespace

TEST(conv2d_valid) {
  check_conv2d({2, 7, 6, 3}, {3, 3, 3, 5}, {}, 0, 0);
  check_conv2d({1, 9, 9, 1}, {3, 3, 1, 32}, {}, 0, 0);
  check_conv2d({3, 5, 5, 17}, {1, 1, 17, 33}, {}, 0, 0);
  check_conv2d({19, 4, 3, 14}, {2, 3, 14, 70}, {}, 0, 0);
}

TEST(conv2d_same_puts_the_odd_pixel_after) {
  Conv2dOptions options;
  options.padding = Padding::same();
  check_conv2d({2, 6, 5, 4}, {2, 4, 4, 3}, options, 0, 1);
  options.strides = {2, 2};
  check_conv2d({1, 7, 8, 2}, {3, 3, 2, 6}, options, 1, 0);
}

TEST(conv2d_strides_dilation_groups_and_explicit_padding) {
  Conv2dOptions options;
  options.strides = {2, 1};
  options.dilation = {1, 2};
  options.groups = 2;
  options.padding = Padding::pixels(2, 0, 1, 3);
  check_conv2d({2, 8, 7, 4}, {3, 2, 2, 6}, options, 2, 1);
}

// Its rows would not fit into any memory with the padding beside them.
TEST(conv2d_dilated_far_beyond_the_image) {
  constexpr int64_t far = 2147483647;
  Conv2dOptions options;
  options.padding = Padding::same();
  options.dilation = {far, far};
  check_conv2d({2, 4, 5, 2}, {3, 3, 2, 7}, options, far, far);
  options.strides = {2, 3};
  options.dilation = {1, far};
  check_conv2d({2, 5, 7, 2}, {3, 3, 2, 7}, options, 1, far);
}

TEST(conv2d_with_strides_and_padding_far_beyond_the_image) {
  constexpr int64_t far = 2000000000;
  Conv2dOptions options;
  options.strides = {far, far};
  options.padding = Padding::pixels(far, far, far, far);
  check_conv2d({2, 4, 5, 2}, {3, 3, 2, 7}, options, far, far);
  check_conv2d({9, 4, 5, 19}, {3, 3, 19, 7}, options, far, far);
}

TEST(conv2d_of_no_images_of_any_size) {
  check_conv2d({0, 900000000, 900000000, 1}, {3, 3, 1, 1}, {}, 0, 0);
  Conv2dOptions options;
  options.strides = {899999963, 899999963};
  check_conv2d({0, 900000000, 900000000, 1}, {3, 3, 1, 1}, options, 0, 0);
}

TEST(conv2d_fuses_relu) {
  const Tensor x = random({1, 5, 5, 2}, 5);
  const Tensor w = random({3, 3, 2, 4}, 6);
  Tensor plain(Shape{1, 3, 3, 4});
  Tensor fused(Shape{1, 3, 3, 4});
  conv2d_forward({}, x.view(), w.view(), {}, {}, Activation::linear, plain.view());
  conv2d_forward({}, x.view(), w.view(), {}, {}, Activation::relu, fused.view());
  for (int64_t i = 0; i < 36; ++i) CHECK_EQ(fused.f32()[i], std::fmax(plain.f32()[i], 0.0F));
}

TEST(conv2d_does_not_depend_on_threads) {
  const int before = convec::num_threads();
  const Tensor x = random({5, 12, 11, 7}, 7);
  const Tensor g = random({5, 10, 9, 9}, 8);
  std::vector<std::vector<float>> results;
  for (const int threads : {1, 2, 3, 7}) {
    convec::set_num_threads(threads);
    Tensor grad(Shape{3, 3, 7, 9});
    Tensor bias(Shape{9});
    conv2d_backward_filters({}, x.view(), g.view(), {}, grad.view(), bias.view());
    results.emplace_back(grad.f32(), grad.f32() + grad.shape().size());
    results.back().insert(results.back().end(), bias.f32(), bias.f32() + 9);
  }
  convec::set_num_threads(before);
  for (const auto& result : results) CHECK(result == results.front());
}

TEST(conv2d_refuses_what_does_not_fit) {
  const Tensor x = random({1, 5, 5, 3}, 1);
  const Tensor w = random({3, 3, 3, 4}, 2);
  Tensor y(Shape{1, 3, 3, 4});
  const auto forward = [&](ConstTensorView input, ConstTensorView filters, const Conv2dOptions& options,
                           convec::TensorView output) {
    conv2d_forward({}, input, filters, {}, options, Activation::linear, output);
  };
  CHECK_THROWS(forward({x.f32(), Shape{5, 5, 3}}, w.view(), {}, y.view()), convec::ShapeError, "4 dimensions");
  CHECK_THROWS(forward({x.f32(), Shape{1, 5, 5, 2}}, w.view(), {}, y.view()), convec::ShapeError, "2 channels");
  CHECK_THROWS(forward({x.f32(), Shape{1, 2, 5, 3}}, w.view(), {}, y.view()), convec::ShapeError, "below 1");
  CHECK_THROWS(forward({x.f32(), DType::float64, x.shape()}, w.view(), {}, y.view()), convec::DTypeError, "float64");
  CHECK_THROWS(forward({x.f32(), DType::bfloat16, x.shape()}, w.view(), {}, y.view()), convec::DTypeError,
               "filters is float32, but input is bfloat16; convert one of them");
  CHECK_THROWS(forward(x.view(), {w.f32(), DType::bfloat16, w.shape()}, {}, y.view()), convec::DTypeError,
               "filters is bfloat16, but must be float32");
  CHECK_THROWS(forward(x.view(), w.view(), {}, {y.f32(), Shape{1, 3, 3, 5}}), convec::ShapeError, "output");
  CHECK_THROWS(forward(x.view(), w.view(), {}, {const_cast<float*>(x.f32()), y.shape()}), convec::ValueError,
               "overlaps");
  CHECK_THROWS(forward({x.f32(), DType::float32, x.shape(), {convec::DeviceType::cuda, 0}}, w.view(), {}, y.view()),
               convec::DeviceError, "cuda:0");
  Conv2dOptions options;
  options.strides = {0, 1};
  CHECK_THROWS(forward(x.view(), w.view(), options, y.view()), convec::ValueError, "strides[0] is 0");
  options = {};
  options.groups = -1;
  CHECK_THROWS(forward(x.view(), w.view(), options, y.view()), convec::ValueError, "groups");
  options = {};
  options.padding = Padding::pixels(-1, 0, 0, 0);
  CHECK_THROWS(forward(x.view(), w.view(), options, y.view()), convec::ValueError, "padding");
  constexpr int64_t huge = 1LL << 31;
  CHECK_THROWS(convec::conv2d_output_shape({huge, huge, huge, 1}, {1, 1, 1, 1}, {}), convec::Error, "");
  CHECK_THROWS(convec::conv2d_output_shape({1, huge - 1, huge - 1, 2}, {1, 1, 2, huge - 1}, {}), convec::ShapeError,
               "too large");
}

TEST(dense_and_its_gradients) {
  constexpr int64_t batch = 5;
  constexpr int64_t in = 37;
  constexpr int64_t units = 19;
  const Tensor x = random({batch, in}, 1);
  const Tensor w = random({in, units}, 2);
  const Tensor b = random({units}, 3);
  const Tensor g = random({batch, units}, 4);
  std::vector<double> y(batch * units);
  std::vector<double> dx(batch * in);
  std::vector<double> dw(in * units);
  std::vector<double> db(units);
  for (int64_t n = 0; n < batch; ++n)
    for (int64_t u = 0; u < units; ++u) {
      const double up = g.f32()[n * units + u];
      double sum = b.f32()[u];
      for (int64_t k = 0; k < in; ++k) {
        sum += static_cast<double>(x.f32()[n * in + k]) * static_cast<double>(w.f32()[k * units + u]);
        dx[static_cast<std::size_t>(n * in + k)] += up * static_cast<double>(w.f32()[k * units + u]);
        dw[static_cast<std::size_t>(k * units + u)] += up * static_cast<double>(x.f32()[n * in + k]);
      }
      y[static_cast<std::size_t>(n * units + u)] = sum;
      db[static_cast<std::size_t>(u)] += up;
    }
  at_every_isa([&] {
    Tensor output(Shape{batch, units});
    dense_forward({}, x.view(), w.view(), b.view(), Activation::linear, output.view());
    check_all_near(output, y, sum_tolerance);
    Tensor grad_input(Shape{batch, in});
    dense_backward_input({}, g.view(), w.view(), grad_input.view());
    check_all_near(grad_input, dx, sum_tolerance);
    Tensor grad_weights(Shape{in, units});
    Tensor grad_bias(Shape{units});
    dense_backward_weights({}, x.view(), g.view(), grad_weights.view(), grad_bias.view());
    check_all_near(grad_weights, dw, sum_tolerance);
    check_all_near(grad_bias, db, sum_tolerance);
  });
  Tensor output(Shape{batch, units + 1});
  CHECK_THROWS(dense_forward({}, x.view(), w.view(), {}, Activation::linear, output.view()), convec::ShapeError,
               "output");
  CHECK_THROWS(dense_forward({}, b.view(), w.view(), {}, Activation::linear, output.view()), convec::ShapeError,
               "2 dimensions");
}

TEST(pooling) {
  Tensor x(Shape{1, 4, 4, 1});
  for (int64_t i = 0; i < 16; ++i) x.f32()[i] = static_cast<float>(i % 5);
  at_every_isa([&] {
    Tensor y(Shape{1, 2, 2, 1});
    max_pool2d_forward({}, x.view(), {}, y.view());
    check_all_near(y, {4, 3, 4, 4}, 0);  // a maximum rounds nothing
    average_pool2d_forward({}, x.view(), {}, y.view());
    check_all_near(y, {1.25, 2.0, 3.0, 1.25}, 0);  // sums of small integers, a quarter of each: exact
    // Equal elements: the first takes the gradient.
    Tensor same(Shape{1, 2, 2, 1});
    Tensor up(Shape{1, 1, 1, 1});
    up.f32()[0] = 1.0F;
    Tensor grad(Shape{1, 2, 2, 1});
    max_pool2d_backward({}, up.view(), same.view(), {}, grad.view());
    check_all_near(grad, {1, 0, 0, 0}, 0);
  });
  Tensor mean(Shape{1, 1});
  global_average_pool2d_forward({}, x.view(), mean.view());
  CHECK_NEAR(mean.f32()[0], 30.0 / 16, 1e-6);
  Pool2dOptions wide;
  wide.pool_size = {5, 1};
  CHECK_THROWS(convec::pool2d_output_shape(x.shape(), wide), convec::ShapeError, "below 1");
}

TEST(softmax_cross_entropy_and_labels) {
  const Tensor logits = random({4, 3}, 9);
  const std::vector<std::int32_t> labels = {0, 2, 1, 2};
  at_every_isa([&] {
    Tensor losses(Shape{4});
    softmax_cross_entropy_forward({}, logits.view(), {labels.data(), DType::int32, Shape{4}}, {}, losses.view());
    for (int64_t i = 0; i < 4; ++i) {
      double sum = 0;
      for (int64_t c = 0; c < 3; ++c) sum += std::exp(static_cast<double>(logits.f32()[i * 3 + c]));
      const double expected =
          std::log(sum) - static_cast<double>(logits.f32()[i * 3 + labels[static_cast<std::size_t>(i)]]);
      CHECK_NEAR(losses.f32()[i], expected, 1e-6);  // a few roundings of numbers near 1
    }
  });
  for (const std::int32_t bad : {-1, 3}) {
    const std::vector<std::int32_t> wrong = {0, bad, 1, 2};
    Tensor losses(Shape{4});
    losses.f32()[0] = 123.0F;
    CHECK_THROWS(
        softmax_cross_entropy_forward({}, logits.view(), {wrong.data(), DType::int32, Shape{4}}, {}, losses.view()),
        convec::ValueError, std::to_string(bad));
    CHECK_EQ(losses.f32()[0], 123.0F);
  }
}

TEST(adam_takes_keras_first_step) {
  // The first step of Adam moves by the learning rate against the gradient's sign, whatever its size.
  at_every_isa([&] {
    Tensor parameter(Shape{3});
    Tensor gradient(Shape{3});
    gradient.f32()[0] = 10.0F;
    gradient.f32()[1] = -0.01F;
    Tensor slots[2] = {Tensor(Shape{3}), Tensor(Shape{3})};
    const convec::TensorView views[2] = {slots[0].view(), slots[1].view()};
    const auto options = convec::OptimizerOptions::defaults(convec::Optimizer::adam);
    CHECK_EQ(convec::optimizer_slot_count(options), 2);
    optimizer_step({}, options, 1, parameter.view(), gradient.view(), views);
    // epsilon 1e-7 against a root of 0.01 sqrt(0.001): a relative difference of 3e-4
    CHECK_NEAR(parameter.f32()[0], -0.001, 1e-6);
    CHECK_NEAR(parameter.f32()[1], 0.001, 1e-6);
    CHECK_EQ(parameter.f32()[2], 0.0F);
  });
}

TEST(names_are_parsed_back) {
  for (const char* name : {"linear", "relu", "gelu", "softplus"})
    CHECK_EQ(std::string(name_of(convec::parse_activation(name))), name);
  CHECK_THROWS(convec::parse_activation("reluu"), convec::ValueError, "reluu");
  CHECK_THROWS(convec::parse_optimizer("adamant"), convec::ValueError, "adamant");
}

TEST_MAIN()
