/// @file context.hpp
/// Where an op runs, and the library's own thread pool.
#pragma once

#include <cstdint>

#include <convec/export.hpp>
#include <convec/tensor.hpp>

namespace convec {

/// How exactly dense layers and convolutions multiply on a GPU. Arrays are float32 and products are summed in float32
/// whatever it is; what is less than float32 is used where it is asked for, never by itself. It is a floor, not an
/// order: the CPU, GPUs without the tensor cores it takes (before compute capability 8.0), and products too short to
/// gain by it compute in float32.
enum class MatmulPrecision : std::uint8_t {
  float32,        ///< float32 throughout
  tf32,           ///< factors rounded to the 10 stored bits of TF32's significand, float32's range
  tf32x3,         ///< "3xtf32": each factor as a sum of two TF32 numbers, three products: float32's error
  mixed_bfloat16  ///< factors rounded to bfloat16: 7 stored bits of significand, float32's range
};

/// The precision's name: "float32", "tf32", "3xtf32" or "mixed_bfloat16".
CONVEC_API const char* name_of(MatmulPrecision precision) noexcept;
/// The precision of that name. @throws ValueError there is none.
CONVEC_API MatmulPrecision parse_matmul_precision(const char* name);

/// The device an op runs on and, on CUDA, the stream it is launched on (an opaque cudaStream_t; null is the
/// default stream). Cheap to copy. Scratch memory is cached per thread inside the library.
struct Context {
  Device device;                                                ///< where it runs
  void* stream = nullptr;                                       ///< the device's stream; null: its default
  MatmulPrecision matmul_precision = MatmulPrecision::float32;  ///< of dense layers and convolutions
};

/// Threads used by ops on the CPU, the calling thread included. At first: CONVEC_NUM_THREADS, else the number
/// of processors this process may run on (its affinity, not the host's core count).
CONVEC_API int num_threads() noexcept;

/// Sets num_threads(). Results do not depend on it. @throws ValueError below 1 or above 1024.
CONVEC_API void set_num_threads(int threads);

/// Whether 3 x 3 convolutions at stride 1 and their gradients may run by Winograd's minimal filtering where that is
/// faster: F(4x4, 3x3), or F(2x2, 3x3) where fused with 2 x 2 max pooling in a network. It differs from the direct sum
/// by about two to four times the direct sum's own rounding error. At first true, unless the environment variable
/// CONVEC_WINOGRAD is 0.
CONVEC_API bool winograd() noexcept;
/// False: direct sums only. Not to be called while an op is running.
CONVEC_API void set_winograd(bool enabled) noexcept;

}  // namespace convec
