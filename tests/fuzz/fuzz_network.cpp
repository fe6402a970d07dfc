// Networks of any layers, trained and run on any data: refused by an exception, or within their arrays.
#include <algorithm>

#include <convec/network.hpp>

#include "fuzz.hpp"
#include "guarded.hpp"

using convec::DType;
using convec::Layer;
using convec::Network;
using convec::Shape;
using convec::TensorView;
using convec::fuzz::Guarded;
using convec::fuzz::Input;
using convec::fuzz::returns;
using convec::fuzz::some_bytes;

namespace {

convec::Padding padding(Input& input) {
  switch (input.below(3)) {
    case 0:
      return convec::Padding::valid();
    case 1:
      return convec::Padding::same();
    default:
      return convec::Padding::pixels(input.from_zero(3), input.from_zero(3), input.from_zero(3), input.from_zero(3));
  }
}

convec::Activation activation(Input& input) { return static_cast<convec::Activation>(input.below(11)); }

convec::Pool2dOptions pooling(Input& input) {
  return {{input.extent(4), input.extent(4)}, {input.extent(3), input.extent(3)}, padding(input)};
}

Layer layer(Input& input) {
  switch (input.below(12)) {
    case 0: {
      convec::Conv2dLayer conv;
      conv.filters = input.extent(20);
      conv.kernel_size = {input.extent(4), input.extent(4)};
      conv.options = {
          {input.extent(2), input.extent(2)}, padding(input), {input.extent(2), input.extent(2)}, input.extent(2)};
      conv.use_bias = input.flag();
      conv.activation = activation(input);
      return conv;
    }
    case 1:
      return convec::MaxPool2dLayer{pooling(input)};
    case 2:
      return convec::AveragePool2dLayer{pooling(input)};
    case 3:
      return convec::GlobalMaxPool2dLayer{input.flag()};
    case 4:
      return convec::GlobalAveragePool2dLayer{input.flag()};
    case 5:
      return convec::FlattenLayer{};
    case 6:
      return convec::DenseLayer{input.extent(30), input.flag(), activation(input)};
    case 7:
      return convec::ActivationLayer{activation(input)};
    case 8:
      return convec::SoftmaxLayer{};
    case 9:
      return convec::DropoutLayer{input.number(), std::nullopt};
    case 10:
      return convec::BatchNormLayer{input.number(), input.number(), input.flag(), input.flag()};
    default:
      return convec::RescalingLayer{input.number(), input.number()};
  }
}

convec::LossOptions loss(Input& input) {
  return {static_cast<convec::Loss>(input.below(6)), input.flag(), input.byte() < 200 ? 0.0F : input.number()};
}

// Elements of all that lies between the layers, parameters included; -1: too many to run.
std::int64_t size_of_network(const std::vector<Layer>& layers, const Shape& input_shape) {
  constexpr std::int64_t most = 60'000;
  std::int64_t elements = 0;
  for (const convec::ParameterInfo& info : convec::network_parameters(layers, input_shape)) {
    elements += std::min(info.shape.size(), most);
    if (elements >= most) return -1;
  }
  if (input_shape.size() >= most) return -1;
  const Network network(layers, input_shape);
  for (std::size_t i = 0; i < layers.size() && elements < most; ++i)
    elements += std::min(network.output_shape(i).size(), most);
  return elements < most ? elements : -1;
}

class Data {
 public:
  explicit Data(Input& input) : input_(input) {}

  TensorView array(const Shape& shape, DType dtype) {
    const std::int64_t elements = shape.size();
    TensorView view(nullptr, dtype, shape);
    if (static_cast<std::size_t>(elements) > Guarded::most_bytes / 8) return view;
    view.data = guarded_.bytes(static_cast<std::size_t>(elements) * size_of(dtype));
    const float first = input_.number();
    const std::uint8_t most = input_.byte();
    for (std::int64_t i = 0; i < elements; ++i) {
      const auto whole = static_cast<std::int64_t>(i % (1 + most));
      switch (dtype) {
        case DType::float32:
          static_cast<float*>(view.data)[i] = first + static_cast<float>(whole) * 0.125F;
          break;
        case DType::float64:
          static_cast<double*>(view.data)[i] = static_cast<double>(whole);
          break;
        case DType::int32:
          static_cast<std::int32_t*>(view.data)[i] = static_cast<std::int32_t>(whole) - (most == 255 ? 1 : 0);
          break;
        case DType::int64:
          static_cast<std::int64_t*>(view.data)[i] = whole - (most == 255 ? 1 : 0);
          break;
        case DType::uint8:
          static_cast<std::uint8_t*>(view.data)[i] = static_cast<std::uint8_t>(whole);
          break;
        case DType::bfloat16:
          view.bf16()[i].bits = static_cast<std::uint16_t>(whole);
          break;
      }
    }
    return view;
  }

 private:
  Input& input_;
  Guarded guarded_;
};

void use(Network& network, Input& input) {
  convec::OptimizerOptions optimizer =
      convec::OptimizerOptions::defaults(static_cast<convec::Optimizer>(input.below(5)));
  optimizer.clipnorm = input.byte() < 200 ? 0.0F : input.number();
  std::vector<convec::NetworkMetric> metrics;
  for (std::size_t i = input.below(3); i > 0; --i) {
    if (input.flag())
      metrics.push_back(
          {convec::MetricOptions{static_cast<convec::Metric>(input.below(5)), input.extent(6)}, input.flag()});
    else
      metrics.push_back({loss(input), input.flag()});
  }
  const bool compiled = returns([&] { network.compile(loss(input), optimizer, metrics); });
  FUZZ_CHECK(compiled == network.compiled());
  Data data(input);
  const std::int64_t count = input.between(0, 5);
  constexpr DType input_types[] = {DType::float32, DType::float32, DType::uint8, DType::float64};
  constexpr DType target_types[] = {DType::float32, DType::int64, DType::int32, DType::uint8};
  Shape inputs_shape = network.input_shape().with_batch(count);
  if (input.byte() > 250) inputs_shape = inputs_shape.without_batch();
  const convec::ConstTensorView inputs = data.array(inputs_shape, input_types[input.below(4)]);
  const DType target_type = target_types[input.below(4)];
  const Shape labels{input.byte() < 250 ? count : count + 1};
  const convec::ConstTensorView targets =
      data.array(target_type == DType::float32 ? network.output_shape().with_batch(count) : labels, target_type);
  convec::ConstTensorView weights;
  if (input.byte() > 200) weights = data.array(labels, DType::float32);
  const TensorView outputs = data.array(network.output_shape().with_batch(count), DType::float32);
  if (!inputs.present() || !targets.present() || !outputs.present()) return;
  const convec::Dataset dataset{inputs, targets, weights};
  convec::EpochOptions options;
  options.batch_size = input.extent(4);
  std::int64_t order[8];
  for (std::int64_t& sample : order) sample = input.from_zero(6);
  if (input.flag()) {
    options.order = order;
    options.samples = input.between(0, 8);
  }
  for (int round = 0; round < 2; ++round) {
    const std::int64_t before = network.iterations();
    const bool trained = returns([&] { network.train_batch(dataset); });
    FUZZ_CHECK(network.iterations() == before + (trained && count > 0 ? 1 : 0) || count == 0);
    FUZZ_CHECK(compiled || !trained);
    returns([&] { network.test_batch(dataset); });
    returns([&] { network.train_epoch(dataset, options); });
    returns([&] { network.evaluate(dataset, options); });
    returns([&] { network.predict(inputs, outputs, options); });
    returns([&] { static_cast<void>(network.first_nonfinite_layer(inputs)); });
  }
}

std::vector<std::string> seeds() {
  std::vector<std::string> all;
  const std::string image{'\3', '\7', '\7', '\2'};
  // conv2d, max_pool2d, flatten, dense, softmax
  all.push_back(image + std::string{5, 0, 7, 2, 2, 0, 0, 1, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 5, 6, 2, 1, 0, 8} +
                std::string(80, '\2'));
  // batch_norm, conv2d, global average
  all.push_back(image + std::string{3, 10, 121, 122, 1, 1, 0, 7, 2, 2, 0, 0, 1, 0, 0, 0, 1, 1, 4, 0} +
                std::string(80, '\1'));
  // dense, dropout, dense
  all.push_back(std::string{1, 8, 3, 6, 9, 1, 1, 9, 121, 6, 2, 1, 0} + std::string(80, '\1'));
  for (unsigned round = 0; round < 12; ++round) {
    all.push_back(image + some_bytes(31 * round + 7, 150, 60));
  }
  return all;
}

}  // namespace

FUZZ_TARGET(network, seeds) {
  std::vector<std::int64_t> extents;
  for (std::size_t rank = input.below(5); rank > 0; --rank) extents.push_back(input.extent(16));
  std::vector<Layer> layers;
  for (std::size_t count = input.below(8); count > 0; --count) layers.push_back(layer(input));
  const Shape input_shape(extents.data(), extents.size());
  bool small = false;
  if (!returns([&] { small = size_of_network(layers, input_shape) >= 0; }) || !small) return;
  Network network(layers, input_shape, 3);
  use(network, input);
}
