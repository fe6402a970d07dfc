// Word2Vec: the random draws of a stretch of text, and the updates of its windows.
#pragma once

#include <cstdint>

namespace convec::cpu {

// Rows are padded to a multiple of this many numbers, and the padding is zero.
constexpr int word2vec_row_multiple = 16;

// The words at as many consecutive positions share a pool of negatives: an epoch's text is cut into such segments.
constexpr int word2vec_segment_size = 128;

// Walker's alias table: index i is drawn as itself where the fraction is below `threshold`, else as `alias`.
struct AliasEntry {
  std::uint32_t threshold;
  std::int32_t alias;
};

// The sub-sampled text of a block, sentence by sentence. Arrays hold as many elements as the block has tokens.
struct Word2VecText {
  std::int32_t* words;    // word numbers that were kept
  std::int32_t* offsets;  // of each from the block's first token
  std::int32_t* begin;    // the first and
  std::int32_t* end;      // one past the last kept word of the window, the centre word included
};

struct Word2VecDraws {
  std::uint64_t seed;
  std::uint64_t epoch;
  std::int64_t position;            // of tokens[0] in the epoch's stream
  const std::uint32_t* thresholds;  // null: every word is kept
  std::int32_t window;
  bool shrink_windows;
};

// Windows of a stretch of kept words, resolved to rows of the tables.
struct Word2VecWindows {
  std::int64_t first, last;  // centre words [first, last), indices into the text's arrays
  std::int64_t words;        // kept words of the block
  const std::int32_t* begin;
  const std::int32_t* end;
  void* const* inputs;               // row of each kept word of the block
  void* const* outputs;              // rows that centre word i is trained against: [output_begin[i - first],
  const std::int32_t* output_begin;  // output_begin[i - first + 1])
  const float* labels;               // of each output: 1 or 0
  const float* weights;              // of each output: 1, 0 (left out), or the number of equal samples
  std::int64_t stride;               // numbers a row
  std::int64_t ahead;                // inputs[i + ahead] is fetched early
  float alpha;
  bool cbow_mean;
  float* scratch;  // CBOW: 3 * stride floats
  double* loss;    // null: not wanted; else added to
};

// Kernels for rows of one element type. Sizes are in numbers and multiples of word2vec_row_multiple.
struct Word2VecRowKernels {
  void (*skip_gram)(const Word2VecWindows&);
  void (*cbow)(const Word2VecWindows&);
  // shared += share * (own - base); own = base = shared.
  void (*merge_rows)(std::int64_t size, float share, void* shared, void* own, void* base);
  void (*read_row)(std::int64_t size, const void* row, float* to);
  void (*write_row)(std::int64_t size, const float* from, void* row);
  // change = row - before; returns the sum of its squares.
  float (*row_change)(std::int64_t size, const void* row, const float* before, float* change);
  // row = before + factor * change, rounded to its type; before = row.
  void (*move_row)(std::int64_t size, float factor, const float* change, float* before, void* row);
  float (*sum_of_squares)(std::int64_t size, const float* numbers);
};

struct Word2VecKernels {
  // Sub-samples tokens[0, size) and draws the windows. Returns the number of words kept.
  std::int64_t (*draw_text)(const Word2VecDraws&, const std::int32_t* tokens, std::int64_t size, const Word2VecText&);
  // Draws the pool of `size` (a power of two, at least 16) negatives of a segment.
  void (*draw_pool)(std::uint64_t seed, std::uint64_t epoch, std::int64_t segment, const AliasEntry* table,
                    std::int64_t vocabulary_size, std::int32_t size, std::int32_t* pool);
  // The order in which lap after lap of the pool is taken: entry k of lap l is
  // pool[(k * strides[l] + offsets[l]) & (size - 1)].
  void (*draw_laps)(std::uint64_t seed, std::uint64_t epoch, std::int64_t segment, std::int32_t laps,
                    std::uint32_t* strides, std::uint32_t* offsets);
  Word2VecRowKernels float32;
  Word2VecRowKernels float16;
};

}  // namespace convec::cpu
