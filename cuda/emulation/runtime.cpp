// The runtime's functions on one emulated device, whose memory is the host's.
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include <cuda_runtime.h>

#include "block.hpp"
#include "emulation.hpp"

#if defined(CONVEC_ADDRESS_SANITIZER)
#include <sanitizer/asan_interface.h>
#endif

namespace {

using Clock = std::chrono::steady_clock;
using Work = std::function<cudaError_t()>;

// A point in a stream's work. Shared by the event and the work that waits for it.
struct Mark {
  cudaStream_t stream = nullptr;
  bool reached = false;
  Clock::time_point time;
};

constexpr std::size_t memory_alignment = 256;
constexpr std::size_t shared_memory_most = std::size_t{227} * 1024;

}  // namespace

struct CUgraph_st {
  std::vector<Work> work;
  bool valid = true;
};

struct CUgraphExec_st {
  std::vector<Work> work;
};

struct CUstream_st {
  bool blocking = true;
  unsigned long long id = 0;
  std::deque<Work> work;
  std::unique_ptr<CUgraph_st> capture;  // null: work is to be done
};

struct CUevent_st {
  std::shared_ptr<Mark> mark;  // null: never recorded
};

namespace {

// All of the emulated device's state. Threads of the host may share it, but not at the same time.
struct Device {
  std::size_t memory = std::size_t{16} << 30U;
  std::size_t used = 0;
  std::map<std::byte*, std::size_t> allocations;
  std::map<std::byte*, std::size_t> pinned;
  std::vector<std::unique_ptr<CUstream_st>> streams;
  unsigned long long streams_made = 0;
  cudaError_t lost = cudaSuccess;  // fails all work until a reset
  cudaError_t last = cudaSuccess;
  int major = 9;  // compute capability
  int minor = 0;
  int launches_left = -1;
  int allocations_left = -1;
  cudaError_t coming_loss = cudaErrorLaunchFailure;
  int depth = 0;  // of work that is running
  std::string failure;
  convec::emulation::Schedule schedule = convec::emulation::Schedule::round_robin;
  std::uint64_t seed = 0;
};

Device& device() {
  static Device the_device;
  return the_device;
}

cudaError_t note(cudaError_t error) {
  if (error != cudaSuccess && error != cudaErrorNotReady) device().last = error;
  return error;
}

// Between calls the host may not touch the device's memory.
void poison(std::byte* memory, std::size_t size, bool poisoned) {
#if defined(CONVEC_ADDRESS_SANITIZER)
  if (poisoned)
    ASAN_POISON_MEMORY_REGION(memory, size);
  else
    ASAN_UNPOISON_MEMORY_REGION(memory, size);
#else
  static_cast<void>(memory);
  static_cast<void>(size);
  static_cast<void>(poisoned);
#endif
}

// While it lives, the device's memory may be touched.
class Access {
 public:
  Access() {
    if (device().depth++ == 0) set(false);
  }
  ~Access() {
    if (--device().depth == 0) set(true);
  }
  Access(const Access&) = delete;
  Access& operator=(const Access&) = delete;

 private:
  static void set(bool poisoned) {
    for (const auto& [memory, size] : device().allocations) poison(memory, size, poisoned);
  }
};

bool is_stream(cudaStream_t stream) {
  const auto& streams = device().streams;
  return stream == nullptr ||
         std::any_of(streams.begin(), streams.end(), [&](const auto& known) { return known.get() == stream; });
}

cudaError_t run(const Work& work) {
  if (device().lost != cudaSuccess) return device().lost;
  const cudaError_t error = work();
  if (error != cudaSuccess) device().lost = error;
  return error;
}

// Runs the first piece of work of a stream.
cudaError_t step(CUstream_st& stream) {
  const Work work = std::move(stream.work.front());
  stream.work.pop_front();
  return run(work);
}

cudaError_t drain(CUstream_st& stream) {
  while (!stream.work.empty()) step(stream);
  return device().lost;
}

// The work of every stream, or of those that the default stream waits for.
cudaError_t drain_all(bool also_non_blocking) {
  for (std::size_t i = 0; i < device().streams.size(); ++i) {
    CUstream_st& stream = *device().streams[i];
    if (also_non_blocking || stream.blocking) drain(stream);
  }
  return device().lost;
}

// Work on the default stream is done at once, after that of the streams it waits for.
cudaError_t submit(cudaStream_t stream, Work work) {
  if (!is_stream(stream)) return note(cudaErrorInvalidResourceHandle);
  if (device().lost != cudaSuccess) return note(device().lost);
  if (stream == nullptr) {
    drain_all(false);
    return note(run(work));
  }
  if (stream->capture)
    stream->capture->work.push_back(std::move(work));
  else
    stream->work.push_back(std::move(work));
  return cudaSuccess;
}

// Whoever waits for work that is only recorded spoils the capture.
bool spoils_capture(cudaStream_t stream) {
  if (stream == nullptr || !stream->capture) return false;
  stream->capture->valid = false;
  return true;
}

// Runs what comes before the mark.
cudaError_t reach(Mark& mark) {
  while (!mark.reached && device().lost == cudaSuccess && is_stream(mark.stream) && mark.stream != nullptr &&
         !mark.stream->work.empty())
    step(*mark.stream);
  return device().lost;
}

bool is_pinned(const void* pointer) {
  const auto* byte = static_cast<const std::byte*>(pointer);
  for (const auto& [memory, size] : device().pinned)
    if (byte >= memory && byte < memory + size) return true;
  return false;
}

bool is_device(const void* pointer) {
  const auto* byte = static_cast<const std::byte*>(pointer);
  const auto& all = device().allocations;
  return std::any_of(all.begin(), all.end(),
                     [&](const auto& entry) { return byte >= entry.first && byte < entry.first + entry.second; });
}

// Whether the pointers are where `kind` says.
bool fits(const void* to, const void* from, cudaMemcpyKind kind) {
  if (kind == cudaMemcpyDefault) return true;
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  return is_device(to) == to_device && is_device(from) == from_device;
}

std::byte* allocate(std::size_t size) {
  const std::size_t rounded = std::max<std::size_t>(size, 1);
  return static_cast<std::byte*>(::operator new(rounded, std::align_val_t{memory_alignment}, std::nothrow));
}

// Whether a test asked for this allocation to fail.
bool allocation_fails() {
  int& left = device().allocations_left;
  return left >= 0 && left-- == 0;
}

void deallocate(std::byte* memory) { ::operator delete(memory, std::align_val_t{memory_alignment}); }

void copy_rows(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch, std::size_t width,
               std::size_t height) {
  for (std::size_t row = 0; row < height; ++row)
    std::memmove(static_cast<std::byte*>(to) + row * to_pitch, static_cast<const std::byte*>(from) + row * from_pitch,
                 width);
}

}  // namespace

namespace convec::emulation {

void set_schedule(Schedule schedule, std::uint64_t seed) {
  device().schedule = schedule;
  device().seed = seed;
}
Schedule schedule() { return device().schedule; }
void set_memory(std::size_t bytes) { device().memory = bytes; }
std::size_t memory_in_use() { return device().used; }
void set_compute_capability(int major, int minor) {
  device().major = major;
  device().minor = minor;
}
void fail_allocation_after(int allocations) { device().allocations_left = allocations; }
void lose_device_after(int launches, cudaError_t error) {
  device().launches_left = launches;
  device().coming_loss = error;
}
const std::string& failure() { return device().failure; }

cudaError_t launch(const dim3& grid, const dim3& block, std::size_t shared_bytes, cudaStream_t stream,
                   std::function<void()> body) {
  const std::uint64_t threads = std::uint64_t{block.x} * block.y * block.z;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 2147483647U || grid.y > 65535U || grid.z > 65535U ||
      threads == 0 || threads > 1024 || block.z > 64 || shared_bytes > shared_memory_most)
    return note(cudaErrorInvalidConfiguration);
  return submit(stream, [grid, block, shared_bytes, body = std::move(body)] {
    Device& d = device();
    if (d.launches_left == 0) {
      d.launches_left = -1;
      d.failure = "the device was lost (a test asked for it)";
      return d.coming_loss;
    }
    if (d.launches_left > 0) --d.launches_left;
    const Access access;
    const std::string failure = run_grid(grid, block, shared_bytes, body, d.schedule, d.seed);
    if (failure.empty()) return cudaSuccess;
    d.failure = failure;
    return cudaErrorLaunchFailure;
  });
}

}  // namespace convec::emulation

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration:
      return "cudaErrorInvalidConfiguration";
    case cudaErrorInvalidResourceHandle:
      return "cudaErrorInvalidResourceHandle";
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalidDevice";
    case cudaErrorNotReady:
      return "cudaErrorNotReady";
    case cudaErrorIllegalAddress:
      return "cudaErrorIllegalAddress";
    case cudaErrorLaunchFailure:
      return "cudaErrorLaunchFailure";
    case cudaErrorStreamCaptureUnsupported:
      return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureInvalidated:
      return "cudaErrorStreamCaptureInvalidated";
    default:
      return "cudaErrorUnknown";
  }
}

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorInvalidResourceHandle:
      return "invalid resource handle";
    case cudaErrorInvalidDevice:
      return "invalid device ordinal";
    case cudaErrorNotReady:
      return "device not ready";
    case cudaErrorIllegalAddress:
      return "an illegal memory access was encountered";
    case cudaErrorLaunchFailure:
      // More than a GPU would tell.
      return device().failure.empty() ? "unspecified launch failure" : device().failure.c_str();
    case cudaErrorStreamCaptureUnsupported:
      return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated:
      return "operation failed due to a previous error during capture";
    default:
      return "unknown error";
  }
}

cudaError_t cudaGetLastError() { return std::exchange(device().last, cudaSuccess); }
cudaError_t cudaPeekAtLastError() { return device().last; }

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* number) {
  *number = 0;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int number) { return number == 0 ? cudaSuccess : note(cudaErrorInvalidDevice); }
cudaError_t cudaDeviceReset() {
  Device& d = device();
  for (const auto& stream : d.streams) stream->work.clear();
  for (const auto& [memory, size] : d.allocations) {
    poison(memory, size, false);
    deallocate(memory);
  }
  d.allocations.clear();
  d.used = 0;
  d.lost = d.last = cudaSuccess;
  d.launches_left = -1;
  d.allocations_left = -1;
  d.failure.clear();
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() { return note(drain_all(true)); }

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int number) {
  if (number != 0) return note(cudaErrorInvalidDevice);
  *properties = {};
  std::strcpy(properties->name, "convec's emulation");
  properties->totalGlobalMem = device().memory;
  properties->sharedMemPerBlock = std::size_t{48} * 1024;
  properties->sharedMemPerBlockOptin = shared_memory_most;
  properties->warpSize = 32;
  properties->maxThreadsPerBlock = 1024;
  properties->maxThreadsPerMultiProcessor = 2048;
  properties->maxGridSize[0] = 2147483647;
  properties->maxGridSize[1] = properties->maxGridSize[2] = 65535;
  properties->major = device().major;
  properties->minor = device().minor;
  properties->multiProcessorCount = 2;
  properties->l2CacheSize = 50 << 20;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int number) {
  cudaDeviceProp properties;
  if (const cudaError_t error = cudaGetDeviceProperties(&properties, number); error != cudaSuccess) return error;
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
      *value = properties.maxThreadsPerBlock;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = static_cast<int>(properties.sharedMemPerBlock);
      break;
    case cudaDevAttrWarpSize:
      *value = properties.warpSize;
      break;
    case cudaDevAttrMultiProcessorCount:
      *value = properties.multiProcessorCount;
      break;
    case cudaDevAttrL2CacheSize:
      *value = properties.l2CacheSize;
      break;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = properties.maxThreadsPerMultiProcessor;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = properties.major;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = properties.minor;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(properties.sharedMemPerBlockOptin);
      break;
    default:
      return note(cudaErrorInvalidValue);
  }
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) { return cudaDriverGetVersion(version); }

cudaError_t cudaMalloc(void** pointer, std::size_t size) {
  Device& d = device();
  *pointer = nullptr;
  if (d.lost != cudaSuccess) return note(d.lost);
  if (size == 0) return cudaSuccess;
  if (allocation_fails() || size > d.memory || d.used > d.memory - size) return note(cudaErrorMemoryAllocation);
  std::byte* memory = allocate(size);
  if (memory == nullptr) return note(cudaErrorMemoryAllocation);
  std::memset(memory, 0xFF, size);  // nobody may count on zeros
  if (d.depth == 0) poison(memory, size, true);
  d.allocations.emplace(memory, size);
  d.used += size;
  *pointer = memory;
  return cudaSuccess;
}
cudaError_t cudaFree(void* pointer) {
  if (pointer == nullptr) return cudaSuccess;
  Device& d = device();
  const auto found = d.allocations.find(static_cast<std::byte*>(pointer));
  if (found == d.allocations.end()) return note(cudaErrorInvalidValue);
  drain_all(true);
  poison(found->first, found->second, false);
  deallocate(found->first);
  d.used -= found->second;
  d.allocations.erase(found);
  return note(d.lost);
}
cudaError_t cudaMallocAsync(void** pointer, std::size_t size, cudaStream_t) { return cudaMalloc(pointer, size); }
cudaError_t cudaFreeAsync(void* pointer, cudaStream_t stream) {
  return submit(stream, [pointer] {
    Device& d = device();
    const auto found = d.allocations.find(static_cast<std::byte*>(pointer));
    if (found == d.allocations.end()) return cudaErrorInvalidValue;
    poison(found->first, found->second, false);
    deallocate(found->first);
    d.used -= found->second;
    d.allocations.erase(found);
    return cudaSuccess;
  });
}
cudaError_t cudaMallocHost(void** pointer, std::size_t size) {
  *pointer = nullptr;
  std::byte* memory = allocation_fails() ? nullptr : allocate(size);
  if (memory == nullptr) return note(cudaErrorMemoryAllocation);
  *pointer = memory;
  device().pinned.emplace(memory, size);
  return cudaSuccess;
}
cudaError_t cudaHostAlloc(void** pointer, std::size_t size, unsigned int) { return cudaMallocHost(pointer, size); }
cudaError_t cudaFreeHost(void* pointer) {
  if (pointer == nullptr) return cudaSuccess;
  const auto found = device().pinned.find(static_cast<std::byte*>(pointer));
  if (found == device().pinned.end()) return note(cudaErrorInvalidValue);
  drain_all(true);
  deallocate(found->first);
  device().pinned.erase(found);
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  *total = device().memory;
  *free = device().memory - std::min(device().used, device().memory);
  return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  attributes->device = is_device(pointer) ? 0 : -2;
  attributes->type = is_device(pointer)   ? cudaMemoryTypeDevice
                     : is_pinned(pointer) ? cudaMemoryTypeHost
                                          : cudaMemoryTypeUnregistered;
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void* to, const void* from, std::size_t size, cudaMemcpyKind kind) {
  return cudaMemcpyAsync(to, from, size, kind, nullptr);
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t size, cudaMemcpyKind kind, cudaStream_t stream) {
  return cudaMemcpy2DAsync(to, size, from, size, size, size == 0 ? 0 : 1, kind, stream);
}
cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch,
                              std::size_t width, std::size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
  if (width == 0 || height == 0) return cudaSuccess;
  if (width > to_pitch || width > from_pitch || !fits(to, from, kind)) return note(cudaErrorInvalidValue);
  const bool from_host = !is_device(from);
  const bool to_host = !is_device(to);
  const bool pageable = (from_host && !is_pinned(from)) || (to_host && !is_pinned(to));
  if (pageable && spoils_capture(stream)) return note(cudaErrorStreamCaptureUnsupported);
  if (from_host && !is_pinned(from)) {
    // Pageable memory is read before the call returns.
    auto staged = std::make_shared<std::vector<std::byte>>(width * height);
    copy_rows(staged->data(), width, from, from_pitch, width, height);
    return submit(stream, [=] {
      const Access access;
      copy_rows(to, to_pitch, staged->data(), width, width, height);
      return cudaSuccess;
    });
  }
  const cudaError_t error = submit(stream, [=] {
    const Access access;
    copy_rows(to, to_pitch, from, from_pitch, width, height);
    return cudaSuccess;
  });
  // And written before it returns.
  if (error == cudaSuccess && to_host && !is_pinned(to) && stream != nullptr) return note(drain(*stream));
  return error;
}
cudaError_t cudaMemset(void* pointer, int value, std::size_t size) { return cudaMemsetAsync(pointer, value, size); }
cudaError_t cudaMemsetAsync(void* pointer, int value, std::size_t size, cudaStream_t stream) {
  if (size == 0) return cudaSuccess;
  if (!is_device(pointer)) return note(cudaErrorInvalidValue);
  return submit(stream, [=] {
    const Access access;
    std::memset(pointer, value, size);
    return cudaSuccess;
  });
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, cudaStreamDefault); }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned int flags) {
  device().streams.push_back(std::make_unique<CUstream_st>());
  *stream = device().streams.back().get();
  (*stream)->id = ++device().streams_made;
  (*stream)->blocking = (flags & cudaStreamNonBlocking) == 0;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  if (stream == nullptr || !is_stream(stream)) return note(cudaErrorInvalidResourceHandle);
  drain(*stream);
  auto& streams = device().streams;
  streams.erase(std::find_if(streams.begin(), streams.end(), [&](const auto& known) { return known.get() == stream; }));
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (!is_stream(stream)) return note(cudaErrorInvalidResourceHandle);
  if (spoils_capture(stream)) return note(cudaErrorStreamCaptureUnsupported);
  return note(stream == nullptr ? drain_all(false) : drain(*stream));
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  if (!is_stream(stream)) return note(cudaErrorInvalidResourceHandle);
  if (stream == nullptr) return note(drain_all(false));
  // Whoever asks again and again sees it advance.
  if (!stream->work.empty()) step(*stream);
  if (device().lost != cudaSuccess) return note(device().lost);
  return stream->work.empty() ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int) {
  if (event->mark == nullptr) return cudaSuccess;
  return submit(stream, [mark = event->mark] { return reach(*mark); });
}
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, void (*function)(void*), void* data) {
  return submit(stream, [=] {
    function(data);
    return cudaSuccess;
  });
}

cudaError_t cudaStreamGetId(cudaStream_t stream, unsigned long long* id) {
  if (!is_stream(stream)) return note(cudaErrorInvalidResourceHandle);
  *id = stream == nullptr ? 0 : stream->id;
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (stream == nullptr || !is_stream(stream)) return note(cudaErrorStreamCaptureUnsupported);
  if (stream->capture) return note(cudaErrorInvalidValue);
  stream->capture = std::make_unique<CUgraph_st>();
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = nullptr;
  if (stream == nullptr || !is_stream(stream) || !stream->capture) return note(cudaErrorInvalidValue);
  const std::unique_ptr<CUgraph_st> captured = std::move(stream->capture);
  if (!captured->valid) return note(cudaErrorStreamCaptureInvalidated);
  *graph = new CUgraph_st{std::move(captured->work), true};
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  *executable = new CUgraphExec_st{graph->work};
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  for (const Work& work : executable->work)
    if (const cudaError_t error = submit(stream, work); error != cudaSuccess) return error;
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned int) {
  *event = new CUevent_st;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  auto mark = std::make_shared<Mark>();
  mark->stream = stream;
  event->mark = mark;
  return submit(stream, [mark] {
    mark->reached = true;
    mark->time = Clock::now();
    return cudaSuccess;
  });
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  return event->mark == nullptr ? cudaSuccess : note(reach(*event->mark));
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  if (event->mark == nullptr || event->mark->reached) return cudaSuccess;
  if (device().lost != cudaSuccess) return note(device().lost);
  const cudaStream_t stream = event->mark->stream;
  if (is_stream(stream) && stream != nullptr && !stream->work.empty()) step(*stream);
  if (device().lost != cudaSuccess) return note(device().lost);
  return event->mark->reached ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  if (start->mark == nullptr || end->mark == nullptr) return note(cudaErrorInvalidResourceHandle);
  if (!start->mark->reached || !end->mark->reached) return cudaErrorNotReady;
  *milliseconds = std::chrono::duration<float, std::milli>(end->mark->time - start->mark->time).count();
  return cudaSuccess;
}
