// The micro-kernels of one ISA level. Per-ISA objects are compiled from the same sources with other flags; they hold
// pointer-signature kernels only: no objects that need construction, nothing from the standard library that another
// object might share (the linker may keep the AVX-512 copy of an inline function and crash an older CPU).
#pragma once

#include "cpu/kernels/activation.hpp"
#include "cpu/kernels/batch_norm.hpp"
#include "cpu/kernels/conv_pool.hpp"
#include "cpu/kernels/gemm.hpp"
#include "cpu/kernels/loss.hpp"
#include "cpu/kernels/optimizer.hpp"
#include "cpu/kernels/pack.hpp"
#include "cpu/kernels/pool2d.hpp"
#include "cpu/kernels/vectors.hpp"
#include "cpu/kernels/winograd.hpp"
#include "cpu/kernels/word2vec.hpp"

namespace convec::cpu {

// One member a domain. Each kernels/<domain>.cpp fills its member by `fill_<domain>` in its ISA's namespace;
// kernels/table.cpp calls them all.
struct KernelTable {
  GemmKernels gemm;
  ConvPoolKernels conv_pool;
  WinogradKernels winograd;
  PackKernels pack;
  PoolKernels pool;
  ActivationKernels activation;
  LossKernels loss;
  BatchNormKernels batch_norm;
  OptimizerKernels optimizer;
  Word2VecKernels word2vec;
  VectorKernels vectors;
};

namespace isa_baseline {
void fill_table(KernelTable& table);
}
namespace isa_avx2 {
void fill_table(KernelTable& table);
}
namespace isa_avx512 {
void fill_table(KernelTable& table);
}

// The table of current_isa().
const KernelTable& kernels() noexcept;

}  // namespace convec::cpu
