// Whole networks in files. Half of the inputs are files; half are the descriptions of one, network and training, on a
// line each, that are put into a file with the arrays of a small network, since no mutation gets past the header else.
#include <algorithm>
#include <cstring>
#include <memory>

#include <unistd.h>

#include <convec/network.hpp>
#include <convec/serialize.hpp>

#include "file.hpp"
#include "fuzz.hpp"
#include "io/json.hpp"

using convec::Network;
using convec::SafetensorsFile;
using convec::Shape;
using convec::Tensor;

namespace {

constexpr char of_file = 0;
constexpr char of_descriptions = 1;

Network make_network() {
  convec::Conv2dLayer conv;
  conv.filters = 4;
  conv.options.padding = convec::Padding::pixels(1, 0, 2, 1);
  conv.activation = convec::Activation::relu;
  convec::DenseLayer dense;
  dense.units = 3;
  Network network({convec::RescalingLayer{0.5F, 0.1F}, conv, convec::MaxPool2dLayer{}, convec::BatchNormLayer{},
                   convec::AveragePool2dLayer{{{1, 1}, {1, 1}, convec::Padding::same()}}, convec::DropoutLayer{0.25F},
                   convec::FlattenLayer{}, dense, convec::SoftmaxLayer{}},
                  Shape{6, 6, 2});
  convec::OptimizerOptions adam = convec::OptimizerOptions::defaults(convec::Optimizer::adam);
  adam.clipnorm = 1.0F;
  network.compile({}, adam,
                  {{convec::MetricOptions{}, false}, {convec::LossOptions{convec::Loss::mean_squared_error}, true}});
  network.set_iterations(7);
  return network;
}

std::string saved(const Network& network) {
  return convec::fuzz::written([&](const std::string& path) {
    convec::SaveNetworkOptions options;
    options.file.sync = false;
    convec::save_network(path, network, options);
  });
}

SafetensorsFile in_memory(std::string_view bytes) {
  const std::shared_ptr<char[]> copy(new char[bytes.size()]);
  std::copy(bytes.begin(), bytes.end(), copy.get());
  return {std::shared_ptr<const void>(copy, copy.get()), bytes.size()};
}

// The entries of the arrays' header and their bytes.
struct Arrays {
  std::string entries;
  std::string data;
  convec::FileMetadata metadata;
};

const Arrays& arrays() {
  static const Arrays made = [] {
    const std::string bytes = saved(make_network());
    const SafetensorsFile file = in_memory(bytes);
    convec::io::JsonWriter json;
    json.begin_object();
    std::uint64_t begin = bytes.size();
    for (const convec::StoredTensor& tensor : file.tensors()) begin = std::min(begin, tensor.offset);
    for (const convec::StoredTensor& tensor : file.tensors()) {
      json.key(tensor.name).begin_object().key("dtype").value("F32").key("shape").begin_array();
      for (const std::int64_t extent : tensor.shape) json.value(extent);
      const auto from = static_cast<std::int64_t>(tensor.offset - begin);
      json.end_array().key("data_offsets").begin_array().value(from);
      json.value(from + static_cast<std::int64_t>(tensor.bytes)).end_array().end_object();
    }
    return Arrays{json.end_object().text().substr(1), bytes.substr(static_cast<std::size_t>(begin)), file.metadata()};
  }();
  return made;
}

std::string described(std::string_view text) {
  const std::size_t line_end = std::min(text.find('\n'), text.size());
  convec::io::JsonWriter json;
  json.begin_object().key("__metadata__").begin_object().key("convec.format").value("1");
  json.key("convec.network").value(std::string(text.substr(0, line_end)));
  if (line_end < text.size()) json.key("convec.training").value(std::string(text.substr(line_end + 1)));
  const std::string header = json.end_object().text() + "," + arrays().entries;
  std::string file(8, '\0');
  const std::uint64_t length = header.size();
  std::memcpy(file.data(), &length, sizeof length);
  return file + header + arrays().data;
}

// Whether a batch of the network, with all that lies between its layers, is small.
bool is_small(const Network& network) {
  constexpr std::int64_t most = 100'000;
  std::int64_t elements = network.input_shape().size();
  for (std::size_t i = 0; i < network.layers().size() && elements < most; ++i)
    elements += std::min(most, network.output_shape(i).size());
  return elements < most;
}

void use(Network& network) {
  if (!is_small(network)) return;
  constexpr std::int64_t batch = 2;
  const Tensor inputs(network.input_shape().with_batch(batch));
  Tensor outputs(network.output_shape().with_batch(batch));
  convec::fuzz::returns([&] { network.predict(inputs.view(), outputs.view()); });
  if (network.compiled())
    convec::fuzz::returns(
        [&] { network.train_batch({inputs.view(), Tensor(Shape{batch}, convec::DType::int64).view(), {}}); });
}

std::vector<std::string> seeds() {
  const convec::FileMetadata& metadata = arrays().metadata;
  return {of_file + saved(make_network()),
          of_file + saved(Network({convec::GlobalAveragePool2dLayer{}, convec::SoftmaxLayer{}}, Shape{3, 4, 5})),
          of_descriptions + metadata.at("convec.network") + "\n" + metadata.at("convec.training"),
          of_descriptions + metadata.at("convec.network")};
}

}  // namespace

FUZZ_TARGET(network_file, seeds) {
  const bool is_file = input.byte() % 2 == of_file;
  const std::string_view rest = input.rest();
  // What is no UTF-8 cannot be put into a header.
  if (!is_file && !convec::io::is_utf8(rest.data(), rest.size())) return;
  const std::string bytes = is_file ? std::string(rest) : described(rest);
  convec::fuzz::accepts(bytes.size(), [&] {
    Network network = convec::load_network(in_memory(bytes));
    // What was accepted is written so that it is accepted again.
    const Network again = convec::load_network(in_memory(saved(network)));
    FUZZ_CHECK(again.layers().size() == network.layers().size() && again.iterations() == network.iterations());
    use(network);
  });
}
