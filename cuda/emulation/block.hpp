// Runs the blocks of a kernel on the calling thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "emulation.hpp"

// GCC and Clang say it in ways of their own.
#if defined(__SANITIZE_ADDRESS__)
#define CONVEC_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CONVEC_ADDRESS_SANITIZER 1
#endif
#endif

namespace convec::emulation {

// Returns what went wrong, or an empty string. Threads of a failed block are abandoned where they were.
std::string run_grid(const dim3& grid, const dim3& block, std::size_t shared_bytes, const std::function<void()>& body,
                     Schedule schedule, std::uint64_t seed);

}  // namespace convec::emulation
