// Collects the kernels of one ISA level. To add a domain: its header into kernel_table.hpp, its fill function here.
#include "cpu/kernels/kernel_table.hpp"

namespace convec::cpu::CONVEC_ISA_NAMESPACE {

void fill_gemm(GemmKernels& kernels);
void fill_pack(PackKernels& kernels);

void fill_table(KernelTable& table) {
  fill_gemm(table.gemm);
  fill_pack(table.pack);
}

}  // namespace convec::cpu::CONVEC_ISA_NAMESPACE
