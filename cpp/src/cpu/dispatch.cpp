// Binds the chosen ISA level to its kernels.
#include <convec/cpu_features.hpp>

#include "cpu/kernels/kernel_table.hpp"

namespace convec::cpu {

namespace {

struct Tables {
  KernelTable baseline{};
  KernelTable avx2{};
  KernelTable avx512{};

  Tables() {
    isa_baseline::fill_table(baseline);
#if defined(__x86_64__)
    // Filling only stores addresses of functions; the code of a level runs only when it is chosen.
    if (detected_isa() >= IsaLevel::avx2) isa_avx2::fill_table(avx2);
    if (detected_isa() >= IsaLevel::avx512) isa_avx512::fill_table(avx512);
#endif
  }
};

}  // namespace

const KernelTable& kernels() noexcept {
  static const Tables tables;
  switch (current_isa()) {
    case IsaLevel::avx512:
      return tables.avx512;
    case IsaLevel::avx2:
      return tables.avx2;
    case IsaLevel::baseline:
      break;
  }
  return tables.baseline;
}

}  // namespace convec::cpu
