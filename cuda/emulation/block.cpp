// Runs the threads of a block as fibers.
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#include "block.hpp"
#include "emulation.hpp"

#if defined(CONVEC_ADDRESS_SANITIZER)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(__x86_64__)
// Saves the registers that a call preserves on the stack in use, leaves it in *from, and goes on where `to` was left.
// The C library's swapcontext also asks the kernel to set the signal mask, which takes ten times as long.
extern "C" void convec_switch_stack(void** from, void* to);
asm(R"(
.text
.globl convec_switch_stack
.hidden convec_switch_stack
.type convec_switch_stack, @function
convec_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size convec_switch_stack, .-convec_switch_stack
)");
#endif

namespace convec::emulation {

namespace {

constexpr unsigned warp_size = 32;
// Instrumented code has larger frames. Pages that nobody touches cost nothing.
constexpr std::size_t stack_size = std::size_t{256} * 1024;
constexpr std::size_t guard_size = 4096;

// Stacks of the fibers, with a page that may not be touched below each. Kept from launch to launch.
class Stacks {
 public:
  Stacks() = default;
  ~Stacks() {
    for (void* stack : stacks_) ::munmap(stack, guard_size + stack_size);
  }
  Stacks(const Stacks&) = delete;
  Stacks& operator=(const Stacks&) = delete;

  std::byte* get(std::size_t index) {
    while (stacks_.size() <= index) {
      void* memory = ::mmap(nullptr, guard_size + stack_size, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (memory == MAP_FAILED) throw std::bad_alloc();
      ::mprotect(memory, guard_size, PROT_NONE);
      stacks_.push_back(memory);
    }
    std::byte* stack = static_cast<std::byte*>(stacks_[index]) + guard_size;
#if defined(CONVEC_ADDRESS_SANITIZER)
    // What ran here before may have been abandoned in the middle of a function.
    ASAN_UNPOISON_MEMORY_REGION(stack, stack_size);
#endif
    return stack;
  }

 private:
  std::vector<void*> stacks_;
};

// Where a fiber, or the host, was left.
struct Context {
#if defined(__x86_64__)
  void* stack_pointer = nullptr;
#else
  ucontext_t registers;
#endif
  // For AddressSanitizer.
  void* fake_stack = nullptr;
  const void* bottom = nullptr;
  std::size_t size = 0;
};

enum class State : std::uint8_t { ready, collective, barrier, returned };

struct Copy {
  void* shared;
  const void* global;
  unsigned int size;
  unsigned int source_size;
  const char* file;
  int line;
};

struct Fiber {
  Context context;
  uint3 index{};
  State state = State::ready;
  // What it waits for.
  Collective kind = Collective::sync;
  std::uint32_t mask = 0;
  const char* file = nullptr;
  int line = 0;
  std::uint64_t value = 0;
  int source = 0;
  Combine combine = nullptr;
  CollectiveResult result{};
  // Asynchronous copies that have not landed: the groups that were committed, then the one being gathered.
  std::deque<std::vector<Copy>> groups;
  std::vector<Copy> copies;
};

class Block {
 public:
  Block(const dim3& size, std::byte* shared, const std::function<void()>& body, Schedule schedule, std::uint64_t seed,
        Stacks& stacks)
      : schedule_(schedule), random_(seed * 2 + 1), shared_(shared), body_(body), fibers_(size.x * size.y * size.z) {
    std::size_t number = 0;
    for (unsigned z = 0; z < size.z; ++z)
      for (unsigned y = 0; y < size.y; ++y)
        for (unsigned x = 0; x < size.x; ++x, ++number) {
          fibers_[number].index = {x, y, z};
          prepare(fibers_[number].context, stacks.get(number));
        }
  }

  // Returns what went wrong, or an empty string.
  std::string run() {
    current = this;
    const std::size_t first = next();
    running_ = first;
    enter(fibers_[first]);
    switch_from(host_, fibers_[first].context, false);
    current = nullptr;
    return failure_;
  }

  CollectiveResult collective(Collective kind, std::uint32_t mask, std::uint64_t value, int source, Combine combine,
                              const char* file, int line) {
    Fiber& own = fibers_[running_];
    own.kind = kind;
    own.mask = mask;
    own.value = value;
    own.source = source;
    own.combine = combine;
    own.file = file;
    own.line = line;
    if ((mask >> lane_of(running_) & 1U) == 0) fail(text(running_) + " is not in its own mask " + hex(mask) + at(own));
    if (arrived(mask, own))
      finish(mask);
    else
      own.state = State::collective;
    wait();
    return own.result;
  }

  int barrier(int value, const char* file, int line) {
    Fiber& own = fibers_[running_];
    own.file = file;
    own.line = line;
    barrier_sum_ += value;
    ++barrier_count_;
    own.state = State::barrier;
    if (barrier_count_ == fibers_.size()) {
      for (std::size_t i = 0; i < fibers_.size(); ++i)
        if (fibers_[i].line != line || std::strcmp(fibers_[i].file, file) != 0)
          fail("divergent barriers: " + text(i) + " waits" + at(fibers_[i]) + " and " + text(running_) + at(own));
      barrier_result_ = barrier_sum_;
      barrier_sum_ = 0;
      barrier_count_ = 0;
      for (Fiber& fiber : fibers_) fiber.state = State::ready;
    }
    wait();
    return barrier_result_;
  }

  void copy_async(const Copy& copy) {
    const auto misaligned = [&](const void* address) {
      return reinterpret_cast<std::uintptr_t>(address) % copy.size != 0;
    };
    if (copy.source_size > copy.size || misaligned(copy.shared) || misaligned(copy.global))
      fail(text(running_) + " copies " + std::to_string(copy.source_size) + " of " + std::to_string(copy.size) +
           " bytes, or addresses that are not aligned to them, at " + copy.file + ":" + std::to_string(copy.line));
    std::memset(copy.shared, 0xFF, copy.size);
    fibers_[running_].copies.push_back(copy);
  }

  void commit_copies() {
    Fiber& own = fibers_[running_];
    own.groups.push_back(std::move(own.copies));
    own.copies.clear();
  }

  void wait_for_copies(std::size_t groups) {
    Fiber& own = fibers_[running_];
    for (; own.groups.size() > groups; own.groups.pop_front())
      for (const Copy& copy : own.groups.front()) {
        std::memset(copy.shared, 0, copy.size);
        if (copy.source_size != 0) std::memcpy(copy.shared, copy.global, copy.source_size);
      }
  }

  std::uint32_t active_mask() const {
    // All lanes that have not returned: what the hardware answers when nothing diverges, and no promise otherwise.
    const std::size_t warp = running_ / warp_size * warp_size;
    std::uint32_t mask = 0;
    for (std::size_t i = warp; i < warp + warp_size && i < fibers_.size(); ++i)
      if (fibers_[i].state != State::returned) mask |= 1U << lane_of(i);
    return mask;
  }

  unsigned lane() const { return lane_of(running_); }
  std::byte* shared() const { return shared_; }
  void yield() { wait(); }

  // Ends the block: the calling thread's stack is unwound, and what the others were at is abandoned.
  [[noreturn]] void fail(const std::string& what) {
    failure_ = what;
    throw Abandoned();
  }

  static thread_local Block* current;

 private:
  struct Abandoned {};

  static unsigned lane_of(std::size_t fiber) { return static_cast<unsigned>(fiber % warp_size); }
  static std::string hex(std::uint32_t mask) {
    char digits[11];
    std::snprintf(digits, sizeof digits, "0x%08X", mask);
    return digits;
  }
  static std::string at(const Fiber& fiber) {
    return std::string(" at ") + fiber.file + ":" + std::to_string(fiber.line);
  }
  std::string text(std::size_t fiber) const {
    const uint3& i = fibers_[fiber].index;
    return "thread (" + std::to_string(i.x) + ", " + std::to_string(i.y) + ", " + std::to_string(i.z) + ")";
  }

  // Whether all lanes of `mask` wait for the same as `own`, which is about to.
  bool arrived(std::uint32_t mask, const Fiber& own) {
    const std::size_t warp = running_ / warp_size * warp_size;
    bool all = true;
    for (unsigned lane = 0; lane < warp_size; ++lane) {
      if ((mask >> lane & 1U) == 0) continue;
      const std::size_t i = warp + lane;
      if (i >= fibers_.size() || fibers_[i].state == State::returned)
        fail("lane " + std::to_string(lane) + " of the mask " + hex(mask) +
             (i >= fibers_.size() ? " is beyond the block" : " has returned") + at(own));
      const Fiber& other = fibers_[i];
      if (i == running_) continue;
      all = all && other.state == State::collective && other.kind == own.kind && other.mask == mask;
    }
    return all;
  }

  // Exchanges the values of the lanes of `mask` and lets them go on.
  void finish(std::uint32_t mask) {
    Fiber* const warp = &fibers_[running_ / warp_size * warp_size];
    const Fiber& own = fibers_[running_];
    std::uint32_t votes = 0;
    std::uint64_t reduced = 0;
    bool first = true;
    for (unsigned lane = 0; lane < warp_size; ++lane) {
      if ((mask >> lane & 1U) == 0) continue;
      const std::uint64_t value = warp[lane].value;
      if (value != 0) votes |= 1U << lane;
      if (own.kind == Collective::reduce) reduced = first ? value : own.combine(reduced, value);
      first = false;
    }
    for (unsigned lane = 0; lane < warp_size; ++lane) {
      if ((mask >> lane & 1U) == 0) continue;
      Fiber& fiber = warp[lane];
      fiber.result = {reduced, votes};
      if (own.kind == Collective::shuffle) {
        const auto source = static_cast<unsigned>(fiber.source);
        if ((mask >> source & 1U) == 0)
          fail("lane " + std::to_string(lane) + " reads lane " + std::to_string(source) +
               ", which is not in the mask " + hex(mask) + at(fiber));
        fiber.result.value = warp[source].value;
      } else if (own.kind == Collective::match) {
        fiber.result.votes = 0;
        for (unsigned other = 0; other < warp_size; ++other)
          if ((mask >> other & 1U) != 0 && warp[other].value == fiber.value) fiber.result.votes |= 1U << other;
      }
      fiber.state = State::ready;
    }
  }

  // The thread whose turn it is, or their number where none can go on.
  std::size_t next() {
    const std::size_t count = fibers_.size();
    const bool reversed = schedule_ == Schedule::round_robin_reversed || schedule_ == Schedule::one_warp_reversed;
    const auto ready_from = [&](std::size_t begin, std::size_t size, std::size_t after) {
      // The first ready one of `size` threads from `begin`, beginning behind `after`, which comes last.
      for (std::size_t step = 1; step <= size; ++step) {
        const std::size_t i = begin + (after - begin + (reversed ? size - step : step)) % size;
        if (fibers_[i].state == State::ready) return i;
      }
      return count;
    };
    if (running_ >= count) running_ = reversed ? 0 : count - 1;  // at the start: the first is next
    if (schedule_ == Schedule::shuffled) {
      random_ = random_ * 6364136223846793005U + 1442695040888963407U;
      return ready_from(0, count, static_cast<std::size_t>(random_ >> 33U) % count);
    }
    if (schedule_ == Schedule::one_warp || schedule_ == Schedule::one_warp_reversed) {
      const std::size_t warp = running_ / warp_size * warp_size;
      const std::size_t size = count - warp < warp_size ? count - warp : warp_size;
      if (started_) {
        const std::size_t i = ready_from(warp, size, running_);
        if (i < count) return i;
      }
      // Behind the warp's last thread, so that the next warp comes first.
      started_ = true;
      return ready_from(0, count, reversed ? warp : warp + size - 1);
    }
    return ready_from(0, count, running_);
  }

  void wait() {
    const std::size_t from = running_;
    const std::size_t to = next();
    if (to == fibers_.size()) fail(stuck());
    if (to == from) return;
    running_ = to;
    enter(fibers_[to]);
    switch_from(fibers_[from].context, fibers_[to].context, false);
  }

  static void enter(const Fiber& fiber) { thread_index = fiber.index; }

  std::string stuck() const {
    std::size_t waiting[4] = {};
    std::size_t first[4] = {};
    for (std::size_t i = fibers_.size(); i-- > 0;) {
      ++waiting[static_cast<std::size_t>(fibers_[i].state)];
      first[static_cast<std::size_t>(fibers_[i].state)] = i;
    }
    std::string message = "divergent threads:";
    const auto add = [&](State state, const char* what) {
      const auto s = static_cast<std::size_t>(state);
      if (waiting[s] == 0) return;
      message += message.back() == ':' ? " " : ", ";
      message += std::to_string(waiting[s]) + " " + what + " (the first: " + text(first[s]);
      if (state != State::returned) message += at(fibers_[first[s]]);
      if (state == State::collective) message += ", mask " + hex(fibers_[first[s]].mask);
      message += ")";
    };
    add(State::barrier, "wait at __syncthreads");
    add(State::collective, "wait for lanes of their warp");
    add(State::returned, "have returned");
    return message;
  }

  // The first function on a fiber's stack.
  static void start() {
    Block& block = *current;
    block.switched();
    const std::size_t to = block.run_thread();
    const std::size_t from = block.running_;
    const bool more = to < block.fibers_.size();
    if (more) {
      block.running_ = to;
      enter(block.fibers_[to]);
    }
    block.switch_from(block.fibers_[from].context, more ? block.fibers_[to].context : block.host_, true);
  }

  // Returns the thread that goes on afterwards, or the number of threads where the block has ended.
  std::size_t run_thread() {
    try {
      body_();
      check_copies(fibers_[running_]);
      fibers_[running_].state = State::returned;
      ++returned_;
      const std::size_t to = next();
      if (to == fibers_.size() && returned_ < fibers_.size()) fail(stuck());
      return to;
    } catch (const Abandoned&) {
    } catch (const std::exception& error) {
      failure_ = std::string("the kernel threw: ") + error.what();
    }
    return fibers_.size();
  }

  void check_copies(const Fiber& own) {
    const Copy* left = own.copies.empty() ? nullptr : own.copies.data();
    for (const std::vector<Copy>& group : own.groups)
      if (!group.empty()) left = group.data();
    if (left != nullptr)
      fail(text(running_) + " returns before its copy has landed, at " + left->file + ":" + std::to_string(left->line));
  }

  void prepare(Context& context, std::byte* stack) {
    context.bottom = stack;
    context.size = stack_size;
#if defined(__x86_64__)
    // As convec_switch_stack leaves it: six registers and the address to return to, 8 bytes off a multiple of 16 as at
    // the entry of any function.
    void** top = reinterpret_cast<void**>(stack + stack_size) - 2;
    *top = reinterpret_cast<void*>(&start);
    context.stack_pointer = top - 6;
#else
    ::getcontext(&context.registers);
    context.registers.uc_stack.ss_sp = stack;
    context.registers.uc_stack.ss_size = stack_size;
    context.registers.uc_link = nullptr;
    ::makecontext(&context.registers, &start, 0);
#endif
  }

  // `forever`: `from` is never entered again.
  void switch_from(Context& from, Context& to, bool forever) {
#if defined(CONVEC_ADDRESS_SANITIZER)
    __sanitizer_start_switch_fiber(forever ? nullptr : &from.fake_stack, to.bottom, to.size);
#endif
    left_ = &from;
    entered_ = &to;
#if defined(__x86_64__)
    convec_switch_stack(&from.stack_pointer, to.stack_pointer);
#else
    ::swapcontext(&from.registers, &to.registers);
#endif
    static_cast<void>(forever);
    switched();
  }

  void switched() {
#if defined(CONVEC_ADDRESS_SANITIZER)
    // The host's stack is learnt from the first switch away from it.
    const void* bottom = nullptr;
    std::size_t size = 0;
    __sanitizer_finish_switch_fiber(entered_->fake_stack, &bottom, &size);
    if (left_ == &host_) {
      host_.bottom = bottom;
      host_.size = size;
    }
#endif
  }

  Schedule schedule_;
  std::uint64_t random_;
  std::byte* shared_;
  const std::function<void()>& body_;
  std::vector<Fiber> fibers_;
  Context host_;
  Context* left_ = nullptr;
  Context* entered_ = nullptr;
  std::size_t running_ = std::size_t{0} - 1;
  bool started_ = false;
  std::size_t returned_ = 0;
  std::size_t barrier_count_ = 0;
  int barrier_sum_ = 0;
  int barrier_result_ = 0;
  std::string failure_;
};

thread_local Block* Block::current = nullptr;

Block& running_block() {
  if (Block::current == nullptr) std::terminate();  // a function of the device was called from the host
  return *Block::current;
}

}  // namespace

std::string run_grid(const dim3& grid, const dim3& block, std::size_t shared_bytes, const std::function<void()>& body,
                     Schedule schedule, std::uint64_t seed) {
  thread_local Stacks stacks;
  block_size = block;
  grid_size = grid;
  // Of the exact size, so that AddressSanitizer sees what lies beyond.
  const std::unique_ptr<std::byte, void (*)(std::byte*)> shared(
      static_cast<std::byte*>(::operator new(shared_bytes, std::align_val_t{1024})),
      [](std::byte* memory) { ::operator delete(memory, std::align_val_t{1024}); });
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; ++x) {
        block_index = {x, y, z};
        // Nobody may count on what a block finds there: 0xFFFFFFFF is not a number.
        std::memset(shared.get(), 0xFF, shared_bytes);
        Block running(block, shared.get(), body, schedule, seed + x, stacks);
        const std::string failure = running.run();
        if (!failure.empty())
          return "block (" + std::to_string(x) + ", " + std::to_string(y) + ", " + std::to_string(z) + "): " + failure;
      }
  return {};
}

CollectiveResult collective(Collective kind, std::uint32_t mask, std::uint64_t value, int source, Combine combine,
                            const char* file, int line) {
  return running_block().collective(kind, mask, value, source, combine, file, line);
}
int barrier(int value, const char* file, int line) { return running_block().barrier(value, file, line); }
std::uint32_t active_mask() { return running_block().active_mask(); }
unsigned int lane() { return running_block().lane(); }
std::byte* dynamic_shared_memory() { return running_block().shared(); }
void trap(const char* file, int line) {
  running_block().fail(std::string("__trap() at ") + file + ":" + std::to_string(line));
}
void yield_thread() { running_block().yield(); }
void copy_async(void* shared, const void* global, unsigned int size, unsigned int source_size, const char* file,
                int line) {
  running_block().copy_async({shared, global, size, source_size, file, line});
}
void commit_copies() { running_block().commit_copies(); }
void wait_for_copies(unsigned int groups) { running_block().wait_for_copies(groups); }

}  // namespace convec::emulation
