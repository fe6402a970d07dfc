// Products of dense layers by NVIDIA's cuBLASLt where it is found at run time. Nothing of it is needed to build, and
// nothing is linked; without it the kernels of matmul.hpp do the same.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include <convec/context.hpp>
#include <convec/ops/activation.hpp>
#include <convec/tensor.hpp>

#include "runtime.hpp"

namespace convec::cuda {

// C = activation(A B + bias), matrices with their rows one after the other in memory.
struct LtProduct {
  int64_t rows, columns, depth;  // C is (rows, columns)
  const void* a;
  bool a_transposed;  // (depth, rows) in memory, else (rows, depth)
  const void* b;
  bool b_transposed;  // (columns, depth) in memory, else (depth, columns)
  void* c;
  const float* bias = nullptr;  // one a column, or null
  Activation activation = Activation::linear;
  // Sums of the columns of B, which is not transposed then, or null. Excludes bias and activation.
  float* column_sums = nullptr;
  // float32 or bfloat16; bias and column_sums are float32 and are for products of nothing else.
  DType factors = DType::float32;  // of a and b
  DType result = DType::float32;   // of c
};

// A cuBLASLt that was loaded, and the ways to multiply that it has chosen. May be used by several threads.
class CublasLt {
 public:
  // Throws DeviceError that says why the library cannot be used.
  explicit CublasLt(const std::string& library);
  ~CublasLt();
  CublasLt(const CublasLt&) = delete;
  CublasLt& operator=(const CublasLt&) = delete;

  // "cuBLASLt 13.1.0 (libcublasLt.so.13)".
  std::string name() const;

  // Queues the product; false where the library has nothing for it: more than it can, or an activation or precision
  // that it does not know. Sums run in an order that depends on shape and library alone. Throws DeviceError.
  bool multiply(const Context& context, Scratch& scratch, const LtProduct& product);

 private:
  struct Library;
  struct Plan;
  struct Plans;
  std::unique_ptr<Library> library_;
  std::unique_ptr<Plans> plans_;
};

// The library for all products, looked for at the first call, or null. The environment variable CONVEC_CUBLASLT names
// the file, or is 0: none. cuda_backend.hpp has what the extension module asks for and adds.
CublasLt* cublas_lt();
// For tests: in place of cublas_lt()'s until the next call, null: none. Must outlive its use.
void replace_cublas_lt(CublasLt* library);

}  // namespace convec::cuda
