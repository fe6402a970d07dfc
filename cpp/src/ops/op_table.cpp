#include "op_table.hpp"

#include "backend.hpp"
#include "cpu/cpu_table.hpp"

namespace convec {

const OpTable& op_table(Device device) {
  if (device.type != DeviceType::cpu) return backend(device).ops();
  static const OpTable table = [] {
    OpTable filled{};
    cpu::fill_conv2d(filled);
    cpu::fill_dense(filled);
    cpu::fill_pool2d(filled);
    cpu::fill_activation(filled);
    cpu::fill_loss(filled);
    cpu::fill_batch_norm(filled);
    cpu::fill_optimizer(filled);
    cpu::fill_bfloat16(filled);
    return filled;
  }();
  return table;
}

}  // namespace convec
