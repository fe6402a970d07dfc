/// @file vectors.hpp
/// Keyed vectors: nearest neighbours by cosine similarity, rank correlations, near spellings of a key, and the
/// word2vec file formats. Everything runs in the library's threads; results do not depend on their number.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <convec/export.hpp>

namespace convec {

/// Read-only view of a (rows, dim) table of float32 vectors that somebody else owns. Row i starts at
/// data + i * stride; a stride above dim means padded rows.
struct VectorTable {
  const float* data = nullptr;  ///< first element
  std::int64_t rows = 0;        ///< number of vectors
  std::int64_t dim = 0;         ///< elements of a vector
  std::int64_t stride = 0;      ///< elements from one row to the next
};

/// Euclidean norms of the rows. Neither overflows nor underflows inside.
/// @param norms (rows,)
/// @throws ShapeError an extent is negative, or the stride is below dim.
CONVEC_API void vector_norms(const VectorTable& table, float* norms);

/// Dot products of every query with every row, divided by the row's norm where norms are given (0 where the norm is 0):
/// cosine similarities for queries of unit length.
/// @param norms (rows,), or null: no division
/// @param queries (count, dim)
/// @param output (count, rows)
/// @throws ShapeError as vector_norms, or the count is negative.
CONVEC_API void vector_similarities(const VectorTable& table, const float* norms, const float* queries,
                                    std::int64_t count, float* output);

/// What a search returns and where it looks.
struct NearestOptions {
  /// Neighbours a query.
  std::int64_t topn = 10;
  /// Rows that are searched: [begin, end).
  std::int64_t begin = 0;
  std::int64_t end = 0;  ///< row to stop before
  /// Rows that are not returned: those of query q are excluded[excluded_offsets[q]] to
  /// excluded[excluded_offsets[q + 1]]. Null: none.
  const std::int64_t* excluded = nullptr;
  const std::int64_t* excluded_offsets = nullptr;  ///< where each query's begin; one more than there are queries
  /// Called by the calling thread about every tenth of a second; what it throws ends the search.
  std::function<void()> poll;
};

/// The rows most similar to each query, the most similar first, rows of equal similarity in their order. Similarities
/// are those of vector_similarities up to rounding; NaN is never returned. Not all similarities are held at once.
/// @param norms (rows,), or null: no division
/// @param queries (count, dim)
/// @param rows (count, topn); -1 where fewer rows qualify
/// @param similarities (count, topn); NaN where fewer rows qualify
/// @throws ShapeError as vector_similarities. @throws ValueError topn is negative, [begin, end) is not within the
/// table, or an excluded row's offset is out of order.
CONVEC_API void nearest_vectors(const VectorTable& table, const float* norms, const float* queries, std::int64_t count,
                                const NearestOptions& options, std::int64_t* rows, float* similarities);

/// The multiplicative combination of similarities, 3CosMul (Levy and Goldberg, "Linguistic Regularities in Sparse and
/// Explicit Word Representations", 2014, equation 4) for any number of terms: the product of (1 + cos) / 2 over the
/// positive terms, divided by 1e-6 plus that over the negative terms.
/// @param positive (positive_count, dim), of unit length
/// @param negative (negative_count, dim), of unit length
/// @param output (rows,)
/// @throws ShapeError as vector_similarities.
CONVEC_API void multiplicative_similarities(const VectorTable& table, const float* norms, const float* positive,
                                            std::int64_t positive_count, const float* negative,
                                            std::int64_t negative_count, float* output);

/// The rows with the largest multiplicative_similarities, as nearest_vectors for one query.
/// @param rows (topn,)
/// @param similarities (topn,)
/// @throws as nearest_vectors.
CONVEC_API void nearest_multiplicative(const VectorTable& table, const float* norms, const float* positive,
                                       std::int64_t positive_count, const float* negative, std::int64_t negative_count,
                                       const NearestOptions& options, std::int64_t* rows, float* similarities);

/// A correlation coefficient and its two-sided p-value.
struct Correlation {
  double statistic = 0;  ///< the coefficient
  double pvalue = 0;     ///< two-sided
};

/// Pearson's correlation of two samples. The p-value is exact for normally distributed samples without correlation.
/// Both are NaN where a sample is constant.
/// @throws ValueError fewer than two observations.
CONVEC_API Correlation pearson_correlation(const double* x, const double* y, std::int64_t count);

/// Spearman's rank correlation; ties share their mean rank. The p-value is that of Student's t distribution with
/// count - 2 degrees of freedom, NaN below three observations.
/// @throws ValueError fewer than two observations.
CONVEC_API Correlation spearman_correlation(const double* x, const double* y, std::int64_t count);

/// Indices of the keys that look most like `wanted` (UTF-8): the fewest insertions, deletions, substitutions and swaps
/// of neighbouring characters (ASCII letters in either case), at most a third of its length, those of equal distance in
/// their order. Nothing for more than 64 characters.
CONVEC_API std::vector<std::int64_t> near_spellings(std::string_view wanted, const std::vector<std::string_view>& keys,
                                                    std::size_t count);

/// How a file of the original word2vec tool is read.
struct Word2VecFormat {
  /// Vectors as bytes (float32, little-endian) instead of decimal text.
  bool binary = false;
  /// The file does not start with its number of vectors and their size (text only; GloVe's files).
  bool no_header = false;
  /// Vectors to read; negative: all.
  std::int64_t limit = -1;
  /// Text only: reads numbers as float64 instead of float32.
  bool float64 = false;
  /// Only what the last call of Word2VecReader::read() found is held, for files that are looked through.
  bool pieces = false;
};

/// Reads the word2vec formats from blocks of bytes, so that neither a compressed nor an endless file is held at once.
/// Text is parsed in threads.
class CONVEC_API Word2VecReader {
 public:
  /// @param size bytes of the whole input where known, else negative. A header that promises more than such a file can
  /// hold is refused before memory is taken.
  /// @throws ValueError no_header with binary.
  explicit Word2VecReader(const Word2VecFormat& format, std::int64_t size = -1);
  ~Word2VecReader();
  Word2VecReader(const Word2VecReader&) = delete;
  Word2VecReader& operator=(const Word2VecReader&) = delete;

  /// Reads what is whole in a block, which continues where the last call's consumed bytes ended.
  /// @param last no bytes follow
  /// @returns bytes consumed; the caller passes the rest again, with more behind it
  /// @throws ValueError a header, line or number is malformed, or more than line breaks follows the last binary vector,
  /// where all are read. @throws EofError `last` comes before the promised number of vectors. @throws std::bad_alloc
  /// there is no memory.
  std::size_t read(const char* data, std::size_t size, bool last);

  /// Whether all vectors, or `limit` of them, have been read, and of binary ones, that nothing follows.
  bool done() const noexcept;
  /// Vectors the header promises (at most `limit`); the number read where there is no header.
  std::int64_t promised() const noexcept;
  /// Vectors read; in pieces, by the last call.
  std::int64_t rows() const noexcept;
  /// Elements of a vector.
  std::int64_t dim() const noexcept;
  /// The words of these one after the other, and where each ends.
  const std::vector<char>& words() const noexcept;
  const std::vector<std::int64_t>& word_ends() const noexcept;  ///< of each word in words()
  /// The (rows, dim) vectors, float32 or float64, in memory from std::malloc that the caller now owns. Once; in pieces,
  /// once after each call of read().
  std::unique_ptr<void, void (*)(void*)> take_vectors();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// What write_word2vec writes, and how.
struct Word2VecOutput {
  bool binary = false;  ///< vectors as bytes instead of text
  bool header = true;   ///< begin with the number of vectors and their size
  /// The number of vectors the header states; negative: of those written.
  std::int64_t total = -1;
  /// Before each word.
  std::string prefix;
};

/// Writes vectors in a word2vec format. Decimal numbers are the shortest that read back as the same float32.
/// @param words one a row of `order`
/// @param order rows of the table, in the order they are written
/// @param sink takes the bytes in order; what it throws ends the writing
/// @throws ShapeError as vector_norms, or words and order differ in length. @throws ValueError a row is out of range,
/// or a word holds a space or a line break, which the format cannot carry.
CONVEC_API void write_word2vec(const VectorTable& table, const std::vector<std::string_view>& words,
                               const std::vector<std::int64_t>& order, const Word2VecOutput& options,
                               const std::function<void(const char*, std::size_t)>& sink);

}  // namespace convec
