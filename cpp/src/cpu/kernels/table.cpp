// Collects the kernels of one ISA level. To add a domain: its header into kernel_table.hpp, its fill function here.
#include "cpu/kernels/kernel_table.hpp"

namespace convec::cpu::CONVEC_ISA_NAMESPACE {

void fill_gemm(GemmKernels& kernels);
void fill_conv_pool(ConvPoolKernels& kernels);
void fill_winograd(WinogradKernels& kernels);
void fill_pack(PackKernels& kernels);
void fill_pool2d(PoolKernels& kernels);
void fill_activation(ActivationKernels& kernels);
void fill_loss(LossKernels& kernels);
void fill_batch_norm(BatchNormKernels& kernels);
void fill_optimizer(OptimizerKernels& kernels);
void fill_word2vec(Word2VecKernels& kernels);
void fill_vectors(VectorKernels& kernels);

void fill_table(KernelTable& table) {
  fill_gemm(table.gemm);
  fill_conv_pool(table.conv_pool);
  fill_winograd(table.winograd);
  fill_pack(table.pack);
  fill_pool2d(table.pool);
  fill_activation(table.activation);
  fill_loss(table.loss);
  fill_batch_norm(table.batch_norm);
  fill_optimizer(table.optimizer);
  fill_word2vec(table.word2vec);
  fill_vectors(table.vectors);
}

}  // namespace convec::cpu::CONVEC_ISA_NAMESPACE
