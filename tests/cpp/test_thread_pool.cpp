// The thread pool and the scratch stack: internal, so these tests need the static library.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <thread>
#include <vector>

#include <convec/context.hpp>
#include <convec/error.hpp>

#include "cpu/scratch.hpp"
#include "cpu/thread_pool.hpp"
#include "test.hpp"

using convec::cpu::parallel_for;
using convec::cpu::parallel_for_range;
using convec::cpu::Scratch;

namespace {

// Every index once, whatever the number of tasks.
void check_covers(std::int64_t count) {
  std::vector<std::atomic<int>> visits(static_cast<std::size_t>(count));
  parallel_for(count, [&](std::int64_t index, int) { ++visits[static_cast<std::size_t>(index)]; });
  for (const auto& visit : visits) CHECK_EQ(visit.load(), 1);
}

class Threads {
 public:
  explicit Threads(int count) : before_(convec::num_threads()) { convec::set_num_threads(count); }
  ~Threads() { convec::set_num_threads(before_); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

 private:
  int before_;
};

}  // namespace

TEST(every_task_runs_once) {
  for (const int threads : {1, 2, 3, 8}) {
    const Threads guard(threads);
    for (const std::int64_t count : {0, 1, 2, 3, 7, 1000}) check_covers(count);
  }
}

TEST(ranges_tile_their_size) {
  const Threads guard(3);
  for (const std::int64_t size : {1, 5, 64, 65, 1000}) {
    std::vector<std::atomic<int>> visits(static_cast<std::size_t>(size));
    parallel_for_range(size, 64, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) ++visits[static_cast<std::size_t>(i)];
    });
    for (const auto& visit : visits) CHECK_EQ(visit.load(), 1);
  }
}

TEST(the_pool_is_resized) {
  for (const int threads : {2, 5, 1, 4, 2}) {
    const Threads guard(threads);
    CHECK_EQ(convec::num_threads(), threads);
    std::atomic<int> highest{0};
    parallel_for(200, [&](std::int64_t, int worker) {
      int seen = highest.load();
      while (worker > seen && !highest.compare_exchange_weak(seen, worker)) {
      }
    });
    CHECK(highest.load() < threads);
  }
}

TEST(the_number_of_threads_is_checked) {
  CHECK_THROWS(convec::set_num_threads(0), convec::ValueError, "between 1 and 1024");
  CHECK_THROWS(convec::set_num_threads(-3), convec::ValueError, "between 1 and 1024");
  CHECK_THROWS(convec::set_num_threads(1025), convec::ValueError, "between 1 and 1024");
}

TEST(exceptions_reach_the_caller_and_the_pool_lives_on) {
  for (const int threads : {1, 4}) {
    const Threads guard(threads);
    for (int round = 0; round < 20; ++round) {
      const auto region = [&] {
        parallel_for(100, [&](std::int64_t index, int) {
          if (index == 37) throw std::runtime_error("task 37");
        });
      };
      CHECK_THROWS(region(), std::runtime_error, "task 37");
      check_covers(50);
    }
  }
}

TEST(nested_regions_run) {
  const Threads guard(4);
  std::atomic<int> total{0};
  parallel_for(8, [&](std::int64_t, int) { parallel_for(10, [&](std::int64_t, int) { ++total; }); });
  CHECK_EQ(total.load(), 80);
}

TEST(concurrent_callers_do_not_disturb_each_other) {
  const Threads guard(3);
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 4; ++caller)
    callers.emplace_back([&] {
      for (int round = 0; round < 200; ++round) {
        std::atomic<std::int64_t> sum{0};
        parallel_for(33, [&](std::int64_t index, int) { sum += index; });
        if (sum.load() != 33 * 32 / 2) ++wrong;
      }
    });
  for (std::thread& caller : callers) caller.join();
  CHECK_EQ(wrong.load(), 0);
}

TEST(resizing_while_others_compute_is_safe) {
  const Threads guard(2);
  std::atomic<bool> stop{false};
  std::thread resizer([&] {
    for (int round = 0; round < 50; ++round) {
      convec::set_num_threads(1 + round % 4);
      std::this_thread::yield();
    }
    stop = true;
  });
  while (!stop.load()) check_covers(20);
  resizer.join();
}

// ThreadSanitizer does not support threads made after a fork of a process with threads.
#if !defined(__SANITIZE_THREAD__)
TEST(a_forked_child_has_a_pool_of_its_own) {
  const Threads guard(4);
  check_covers(100);
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    int status = 0;
    try {
      CHECK_EQ(convec::num_threads(), 4);
      check_covers(100);
    } catch (...) {
      status = 1;
    }
    _exit(status);
  }
  int status = -1;
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  check_covers(100);
}
#endif

TEST(denormals_are_flushed_inside_and_kept_outside) {
#if defined(__x86_64__)
  const Threads guard(2);
  volatile float tiny = 1e-38F;
  std::atomic<int> kept{0};
  parallel_for(64, [&](std::int64_t, int) {
    volatile float product = tiny * 1e-3F;
    if (product != 0.0F) ++kept;
  });
  CHECK_EQ(kept.load(), 0);
  volatile float product = tiny * 1e-3F;
  CHECK(product != 0.0F);
#endif
}

TEST(scratch_nests_like_frames) {
  Scratch outer;
  float* first = outer.take<float>(100);
  std::memset(first, 0x55, 400);
  float* inner_memory = nullptr;
  {
    Scratch inner;
    inner_memory = inner.take<float>(1000);
    CHECK_EQ(reinterpret_cast<std::uintptr_t>(inner_memory) % 64, 0U);
    CHECK(inner_memory >= first + 100 || inner_memory + 1000 <= first);
    std::memset(inner_memory, 0xAA, 4000);
  }
  CHECK_EQ(reinterpret_cast<const unsigned char*>(first)[399], 0x55);
  Scratch again;
  CHECK_EQ(again.take<float>(1000), inner_memory);
}

TEST(scratch_grows) {
  for (int round = 0; round < 3; ++round) {
    Scratch scratch;
    for (const std::int64_t count : {10, 1 << 18, 1 << 22, 7}) {
      auto* memory = scratch.take<unsigned char>(count);
      std::memset(memory, round, static_cast<std::size_t>(count));
      CHECK_EQ(memory[count - 1], static_cast<unsigned char>(round));
    }
  }
}

TEST_MAIN()
