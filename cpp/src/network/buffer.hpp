// Memory on the device that a network runs on.
#pragma once

#include <cstddef>
#include <utility>

#include <convec/tensor.hpp>

#include "backend.hpp"

namespace convec {

// Owns an array on any device, zeroed on construction.
class Buffer {
 public:
  Buffer() = default;
  // Throws ShapeError where the shape overflows, std::bad_alloc or DeviceError where there is no memory.
  Buffer(Device device, const Shape& shape, DType dtype = DType::float32)
      : device_(device), shape_(shape), dtype_(dtype) {
    if (device.type == DeviceType::cpu) {
      host_ = Tensor(shape, dtype);
      data_ = host_.view().data;
    } else {
      data_ = backend(device).allocate(device, static_cast<std::size_t>(shape.size()) * size_of(dtype));
    }
  }
  ~Buffer() {
    Backend* const owner = device_.type == DeviceType::cpu ? nullptr : find_backend(device_.type);
    if (owner != nullptr && data_ != nullptr) owner->release(device_, data_);
  }
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    swap(other);
    return *this;
  }

  void* data() const noexcept { return data_; }
  float* f32() const noexcept { return static_cast<float*>(data_); }
  const Shape& shape() const noexcept { return shape_; }
  DType dtype() const noexcept { return dtype_; }
  Device device() const noexcept { return device_; }
  std::size_t bytes() const { return data_ == nullptr ? 0 : static_cast<std::size_t>(shape_.size()) * size_of(dtype_); }

 private:
  void swap(Buffer& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(shape_, other.shape_);
    std::swap(dtype_, other.dtype_);
    std::swap(host_, other.host_);
    std::swap(data_, other.data_);
  }

  Device device_;
  Shape shape_;
  DType dtype_ = DType::float32;
  Tensor host_;
  void* data_ = nullptr;
};

}  // namespace convec
