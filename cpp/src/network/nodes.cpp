// The nodes, and the compilation of a layer list into them.
#include <algorithm>
#include <array>
#include <iterator>
#include <optional>
#include <string>
#include <utility>

#include <convec/error.hpp>

#include "network/node.hpp"
#include "op_table.hpp"
#include "ops/check.hpp"
#include "ops/conv2d.hpp"
#include "ops/pool2d.hpp"

namespace convec {

Node::~Node() = default;
std::int64_t Node::state_size(std::int64_t) const { return 0; }
void Node::prepare() {}

namespace {

const OpTable& ops(const Pass& pass) { return op_table(pass.context.device); }

// ---- Layers with weights ---------------------------------------------------------------------------------------

// Kernel and bias of a layer, and the layout of the kernel that the backend prefers.
struct Weights {
  Parameters* parameters;
  std::size_t kernel;
  std::size_t bias;
  bool use_bias;
  Tensor prepared;

  const float* kernel_value() const { return parameters->value(kernel); }
  const float* bias_value() const { return use_bias ? parameters->value(bias) : nullptr; }
  float* kernel_gradient() const { return parameters->gradient(kernel); }
  float* bias_gradient() const { return use_bias ? parameters->gradient(bias) : nullptr; }
  bool trainable() const { return parameters->infos()[kernel].trainable; }
  // Weights that are being trained change with every batch and are not kept in this form.
  const float* prepared_for(const Pass& pass) const {
    const bool on_device = pass.context.device.type != DeviceType::cpu;
    return pass.training || on_device || prepared.shape().rank() == 0 ? nullptr : prepared.f32();
  }
};

// The gradient before a fused ReLU, in place: the output is positive where the input was.
void through_relu(const Pass& pass, Activation activation, std::int64_t size, const float* output, float* grad_output) {
  if (activation == Activation::relu)
    ops(pass).activation_backward(pass.context, activation, size, grad_output, output, grad_output);
}

class Conv2dNode final : public Node {
 public:
  Conv2dNode(std::size_t layer, const Shape& input, const Shape& output, const Conv2dProblem& problem,
             Activation activation, Weights weights)
      : Node(layer, input, output), problem_(problem), activation_(activation), weights_(std::move(weights)) {}

  bool has_parameters() const noexcept override { return true; }

  void prepare() override {
    const OpTable& table = op_table({});
    weights_.prepared = Tensor({table.conv2d_prepared_size(problem_)});
    table.conv2d_prepare(problem_, weights_.kernel_value(), weights_.prepared.f32());
  }

  const float* forward(const Pass& pass, const float* input, float* output, float*) const override {
    ops(pass).conv2d_forward(pass.context, problem(pass), input, weights_.kernel_value(), weights_.prepared_for(pass),
                             weights_.bias_value(), activation_, output);
    return output;
  }

  float* backward(const Pass& pass, const float* input, const float* output, const float*, float* grad_output,
                  float* grad_input) override {
    through_relu(pass, activation_, pass.batch * output_size(), output, grad_output);
    if (weights_.trainable())
      ops(pass).conv2d_backward_filters(pass.context, problem(pass), input, grad_output, weights_.kernel_gradient(),
                                        weights_.bias_gradient());
    if (grad_input != nullptr)
      ops(pass).conv2d_backward_input(pass.context, problem(pass), grad_output, weights_.kernel_value(), grad_input);
    return grad_input;
  }

 private:
  Conv2dProblem problem(const Pass& pass) const {
    Conv2dProblem p = problem_;
    p.batch = pass.batch;
    return p;
  }

  Conv2dProblem problem_;
  Activation activation_;
  Weights weights_;
};

// A convolution with the max pooling behind it: the full-size image between them is never stored, and the backward pass
// works on the maxima alone.
class Conv2dMaxPool2dNode final : public Node {
 public:
  Conv2dMaxPool2dNode(std::size_t layer, const Shape& input, const Shape& output, const Conv2dProblem& conv,
                      const Pool2dProblem& pool, Activation activation, Weights weights)
      : Node(layer, input, output),
        conv_(conv),
        pool_(pool),
        relu_(activation == Activation::relu),
        weights_(std::move(weights)) {}

  bool has_parameters() const noexcept override { return true; }

  // A byte for each output: where the maximum was.
  std::int64_t state_size(std::int64_t batch) const override {
    return (batch * output_size() + static_cast<std::int64_t>(sizeof(float)) - 1) /
           static_cast<std::int64_t>(sizeof(float));
  }

  void prepare() override {
    const OpTable& table = op_table({});
    weights_.prepared = Tensor({table.conv2d_max_pool2d_prepared_size(conv_, pool_)});
    table.conv2d_max_pool2d_prepare(conv_, pool_, weights_.kernel_value(), weights_.prepared.f32());
  }

  const float* forward(const Pass& pass, const float* input, float* output, float* state) const override {
    ops(pass).conv2d_max_pool2d_forward(pass.context, conv(pass), pool(pass), input, weights_.kernel_value(),
                                        weights_.prepared_for(pass), weights_.bias_value(), relu_, output,
                                        pass.training ? reinterpret_cast<std::uint8_t*>(state) : nullptr);
    return output;
  }

  float* backward(const Pass& pass, const float* input, const float* output, const float* state, float* grad_output,
                  float* grad_input) override {
    const bool train = weights_.trainable();
    ops(pass).conv2d_max_pool2d_backward(pass.context, conv(pass), pool(pass), input, weights_.kernel_value(), relu_,
                                         output, reinterpret_cast<const std::uint8_t*>(state), grad_output, grad_input,
                                         train ? weights_.kernel_gradient() : nullptr,
                                         train ? weights_.bias_gradient() : nullptr);
    return grad_input;
  }

 private:
  Conv2dProblem conv(const Pass& pass) const {
    Conv2dProblem p = conv_;
    p.batch = pass.batch;
    return p;
  }
  Pool2dProblem pool(const Pass& pass) const {
    Pool2dProblem p = pool_;
    p.batch = pass.batch;
    return p;
  }

  Conv2dProblem conv_;
  Pool2dProblem pool_;
  bool relu_;
  Weights weights_;
};

class DenseNode final : public Node {
 public:
  DenseNode(std::size_t layer, const Shape& input, const Shape& output, const DenseProblem& problem,
            Activation activation, Weights weights)
      : Node(layer, input, output), problem_(problem), activation_(activation), weights_(std::move(weights)) {}

  bool has_parameters() const noexcept override { return true; }

  void prepare() override {
    const OpTable& table = op_table({});
    weights_.prepared = Tensor({table.dense_prepared_size(problem_)});
    table.dense_prepare(problem_, weights_.kernel_value(), weights_.prepared.f32());
  }

  const float* forward(const Pass& pass, const float* input, float* output, float*) const override {
    ops(pass).dense_forward(pass.context, problem(pass), input, weights_.kernel_value(), weights_.prepared_for(pass),
                            weights_.bias_value(), activation_, output);
    return output;
  }

  float* backward(const Pass& pass, const float* input, const float* output, const float*, float* grad_output,
                  float* grad_input) override {
    through_relu(pass, activation_, pass.batch * output_size(), output, grad_output);
    if (weights_.trainable())
      ops(pass).dense_backward_weights(pass.context, problem(pass), input, grad_output, weights_.kernel_gradient(),
                                       weights_.bias_gradient());
    if (grad_input != nullptr)
      ops(pass).dense_backward_input(pass.context, problem(pass), grad_output, weights_.kernel_value(), grad_input);
    return grad_input;
  }

 private:
  // A dense layer works on the last axis: problem_.batch is the number of rows of one sample.
  DenseProblem problem(const Pass& pass) const {
    DenseProblem p = problem_;
    p.batch *= pass.batch;
    return p;
  }

  DenseProblem problem_;
  Activation activation_;
  Weights weights_;
};

class BatchNormNode final : public Node {
 public:
  struct Indices {
    std::size_t gamma, beta, moving_mean, moving_variance;
  };

  BatchNormNode(std::size_t layer, const Shape& shape, const BatchNormLayer& options, Indices indices,
                Parameters& parameters)
      : Node(layer, shape, shape),
        channels_(shape[shape.rank() - 1]),
        options_(options),
        indices_(indices),
        parameters_(&parameters) {}

  bool has_parameters() const noexcept override { return options_.center || options_.scale; }

  // The batch's mean and inverse deviation.
  std::int64_t state_size(std::int64_t) const override { return 2 * channels_; }

  const float* forward(const Pass& pass, const float* input, float* output, float* state) const override {
    if (pass.training && trains())
      ops(pass).batch_norm_forward_training(
          pass.context, rows(pass), channels_, input, gamma(), beta(), options_.momentum, options_.epsilon,
          parameters_->value(indices_.moving_mean), parameters_->value(indices_.moving_variance), state,
          state + channels_, output);
    else
      ops(pass).batch_norm_forward_inference(pass.context, rows(pass), channels_, input, gamma(), beta(),
                                             parameters_->value(indices_.moving_mean),
                                             parameters_->value(indices_.moving_variance), options_.epsilon, output);
    return output;
  }

  float* backward(const Pass& pass, const float* input, const float*, const float* state, float* grad_output,
                  float* grad_input) override {
    if (trains()) {
      ops(pass).batch_norm_backward(pass.context, rows(pass), channels_, grad_output, input, gamma(), state,
                                    state + channels_, grad_input == nullptr ? grad_output : grad_input,
                                    options_.scale ? parameters_->gradient(indices_.gamma) : nullptr,
                                    options_.center ? parameters_->gradient(indices_.beta) : nullptr);
    } else if (grad_input != nullptr) {
      // A frozen layer is affine: the gradient takes its scale, without mean and beta.
      ops(pass).batch_norm_forward_inference(pass.context, rows(pass), channels_, grad_output, gamma(), nullptr,
                                             nullptr, parameters_->value(indices_.moving_variance), options_.epsilon,
                                             grad_input);
    }
    return grad_input;
  }

 private:
  std::int64_t rows(const Pass& pass) const { return pass.batch * input_size() / channels_; }
  bool trains() const { return parameters_->layer_trainable(layer()); }
  const float* gamma() const { return options_.scale ? parameters_->value(indices_.gamma) : nullptr; }
  const float* beta() const { return options_.center ? parameters_->value(indices_.beta) : nullptr; }

  std::int64_t channels_;
  BatchNormLayer options_;
  Indices indices_;
  Parameters* parameters_;
};

// ---- Layers without weights ------------------------------------------------------------------------------------

class Pool2dNode final : public Node {
 public:
  Pool2dNode(std::size_t layer, const Shape& input, const Shape& output, const Pool2dProblem& problem, bool max)
      : Node(layer, input, output), problem_(problem), max_(max) {}

  const float* forward(const Pass& pass, const float* input, float* output, float*) const override {
    const auto run = max_ ? ops(pass).max_pool2d_forward : ops(pass).average_pool2d_forward;
    run(pass.context, problem(pass), input, output);
    return output;
  }

  float* backward(const Pass& pass, const float* input, const float*, const float*, float* grad_output,
                  float* grad_input) override {
    if (grad_input == nullptr) return nullptr;
    if (max_)
      ops(pass).max_pool2d_backward(pass.context, problem(pass), grad_output, input, grad_input);
    else
      ops(pass).average_pool2d_backward(pass.context, problem(pass), grad_output, grad_input);
    return grad_input;
  }

 private:
  Pool2dProblem problem(const Pass& pass) const {
    Pool2dProblem p = problem_;
    p.batch = pass.batch;
    return p;
  }

  Pool2dProblem problem_;
  bool max_;
};

class GlobalPool2dNode final : public Node {
 public:
  GlobalPool2dNode(std::size_t layer, const Shape& input, const Shape& output, bool max)
      : Node(layer, input, output), pixels_(input[0] * input[1]), channels_(input[2]), max_(max) {}

  const float* forward(const Pass& pass, const float* input, float* output, float*) const override {
    const auto run = max_ ? ops(pass).global_max_pool2d_forward : ops(pass).global_average_pool2d_forward;
    run(pass.context, pass.batch, pixels_, channels_, input, output);
    return output;
  }

  float* backward(const Pass& pass, const float* input, const float*, const float*, float* grad_output,
                  float* grad_input) override {
    if (grad_input == nullptr) return nullptr;
    if (max_)
      ops(pass).global_max_pool2d_backward(pass.context, pass.batch, pixels_, channels_, grad_output, input,
                                           grad_input);
    else
      ops(pass).global_average_pool2d_backward(pass.context, pass.batch, pixels_, channels_, grad_output, grad_input);
    return grad_input;
  }

 private:
  std::int64_t pixels_;
  std::int64_t channels_;
  bool max_;
};

class ActivationNode final : public Node {
 public:
  ActivationNode(std::size_t layer, const Shape& shape, Activation activation)
      : Node(layer, shape, shape), activation_(activation) {}

  const float* forward(const Pass& pass, const float* input, float* output, float*) const override {
    if (activation_ == Activation::linear) return input;
    ops(pass).activation_forward(pass.context, activation_, pass.batch * input_size(), input, output);
    return output;
  }

  float* backward(const Pass& pass, const float* input, const float*, const float*, float* grad_output,
                  float* grad_input) override {
    if (activation_ == Activation::linear || grad_input == nullptr) return grad_output;
    ops(pass).activation_backward(pass.context, activation_, pass.batch * input_size(), grad_output, input, grad_input);
    return grad_input;
  }

 private:
  Activation activation_;
};

class SoftmaxNode final : public Node {
 public:
  SoftmaxNode(std::size_t layer, const Shape& shape) : Node(layer, shape, shape), classes_(shape[shape.rank() - 1]) {}

  const float* forward(const Pass& pass, const float* input, float* output, float*) const override {
    ops(pass).softmax_forward(pass.context, rows(pass), classes_, input, output);
    return output;
  }

  float* backward(const Pass& pass, const float*, const float* output, const float*, float* grad_output,
                  float* grad_input) override {
    if (grad_input != nullptr)
      ops(pass).softmax_backward(pass.context, rows(pass), classes_, grad_output, output, grad_input);
    return grad_input;
  }

 private:
  std::int64_t rows(const Pass& pass) const { return pass.batch * input_size() / classes_; }

  std::int64_t classes_;
};

class DropoutNode final : public Node {
 public:
  DropoutNode(std::size_t layer, const Shape& shape, const DropoutLayer& options)
      : Node(layer, shape, shape), rate_(options.rate), seed_(options.seed) {}

  const float* forward(const Pass& pass, const float* input, float* output, float*) const override {
    if (!pass.training || rate_ == 0.0F) return input;
    run(pass, input, output);
    return output;
  }

  float* backward(const Pass& pass, const float*, const float*, const float*, float* grad_output,
                  float* grad_input) override {
    if (rate_ == 0.0F || grad_input == nullptr) return grad_output;
    // The mask is a function of seed and iteration: the gradient goes through the same call.
    run(pass, grad_output, grad_input);
    return grad_input;
  }

 private:
  void run(const Pass& pass, const float* from, float* to) const {
    // A key of its own for every layer: the golden ratio's 64-bit fraction spreads neighbouring numbers.
    // Ranks of a data-parallel job, which have different samples, have different masks.
    const std::uint64_t key =
        seed_.value_or(pass.seed ^ (0x9E3779B97F4A7C15ULL * (layer() + 1))) ^ (0xD1B54A32D192ED03ULL * pass.rank);
    const std::int64_t size = pass.batch * input_size();
    if (pass.state != nullptr)
      backend(pass.context.device).dropout_at_step(pass.context, rate_, key, pass.state, size, from, to);
    else
      ops(pass).dropout(pass.context, rate_, key, pass.iteration, size, from, to);
  }

  float rate_;
  std::optional<std::uint64_t> seed_;
};

class RescalingNode final : public Node {
 public:
  RescalingNode(std::size_t layer, const Shape& shape, const RescalingLayer& options)
      : Node(layer, shape, shape), options_(options) {}

  const float* forward(const Pass& pass, const float* input, float* output, float*) const override {
    ops(pass).rescale(pass.context, options_.scale, options_.offset, pass.batch * input_size(), input, output);
    return output;
  }

  float* backward(const Pass& pass, const float*, const float*, const float*, float* grad_output,
                  float* grad_input) override {
    if (grad_input != nullptr)
      ops(pass).rescale(pass.context, options_.scale, 0.0F, pass.batch * input_size(), grad_output, grad_input);
    return grad_input;
  }

 private:
  RescalingLayer options_;
};

// ---- Compilation -----------------------------------------------------------------------------------------------

const char* kind_of(const Layer& layer) {
  static constexpr const char* kinds[] = {
      "conv2d",     "max_pool2d", "average_pool2d", "global_max_pool2d", "global_average_pool2d",
      "flatten",    "dense",      "activation",     "softmax",           "dropout",
      "batch_norm", "rescaling"};
  static_assert(std::size(kinds) == std::variant_size_v<Layer>, "one name a layer type");
  return kinds[layer.index()];
}

void require_image(const Shape& shape) {
  if (shape.rank() != 3)
    throw ShapeError("its input has shape " + to_string(shape) +
                     " a sample, but must be an image (height, width, channels)");
}

// The extent of the axis that dense, softmax and batch normalisation work on.
std::int64_t last_extent(const Shape& shape) {
  if (shape.rank() == 0) throw ShapeError("its input is a scalar a sample, but must have at least one dimension");
  return shape[shape.rank() - 1];
}

class Compiler {
 public:
  Compiler(const std::vector<Layer>& layers, const Shape& input, Parameters& parameters)
      : layers_(layers), parameters_(parameters), shape_(input) {}

  Plan run() {
    for (layer_ = 0; layer_ < layers_.size(); ++layer_) {
      try {
        std::visit([this](const auto& layer) { add(layer); }, layers_[layer_]);
        static_cast<void>(shape_.size());
      } catch (const ShapeError& e) {
        throw ShapeError(where() + e.what());
      } catch (const ValueError& e) {
        throw ValueError(where() + e.what());
      }
      plan_.shapes.push_back(shape_);
    }
    plan_.ends_in_softmax = !layers_.empty() && std::holds_alternative<SoftmaxLayer>(layers_.back());
    return std::move(plan_);
  }

 private:
  std::string where() const { return "layer " + std::to_string(layer_) + " (" + kind_of(layers_[layer_]) + "): "; }

  template <typename NodeType, typename... Arguments>
  void push(Arguments&&... arguments) {
    plan_.nodes.push_back(std::make_unique<NodeType>(layer_, std::forward<Arguments>(arguments)...));
  }

  Weights declare_weights(const Shape& kernel, std::int64_t units, bool use_bias) {
    const std::size_t kernel_index = parameters_.add(layer_, "kernel", kernel, true);
    const std::size_t bias_index = use_bias ? parameters_.add(layer_, "bias", {units}, true) : 0;
    return {&parameters_, kernel_index, bias_index, use_bias, {}};
  }

  // ReLU is fused into the op; the others need their input again in the backward pass and are a node of their own.
  static Activation fused(Activation activation) {
    return activation == Activation::relu ? activation : Activation::linear;
  }

  void add_unfused(Activation activation) {
    if (activation != fused(activation)) push<ActivationNode>(shape_, activation);
  }

  void add(const Conv2dLayer& layer) {
    require_image(shape_);
    check::at_least(layer.filters, 1, "filters");
    check::at_least(layer.options.groups, 1, "groups");
    if (shape_[2] % layer.options.groups != 0)
      throw ShapeError("groups is " + std::to_string(layer.options.groups) + ", which does not divide the input's " +
                       std::to_string(shape_[2]) + " channels");
    const Shape kernel{layer.kernel_size.height, layer.kernel_size.width, shape_[2] / layer.options.groups,
                       layer.filters};
    const Conv2dProblem p = make_conv2d_problem(shape_.with_batch(1), kernel, layer.options);
    const Shape output{p.out_height, p.out_width, p.filters};
    if (add_fused_with_pool(layer, p, kernel, output)) return;
    push<Conv2dNode>(shape_, output, p, fused(layer.activation),
                     declare_weights(kernel, layer.filters, layer.use_bias));
    shape_ = output;
    add_unfused(layer.activation);
  }

  // Takes the next layer along where it is a max pooling that can be fused. False where not.
  bool add_fused_with_pool(const Conv2dLayer& layer, const Conv2dProblem& conv, const Shape& kernel,
                           const Shape& output) {
    if (layer.activation != fused(layer.activation) || layer_ + 1 == layers_.size()) return false;
    const auto* next = std::get_if<MaxPool2dLayer>(&layers_[layer_ + 1]);
    if (next == nullptr) return false;
    Pool2dProblem pool{};
    try {
      pool = make_pool2d_problem(output.with_batch(1), next->options);
    } catch (const Error&) {
      return false;  // the pooling's own turn comes, and its error names it
    }
    if (!op_table({}).conv2d_max_pool2d_fusible(conv, pool)) return false;
    const Shape pooled{pool.out_height, pool.out_width, pool.channels};
    push<Conv2dMaxPool2dNode>(shape_, pooled, conv, pool, layer.activation,
                              declare_weights(kernel, layer.filters, layer.use_bias));
    plan_.shapes.push_back(output);
    shape_ = pooled;
    ++layer_;
    return true;
  }

  void add_pool(const Pool2dOptions& options, bool max) {
    require_image(shape_);
    const Pool2dProblem p = make_pool2d_problem(shape_.with_batch(1), options);
    const Shape output{p.out_height, p.out_width, p.channels};
    push<Pool2dNode>(shape_, output, p, max);
    shape_ = output;
  }
  void add(const MaxPool2dLayer& layer) { add_pool(layer.options, true); }
  void add(const AveragePool2dLayer& layer) { add_pool(layer.options, false); }

  void add_global_pool(bool keepdims, bool max) {
    require_image(shape_);
    const Shape output = keepdims ? Shape{1, 1, shape_[2]} : Shape{shape_[2]};
    push<GlobalPool2dNode>(shape_, output, max);
    shape_ = output;
  }
  void add(const GlobalMaxPool2dLayer& layer) { add_global_pool(layer.keepdims, true); }
  void add(const GlobalAveragePool2dLayer& layer) { add_global_pool(layer.keepdims, false); }

  void add(const FlattenLayer&) { shape_ = Shape{shape_.size()}; }

  void add(const DenseLayer& layer) {
    check::at_least(layer.units, 1, "units");
    const std::int64_t in = last_extent(shape_);
    std::array<std::int64_t, Shape::max_rank> extents{};
    std::copy(shape_.begin(), shape_.end(), extents.begin());
    extents[static_cast<std::size_t>(shape_.rank()) - 1] = layer.units;
    const Shape output(extents.data(), static_cast<std::size_t>(shape_.rank()));
    push<DenseNode>(shape_, output, DenseProblem{shape_.size() / in, in, layer.units}, fused(layer.activation),
                    declare_weights({in, layer.units}, layer.units, layer.use_bias));
    shape_ = output;
    add_unfused(layer.activation);
  }

  void add(const ActivationLayer& layer) { push<ActivationNode>(shape_, layer.activation); }

  void add(const SoftmaxLayer&) {
    static_cast<void>(last_extent(shape_));
    push<SoftmaxNode>(shape_);
  }

  void add(const DropoutLayer& layer) {
    check::in_range(layer.rate, 0.0F, 1.0F, "rate");
    push<DropoutNode>(shape_, layer);
  }

  void add(const BatchNormLayer& layer) {
    const Shape channels{last_extent(shape_)};
    if (!(layer.epsilon > 0.0F))
      throw ValueError("epsilon is " + std::to_string(layer.epsilon) + ", but must be above 0");
    if (!(layer.momentum >= 0.0F && layer.momentum <= 1.0F))
      throw ValueError("momentum is " + std::to_string(layer.momentum) + ", but must be between 0 and 1");
    BatchNormNode::Indices indices{};
    if (layer.scale) indices.gamma = parameters_.add(layer_, "gamma", channels, true);
    if (layer.center) indices.beta = parameters_.add(layer_, "beta", channels, true);
    indices.moving_mean = parameters_.add(layer_, "moving_mean", channels, false);
    indices.moving_variance = parameters_.add(layer_, "moving_variance", channels, false);
    push<BatchNormNode>(shape_, layer, indices, parameters_);
  }

  void add(const RescalingLayer& layer) { push<RescalingNode>(shape_, layer); }

  const std::vector<Layer>& layers_;
  Parameters& parameters_;
  Plan plan_;
  Shape shape_;
  std::size_t layer_ = 0;
};

}  // namespace

Plan compile_plan(const std::vector<Layer>& layers, const Shape& input, Parameters& parameters) {
  return Compiler(layers, input, parameters).run();
}

}  // namespace convec
