// Runs a fuzz target: under libFuzzer by its main, elsewhere by the one below.
//
//   convec_fuzz --target=NAME [--runs=N] [--seed=N] [FILE...]
//
// Without libFuzzer: the target's seeds, each of them cut at every byte (every so many of a long one), N mutations of
// them, and the files. `--write-seeds=DIR` writes the seeds of the target as files, for libFuzzer to begin with;
// `--list` prints the targets.
#include <algorithm>
#include <csignal>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>

#include <convec/context.hpp>

#include "fuzz.hpp"

namespace convec::fuzz {

namespace {

const Target* chosen = nullptr;

const char* value_of(const char* argument, const char* option) {
  const std::size_t length = std::strlen(option);
  return std::strncmp(argument, option, length) == 0 ? argument + length : nullptr;
}

[[noreturn]] void stop(const std::string& message) {
  std::fprintf(stderr, "convec_fuzz: %s\n", message.c_str());
  std::exit(2);
}

void choose(const char* name) {
  for (const Target& target : targets())
    if (std::strcmp(target.name, name) == 0) chosen = &target;
  if (chosen == nullptr) stop(std::string("there is no target '") + name + "'; --list prints them");
}

// What both mains know. False for an option that is none of these.
bool common_option(const char* argument) {
  if (const char* const name = value_of(argument, "--target=")) {
    choose(name);
  } else if (std::strcmp(argument, "--list") == 0) {
    for (const Target& target : targets()) std::puts(target.name);
    std::exit(0);
  } else if (const char* const folder = value_of(argument, "--write-seeds=")) {
    if (chosen == nullptr) stop("--target=NAME must come before --write-seeds");
    int number = 0;
    for (const std::string& seed : chosen->seeds()) {
      std::ofstream file(std::string(folder) + "/seed" + std::to_string(number++), std::ios::binary);
      file.write(seed.data(), static_cast<std::streamsize>(seed.size()));
      if (!file.flush()) stop(std::string("cannot write to ") + folder);
    }
    std::exit(0);
  } else {
    return false;
  }
  return true;
}

void run(const std::uint8_t* data, std::size_t size) {
  // A copy of exactly this size on the heap: reading beyond it is noticed.
  const std::vector<std::uint8_t> copy(data, data + size);
  Input input(copy.data(), copy.size());
  chosen->run(input);
}

}  // namespace

}  // namespace convec::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  convec::fuzz::run(data, size);
  return 0;
}

#ifdef CONVEC_LIBFUZZER

extern "C" int LLVMFuzzerInitialize(int* count, char*** arguments) {
  for (int i = 1; i < *count; ++i) convec::fuzz::common_option((*arguments)[i]);
  if (convec::fuzz::chosen == nullptr) convec::fuzz::stop("--target=NAME is missing");
  // Two fuzzers share two processors, and an input is too small to share.
  convec::set_num_threads(1);
  return 0;
}

#else

namespace convec::fuzz {

namespace {

// The case in work, for the message when it ends the program.
std::string last_case;

void run(const std::string& bytes) {
  last_case = bytes;
  run(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
}

// Leaves the input that a target died of where libFuzzer would, and is called by abort() and by the sanitizers.
void keep_last_case(int /*signal*/ = 0) {
  std::ofstream file(std::string("crash-") + chosen->name, std::ios::binary);
  file.write(last_case.data(), static_cast<std::streamsize>(last_case.size()));
  std::fprintf(stderr, "convec_fuzz: the input is in crash-%s\n", chosen->name);
}

std::string mutated(const std::vector<std::string>& seeds, std::mt19937_64& random) {
  const auto below = [&random](std::size_t count) { return static_cast<std::size_t>(random() % count); };
  std::string bytes = seeds[below(seeds.size())];
  for (std::size_t change = 0, changes = 1 + below(4); change < changes; ++change) {
    const std::size_t at = bytes.empty() ? 0 : below(bytes.size());
    const std::size_t length = std::min(bytes.size() - at, 1 + below(16));
    switch (below(9)) {
      case 0:
        if (!bytes.empty()) bytes[at] = static_cast<char>(static_cast<unsigned char>(bytes[at]) ^ 1U << below(8));
        break;
      case 1:
        if (!bytes.empty()) bytes[at] = static_cast<char>(random());
        break;
      case 2:
        bytes.resize(at);
        break;
      case 3:
        bytes.erase(at, length);
        break;
      case 4:
        bytes.insert(at, bytes.substr(at, length));
        break;
      case 5: {
        // A size that is none.
        constexpr std::uint64_t sizes[] = {0, 1, 0x7F, 0xFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF, ~0ULL};
        const std::uint64_t size = sizes[below(std::size(sizes))];
        std::memcpy(bytes.data() + at, &size, std::min(bytes.size() - at, sizeof size));
        break;
      }
      case 6: {
        constexpr const char* texts[] = {
            "9223372036854775807", "-1", "1e999", "[[[[[[[[", "{\"a\":", "\xC3", "\n", "NaN"};
        bytes.insert(at, texts[below(std::size(texts))]);
        break;
      }
      case 7:
        bytes.insert(at, std::string(1 + below(64), static_cast<char>(random())));
        break;
      default: {
        const std::string& other = seeds[below(seeds.size())];
        if (!other.empty()) bytes = bytes.substr(0, at) + other.substr(below(other.size()));
      }
    }
  }
  return bytes;
}

int run_all(int count, char** arguments) {
  long runs = 0;
  std::uint64_t seed = 0;
  std::vector<std::string> files;
  for (int i = 1; i < count; ++i) {
    const char* const argument = arguments[i];
    if (common_option(argument)) continue;
    if (const char* const text = value_of(argument, "--runs="))
      runs = std::strtol(text, nullptr, 10);
    else if (const char* const number = value_of(argument, "--seed="))
      seed = std::strtoull(number, nullptr, 10);
    else if (argument[0] == '-')
      stop(std::string("the option ") + argument + " is not known");
    else
      files.emplace_back(argument);
  }
  if (chosen == nullptr) stop("--target=NAME is missing");
  long done = 0;
  for (const std::string& file : files) {
    std::ifstream stream(file, std::ios::binary);
    if (!stream) stop("cannot read " + file);
    run(std::string(std::istreambuf_iterator<char>(stream), {}));
    ++done;
  }
  const std::vector<std::string> seeds = chosen->seeds();
  constexpr std::size_t most_cuts = 1000;
  for (const std::string& bytes : seeds) {
    for (std::size_t size = 0; size < bytes.size(); size += 1 + bytes.size() / most_cuts, ++done)
      run(bytes.substr(0, size));
    run(bytes);
    ++done;
  }
  std::mt19937_64 random(seed);
  for (long i = 0; i < runs; ++i, ++done) run(mutated(seeds, random));
  std::printf("%s: %ld inputs\n", chosen->name, done);
  return 0;
}

}  // namespace

}  // namespace convec::fuzz

extern "C" {
__attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)());
}

int main(int count, char** arguments) {
  std::signal(SIGABRT, convec::fuzz::keep_last_case);
  if (__sanitizer_set_death_callback != nullptr) __sanitizer_set_death_callback([] { convec::fuzz::keep_last_case(); });
  return convec::fuzz::run_all(count, arguments);
}

#endif
