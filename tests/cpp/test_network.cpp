// The network as a C++ program uses it: it learns, repeats itself bit by bit, and refuses what does not fit.
#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <limits>
#include <mutex>
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

// Ranks that are threads: the last to come adds up, in the order of the ranks.
class Job {
 public:
  explicit Job(std::int64_t ranks) : ranks_(ranks), parts_(static_cast<std::size_t>(ranks)) {}

  template <typename T>
  void all_reduce(std::int64_t rank, T* values, std::int64_t count) {
    std::unique_lock<std::mutex> lock(mutex_);
    parts_[static_cast<std::size_t>(rank)].assign(values, values + count);
    const std::int64_t generation = generation_;
    if (++arrived_ == ranks_) {
      sums_.assign(static_cast<std::size_t>(count), 0.0);
      for (const auto& part : parts_) {
        mismatch_ = mismatch_ || part.size() != sums_.size();
        for (std::size_t i = 0; i < std::min(sums_.size(), part.size()); ++i) sums_[i] += part[i];
      }
      arrived_ = 0;
      ++generation_;
      changed_.notify_all();
    } else {
      changed_.wait(lock, [&] { return generation_ != generation; });
    }
    for (std::int64_t i = 0; i < count; ++i) values[i] = static_cast<T>(sums_[static_cast<std::size_t>(i)]);
    // Nobody begins the next sum before all have read this one.
    const std::int64_t read = generation_;
    if (++left_ == ranks_) {
      left_ = 0;
      ++generation_;
      changed_.notify_all();
    } else {
      changed_.wait(lock, [&] { return generation_ != read; });
    }
  }

  convec::DataParallel of(std::int64_t rank) {
    convec::DataParallel parallel;
    parallel.rank = rank;
    parallel.ranks = ranks_;
    parallel.all_reduce = [this, rank](float* values, std::int64_t count) { all_reduce(rank, values, count); };
    parallel.all_reduce_totals = [this, rank](double* values, std::int64_t count) { all_reduce(rank, values, count); };
    return parallel;
  }

  bool mismatch() const { return mismatch_; }

 private:
  std::int64_t ranks_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::vector<double>> parts_;
  std::vector<double> sums_;
  std::int64_t arrived_ = 0;
  std::int64_t left_ = 0;
  std::int64_t generation_ = 0;
  bool mismatch_ = false;
};

// Without the layers that see a rank's own samples.
Network plain() {
  std::vector<Layer> layers = classifier();
  layers.erase(layers.begin() + 5);
  layers.erase(layers.begin() + 3);
  Network network(layers, Shape{side, side, 1}, 3);
  auto optimizer = convec::OptimizerOptions::defaults(convec::Optimizer::sgd);
  optimizer.learning_rate = 0.05F;
  optimizer.global_clipnorm = 0.5F;
  network.compile({}, optimizer, {{convec::MetricOptions{}, false}});
  return network;
}

TEST(ranks_train_as_one) {
  const Quarters data;
  Network alone = plain();
  EpochOptions options = batches(19);  // the last batch is one sample, which one rank has
  const Totals expected = alone.train_epoch(data.dataset(), options);
  const Totals judged = alone.evaluate(data.dataset(), options);
  for (const std::int64_t bucket : {std::int64_t{4'194'304}, std::int64_t{64}}) {
    Job job(3);
    std::vector<Network> networks;
    for (int rank = 0; rank < 3; ++rank) networks.push_back(plain());
    std::vector<Totals> found(3);
    std::vector<Totals> evaluated(3);
    std::vector<std::thread> threads;
    for (std::size_t rank = 0; rank < 3; ++rank)
      threads.emplace_back([&, rank] {
        convec::DataParallel parallel = job.of(static_cast<std::int64_t>(rank));
        parallel.bucket_bytes = bucket;
        networks[rank].set_data_parallel(parallel);
        found[rank] = networks[rank].train_epoch(data.dataset(), options);
        evaluated[rank] = networks[rank].evaluate(data.dataset(), options);
      });
    for (std::thread& thread : threads) thread.join();
    CHECK(!job.mismatch());
    const std::vector<float> reference = all_parameters(alone);
    const std::vector<float> trained = all_parameters(networks[0]);
    for (std::size_t i = 0; i < reference.size(); ++i) CHECK_NEAR(trained[i], reference[i], 1e-5);
    for (std::size_t rank = 0; rank < 3; ++rank) {
      CHECK(all_parameters(networks[rank]) == trained);
      CHECK_EQ(found[rank].samples, expected.samples);
      CHECK_EQ(found[rank].batches, expected.batches);
      CHECK_NEAR(found[rank].loss, expected.loss, 1e-5);
      CHECK_NEAR(found[rank].metrics[0], expected.metrics[0], 1e-9);
      CHECK_EQ(evaluated[rank].samples, judged.samples);
      CHECK_NEAR(evaluated[rank].loss, judged.loss, 1e-5);
      CHECK_EQ(found[rank].loss, found[0].loss);
    }
  }
}

TEST(ranks_that_cannot_train_together_are_refused) {
  Network network = plain();
  convec::DataParallel parallel;
  parallel.ranks = 2;
  CHECK_THROWS(network.set_data_parallel(parallel), convec::ValueError, "all_reduce");
  Job job(2);
  parallel = job.of(2);
  CHECK_THROWS(network.set_data_parallel(parallel), convec::ValueError, "below ranks");
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
