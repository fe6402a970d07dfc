// CUDA's resources as owning objects, its errors as exceptions, and scratch memory. Compiles as CUDA and, against
// cuda/emulation, as plain C++.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include <convec/context.hpp>
#include <convec/error.hpp>

#include "check.hpp"

namespace convec::cuda {

using std::int64_t;

inline cudaStream_t stream_of(const Context& context) { return static_cast<cudaStream_t>(context.stream); }

// Makes a device current for a scope.
class DeviceGuard {
 public:
  // Throws DeviceError where there is no such device.
  explicit DeviceGuard(int device);
  ~DeviceGuard();
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int before_ = 0;
  bool changed_ = false;
};

// Uninitialised memory of a device. Throws DeviceError that says how much was asked for and how much is free.
void* allocate_bytes(int device, std::size_t bytes);
void release_bytes(int device, void* memory) noexcept;
// Throws DeviceError where so much is not free: "out of memory on cuda:0: <what> needs 12 MB, but ...; <remedy>".
void require_memory(int device, int64_t bytes, const std::string& what, const std::string& remedy);
void* allocate_pinned_bytes(std::size_t bytes);
void release_pinned_bytes(void* memory) noexcept;

// An array in a device's memory, uninitialised.
template <typename T>
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  DeviceBuffer(int device, int64_t count)
      : device_(device),
        count_(count),
        data_(static_cast<T*>(allocate_bytes(device, static_cast<std::size_t>(count) * sizeof(T)))) {}
  ~DeviceBuffer() { release_bytes(device_, data_); }
  DeviceBuffer(DeviceBuffer&& other) noexcept { swap(other); }
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    swap(other);
    return *this;
  }

  T* data() const noexcept { return data_; }
  int64_t size() const noexcept { return count_; }

 private:
  void swap(DeviceBuffer& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(count_, other.count_);
    std::swap(data_, other.data_);
  }

  int device_ = 0;
  int64_t count_ = 0;
  T* data_ = nullptr;
};

// An array in host memory that a device reads and writes at full speed, uninitialised.
template <typename T>
class PinnedBuffer {
 public:
  PinnedBuffer() = default;
  explicit PinnedBuffer(int64_t count)
      : count_(count), data_(static_cast<T*>(allocate_pinned_bytes(static_cast<std::size_t>(count) * sizeof(T)))) {}
  ~PinnedBuffer() { release_pinned_bytes(data_); }
  PinnedBuffer(PinnedBuffer&& other) noexcept { swap(other); }
  PinnedBuffer& operator=(PinnedBuffer&& other) noexcept {
    swap(other);
    return *this;
  }

  T* data() const noexcept { return data_; }
  int64_t size() const noexcept { return count_; }

 private:
  void swap(PinnedBuffer& other) noexcept {
    std::swap(count_, other.count_);
    std::swap(data_, other.data_);
  }

  int64_t count_ = 0;
  T* data_ = nullptr;
};

// A stream that does not wait for the default stream.
class Stream {
 public:
  explicit Stream(int device);
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  cudaStream_t get() const noexcept { return stream_; }
  int device() const noexcept { return device_; }
  // Until its work is done.
  void wait() const;

 private:
  int device_;
  cudaStream_t stream_ = nullptr;
};

class Event {
 public:
  explicit Event(int device, bool timed = false);
  ~Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  void record(cudaStream_t stream);
  // Until what was recorded is done.
  void wait() const;
  // Lets `stream` wait for it.
  void hold(cudaStream_t stream) const;
  // Milliseconds since another event; both timed and done.
  float since(const Event& start) const;

 private:
  int device_;
  cudaEvent_t event_ = nullptr;
};

// Scratch memory of the work launched within a scope. It belongs to the stream, whose order makes it safe to use again:
// a Scratch holds its stream's arena until it is destroyed, and makes the context's device current. Memory is never
// given back while the stream is in use, so that a captured graph may hold on to it.
class Scratch {
 public:
  explicit Scratch(const Context& context);
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  // Uninitialised, aligned to 256 bytes. Throws DeviceError.
  template <typename T>
  T* take(int64_t count) {
    return static_cast<T*>(take_bytes(static_cast<std::size_t>(count) * sizeof(T)));
  }

 private:
  void* take_bytes(std::size_t bytes);

  struct Arena;
  friend void forget_scratch(int device, cudaStream_t stream) noexcept;
  friend struct Arenas;
  DeviceGuard guard_;
  int device_;
  Arena* arena_;
};

// Gives back the scratch memory of a stream whose work is done.
void forget_scratch(int device, cudaStream_t stream) noexcept;

// Number of multiprocessors of a device, asked for once.
int multiprocessors(int device);

}  // namespace convec::cuda
