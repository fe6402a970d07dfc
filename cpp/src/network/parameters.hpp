// The parameters of a network: values, gradients and optimizer state in one arena each, so that an optimizer step is
// one call and a gradient exchange one message.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <convec/network.hpp>
#include <convec/tensor.hpp>

namespace convec {

class Parameters {
 public:
  // Declares a parameter; returns its index. `trained` is false for running statistics. To be followed by allocate().
  std::size_t add(std::size_t layer, std::string name, const Shape& shape, bool trained);
  void allocate();

  const std::vector<ParameterInfo>& infos() const noexcept { return infos_; }
  std::size_t count() const noexcept { return infos_.size(); }

  float* value(std::size_t index) { return values_.f32() + offsets_[index]; }
  const float* value(std::size_t index) const { return values_.f32() + offsets_[index]; }
  float* gradient(std::size_t index) { return gradients_.f32() + offsets_[index]; }
  std::int64_t size(std::size_t index) const { return infos_[index].shape.size(); }

  // Sets ParameterInfo::trainable of a layer's trained parameters.
  void set_trainable(std::size_t layer, bool trainable);
  bool layer_trainable(std::size_t layer) const;

  // Clears and allocates `slots` arrays of optimizer state.
  void allocate_slots(int slots);
  // Null for a running statistic and a slot that the optimizer has not.
  float* slot(std::size_t index, int slot);

  // One optimizer step over all trainable parameters, gradient clipping included.
  void step(const Context& context, const OptimizerOptions& options, std::int64_t iteration);

 private:
  std::vector<ParameterInfo> infos_;
  std::vector<bool> trained_;
  std::vector<bool> frozen_layers_;
  std::vector<std::int64_t> offsets_;
  std::int64_t trained_size_ = 0;  // trained parameters come first in the arenas
  Tensor values_;
  Tensor gradients_;
  std::vector<Tensor> slots_;
};

}  // namespace convec
