// Controls of the emulated device (cuda_runtime.h), for tests.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include <cuda_runtime.h>

namespace convec::emulation {

// Whose turn it is when a thread waits. A kernel with all the barriers it needs gives the same result in every order;
// each order exposes other missing ones.
enum class Schedule : std::uint8_t {
  round_robin,           // the next thread of the block
  round_robin_reversed,  // the one before: thread 0 comes last, and what it writes for the others too
  one_warp,              // the next thread of the same warp, until the warp is stuck or has returned
  one_warp_reversed,     // the last warp first
  shuffled               // any thread that can go on
};

// For all later launches. `seed`: of the shuffled order.
void set_schedule(Schedule schedule, std::uint64_t seed = 0);
Schedule schedule();

// Bytes of device memory; cudaMalloc fails beyond it.
void set_memory(std::size_t bytes);
std::size_t memory_in_use();

// What the device says it is; at first 9.0.
void set_compute_capability(int major, int minor);

// The allocation after `allocations` more of them, of device memory or of page-locked host memory, fails for lack of
// it. A negative number: never.
void fail_allocation_after(int allocations);

// The device is lost at the launch after `launches` more of them: it and all later work fail with `error` until
// cudaDeviceReset(). A negative number: never.
void lose_device_after(int launches, cudaError_t error = cudaErrorLaunchFailure);

// What went wrong in the last kernel that failed.
const std::string& failure();

// A kernel launch: `body` is what every thread runs. Held back like all work of a stream.
cudaError_t launch(const dim3& grid, const dim3& block, std::size_t shared_bytes, cudaStream_t stream,
                   std::function<void()> body);

}  // namespace convec::emulation
