// A table of word vectors: rows padded to whole vectors, on huge pages where the system has them.
#pragma once

#include <cstdint>
#include <memory>

namespace convec::word2vec {

class Table {
 public:
  Table() = default;
  // Zeroed. Throws std::bad_alloc.
  Table(std::int64_t rows, std::int64_t stride);

  float* data() const noexcept { return data_.get(); }
  // The same memory, which lives as long as a copy of the pointer.
  const std::shared_ptr<float>& memory() const noexcept { return data_; }
  float* row(std::int64_t index) const noexcept { return data_.get() + index * stride_; }
  std::int64_t rows() const noexcept { return rows_; }
  std::int64_t stride() const noexcept { return stride_; }

 private:
  std::shared_ptr<float> data_;
  std::int64_t rows_ = 0;
  std::int64_t stride_ = 0;
};

}  // namespace convec::word2vec
