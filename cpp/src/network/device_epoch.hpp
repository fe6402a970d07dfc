// An epoch on a device other than the CPU: the data go there as a whole or, where they do not fit, in pieces; a step is
// captured once and replayed; the host waits only when somebody wants to see the totals.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <tuple>
#include <vector>

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

  // A step's samples: those of this process, and of all.
  struct StepSize {
    std::int64_t own = 0;
    std::int64_t all = 0;
  };

  struct Plan {
    bool training = false;
    std::int64_t samples = 0;
    std::int64_t batch_size = 0;  // step n begins at sample n * batch_size
    std::int64_t steps = 0;
    std::int64_t batches = 0;  // that the totals at the end are of; those of all processes
    std::function<StepSize(std::int64_t step)> size;
    std::int64_t first_iteration = 0;  // steps taken before
    std::size_t metrics = 0;
    // The learning rate of the next step, where the options have none; looked at again after each progress.
    std::function<float()> learning_rate;
    // Launches one segment of a step. Segments are captured one by one.
    std::size_t segments = 1;
    std::function<void(const StepSize& size, std::size_t segment)> step;
    // After each segment, never captured; may be empty.
    std::function<void(std::size_t segment)> between;
    // A step was launched.
    std::function<void()> stepped;

    // ---- With other processes ----

    // Adds up numbers over them. Empty: there are none.
    std::function<void(std::vector<double>& numbers)> add_up;
    // All take the same steps, and see the totals of all after the same ones.
    bool in_step = false;
    // Returns when the stream's work is done; may be empty.
    std::function<void()> synchronize;
  };

  Totals run(const Dataset& data, const EpochOptions& options, const Plan& plan);

 private:
  struct Pinned;

  void upload(Buffer& to, const void* host, std::size_t bytes);
  // Rows [begin, begin + count) of the order, copied together; `from` is the host's.
  void upload_rows(Buffer& to, const ConstTensorView& from, const std::int64_t* order, std::int64_t begin,
                   std::int64_t count);
  void start(const EpochSource& source, const StepState& state);
  void launch(const Plan& plan, const StepSize& size);
  void wait(const Plan& plan);
  // `together`: the totals of all processes.
  Totals read(const Plan& plan, std::int64_t samples, std::int64_t batches, bool together);

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
  // The segments of a step, by training and the numbers of samples.
  std::map<std::tuple<bool, std::int64_t, std::int64_t>, std::vector<std::unique_ptr<StepGraph>>> graphs_;
};

}  // namespace convec
