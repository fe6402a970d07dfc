// Pieces of the dense layers that other drivers share.
#pragma once

#include <cstdint>

namespace convec::cpu {

class Scratch;

// A copy of the bias, padded with zeros to whole panels; null for null.
const float* padded_bias(Scratch& scratch, const float* bias, std::int64_t columns);

}  // namespace convec::cpu
