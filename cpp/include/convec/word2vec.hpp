/// @file word2vec.hpp
/// Word2Vec (Mikolov et al., 2013): skip-gram and continuous bag of words, by negative sampling, hierarchical softmax
/// or both, on encoded text. Words are numbered by falling frequency; see vocabulary.hpp and corpus.hpp for the way
/// from text to numbers, vectors.hpp for what to do with the result.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include <convec/export.hpp>
#include <convec/tensor.hpp>

namespace convec {

/// Element type of the tables. Arithmetic is float32 always.
enum class Precision : std::uint8_t {
  float32,
  float16  ///< IEEE half precision: half the memory; updates are rounded to the nearest
};

/// The architecture and its numbers; names and defaults are gensim's. Fixed for the life of a model.
struct Word2VecOptions {
  std::int64_t vector_size = 100;  ///< 1 to 65,536
  bool sg = false;                 ///< skip-gram; false: continuous bag of words (CBOW)
  bool hs = false;                 ///< hierarchical softmax
  int negative = 5;                ///< negative samples a centre word, 0 to 1,000; 0: none
  int window = 5;                  ///< largest distance of a context word from the centre word, 1 to 1,000,000
  bool shrink_windows = true;      ///< each centre word draws its own window from 1 to `window`
  bool cbow_mean = true;           ///< CBOW: the mean of the context vectors; false: their sum
  std::uint64_t seed = 1;          ///< key of every random number
  Precision precision = Precision::float32;  ///< of the tables
};

/// Called from the thread that called train(), with the words done (in this call) and the learning rate. May throw to
/// stop: training ends after the block of text in work, and the exception reaches the caller of train().
using Word2VecProgress = std::function<void(std::int64_t words_done, float alpha)>;

/// One stretch of training. The learning rate of a word is
///   alpha - (alpha - min_alpha) * (words_done + tokens before it in this call) / words_total.
struct Word2VecTraining {
  /// Index of tokens[0] in the epoch's stream. With `epoch` and the seed it fixes every random number, so an epoch
  /// that is fed in pieces (of whole sentences) gets the draws of one that is not.
  std::int64_t position = 0;
  std::int64_t epoch = 0;        ///< number of the pass, from 0
  std::int64_t words_done = 0;   ///< before this call, of words_total
  std::int64_t words_total = 0;  ///< of all epochs; 0: the size of this call
  float alpha = 0.025F;          ///< learning rate at the beginning
  float min_alpha = 0.0001F;     ///< learning rate at the end
  /// Threads, the calling one included; at most num_threads() are used. With more than one the result depends on
  /// their timing (Hogwild; Recht et al., 2011), unless `deterministic`.
  int workers = 3;
  /// The same result, bit for bit, whatever the number of workers; slower.
  bool deterministic = false;
  bool compute_loss = false;       ///< adds up Word2VecResult::loss
  Word2VecProgress progress;       ///< may be empty
  double progress_interval = 0.1;  ///< seconds between calls of `progress`
};

/// What a call of train() came to.
struct Word2VecResult {
  std::int64_t trained_words = 0;  ///< words left after sub-sampling
  /// Sum over all pairs of -log sigma(+-dot), before each update; 0 unless compute_loss.
  double loss = 0.0;
};

/// The tables of a model and their training. Not thread-safe: one call at a time.
///
/// The kernels share the negative samples of a centre word over its whole window, as pWord2Vec (Ji et al., 2016).
/// Every random number is a function of the seed, the epoch and the word's position (Philox4x32-10).
class CONVEC_API Word2Vec {
 public:
  /// An epoch that is fed in pieces gives the same result, bit for bit, as in one call (with one worker, or
  /// deterministic) if each piece but the first begins with the first sentence that begins at or after a multiple of
  /// this, in tokens of the epoch.
  static constexpr std::int64_t piece_alignment = 16384;

  /// Allocates the tables and applies initialize().
  /// @param counts occurrences of each word, by falling frequency; above 0
  /// @param sample words more frequent than this share of the text are sub-sampled (0: none; 1 and above: a count,
  ///               as gensim)
  /// @param ns_exponent negatives are drawn in proportion to count^ns_exponent
  /// @throws ValueError a number is out of range; neither hs nor negative. @throws std::bad_alloc
  Word2Vec(const Word2VecOptions& options, std::vector<std::int64_t> counts, double sample = 1e-3,
           double ns_exponent = 0.75);
  ~Word2Vec();
  Word2Vec(Word2Vec&&) noexcept;             ///< leaves the other empty
  Word2Vec& operator=(Word2Vec&&) noexcept;  ///< leaves the other empty

  const Word2VecOptions& options() const noexcept;  ///< as the constructor was given them
  std::int64_t vocabulary_size() const noexcept;    ///< number of words

  /// Vectors uniform in +-1/vector_size (as gensim 4), output tables zero.
  void initialize(std::uint64_t seed);

  /// Another vocabulary: row i keeps its values where i is below both sizes, further rows are initialised.
  /// @throws as the constructor; the model is as before then.
  void set_vocabulary(std::vector<std::int64_t> counts, double sample, double ns_exponent);

  /// Numbers from one row of a table to the next: vector_size rounded up to 16. The rest of a row is zero.
  std::int64_t row_stride() const noexcept;
  /// Rows of the tables, 64-byte aligned: the words' vectors, the output vectors of negative sampling and those of
  /// hierarchical softmax's inner nodes (null where not used); float, or half-precision numbers as std::uint16_t, by
  /// options().precision. The memory lives as long as a copy of the pointer, but is the model's only until
  /// set_vocabulary().
  std::shared_ptr<void> vectors() const noexcept;
  std::shared_ptr<void> syn1neg() const noexcept;  ///< see vectors()
  std::shared_ptr<void> syn1() const noexcept;     ///< see vectors()

  /// Occurrences of each word, as given.
  const std::vector<std::int64_t>& counts() const noexcept;
  /// Walker's alias table of the negatives (empty where there are none): index i, drawn uniformly, stands for itself
  /// where a fraction in units of 2^-32 is below thresholds[i], else for aliases[i].
  void negative_table(std::vector<std::uint32_t>& thresholds, std::vector<std::int32_t>& aliases) const;
  /// Probability that an occurrence of each word survives sub-sampling, in units of 2^-32 (gensim's sample_int).
  const std::vector<std::uint32_t>& sample_thresholds() const noexcept;
  /// Path of `word` in the Huffman tree: inner nodes from the root down, and at each the branch (0 or 1) taken.
  /// @throws ValueError no hierarchical softmax, or no such word.
  void huffman_path(std::int64_t word, std::vector<std::int32_t>& points, std::vector<std::uint8_t>& codes) const;

  /// Trains on word numbers, each sentence followed by -1 (the last one need not be).
  /// @param tokens `size` numbers
  /// @throws ValueError a number is not in the vocabulary (nothing has changed then), or an option is out of range;
  ///         what progress throws.
  Word2VecResult train(const std::int32_t* tokens, std::int64_t size, const Word2VecTraining& training);

  /// Log probability of each sentence: the sum over centre words and the words of their full windows of
  /// log sigma(+-dot) along the Huffman path (Taddy, 2015). Nothing is sub-sampled.
  /// @throws ValueError no hierarchical softmax, or a number is not in the vocabulary.
  std::vector<double> score(const std::int32_t* tokens, std::int64_t size) const;

 private:
  friend class Word2VecSharedTables;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace convec
