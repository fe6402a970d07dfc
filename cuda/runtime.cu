#include "runtime.hpp"

#include <algorithm>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

namespace convec::cuda {

namespace {

std::string mebibytes(std::size_t bytes) {
  constexpr std::size_t unit = std::size_t{1} << 20U;
  return std::to_string((bytes + unit - 1) / unit) + " MB";
}

}  // namespace

DeviceGuard::DeviceGuard(int device) {
  check(cudaGetDevice(&before_), "cudaGetDevice");
  if (before_ == device) return;
  check(cudaSetDevice(device), ("cudaSetDevice(" + std::to_string(device) + ")").c_str());
  changed_ = true;
}

DeviceGuard::~DeviceGuard() {
  if (changed_) static_cast<void>(cudaSetDevice(before_));
}

void* allocate_bytes(int device, std::size_t bytes) {
  const DeviceGuard guard(device);
  void* memory = nullptr;
  const cudaError_t status = cudaMalloc(&memory, std::max<std::size_t>(bytes, 1));
  if (status == cudaErrorMemoryAllocation) {
    static_cast<void>(cudaGetLastError());
    std::size_t free = 0;
    std::size_t total = 0;
    static_cast<void>(cudaMemGetInfo(&free, &total));
    throw DeviceError("out of memory on cuda:" + std::to_string(device) + ": " + mebibytes(bytes) +
                      " were asked for, but " + mebibytes(free) + " of " + mebibytes(total) +
                      " are free; use a smaller batch, or give back what other programs hold (with CuPy: "
                      "cupy.get_default_memory_pool().free_all_blocks())");
  }
  check(status, "cudaMalloc");
  return memory;
}

void release_bytes(int device, void* memory) noexcept {
  if (memory == nullptr) return;
  try {
    const DeviceGuard guard(device);
    static_cast<void>(cudaFree(memory));
  } catch (const DeviceError&) {  // the driver is gone, and the memory with it
  }
}

void require_memory(int device, int64_t bytes, const std::string& what, const std::string& remedy) {
  const DeviceGuard guard(device);
  std::size_t free = 0;
  std::size_t total = 0;
  check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  if (static_cast<std::size_t>(bytes) <= free) return;
  throw DeviceError("out of memory on cuda:" + std::to_string(device) + ": " + what + " needs " +
                    mebibytes(static_cast<std::size_t>(bytes)) + ", but " + mebibytes(free) + " of " +
                    mebibytes(total) + " are free; " + remedy);
}

void* allocate_pinned_bytes(std::size_t bytes) {
  void* memory = nullptr;
  const cudaError_t status = cudaMallocHost(&memory, std::max<std::size_t>(bytes, 1));
  if (status == cudaErrorMemoryAllocation) {
    static_cast<void>(cudaGetLastError());
    throw DeviceError("out of page-locked host memory: " + mebibytes(bytes) + " were asked for");
  }
  check(status, "cudaMallocHost");
  return memory;
}

void release_pinned_bytes(void* memory) noexcept {
  if (memory != nullptr) static_cast<void>(cudaFreeHost(memory));
}

Stream::Stream(int device) : device_(device) {
  const DeviceGuard guard(device);
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
}

Stream::~Stream() {
  static_cast<void>(cudaStreamSynchronize(stream_));
  forget_scratch(device_, stream_);
  static_cast<void>(cudaStreamDestroy(stream_));
}

void Stream::wait() const { check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize"); }

Event::Event(int device, bool timed) : device_(device) {
  const DeviceGuard guard(device);
  check(cudaEventCreateWithFlags(&event_, timed ? cudaEventDefault : cudaEventDisableTiming),
        "cudaEventCreateWithFlags");
}

Event::~Event() { static_cast<void>(cudaEventDestroy(event_)); }

void Event::record(cudaStream_t stream) {
  const DeviceGuard guard(device_);
  check(cudaEventRecord(event_, stream), "cudaEventRecord");
}

void Event::wait() const { check(cudaEventSynchronize(event_), "cudaEventSynchronize"); }
void Event::hold(cudaStream_t stream) const { check(cudaStreamWaitEvent(stream, event_, 0), "cudaStreamWaitEvent"); }

float Event::since(const Event& start) const {
  float milliseconds = 0.0F;
  check(cudaEventElapsedTime(&milliseconds, start.event_, event_), "cudaEventElapsedTime");
  return milliseconds;
}

// ---- Scratch memory -------------------------------------------------------------------------------------------------

struct Scratch::Arena {
  struct Block {
    DeviceBuffer<std::byte> memory;
    std::size_t used = 0;
  };

  std::recursive_mutex mutex;  // an op may call another one
  int depth = 0;
  std::vector<Block> blocks;
};

// One arena a stream. A stream's address may come again after it was destroyed, its number does not.
struct Arenas {
  using Key = std::pair<int, unsigned long long>;

  std::mutex mutex;
  std::map<Key, std::unique_ptr<Scratch::Arena>> arenas;

  // Never destroyed: a process that ends may have unloaded the driver already.
  static Arenas& all() {
    static Arenas* const arenas = new Arenas;
    return *arenas;
  }

  static Key key(int device, cudaStream_t stream) {
    unsigned long long id = 0;
    check(cudaStreamGetId(stream, &id), "cudaStreamGetId");
    return {device, id};
  }

  Scratch::Arena* of(int device, cudaStream_t stream) {
    const Key wanted = key(device, stream);
    const std::lock_guard<std::mutex> lock(mutex);
    std::unique_ptr<Scratch::Arena>& arena = arenas[wanted];
    if (!arena) arena = std::make_unique<Scratch::Arena>();
    return arena.get();
  }
};

Scratch::Scratch(const Context& context)
    : guard_(context.device.index),
      device_(context.device.index),
      arena_(Arenas::all().of(context.device.index, stream_of(context))) {
  arena_->mutex.lock();
  ++arena_->depth;
}

Scratch::~Scratch() {
  if (--arena_->depth == 0)
    for (Arena::Block& block : arena_->blocks) block.used = 0;
  arena_->mutex.unlock();
}

void* Scratch::take_bytes(std::size_t bytes) {
  constexpr std::size_t alignment = 256;
  constexpr std::size_t smallest_block = std::size_t{1} << 20U;
  const std::size_t wanted = (std::max<std::size_t>(bytes, 1) + alignment - 1) / alignment * alignment;
  for (Arena::Block& block : arena_->blocks) {
    if (static_cast<std::size_t>(block.memory.size()) - block.used < wanted) continue;
    block.used += wanted;
    return block.memory.data() + (block.used - wanted);
  }
  arena_->blocks.push_back(
      {DeviceBuffer<std::byte>(device_, static_cast<int64_t>(std::max(wanted, smallest_block))), wanted});
  return arena_->blocks.back().memory.data();
}

void forget_scratch(int device, cudaStream_t stream) noexcept {
  try {
    const auto key = Arenas::key(device, stream);
    const std::lock_guard<std::mutex> lock(Arenas::all().mutex);
    Arenas::all().arenas.erase(key);
  } catch (const DeviceError&) {  // the driver is gone, and the memory with it
  }
}

int multiprocessors(int device) {
  constexpr int most_devices = 64;
  static int known[most_devices] = {};
  static std::mutex mutex;
  const std::lock_guard<std::mutex> lock(mutex);
  int& count = known[device % most_devices];
  if (count == 0)
    check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device), "cudaDeviceGetAttribute");
  return count;
}

}  // namespace convec::cuda
