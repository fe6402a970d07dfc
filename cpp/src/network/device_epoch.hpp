// An epoch on a device other than the CPU: the data go there as a whole or, where they do not fit, in pieces; a step is
// captured once and replayed; the host waits only when somebody wants to see the totals.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <utility>

#include <convec/network.hpp>

#include "backend.hpp"
#include "network/buffer.hpp"
#include "network/objective.hpp"

namespace convec {

class DeviceEpoch {
 public:
  // Makes a stream of its own.
  explicit DeviceEpoch(Device device);
  ~DeviceEpoch();
  DeviceEpoch(const DeviceEpoch&) = delete;
  DeviceEpoch& operator=(const DeviceEpoch&) = delete;

  const Context& context() const noexcept { return context_; }
  // Of the step that is being launched, in the device's memory.
  const EpochSource* source() const { return static_cast<const EpochSource*>(source_.data()); }
  StepState* state() const { return static_cast<StepState*>(state_.data()); }
  // Sums of (value, weight): the loss, then the metrics.
  double* totals() const { return static_cast<double*>(totals_.data()); }

  // What was captured is out of date: memory, settings or layers have changed.
  void forget_graphs() noexcept { graphs_.clear(); }

  struct Plan {
    bool training = false;
    std::int64_t samples = 0;
    std::int64_t batch_size = 0;
    std::int64_t first_iteration = 0;  // steps taken before
    std::size_t metrics = 0;
    // The learning rate of the next step, where the options have none; looked at again after each progress.
    std::function<float()> learning_rate;
    // Launches one step of `count` samples.
    std::function<void(std::int64_t count)> step;
    // A step was launched.
    std::function<void()> stepped;
  };

  Totals run(const Dataset& data, const EpochOptions& options, const Plan& plan);

 private:
  struct Pinned;

  void upload(Buffer& to, const void* host, std::size_t bytes);
  // Rows [begin, begin + count) of the order, copied together; `from` is the host's.
  void upload_rows(Buffer& to, const ConstTensorView& from, const std::int64_t* order, std::int64_t begin,
                   std::int64_t count);
  void start(const EpochSource& source, const StepState& state);
  void launch(const Plan& plan, std::int64_t count);
  Totals read(const Plan& plan, std::int64_t samples, std::int64_t batches);

  Context context_;
  Buffer source_;
  Buffer state_;
  Buffer totals_;
  Buffer inputs_;
  Buffer targets_;
  Buffer weights_;
  Buffer order_;
  Buffer rates_;
  std::unique_ptr<Pinned> staging_;
  // By training and number of samples.
  std::map<std::pair<bool, std::int64_t>, std::unique_ptr<StepGraph>> graphs_;
};

}  // namespace convec
