// Errors of the CUDA runtime as convec's exceptions.
#pragma once

#include <string>

#include <cuda_runtime.h>

#include <convec/error.hpp>

namespace convec::cuda {

// Throws DeviceError: "<what> failed: <the runtime's words> (<name>)". The error is taken off the runtime's own memory,
// so that later calls do not report it once more.
inline void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  static_cast<void>(cudaGetLastError());
  throw DeviceError(std::string(what) + " failed: " + cudaGetErrorString(error) + " (" + cudaGetErrorName(error) + ")");
}

}  // namespace convec::cuda
