#include "backend.hpp"

#include <atomic>

#include <convec/error.hpp>

namespace convec {

namespace {

std::atomic<Backend*> cuda_backend{nullptr};

}  // namespace

StepGraph::~StepGraph() = default;
Backend::~Backend() = default;

Backend* find_backend(DeviceType type) noexcept { return type == DeviceType::cuda ? cuda_backend.load() : nullptr; }

Backend& backend(Device device) {
  Backend* found = find_backend(device.type);
  if (found == nullptr)
    throw DeviceError(
        "an array is on " + to_string(device) +
        ", but the CUDA backend is not loaded; in Python convec.device('cuda:0') loads it and says why it "
        "cannot, in C++ link convec::cuda and call convec::cuda::load(), or move the array to the host, "
        "e.g. cupy.asnumpy(array)");
  return *found;
}

void set_backend(Backend* backend) noexcept { cuda_backend.store(backend); }

}  // namespace convec
