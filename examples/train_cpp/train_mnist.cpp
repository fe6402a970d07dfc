// Trains a convolutional network on the IDX files of MNIST or Fashion-MNIST, without Python:
//
//   train_mnist FOLDER [EPOCHS]
//
// FOLDER holds train-images-idx3-ubyte, train-labels-idx1-ubyte and the two t10k files, not compressed.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include <convec/context.hpp>
#include <convec/cpu_features.hpp>
#include <convec/network.hpp>

namespace {

struct IdxFile {
  std::vector<std::int64_t> shape;
  std::vector<std::uint8_t> bytes;
};

// An IDX file: two zero bytes, the type (8: bytes), the number of dimensions, each extent with its high byte first.
IdxFile read_idx(const std::string& path, std::size_t rank) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(path + " cannot be opened");
  std::vector<unsigned char> header(4 + 4 * rank);
  file.read(reinterpret_cast<char*>(header.data()), static_cast<std::streamsize>(header.size()));
  if (!file || header[2] != 8 || header[3] != rank) throw std::runtime_error(path + " is no IDX file of this kind");
  IdxFile idx;
  std::int64_t size = 1;
  for (std::size_t axis = 0; axis < rank; ++axis) {
    std::int64_t extent = 0;
    for (std::size_t byte = 0; byte < 4; ++byte) extent = extent * 256 + header[4 + 4 * axis + byte];
    idx.shape.push_back(extent);
    size *= extent;
    if (size > 1'000'000'000) throw std::runtime_error(path + " claims to be larger than any such file");
  }
  idx.bytes.resize(static_cast<std::size_t>(size));
  file.read(reinterpret_cast<char*>(idx.bytes.data()), static_cast<std::streamsize>(size));
  if (!file) throw std::runtime_error(path + " is truncated");
  return idx;
}

// The network takes the bytes as they are: numbers from 0 to 255, which its first layer scales.
convec::Dataset dataset(const IdxFile& images, const IdxFile& labels) {
  const std::int64_t count = images.shape[0];
  if (labels.shape[0] != count) throw std::runtime_error("there are not as many labels as images");
  return {{images.bytes.data(), convec::DType::uint8, {count, images.shape[1], images.shape[2], 1}},
          {labels.bytes.data(), convec::DType::uint8, {count}},
          {}};
}

convec::Conv2dLayer conv(std::int64_t filters) {
  convec::Conv2dLayer layer;
  layer.filters = filters;
  layer.activation = convec::Activation::relu;
  return layer;
}

convec::DenseLayer dense(std::int64_t units, convec::Activation activation) {
  convec::DenseLayer layer;
  layer.units = units;
  layer.activation = activation;
  return layer;
}

void train(const std::string& folder, int epochs) {
  const IdxFile train_images = read_idx(folder + "/train-images-idx3-ubyte", 3);
  const IdxFile train_labels = read_idx(folder + "/train-labels-idx1-ubyte", 1);
  const IdxFile test_images = read_idx(folder + "/t10k-images-idx3-ubyte", 3);
  const IdxFile test_labels = read_idx(folder + "/t10k-labels-idx1-ubyte", 1);
  const convec::Dataset training = dataset(train_images, train_labels);
  const convec::Dataset test = dataset(test_images, test_labels);

  convec::RescalingLayer rescaling;
  rescaling.scale = 1.0F / 255.0F;
  convec::Network network({rescaling, conv(32), convec::MaxPool2dLayer{}, conv(64), convec::MaxPool2dLayer{}, conv(64),
                           convec::FlattenLayer{}, dense(64, convec::Activation::relu),
                           dense(10, convec::Activation::linear), convec::SoftmaxLayer{}},
                          {train_images.shape[1], train_images.shape[2], 1}, /*seed=*/1);
  network.compile({}, convec::OptimizerOptions::defaults(convec::Optimizer::adam), {{convec::MetricOptions{}, false}});

  std::vector<std::int64_t> order(train_labels.bytes.size());
  std::iota(order.begin(), order.end(), 0);
  std::mt19937_64 random(1);
  std::printf("%zu images, %s kernels, %d threads\n", order.size(), name_of(convec::current_isa()),
              convec::num_threads());
  for (int epoch = 1; epoch <= epochs; ++epoch) {
    std::shuffle(order.begin(), order.end(), random);
    convec::EpochOptions options;
    options.order = order.data();
    options.samples = static_cast<std::int64_t>(order.size());
    const auto start = std::chrono::steady_clock::now();
    const convec::Totals trained = network.train_epoch(training, options);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    const convec::Totals tested = network.evaluate(test, {});
    std::printf("epoch %d: loss %.4f, accuracy %.4f, test accuracy %.4f, %.0f images/s\n", epoch, trained.loss,
                trained.metrics[0], tested.metrics[0], static_cast<double>(trained.samples) / seconds.count());
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s FOLDER [EPOCHS]\n", argv[0]);
    return 2;
  }
  try {
    train(argv[1], argc > 2 ? static_cast<int>(std::strtol(argv[2], nullptr, 10)) : 5);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
