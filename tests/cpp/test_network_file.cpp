// Networks in files: everything comes back, training goes on as if it had not stopped, and damaged files are refused.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include <unistd.h>

#include <convec/error.hpp>
#include <convec/network.hpp>
#include <convec/serialize.hpp>

#include "test.hpp"

using convec::Dataset;
using convec::FileMetadata;
using convec::NamedTensor;
using convec::Network;
using convec::SafetensorsFile;
using convec::Shape;
using convec::ShapeError;
using convec::Tensor;
using convec::ValueError;

namespace {

// A file that is gone afterwards.
class File {
 public:
  File() {
    char name[] = "/tmp/convec_test_XXXXXX";
    const int descriptor = ::mkstemp(name);
    CHECK(descriptor >= 0);
    ::close(descriptor);
    path = name;
  }
  ~File() { std::remove(path.c_str()); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  std::string path;
};

// One of each kind of layer, with settings that are not the defaults.
std::vector<convec::Layer> every_layer() {
  convec::Conv2dLayer first;
  first.filters = 4;
  first.kernel_size = {3, 2};
  first.options.padding = convec::Padding::pixels(1, 0, 2, 1);
  first.options.strides = {1, 2};
  first.activation = convec::Activation::leaky_relu;
  convec::Conv2dLayer second;
  second.filters = 6;
  second.kernel_size = {1, 1};
  second.options.groups = 2;
  second.options.padding = convec::Padding::same();
  second.use_bias = false;
  convec::MaxPool2dLayer max_pool;
  max_pool.options.padding = convec::Padding::same();
  convec::AveragePool2dLayer average_pool;
  average_pool.options = {{2, 1}, {1, 1}, {}};
  convec::BatchNormLayer norm;
  norm.momentum = 0.8F;
  norm.epsilon = 0.1F;
  convec::DenseLayer dense;
  dense.units = 5;
  dense.activation = convec::Activation::tanh;
  return {convec::RescalingLayer{0.1F, -0.5F},
          first,
          max_pool,
          second,
          norm,
          convec::ActivationLayer{convec::Activation::relu},
          average_pool,
          convec::DropoutLayer{0.25F},
          convec::GlobalAveragePool2dLayer{true},
          convec::GlobalMaxPool2dLayer{},
          convec::FlattenLayer{},
          dense,
          convec::DenseLayer{3},
          convec::SoftmaxLayer{}};
}

struct Data {
  Tensor images{Shape{12, 9, 8, 2}};
  std::vector<std::int64_t> labels;

  Data() {
    for (std::int64_t i = 0; i < images.shape().size(); ++i) images.f32()[i] = static_cast<float>(i * 37 % 101) / 50;
    for (std::int64_t n = 0; n < 12; ++n) labels.push_back(n % 3);
  }

  Dataset dataset() const { return {images.view(), {labels.data(), convec::DType::int64, Shape{12}}, {}}; }
};

Network trained(int epochs, convec::OptimizerOptions optimizer) {
  const Data data;
  Network network(every_layer(), Shape{9, 8, 2}, 7);
  network.compile({convec::Loss::sparse_categorical_crossentropy, false, 0.1F}, optimizer,
                  {{convec::MetricOptions{convec::Metric::sparse_top_k_categorical_accuracy, 2, 0.5F}, true},
                   {convec::LossOptions{}, false}});
  network.set_trainable(3, false);
  convec::EpochOptions options;
  options.batch_size = 5;
  for (int epoch = 0; epoch < epochs; ++epoch) network.train_epoch(data.dataset(), options);
  return network;
}

bool same_parameters(const Network& a, const Network& b) {
  if (a.parameters().size() != b.parameters().size()) return false;
  for (std::size_t i = 0; i < a.parameters().size(); ++i) {
    const auto x = a.parameter(i);
    const auto y = b.parameter(i);
    if (x.shape != y.shape || a.parameters()[i].trainable != b.parameters()[i].trainable) return false;
    if (!std::equal(x.f32(), x.f32() + x.shape.size(), y.f32())) return false;
  }
  return true;
}

// The file's arrays and metadata, to be written again with a change.
struct Content {
  explicit Content(const std::string& path) : file(path), metadata(file.metadata()) {
    for (const auto& tensor : file.tensors()) tensors.push_back({tensor.name, file.view(tensor.name)});
  }
  SafetensorsFile file;
  std::vector<NamedTensor> tensors;
  FileMetadata metadata;
};

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  CHECK(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

}  // namespace

TEST(training_goes_on_where_it_stopped) {
  for (const auto kind : {convec::Optimizer::sgd, convec::Optimizer::adam, convec::Optimizer::adamw,
                          convec::Optimizer::rmsprop, convec::Optimizer::adadelta}) {
    auto optimizer = convec::OptimizerOptions::defaults(kind);
    optimizer.learning_rate = 0.02F;
    optimizer.momentum = 0.5F;
    optimizer.amsgrad = true;
    optimizer.clipnorm = 1.0F;
    const File file;
    save_network(file.path, trained(2, optimizer));
    Network resumed = convec::load_network(file.path);
    CHECK_EQ(resumed.iterations(), 6);
    CHECK_EQ(resumed.seed(), 7U);
    CHECK(resumed.optimizer().optimizer == kind);
    CHECK_EQ(resumed.metrics().size(), 2U);
    CHECK(resumed.metrics()[0].weighted);
    CHECK_EQ(resumed.loss().label_smoothing, 0.1F);
    const Data data;
    convec::EpochOptions options;
    options.batch_size = 5;
    resumed.train_epoch(data.dataset(), options);
    CHECK(same_parameters(resumed, trained(3, optimizer)));
    const auto first = resumed.evaluate(data.dataset(), options);
    const auto second = trained(3, optimizer).evaluate(data.dataset(), options);
    CHECK_EQ(first.loss, second.loss);
    CHECK(first.metrics == second.metrics);
  }
}

TEST(names_and_metadata_are_the_callers) {
  const File file;
  const Network network({convec::FlattenLayer{}, convec::DenseLayer{2}, convec::DenseLayer{1}}, Shape{3, 1}, 1);
  convec::SaveNetworkOptions options;
  options.layer_names = {"rows", "hidden", "output"};
  options.metadata = {{"licence", "MIT"}};
  save_network(file.path, network, options);
  const SafetensorsFile saved(file.path);
  CHECK(saved.find("hidden/kernel") != nullptr && saved.find("output/bias") != nullptr);
  CHECK_EQ(saved.metadata().at("licence"), "MIT");
  const Network loaded = convec::load_network(saved);
  CHECK(!loaded.compiled());
  CHECK(same_parameters(loaded, network));
  save_network(file.path, network);
  CHECK(SafetensorsFile(file.path).find("dense_1/bias") != nullptr);

  options.layer_names = {"rows", "twice", "twice"};
  CHECK_THROWS(save_network(file.path, network, options), ValueError, "occurs twice");
  options.layer_names = {"one"};
  CHECK_THROWS(save_network(file.path, network, options), ValueError, "1 names");
  options = {};
  options.metadata = {{"convec.network", ""}};
  CHECK_THROWS(save_network(file.path, network, options), ValueError, "library's own");
}

TEST(what_the_file_said_besides_is_written_again) {
  const File file;
  convec::SaveNetworkOptions options;
  options.layer_names.resize(every_layer().size());
  for (std::size_t i = 0; i < options.layer_names.size(); ++i) options.layer_names[i] = "layer " + std::to_string(i);
  options.metadata = {{"licence", "MIT"}, {"convec.model", "m"}, {"convec.compile", "c"}, {"convec.position", "p"}};
  save_network(file.path, trained(1, convec::OptimizerOptions::defaults(convec::Optimizer::adam)), options);
  const FileMetadata before = SafetensorsFile(file.path).metadata();

  Network network = convec::load_network(file.path);
  CHECK(network.notes().layer_names == options.layer_names);
  save_network(file.path, network);
  CHECK(SafetensorsFile(file.path).metadata() == before);
  CHECK(SafetensorsFile(file.path).find("layer 1/kernel") != nullptr);
  // Other steps have another position, another optimizer other arguments, another network other layers.
  const auto keys = [&file](const Network& changed, const convec::SaveNetworkOptions& how = {}) {
    save_network(file.path, changed, how);
    std::string found;
    const SafetensorsFile saved(file.path);
    for (const char* key : {"model", "compile", "position"})
      if (saved.metadata().count(std::string("convec.") + key) != 0) found += key[0];
    CHECK_EQ(saved.metadata().at("licence"), "MIT");
    return found;
  };
  network.set_iterations(network.iterations() + 1);
  CHECK_EQ(keys(network), "mc");
  network.set_iterations(network.iterations() - 1);
  CHECK_EQ(keys(network), "mcp");
  options = {};
  options.optimizer_state = false;
  CHECK_EQ(keys(network, options), "mc");
  network.compile({}, convec::OptimizerOptions::defaults(convec::Optimizer::sgd), {});
  CHECK_EQ(keys(network), "m");
  network.set_trainable(1, false);
  CHECK_EQ(keys(network), "");
  options.metadata = {{"licence", "other"}};
  save_network(file.path, network, options);
  CHECK_EQ(SafetensorsFile(file.path).metadata().at("licence"), "other");
}

TEST(the_state_of_the_optimizer_may_be_left_out) {
  const File file;
  convec::SaveNetworkOptions options;
  options.optimizer_state = false;
  save_network(file.path, trained(1, convec::OptimizerOptions::defaults(convec::Optimizer::adam)), options);
  const Network loaded = convec::load_network(file.path);
  CHECK(loaded.compiled());
  CHECK_EQ(loaded.iterations(), 0);
  CHECK_EQ(SafetensorsFile(file.path).tensors().size(), loaded.parameters().size());
}

TEST(descriptions_that_do_not_fit_are_refused) {
  const File good;
  save_network(good.path, trained(1, convec::OptimizerOptions::defaults(convec::Optimizer::adam)));
  const Content content(good.path);
  const File bad;
  const auto with = [&](const char* key, const char* from, const char* to) {
    FileMetadata metadata = content.metadata;
    metadata[key] = replaced(metadata.at(key), from, to);
    save_safetensors(bad.path, content.tensors, metadata);
    return bad.path;
  };
  const char* const network = "convec.network";
  CHECK_THROWS(convec::load_network(with("convec.format", "1", "2")), ValueError, "newer");
  CHECK_THROWS(convec::load_network(with(network, "\"units\":5", "\"units\":6")), ShapeError, "dense/kernel");
  // No memory for that: it is refused before.
  CHECK_THROWS(convec::load_network(with(network, "\"units\":5", "\"units\":1000000000")), ShapeError, "dense/kernel");
  CHECK_THROWS(convec::load_network(with(network, "\"units\":5", "\"units\":-1")), ValueError, "not negative");
  CHECK_THROWS(convec::load_network(with(network, "\"units\":5", "\"unit\":5")), ValueError, "'unit' is not known");
  CHECK_THROWS(convec::load_network(with(network, "\"dense\"", "\"dance\"")), ValueError, "'dance' is not known");
  CHECK_THROWS(convec::load_network(with(network, "\"tanh\"", "\"tan\"")), ValueError, "tan");
  CHECK_THROWS(convec::load_network(with(network, "[9,8,2]", "[9,8,2,1,1,1,1,1,1]")), ValueError, "8 dimensions");
  CHECK_THROWS(convec::load_network(with(network, "[9,8,2]", "[9,8]")), ShapeError, "layer");
  CHECK_THROWS(convec::load_network(with(network, "[9,8,2]", "9")), ValueError, "an array");
  CHECK_THROWS(convec::load_network(with(network, "\"same\"", "\"some\"")), ValueError, "padding");
  CHECK_THROWS(convec::load_network(with(network, "\"rate\":0.25", "\"rate\":25")), ValueError, "rate");
  CHECK_THROWS(convec::load_network(with(network, "\"rate\":0.25", "\"rate\":1e300")), ValueError, "does not fit");
  CHECK_THROWS(convec::load_network(with(network, "\"name\":\"dense\"", "\"name\":\"other\"")), ValueError, "other/");
  const char* const training = "convec.training";
  CHECK_THROWS(convec::load_network(with(training, "\"adam\"", "\"adem\"")), ValueError, "adem");
  CHECK_THROWS(convec::load_network(with(training, "\"seed\":\"", "\"seed\":\"x")), ValueError, "64 bits");
  CHECK_THROWS(convec::load_network(with(training, "sparse_categorical_crossentropy", "none")), ValueError, "none");
  CHECK_THROWS(convec::load_network(with(training, "\"k\":2", "\"k\":0")), ValueError, "k");

  save_safetensors(bad.path, content.tensors);
  CHECK_THROWS(convec::load_network(bad.path), ValueError, "only weights");
  auto fewer = content.tensors;
  fewer.erase(std::remove_if(fewer.begin(), fewer.end(), [](const auto& t) { return t.name == "dense/bias"; }),
              fewer.end());
  save_safetensors(bad.path, fewer, content.metadata);
  CHECK_THROWS(convec::load_network(bad.path), ValueError, "dense/bias");
}

TEST(every_cut_of_a_description_is_survived) {
  const File good;
  save_network(good.path, trained(1, convec::OptimizerOptions::defaults(convec::Optimizer::adam)));
  const Content content(good.path);
  const File bad;
  convec::SaveOptions fast;
  fast.sync = false;
  for (const char* const key : {"convec.network", "convec.training"}) {
    const std::string whole = content.metadata.at(key);
    for (std::size_t size = 0; size < whole.size(); size += 3) {
      FileMetadata metadata = content.metadata;
      metadata[key] = whole.substr(0, size);
      save_safetensors(bad.path, content.tensors, metadata, fast);
      CHECK_THROWS(convec::load_network(bad.path), ValueError, key);
    }
  }
}

TEST_MAIN()
