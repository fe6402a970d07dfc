// The CPU's rows of the op table, one fill function a domain.
#pragma once

#include "op_table.hpp"

namespace convec::cpu {

void fill_conv2d(OpTable& table);
void fill_dense(OpTable& table);

}  // namespace convec::cpu
