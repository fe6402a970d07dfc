// The parameters of a network: values, gradients and optimizer state in one arena each, so that an optimizer step is
// one call and a gradient exchange one message.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <convec/network.hpp>
#include <convec/tensor.hpp>

#include "backend.hpp"
#include "network/buffer.hpp"

namespace convec {

class Parameters {
 public:
  // Declares a parameter; returns its index. `trained` is false for running statistics. To be followed by allocate().
  std::size_t add(std::size_t layer, std::string name, const Shape& shape, bool trained);
  void allocate();

  const std::vector<ParameterInfo>& infos() const noexcept { return infos_; }
  std::size_t count() const noexcept { return infos_.size(); }

  // Where the network runs: on its device.
  float* value(std::size_t index) { return (on_device() ? device_values_.f32() : values_.f32()) + offsets_[index]; }
  float* gradient(std::size_t index) {
    return (on_device() ? device_gradients_.f32() : gradients_.f32()) + offsets_[index];
  }
  // On the host, whatever the device has made of it since.
  float* host_value(std::size_t index) {
    pull();
    return values_.f32() + offsets_[index];
  }

  // Moves to a device; the context's stream is used for all copies from and to it.
  void to(const Context& context);
  // The host's copies have changed and go to the device, where there is one.
  void push();
  // The device's have, by a step.
  void changed_on_device() { host_is_old_ = on_device(); }
  std::int64_t size(std::size_t index) const { return infos_[index].shape.size(); }

  // Sets ParameterInfo::trainable of a layer's trained parameters.
  void set_trainable(std::size_t layer, bool trainable);
  bool layer_trainable(std::size_t layer) const;

  // Clears and allocates `slots` arrays of optimizer state.
  void allocate_slots(int slots);
  // On the host. Null for a running statistic and a slot that the optimizer has not.
  float* slot(std::size_t index, int slot);

  // ---- Exchange with other processes ----

  // Makes room behind the gradients for `totals` numbers and the running statistics, and clears all of it. Returns
  // whether what lies on the device has moved.
  bool begin_exchange(std::int64_t totals);
  // Gradients, totals and statistics, one after the other; on the host.
  float* exchange() { return gradients_.f32(); }
  std::int64_t exchange_size() const { return gradients_.shape().size(); }
  float* device_exchange() { return device_gradients_.f32(); }
  float* exchange_totals() { return gradients_.f32() + trained_size_; }
  void clear_gradients();
  // Where the gradients of this layer and those after it begin.
  std::int64_t gradients_from(std::size_t layer) const;
  // Running statistics to the exchange, `share` of them, and the sums from there.
  void write_statistics(std::int64_t totals, float share);
  void read_statistics(std::int64_t totals);
  // The same on the device, with no totals between.
  void clear_gradients_on_device();
  void write_statistics_on_device(float share);
  void read_statistics_on_device();

  // As step(), with the numbers of the step in the device's memory.
  void step_on_device(const OptimizerOptions& options, const StepState* state);

  // One optimizer step over all trainable parameters, gradient clipping included.
  void step(const Context& context, const OptimizerOptions& options, std::int64_t iteration);

 private:
  bool on_device() const noexcept { return context_.device.type != DeviceType::cpu; }
  // Brings the host's copies up to date.
  void pull();
  bool any_frozen() const;
  void make_device_slots();

  std::vector<ParameterInfo> infos_;
  std::vector<bool> trained_;
  std::vector<bool> frozen_layers_;
  std::vector<std::int64_t> offsets_;
  std::int64_t trained_size_ = 0;  // trained parameters come first in the arenas
  Tensor values_;
  Tensor gradients_;
  std::vector<Tensor> slots_;

  Context context_;
  bool host_is_old_ = false;
  Buffer device_values_;
  Buffer device_gradients_;
  std::vector<Buffer> device_slots_;
  Buffer clip_scales_;  // one a parameter
};

}  // namespace convec
