// Trains a small network through the installed headers, and catches the library's exceptions across its border.
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include <convec/context.hpp>
#include <convec/cpu_features.hpp>
#include <convec/error.hpp>
#include <convec/network.hpp>
#include <convec/ops/conv2d.hpp>
#include <convec/version.hpp>

int main() {
  constexpr std::int64_t samples = 64;
  convec::Tensor images(convec::Shape{samples, 8, 8, 1});
  std::vector<std::int64_t> labels(samples);
  for (std::int64_t n = 0; n < samples; ++n) {
    labels[static_cast<std::size_t>(n)] = n % 2;
    for (std::int64_t pixel = 0; pixel < 64; ++pixel)
      images.f32()[n * 64 + pixel] = static_cast<float>((n % 2) == (pixel / 32) ? 1 : 0);
  }

  convec::Conv2dLayer conv;
  conv.filters = 4;
  conv.activation = convec::Activation::relu;
  convec::DenseLayer dense;
  dense.units = 2;
  convec::Network network({conv, convec::MaxPool2dLayer{}, convec::FlattenLayer{}, dense, convec::SoftmaxLayer{}},
                          convec::Shape{8, 8, 1}, 1);
  network.compile({}, convec::OptimizerOptions::defaults(convec::Optimizer::adam), {{convec::MetricOptions{}, false}});
  const convec::Dataset data{images.view(), {labels.data(), convec::DType::int64, convec::Shape{samples}}, {}};
  convec::EpochOptions options;
  options.batch_size = 8;
  for (int epoch = 0; epoch < 20; ++epoch) network.train_epoch(data, options);
  const convec::Totals totals = network.evaluate(data, options);
  std::printf("convec %s on %s: loss %.4f, accuracy %.3f\n", CONVEC_VERSION, name_of(convec::current_isa()),
              totals.loss, totals.metrics.at(0));
  if (totals.metrics.at(0) < 0.95) return 1;

  try {
    convec::conv2d_output_shape({1, 2, 2, 1}, {3, 3, 1, 1}, {});
  } catch (const convec::ShapeError& error) {
    return std::string(error.what()).find("below 1") == std::string::npos ? 3 : 0;
  }
  return 2;
}
