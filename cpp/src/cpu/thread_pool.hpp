// The library's own thread pool: one parallel region at a time, neighbouring tasks to the same worker.
#pragma once

#include <cstdint>
#include <type_traits>
#include <utility>

namespace convec::cpu {

// Runs task(index, worker) for every index in [0, count), on the pool when it is free, else (a region is already
// running, from this thread or another) on the calling thread alone. Which worker runs which task is unspecified:
// tasks must write disjoint memory and sum in an order of their own, so that results do not depend on threads.
// A task may throw: tasks that have not begun are then left out, and the first exception is thrown once all workers
// have stopped. Denormals are flushed to zero inside. worker is in [0, num_threads()), 0 on the calling thread.
using TaskFunction = void (*)(void* closure, std::int64_t index, int worker);
void run_parallel(std::int64_t count, TaskFunction function, void* closure);

template <typename Task>
void parallel_for(std::int64_t count, Task&& task) {
  using Closure = std::remove_reference_t<Task>;
  run_parallel(
      count, [](void* closure, std::int64_t index, int worker) { (*static_cast<Closure*>(closure))(index, worker); },
      const_cast<void*>(static_cast<const void*>(&task)));
}

// Splits [0, size) into tasks of about `grain` (a fixed split: not by threads) and runs task(begin, end).
template <typename Task>
void parallel_for_range(std::int64_t size, std::int64_t grain, Task&& task) {
  const std::int64_t count = (size + grain - 1) / grain;
  parallel_for(count, [&](std::int64_t index, int) {
    const std::int64_t begin = index * grain;
    task(begin, begin + grain < size ? begin + grain : size);
  });
}

}  // namespace convec::cpu
