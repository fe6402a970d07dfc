#include "word2vec/table.hpp"

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace convec::word2vec {

Table::Table(std::int64_t rows, std::int64_t stride) : rows_(rows), stride_(stride) {
  // Rows are met at random, so that small pages would miss the TLB at nearly every one.
  constexpr std::size_t huge_page = std::size_t{1} << 21;
  const std::size_t bytes = static_cast<std::size_t>(rows) * static_cast<std::size_t>(stride);
  const std::size_t alignment = bytes < huge_page ? 64 : huge_page;
  const std::size_t rounded = (bytes + alignment) / alignment * alignment;
  void* memory = std::aligned_alloc(alignment, rounded);
  if (memory == nullptr) throw std::bad_alloc();
  data_.reset(static_cast<std::byte*>(memory), [](std::byte* freed) { std::free(freed); });
#if defined(__linux__)
  // A wish: refusal costs only speed.
  if (alignment == huge_page) static_cast<void>(::madvise(memory, rounded, MADV_HUGEPAGE));
#endif
  std::memset(memory, 0, rounded);
}

}  // namespace convec::word2vec
