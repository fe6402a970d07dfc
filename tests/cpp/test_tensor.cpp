// Shapes, views and the owning buffer.
#include <cstdint>
#include <limits>
#include <utility>

#include <convec/error.hpp>
#include <convec/tensor.hpp>

#include "test.hpp"

using convec::DType;
using convec::Shape;
using convec::ShapeError;
using convec::Tensor;

namespace {

constexpr std::int64_t huge = std::numeric_limits<std::int64_t>::max();

}  // namespace

TEST(size_is_the_product_of_extents) {
  CHECK_EQ(Shape({2, 3, 4}).size(), 24);
  CHECK_EQ(Shape{}.size(), 1);
  CHECK_EQ(Shape({5, 0, 7}).size(), 0);
}

TEST(size_refuses_overflow) {
  CHECK_THROWS(Shape({huge, 2}).size(), ShapeError, "too large");
  CHECK_THROWS(Shape({1LL << 30, 1LL << 30, 2}).size(), ShapeError, "too large");
  // Overflow hides behind no zero.
  CHECK_THROWS(Shape({0, huge, huge}).size(), ShapeError, "too large");
  CHECK_THROWS(Shape({huge / 8 + 1}).size(), ShapeError, "too large");
  CHECK_EQ(Shape({huge / 8}).size(), huge / 8);
}

TEST(size_refuses_negative_extents) {
  CHECK_THROWS(Shape({2, -1}).size(), ShapeError, "negative");
  CHECK_THROWS(Shape({-2, -3}).size(), ShapeError, "negative");
}

TEST(rank_is_limited) {
  CHECK_EQ(Shape({1, 1, 1, 1, 1, 1, 1, 1}).rank(), 8);
  CHECK_THROWS(Shape({1, 1, 1, 1, 1, 1, 1, 1, 1}), ShapeError, "at most 8");
  CHECK_THROWS(Shape({1, 1, 1, 1, 1, 1, 1, 1}).with_batch(3), ShapeError, "at most 8");
}

TEST(batches_come_and_go) {
  const Shape sample{28, 28, 1};
  CHECK_EQ(to_string(sample.with_batch(32)), "(32, 28, 28, 1)");
  CHECK(sample.with_batch(32).without_batch() == sample);
  CHECK(sample != sample.with_batch(1));
  CHECK(Shape({2, 3}) != Shape({3, 2}));
  CHECK_EQ(to_string(Shape({3})), "(3,)");
  CHECK_EQ(to_string(Shape{}), "()");
}

TEST(tensors_are_aligned_and_zeroed) {
  for (const std::int64_t size : {1, 3, 1000}) {
    const Tensor tensor(Shape{size});
    CHECK_EQ(reinterpret_cast<std::uintptr_t>(tensor.f32()) % 64, 0U);
    for (std::int64_t i = 0; i < size; ++i) CHECK_EQ(tensor.f32()[i], 0.0F);
  }
  CHECK(Tensor(Shape{3}, DType::int64).view().dtype == DType::int64);
}

TEST(tensors_refuse_absurd_shapes) { CHECK_THROWS(Tensor(Shape({huge, huge})), ShapeError, "too large"); }

TEST(tensors_move) {
  Tensor first(Shape{4});
  first.f32()[2] = 7.0F;
  const float* memory = first.f32();
  const Tensor second = std::move(first);
  CHECK_EQ(second.f32(), memory);
  CHECK_EQ(second.f32()[2], 7.0F);
}

TEST(element_types_have_sizes_and_names) {
  const std::pair<DType, std::size_t> sizes[] = {
      {DType::float32, 4}, {DType::float64, 8}, {DType::int32, 4}, {DType::int64, 8}, {DType::uint8, 1}};
  for (const auto& [dtype, size] : sizes) CHECK_EQ(size_of(dtype), size);
  CHECK_EQ(std::string(name_of(DType::uint8)), "uint8");
}

TEST(views_are_absent_or_present) {
  CHECK(!convec::ConstTensorView{}.present());
  const float x = 1.0F;
  CHECK(convec::ConstTensorView(&x, Shape{1}).present());
}

TEST_MAIN()
