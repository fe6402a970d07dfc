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

#include <convec/context.hpp>
#include <convec/export.hpp>
#include <convec/ops/activation.hpp>
#include <convec/ops/conv2d.hpp>
#include <convec/ops/loss.hpp>
#include <convec/ops/optimizer.hpp>
#include <convec/ops/pool2d.hpp>
#include <convec/tensor.hpp>

namespace convec {

// ---- Layers ---------------------------------------------------------------------------------------------------

/// Convolution of images (rows, columns, channels) by learned filters, bias and activation.
struct Conv2dLayer {
  std::int64_t filters = 1;                    ///< channels of the output
  Size2d kernel_size{3, 3};                    ///< rows and columns of a filter
  Conv2dOptions options;                       ///< strides, padding, dilation and groups
  bool use_bias = true;                        ///< whether one number a filter is added
  Activation activation = Activation::linear;  ///< applied last
};
/// Largest element of each window.
struct MaxPool2dLayer {
  Pool2dOptions options;  ///< the window
};
/// Mean of each window over the pixels inside the image.
struct AveragePool2dLayer {
  Pool2dOptions options;  ///< the window
};
/// Largest element of each channel.
struct GlobalMaxPool2dLayer {
  bool keepdims = false;  ///< (1, 1, channels) instead of (channels)
};
/// Mean of each channel.
struct GlobalAveragePool2dLayer {
  bool keepdims = false;  ///< (1, 1, channels) instead of (channels)
};
struct FlattenLayer {};
/// Input * kernel + bias over the last axis, and an activation.
struct DenseLayer {
  std::int64_t units = 1;                      ///< extent of the output's last axis
  bool use_bias = true;                        ///< whether one number a unit is added
  Activation activation = Activation::linear;  ///< applied last
};
/// An activation of each element.
struct ActivationLayer {
  Activation activation = Activation::linear;  ///< which
};
struct SoftmaxLayer {};
/// In training zeroes elements at random and scales the others by 1 / (1 - rate).
struct DropoutLayer {
  float rate = 0.5F;                                 ///< probability of zero, in [0, 1)
  std::optional<std::uint64_t> seed = std::nullopt;  ///< by default the network's
};
/// Batch normalisation of each channel (Ioffe & Szegedy, 2015).
struct BatchNormLayer {
  float momentum = 0.99F;  ///< share of the running statistics that a step keeps
  float epsilon = 1e-3F;   ///< added to the variance
  bool center = true;      ///< whether beta is learned and added
  bool scale = true;       ///< whether gamma is learned and multiplied by
};
/// Input * scale + offset.
struct RescalingLayer {
  float scale = 1.0F;   ///< multiplied by
  float offset = 0.0F;  ///< added
};

/// One layer of a network. A softmax activation is a SoftmaxLayer of its own after the layer it belongs to.
using Layer =
    std::variant<Conv2dLayer, MaxPool2dLayer, AveragePool2dLayer, GlobalMaxPool2dLayer, GlobalAveragePool2dLayer,
                 FlattenLayer, DenseLayer, ActivationLayer, SoftmaxLayer, DropoutLayer, BatchNormLayer, RescalingLayer>;

// ---- Training configuration ------------------------------------------------------------------------------------

/// What training minimises.
enum class Loss : std::uint8_t {
  sparse_categorical_crossentropy,  ///< targets: class numbers (n) or (n, 1)
  categorical_crossentropy,         ///< targets: distributions (n, classes), float32
  binary_crossentropy,              ///< targets: the predictions' shape, float32
  mean_squared_error,
  mean_absolute_error,
  huber
};

/// A loss and its numbers.
struct LossOptions {
  Loss loss = Loss::sparse_categorical_crossentropy;  ///< which
  bool from_logits = false;                           ///< predictions are logits, not probabilities
  float label_smoothing = 0.0F;                       ///< share of the target spread over all classes, in [0, 1]
};

/// A metric (or a loss followed as one) and whether sample weights count in it.
struct NetworkMetric {
  std::variant<MetricOptions, LossOptions> measure;  ///< a metric, or a loss
  bool weighted = false;                             ///< whether sample weights count
};

/// Samples and what belongs to them. Views must outlive the call they are given to.
struct Dataset {
  ConstTensorView inputs;          ///< (n, input_shape...) float32, or uint8 taken as the numbers 0 to 255
  ConstTensorView targets;         ///< see Loss
  ConstTensorView sample_weights;  ///< (n) float32, or absent: 1 each
};

/// Running totals of an epoch or an evaluation.
struct Totals {
  std::int64_t samples = 0;  ///< seen so far
  std::int64_t batches = 0;  ///< seen so far
  /// Mean loss: each batch's (sum of weight * loss / batch size) weighted by its size, as Keras.
  double loss = 0.0;
  /// Means in the order compile() was given.
  std::vector<double> metrics;
};

/// Called after a batch with the totals so far; throws to stop (the exception reaches the caller of the epoch,
/// the network stays as after the last finished batch).
using Progress = std::function<void(const Totals&)>;

/// How a dataset is gone through.
struct EpochOptions {
  std::int64_t batch_size = 32;  ///< samples a step
  /// Order of the samples (indices into the dataset), or null for 0, 1, 2, ...
  const std::int64_t* order = nullptr;
  /// Samples used: the length of `order`, or a prefix of the dataset; below 0: all.
  std::int64_t samples = -1;
  /// Learning rate for each step of the epoch, or null for the network's own.
  const float* learning_rates = nullptr;
  /// How many there are, to be checked; below 0: enough.
  std::int64_t learning_rate_count = -1;
  /// `progress` is called after a batch when this many seconds have passed since the last call (0: every batch),
  /// and after the last batch.
  double progress_interval = 0.1;
  Progress progress;  ///< may be empty
};

/// What the processes ("ranks") of a data-parallel job exchange, by MPI or whatever the program has. Every rank has a
/// network of the same layers, weights and settings and makes the same calls; after each step all have the same
/// weights.
///
/// A step's loss, gradients and metrics are those of one process with all ranks' samples, up to the rounding of sums.
/// Batch normalisation takes the mean and variance of each rank's own samples, and the running statistics are the
/// ranks' mean, weighted by samples. Dropout's masks differ between ranks.
struct DataParallel {
  std::int64_t rank = 0;   ///< number of this process, from 0
  std::int64_t ranks = 1;  ///< 1: nothing is exchanged
  /// Adds up numbers over the ranks, in place; all ranks get the same bits. May return before it is done: the numbers
  /// are not touched until `wait`. What it throws reaches the caller of the epoch.
  std::function<void(float* values, std::int64_t count)> all_reduce;
  /// Returns when all that `all_reduce` began is done; may be empty where that itself waits.
  std::function<void()> wait;
  /// Adds up a few numbers over the ranks, in the host's memory and at once.
  std::function<void(double* values, std::int64_t count)> all_reduce_totals;
  /// Of a network on another device than the CPU. False: what is exchanged goes through the host's memory. True:
  /// `all_reduce` is given addresses on the device, for work behind what Network::stream() holds by then, and `wait`
  /// lets that stream wait, not the host.
  bool on_device = false;
  /// Where on_device is set: returns when all that Network::stream() holds is done, or throws where a rank that does
  /// not arrive holds it up. May be empty: the host waits for ever.
  std::function<void()> synchronize;
  /// The gradients go out, last layers first, in pieces of at least so many bytes while the backward pass goes on;
  /// those of a smaller network as one.
  std::int64_t bucket_bytes = 4'194'304;
  /// False: all ranks have the same data and order, and each takes its part of every batch, which may be none.
  /// True: each rank has its own part of the data, and the batch size counts its own samples; an epoch ends with the
  /// longest part.
  bool sharded = false;
};

/// What a parameter is.
struct ParameterInfo {
  std::size_t layer = 0;  ///< index into the layer list
  std::string name;       ///< "kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance"
  Shape shape;            ///< of the array
  bool trainable = true;  ///< whether gradients change it
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
  Network(Network&&) noexcept;             ///< leaves the other empty
  Network& operator=(Network&&) noexcept;  ///< leaves the other empty

  const std::vector<Layer>& layers() const noexcept;  ///< as the constructor was given them
  const Shape& input_shape() const noexcept;          ///< of one sample
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
  Device device() const noexcept;  ///< where it is trained and run
  /// That device's stream on which training and evaluation are launched; null on the CPU.
  void* stream() const noexcept;

  /// Sets how exactly dense layers and convolutions multiply from now on, in training and inference; at first float32.
  /// Weights, gradients and all else stay float32. Neither to() nor a file changes or keeps it.
  void set_matmul_precision(MatmulPrecision matmul_precision) noexcept;
  MatmulPrecision matmul_precision() const noexcept;  ///< as set_matmul_precision() left it

  /// All parameters, in the order of the layers.
  const std::vector<ParameterInfo>& parameters() const noexcept;
  /// View of a parameter, valid while the network lives.
  ConstTensorView parameter(std::size_t index) const;
  /// @throws ShapeError, DTypeError the array does not match the parameter.
  void set_parameter(std::size_t index, ConstTensorView value);
  /// A layer that is not trainable is left alone by the optimizer; a batch normalisation runs in inference form.
  void set_trainable(std::size_t layer, bool trainable);
  bool trainable(std::size_t layer) const;  ///< as set_trainable() left it

  /// Sets loss, optimizer and metrics and resets the optimizer's state. @throws ValueError they do not fit.
  void compile(const LossOptions& loss, const OptimizerOptions& optimizer, std::vector<NetworkMetric> metrics);
  bool compiled() const noexcept;  ///< whether compile() has been called
  /// What compile() was given; the optimizer with the learning rate that is in use.
  const LossOptions& loss() const noexcept;
  const OptimizerOptions& optimizer() const noexcept;          ///< as compile() was given it
  const std::vector<NetworkMetric>& metrics() const noexcept;  ///< as compile() was given them

  float learning_rate() const;                  ///< of the next step
  void set_learning_rate(float learning_rate);  ///< of the next steps
  /// Optimizer steps taken since compile().
  std::int64_t iterations() const noexcept;
  void set_iterations(std::int64_t iterations);  ///< steps that count as done
  /// Optimizer state `slot` of parameter `index` (trainable ones only); absent view where there is none.
  ConstTensorView optimizer_slot(std::size_t index, int slot) const;
  /// Overwrites a slot. @throws ShapeError, DTypeError, ValueError the array is no such slot.
  void set_optimizer_slot(std::size_t index, int slot, ConstTensorView value);
  /// What load_network() found besides the network, and save_network() writes again; empty for a network that was
  /// made otherwise.
  const NetworkNotes& notes() const noexcept;
  void set_notes(NetworkNotes notes);  ///< replaces all of them
  /// Key of dropout's random numbers; the counter is iterations().
  void set_seed(std::uint64_t seed) noexcept;
  std::uint64_t seed() const noexcept;  ///< as set_seed() left it

  /// Trains and evaluates together with other processes from now on; with `ranks` 1 alone again.
  /// @throws ValueError a number is out of range, or a function is missing.
  void set_data_parallel(DataParallel parallel);

  /// One optimizer step on all of `batch`. Returns the batch's own loss (before the step) and metrics.
  /// @throws ShapeError, DTypeError, ValueError the data do not fit; nothing has changed then.
  Totals train_batch(const Dataset& batch);
  /// Loss and metrics of all of `batch`, nothing trained.
  Totals test_batch(const Dataset& batch);

  /// One pass of optimizer steps over the data. @throws as train_batch, before the first step; what progress throws.
  /// @throws ValueError the ranks of a data-parallel job do not agree about the data's length or the batch size.
  /// @throws DeviceError a data-parallel network is not on the CPU.
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
