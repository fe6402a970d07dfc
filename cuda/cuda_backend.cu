#include "cuda_backend.hpp"

#include <convec/cuda.hpp>

#include "cuda_table.hpp"
#include "network.hpp"
#include "runtime.hpp"

namespace convec::cuda {

namespace {

class Graph final : public StepGraph {
 public:
  Graph(int device, cudaGraph_t graph) : device_(device) {
    const cudaError_t status = cudaGraphInstantiate(&executable_, graph, 0);
    static_cast<void>(cudaGraphDestroy(graph));
    check(status, "cudaGraphInstantiate");
  }
  ~Graph() override { static_cast<void>(cudaGraphExecDestroy(executable_)); }

  void replay(const Context& context) override {
    const DeviceGuard guard(device_);
    check(cudaGraphLaunch(executable_, stream_of(context)), "cudaGraphLaunch");
  }

 private:
  int device_;
  cudaGraphExec_t executable_ = nullptr;
};

class CudaBackend final : public Backend {
 public:
  CudaBackend() {
    fill_conv2d(table_);
    fill_dense(table_);
    fill_pool2d(table_);
    fill_activation(table_);
    fill_loss(table_);
    fill_batch_norm(table_);
    fill_optimizer(table_);
  }

  const OpTable& ops() const noexcept override { return table_; }

  int device_count() const override {
    int count = 0;
    check(cudaGetDeviceCount(&count), "cudaGetDeviceCount");
    return count;
  }

  DeviceInfo device_info(int index) const override {
    cudaDeviceProp properties{};
    check(cudaGetDeviceProperties(&properties, index), "cudaGetDeviceProperties");
    return {properties.name, properties.major, properties.minor, properties.multiProcessorCount,
            properties.totalGlobalMem};
  }

  Device device_of(const void* memory) const override {
    cudaPointerAttributes attributes{};
    check(cudaPointerGetAttributes(&attributes, memory), "cudaPointerGetAttributes");
    if (attributes.type != cudaMemoryTypeDevice && attributes.type != cudaMemoryTypeManaged)
      throw DeviceError("the address is not one of a CUDA device's memory");
    return {DeviceType::cuda, attributes.device};
  }

  void* allocate(Device device, std::size_t bytes) override {
    void* memory = allocate_bytes(device.index, bytes);
    const DeviceGuard guard(device.index);
    const cudaError_t status = cudaMemset(memory, 0, bytes);
    if (status != cudaSuccess) release_bytes(device.index, memory);
    check(status, "cudaMemset");
    // The fill runs on the default stream, which other streams do not wait for.
    check(cudaStreamSynchronize(nullptr), "cudaStreamSynchronize");
    return memory;
  }

  void release(Device device, void* memory) noexcept override { release_bytes(device.index, memory); }

  std::size_t free_memory(Device device) const override {
    const DeviceGuard guard(device.index);
    std::size_t free = 0;
    std::size_t total = 0;
    check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
    return free;
  }

  void* allocate_pinned(std::size_t bytes) override { return allocate_pinned_bytes(bytes); }
  void release_pinned(void* memory) noexcept override { release_pinned_bytes(memory); }

  void* create_stream(Device device) override {
    const DeviceGuard guard(device.index);
    cudaStream_t stream = nullptr;
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
    return stream;
  }

  void destroy_stream(Device device, void* stream) noexcept override {
    const auto own = static_cast<cudaStream_t>(stream);
    static_cast<void>(cudaStreamSynchronize(own));
    forget_scratch(device.index, own);
    static_cast<void>(cudaStreamDestroy(own));
  }

  void copy_in(const Context& context, void* to, const void* host, std::size_t bytes) override {
    const DeviceGuard guard(context.device.index);
    check(cudaMemcpyAsync(to, host, bytes, cudaMemcpyHostToDevice, stream_of(context)), "cudaMemcpyAsync");
  }

  void copy_out(const Context& context, void* host, const void* from, std::size_t bytes) override {
    const DeviceGuard guard(context.device.index);
    check(cudaMemcpyAsync(host, from, bytes, cudaMemcpyDeviceToHost, stream_of(context)), "cudaMemcpyAsync");
  }

  void copy(const Context& context, void* to, const void* from, std::size_t bytes) override {
    const DeviceGuard guard(context.device.index);
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_of(context)), "cudaMemcpyAsync");
  }

  void clear(const Context& context, void* memory, std::size_t bytes) override {
    const DeviceGuard guard(context.device.index);
    check(cudaMemsetAsync(memory, 0, bytes, stream_of(context)), "cudaMemsetAsync");
  }

  void wait(const Context& context) override {
    const DeviceGuard guard(context.device.index);
    check(cudaStreamSynchronize(stream_of(context)), "cudaStreamSynchronize");
  }

  void wait_for(const Context& context, void* stream) override {
    if (stream == context.stream) return;
    Event event(context.device.index);
    event.record(static_cast<cudaStream_t>(stream));
    event.hold(stream_of(context));
  }

  std::unique_ptr<StepGraph> capture(const Context& context, const std::function<void()>& work) override {
    const DeviceGuard guard(context.device.index);
    const cudaStream_t stream = stream_of(context);
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
    cudaGraph_t graph = nullptr;
    try {
      work();
    } catch (...) {
      if (cudaStreamEndCapture(stream, &graph) == cudaSuccess) static_cast<void>(cudaGraphDestroy(graph));
      static_cast<void>(cudaGetLastError());
      throw;
    }
    check(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
    return std::make_unique<Graph>(context.device.index, graph);
  }

  void begin_step(const Context& context, const OptimizerOptions& options, const EpochSource* source,
                  StepState* state) override {
    cuda::begin_step(context, options, source, state);
  }
  void gather(const Context& context, const EpochSource* source, const StepState* state,
              const GatheredBatch& batch) override {
    cuda::gather(context, source, state, batch);
  }
  void add_to_totals(const Context& context, std::int64_t size, std::int64_t mean_over, const float* values,
                     const float* weights, double* totals, float* gradients) override {
    cuda::add_to_totals(context, size, mean_over, values, weights, totals, gradients);
  }
  void dropout_at_step(const Context& context, float rate, std::uint64_t seed, const StepState* state,
                       std::int64_t size, const float* input, float* output) override {
    cuda::dropout_at_step(context, rate, seed, state, size, input, output);
  }
  void optimizer_at_step(const Context& context, const OptimizerOptions& options, const StepState* state,
                         std::int64_t size, float* parameter, const float* gradient, float* const* slots,
                         const float* gradient_scale) override {
    cuda::optimizer_at_step(context, options, state, size, parameter, gradient, slots, gradient_scale);
  }
  void clip_scale(const Context& context, const std::vector<const float*>& arrays,
                  const std::vector<std::int64_t>& sizes, float norm, float* scale) override {
    cuda::clip_scale(context, arrays, sizes, norm, scale);
  }

 private:
  OpTable table_{};
};

std::string version(int number) { return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10); }

}  // namespace

Backend& the_backend() {
  static CudaBackend* const backend = new CudaBackend;  // never destroyed: see Arenas
  return *backend;
}

Status status() {
  Status found;
  static_cast<void>(cudaDriverGetVersion(&found.driver_version));
  static_cast<void>(cudaRuntimeGetVersion(&found.runtime_version));
  const cudaError_t error = cudaGetDeviceCount(&found.devices);
  if (error != cudaSuccess) {
    static_cast<void>(cudaGetLastError());
    found.devices = 0;
    found.problem = cudaGetErrorString(error);
    if (found.driver_version != 0 && found.driver_version / 1000 < found.runtime_version / 1000)
      found.problem += "; the driver knows CUDA " + version(found.driver_version) + ", but this build needs CUDA " +
                       version(found.runtime_version / 1000 * 1000);
  }
  return found;
}

int load() {
  const Status found = status();
  if (found.driver_version == 0)
    throw DeviceError("there is no NVIDIA driver on this machine; install one (nvidia-smi shows whether it works)");
  if (found.devices == 0)
    throw DeviceError("there is no CUDA device" + (found.problem.empty() ? "" : ": " + found.problem) +
                      "; see nvidia-smi and CUDA_VISIBLE_DEVICES");
  set_backend(&the_backend());
  return found.devices;
}

}  // namespace convec::cuda
