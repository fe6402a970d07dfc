#include "cpu/cache.hpp"

#include <algorithm>

#include <unistd.h>

namespace convec::cpu {

namespace {

std::int64_t ask_second_level_cache() {
  constexpr std::int64_t usual = 1024 * 1024;
#if defined(_SC_LEVEL2_CACHE_SIZE)
  const std::int64_t told = sysconf(_SC_LEVEL2_CACHE_SIZE);
  // A virtual machine may tell anything.
  if (told > 0) return std::clamp<std::int64_t>(told, usual / 4, usual * 4);
#endif
  return usual;
}

}  // namespace

std::int64_t second_level_cache() noexcept {
  static const std::int64_t bytes = ask_second_level_cache();
  return bytes;
}

}  // namespace convec::cpu
