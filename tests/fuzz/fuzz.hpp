// A fuzz target takes any bytes and returns, or finds a fault and aborts. One program holds them all; libFuzzer runs
// one (--target=json), and so does driver.cpp, which has a simple mutator of its own, where there is no libFuzzer.
//
//   FUZZ_TARGET(json, [] { return std::vector<std::string>{"{}"}; }) { parse(input.rest()); }
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <limits>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include <convec/error.hpp>

namespace convec::fuzz {

[[noreturn]] inline void fail(const char* file, int line, const std::string& what) {
  std::fprintf(stderr, "%s:%d: %s\n", file, line, what.c_str());
  std::abort();
}

// Takes decisions from the bytes of an input; 0 where they have run out.
class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : at_(data), end_(data + size) {}

  std::uint8_t byte() { return at_ < end_ ? *at_++ : std::uint8_t{0}; }
  bool flag() { return (byte() & 1U) != 0; }
  // [0, count), at most 256.
  std::size_t below(std::size_t count) { return byte() % count; }
  std::int64_t between(std::int64_t least, std::int64_t most) {
    return least + static_cast<std::int64_t>(below(static_cast<std::size_t>(most - least + 1)));
  }
  std::uint64_t bits() {
    std::uint64_t value = 0;
    for (int i = 0; i < 8; ++i) value = value << 8U | byte();
    return value;
  }
  // Mostly [1, most]; now and then a number that an extent or a setting should not be.
  std::int64_t extent(std::int64_t most) {
    const std::uint8_t choice = byte();
    if (choice < 240) return 1 + choice % most;
    constexpr std::int64_t absurd[] = {0,
                                       -1,
                                       std::numeric_limits<std::int64_t>::min(),
                                       std::numeric_limits<std::int64_t>::max(),
                                       std::int64_t{1} << 31U,
                                       std::int64_t{1} << 32U,
                                       (std::int64_t{1} << 62U) - 1,
                                       65536};
    return choice < 248 ? absurd[choice - 240] : static_cast<std::int64_t>(bits());
  }
  // Mostly [0, most).
  std::int64_t from_zero(std::int64_t most) {
    const std::int64_t value = extent(most);
    return value == std::numeric_limits<std::int64_t>::min() ? value : value - 1;
  }
  // Mostly [-2, 2] in steps of 1/64; now and then one of the numbers that are no numbers, or hardly.
  float number() {
    const std::uint8_t choice = byte();
    if (choice < 240) return static_cast<float>(choice - 120) / 64.0F;
    using Limits = std::numeric_limits<float>;
    const float odd[] = {0.0F,
                         -0.0F,
                         1.0F,
                         1e-3F,
                         Limits::quiet_NaN(),
                         Limits::infinity(),
                         -Limits::infinity(),
                         Limits::max(),
                         Limits::lowest(),
                         Limits::min(),
                         Limits::denorm_min(),
                         1e30F};
    return odd[(choice - 240) % std::size(odd)];
  }
  std::string_view rest() {
    const std::string_view all(reinterpret_cast<const char*>(at_), static_cast<std::size_t>(end_ - at_));
    at_ = end_;
    return all;
  }
  std::size_t left() const { return static_cast<std::size_t>(end_ - at_); }

 private:
  const std::uint8_t* at_;
  const std::uint8_t* end_;
};

// The heap's growth while it lives, where a sanitizer counts it; 0 elsewhere.
class HeapPeak {
 public:
  HeapPeak();
  std::int64_t bytes() const;

 private:
  std::int64_t before_;
};

// What a reader may take before it has refused a file of `size` bytes.
constexpr std::int64_t refusal_budget(std::size_t size) {
  return 4 * static_cast<std::int64_t>(size) + (std::int64_t{16} << 20U);
}

// Runs `read`, which reads `size` bytes of a file. False where it refused them by one of convec's own exceptions;
// aborts where it had taken more memory by then than a reader may.
template <typename Read>
bool accepts(std::size_t size, Read&& read) {
  const HeapPeak peak;
  std::string refusal;
  try {
    read();
    return true;
  } catch (const Error& error) {
    refusal = error.what();
  }
  if (refusal.empty()) fail(__FILE__, __LINE__, "an error says nothing");
  if (peak.bytes() > refusal_budget(size))
    fail(__FILE__, __LINE__,
         "took " + std::to_string(peak.bytes()) + " bytes before it refused a file of " + std::to_string(size) + ": " +
             refusal);
  return false;
}

// As accepts() for calls that read no file. std::bad_alloc is an answer, too.
template <typename Call>
bool returns(Call&& call) {
  try {
    call();
    return true;
  } catch (const Error&) {
  } catch (const std::bad_alloc&) {
  }
  return false;
}

// Bytes [0, below) for seeds, always the same for a state.
inline std::string some_bytes(unsigned state, int size, unsigned below) {
  std::string bytes;
  for (int i = 0; i < size; ++i) {
    state = state * 1664525U + 1013904223U;
    bytes += static_cast<char>((state >> 24U) % below);
  }
  return bytes;
}

struct Target {
  const char* name;
  void (*run)(Input& input);
  std::vector<std::string> (*seeds)();
};

inline std::vector<Target>& targets() {
  static std::vector<Target> all;
  return all;
}

struct Registration {
  Registration(const char* name, void (*run)(Input&), std::vector<std::string> (*seeds)()) {
    targets().push_back({name, run, seeds});
  }
};

}  // namespace convec::fuzz

#define FUZZ_TARGET(name, seeds)                                                             \
  static void name##_target(convec::fuzz::Input& input);                                     \
  static const convec::fuzz::Registration name##_registration(#name, &name##_target, seeds); \
  static void name##_target(convec::fuzz::Input& input)

#define FUZZ_CHECK(condition)                                                         \
  do {                                                                                \
    if (!(condition)) convec::fuzz::fail(__FILE__, __LINE__, #condition " is false"); \
  } while (false)
