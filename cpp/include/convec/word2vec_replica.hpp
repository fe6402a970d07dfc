/// A table of word vectors of which several processes train a copy each.
#pragma once

#include <cstdint>
#include <memory>

#include <convec/export.hpp>
#include <convec/word2vec.hpp>

namespace convec {

/// Remembers the rows of a table as they were when all copies were last the same. Not thread-safe, and not to be used
/// while the table is trained.
class CONVEC_API Word2VecReplica {
 public:
  /// Remembers the rows as they are.
  /// @param table rows as Word2Vec::vectors() returns them
  /// @param precision of the numbers
  /// @param row_stride Word2Vec::row_stride()
  /// @throws ValueError there is no table, or a number is out of range
  Word2VecReplica(std::shared_ptr<void> table, Precision precision, std::int64_t rows, std::int64_t row_stride);
  ~Word2VecReplica();
  Word2VecReplica(Word2VecReplica&&) noexcept;
  Word2VecReplica& operator=(Word2VecReplica&&) noexcept;

  std::int64_t rows() const noexcept;        ///< of the table
  std::int64_t row_stride() const noexcept;  ///< numbers of a row, padding included

  /// Writes by how much rows have changed.
  /// @param which row numbers, or null: 0, 1, 2, ...
  /// @param begin,end of `which`
  /// @param changes (end - begin, row_stride) floats
  /// @throws ValueError a row is not there
  void changes(const std::int64_t* which, std::int64_t begin, std::int64_t end, float* changes) const;
  /// Row r becomes what it was + factors[i] * changes[i], on every process the same bits, and is remembered as that.
  /// @param which,begin,end as in changes()
  /// @param changes (end - begin, row_stride) floats, such as sums over the processes
  /// @param factors (end - begin)
  /// @throws ValueError a row is not there
  void apply(const std::int64_t* which, std::int64_t begin, std::int64_t end, const float* changes,
             const float* factors);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace convec
