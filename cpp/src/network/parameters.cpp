#include "network/parameters.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>

#include <convec/error.hpp>

namespace convec {

namespace {

// Every parameter starts at a cache line.
constexpr std::int64_t alignment = 16;

}  // namespace

std::size_t Parameters::add(std::size_t layer, std::string name, const Shape& shape, bool trained) {
  infos_.push_back({layer, std::move(name), shape, trained});
  trained_.push_back(trained);
  return infos_.size() - 1;
}

void Parameters::allocate() {
  offsets_.assign(infos_.size(), 0);
  constexpr std::int64_t limit = INT64_MAX / 8;
  std::int64_t offset = 0;
  for (const bool trained : {true, false}) {
    for (std::size_t index = 0; index < infos_.size(); ++index) {
      if (trained_[index] != trained) continue;
      offsets_[index] = offset;
      const std::int64_t padded = (size(index) + alignment - 1) / alignment * alignment;
      if (offset > limit - padded)
        throw ShapeError("the parameters of all layers together do not fit 63 bits of bytes");
      offset += padded;
    }
    if (trained) trained_size_ = offset;
  }
  values_ = Tensor({offset});
  gradients_ = Tensor({trained_size_});
}

void Parameters::set_trainable(std::size_t layer, bool trainable) {
  if (frozen_layers_.size() <= layer) frozen_layers_.resize(layer + 1, false);
  frozen_layers_[layer] = !trainable;
  for (std::size_t index = 0; index < infos_.size(); ++index)
    if (infos_[index].layer == layer) infos_[index].trainable = trainable && trained_[index];
}

bool Parameters::layer_trainable(std::size_t layer) const {
  return layer >= frozen_layers_.size() || !frozen_layers_[layer];
}

void Parameters::allocate_slots(int slots) {
  slots_.clear();
  for (int slot = 0; slot < slots; ++slot) slots_.emplace_back(Shape{trained_size_});
}

float* Parameters::slot(std::size_t index, int slot) {
  if (!trained_[index] || slot < 0 || static_cast<std::size_t>(slot) >= slots_.size()) return nullptr;
  return slots_[static_cast<std::size_t>(slot)].f32() + offsets_[index];
}

void Parameters::step(const Context& context, const OptimizerOptions& options, std::int64_t iteration) {
  const auto update = [&](std::int64_t offset, std::int64_t size, float scale) {
    std::vector<TensorView> slots;
    slots.reserve(slots_.size());
    for (Tensor& slot : slots_) slots.emplace_back(slot.f32() + offset, Shape{size});
    optimizer_step(context, options, iteration, {values_.f32() + offset, {size}}, {gradients_.f32() + offset, {size}},
                   slots.data(), scale);
  };
  const auto squares = [&](std::size_t index) {
    return sum_of_squares(context, {gradient(index), Shape{size(index)}});
  };
  const auto scale_to = [](double square, float norm) {
    const double length = std::sqrt(square);
    return length > norm ? static_cast<float>(norm / length) : 1.0F;
  };

  float scale = 1.0F;
  if (options.global_clipnorm > 0.0F) {
    double total = 0.0;
    for (std::size_t index = 0; index < count(); ++index)
      if (infos_[index].trainable) total += squares(index);
    scale = scale_to(total, options.global_clipnorm);
  }
  // Where nothing is frozen and no parameter has a norm of its own, the arena is one array.
  const bool frozen = std::find(frozen_layers_.begin(), frozen_layers_.end(), true) != frozen_layers_.end();
  if (!frozen && options.clipnorm <= 0.0F) {
    if (trained_size_ > 0) update(0, trained_size_, scale);
    return;
  }
  for (std::size_t index = 0; index < count(); ++index) {
    if (!infos_[index].trainable) continue;
    const float own = options.clipnorm > 0.0F ? scale_to(squares(index), options.clipnorm) : scale;
    update(offsets_[index], size(index), own);
  }
}

}  // namespace convec
