/// @file random.hpp
/// Random arrays for initial weights. Each element is a function of the seed and its index alone (Philox4x32-10,
/// Salmon et al., 2011), so the result depends on neither threads nor instruction set.
#pragma once

#include <cstdint>

#include <convec/export.hpp>
#include <convec/tensor.hpp>

namespace convec {

/// Fills with numbers uniform in [low, high): multiples of (high - low) / 2^24 from low on.
/// @param output any shape, float32, on the CPU
/// @throws DTypeError not float32. @throws DeviceError not on the CPU.
/// @throws ValueError low or high is not finite, or low is above high.
CONVEC_API void fill_uniform(TensorView output, float low, float high, std::uint64_t seed);

/// Fills with normally distributed numbers (Box & Muller, 1958).
/// @param output any shape, float32, on the CPU
/// @throws DTypeError not float32. @throws DeviceError not on the CPU.
/// @throws ValueError mean is not finite, stddev is negative or not finite.
CONVEC_API void fill_normal(TensorView output, float mean, float stddev, std::uint64_t seed);

/// Fills with normally distributed numbers, of which those more than two standard deviations from the mean are drawn
/// again (keras.initializers.TruncatedNormal). The result's own standard deviation is 0.8796 stddev.
/// @param output any shape, float32, on the CPU
/// @throws as fill_normal.
CONVEC_API void fill_truncated_normal(TensorView output, float mean, float stddev, std::uint64_t seed);

}  // namespace convec
