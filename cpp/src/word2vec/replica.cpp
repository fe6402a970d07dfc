#include <algorithm>
#include <string>
#include <utility>

#include <convec/error.hpp>
#include <convec/word2vec_replica.hpp>

#include "cpu/kernels/kernel_table.hpp"
#include "ops/check.hpp"
#include "word2vec/table.hpp"

namespace convec {

struct Word2VecReplica::Impl {
  std::shared_ptr<void> table;
  Precision precision;
  std::int64_t rows;
  std::int64_t row_size;
  word2vec::Table before;  // float32

  const cpu::Word2VecRowKernels& kernels() const {
    const cpu::Word2VecKernels& all = cpu::kernels().word2vec;
    return precision == Precision::float16 ? all.float16 : all.float32;
  }
  std::byte* row(std::int64_t index) const {
    const std::int64_t bytes = row_size * (precision == Precision::float16 ? 2 : 4);
    return static_cast<std::byte*>(table.get()) + index * bytes;
  }
  float* row_before(std::int64_t index) const { return reinterpret_cast<float*>(before.row(index)); }

  void check(const std::int64_t* which, std::int64_t begin, std::int64_t end) const {
    if (begin < 0 || end < begin || (which == nullptr && end > rows))
      throw ValueError("rows [" + std::to_string(begin) + ", " + std::to_string(end) +
                       ") are asked for, but there are " + std::to_string(rows));
    if (which == nullptr) return;
    for (std::int64_t i = begin; i < end; ++i)
      if (which[i] < 0 || which[i] >= rows)
        throw ValueError("which[" + std::to_string(i) + "] is " + std::to_string(which[i]) + ", but there are " +
                         std::to_string(rows) + " rows");
  }
};

Word2VecReplica::Word2VecReplica(std::shared_ptr<void> table, Precision precision, std::int64_t rows,
                                 std::int64_t row_stride) {
  if (table == nullptr) throw ValueError("table is null: the model has no such table");
  check::at_least(rows, 0, "rows");
  check::at_least(row_stride, cpu::word2vec_row_multiple, "row_stride");
  if (row_stride % cpu::word2vec_row_multiple != 0)
    throw ValueError("row_stride is " + std::to_string(row_stride) + ", but must be a multiple of " +
                     std::to_string(cpu::word2vec_row_multiple));
  impl_ = std::make_unique<Impl>(Impl{std::move(table), precision, rows, row_stride,
                                      word2vec::Table(rows, row_stride * static_cast<std::int64_t>(sizeof(float)))});
  for (std::int64_t i = 0; i < rows; ++i) impl_->kernels().read_row(row_stride, impl_->row(i), impl_->row_before(i));
}

Word2VecReplica::~Word2VecReplica() = default;
Word2VecReplica::Word2VecReplica(Word2VecReplica&&) noexcept = default;
Word2VecReplica& Word2VecReplica::operator=(Word2VecReplica&&) noexcept = default;

std::int64_t Word2VecReplica::rows() const noexcept { return impl_->rows; }
std::int64_t Word2VecReplica::row_stride() const noexcept { return impl_->row_size; }

void Word2VecReplica::changes(const std::int64_t* which, std::int64_t begin, std::int64_t end, float* changes,
                              float* squares) const {
  impl_->check(which, begin, end);
  const std::int64_t size = impl_->row_size;
  for (std::int64_t i = begin; i < end; ++i) {
    const std::int64_t index = which == nullptr ? i : which[i];
    squares[i - begin] =
        impl_->kernels().row_change(size, impl_->row(index), impl_->row_before(index), changes + (i - begin) * size);
  }
}

void Word2VecReplica::apply(const std::int64_t* which, std::int64_t begin, std::int64_t end, const float* changes,
                            const float* squares, const float* factors, std::int64_t processes) {
  check::at_least(processes, 2, "processes");
  impl_->check(which, begin, end);
  const std::int64_t size = impl_->row_size;
  for (std::int64_t i = begin; i < end; ++i) {
    const std::int64_t index = which == nullptr ? i : which[i];
    const float* const change = changes + (i - begin) * size;
    const float square = squares[i - begin];
    if (square == 0.0F) continue;  // nobody has changed it
    const float cosine =
        (impl_->kernels().sum_of_squares(size, change) / square - 1.0F) / static_cast<float>(processes - 1);
    const float alike = std::clamp(cosine, 0.0F, 1.0F);
    const float factor = 1.0F - alike * (1.0F - factors[i - begin]);
    impl_->kernels().move_row(size, factor, change, impl_->row_before(index), impl_->row(index));
  }
}

}  // namespace convec
