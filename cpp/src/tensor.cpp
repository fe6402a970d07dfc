#include <convec/tensor.hpp>

#include <cstring>
#include <new>

#include <convec/error.hpp>

namespace convec {

namespace {

constexpr std::align_val_t alignment{64};
// Kernels may read one vector past the end.
constexpr std::size_t padding_bytes = 256;

}  // namespace

std::size_t size_of(DType dtype) noexcept {
  switch (dtype) {
    case DType::float32:
    case DType::int32:
      return 4;
    case DType::float64:
    case DType::int64:
      return 8;
    case DType::bfloat16:
      return 2;
    case DType::uint8:
      return 1;
  }
  return 0;
}

const char* name_of(DType dtype) noexcept {
  switch (dtype) {
    case DType::float32:
      return "float32";
    case DType::float64:
      return "float64";
    case DType::int32:
      return "int32";
    case DType::int64:
      return "int64";
    case DType::uint8:
      return "uint8";
    case DType::bfloat16:
      return "bfloat16";
  }
  return "?";
}

std::string to_string(Device device) {
  return device.type == DeviceType::cpu ? "cpu" : "cuda:" + std::to_string(device.index);
}

Shape::Shape(std::initializer_list<std::int64_t> extents) : Shape(extents.begin(), extents.size()) {}

Shape::Shape(const std::int64_t* extents, std::size_t rank) {
  if (rank > static_cast<std::size_t>(max_rank))
    throw ShapeError("an array has " + std::to_string(rank) + " dimensions, but convec handles at most 8");
  rank_ = static_cast<int>(rank);
  for (std::size_t axis = 0; axis < rank; ++axis) extents_[axis] = extents[axis];
}

std::int64_t Shape::size() const {
  constexpr std::int64_t limit = INT64_MAX / 8;
  std::int64_t product = 1;
  bool zero = false;
  for (const std::int64_t extent : *this) {
    if (extent < 0) throw ShapeError("shape " + to_string(*this) + " has a negative extent");
    if (extent == 0) {
      zero = true;
      continue;
    }
    if (product > limit / extent)
      throw ShapeError("shape " + to_string(*this) + " is too large: its size in bytes does not fit 63 bits");
    product *= extent;
  }
  return zero ? 0 : product;
}

Shape Shape::with_batch(std::int64_t batch) const {
  std::array<std::int64_t, max_rank + 1> extents{batch};
  for (int axis = 0; axis < rank_; ++axis) extents[static_cast<std::size_t>(axis) + 1] = (*this)[axis];
  return {extents.data(), static_cast<std::size_t>(rank_) + 1};
}

Shape Shape::without_batch() const {
  return rank_ == 0 ? Shape{} : Shape{extents_.data() + 1, static_cast<std::size_t>(rank_) - 1};
}

std::string to_string(const Shape& shape) {
  std::string text = "(";
  for (int axis = 0; axis < shape.rank(); ++axis) {
    if (axis > 0) text += ", ";
    text += std::to_string(shape[axis]);
  }
  if (shape.rank() == 1) text += ',';
  return text + ')';
}

Tensor::Tensor(const Shape& shape, DType dtype) : shape_(shape), dtype_(dtype) {
  const std::size_t bytes = static_cast<std::size_t>(shape.size()) * size_of(dtype) + padding_bytes;
  data_.reset(static_cast<std::byte*>(::operator new[](bytes, alignment)));
  std::memset(data_.get(), 0, bytes);
}

void Tensor::Free::operator()(std::byte* memory) const noexcept { ::operator delete[](memory, alignment); }

}  // namespace convec
