#include "cpu/scratch.hpp"

#include <memory>
#include <new>
#include <vector>

namespace convec::cpu {

namespace {

constexpr std::size_t alignment = 64;
constexpr std::size_t tail_bytes = 256;
constexpr std::size_t smallest_block = std::size_t{1} << 20;

struct Free {
  void operator()(std::byte* memory) const noexcept {
    ::operator delete[](memory, static_cast<std::align_val_t>(alignment));
  }
};

struct Block {
  std::unique_ptr<std::byte[], Free> memory;
  std::size_t size;
};

struct Stack {
  std::vector<Block> blocks;
  std::size_t block = 0;  // the one in use
  std::size_t used = 0;   // of it
};

thread_local Stack stack;

}  // namespace

Scratch::Scratch() : block_(stack.block), used_(stack.used) {}

Scratch::~Scratch() {
  stack.block = block_;
  stack.used = used_;
}

void* Scratch::take_bytes(std::size_t bytes) {
  const std::size_t rounded = (bytes + tail_bytes + alignment - 1) / alignment * alignment;
  while (stack.block < stack.blocks.size()) {
    Block& block = stack.blocks[stack.block];
    if (stack.used + rounded <= block.size) {
      void* memory = block.memory.get() + stack.used;
      stack.used += rounded;
      return memory;
    }
    ++stack.block;
    stack.used = 0;
  }
  std::size_t size = smallest_block;
  while (size < rounded) size *= 2;
  stack.blocks.push_back({std::unique_ptr<std::byte[], Free>(static_cast<std::byte*>(
                              ::operator new[](size, static_cast<std::align_val_t>(alignment)))),
                          size});
  stack.block = stack.blocks.size() - 1;
  stack.used = rounded;
  return stack.blocks.back().memory.get();
}

}  // namespace convec::cpu
