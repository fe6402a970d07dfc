// Scratch memory: a stack of 64-byte aligned blocks per thread, kept for the next call.
#pragma once

#include <cstddef>
#include <cstdint>

namespace convec::cpu {

// Memory taken through a Scratch is given back, to the thread's cache, when the Scratch is destroyed. Scratches of
// one thread nest like stack frames. Contents are uninitialised. Every block is padded by 256 readable bytes at its
// end, so that a vector may read past the last element.
class Scratch {
 public:
  Scratch();
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  // Throws std::bad_alloc.
  template <typename T>
  T* take(std::int64_t count) {
    return static_cast<T*>(take_bytes(static_cast<std::size_t>(count) * sizeof(T)));
  }

 private:
  void* take_bytes(std::size_t bytes);
  std::size_t block_;
  std::size_t used_;
};

}  // namespace convec::cpu
