// One block of text: draws its random numbers, resolves words to rows and runs the kernels over its windows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <convec/word2vec.hpp>

#include "cpu/kernels/word2vec.hpp"
#include "word2vec/rows.hpp"
#include "word2vec/sampling.hpp"

namespace convec::word2vec {

// What all threads of a model share, and nobody changes while it trains.
struct Model {
  Word2VecOptions options;
  std::vector<std::int64_t> counts;
  std::vector<std::uint32_t> thresholds;   // empty: no sub-sampling
  std::vector<cpu::AliasEntry> negatives;  // empty: no negative sampling
  HuffmanTree tree;                        // of hierarchical softmax
  std::int32_t pool_size = 0;              // negatives drawn for a segment, a power of two
  Tables tables;

  std::int64_t vocabulary_size() const noexcept { return static_cast<std::int64_t>(counts.size()); }
  // Bytes of a number.
  std::int64_t number_size() const noexcept { return options.precision == Precision::float16 ? 2 : 4; }
  // Numbers of a row, padding included.
  std::int64_t row_size() const noexcept {
    constexpr std::int64_t multiple = cpu::word2vec_row_multiple;
    return (options.vector_size + multiple - 1) / multiple * multiple;
  }
  // Bytes from one row to the next.
  std::int64_t stride() const noexcept { return row_size() * number_size(); }
  const cpu::Word2VecRowKernels& kernels_of(const cpu::Word2VecKernels& kernels) const noexcept {
    return options.precision == Precision::float16 ? kernels.float16 : kernels.float32;
  }
};

template <typename Rows>
class BlockTrainer {
 public:
  BlockTrainer(const Model& model, const cpu::Word2VecKernels& kernels)
      : model_(model),
        kernels_(kernels),
        row_kernels_(model.kernels_of(kernels)),
        scratch_(static_cast<std::size_t>(3 * model.row_size())),
        left_out_(model.options.negative, model.stride()),
        pool_(static_cast<std::size_t>(model.pool_size)),
        pool_rows_(static_cast<std::size_t>(model.pool_size)) {}

  // Trains on tokens[0, size), whole sentences. Returns the number of words left by sub-sampling.
  std::int64_t train(const std::int32_t* tokens, std::int64_t size, std::int64_t position, std::int64_t epoch,
                     float alpha, double* loss, Rows& rows) {
    const Word2VecOptions& o = model_.options;
    const auto capacity = static_cast<std::size_t>(size);
    if (words_.size() < capacity) {
      words_.resize(capacity);
      offsets_.resize(capacity);
      begin_.resize(capacity);
      end_.resize(capacity);
      inputs_.resize(capacity);
    }
    const cpu::Word2VecDraws draws{o.seed,   static_cast<std::uint64_t>(epoch),
                                   position, model_.thresholds.empty() ? nullptr : model_.thresholds.data(),
                                   o.window, o.shrink_windows};
    const std::int64_t kept =
        kernels_.draw_text(draws, tokens, size, {words_.data(), offsets_.data(), begin_.data(), end_.data()});
    for (std::int64_t i = 0; i < kept; ++i) inputs_[index(i)] = rows.row(vectors_table, words_[index(i)]);

    cpu::Word2VecWindows windows{};
    windows.words = kept;
    windows.begin = begin_.data();
    windows.end = end_.data();
    windows.inputs = inputs_.data();
    windows.stride = model_.row_size();
    windows.ahead = o.window + windows_ahead;
    windows.alpha = alpha;
    windows.cbow_mean = o.cbow_mean;
    windows.scratch = scratch_.data();
    windows.loss = loss;
    // The rows of a segment's outputs are looked up, and fetched, while the segment before is in work.
    std::int64_t first = 0;
    std::int64_t last = resolve(0, kept, position, epoch, rows, outputs_[0]);
    for (int current = 0; first < kept; current = 1 - current) {
      const std::int64_t next = resolve(last, kept, position, epoch, rows, outputs_[1 - current]);
      const Outputs& outputs = outputs_[current];
      windows.first = first;
      windows.last = last;
      windows.outputs = outputs.rows.data();
      windows.output_begin = outputs.begin.data();
      windows.labels = outputs.labels.data();
      windows.weights = outputs.weights.data();
      (o.sg ? row_kernels_.skip_gram : row_kernels_.cbow)(windows);
      first = last;
      last = next;
    }
    return kept;
  }

 private:
  static constexpr std::int64_t windows_ahead = 2;
  static constexpr std::int64_t segment_size = cpu::word2vec_segment_size;

  // The rows that the words of one segment are trained against, and what they are to be told there.
  struct Outputs {
    std::vector<void*> rows;
    std::vector<float> labels;
    std::vector<float> weights;
    std::vector<std::int32_t> begin;
  };

  static std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }

  // Looks up the outputs of kept words from `first` to the end of its segment, which is returned.
  std::int64_t resolve(std::int64_t first, std::int64_t kept, std::int64_t position, std::int64_t epoch, Rows& rows,
                       Outputs& outputs) {
    if (first >= kept) return first;
    const Word2VecOptions& o = model_.options;
    const std::int64_t segment = (position + offsets_[index(first)]) / segment_size;
    const std::int64_t segment_end = (segment + 1) * segment_size - position;
    std::int64_t last = first;
    std::int64_t size = 0;
    outputs.begin.clear();
    for (; last < kept && offsets_[index(last)] < segment_end; ++last) {
      outputs.begin.push_back(static_cast<std::int32_t>(size));
      if (o.hs) size += path_length(words_[index(last)]);
      if (o.negative > 0) size += 1 + o.negative;
    }
    outputs.begin.push_back(static_cast<std::int32_t>(size));
    // Kernels read groups of eight.
    outputs.rows.resize(index(size));
    outputs.labels.assign(index(size) + 8, 0.0F);
    outputs.weights.assign(index(size) + 8, 1.0F);
    if (o.negative > 0) draw_negatives(segment, epoch, rows);
    for (std::int64_t i = first; i < last; ++i) {
      const std::int32_t word = words_[index(i)];
      auto at = index(outputs.begin[index(i - first)]);
      if (o.hs) at = add_path(word, rows, outputs, at);
      if (o.negative > 0) {
        void* centre = rows.row(syn1neg_table, word);
        if (!rows.is_hot(syn1neg_table, word)) prefetch(centre);
        add_negatives((position + offsets_[index(i)]) % segment_size, centre, outputs, at);
      }
    }
    return last;
  }

  // Into the second-level cache: the row is needed within some hundred windows.
  void prefetch(const void* row) const {
    constexpr std::int64_t cache_line = 64;
    const auto* bytes = static_cast<const std::byte*>(row);
    for (std::int64_t k = 0; k < model_.stride(); k += cache_line) __builtin_prefetch(bytes + k, 1, 2);
  }

  std::int64_t path_length(std::int32_t word) const {
    return model_.tree.begin[index(word) + 1] - model_.tree.begin[index(word)];
  }

  std::size_t add_path(std::int32_t word, Rows& rows, Outputs& outputs, std::size_t at) const {
    for (std::int64_t node = model_.tree.begin[index(word)]; node < model_.tree.begin[index(word) + 1]; ++node, ++at) {
      outputs.rows[at] = rows.row(syn1_table, model_.tree.points[index(node)]);
      outputs.labels[at] = model_.tree.codes[index(node)] == 0 ? 1.0F : 0.0F;
    }
    return at;
  }

  // Draws the pool of a segment and lays out all its laps: entries_[place * negative + j] is sample j of the word at
  // `place`.
  void draw_negatives(std::int64_t segment, std::int64_t epoch, Rows& rows) {
    const Word2VecOptions& o = model_.options;
    const auto key = static_cast<std::uint64_t>(epoch);
    const std::int64_t pool_size = model_.pool_size;
    kernels_.draw_pool(o.seed, key, segment, model_.negatives.data(), model_.vocabulary_size(), model_.pool_size,
                       pool_.data());
    for (std::int64_t i = 0; i < pool_size; ++i) {
      void* row = rows.row(syn1neg_table, pool_[index(i)]);
      pool_rows_[index(i)] = row;
      if (!rows.is_hot(syn1neg_table, pool_[index(i)])) prefetch(row);
    }
    const std::int64_t laps = (segment_size * o.negative + pool_size - 1) / pool_size;
    strides_.resize(index(laps));
    lap_offsets_.resize(index(laps));
    entries_.resize(index(laps * pool_size));
    kernels_.draw_laps(o.seed, key, segment, static_cast<std::int32_t>(laps), strides_.data(), lap_offsets_.data());
    const auto mask = static_cast<std::uint32_t>(pool_size - 1);
    for (std::int64_t lap = 0; lap < laps; ++lap) {
      std::uint32_t entry = lap_offsets_[index(lap)];
      for (std::int64_t i = lap * pool_size; i < (lap + 1) * pool_size; ++i, entry += strides_[index(lap)])
        entries_[index(i)] = pool_rows_[entry & mask];
    }
  }

  // The centre word and its negatives. A sample equal to the centre word is left out (as in gensim), and equal samples
  // are one with their number as weight: kernels may not meet the same row twice.
  void add_negatives(std::int64_t place, void* centre, Outputs& outputs, std::size_t at) {
    const std::int64_t negative = model_.options.negative;
    void** drawn = &outputs.rows[at];
    void* const* entries = &entries_[index(place * negative)];
    outputs.labels[at] = 1.0F;
    drawn[0] = centre;
    // The usual number is unrolled: this is done for every word.
    const bool equal = negative == 5 ? copy_and_compare(entries, 5, drawn) : copy_and_compare(entries, negative, drawn);
    if (!equal) return;
    float* weights = &outputs.weights[at];
    for (std::int64_t j = 1; j <= negative; ++j) {
      std::int64_t same = 0;
      while (drawn[same] != drawn[j]) ++same;
      if (same == j) continue;
      if (same > 0) weights[same] += 1.0F;
      weights[j] = 0.0F;
      drawn[j] = left_out_.row(j - 1);
    }
  }

  // Copies rows behind the first of `drawn`; true where one of them is there already.
  static inline __attribute__((always_inline)) bool copy_and_compare(void* const* from, std::int64_t size,
                                                                     void** drawn) {
    bool equal = false;
#pragma GCC unroll 5
    for (std::int64_t j = 0; j < size; ++j) {
      void* row = from[j];
#pragma GCC unroll 5
      for (std::int64_t i = 0; i <= j; ++i) equal |= drawn[i] == row;
      drawn[j + 1] = row;
    }
    return equal;
  }

  const Model& model_;
  const cpu::Word2VecKernels& kernels_;
  const cpu::Word2VecRowKernels& row_kernels_;
  std::vector<float> scratch_;  // of CBOW
  Table left_out_;              // rows that stand for samples that are left out
  std::vector<std::int32_t> words_;
  std::vector<std::int32_t> offsets_;
  std::vector<std::int32_t> begin_;
  std::vector<std::int32_t> end_;
  std::vector<void*> inputs_;
  Outputs outputs_[2];
  std::vector<std::int32_t> pool_;
  std::vector<void*> pool_rows_;
  std::vector<void*> entries_;
  std::vector<std::uint32_t> strides_;
  std::vector<std::uint32_t> lap_offsets_;
};

}  // namespace convec::word2vec
