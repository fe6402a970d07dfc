// What a kind of device other than the CPU brings along: its rows of the op table, its memory, and what a network needs
// to run whole steps there without the host. The core knows such devices through this interface only; convec_cuda
// implements it, and the extension module _cuda hands it over.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <convec/context.hpp>
#include <convec/ops/optimizer.hpp>
#include <convec/tensor.hpp>

#include "op_table.hpp"

namespace convec {

struct DeviceInfo {
  std::string name;
  int major = 0;  // compute capability
  int minor = 0;
  int multiprocessors = 0;
  std::size_t memory = 0;  // bytes in all
};

// The numbers of an optimizer step that change from one to the next. They lie in the device's memory, so that a step
// that was captured once can be replayed.
struct StepState {
  std::int64_t step = -1;       // of this epoch, from 0
  std::int64_t iteration = 0;   // of the optimizer, from 1
  float learning_rate = 0.0F;   // of this step
  float corrected_rate = 0.0F;  // with Adam's bias correction
};

// Where the batches of an epoch come from, in the device's memory.
struct EpochSource {
  const void* inputs = nullptr;  // float32, or uint8 taken as the numbers 0 to 255
  const void* targets = nullptr;
  const float* weights = nullptr;         // one a sample, or null
  const std::int64_t* order = nullptr;    // or null: 0, 1, 2, ...
  const float* learning_rates = nullptr;  // one a step, or null: that of the state
};

// A batch gathered from an EpochSource.
struct GatheredBatch {
  std::int64_t batch_size = 0;  // of the epoch: the batch starts at sample step * batch_size
  std::int64_t size = 0;        // of this batch
  std::int64_t input_size = 0;  // elements a sample
  DType input_type = DType::float32;
  std::int64_t target_bytes = 0;  // a sample
  float* inputs = nullptr;
  void* targets = nullptr;
  float* weights = nullptr;  // null: none
};

// Work recorded on a stream.
class StepGraph {
 public:
  StepGraph() = default;
  virtual ~StepGraph();
  StepGraph(const StepGraph&) = delete;
  StepGraph& operator=(const StepGraph&) = delete;
  virtual void replay(const Context& context) = 0;
};

// All functions throw DeviceError where the device fails. A context's stream orders the work; nothing waits for it but
// what says so.
class Backend {
 public:
  Backend() = default;
  virtual ~Backend();
  Backend(const Backend&) = delete;
  Backend& operator=(const Backend&) = delete;

  virtual const OpTable& ops() const noexcept = 0;

  virtual int device_count() const = 0;
  virtual DeviceInfo device_info(int index) const = 0;
  // Device that the memory belongs to; throws where it is not a device's.
  virtual Device device_of(const void* memory) const = 0;

  // ---- Memory and streams ----

  // Zeroed, aligned to 256 bytes. Throws DeviceError that says how much was asked for and how much is free.
  virtual void* allocate(Device device, std::size_t bytes) = 0;
  virtual void release(Device device, void* memory) noexcept = 0;
  virtual std::size_t free_memory(Device device) const = 0;
  // Host memory that the device reads and writes at full speed.
  virtual void* allocate_pinned(std::size_t bytes) = 0;
  virtual void release_pinned(void* memory) noexcept = 0;
  virtual void* create_stream(Device device) = 0;
  // Waits for the stream's work and forgets its scratch memory.
  virtual void destroy_stream(Device device, void* stream) noexcept = 0;
  virtual void copy_in(const Context& context, void* to, const void* host, std::size_t bytes) = 0;
  virtual void copy_out(const Context& context, void* host, const void* from, std::size_t bytes) = 0;
  virtual void copy(const Context& context, void* to, const void* from, std::size_t bytes) = 0;
  virtual void clear(const Context& context, void* memory, std::size_t bytes) = 0;
  // Until the stream's work is done.
  virtual void wait(const Context& context) = 0;
  // Work launched on the context from now on runs after what `stream` holds now.
  virtual void wait_for(const Context& context, void* stream) = 0;

  // ---- Whole steps of a network ----

  // Records what `work` launches on the context's stream, which is not run.
  virtual std::unique_ptr<StepGraph> capture(const Context& context, const std::function<void()>& work) = 0;
  // state: the next step and iteration, and its learning rates.
  virtual void begin_step(const Context& context, const OptimizerOptions& options, const EpochSource* source,
                          StepState* state) = 0;
  virtual void gather(const Context& context, const EpochSource* source, const StepState* state,
                      const GatheredBatch& batch) = 0;
  // totals[0] += sum of weights[i] * values[i], totals[1] += sum of weights[i]; null weights are 1. Where `gradients`
  // is not null: gradients[i] = weights[i] / mean_over.
  virtual void add_to_totals(const Context& context, std::int64_t size, std::int64_t mean_over, const float* values,
                             const float* weights, double* totals, float* gradients) = 0;
  virtual void dropout_at_step(const Context& context, float rate, std::uint64_t seed, const StepState* state,
                               std::int64_t size, const float* input, float* output) = 0;
  // As OpTable::optimizer_step, with iteration and learning rate from the state and the factor on the gradient (null:
  // 1) from the device's memory.
  virtual void optimizer_at_step(const Context& context, const OptimizerOptions& options, const StepState* state,
                                 std::int64_t size, float* parameter, const float* gradient, float* const* slots,
                                 const float* gradient_scale) = 0;
  // scale = the factor that brings arrays of these sizes to a common norm of at most `norm`.
  virtual void clip_scale(const Context& context, const std::vector<const float*>& arrays,
                          const std::vector<std::int64_t>& sizes, float norm, float* scale) = 0;
};

// The backend of a kind of device, or null.
Backend* find_backend(DeviceType type) noexcept;
// The same, throws DeviceError where there is none.
Backend& backend(Device device);
// Replaces the backend of CUDA devices (null: takes it away), which must outlive its use.
void set_backend(Backend* backend) noexcept;

}  // namespace convec
