// Counts the heap by the sanitizers' hooks.
#include <atomic>

#include "fuzz.hpp"

extern "C" {
// Of sanitizer/common_interface_defs.h and sanitizer/allocator_interface.h; absent without a sanitizer.
__attribute__((weak)) int __sanitizer_install_malloc_and_free_hooks(void (*allocated)(const volatile void*,
                                                                                      std::size_t),
                                                                    void (*freed)(const volatile void*));
__attribute__((weak)) std::size_t __sanitizer_get_allocated_size(const volatile void* memory);
}

namespace convec::fuzz {

namespace {

std::atomic<std::int64_t> now{0};
std::atomic<std::int64_t> most{0};

void count_allocated(const volatile void* memory, std::size_t size) {
  if (memory == nullptr) return;
  const std::int64_t reached =
      now.fetch_add(static_cast<std::int64_t>(size), std::memory_order_relaxed) + static_cast<std::int64_t>(size);
  std::int64_t seen = most.load(std::memory_order_relaxed);
  while (reached > seen && !most.compare_exchange_weak(seen, reached, std::memory_order_relaxed)) {
  }
}

void count_freed(const volatile void* memory) {
  if (memory == nullptr) return;
  now.fetch_sub(static_cast<std::int64_t>(__sanitizer_get_allocated_size(memory)), std::memory_order_relaxed);
}

}  // namespace

HeapPeak::HeapPeak() {
  static const bool installed = __sanitizer_install_malloc_and_free_hooks != nullptr &&
                                __sanitizer_install_malloc_and_free_hooks(&count_allocated, &count_freed) != 0;
  static_cast<void>(installed);
  before_ = now.load();
  most.store(before_);
}

std::int64_t HeapPeak::bytes() const { return most.load() - before_; }

}  // namespace convec::fuzz
