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
  Word2VecReplica(Word2VecReplica&&) noexcept;             ///< leaves the other empty
  Word2VecReplica& operator=(Word2VecReplica&&) noexcept;  ///< leaves the other empty

  std::int64_t rows() const noexcept;        ///< of the table
  std::int64_t row_stride() const noexcept;  ///< numbers of a row, padding included

  /// Writes by how much rows have changed, and the sums of the squares of that.
  /// @param which row numbers, or null: 0, 1, 2, ...
  /// @param begin,end of `which`
  /// @param changes (end - begin, row_stride) floats
  /// @param squares (end - begin) floats
  /// @throws ValueError a row is not there
  void changes(const std::int64_t* which, std::int64_t begin, std::int64_t end, float* changes, float* squares) const;
  /// Row r becomes what it was + f * changes[i], on every process the same bits, and is remembered as that.
  ///
  /// Changes that have nothing to do with each other add up; of changes into the same direction, which all processes
  /// found from the same state, the sum goes too far. So f is 1 for orthogonal changes d, factors[i] for equal ones,
  /// and in between by c = (|sum d|^2 / sum |d|^2 - 1) / (processes - 1), their mean cosine (after Maleki et al.,
  /// "Scaling Distributed Training with Adaptive Summation", 2021): f = 1 - c (1 - factors[i]), with c in [0, 1].
  /// @param which,begin,end as in changes()
  /// @param changes,squares sums over the processes of what changes() wrote
  /// @param factors (end - begin)
  /// @param processes at least 2
  /// @throws ValueError a row is not there, or there are fewer processes
  void apply(const std::int64_t* which, std::int64_t begin, std::int64_t end, const float* changes,
             const float* squares, const float* factors, std::int64_t processes);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace convec
