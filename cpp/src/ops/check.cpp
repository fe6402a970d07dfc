#include "ops/check.hpp"

namespace convec::check {

void rank(const ConstTensorView& tensor, const char* name, int rank, const char* layout) {
  if (tensor.shape.rank() == rank) return;
  throw ShapeError(std::string(name) + " has shape " + to_string(tensor.shape) + ", but must have " +
                   std::to_string(rank) + " dimensions " + layout);
}

void shape(const ConstTensorView& tensor, const char* name, const Shape& expected, const char* why) {
  if (tensor.shape == expected) return;
  throw ShapeError(std::string(name) + " has shape " + to_string(tensor.shape) + ", but must be " +
                   to_string(expected) + ": " + why);
}

void float32(const ConstTensorView& tensor, const char* name) {
  if (tensor.dtype == DType::float32) return;
  throw DTypeError(std::string(name) + " is " + name_of(tensor.dtype) + ", but must be float32; convert it, e.g. " +
                   name + ".astype('float32')");
}

void factor(const ConstTensorView& tensor, const char* name, const ConstTensorView& first, const char* first_name) {
  if (first.dtype != DType::bfloat16) {
    float32(first, first_name);
    float32(tensor, name);
  } else if (tensor.dtype != DType::bfloat16) {
    throw DTypeError(std::string(name) + " is " + name_of(tensor.dtype) + ", but " + first_name +
                     " is bfloat16; convert one of them");
  }
}

void same_device(const ConstTensorView& first, const char* first_name, const ConstTensorView& other,
                 const char* other_name) {
  if (!first.present() || !other.present() || first.device == other.device) return;
  throw DeviceError(std::string(first_name) + " is on " + to_string(first.device) + ", but " + other_name + " is on " +
                    to_string(other.device) + "; move one of them");
}

void on_host(const ConstTensorView& tensor, const char* name) {
  if (tensor.device.type == DeviceType::cpu) return;
  throw DeviceError(std::string(name) + " is on " + to_string(tensor.device) +
                    ", but must be on the host; copy it, e.g. cupy.asnumpy(" + name + ")");
}

void at_least(std::int64_t value, std::int64_t least, const char* name) {
  constexpr std::int64_t limit = 1LL << 31;
  if (value < least)
    throw ValueError(std::string(name) + " is " + std::to_string(value) + ", but must be at least " +
                     std::to_string(least));
  if (value >= limit) throw ValueError(std::string(name) + " is " + std::to_string(value) + ", but must be below 2^31");
}

void in_range(float value, float low, float high, const char* name) {
  if (value >= low && value < high) return;
  throw ValueError(std::string(name) + " is " + std::to_string(value) + ", but must be at least " +
                   std::to_string(low) + " and below " + std::to_string(high));
}

void no_overlap(const ConstTensorView& output, const char* output_name, const ConstTensorView& input,
                const char* input_name) {
  if (!output.present() || !input.present()) return;
  const auto bytes = [](const ConstTensorView& view) {
    return static_cast<std::uintptr_t>(view.shape.size()) * size_of(view.dtype);
  };
  const auto a = reinterpret_cast<std::uintptr_t>(output.data);
  const auto b = reinterpret_cast<std::uintptr_t>(input.data);
  if (a + bytes(output) <= b || b + bytes(input) <= a) return;
  throw ValueError(std::string(output_name) + " overlaps " + input_name + " in memory; give it memory of its own");
}

void in_place_or_apart(const ConstTensorView& output, const char* output_name, const ConstTensorView& input,
                       const char* input_name) {
  if (output.data == input.data) return;
  no_overlap(output, output_name, input, input_name);
}

void argument(const ConstTensorView& tensor, const char* name, const Shape& expected, const char* why,
              const ConstTensorView& first, const char* first_name) {
  float32(tensor, name);
  shape(tensor, name, expected, why);
  same_device(first, first_name, tensor, name);
}

}  // namespace convec::check
