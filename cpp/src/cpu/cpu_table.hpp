// The CPU's rows of the op table, one fill function a domain.
#pragma once

#include "op_table.hpp"

namespace convec::cpu {

void fill_conv2d(OpTable& table);
void fill_dense(OpTable& table);
void fill_pool2d(OpTable& table);
void fill_activation(OpTable& table);
void fill_loss(OpTable& table);
void fill_batch_norm(OpTable& table);
void fill_optimizer(OpTable& table);
void fill_bfloat16(OpTable& table);

}  // namespace convec::cpu
