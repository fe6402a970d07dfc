// The door: every check of every op's arguments is made with these, before any memory is touched.
#pragma once

#include <cstdint>
#include <string>

#include <convec/error.hpp>
#include <convec/ops/window.hpp>
#include <convec/tensor.hpp>

namespace convec::check {

// "input has shape (2, 3), but must have 4 dimensions (batch, height, width, channels)"
void rank(const ConstTensorView& tensor, const char* name, int rank, const char* layout);
// "bias has shape (3,), but must be (4,): one number a filter"
void shape(const ConstTensorView& tensor, const char* name, const Shape& expected, const char* why);
// "input is float64, but must be float32; convert it, e.g. input.astype('float32')"
void float32(const ConstTensorView& tensor, const char* name);
// Of an op that multiplies bfloat16 arrays too: `first` is float32 or bfloat16, and `tensor` the same.
void factor(const ConstTensorView& tensor, const char* name, const ConstTensorView& first, const char* first_name);
// Throws DeviceError where two arguments live on different devices. Absent views are skipped.
void same_device(const ConstTensorView& first, const char* first_name, const ConstTensorView& other,
                 const char* other_name);
// Throws DeviceError where an array that the host reads or writes is elsewhere.
void on_host(const ConstTensorView& tensor, const char* name);
// "strides[0] is 0, but must be at least 1" (and below 2^31, so that no product of two overflows)
void at_least(std::int64_t value, std::int64_t least, const char* name);
// Throws ValueError where `value` is outside [low, high) or NaN.
void in_range(float value, float low, float high, const char* name);
// Throws ValueError where two views share memory.
void no_overlap(const ConstTensorView& output, const char* output_name, const ConstTensorView& input,
                const char* input_name);
// The same for an element-wise op, whose output may be exactly its input.
void in_place_or_apart(const ConstTensorView& output, const char* output_name, const ConstTensorView& input,
                       const char* input_name);
// float32 and `shape`, on the device of `first`.
void argument(const ConstTensorView& tensor, const char* name, const Shape& expected, const char* why,
              const ConstTensorView& first, const char* first_name);

}  // namespace convec::check
