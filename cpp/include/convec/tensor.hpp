/// @file tensor.hpp
/// Element types, devices, shapes, non-owning views and an owning buffer. Everything is C-contiguous:
/// activations NHWC, filters HWIO (rows, columns, in, out), dense weights (in, out).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>

#include <convec/export.hpp>

namespace convec {

/// Element types a view can have. Convolutions and dense layers take bfloat16; nothing else does.
enum class DType : std::uint8_t { float32, float64, int32, int64, uint8, bfloat16 };

/// An element of a bfloat16 view.
struct BFloat16 {
  std::uint16_t bits;  ///< the upper half of a float32
};

/// Bytes of one element.
CONVEC_API std::size_t size_of(DType dtype) noexcept;
/// "float32", "int64", ...
CONVEC_API const char* name_of(DType dtype) noexcept;

/// Kinds of devices.
enum class DeviceType : std::uint8_t { cpu, cuda };

/// Where memory lives.
struct Device {
  DeviceType type = DeviceType::cpu;  ///< kind of device
  int index = 0;                      ///< which of several, from 0
  /// The same device.
  friend bool operator==(Device a, Device b) noexcept { return a.type == b.type && a.index == b.index; }
  friend bool operator!=(Device a, Device b) noexcept { return !(a == b); }  ///< another device
};

/// "cpu", "cuda:0", ...
CONVEC_API std::string to_string(Device device);

/// Up to eight extents. A rank of 0 is a scalar.
class CONVEC_API Shape {
 public:
  static constexpr int max_rank = 8;  ///< most dimensions

  Shape() = default;
  /// @throws ShapeError more than eight extents.
  Shape(std::initializer_list<std::int64_t> extents);
  /// @throws ShapeError more than eight extents.
  Shape(const std::int64_t* extents, std::size_t rank);

  int rank() const noexcept { return rank_; }  ///< number of dimensions
  /// Extent of an axis.
  std::int64_t operator[](int axis) const noexcept { return extents_[static_cast<std::size_t>(axis)]; }
  const std::int64_t* begin() const noexcept { return extents_.data(); }        ///< first extent
  const std::int64_t* end() const noexcept { return extents_.data() + rank_; }  ///< behind the last extent

  /// Number of elements.
  /// @throws ShapeError an extent is negative, or the product (or its size in bytes at 8 bytes an element)
  /// does not fit 63 bits.
  std::int64_t size() const;

  /// This shape with one more extent in front.
  Shape with_batch(std::int64_t batch) const;
  /// This shape without its first extent.
  Shape without_batch() const;

  /// Whether rank and extents are the same.
  friend bool operator==(const Shape& a, const Shape& b) noexcept {
    if (a.rank_ != b.rank_) return false;
    for (int axis = 0; axis < a.rank_; ++axis)
      if (a[axis] != b[axis]) return false;
    return true;
  }
  friend bool operator!=(const Shape& a, const Shape& b) noexcept { return !(a == b); }  ///< rank or an extent differs

 private:
  std::array<std::int64_t, max_rank> extents_{};
  int rank_ = 0;
};

/// "(32, 28, 28, 1)"
CONVEC_API std::string to_string(const Shape& shape);

/// Read-only view of C-contiguous memory that somebody else owns. A default-constructed view means 'absent'.
struct ConstTensorView {
  const void* data = nullptr;    ///< first element, or null
  DType dtype = DType::float32;  ///< of the elements
  Shape shape;                   ///< extents
  Device device;                 ///< whose memory it is

  ConstTensorView() = default;
  /// A view of memory that outlives it.
  ConstTensorView(const void* data_, DType dtype_, Shape shape_, Device device_ = {})
      : data(data_), dtype(dtype_), shape(shape_), device(device_) {}
  /// A view of float32 in host memory.
  ConstTensorView(const float* data_, Shape shape_) : data(data_), dtype(DType::float32), shape(shape_) {}

  bool present() const noexcept { return data != nullptr; }                      ///< false: absent
  const float* f32() const noexcept { return static_cast<const float*>(data); }  ///< the elements, of a float32 view
  /// The elements, of a bfloat16 view.
  const BFloat16* bf16() const noexcept { return static_cast<const BFloat16*>(data); }
};

/// Writable view of C-contiguous memory that somebody else owns.
struct TensorView {
  void* data = nullptr;          ///< first element, or null
  DType dtype = DType::float32;  ///< of the elements
  Shape shape;                   ///< extents
  Device device;                 ///< whose memory it is

  TensorView() = default;
  /// A view of memory that outlives it.
  TensorView(void* data_, DType dtype_, Shape shape_, Device device_ = {})
      : data(data_), dtype(dtype_), shape(shape_), device(device_) {}
  /// A view of float32 in host memory.
  TensorView(float* data_, Shape shape_) : data(data_), dtype(DType::float32), shape(shape_) {}

  bool present() const noexcept { return data != nullptr; }          ///< false: absent
  float* f32() const noexcept { return static_cast<float*>(data); }  ///< the elements, of a float32 view
  /// The elements, of a bfloat16 view.
  BFloat16* bf16() const noexcept { return static_cast<BFloat16*>(data); }
  // A writable view serves wherever a read-only one is asked for.
  /// The same memory, read-only.
  operator ConstTensorView() const noexcept {  // NOLINT(google-explicit-constructor)
    return {data, dtype, shape, device};
  }
};

/// Owns 64-byte aligned host memory, zeroed on construction.
class CONVEC_API Tensor {
 public:
  Tensor() = default;
  /// @throws ShapeError the shape overflows. @throws std::bad_alloc there is no memory.
  explicit Tensor(const Shape& shape, DType dtype = DType::float32);

  TensorView view() noexcept { return {data_.get(), dtype_, shape_, {}}; }             ///< all of it
  ConstTensorView view() const noexcept { return {data_.get(), dtype_, shape_, {}}; }  ///< all of it
  float* f32() noexcept { return reinterpret_cast<float*>(data_.get()); }  ///< the elements, of a float32 tensor
  /// The elements, of a float32 tensor.
  const float* f32() const noexcept { return reinterpret_cast<const float*>(data_.get()); }
  const Shape& shape() const noexcept { return shape_; }  ///< extents
  DType dtype() const noexcept { return dtype_; }         ///< of the elements

 private:
  struct Free {
    void operator()(std::byte* memory) const noexcept;
  };
  std::unique_ptr<std::byte[], Free> data_;
  Shape shape_;
  DType dtype_ = DType::float32;
};

}  // namespace convec
