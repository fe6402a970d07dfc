// What the processor says of its caches. How work is cut into blocks may depend on it where results do not.
#pragma once

#include <cstdint>

namespace convec::cpu {

// Bytes of a core's second-level cache; 1 MB where the system does not tell. Asked for once.
std::int64_t second_level_cache() noexcept;

}  // namespace convec::cpu
