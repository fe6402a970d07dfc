// Networks in safetensors files: the layers and the training configuration as JSON in the metadata.
#include <convec/serialize.hpp>

#include <charconv>
#include <cmath>
#include <iterator>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

#include <convec/error.hpp>

#include "io/json.hpp"

namespace convec {

namespace {

// Goes up when a reader of today could not understand the file.
constexpr const char* format_version = "1";
constexpr const char* version_key = "convec.format";
constexpr const char* network_key = "convec.network";
constexpr const char* training_key = "convec.training";
// What Python adds: the layers and the arguments of compile() in Keras' form, and the position of training.
constexpr const char* python_model_key = "convec.model";
constexpr const char* python_compile_key = "convec.compile";
constexpr const char* python_position_key = "convec.position";
constexpr std::size_t most_layers = 10000;

template <typename Value>
struct Name {
  const char* text;
  Value value;
};

constexpr Name<Loss> loss_names[] = {{"sparse_categorical_crossentropy", Loss::sparse_categorical_crossentropy},
                                     {"categorical_crossentropy", Loss::categorical_crossentropy},
                                     {"binary_crossentropy", Loss::binary_crossentropy},
                                     {"mean_squared_error", Loss::mean_squared_error},
                                     {"mean_absolute_error", Loss::mean_absolute_error},
                                     {"huber", Loss::huber}};

constexpr Name<Metric> metric_names[] = {
    {"sparse_categorical_accuracy", Metric::sparse_categorical_accuracy},
    {"categorical_accuracy", Metric::categorical_accuracy},
    {"binary_accuracy", Metric::binary_accuracy},
    {"sparse_top_k_categorical_accuracy", Metric::sparse_top_k_categorical_accuracy},
    {"top_k_categorical_accuracy", Metric::top_k_categorical_accuracy}};

template <typename Value, std::size_t count>
const char* name_in(const Name<Value> (&names)[count], Value value) {
  for (const Name<Value>& name : names)
    if (name.value == value) return name.text;
  return "?";
}

template <typename Value, std::size_t count>
bool find_in(const Name<Value> (&names)[count], const std::string& text, Value& value) {
  for (const Name<Value>& name : names) {
    if (text != name.text) continue;
    value = name.value;
    return true;
  }
  return false;
}

// ---- The settings of a layer, a loss, ...: one list for writing and reading -----------------------------------------

// Writes each member of a list.
class Writer {
 public:
  explicit Writer(io::JsonWriter& json) : json_(json) {}

  template <typename Value>
  void operator()(const char* key, const Value& value) {
    json_.key(key);
    put(value);
  }

 private:
  template <typename Value>
  void put(const Value& value) {
    json_.value(value);
  }
  void put(const Size2d& size) { json_.begin_array().value(size.height).value(size.width).end_array(); }
  void put(const Padding& padding) {
    if (padding.mode == PaddingMode::explicit_) {
      json_.begin_array();
      json_.begin_array().value(padding.top).value(padding.bottom).end_array();
      json_.begin_array().value(padding.left).value(padding.right).end_array();
      json_.end_array();
    } else {
      json_.value(padding.mode == PaddingMode::same ? "same" : "valid");
    }
  }
  void put(const Activation& activation) { json_.value(name_of(activation)); }

  io::JsonWriter& json_;
};

// Reads the member of a list that is called `key`, if it has one.
class Reader {
 public:
  Reader(io::JsonReader& json, const std::string& key) : json_(json), key_(key) {}

  template <typename Value>
  void operator()(const char* key, Value& value) {
    if (found_ || key_ != key) return;
    found_ = true;
    get(value);
  }

  bool found() const noexcept { return found_; }

 private:
  void get(bool& value) { value = json_.boolean(); }
  void get(std::int64_t& value) { value = json_.count(); }
  void get(double& value) { value = json_.number(); }
  void get(float& value) {
    const double number = json_.number();
    if (std::abs(number) > static_cast<double>(std::numeric_limits<float>::max()))
      json_.fail("a number that does not fit");
    value = static_cast<float>(number);
  }
  void get(Size2d& size) { pair(size.height, size.width); }
  void get(Padding& padding) {
    if (json_.at_string()) {
      const std::string mode = json_.string();
      if (mode != "same" && mode != "valid") json_.fail("a padding is neither 'valid' nor 'same'");
      padding = mode == "same" ? Padding::same() : Padding::valid();
      return;
    }
    padding.mode = PaddingMode::explicit_;
    json_.begin_array();
    element();
    pair(padding.top, padding.bottom);
    element();
    pair(padding.left, padding.right);
    if (json_.next_element()) json_.fail("expected two pairs");
  }
  void get(Activation& activation) {
    const std::string name = json_.string();
    try {
      activation = parse_activation(name.c_str());
    } catch (const ValueError& error) {
      json_.fail(error.what());
    }
  }

  void element() {
    if (!json_.next_element()) json_.fail("expected a pair");
  }
  void pair(std::int64_t& first, std::int64_t& second) {
    json_.begin_array();
    element();
    first = json_.count();
    element();
    second = json_.count();
    if (json_.next_element()) json_.fail("expected a pair");
  }

  io::JsonReader& json_;
  const std::string& key_;
  bool found_ = false;
};

// `each(key, member)` for every setting. Members are const where the object is.
template <typename Each, typename Options>
void pool_settings(Options& options, Each&& each) {
  each("pool_size", options.pool_size);
  each("strides", options.strides);
  each("padding", options.padding);
}

template <typename Object, typename Wanted>
constexpr bool is = std::is_same_v<std::remove_const_t<Object>, Wanted>;

template <typename Each, typename Object>
void settings(Object& o, Each&& each) {
  if constexpr (is<Object, Conv2dLayer>) {
    each("filters", o.filters);
    each("kernel_size", o.kernel_size);
    each("strides", o.options.strides);
    each("padding", o.options.padding);
    each("dilation", o.options.dilation);
    each("groups", o.options.groups);
    each("use_bias", o.use_bias);
    each("activation", o.activation);
  } else if constexpr (is<Object, MaxPool2dLayer> || is<Object, AveragePool2dLayer>) {
    pool_settings(o.options, each);
  } else if constexpr (is<Object, GlobalMaxPool2dLayer> || is<Object, GlobalAveragePool2dLayer>) {
    each("keepdims", o.keepdims);
  } else if constexpr (is<Object, DenseLayer>) {
    each("units", o.units);
    each("use_bias", o.use_bias);
    each("activation", o.activation);
  } else if constexpr (is<Object, ActivationLayer>) {
    each("activation", o.activation);
  } else if constexpr (is<Object, DropoutLayer>) {
    each("rate", o.rate);
  } else if constexpr (is<Object, BatchNormLayer>) {
    each("momentum", o.momentum);
    each("epsilon", o.epsilon);
    each("center", o.center);
    each("scale", o.scale);
  } else if constexpr (is<Object, RescalingLayer>) {
    each("scale", o.scale);
    each("offset", o.offset);
  } else if constexpr (is<Object, LossOptions>) {
    each("from_logits", o.from_logits);
    each("label_smoothing", o.label_smoothing);
  } else if constexpr (is<Object, MetricOptions>) {
    each("k", o.k);
    each("threshold", o.threshold);
  } else if constexpr (is<Object, OptimizerOptions>) {
    each("learning_rate", o.learning_rate);
    each("momentum", o.momentum);
    each("nesterov", o.nesterov);
    each("beta_1", o.beta_1);
    each("beta_2", o.beta_2);
    each("rho", o.rho);
    each("epsilon", o.epsilon);
    each("amsgrad", o.amsgrad);
    each("centered", o.centered);
    each("weight_decay", o.weight_decay);
    each("clipnorm", o.clipnorm);
    each("clipvalue", o.clipvalue);
    each("global_clipnorm", o.global_clipnorm);
  } else {
    static_assert(is<Object, FlattenLayer> || is<Object, SoftmaxLayer>, "a layer whose settings are not listed");
  }
}

// In the order of Layer's alternatives.
constexpr const char* kinds[] = {
    "conv2d",     "max_pool2d", "average_pool2d", "global_max_pool2d", "global_average_pool2d",
    "flatten",    "dense",      "activation",     "softmax",           "dropout",
    "batch_norm", "rescaling"};
static_assert(std::size(kinds) == std::variant_size_v<Layer>);

template <std::size_t index = 0>
bool make_layer(const std::string& kind, Layer& layer) {
  if constexpr (index == std::size(kinds)) {
    return false;
  } else {
    if (kind != kinds[index]) return make_layer<index + 1>(kind, layer);
    layer = std::variant_alternative_t<index, Layer>{};
    return true;
  }
}

// Reads the rest of an object, whose first member ("kind") has been read, into `o`. What is not named keeps its
// default. `other` gets the keys that are no settings; false: it does not know one either.
template <typename Object, typename Other>
void read_settings(io::JsonReader& json, Object& o, Other&& other) {
  std::string key;
  while (json.next_key(key)) {
    Reader reader(json, key);
    settings(o, reader);
    if (!reader.found() && !other(key)) json.fail("the setting " + io::quoted(key) + " is not known");
  }
}

constexpr auto nothing_else = [](const std::string&) { return false; };

std::string read_kind(io::JsonReader& json) {
  std::string key;
  json.begin_object();
  if (!json.next_key(key) || key != "kind") json.fail("expected 'kind' first");
  return json.string();
}

// ---- Whole descriptions
// -----------------------------------------------------------------------------------------------

struct Description {
  Shape input_shape;
  std::vector<Layer> layers;
  std::vector<std::string> names;
  std::vector<bool> trainable;
};

std::string write_network(const Network& network, const std::vector<std::string>& names) {
  io::JsonWriter json;
  json.begin_object().key("input_shape").begin_array();
  for (const std::int64_t extent : network.input_shape()) json.value(extent);
  json.end_array().key("layers").begin_array();
  for (std::size_t i = 0; i < network.layers().size(); ++i) {
    const Layer& layer = network.layers()[i];
    json.begin_object().key("kind").value(kinds[layer.index()]).key("name").value(names[i]);
    json.key("trainable").value(network.trainable(i));
    std::visit([&json](const auto& one) { settings(one, Writer(json)); }, layer);
    json.end_object();
  }
  return json.end_array().end_object().text();
}

Description read_network(const std::string& text, const std::string& source) {
  io::JsonReader json(text.data(), text.size(), source);
  Description found;
  std::string key;
  json.begin_object();
  while (json.next_key(key)) {
    json.begin_array();
    if (key == "input_shape") {
      std::vector<std::int64_t> extents;
      while (json.next_element()) {
        if (extents.size() == Shape::max_rank) json.fail("a shape has more than 8 dimensions");
        extents.push_back(json.count());
      }
      found.input_shape = Shape(extents.data(), extents.size());
    } else if (key == "layers") {
      while (json.next_element()) {
        if (found.layers.size() == most_layers) json.fail("more than 10000 layers");
        const std::string kind = read_kind(json);
        Layer layer;
        if (!make_layer(kind, layer)) json.fail("the kind of layer " + io::quoted(kind) + " is not known");
        std::string name;
        bool trainable = true;
        const auto other = [&](const std::string& setting) {
          if (setting == "name")
            name = json.string();
          else if (setting == "trainable")
            trainable = json.boolean();
          else
            return false;
          return true;
        };
        std::visit([&](auto& one) { read_settings(json, one, other); }, layer);
        found.layers.push_back(layer);
        found.names.push_back(std::move(name));
        found.trainable.push_back(trainable);
      }
    } else {
      json.fail("the entry " + io::quoted(key) + " is not known");
    }
  }
  json.finish();
  return found;
}

struct Training {
  LossOptions loss;
  OptimizerOptions optimizer;
  std::vector<NetworkMetric> metrics;
  std::uint64_t seed = 0;
  std::int64_t iterations = -1;  // -1: the file has no state of the optimizer
};

std::string write_training(const Network& network, bool state) {
  io::JsonWriter json;
  json.begin_object().key("loss").begin_object().key("kind").value(name_in(loss_names, network.loss().loss));
  settings(network.loss(), Writer(json));
  json.end_object();
  json.key("optimizer").begin_object().key("kind").value(name_of(network.optimizer().optimizer));
  settings(network.optimizer(), Writer(json));
  json.end_object().key("metrics").begin_array();
  for (const NetworkMetric& metric : network.metrics()) {
    json.begin_object().key("kind");
    if (const auto* loss = std::get_if<LossOptions>(&metric.measure)) {
      json.value(name_in(loss_names, loss->loss));
      settings(*loss, Writer(json));
    } else {
      const auto& options = std::get<MetricOptions>(metric.measure);
      json.value(name_in(metric_names, options.metric));
      settings(options, Writer(json));
    }
    json.key("weighted").value(metric.weighted).end_object();
  }
  json.end_array();
  // As text: a reader's numbers may be doubles.
  json.key("seed").value(std::to_string(network.seed()));
  if (state) json.key("iterations").value(network.iterations());
  return json.end_object().text();
}

NetworkMetric read_metric(io::JsonReader& json) {
  NetworkMetric metric;
  const std::string kind = read_kind(json);
  const auto other = [&](const std::string& key) {
    if (key != "weighted") return false;
    metric.weighted = json.boolean();
    return true;
  };
  MetricOptions options;
  LossOptions loss;
  if (find_in(metric_names, kind, options.metric)) {
    read_settings(json, options, other);
    metric.measure = options;
  } else if (find_in(loss_names, kind, loss.loss)) {
    read_settings(json, loss, other);
    metric.measure = loss;
  } else {
    json.fail("the metric " + io::quoted(kind) + " is not known");
  }
  return metric;
}

OptimizerOptions read_optimizer(io::JsonReader& json) {
  const std::string kind = read_kind(json);
  OptimizerOptions options;
  try {
    options = OptimizerOptions::defaults(parse_optimizer(kind.c_str()));
  } catch (const ValueError& error) {
    json.fail(error.what());
  }
  read_settings(json, options, nothing_else);
  return options;
}

Training read_training(const std::string& text, const std::string& source) {
  io::JsonReader json(text.data(), text.size(), source);
  Training found;
  std::string key;
  json.begin_object();
  while (json.next_key(key)) {
    if (key == "loss") {
      const std::string kind = read_kind(json);
      if (!find_in(loss_names, kind, found.loss.loss)) json.fail("the loss " + io::quoted(kind) + " is not known");
      read_settings(json, found.loss, nothing_else);
    } else if (key == "optimizer") {
      found.optimizer = read_optimizer(json);
    } else if (key == "metrics") {
      json.begin_array();
      while (json.next_element()) {
        if (found.metrics.size() == most_layers) json.fail("more than 10000 metrics");
        found.metrics.push_back(read_metric(json));
      }
    } else if (key == "seed") {
      const std::string seed = json.string();
      const char* const end = seed.data() + seed.size();
      const auto [stop, error] = std::from_chars(seed.data(), end, found.seed);
      if (error != std::errc() || stop != end) json.fail("the seed " + io::quoted(seed) + " is no number of 64 bits");
    } else if (key == "iterations") {
      found.iterations = json.count();
    } else {
      json.fail("the entry " + io::quoted(key) + " is not known");
    }
  }
  json.finish();
  return found;
}

// write_training()'s text up to the number of steps, which is its last entry where it has one.
std::string_view without_iterations(std::string_view training) {
  const std::size_t end = training.rfind(",\"iterations\":");
  return training.substr(0, end == std::string_view::npos ? training.rfind('}') : end);
}

// The metadata of the file that a network came from, without what is no longer true of it.
FileMetadata kept_metadata(const NetworkNotes& notes, const FileMetadata& now) {
  FileMetadata kept = notes.metadata;
  const auto text = [](const FileMetadata& metadata, const char* key) {
    const auto found = metadata.find(key);
    return found == metadata.end() ? std::string_view() : std::string_view(found->second);
  };
  const std::string_view before = text(notes.metadata, training_key);
  const std::string_view after = text(now, training_key);
  const bool same_network = text(notes.metadata, network_key) == text(now, network_key);
  const bool same_training = same_network && without_iterations(before) == without_iterations(after);
  if (!same_network) kept.erase(python_model_key);
  if (!same_training) kept.erase(python_compile_key);
  if (!same_training || before != after) kept.erase(python_position_key);
  kept.erase(training_key);
  return kept;
}

std::string slot_name(const std::string& parameter, int slot) {
  return "optimizer/" + parameter + "/" + std::to_string(slot);
}

// "conv2d", "conv2d_1", ...: numbered by kind.
std::vector<std::string> default_names(const std::vector<Layer>& layers) {
  std::vector<std::string> names;
  std::size_t counts[std::size(kinds)] = {};
  for (const Layer& layer : layers) {
    const std::size_t number = counts[layer.index()]++;
    names.push_back(kinds[layer.index()] + (number == 0 ? "" : "_" + std::to_string(number)));
  }
  return names;
}

const std::string& metadata_of(const SafetensorsFile& file, const char* key) {
  const auto found = file.metadata().find(key);
  if (found == file.metadata().end())
    throw ValueError(std::string("the file holds no network: its metadata have no '") + key +
                     "'; were only weights saved?");
  return found->second;
}

// Each parameter's array in the file. Throws where one is absent or has another shape.
std::vector<const StoredTensor*> match(const SafetensorsFile& file, const std::vector<ParameterInfo>& infos,
                                       const std::vector<std::string>& names) {
  std::vector<const StoredTensor*> found;
  for (const ParameterInfo& info : infos) {
    const std::string name = names[info.layer] + "/" + info.name;
    found.push_back(&file.at(name));
    if (found.back()->shape != info.shape)
      throw ShapeError(io::quoted(name) + " has shape " + to_string(found.back()->shape) +
                       ", but the network that the file describes needs " + to_string(info.shape));
  }
  return found;
}

}  // namespace

void save_network(const std::string& path, const Network& network, const SaveNetworkOptions& options) {
  const std::size_t layers = network.layers().size();
  std::vector<std::string> names = options.layer_names;
  if (names.empty()) names = network.notes().layer_names;
  if (names.empty()) names = default_names(network.layers());
  if (names.size() != layers)
    throw ValueError("layer_names has " + std::to_string(names.size()) + " names, but the network has " +
                     std::to_string(layers) + " layers");
  for (const auto& [key, value] : options.metadata)
    if (key == version_key || key == network_key || key == training_key)
      throw ValueError("the metadata " + io::quoted(key) + " is the library's own; take another key");
  std::vector<NamedTensor> tensors;
  for (std::size_t index = 0; index < network.parameters().size(); ++index) {
    const ParameterInfo& info = network.parameters()[index];
    const std::string name = names[info.layer] + "/" + info.name;
    tensors.push_back({name, network.parameter(index)});
    for (int slot = 0; network.compiled() && options.optimizer_state; ++slot) {
      const ConstTensorView state = network.optimizer_slot(index, slot);
      if (!state.present()) break;
      tensors.push_back({slot_name(name, slot), state});
    }
  }
  FileMetadata metadata = options.metadata;
  metadata[version_key] = format_version;
  metadata[network_key] = write_network(network, names);
  if (network.compiled()) metadata[training_key] = write_training(network, options.optimizer_state);
  metadata.merge(kept_metadata(network.notes(), metadata));
  save_safetensors(path, tensors, metadata, options.file);
}

Network load_network(const SafetensorsFile& file) {
  const std::string& description = metadata_of(file, network_key);
  const std::string& version = metadata_of(file, version_key);
  if (version != format_version)
    throw ValueError("the file has format " + io::quoted(version) + ", but this version of convec reads '" +
                     format_version + "'; a newer version may read it");
  const Description described = read_network(description, network_key);
  // Nothing is allocated before the arrays are known to be there.
  const std::vector<const StoredTensor*> arrays =
      match(file, network_parameters(described.layers, described.input_shape), described.names);
  Network network(described.layers, described.input_shape);
  network.set_notes({described.names, file.metadata()});
  for (std::size_t layer = 0; layer < described.layers.size(); ++layer)
    network.set_trainable(layer, described.trainable[layer]);
  for (std::size_t index = 0; index < arrays.size(); ++index) {
    Tensor value(arrays[index]->shape);
    file.read(*arrays[index], value.view());
    network.set_parameter(index, value.view());
  }
  const auto training_text = file.metadata().find(training_key);
  if (training_text == file.metadata().end()) return network;
  Training training = read_training(training_text->second, training_key);
  network.compile(training.loss, training.optimizer, std::move(training.metrics));
  network.set_seed(training.seed);
  if (training.iterations < 0) return network;
  network.set_iterations(training.iterations);
  for (std::size_t index = 0; index < arrays.size(); ++index) {
    for (int slot = 0; network.optimizer_slot(index, slot).present(); ++slot) {
      Tensor value(arrays[index]->shape);
      file.read(file.at(slot_name(arrays[index]->name, slot)), value.view());
      network.set_optimizer_slot(index, slot, value.view());
    }
  }
  return network;
}

Network load_network(const std::string& path) { return load_network(SafetensorsFile(path, FileAccess::read)); }

}  // namespace convec
