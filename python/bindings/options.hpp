// Names and settings from Python, shared by the ops' and the network's bindings.
#pragma once

#include <pybind11/pybind11.h>

#include <convec/ops/loss.hpp>
#include <convec/ops/optimizer.hpp>

namespace convec::python {

// "binary_crossentropy", ... Throws ValueError for a name that is not a pointwise loss.
PointwiseLoss parse_pointwise_loss(const char* name);

// "sparse_categorical_accuracy", ... Throws ValueError for a name that is not a metric.
Metric parse_metric(const char* name);

// The optimizer's defaults, changed by `settings`: a dict of OptimizerOptions' member names.
// Throws ValueError for a name that is neither, DTypeError for a value of the wrong type.
OptimizerOptions parse_optimizer_options(const char* optimizer, const pybind11::dict& settings);

}  // namespace convec::python
