/// @file cuda.hpp
/// Devices of NVIDIA. Programs that use them link convec::cuda besides convec::core.
#pragma once

#include <convec/tensor.hpp>

namespace convec::cuda {

/// Makes CUDA devices usable: ops on views whose device is {DeviceType::cuda, index}, and Network::to(). May be called
/// more than once.
/// @return the number of devices
/// @throws DeviceError there is no driver or no device; the message says which.
int load();

}  // namespace convec::cuda
