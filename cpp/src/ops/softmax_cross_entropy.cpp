#include <convec/ops/softmax_cross_entropy.hpp>

#include <string>

#include "op_table.hpp"
#include "ops/check.hpp"
#include "ops/softmax_cross_entropy.hpp"

namespace convec {

Labels make_labels(const ConstTensorView& labels, const char* name, const ConstTensorView& predictions,
                   const char* predictions_name) {
  check::same_device(predictions, predictions_name, labels, name);
  Labels made;
  switch (labels.dtype) {
    case DType::int32:
    case DType::int64:
    case DType::uint8:
      check::shape(labels, name, {predictions.shape[0]}, "one class number a row");
      made.classes = labels.data;
      made.dtype = labels.dtype;
      return made;
    case DType::float32:
      if (labels.shape.rank() == 1)
        throw DTypeError(std::string(name) + " of shape " + to_string(labels.shape) +
                         " is float32, but class numbers must be int32, int64 or uint8; convert them, e.g. " + name +
                         ".astype('int64')");
      check::shape(labels, name, predictions.shape, "a distribution over the classes a row");
      made.distribution = labels.f32();
      return made;
    case DType::float64:
    case DType::bfloat16:
      break;
  }
  throw DTypeError(std::string(name) + " is " + name_of(labels.dtype) +
                   ", but must be class numbers (int32, int64 or uint8) or float32 distributions");
}

void check_labels(const Context& context, const ConstTensorView& labels, const char* name, const Labels& made,
                  std::int64_t classes) {
  if (made.classes == nullptr || labels.shape[0] == 0) return;
  const std::int64_t bad = op_table(labels.device).find_bad_label(context, labels.shape[0], classes, made);
  if (bad < 0) return;
  std::string value = "out of range";
  // Memory of another device cannot be read from here.
  if (labels.device.type == DeviceType::cpu) {
    if (labels.dtype == DType::int32) value = std::to_string(static_cast<const std::int32_t*>(labels.data)[bad]);
    if (labels.dtype == DType::int64) value = std::to_string(static_cast<const std::int64_t*>(labels.data)[bad]);
    if (labels.dtype == DType::uint8) value = std::to_string(static_cast<const std::uint8_t*>(labels.data)[bad]);
  }
  throw ValueError(std::string(name) + "[" + std::to_string(bad) + "] is " + value +
                   ", but must be at least 0 and below " + std::to_string(classes) + ", the number of classes");
}

namespace {

Labels check_arguments(const Context& context, const ConstTensorView& input, const ConstTensorView& labels,
                       const CrossEntropyOptions& options, const ConstTensorView& losses, const char* losses_name) {
  check::rank(input, "input", 2, "(rows, classes)");
  check::float32(input, "input");
  static_cast<void>(input.shape.size());
  if (input.shape[1] < 1)
    throw ShapeError("input has shape " + to_string(input.shape) + ", but must have at least one class");
  check::in_range(options.label_smoothing, 0.0F, 1.0F, "label_smoothing");
  check::argument(losses, losses_name, {input.shape[0]}, "one number a row", input, "input");
  const Labels made = make_labels(labels, "labels", input, "input");
  check_labels(context, labels, "labels", made, input.shape[1]);
  return made;
}

}  // namespace

void softmax_cross_entropy_forward(const Context& context, ConstTensorView input, ConstTensorView labels,
                                   const CrossEntropyOptions& options, TensorView losses) {
  const Labels made = check_arguments(context, input, labels, options, losses, "losses");
  check::no_overlap(losses, "losses", input, "input");
  check::no_overlap(losses, "losses", labels, "labels");
  if (input.shape[0] == 0) return;
  op_table(input.device)
      .softmax_cross_entropy_forward(context, input.shape[0], input.shape[1], input.f32(), made, options, losses.f32());
}

void softmax_cross_entropy_backward(const Context& context, ConstTensorView grad_losses, ConstTensorView input,
                                    ConstTensorView labels, const CrossEntropyOptions& options, TensorView grad_input) {
  const Labels made = check_arguments(context, input, labels, options, grad_losses, "grad_losses");
  check::argument(grad_input, "grad_input", input.shape, "the shape of input", input, "input");
  check::no_overlap(grad_input, "grad_input", grad_losses, "grad_losses");
  check::no_overlap(grad_input, "grad_input", labels, "labels");
  check::in_place_or_apart(grad_input, "grad_input", input, "input");
  if (input.shape[0] == 0) return;
  op_table(input.device)
      .softmax_cross_entropy_backward(context, input.shape[0], input.shape[1], grad_losses.f32(), input.f32(), made,
                                      options, grad_input.f32());
}

}  // namespace convec
