// The kernels of Word2Vec: the draws of a piece of text (word2vec_text.cu), the updates of its windows
// (word2vec_update.cu), and the conversion of tables.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include <convec/cuda/word2vec.hpp>

#include "cpu/kernels/word2vec.hpp"

namespace convec::cuda {

// What the draws depend on besides the text. Pointers are the device's, here and below.
struct Word2VecDrawSettings {
  std::uint64_t seed;
  std::uint64_t epoch;
  const std::uint32_t* thresholds;  // null: every word is kept
  const cpu::AliasEntry* negatives;
  std::int64_t vocabulary_size;
  std::int32_t window;
  bool shrink_windows;
  std::int32_t negative;
  std::int32_t pool_size;
};

// Whole sentences, and what is drawn for them. `capacity` tokens fit.
struct Word2VecPiece {
  const std::int32_t* tokens;
  std::int32_t size;
  std::int64_t position;  // of the first token in the epoch's text

  std::int32_t* kept;    // how many words survived sub-sampling
  std::uint32_t* next;   // the chunk that is handed out next
  std::uint64_t* tiles;  // scratch: survivors (low half) and ends of sentences (high half) before each tile
  // Of each kept word:
  std::int32_t* words;
  std::int32_t* offsets;    // from the first token
  std::int32_t* sentences;  // number of its sentence
  std::int32_t* begin;      // the first and
  std::int32_t* end;        // one past the last kept word of its window, itself included
  std::int32_t* samples;    // its negatives, and
  float* weights;           // how often each counts: 0 where it is the word itself or was there before
};

constexpr int word2vec_tile = 1024;
// Kept words that a team takes at a time.
constexpr int word2vec_chunk = 32;

inline std::int64_t word2vec_tiles(std::int64_t tokens) { return (tokens + word2vec_tile - 1) / word2vec_tile; }

// Index of the first number outside [-1, words), or -1. Waits for the stream.
std::int64_t find_bad_token(int device, const std::int32_t* tokens, std::int64_t size, std::int64_t words,
                            cudaStream_t stream);

// Queues the draws.
void draw_word2vec_piece(int device, const Word2VecDrawSettings& settings, const Word2VecPiece& piece,
                         cudaStream_t stream);

struct Word2VecUpdateSettings {
  void* vectors;
  void* outputs;          // syn1neg
  std::int64_t row_size;  // numbers from one row to the next
  std::int32_t vector_size;
  std::int32_t negative;
  bool cbow_mean;
  std::uint64_t seed;
  std::uint64_t epoch;
  // The learning rate falls (or rises) from alpha by slope a token, as far as last_alpha.
  float alpha;
  float slope;
  float last_alpha;
  const std::int32_t* stop;  // teams take no more chunks once it is not 0
  double* loss;              // null: not wanted; else added to
};

using Word2VecKernel = void (*)(Word2VecPiece, Word2VecUpdateSettings);
Word2VecKernel word2vec_kernel_bfloat16(std::int32_t vector_size, bool skip_gram);

// Which of the kernels a model uses, and how it is launched.
class Word2VecUpdate {
 public:
  // concurrency: teams, 0 for as many as the device holds, but no more than `most`.
  Word2VecUpdate(int device, bool skip_gram, std::int32_t vector_size, std::int32_t negative, TablePrecision precision,
                 int concurrency, std::int64_t most);

  int teams() const noexcept { return teams_; }
  void operator()(const Word2VecPiece& piece, const Word2VecUpdateSettings& settings, cudaStream_t stream) const;

 private:
  Word2VecKernel kernel_ = nullptr;
  int threads_ = 0;  // of a block
  int teams_ = 0;
  int teams_a_block_ = 1;
};

// Converts `size` numbers between the host's formats and those of tables.
void convert_to_table(Precision from_format, const void* from, TablePrecision to_format, void* to, std::int64_t size,
                      int device, cudaStream_t stream);
void convert_from_table(TablePrecision from_format, const void* from, Precision to_format, void* to, std::int64_t size,
                        int device, cudaStream_t stream);

}  // namespace convec::cuda
