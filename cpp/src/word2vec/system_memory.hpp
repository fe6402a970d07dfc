// Large arrays straight from the system. What malloc gets back it may keep: it would add to the memory of training.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <memory>
#include <new>

namespace convec::word2vec {

// Memory of whole pages, zeroed. Throws std::bad_alloc.
inline void* system_allocate(std::size_t bytes) {
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  return memory;
}
inline void system_free(void* memory, std::size_t bytes) noexcept { ::munmap(memory, bytes); }

// For containers; small arrays come from the heap.
template <typename T>
class SystemAllocator {
 public:
  using value_type = T;

  SystemAllocator() = default;
  template <typename Other>
  SystemAllocator(const SystemAllocator<Other>&) noexcept {}  // NOLINT(google-explicit-constructor): as allocators are

  T* allocate(std::size_t count) {
    return is_large(count) ? static_cast<T*>(system_allocate(count * sizeof(T))) : std::allocator<T>().allocate(count);
  }
  void deallocate(T* memory, std::size_t count) noexcept {
    if (is_large(count))
      system_free(memory, count * sizeof(T));
    else
      std::allocator<T>().deallocate(memory, count);
  }

  friend bool operator==(const SystemAllocator&, const SystemAllocator&) noexcept { return true; }
  friend bool operator!=(const SystemAllocator&, const SystemAllocator&) noexcept { return false; }

 private:
  static constexpr std::size_t least_bytes = std::size_t{64} * 1024;
  static bool is_large(std::size_t count) noexcept { return count >= least_bytes / sizeof(T); }
};

}  // namespace convec::word2vec
