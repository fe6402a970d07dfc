#include "options.hpp"

#include <cstring>
#include <string>
#include <utility>

#include <convec/error.hpp>

namespace convec::python {

namespace py = pybind11;

namespace {

template <typename Value, std::size_t count>
Value parse_name(const char* what, const char* name, const std::pair<const char*, Value> (&known)[count]) {
  std::string names;
  for (const auto& [text, value] : known) {
    if (std::strcmp(name, text) == 0) return value;
    names += std::string(names.empty() ? "" : ", ") + text;
  }
  throw ValueError(std::string(what) + " is '" + name + "', but must be one of " + names);
}

void assign(double& member, const std::string& name, py::handle value) {
  if (PyBool_Check(value.ptr()) != 0 || (PyFloat_Check(value.ptr()) == 0 && PyNumber_Check(value.ptr()) == 0))
    throw DTypeError(name + " is " + std::string(py::repr(value)) + ", but must be a number");
  member = py::cast<double>(value);
}

void assign(float& member, const std::string& name, py::handle value) {
  double number = 0.0;
  assign(number, name, value);
  member = static_cast<float>(number);
}

void assign(bool& member, const std::string& name, py::handle value) {
  if (PyBool_Check(value.ptr()) == 0)
    throw DTypeError(name + " is " + std::string(py::repr(value)) + ", but must be True or False");
  member = value.is(py::bool_(true));
}

}  // namespace

PointwiseLoss parse_pointwise_loss(const char* name) {
  static constexpr std::pair<const char*, PointwiseLoss> known[] = {
      {"binary_crossentropy", PointwiseLoss::binary_crossentropy},
      {"mean_squared_error", PointwiseLoss::mean_squared_error},
      {"mean_absolute_error", PointwiseLoss::mean_absolute_error},
      {"huber", PointwiseLoss::huber}};
  return parse_name("loss", name, known);
}

Metric parse_metric(const char* name) {
  static constexpr std::pair<const char*, Metric> known[] = {
      {"sparse_categorical_accuracy", Metric::sparse_categorical_accuracy},
      {"categorical_accuracy", Metric::categorical_accuracy},
      {"binary_accuracy", Metric::binary_accuracy},
      {"sparse_top_k_categorical_accuracy", Metric::sparse_top_k_categorical_accuracy},
      {"top_k_categorical_accuracy", Metric::top_k_categorical_accuracy}};
  return parse_name("metric", name, known);
}

OptimizerOptions parse_optimizer_options(const char* optimizer, const py::dict& settings) {
  OptimizerOptions o = OptimizerOptions::defaults(parse_optimizer(optimizer));
  for (const auto& [key, value] : settings) {
    const std::string name = py::str(key);
    if (name == "learning_rate")
      assign(o.learning_rate, name, value);
    else if (name == "momentum")
      assign(o.momentum, name, value);
    else if (name == "nesterov")
      assign(o.nesterov, name, value);
    else if (name == "beta_1")
      assign(o.beta_1, name, value);
    else if (name == "beta_2")
      assign(o.beta_2, name, value);
    else if (name == "rho")
      assign(o.rho, name, value);
    else if (name == "epsilon")
      assign(o.epsilon, name, value);
    else if (name == "amsgrad")
      assign(o.amsgrad, name, value);
    else if (name == "centered")
      assign(o.centered, name, value);
    else if (name == "weight_decay")
      assign(o.weight_decay, name, value);
    else if (name == "clipnorm")
      assign(o.clipnorm, name, value);
    else if (name == "clipvalue")
      assign(o.clipvalue, name, value);
    else if (name == "global_clipnorm")
      assign(o.global_clipnorm, name, value);
    else
      throw ValueError("'" + name +
                       "' is not a setting of an optimizer; those are learning_rate, momentum, nesterov, "
                       "beta_1, beta_2, rho, epsilon, amsgrad, centered, weight_decay, clipnorm, clipvalue and "
                       "global_clipnorm");
  }
  return o;
}

}  // namespace convec::python
