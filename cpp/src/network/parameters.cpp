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
  pull();
  std::vector<Tensor> made;  // where there is no memory, what was there stays
  made.reserve(static_cast<std::size_t>(slots));
  for (int slot = 0; slot < slots; ++slot) made.emplace_back(Shape{trained_size_});
  slots_ = std::move(made);
  if (!on_device()) return;
  make_device_slots();
}

void Parameters::make_device_slots() {
  device_slots_.clear();
  device_slots_.reserve(slots_.size());
  for (const Tensor& slot : slots_) device_slots_.emplace_back(context_.device, slot.shape());
}

void Parameters::to(const Context& context) {
  pull();
  Buffer values;
  Buffer gradients;
  Buffer scales;
  if (context.device.type != DeviceType::cpu) {
    values = Buffer(context.device, values_.shape());
    gradients = Buffer(context.device, gradients_.shape());
    scales = Buffer(context.device, {static_cast<std::int64_t>(count()) + 1});
  }
  context_ = context;
  device_values_ = std::move(values);
  device_gradients_ = std::move(gradients);
  clip_scales_ = std::move(scales);
  device_slots_.clear();
  if (!on_device()) return;
  make_device_slots();
  push();
}

void Parameters::push() {
  if (!on_device()) return;
  Backend& owner = backend(context_.device);
  owner.copy_in(context_, device_values_.data(), values_.f32(), device_values_.bytes());
  for (std::size_t slot = 0; slot < slots_.size(); ++slot)
    owner.copy_in(context_, device_slots_[slot].data(), slots_[slot].f32(), device_slots_[slot].bytes());
  owner.wait(context_);
}

void Parameters::pull() {
  if (!host_is_old_) return;
  Backend& owner = backend(context_.device);
  owner.copy_out(context_, values_.f32(), device_values_.data(), device_values_.bytes());
  for (std::size_t slot = 0; slot < slots_.size(); ++slot)
    owner.copy_out(context_, slots_[slot].f32(), device_slots_[slot].data(), device_slots_[slot].bytes());
  owner.wait(context_);
  host_is_old_ = false;
}

bool Parameters::any_frozen() const {
  return std::find(frozen_layers_.begin(), frozen_layers_.end(), true) != frozen_layers_.end();
}

float* Parameters::slot(std::size_t index, int slot) {
  pull();
  if (!trained_[index] || slot < 0 || static_cast<std::size_t>(slot) >= slots_.size()) return nullptr;
  return slots_[static_cast<std::size_t>(slot)].f32() + offsets_[index];
}

bool Parameters::begin_exchange(std::int64_t totals) {
  const Shape shape{trained_size_ + totals + values_.shape().size() - trained_size_};
  if (gradients_.shape() != shape) gradients_ = Tensor(shape);
  // What nobody writes, such as gradients of frozen layers, is added up as well.
  std::fill_n(gradients_.f32(), shape.size(), 0.0F);
  if (!on_device()) return false;
  const bool moved = device_gradients_.shape() != shape;
  if (moved) device_gradients_ = Buffer(context_.device, shape);
  backend(context_.device).clear(context_, device_gradients_.data(), device_gradients_.bytes());
  return moved;
}

void Parameters::clear_gradients() { std::fill_n(gradients_.f32(), trained_size_, 0.0F); }

std::int64_t Parameters::gradients_from(std::size_t layer) const {
  for (std::size_t index = 0; index < count(); ++index)
    if (trained_[index] && infos_[index].layer >= layer) return offsets_[index];
  return trained_size_;
}

void Parameters::write_statistics(std::int64_t totals, float share) {
  const float* from = values_.f32() + trained_size_;
  float* to = gradients_.f32() + trained_size_ + totals;
  for (std::int64_t i = 0; i < values_.shape().size() - trained_size_; ++i) to[i] = share * from[i];
}

void Parameters::read_statistics(std::int64_t totals) {
  const float* from = gradients_.f32() + totals;
  for (std::size_t index = 0; index < count(); ++index)
    // Those of a frozen layer have not changed.
    if (!trained_[index] && layer_trainable(infos_[index].layer))
      std::copy_n(from + offsets_[index], size(index), values_.f32() + offsets_[index]);
}

void Parameters::clear_gradients_on_device() {
  backend(context_.device)
      .clear(context_, device_gradients_.data(), static_cast<std::size_t>(trained_size_) * sizeof(float));
}

void Parameters::write_statistics_on_device(float share) {
  const std::int64_t count = values_.shape().size() - trained_size_;
  if (count > 0)
    backend(context_.device)
        .ops()
        .rescale(context_, share, 0.0F, count, device_values_.f32() + trained_size_,
                 device_gradients_.f32() + trained_size_);
}

void Parameters::read_statistics_on_device() {
  for (std::size_t index = 0; index < count(); ++index)
    if (!trained_[index] && layer_trainable(infos_[index].layer))
      backend(context_.device)
          .copy(context_, device_values_.f32() + offsets_[index], device_gradients_.f32() + offsets_[index],
                static_cast<std::size_t>(size(index)) * sizeof(float));
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
  if (!any_frozen() && options.clipnorm <= 0.0F) {
    if (trained_size_ > 0) update(0, trained_size_, scale);
    return;
  }
  for (std::size_t index = 0; index < count(); ++index) {
    if (!infos_[index].trainable) continue;
    const float own = options.clipnorm > 0.0F ? scale_to(squares(index), options.clipnorm) : scale;
    update(offsets_[index], size(index), own);
  }
}

void Parameters::step_on_device(const OptimizerOptions& options, const StepState* state) {
  Backend& owner = backend(context_.device);
  const auto update = [&](std::int64_t offset, std::int64_t size, const float* scale) {
    std::vector<float*> slots;
    slots.reserve(device_slots_.size());
    for (const Buffer& slot : device_slots_) slots.push_back(slot.f32() + offset);
    owner.optimizer_at_step(context_, options, state, size, device_values_.f32() + offset,
                            device_gradients_.f32() + offset, slots.data(), scale);
  };
  float* const common = options.global_clipnorm > 0.0F ? clip_scales_.f32() + count() : nullptr;
  if (common != nullptr) {
    std::vector<const float*> arrays;
    std::vector<std::int64_t> sizes;
    for (std::size_t index = 0; index < count(); ++index) {
      if (!infos_[index].trainable) continue;
      arrays.push_back(gradient(index));
      sizes.push_back(size(index));
    }
    owner.clip_scale(context_, arrays, sizes, options.global_clipnorm, common);
  }
  if (!any_frozen() && options.clipnorm <= 0.0F) {
    if (trained_size_ > 0) update(0, trained_size_, common);
    return;
  }
  for (std::size_t index = 0; index < count(); ++index) {
    if (!infos_[index].trainable) continue;
    float* scale = common;
    if (options.clipnorm > 0.0F) {
      scale = clip_scales_.f32() + index;
      owner.clip_scale(context_, {gradient(index)}, {size(index)}, options.clipnorm, scale);
    }
    update(offsets_[index], size(index), scale);
  }
}

}  // namespace convec
