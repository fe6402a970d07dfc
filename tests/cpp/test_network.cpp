// The network as a C++ program uses it: it learns, repeats itself bit by bit, and refuses what does not fit.
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <thread>
#include <vector>

#include <convec/context.hpp>
#include <convec/cpu_features.hpp>
#include <convec/error.hpp>
#include <convec/network.hpp>

#include "test.hpp"

using convec::Dataset;
using convec::DType;
using convec::EpochOptions;
using convec::Layer;
using convec::Network;
using convec::Shape;
using convec::Tensor;
using convec::Totals;
using std::int64_t;

namespace {

constexpr int64_t samples = 96;
constexpr int64_t side = 12;
constexpr int64_t classes = 4;

// Images with a bright quarter; the label is which.
struct Quarters {
  Tensor images{Shape{samples, side, side, 1}};
  std::vector<std::uint8_t> labels = std::vector<std::uint8_t>(samples);

  Quarters() {
    std::uint32_t state = 7;
    for (int64_t n = 0; n < samples; ++n) {
      const auto label = static_cast<std::uint8_t>(n * 7 % classes);
      labels[static_cast<std::size_t>(n)] = label;
      for (int64_t y = 0; y < side; ++y)
        for (int64_t x = 0; x < side; ++x) {
          state = state * 1664525U + 1013904223U;
          const bool bright = (y >= side / 2) == (label / 2 == 1) && (x >= side / 2) == (label % 2 == 1);
          images.f32()[(n * side + y) * side + x] = static_cast<float>(state >> 24U) / 512.0F + (bright ? 0.5F : 0.0F);
        }
    }
  }

  Dataset dataset() const { return {images.view(), {labels.data(), DType::uint8, Shape{samples}}, {}}; }
};

std::vector<Layer> classifier() {
  convec::Conv2dLayer first;
  first.filters = 8;
  first.activation = convec::Activation::relu;
  convec::Conv2dLayer second = first;
  second.filters = 20;
  convec::DenseLayer dense;
  dense.units = classes;
  return {first,
          convec::MaxPool2dLayer{},
          second,
          convec::BatchNormLayer{},
          convec::FlattenLayer{},
          convec::DropoutLayer{0.1F},
          dense,
          convec::SoftmaxLayer{}};
}

Network compiled(std::uint64_t seed = 3) {
  Network network(classifier(), Shape{side, side, 1}, seed);
  auto optimizer = convec::OptimizerOptions::defaults(convec::Optimizer::adam);
  optimizer.learning_rate = 0.01F;
  network.compile({}, optimizer, {{convec::MetricOptions{}, false}});
  network.set_seed(11);
  return network;
}

std::vector<float> all_parameters(const Network& network) {
  std::vector<float> all;
  for (std::size_t i = 0; i < network.parameters().size(); ++i) {
    const convec::ConstTensorView view = network.parameter(i);
    all.insert(all.end(), view.f32(), view.f32() + view.shape.size());
  }
  return all;
}

EpochOptions batches(int64_t size) {
  EpochOptions options;
  options.batch_size = size;
  return options;
}

}  // namespace

TEST(shapes_are_inferred) {
  const Network network(classifier(), Shape{side, side, 1});
  CHECK_EQ(to_string(network.output_shape(0)), "(10, 10, 8)");
  CHECK_EQ(to_string(network.output_shape(1)), "(5, 5, 8)");
  CHECK_EQ(to_string(network.output_shape()), "(4,)");
  CHECK_EQ(network.parameters().front().name, "kernel");
  CHECK_EQ(to_string(network.parameters().front().shape), "(3, 3, 1, 8)");
}

TEST(it_learns) {
  const Quarters data;
  Network network = compiled();
  const double before = network.evaluate(data.dataset(), batches(32)).loss;
  Totals last;
  for (int epoch = 0; epoch < 15; ++epoch) last = network.train_epoch(data.dataset(), batches(16));
  CHECK_EQ(last.samples, samples);
  CHECK_EQ(last.batches, samples / 16);
  CHECK_EQ(network.iterations(), 15 * samples / 16);
  const Totals after = network.evaluate(data.dataset(), batches(32));
  CHECK(after.loss < 0.5 * before);
  CHECK(after.metrics.at(0) > 0.9);
}

TEST(results_do_not_depend_on_threads_and_repeat_bit_by_bit) {
  const Quarters data;
  const int before = convec::num_threads();
  for (const convec::IsaLevel level : convec::available_isas()) {
    const convec::IsaLevel isa = convec::current_isa();
    convec::set_isa(level);
    std::vector<std::vector<float>> results;
    for (const int threads : {1, 2, 5, 2}) {
      convec::set_num_threads(threads);
      Network network = compiled();
      for (int epoch = 0; epoch < 2; ++epoch) network.train_epoch(data.dataset(), batches(17));
      results.push_back(all_parameters(network));
    }
    convec::set_isa(isa);
    for (const auto& result : results) CHECK(result == results.front());
  }
  convec::set_num_threads(before);
  CHECK(all_parameters(compiled(3)) != all_parameters(compiled(4)));
}

TEST(predictions_are_distributions_and_may_run_from_many_threads) {
  const Quarters data;
  const Network network = compiled();
  Tensor whole(Shape{samples, classes});
  network.predict(data.images.view(), whole.view());
  for (int64_t n = 0; n < samples; ++n) {
    double sum = 0;
    for (int64_t c = 0; c < classes; ++c) sum += whole.f32()[n * classes + c];
    CHECK_NEAR(sum, 1.0, 1e-5);
  }
  std::vector<Tensor> outputs;
  for (int caller = 0; caller < 3; ++caller) outputs.emplace_back(Shape{samples, classes});
  std::vector<std::thread> callers;
  for (Tensor& output : outputs)
    callers.emplace_back([&] {
      for (int round = 0; round < 5; ++round) network.predict(data.images.view(), output.view());
    });
  for (std::thread& caller : callers) caller.join();
  for (const Tensor& output : outputs)
    for (int64_t i = 0; i < samples * classes; ++i) CHECK_EQ(output.f32()[i], whole.f32()[i]);
}

TEST(progress_may_stop_an_epoch) {
  const Quarters data;
  Network network = compiled();
  EpochOptions options = batches(8);
  options.progress_interval = 0;
  options.progress = [](const Totals& totals) {
    if (totals.batches == 3) throw std::runtime_error("enough");
  };
  CHECK_THROWS(network.train_epoch(data.dataset(), options), std::runtime_error, "enough");
  CHECK_EQ(network.iterations(), 3);
  options.progress = nullptr;
  network.train_epoch(data.dataset(), options);
  CHECK_EQ(network.iterations(), 3 + samples / 8);
}

TEST(parameters_come_and_go) {
  Network network = compiled();
  const Shape shape = network.parameters()[0].shape;
  Tensor kernel(shape);
  for (int64_t i = 0; i < shape.size(); ++i) kernel.f32()[i] = static_cast<float>(i);
  network.set_parameter(0, kernel.view());
  CHECK_EQ(network.parameter(0).f32()[5], 5.0F);
  CHECK_THROWS(network.set_parameter(0, {kernel.f32(), Shape{shape.size()}}), convec::ShapeError, "");
}

TEST(bad_data_change_nothing) {
  const Quarters data;
  Network network = compiled();
  const std::vector<float> before = all_parameters(network);
  Dataset bad = data.dataset();
  std::vector<std::uint8_t> labels = data.labels;
  labels.back() = classes;
  bad.targets = {labels.data(), DType::uint8, Shape{samples}};
  CHECK_THROWS(network.train_epoch(bad, batches(8)), convec::ValueError, "4");
  bad = data.dataset();
  bad.targets = {data.labels.data(), DType::uint8, Shape{samples - 1}};
  CHECK_THROWS(network.train_epoch(bad, batches(8)), convec::ShapeError, "");
  bad = data.dataset();
  bad.inputs = {data.images.f32(), Shape{samples, side, 1, side}};
  CHECK_THROWS(network.train_batch(bad), convec::ShapeError, "");
  CHECK_THROWS(network.train_epoch(data.dataset(), batches(0)), convec::ValueError, "batch_size");
  CHECK(all_parameters(network) == before);
  CHECK_EQ(network.iterations(), 0);
}

TEST(bad_settings_are_refused_when_they_are_given) {
  Network network = compiled();
  convec::OptimizerOptions adam = convec::OptimizerOptions::defaults(convec::Optimizer::adam);
  adam.clipnorm = -1.0F;
  CHECK_THROWS(network.compile({}, adam, {}), convec::ValueError, "clipnorm");
  adam = convec::OptimizerOptions::defaults(convec::Optimizer::adam);
  adam.beta_1 = 1.0;
  CHECK_THROWS(network.compile({}, adam, {}), convec::ValueError, "beta_1");
  CHECK(network.optimizer().clipnorm == 0.0F);
  CHECK_THROWS(network.set_iterations(-1), convec::ValueError, "iterations");
  CHECK_THROWS(network.set_iterations(std::numeric_limits<std::int64_t>::max()), convec::ValueError, "iterations");
  CHECK_EQ(network.iterations(), 0);
}

TEST(layers_that_do_not_fit_are_named) {
  convec::Conv2dLayer wide;
  wide.kernel_size = {side + 1, 1};
  CHECK_THROWS(Network({wide}, Shape{side, side, 1}), convec::ShapeError, "below 1");
  CHECK_THROWS(Network({convec::MaxPool2dLayer{}}, Shape{side}), convec::ShapeError, "");
  convec::DenseLayer none;
  none.units = 0;
  CHECK_THROWS(Network({none}, Shape{side}), convec::ValueError, "units");
  convec::DenseLayer absurd;
  absurd.units = std::numeric_limits<int64_t>::max();
  CHECK_THROWS(Network({absurd}, Shape{side}), convec::Error, "units");
}

TEST(the_first_layer_with_a_nan_is_found) {
  const Quarters data;
  Network network = compiled();
  CHECK_EQ(network.first_nonfinite_layer(data.images.view()), -1);
  Tensor kernel(network.parameters()[2].shape);
  kernel.f32()[0] = std::numeric_limits<float>::quiet_NaN();
  network.set_parameter(2, kernel.view());
  CHECK_EQ(network.first_nonfinite_layer(data.images.view()), 2);
}

TEST_MAIN()
