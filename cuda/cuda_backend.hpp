// The CUDA backend as the core sees it. No CUDA header is needed to include this.
#pragma once

#include <string>

#include "backend.hpp"

namespace convec::cuda {

// The only object of the backend. It needs neither a driver nor a device until it is asked for one.
Backend& the_backend();

// What this machine offers, without an exception.
struct Status {
  int devices = 0;
  int driver_version = 0;   // 13020 is 13.2; 0: no driver
  int runtime_version = 0;  // that this build was made with
  std::string problem;      // empty, or why no device can be used, in the driver's words
};
Status status();

// The cuBLASLt that dense layers use, or why there is none.
std::string cublas_lt_status();
// False: products go to convec's own kernels although there is one. Returns what it was. For comparisons; not to be
// called while an op is running.
bool use_cublas_lt(bool use);
// A file to look at where its usual names lead nowhere; to be called before the first product.
void add_cublas_lt(const std::string& library);

// Whether a convolution with a max pooling behind it is one kernel where it can be (at first it is), or two; the
// gradient of its filters likewise. For benchmarks and tests. Steps that were captured before stay as they are.
// Returns what it was.
bool fuse_pooling(bool enabled);
// Whether products on tensor cores have their tiles copied to shared memory asynchronously where they can (at first
// they have), or through registers. For benchmarks and tests, as above.
bool pipeline_products(bool enabled);
// Whether products of bfloat16 arrays are multiplied by warpgroups on devices of compute capability 9.0 (at first they
// are not: no GPU has run that yet). For benchmarks and tests, as above.
bool use_warpgroups(bool enabled);

}  // namespace convec::cuda
