// Detection of the instruction-set level. Compiled with baseline flags.
#include <convec/cpu_features.hpp>

#include <atomic>
#include <cstdlib>
#include <cstring>

#include <convec/error.hpp>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace convec {

namespace {

#if defined(__x86_64__)

struct Registers {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Registers cpuid(unsigned leaf, unsigned subleaf = 0) {
  Registers r;
  if (__get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx) == 0) return {};
  return r;
}

// Which register states the operating system saves (XCR0).
unsigned long long saved_states() {
  unsigned low = 0;
  unsigned high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<unsigned long long>(high) << 32U) | low;
}

bool has(unsigned word, unsigned bit) { return ((word >> bit) & 1U) != 0; }

IsaLevel detect() {
  const Registers leaf1 = cpuid(1);
  const bool os_saves = has(leaf1.ecx, 27);
  const unsigned long long states = os_saves ? saved_states() : 0;
  const Registers leaf7 = cpuid(7);
  // Every flag of CONVEC_ISA_FLAGS_avx2 in cpp/cmake/ConvecCompile.cmake: AVX, AVX2, FMA, F16C, BMI, BMI2.
  const bool avx2 = (states & 0x6U) == 0x6U && has(leaf1.ecx, 28) && has(leaf1.ecx, 12) && has(leaf1.ecx, 29) &&
                    has(leaf7.ebx, 5) && has(leaf7.ebx, 3) && has(leaf7.ebx, 8);
  if (!avx2) return IsaLevel::baseline;
  // AVX-512 F, DQ, CD, BW, VL, and PREFETCHW.
  const bool avx512 = (states & 0xE6U) == 0xE6U && has(leaf7.ebx, 16) && has(leaf7.ebx, 17) && has(leaf7.ebx, 28) &&
                      has(leaf7.ebx, 30) && has(leaf7.ebx, 31) && has(cpuid(0x80000001U).ecx, 8);
  return avx512 ? IsaLevel::avx512 : IsaLevel::avx2;
}

#else

IsaLevel detect() { return IsaLevel::baseline; }

#endif

// CONVEC_ISA may only lower the level; a name that is not known or not available is ignored here, because loading
// the library must not fail (`convec info` shows the level in use).
IsaLevel chosen_at_load() {
  const IsaLevel best = detected_isa();
  const char* wanted = std::getenv("CONVEC_ISA");
  if (wanted == nullptr) return best;
  for (const IsaLevel level : available_isas())
    if (std::strcmp(name_of(level), wanted) == 0) return level;
  return best;
}

std::atomic<IsaLevel>& current() {
  static std::atomic<IsaLevel> level{chosen_at_load()};
  return level;
}

}  // namespace

const char* name_of(IsaLevel level) noexcept {
  switch (level) {
    case IsaLevel::baseline:
      return "baseline";
    case IsaLevel::avx2:
      return "avx2";
    case IsaLevel::avx512:
      return "avx512";
  }
  return "?";
}

IsaLevel detected_isa() noexcept {
  static const IsaLevel level = detect();
  return level;
}

std::vector<IsaLevel> available_isas() {
  std::vector<IsaLevel> levels;
  for (const IsaLevel level : {IsaLevel::baseline, IsaLevel::avx2, IsaLevel::avx512})
    if (level <= detected_isa()) levels.push_back(level);
  return levels;
}

IsaLevel current_isa() noexcept { return current().load(std::memory_order_relaxed); }

void set_isa(IsaLevel level) {
  if (level > detected_isa())
    throw ValueError(std::string("isa is '") + name_of(level) + "', but this machine supports levels up to '" +
                     name_of(detected_isa()) + "'");
  current().store(level, std::memory_order_relaxed);
}

IsaLevel parse_isa(const std::string& name) {
  for (const IsaLevel level : {IsaLevel::baseline, IsaLevel::avx2, IsaLevel::avx512})
    if (name == name_of(level)) return level;
  throw ValueError("isa is '" + name + "', but must be 'baseline', 'avx2' or 'avx512'");
}

std::string cpu_name() {
#if defined(__x86_64__)
  if (cpuid(0x80000000U).eax >= 0x80000004U) {
    char text[49] = {};
    for (unsigned part = 0; part < 3; ++part) {
      const Registers r = cpuid(0x80000002U + part);
      std::memcpy(text + part * 16, &r, sizeof r);
    }
    std::string name(text);
    while (!name.empty() && name.back() == ' ') name.pop_back();
    if (!name.empty()) return name;
  }
#endif
  return "unknown";
}

}  // namespace convec
