#include "cpu/thread_pool.hpp"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <convec/context.hpp>
#include <convec/error.hpp>

#include "cpu/flush_denormals.hpp"

#if defined(__linux__)
#include <pthread.h>
#include <sched.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace convec {

namespace cpu {

namespace {

constexpr int most_threads = 1024;
// A worker that finds nothing to do looks for work this long before it sleeps: longer than the pause between two ops of
// a training step, short enough not to disturb a busy neighbour. In time, for a pause instruction takes 40 to 140
// cycles.
constexpr std::chrono::microseconds time_before_sleep{50};
constexpr int spins_between_looks_at_the_clock = 32;

void pause_briefly() noexcept {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

int processors_allowed() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
  const unsigned count = std::thread::hardware_concurrency();
  return count == 0 ? 1 : static_cast<int>(count);
}

int threads_at_start() {
  if (const char* text = std::getenv("CONVEC_NUM_THREADS")) {
    int wanted = 0;
    std::from_chars(text, text + std::strlen(text), wanted);
    if (wanted >= 1 && wanted <= most_threads) return wanted;
  }
  return processors_allowed() < most_threads ? processors_allowed() : most_threads;
}

// A region is described by job_ and shares_; state_ says whether it is open to workers and how many are inside. A
// worker joins by a compare-and-swap on an open state, so one that wakes late finds the region closed and is never
// waited for.
//
// Tasks are dealt out as one run of neighbours a worker, who then helps the others. Ops number their tasks by image, so
// that an image stays with one processor, and in its cache, from layer to layer.
class Pool {
 public:
  explicit Pool(int threads) : shares_(new Share[static_cast<std::size_t>(threads)]) {
    for (int worker = 1; worker < threads; ++worker) threads_.emplace_back([this, worker] { work(worker); });
  }

  ~Pool() {
    stop_.store(true);
    wake_all();
    for (std::thread& thread : threads_) thread.join();
  }

  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int size() const noexcept { return static_cast<int>(threads_.size()) + 1; }

  void run(std::int64_t count, TaskFunction function, void* closure) {
    job_.shares = static_cast<int>(std::min<std::int64_t>(size(), count));
    job_.function = function;
    job_.closure = closure;
    std::int64_t begin = 0;
    for (int i = 0; i < job_.shares; ++i) {
      shares_[i].next.store(begin, std::memory_order_relaxed);
      begin += count / job_.shares + (i < count % job_.shares ? 1 : 0);
      shares_[i].end = begin;
    }
    state_.fetch_add(open_bit);  // sequentially consistent: pairs with the sleepers' check
    if (sleepers_.load() > 0) wake_all();
    run_tasks(0);
    state_.fetch_xor(open_bit, std::memory_order_acq_rel);
    while ((state_.load(std::memory_order_acquire) & inside_mask) != 0) pause_briefly();
    if (job_.failed.load(std::memory_order_relaxed)) {
      job_.failed.store(false, std::memory_order_relaxed);
      std::exception_ptr error = std::move(job_.error);
      job_.error = nullptr;
      std::rethrow_exception(error);
    }
  }

 private:
  static constexpr std::uint64_t open_bit = std::uint64_t{1} << 32U;
  static constexpr std::uint64_t inside_mask = open_bit - 1;

  struct Job {
    int shares = 0;
    TaskFunction function = nullptr;
    void* closure = nullptr;
    std::atomic<bool> failed{false};
    std::mutex error_mutex;
    std::exception_ptr error;
  };

  // Tasks [next, end).
  struct alignas(64) Share {
    std::atomic<std::int64_t> next{0};
    std::int64_t end = 0;
  };

  void run_tasks(int worker) {
    try {
      for (int i = 0; i < job_.shares; ++i) {
        Share& share = shares_[(worker + i) % job_.shares];
        for (;;) {
          const std::int64_t index = share.next.fetch_add(1, std::memory_order_relaxed);
          if (index >= share.end) break;
          job_.function(job_.closure, index, worker);
        }
      }
    } catch (...) {
      const std::lock_guard<std::mutex> lock(job_.error_mutex);
      if (!job_.error) job_.error = std::current_exception();
      job_.failed.store(true, std::memory_order_relaxed);
      for (int i = 0; i < job_.shares; ++i) shares_[i].next.store(shares_[i].end, std::memory_order_relaxed);
    }
  }

  bool try_join() noexcept {
    std::uint64_t seen = state_.load(std::memory_order_acquire);
    while ((seen & open_bit) != 0)
      if (state_.compare_exchange_weak(seen, seen + 1, std::memory_order_acq_rel)) return true;
    return false;
  }

  void work(int worker) {
    using Clock = std::chrono::steady_clock;
    const FlushDenormals flush;
    Clock::time_point idle_since = Clock::now();
    int spins = 0;
    while (!stop_.load(std::memory_order_relaxed)) {
      if (try_join()) {
        run_tasks(worker);
        state_.fetch_sub(1, std::memory_order_acq_rel);
        idle_since = Clock::now();
        spins = 0;
        continue;
      }
      pause_briefly();
      if (++spins % spins_between_looks_at_the_clock != 0 || Clock::now() - idle_since < time_before_sleep) continue;
      sleep();
      idle_since = Clock::now();
    }
  }

  void sleep() {
    std::unique_lock<std::mutex> lock(sleep_mutex_);
    sleepers_.fetch_add(1);
    // Looked at after announcing the sleep: a region opened before is seen here, one opened later sees a sleeper.
    if ((state_.load() & open_bit) == 0 && !stop_.load()) wake_.wait(lock);
    sleepers_.fetch_sub(1);
  }

  void wake_all() {
    const std::lock_guard<std::mutex> lock(sleep_mutex_);
    wake_.notify_all();
  }

  alignas(64) std::atomic<int> sleepers_{0};
  std::atomic<bool> stop_{false};
  std::unique_ptr<Share[]> shares_;
  std::vector<std::thread> threads_;
  std::mutex sleep_mutex_;
  std::condition_variable wake_;
  alignas(64) std::atomic<std::uint64_t> state_{0};
  Job job_;
};

// Everything about the pool in one place that lives until the process ends: worker threads must not be joined by a
// static destructor while other threads still compute.
struct PoolOwner {
  std::mutex mutex;  // held by whoever runs a region or replaces the pool
  Pool* pool = nullptr;
  std::atomic<int> wanted{threads_at_start()};
};

PoolOwner* owner_instance = nullptr;

PoolOwner& owner() {
  static std::once_flag once;
  std::call_once(once, [] {
    owner_instance = new PoolOwner;
#if defined(__linux__)
    // The child of a fork has no workers: it starts with a fresh pool. The old one is left as it is (its threads do
    // not exist here, its locks may be held).
    pthread_atfork(nullptr, nullptr, [] {
      const int wanted = owner_instance->wanted.load();
      owner_instance = new PoolOwner;
      owner_instance->wanted.store(wanted);
    });
#endif
  });
  return *owner_instance;
}

thread_local bool inside_region = false;

}  // namespace

void run_parallel(std::int64_t count, TaskFunction function, void* closure) {
  if (count <= 0) return;
  const FlushDenormals flush;
  PoolOwner& own = owner();
  if (count > 1 && !inside_region && own.wanted.load(std::memory_order_relaxed) > 1 && own.mutex.try_lock()) {
    const std::lock_guard<std::mutex> lock(own.mutex, std::adopt_lock);
    if (own.pool == nullptr || own.pool->size() != own.wanted.load()) {
      delete own.pool;
      own.pool = nullptr;
      own.pool = new Pool(own.wanted.load());
    }
    struct Guard {
      Guard() { inside_region = true; }
      ~Guard() { inside_region = false; }
    } const guard;
    own.pool->run(count, function, closure);
    return;
  }
  for (std::int64_t index = 0; index < count; ++index) function(closure, index, 0);
}

}  // namespace cpu

int num_threads() noexcept { return cpu::owner().wanted.load(std::memory_order_relaxed); }

void set_num_threads(int threads) {
  if (threads < 1 || threads > cpu::most_threads)
    throw ValueError("threads is " + std::to_string(threads) + ", but must be between 1 and " +
                     std::to_string(cpu::most_threads));
  cpu::owner().wanted.store(threads);
}

}  // namespace convec
