/// @file network.hpp
/// A Sequential network: a list of layers compiled for an input shape into a plan of fused ops, trained and run
/// with one call a batch or a whole epoch. Results on the CPU are bitwise repeatable for a seed and an ISA level
/// and do not depend on the number of threads.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include <convec/export.hpp>
#include <convec/ops/activation.hpp>
#include <convec/ops/conv2d.hpp>
#include <convec/ops/loss.hpp>
#include <convec/ops/optimizer.hpp>
#include <convec/ops/pool2d.hpp>
#include <convec/tensor.hpp>

namespace convec {

// ---- Layers ---------------------------------------------------------------------------------------------------

struct Conv2dLayer {
  std::int64_t filters = 1;
  Size2d kernel_size{3, 3};
  Conv2dOptions options;
  bool use_bias = true;
  Activation activation = Activation::linear;
};
struct MaxPool2dLayer {
  Pool2dOptions options;
};
struct AveragePool2dLayer {
  Pool2dOptions options;
};
struct GlobalMaxPool2dLayer {
  bool keepdims = false;
};
struct GlobalAveragePool2dLayer {
  bool keepdims = false;
};
struct FlattenLayer {};
struct DenseLayer {
  std::int64_t units = 1;
  bool use_bias = true;
  Activation activation = Activation::linear;
};
struct ActivationLayer {
  Activation activation = Activation::linear;
};
struct SoftmaxLayer {};
struct DropoutLayer {
  float rate = 0.5F;
  std::optional<std::uint64_t> seed = std::nullopt;  ///< by default the network's
};
struct BatchNormLayer {
  float momentum = 0.99F;
  float epsilon = 1e-3F;
  bool center = true;
  bool scale = true;
};
struct RescalingLayer {
  float scale = 1.0F;
  float offset = 0.0F;
};

/// One layer of a network. A softmax activation is a SoftmaxLayer of its own after the layer it belongs to.
using Layer =
    std::variant<Conv2dLayer, MaxPool2dLayer, AveragePool2dLayer, GlobalMaxPool2dLayer, GlobalAveragePool2dLayer,
                 FlattenLayer, DenseLayer, ActivationLayer, SoftmaxLayer, DropoutLayer, BatchNormLayer, RescalingLayer>;

// ---- Training configuration ------------------------------------------------------------------------------------

enum class Loss : std::uint8_t {
  sparse_categorical_crossentropy,  ///< targets: class numbers (n) or (n, 1)
  categorical_crossentropy,         ///< targets: distributions (n, classes), float32
  binary_crossentropy,              ///< targets: the predictions' shape, float32
  mean_squared_error,
  mean_absolute_error,
  huber
};

struct LossOptions {
  Loss loss = Loss::sparse_categorical_crossentropy;
  bool from_logits = false;
  float label_smoothing = 0.0F;
};

/// A metric (or a loss followed as one) and whether sample weights count in it.
struct NetworkMetric {
  std::variant<MetricOptions, LossOptions> measure;
  bool weighted = false;
};

/// Samples and what belongs to them. Views must outlive the call they are given to.
struct Dataset {
  ConstTensorView inputs;          ///< (n, input_shape...) float32, or uint8 taken as the numbers 0 to 255
  ConstTensorView targets;         ///< see Loss
  ConstTensorView sample_weights;  ///< (n) float32, or absent: 1 each
};

/// Running totals of an epoch or an evaluation.
struct Totals {
  std::int64_t samples = 0;
  std::int64_t batches = 0;
  /// Mean loss: each batch's (sum of weight * loss / batch size) weighted by its size, as Keras.
  double loss = 0.0;
  /// Means in the order compile() was given.
  std::vector<double> metrics;
};

/// Called after a batch with the totals so far; throws to stop (the exception reaches the caller of the epoch,
/// the network stays as after the last finished batch).
using Progress = std::function<void(const Totals&)>;

struct EpochOptions {
  std::int64_t batch_size = 32;
  /// Order of the samples (indices into the dataset), or null for 0, 1, 2, ...
  const std::int64_t* order = nullptr;
  /// Samples used: the length of `order`, or a prefix of the dataset; below 0: all.
  std::int64_t samples = -1;
  /// Learning rate for each step of the epoch, or null for the network's own.
  const float* learning_rates = nullptr;
  /// `progress` is called after a batch when this many seconds have passed since the last call (0: every batch),
  /// and after the last batch.
  double progress_interval = 0.1;
  Progress progress;
};

/// What a parameter is.
struct ParameterInfo {
  std::size_t layer = 0;  ///< index into the layer list
  std::string name;       ///< "kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance"
  Shape shape;
  bool trainable = true;
};

/// What the file of a network holds besides the network.
struct NetworkNotes {
  std::vector<std::string> layer_names;         ///< one a layer, or none
  std::map<std::string, std::string> metadata;  ///< all of the file's
};

/// The parameters that a network of these layers has, in order. Nothing is allocated.
/// @throws ShapeError, ValueError as the constructor of Network.
CONVEC_API std::vector<ParameterInfo> network_parameters(const std::vector<Layer>& layers, const Shape& input_shape);

// ---- The network -----------------------------------------------------------------------------------------------

/// Not thread-safe: one call at a time on one network, except predict(), which may run from many threads at once.
class CONVEC_API Network {
 public:
  /// Infers every shape and allocates the parameters: initialize(seed) is applied.
  /// @param input_shape of one sample, without the batch
  /// @throws ShapeError a layer does not fit its input; the message names the layer by number and kind.
  /// @throws ValueError a layer's numbers are out of range.
  Network(std::vector<Layer> layers, const Shape& input_shape, std::uint64_t seed = 0);
  ~Network();
  Network(Network&&) noexcept;
  Network& operator=(Network&&) noexcept;

  const std::vector<Layer>& layers() const noexcept;
  const Shape& input_shape() const noexcept;
  /// Shape of one sample after layer `index`.
  const Shape& output_shape(std::size_t index) const;
  /// Shape of one prediction.
  const Shape& output_shape() const noexcept;

  /// Kernels by Glorot & Bengio (2010) uniform in +-sqrt(6 / (fan_in + fan_out)), biases, beta and moving mean 0,
  /// gamma and moving variance 1.
  void initialize(std::uint64_t seed);

  /// Moves parameters and optimizer state to another device, on which the network runs from then on; at first that is
  /// the CPU. What parameter() and optimizer_slot() return stays on the host and is brought up to date by the call.
  /// Datasets may be on the host or on the network's device.
  /// @throws DeviceError the device cannot be used or has too little memory; the network stays where it was.
  void to(Device device);
  Device device() const noexcept;

  const std::vector<ParameterInfo>& parameters() const noexcept;
  /// View of a parameter, valid while the network lives.
  ConstTensorView parameter(std::size_t index) const;
  /// @throws ShapeError, DTypeError the array does not match the parameter.
  void set_parameter(std::size_t index, ConstTensorView value);
  /// A layer that is not trainable is left alone by the optimizer; a batch normalisation runs in inference form.
  void set_trainable(std::size_t layer, bool trainable);
  bool trainable(std::size_t layer) const;

  /// Sets loss, optimizer and metrics and resets the optimizer's state. @throws ValueError they do not fit.
  void compile(const LossOptions& loss, const OptimizerOptions& optimizer, std::vector<NetworkMetric> metrics);
  bool compiled() const noexcept;
  /// What compile() was given; the optimizer with the learning rate that is in use.
  const LossOptions& loss() const noexcept;
  const OptimizerOptions& optimizer() const noexcept;
  const std::vector<NetworkMetric>& metrics() const noexcept;

  float learning_rate() const;
  void set_learning_rate(float learning_rate);
  /// Optimizer steps taken since compile().
  std::int64_t iterations() const noexcept;
  void set_iterations(std::int64_t iterations);
  /// Optimizer state `slot` of parameter `index` (trainable ones only); absent view where there is none.
  ConstTensorView optimizer_slot(std::size_t index, int slot) const;
  void set_optimizer_slot(std::size_t index, int slot, ConstTensorView value);
  /// What load_network() found besides the network, and save_network() writes again; empty for a network that was
  /// made otherwise.
  const NetworkNotes& notes() const noexcept;
  void set_notes(NetworkNotes notes);
  /// Key of dropout's random numbers; the counter is iterations().
  void set_seed(std::uint64_t seed) noexcept;
  std::uint64_t seed() const noexcept;

  /// One optimizer step on all of `batch`. Returns the batch's own loss (before the step) and metrics.
  /// @throws ShapeError, DTypeError, ValueError the data do not fit; nothing has changed then.
  Totals train_batch(const Dataset& batch);
  /// Loss and metrics of all of `batch`, nothing trained.
  Totals test_batch(const Dataset& batch);

  /// One pass of optimizer steps over the data. @throws as train_batch, before the first step; what progress throws.
  Totals train_epoch(const Dataset& data, const EpochOptions& options);
  /// Loss and metrics over the data. @throws as test_batch; what progress throws.
  Totals evaluate(const Dataset& data, const EpochOptions& options) const;
  /// Writes predictions (n, output_shape...) float32 for inputs (n, input_shape...).
  /// @throws ShapeError, DTypeError; what progress throws.
  void predict(ConstTensorView inputs, TensorView outputs, const EpochOptions& options = {}) const;

  /// The first layer whose output for `inputs` holds a NaN or infinity (with its index), or -1.
  std::int64_t first_nonfinite_layer(ConstTensorView inputs) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace convec
