// CUDA's rows of the op table, one fill function a domain.
#pragma once

#include "op_table.hpp"

namespace convec::cuda {

void fill_conv2d(OpTable& table);
void fill_dense(OpTable& table);
// What conv2d and dense are on bfloat16 arrays; called by the functions above.
void fill_conv2d_bfloat16(OpTable& table);
void fill_dense_bfloat16(OpTable& table);
void fill_pool2d(OpTable& table);
void fill_activation(OpTable& table);
void fill_loss(OpTable& table);
void fill_batch_norm(OpTable& table);
void fill_optimizer(OpTable& table);

}  // namespace convec::cuda
