// A lock that also works between processes, in memory that they share.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>

namespace convec::word2vec {

// Zero bytes are an open lock. Held for microseconds at a time: what waits does so by trying.
class alignas(64) RowLock {
 public:
  void lock() {
    if (try_lock()) return;
    const auto give_up = std::chrono::steady_clock::now() + longest_hold;
    while (!try_lock()) {
      std::this_thread::yield();
      // Its owner was killed, and the job is about to end: this thread must not hang until it does.
      if (std::chrono::steady_clock::now() > give_up) return;
    }
  }
  void unlock() { held_.store(0, std::memory_order_release); }

 private:
  static constexpr std::chrono::seconds longest_hold{1};
  static_assert(std::atomic<std::uint32_t>::is_always_lock_free, "other atomics do not work between processes");

  bool try_lock() {
    return held_.load(std::memory_order_relaxed) == 0 && held_.exchange(1, std::memory_order_acquire) == 0;
  }

  std::atomic<std::uint32_t> held_{0};
};

}  // namespace convec::word2vec
