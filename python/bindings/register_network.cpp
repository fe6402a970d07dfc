// convec._core.Network: the compiled network behind convec.models.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include <convec/error.hpp>
#include <convec/network.hpp>
#include <convec/serialize.hpp>

#include "array.hpp"
#include "backend.hpp"
#include "bindings.hpp"
#include "device_array.hpp"
#include "files.hpp"
#include "gil.hpp"
#include "in_use.hpp"

namespace convec::python {

template <>
struct SharedNames<Network> {
  static constexpr const char* noun = "the model";
  static constexpr const char* how = "give each thread a copy of the model (copy.copy(model))";
};

namespace {

using SharedNetwork = Shared<Network>;

// Reads the keys of a configuration dictionary; a key nobody has read is an error.
class Config {
 public:
  Config(const py::dict& values, const char* what) : values_(values), what_(what) {}

  std::string kind() { return get<std::string>("kind"); }

  template <typename T>
  T get(const char* key) {
    ++read_;
    if (!values_.contains(key)) throw ValueError(std::string(what_) + " has no '" + key + "'");
    try {
      return values_[key].cast<T>();
    } catch (const py::cast_error&) {
      throw DTypeError(std::string(key) + " is " + std::string(py::repr(values_[key])) +
                       ", which is of the wrong type or out of range");
    }
  }

  template <typename T>
  void set(const char* key, T& value) {
    if (values_.contains(key)) value = get<T>(key);
  }

  py::object object(const char* key) {
    ++read_;
    if (!values_.contains(key)) throw ValueError(std::string(what_) + " has no '" + key + "'");
    return values_[key];
  }

  void finish() const {
    if (read_ != values_.size())
      throw ValueError(std::string(what_) + " " + std::string(py::repr(values_)) + " has a key that is not known");
  }

 private:
  py::dict values_;
  const char* what_;
  std::size_t read_ = 0;
};

Activation activation_of(Config& config) { return parse_activation(config.get<std::string>("activation").c_str()); }

Pool2dOptions pool_options(Config& config) {
  Pool2dOptions options;
  options.pool_size = parse_size(config.object("pool_size"), "pool_size");
  options.strides = parse_size(config.object("strides"), "strides");
  options.padding = parse_padding(config.object("padding"));
  return options;
}

Layer to_layer(Config config) {
  const std::string kind = config.kind();
  const auto done = [&config](auto layer) -> Layer {
    config.finish();
    return layer;
  };
  if (kind == "conv2d") {
    Conv2dLayer layer;
    layer.filters = config.get<std::int64_t>("filters");
    layer.kernel_size = parse_size(config.object("kernel_size"), "kernel_size");
    layer.options.strides = parse_size(config.object("strides"), "strides");
    layer.options.padding = parse_padding(config.object("padding"));
    layer.options.dilation = parse_size(config.object("dilation"), "dilation");
    layer.options.groups = config.get<std::int64_t>("groups");
    layer.use_bias = config.get<bool>("use_bias");
    layer.activation = activation_of(config);
    return done(layer);
  }
  if (kind == "max_pool2d") return done(MaxPool2dLayer{pool_options(config)});
  if (kind == "average_pool2d") return done(AveragePool2dLayer{pool_options(config)});
  if (kind == "global_max_pool2d") return done(GlobalMaxPool2dLayer{config.get<bool>("keepdims")});
  if (kind == "global_average_pool2d") return done(GlobalAveragePool2dLayer{config.get<bool>("keepdims")});
  if (kind == "flatten") return done(FlattenLayer{});
  if (kind == "dense") {
    DenseLayer layer;
    layer.units = config.get<std::int64_t>("units");
    layer.use_bias = config.get<bool>("use_bias");
    layer.activation = activation_of(config);
    return done(layer);
  }
  if (kind == "activation") return done(ActivationLayer{activation_of(config)});
  if (kind == "softmax") return done(SoftmaxLayer{});
  if (kind == "dropout") {
    DropoutLayer layer;
    layer.rate = config.get<float>("rate");
    config.set("seed", layer.seed);
    return done(layer);
  }
  if (kind == "batch_norm") {
    BatchNormLayer layer;
    config.set("momentum", layer.momentum);
    config.set("epsilon", layer.epsilon);
    config.set("center", layer.center);
    config.set("scale", layer.scale);
    return done(layer);
  }
  if (kind == "rescaling") {
    RescalingLayer layer;
    config.set("scale", layer.scale);
    config.set("offset", layer.offset);
    return done(layer);
  }
  throw ValueError("kind is '" + kind + "', which is not a layer");
}

bool parse_loss(const std::string& kind, Loss& loss) {
  if (kind == "sparse_categorical_crossentropy")
    loss = Loss::sparse_categorical_crossentropy;
  else if (kind == "categorical_crossentropy")
    loss = Loss::categorical_crossentropy;
  else if (kind == "binary_crossentropy")
    loss = Loss::binary_crossentropy;
  else if (kind == "mean_squared_error")
    loss = Loss::mean_squared_error;
  else if (kind == "mean_absolute_error")
    loss = Loss::mean_absolute_error;
  else if (kind == "huber")
    loss = Loss::huber;
  else
    return false;
  return true;
}

LossOptions to_loss(Config config) {
  LossOptions options;
  const std::string kind = config.kind();
  if (!parse_loss(kind, options.loss)) throw ValueError("kind is '" + kind + "', which is not a loss");
  config.set("from_logits", options.from_logits);
  config.set("label_smoothing", options.label_smoothing);
  config.finish();
  return options;
}

OptimizerOptions to_optimizer(Config config) {
  OptimizerOptions options = OptimizerOptions::defaults(parse_optimizer(config.kind().c_str()));
  config.set("learning_rate", options.learning_rate);
  config.set("momentum", options.momentum);
  config.set("nesterov", options.nesterov);
  config.set("beta_1", options.beta_1);
  config.set("beta_2", options.beta_2);
  config.set("rho", options.rho);
  config.set("epsilon", options.epsilon);
  config.set("amsgrad", options.amsgrad);
  config.set("centered", options.centered);
  config.set("weight_decay", options.weight_decay);
  config.set("clipnorm", options.clipnorm);
  config.set("clipvalue", options.clipvalue);
  config.set("global_clipnorm", options.global_clipnorm);
  config.finish();
  return options;
}

bool parse_metric(const std::string& kind, Metric& metric) {
  if (kind == "sparse_categorical_accuracy")
    metric = Metric::sparse_categorical_accuracy;
  else if (kind == "categorical_accuracy")
    metric = Metric::categorical_accuracy;
  else if (kind == "binary_accuracy")
    metric = Metric::binary_accuracy;
  else if (kind == "sparse_top_k_categorical_accuracy")
    metric = Metric::sparse_top_k_categorical_accuracy;
  else if (kind == "top_k_categorical_accuracy")
    metric = Metric::top_k_categorical_accuracy;
  else
    return false;
  return true;
}

NetworkMetric to_metric(Config config) {
  NetworkMetric metric;
  const std::string kind = config.kind();
  MetricOptions options;
  LossOptions loss;
  if (parse_metric(kind, options.metric)) {
    config.set("k", options.k);
    config.set("threshold", options.threshold);
    metric.measure = options;
  } else if (parse_loss(kind, loss.loss)) {
    config.set("from_logits", loss.from_logits);
    config.set("label_smoothing", loss.label_smoothing);
    metric.measure = loss;
  } else {
    throw ValueError("kind is '" + kind + "', which is not a metric");
  }
  config.set("weighted", metric.weighted);
  config.finish();
  return metric;
}

py::dict to_dict(const Totals& totals) {
  py::dict dict;
  dict["samples"] = totals.samples;
  dict["batches"] = totals.batches;
  dict["loss"] = totals.loss;
  dict["metrics"] = totals.metrics;
  return dict;
}

// The arrays of a dataset, kept alive for the time of a call.
struct Arrays {
  Array x, y, sample_weight;
  Dataset dataset;

  Arrays(const py::object& x_, const py::object& y_, const py::object& sample_weight_)
      : x(to_array(x_, "x")), y(to_array(y_, "y")) {
    dataset.inputs = view(x, "x");
    dataset.targets = view(y, "y");
    dataset.sample_weights = optional_view(sample_weight_, "sample_weight", sample_weight);
    // The network has a stream of its own.
    if (x.on_device()) backend(x.device()).wait(x.context());
  }
};

// Epoch options out of Python arguments. Signals are looked at between batches whether or not the user wants progress,
// so that Ctrl-C stops a long epoch at once.
class Epoch {
 public:
  EpochOptions options;

  Epoch(const ConstTensorView& inputs, std::int64_t batch_size, const py::object& order, const py::object& samples,
        const py::object& learning_rates, const py::object& progress, double progress_interval) {
    options.batch_size = batch_size;
    options.samples = inputs.shape.rank() == 0 ? 0 : inputs.shape[0];
    const ConstTensorView indices = optional_view(order, "order", order_);
    if (indices.present()) {
      if (indices.dtype != DType::int64 || indices.shape.rank() != 1)
        throw DTypeError("order must be a one-dimensional int64 array");
      options.order = static_cast<const std::int64_t*>(indices.data);
      options.samples = indices.shape[0];
    }
    if (!samples.is_none()) {
      const auto wanted = samples.cast<std::int64_t>();
      if (wanted < 0 || wanted > options.samples)
        throw ValueError("samples is " + std::to_string(wanted) + ", but must be between 0 and " +
                         std::to_string(options.samples));
      options.samples = wanted;
    }
    const ConstTensorView rates = optional_view(learning_rates, "learning_rates", learning_rates_);
    if (rates.present()) {
      const std::int64_t steps = batch_size < 1 ? 0 : (options.samples + batch_size - 1) / batch_size;
      if (rates.dtype != DType::float32 || rates.shape.rank() != 1 || rates.shape[0] < steps)
        throw ShapeError("learning_rates must be a one-dimensional float32 array of " + std::to_string(steps) +
                         " numbers, one a step");
      options.learning_rates = rates.f32();
      options.learning_rate_count = rates.shape[0];
    }
    constexpr double signal_interval = 0.05;
    options.progress_interval = progress.is_none() ? signal_interval : std::min(progress_interval, signal_interval);
    options.progress = [progress, progress_interval, all = options.samples,
                        last = std::chrono::steady_clock::now()](const Totals& totals) mutable {
      const AcquireGil acquire;
      if (PyErr_CheckSignals() != 0) throw py::error_already_set();
      if (progress.is_none()) return;
      const auto now = std::chrono::steady_clock::now();
      if (totals.samples < all && std::chrono::duration<double>(now - last).count() < progress_interval) return;
      last = now;
      progress(to_dict(totals));
    };
  }

 private:
  py::array order_, learning_rates_;
};

// Memory of the network as an array without a copy, for the time of a call.
template <typename T>
py::array_t<T> borrow(T* values, std::int64_t count) {
  const py::capsule nobody(values, [](void*) {});
  return py::array_t<T>({static_cast<py::ssize_t>(count)}, {static_cast<py::ssize_t>(sizeof(T))}, values, nobody);
}

void set_data_parallel(Network& network, std::int64_t rank, std::int64_t ranks, const py::object& all_reduce,
                       const py::object& wait, const py::object& all_reduce_totals, std::int64_t bucket_bytes,
                       bool sharded, bool on_device, const py::object& synchronize) {
  DataParallel parallel;
  parallel.rank = rank;
  parallel.ranks = ranks;
  if (!all_reduce.is_none())
    parallel.all_reduce = [all_reduce, on_device](float* values, std::int64_t count) {
      const AcquireGil acquire;
      if (on_device)
        all_reduce(reinterpret_cast<std::uintptr_t>(values), count);
      else
        all_reduce(borrow(values, count));
    };
  const auto call = [](const py::object& function) -> std::function<void()> {
    if (function.is_none()) return nullptr;
    return [function] {
      const AcquireGil acquire;
      function();
    };
  };
  parallel.wait = call(wait);
  parallel.synchronize = call(synchronize);
  parallel.on_device = on_device;
  if (!all_reduce_totals.is_none())
    parallel.all_reduce_totals = [all_reduce_totals](double* values, std::int64_t count) {
      const AcquireGil acquire;
      all_reduce_totals(borrow(values, count));
    };
  parallel.bucket_bytes = bucket_bytes;
  parallel.sharded = sharded;
  network.set_data_parallel(std::move(parallel));
}

py::array_t<float> copy_of(const ConstTensorView& from) {
  py::array_t<float> array = empty(from.shape);
  std::copy_n(from.f32(), from.shape.size(), array.mutable_data());
  return array;
}

py::dict train_epoch(Network& network, const py::object& x, const py::object& y, const py::object& sample_weight,
                     std::int64_t batch_size, const py::object& order, const py::object& samples,
                     const py::object& learning_rates, const py::object& progress, double progress_interval) {
  const Arrays arrays(x, y, sample_weight);
  const Epoch epoch(arrays.dataset.inputs, batch_size, order, samples, learning_rates, progress, progress_interval);
  Totals totals;
  {
    const ReleaseGil release;
    totals = network.train_epoch(arrays.dataset, epoch.options);
  }
  return to_dict(totals);
}

py::dict evaluate(const Network& network, const py::object& x, const py::object& y, const py::object& sample_weight,
                  std::int64_t batch_size, const py::object& order, const py::object& samples,
                  const py::object& progress, double progress_interval) {
  const Arrays arrays(x, y, sample_weight);
  const Epoch epoch(arrays.dataset.inputs, batch_size, order, samples, py::none(), progress, progress_interval);
  Totals totals;
  {
    const ReleaseGil release;
    totals = network.evaluate(arrays.dataset, epoch.options);
  }
  return to_dict(totals);
}

py::array predict(const Network& network, const py::object& x, std::int64_t batch_size, const py::object& progress,
                  double progress_interval) {
  const Array array = to_array(x, "x");
  const ConstTensorView inputs = view(array, "x");
  if (array.on_device()) backend(array.device()).wait(array.context());
  const Epoch epoch(inputs, batch_size, py::none(), py::none(), py::none(), progress, progress_interval);
  py::array outputs = empty(network.output_shape().with_batch(epoch.options.samples));
  const TensorView outputs_view = mutable_view(outputs, "outputs");
  {
    const ReleaseGil release;
    network.predict(inputs, outputs_view, epoch.options);
  }
  return outputs;
}

// One batch: the whole of it at once, however long.
py::dict on_batch(Network& network, bool train, const py::object& x, const py::object& y,
                  const py::object& sample_weight) {
  const Arrays arrays(x, y, sample_weight);
  Totals totals;
  {
    const ReleaseGil release;
    totals = train ? network.train_batch(arrays.dataset) : network.test_batch(arrays.dataset);
  }
  return to_dict(totals);
}

std::vector<Layer> to_layers(const std::vector<py::dict>& configs) {
  std::vector<Layer> layers;
  layers.reserve(configs.size());
  for (const py::dict& config : configs) layers.push_back(to_layer({config, "a layer"}));
  return layers;
}

void save(const py::object& path, const SharedNetwork& network, std::vector<std::string> layer_names,
          FileMetadata metadata, bool optimizer_state) {
  const std::string file = to_path(path);
  const Using use(network.in_use, false, "save");
  SaveNetworkOptions options;
  options.layer_names = std::move(layer_names);
  options.metadata = std::move(metadata);
  options.optimizer_state = optimizer_state;
  options.file.progress = check_signals;
  const ReleaseGil release;
  save_network(file, network, options);
}

py::list to_list(const std::vector<ParameterInfo>& infos) {
  py::list list;
  for (const ParameterInfo& info : infos) {
    py::dict dict;
    dict["layer"] = info.layer;
    dict["name"] = info.name;
    dict["shape"] = to_tuple(info.shape);
    dict["trainable"] = info.trainable;
    list.append(dict);
  }
  return list;
}

py::list slots_of(const Network& network, std::size_t index) {
  py::list list;
  for (int slot = 0;; ++slot) {
    const ConstTensorView state = network.optimizer_slot(index, slot);
    if (!state.present()) return list;
    list.append(copy_of(state));
  }
}

void set_slots(Network& network, std::size_t index, const py::sequence& arrays) {
  int slot = 0;
  for (const py::handle object : arrays) {
    const py::array array = as_array(object, "slot");
    network.set_optimizer_slot(index, slot++, view(array, "slot"));
  }
}

}  // namespace

void register_network(py::module_& module) {
  py::class_<SharedNetwork>(module, "Network", "A compiled Sequential network; see convec.models.Sequential.")
      .def(py::init([](const std::vector<py::dict>& configs, const py::sequence& input_shape, std::uint64_t seed) {
             return SharedNetwork(Network(to_layers(configs), to_shape(input_shape, "input_shape"), seed));
           }),
           py::arg("layers"), py::arg("input_shape"), py::arg("seed") = 0,
           "Compiles a list of layer dictionaries for an input shape (of one sample).")
      .def_property_readonly("input_shape",
                             [](const SharedNetwork& network) { return to_tuple(network.input_shape()); })
      .def_property_readonly("output_shape",
                             [](const SharedNetwork& network) { return to_tuple(network.output_shape()); })
      .def(
          "layer_output_shape",
          [](const SharedNetwork& network, std::size_t index) { return to_tuple(network.output_shape(index)); },
          py::arg("index"), "Shape of one sample after a layer.")
      .def("parameters",
           looking(
               "parameters", +[](const Network& network) { return to_list(network.parameters()); }),
           "A dictionary for each parameter: layer, name, shape, trainable.")
      .def("get_parameter",
           looking(
               "get_parameter",
               +[](const Network& network, std::size_t index) { return copy_of(network.parameter(index)); }),
           py::arg("index"), "A copy of a parameter.")
      .def("set_parameter",
           changing(
               "set_parameter",
               +[](Network& network, std::size_t index, const py::object& value) {
                 const py::array array = as_array(value, "value");
                 network.set_parameter(index, view(array, "value"));
               }),
           py::arg("index"), py::arg("value"), "Overwrites a parameter.")
      .def("set_trainable", changing("set_trainable", &Network::set_trainable), py::arg("layer"), py::arg("trainable"),
           "Freezes or releases a layer.")
      .def("to",
           changing(
               "to",
               +[](Network& network, const char* type, int index) {
                 const ReleaseGil release;
                 network.to({std::strcmp(type, "cpu") == 0 ? DeviceType::cpu : DeviceType::cuda, index});
               }),
           py::arg("type"), py::arg("index") = 0, "Moves to a device: 'cpu', or 'cuda' and its number.")
      .def_property_readonly("device",
                             looking(
                                 "device", +[](const Network& network) { return to_string(network.device()); }),
                             "The device's name.")
      .def_property(
          "matmul_precision",
          looking(
              "matmul_precision", +[](const Network& network) { return name_of(network.matmul_precision()); }),
          changing(
              "matmul_precision",
              +[](Network& network, const std::string& name) {
                network.set_matmul_precision(parse_matmul_precision(name.c_str()));
              }),
          "How exactly dense layers and convolutions multiply on a GPU.")
      .def("initialize", changing("initialize", &Network::initialize), py::arg("seed"),
           "Glorot-uniform kernels, zero biases.")
      .def("compile",
           changing(
               "compile",
               +[](Network& network, const py::dict& loss, const py::dict& optimizer,
                   const std::vector<py::dict>& metrics) {
                 std::vector<NetworkMetric> measures;
                 measures.reserve(metrics.size());
                 for (const py::dict& metric : metrics) measures.push_back(to_metric({metric, "a metric"}));
                 network.compile(to_loss({loss, "loss"}), to_optimizer({optimizer, "optimizer"}), std::move(measures));
               }),
           py::arg("loss"), py::arg("optimizer"), py::arg("metrics"),
           "Sets loss, optimizer and metrics from dictionaries; resets the optimizer's state.")
      .def_property("learning_rate", looking("learning_rate", &Network::learning_rate),
                    changing("learning_rate", &Network::set_learning_rate))
      .def_property("iterations", looking("iterations", &Network::iterations),
                    changing("iterations", &Network::set_iterations))
      .def("get_optimizer_slots", looking("get_optimizer_slots", &slots_of), py::arg("index"),
           "Copies of the optimizer's state of a parameter.")
      .def("set_optimizer_slots", changing("set_optimizer_slots", &set_slots), py::arg("index"), py::arg("arrays"),
           "Overwrites that state.")
      .def_property_readonly("seed", looking("seed", &Network::seed))
      .def("set_seed", changing("set_seed", &Network::set_seed), py::arg("seed"), "Seed of dropout.")
      .def(
          "set_data_parallel", changing("set_data_parallel", &set_data_parallel), py::kw_only(), py::arg("rank") = 0,
          py::arg("ranks") = 1, py::arg("all_reduce") = py::none(), py::arg("wait") = py::none(),
          py::arg("all_reduce_totals") = py::none(), py::arg("bucket_bytes") = DataParallel().bucket_bytes,
          py::arg("sharded") = false, py::arg("on_device") = false, py::arg("synchronize") = py::none(),
          "Trains and evaluates together with other processes: all_reduce(array) begins to add up a float32 array over "
          "them, in place, wait() ends it, all_reduce_totals(array) adds up a float64 array at once. With on_device it "
          "is all_reduce(address, count) of the device's memory, behind what `stream` holds; wait() lets the stream "
          "wait, "
          "and synchronize() the host.")
      .def_property_readonly(
          "stream",
          looking(
              "stream", +[](const Network& network) { return reinterpret_cast<std::uintptr_t>(network.stream()); }),
          "Address of the CUDA stream on which training is launched; 0 on the CPU.")
      .def("train_batch",
           changing(
               "train_batch",
               +[](Network& network, const py::object& x, const py::object& y, const py::object& sample_weight) {
                 return on_batch(network, true, x, y, sample_weight);
               }),
           py::arg("x"), py::arg("y"), py::arg("sample_weight") = py::none(), "One optimizer step.")
      .def("test_batch",
           changing(
               "test_batch",
               +[](Network& network, const py::object& x, const py::object& y, const py::object& sample_weight) {
                 return on_batch(network, false, x, y, sample_weight);
               }),
           py::arg("x"), py::arg("y"), py::arg("sample_weight") = py::none(), "Loss and metrics of one batch.")
      .def("train_epoch", changing("train_epoch", &train_epoch), py::arg("x"), py::arg("y"),
           py::arg("sample_weight") = py::none(), py::kw_only(), py::arg("batch_size"), py::arg("order") = py::none(),
           py::arg("samples") = py::none(), py::arg("learning_rates") = py::none(), py::arg("progress") = py::none(),
           py::arg("progress_interval") = 0.1, "One pass of optimizer steps over the data.")
      .def("evaluate", looking("evaluate", &evaluate), py::arg("x"), py::arg("y"),
           py::arg("sample_weight") = py::none(), py::kw_only(), py::arg("batch_size"), py::arg("order") = py::none(),
           py::arg("samples") = py::none(), py::arg("progress") = py::none(), py::arg("progress_interval") = 0.1,
           "Loss and metrics over the data.")
      .def("predict", looking("predict", &predict), py::arg("x"), py::kw_only(), py::arg("batch_size"),
           py::arg("progress") = py::none(), py::arg("progress_interval") = 0.1, "Predictions for every sample.")
      .def("first_nonfinite_layer",
           looking(
               "first_nonfinite_layer",
               +[](const Network& network, const py::object& x) {
                 const py::array array = as_array(x, "x");
                 const ConstTensorView inputs = view(array, "x");
                 const ReleaseGil release;
                 return network.first_nonfinite_layer(inputs);
               }),
           py::arg("x"), "Index of the first layer with a NaN or infinity in its output, or -1.");

  module.def(
      "network_parameters",
      [](const std::vector<py::dict>& configs, const py::sequence& input_shape) {
        return to_list(network_parameters(to_layers(configs), to_shape(input_shape, "input_shape")));
      },
      py::arg("layers"), py::arg("input_shape"),
      "A dictionary for each parameter that a network of these layers has: layer, name, shape, trainable. Nothing is "
      "allocated.");
  module.def("network_save", &save, py::arg("path"), py::arg("network"), py::arg("layer_names"),
             py::arg_v("metadata", FileMetadata{}, "{}"), py::kw_only(), py::arg("optimizer_state") = true,
             "Writes a network to a safetensors file that convec::load_network reads.");
  module.def(
      "network_load",
      [](const py::object& path) {
        const std::string file = to_path(path);
        const ReleaseGil release;
        return SharedNetwork(load_network(file));
      },
      py::arg("path"), "The network of a file.");
}

}  // namespace convec::python
