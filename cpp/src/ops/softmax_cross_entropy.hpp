// Validation of labels, shared by the losses, the metrics and the network.
#pragma once

#include <convec/tensor.hpp>

#include "op_table.hpp"

namespace convec {

// Labels of (rows, classes) predictions: class numbers (rows), or a float32 distribution (rows, classes).
// Throws ShapeError, DTypeError or DeviceError where they are neither; values are not looked at.
Labels make_labels(const ConstTensorView& labels, const char* name, const ConstTensorView& predictions,
                   const char* predictions_name);

// Throws ValueError, naming the first, where a label is outside [0, classes). `labels` is the view `made` came from.
void check_labels(const Context& context, const ConstTensorView& labels, const char* name, const Labels& made,
                  std::int64_t classes);

}  // namespace convec
