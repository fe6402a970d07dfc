// A table of word vectors: rows padded to whole vectors, on huge pages where the system has them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

namespace convec::word2vec {

class Table {
 public:
  Table() = default;
  // Zeroed. `stride` is in bytes. Throws std::bad_alloc.
  Table(std::int64_t rows, std::int64_t stride);
  // In memory that is there already.
  Table(std::shared_ptr<std::byte> memory, std::int64_t rows, std::int64_t stride)
      : data_(std::move(memory)), rows_(rows), stride_(stride) {}

  std::byte* data() const noexcept { return data_.get(); }
  // The same memory, which lives as long as a copy of the pointer.
  std::shared_ptr<void> memory() const noexcept { return data_; }
  std::byte* row(std::int64_t index) const noexcept { return data_.get() + index * stride_; }
  std::int64_t rows() const noexcept { return rows_; }
  std::int64_t stride() const noexcept { return stride_; }

 private:
  std::shared_ptr<std::byte> data_;
  std::int64_t rows_ = 0;
  std::int64_t stride_ = 0;
};

}  // namespace convec::word2vec
