// Arrays that end where memory ends.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

#include <convec/tensor.hpp>

#include "fuzz.hpp"

namespace convec::fuzz {

// Hands out arrays whose last byte is followed by a page that nobody may touch, and which follow bytes that must not
// change. What runs over them, also in a kernel that no sanitizer looks into, is noticed. One at a time.
class Guarded {
 public:
  static constexpr std::size_t most_bytes = std::size_t{1} << 17U;

  ~Guarded() {
    for (std::size_t i = 0; i < used_; ++i)
      for (std::size_t byte = 0; byte < watched; ++byte) FUZZ_CHECK(begins_[i][byte] == pattern);
  }

  void* bytes(std::size_t size) {
    FUZZ_CHECK(size <= most_bytes && used_ < most_arrays);
    begins_[used_] = region(used_) + most_bytes - size;
    std::memset(begins_[used_], pattern, watched);
    return begins_[used_++] + watched;
  }

 private:
  static constexpr std::size_t watched = 64;
  static constexpr std::size_t most_arrays = 24;
  static constexpr std::uint8_t pattern = 0xA5;

  // `watched` and most_bytes bytes, and the page after them.
  static std::uint8_t* region(std::size_t index) {
    static std::uint8_t* const all = [] {
      void* const memory = ::mmap(nullptr, most_arrays * stride(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      FUZZ_CHECK(memory != MAP_FAILED);
      for (std::size_t i = 0; i < most_arrays; ++i)
        FUZZ_CHECK(::mprotect(static_cast<std::uint8_t*>(memory) + i * stride(), stride() - page(),
                              PROT_READ | PROT_WRITE) == 0);
      return static_cast<std::uint8_t*>(memory);
    }();
    return all + (index + 1) * stride() - page() - most_bytes - watched;
  }
  static std::size_t page() { return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)); }
  static std::size_t stride() { return (watched + most_bytes + page() - 1) / page() * page() + page(); }

  std::uint8_t* begins_[most_arrays] = {};
  std::size_t used_ = 0;
};

}  // namespace convec::fuzz
