#include <convec/word2vec.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <deque>
#include <exception>
#include <limits>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <convec/context.hpp>
#include <convec/error.hpp>

#include "cpu/flush_denormals.hpp"
#include "cpu/kernels/kernel_table.hpp"
#include "cpu/thread_pool.hpp"
#include "philox.hpp"
#include "word2vec/block.hpp"
#include "word2vec/check.hpp"
#include "word2vec/draws.hpp"
#include "word2vec/hogwild.hpp"

namespace convec {

namespace word2vec {

namespace {

// Tokens of a block: it holds the sentences that begin in as many.
constexpr std::int64_t block_size = 2048;
// Kept words after which a thread exchanges its copies of frequent rows: fewer where one word is among them more than
// so often. What the threads change is added up, so that a row must not have gone far: with 2,048 rows and 8,192 words
// SimLex-999 lost .004, with 512 and 2,048 .002, at no speed (docs/performance.md).
constexpr std::int64_t words_between_merges = 2048;
constexpr double occurrences_between_merges = 96.0;
// With fewer words every row is frequent, and the sum of what the threads changed in all of them overshoots.
constexpr std::int64_t smallest_vocabulary_with_copies = 2048;
// Blocks that are trained on the same state of the tables where the result may not depend on the threads.
constexpr std::int64_t blocks_a_round = 8;

// Uses of a row in a round that pull it the whole way, so that shards are averaged and not added up. Skip-gram trains
// an output row against every context word at each use, CBOW once. At 128 skip-gram lost a quarter of its analogies, at
// 32 CBOW.
constexpr std::int32_t often_skip_gram = 32;
constexpr std::int32_t often_cbow = 128;

// Bytes of frequent rows (of one table) that a thread copies.
constexpr std::int64_t hot_bytes = std::int64_t{1024} * 1024;
constexpr std::int64_t most_hot_rows = 512;

void check_options(const Word2VecOptions& o) {
  check_range<std::int64_t>(o.vector_size, 1, 65536, "vector_size");
  check_range(o.negative, 0, 1000, "negative");
  check_range(o.window, 1, 1000000, "window");
  if (o.negative == 0 && !o.hs)
    throw ValueError("negative is 0 and hs is false, but one of them is needed: set negative, e.g. to 5, or hs");
}

void check_vocabulary(const std::vector<std::int64_t>& counts, double sample, double ns_exponent) {
  if (counts.empty()) throw ValueError("counts is empty, but a model needs a vocabulary of at least one word");
  if (counts.size() > static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max()))
    throw ValueError("counts has " + std::to_string(counts.size()) + " words, but at most 2147483647 are supported");
  for (std::size_t i = 0; i < counts.size(); ++i)
    if (counts[i] < 1)
      throw ValueError("counts[" + std::to_string(i) + "] is " + std::to_string(counts[i]) +
                       ", but must be at least 1");
  check_finite(sample, 0.0, "sample");
  check_finite(ns_exponent, -100.0, "ns_exponent");
  check_finite(-ns_exponent, -100.0, "-ns_exponent");
}

// Blocks lie where they would in an epoch that comes in one call, so that pieces that begin where a round begins give
// the same result.
static_assert(Word2Vec::piece_alignment == block_size * blocks_a_round);

// The sentences that begin in a stretch of block_size tokens of the epoch.
struct Block {
  std::int64_t begin;
  std::int64_t end;
};

class Blocks {
 public:
  Blocks(const std::int32_t* tokens, std::int64_t size, std::int64_t position)
      : tokens_(tokens), size_(size), before_(position % Word2Vec::piece_alignment) {}

  std::int64_t count() const { return size_ == 0 ? 0 : (before_ + size_ + block_size - 1) / block_size; }
  // Those before the call's first token are empty.
  Block operator[](std::int64_t block) const {
    return {sentence_from(block * block_size - before_), sentence_from((block + 1) * block_size - before_)};
  }

 private:
  // The first beginning of a sentence at or after `at`.
  std::int64_t sentence_from(std::int64_t at) const {
    if (at <= 0) return 0;
    while (at < size_ && tokens_[at - 1] >= 0) ++at;
    return std::min(at, size_);
  }

  const std::int32_t* tokens_;
  std::int64_t size_;
  std::int64_t before_;  // tokens of the epoch between the beginning of the round and this call
};

// Hands out blocks to workers: each reads on through a part of the text of its own, and helps out in the others' when
// it is done. With the learning rate falling, a text that is read from its beginning to its end teaches little about
// its last part: CBOW was the worse for it after one epoch (docs/performance.md).
class Hand {
 public:
  Hand(std::int64_t blocks, int workers) : parts_(static_cast<std::size_t>(workers)) {
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      const auto part = static_cast<std::int64_t>(i);
      parts_[i].next.store(blocks * part / workers, std::memory_order_relaxed);
      parts_[i].end = blocks * (part + 1) / workers;
    }
  }

  // The next block, or -1.
  std::int64_t operator()(int worker) {
    for (std::size_t turn = 0; turn < parts_.size(); ++turn) {
      Part& part = parts_[(static_cast<std::size_t>(worker) + turn) % parts_.size()];
      if (part.next.load(std::memory_order_relaxed) >= part.end) continue;
      const std::int64_t block = part.next.fetch_add(1, std::memory_order_relaxed);
      if (block < part.end) return block;
    }
    return -1;
  }

 private:
  // Apart from what other workers change.
  struct alignas(64) Part {
    std::atomic<std::int64_t> next{0};
    std::int64_t end = 0;
  };
  std::vector<Part> parts_;
};

// Runs task(worker) for worker 0 on this thread and the others on threads of their own, and throws what one of them
// threw, this thread first. `stop` is set where one throws.
template <typename Task>
void run_team(int workers, std::atomic<bool>& stop, const Task& task) {
  std::vector<std::exception_ptr> errors(static_cast<std::size_t>(workers));
  const auto guarded = [&](int worker) {
    const cpu::FlushDenormals flush;
    try {
      task(worker);
    } catch (...) {
      errors[static_cast<std::size_t>(worker)] = std::current_exception();
      stop.store(true);
    }
  };
  std::vector<std::thread> threads;
  threads.reserve(static_cast<std::size_t>(workers));
  bool more = true;
  for (int worker = 1; worker < workers && more; ++worker) {
    try {
      threads.emplace_back(guarded, worker);
    } catch (const std::system_error&) {
      more = false;  // the system has no more threads: those there are share the work
    }
  }
  guarded(0);
  for (std::thread& thread : threads) thread.join();
  for (const std::exception_ptr& error : errors)
    if (error) std::rethrow_exception(error);
}

// Progress of one call of train().
class Schedule {
 public:
  Schedule(const Word2VecTraining& training, std::int64_t size)
      : training_(training),
        total_(training.words_total > 0 ? training.words_total : std::max<std::int64_t>(size, 1)) {}

  float alpha(std::int64_t words_before) const {
    const double done = static_cast<double>(training_.words_done + words_before) / static_cast<double>(total_);
    const double start = static_cast<double>(training_.alpha);
    return static_cast<float>(start - (start - static_cast<double>(training_.min_alpha)) * std::min(done, 1.0));
  }

  void add(std::int64_t words) { done_.fetch_add(words, std::memory_order_relaxed); }

  // To be called from the thread that called train().
  void report(bool last = false) {
    if (!training_.progress) return;
    const auto now = std::chrono::steady_clock::now();
    if (!last && std::chrono::duration<double>(now - reported_).count() < training_.progress_interval) return;
    reported_ = now;
    const std::int64_t done = done_.load(std::memory_order_relaxed);
    training_.progress(done, alpha(done));
  }

 private:
  const Word2VecTraining& training_;
  std::int64_t total_;
  std::atomic<std::int64_t> done_{0};
  std::chrono::steady_clock::time_point reported_ = std::chrono::steady_clock::now();
};

// The largest share of a word of the text after sub-sampling.
double largest_share(const Model& model) {
  double total = 0.0;
  double largest = 0.0;
  for (std::size_t i = 0; i < model.counts.size(); ++i) {
    double kept = static_cast<double>(model.counts[i]);
    if (!model.thresholds.empty()) kept *= static_cast<double>(model.thresholds[i]) / 4294967296.0;
    total += kept;
    largest = std::max(largest, kept);
  }
  return total > 0.0 ? largest / total : 1.0;  // sub-sampling may leave nothing
}

}  // namespace

Word2VecResult train_hogwild(const Model& model, const Tables& tables, HogwildRows::Locks& locks, bool others,
                             const std::int32_t* tokens, std::int64_t size, const Word2VecTraining& training) {
  const cpu::Word2VecKernels& kernels = cpu::kernels().word2vec;
  const int workers = std::min(training.workers, num_threads());
  const Blocks blocks(tokens, size, training.position);
  Schedule schedule(training, size);
  Hand hand(blocks.count(), workers);
  std::atomic<std::int64_t> begun{0};  // tokens
  std::atomic<bool> stop{false};
  std::mutex adding;
  Word2VecResult result;
  const bool copies = (others || workers > 1) && model.vocabulary_size() >= smallest_vocabulary_with_copies;
  const std::int64_t hot = copies ? std::min({std::max<std::int64_t>(hot_bytes / model.stride(), 16), most_hot_rows,
                                              model.vocabulary_size() / 4})
                                  : 0;
  const std::int64_t interval =
      std::min(words_between_merges, static_cast<std::int64_t>(occurrences_between_merges / largest_share(model)) + 1);
  run_team(workers, stop, [&](int worker) {
    HogwildRows rows(tables, hot, model.kernels_of(kernels), model.row_size(), locks, worker);
    BlockTrainer<HogwildRows> trainer(model, kernels);
    std::int64_t trained = 0;
    std::int64_t merged = 0;
    double loss = 0.0;
    const auto finish = [&] {
      rows.merge();
      const std::lock_guard<std::mutex> lock(adding);
      result.trained_words += trained;
      result.loss += loss;
    };
    try {
      while (!stop.load(std::memory_order_relaxed)) {
        const std::int64_t number = hand(worker);
        if (number < 0) break;
        const Block block = blocks[number];
        const std::int64_t tokens_before = begun.fetch_add(block.end - block.begin, std::memory_order_relaxed);
        trained +=
            trainer.train(tokens + block.begin, block.end - block.begin, training.position + block.begin,
                          training.epoch, schedule.alpha(tokens_before), training.compute_loss ? &loss : nullptr, rows);
        if (trained - merged >= interval) {
          rows.merge();
          merged = trained;
        }
        schedule.add(block.end - block.begin);
        if (worker == 0) schedule.report();
      }
    } catch (...) {
      finish();
      throw;
    }
    finish();
  });
  schedule.report(true);
  return result;
}

namespace {

Word2VecResult train_deterministic(const Model& model, const std::int32_t* tokens, std::int64_t size,
                                   const Word2VecTraining& training) {
  const cpu::Word2VecKernels& kernels = cpu::kernels().word2vec;
  const int workers = std::min(training.workers, num_threads());
  const Blocks blocks(tokens, size, training.position);
  Schedule schedule(training, size);
  Word2VecResult result;
  struct Shard {
    SnapshotRows rows;
    BlockTrainer<SnapshotRows> trainer;
    std::int64_t trained = 0;
    double loss = 0.0;
  };
  std::deque<Shard> shards;
  for (std::int64_t i = 0; i < std::min(blocks_a_round, blocks.count()); ++i)
    shards.push_back(
        {{model.tables, model.kernels_of(kernels), model.row_size(), model.options.sg ? often_skip_gram : often_cbow},
         {model, kernels}});
  RowUse use(model.tables);
  std::atomic<bool> stop{false};
  for (std::int64_t round = 0; round < blocks.count(); round += blocks_a_round) {
    const std::int64_t count = std::min(blocks_a_round, blocks.count() - round);
    std::atomic<std::int64_t> next{0};
    run_team(workers, stop, [&](int) {
      for (std::int64_t i = next.fetch_add(1); i < count && !stop.load(); i = next.fetch_add(1)) {
        Shard& shard = shards[static_cast<std::size_t>(i)];
        const Block block = blocks[round + i];
        shard.loss = 0.0;
        shard.trained = shard.trainer.train(
            tokens + block.begin, block.end - block.begin, training.position + block.begin, training.epoch,
            schedule.alpha(block.begin), training.compute_loss ? &shard.loss : nullptr, shard.rows);
        schedule.add(block.end - block.begin);
      }
    });
    // Every row takes the shards' changes in their order. No team: a part that no thread took would be lost.
    cpu::parallel_for(workers, [&](std::int64_t part, int) {
      for (std::int64_t i = 0; i < count; ++i) shards[static_cast<std::size_t>(i)].rows.count(part, workers, use);
      for (std::int64_t i = 0; i < count; ++i) shards[static_cast<std::size_t>(i)].rows.apply(part, workers, use);
    });
    for (std::int64_t i = 0; i < count; ++i) {
      Shard& shard = shards[static_cast<std::size_t>(i)];
      shard.rows.clear(use);
      result.trained_words += shard.trained;
      result.loss += shard.loss;
    }
    schedule.report();
  }
  schedule.report(true);
  return result;
}

// Rows [first, rows) uniform in +-1/size, each a function of the seed and its number alone.
void initialize_rows(const Model& model, const Table& table, std::int64_t first, std::uint64_t seed) {
  constexpr std::uint64_t stream = 0x766563746F7273;  // apart from those of training
  const std::int64_t size = model.options.vector_size;
  const double unit = 1.0 / (static_cast<double>(size) * 8388608.0);
  const cpu::Word2VecRowKernels& kernels = model.kernels_of(cpu::kernels().word2vec);
  cpu::parallel_for_range(table.rows() - first, 256, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> numbers(static_cast<std::size_t>(model.row_size()));
    for (std::int64_t row = first + begin; row < first + end; ++row) {
      for (std::int64_t k = 0; k < size; k += 4) {
        std::uint32_t random[4];
        philox::words(seed, (static_cast<std::uint64_t>(row) << 16U) + static_cast<std::uint64_t>(k / 4), stream,
                      random[0], random[1], random[2], random[3]);
        for (std::int64_t lane = 0; lane < std::min<std::int64_t>(4, size - k); ++lane) {
          const std::int32_t centred = static_cast<std::int32_t>(random[lane] >> 8U) - 8388608;
          numbers[static_cast<std::size_t>(k + lane)] = static_cast<float>(static_cast<double>(centred) * unit);
        }
      }
      kernels.write_row(model.row_size(), numbers.data(), table.row(row));
    }
  });
}

// A row in float32.
class RowReader {
 public:
  explicit RowReader(const Model& model)
      : model_(model),
        kernels_(model.kernels_of(cpu::kernels().word2vec)),
        numbers_(static_cast<std::size_t>(model.row_size())) {}

  // Valid until the next call.
  const std::vector<float>& operator()(TableName name, std::int64_t index) {
    kernels_.read_row(model_.row_size(), model_.tables[name].row(index), numbers_.data());
    return numbers_;
  }

 private:
  const Model& model_;
  const cpu::Word2VecRowKernels& kernels_;
  std::vector<float> numbers_;
};

double log_sigmoid(double x) { return std::min(x, 0.0) - std::log1p(std::exp(-std::abs(x))); }

// Log probability of `word`'s path given a vector.
double score_path(const Model& model, std::int32_t word, const std::vector<double>& vector, RowReader& rows) {
  double total = 0.0;
  for (std::int64_t at = model.tree.begin[static_cast<std::size_t>(word)];
       at < model.tree.begin[static_cast<std::size_t>(word) + 1]; ++at) {
    const std::vector<float>& node = rows(syn1_table, model.tree.points[static_cast<std::size_t>(at)]);
    double dot = 0.0;
    for (std::size_t k = 0; k < vector.size(); ++k) dot += vector[k] * static_cast<double>(node[k]);
    total += log_sigmoid(model.tree.codes[static_cast<std::size_t>(at)] == 0 ? dot : -dot);
  }
  return total;
}

double score_sentence(const Model& model, const std::int32_t* words, std::int64_t size) {
  const Word2VecOptions& o = model.options;
  std::vector<double> vector(static_cast<std::size_t>(o.vector_size));
  RowReader rows(model);
  const auto add = [&](std::int32_t word, double scale) {
    const std::vector<float>& row = rows(vectors_table, word);
    for (std::size_t k = 0; k < vector.size(); ++k) vector[k] += scale * static_cast<double>(row[k]);
  };
  double total = 0.0;
  for (std::int64_t i = 0; i < size; ++i) {
    const std::int64_t begin = std::max<std::int64_t>(0, i - o.window);
    const std::int64_t end = std::min(size, i + o.window + 1);
    if (!o.sg) vector.assign(vector.size(), 0.0);
    for (std::int64_t c = begin; c < end; ++c) {
      if (c == i) continue;
      if (o.sg) vector.assign(vector.size(), 0.0);
      add(words[c], o.sg || !o.cbow_mean ? 1.0 : 1.0 / static_cast<double>(end - begin - 1));
      if (o.sg) total += score_path(model, words[i], vector, rows);
    }
    if (!o.sg && end - begin > 1) total += score_path(model, words[i], vector, rows);
  }
  return total;
}

}  // namespace

}  // namespace word2vec

Word2Vec::Word2Vec(const Word2VecOptions& options, std::vector<std::int64_t> counts, double sample, double ns_exponent)
    : impl_(std::make_unique<Impl>()) {
  word2vec::check_options(options);
  impl_->model.options = options;
  impl_->model.pool_size = options.negative > 0 ? word2vec::pool_size_for(options.negative) : 0;
  set_vocabulary(std::move(counts), sample, ns_exponent);
}

Word2Vec::~Word2Vec() = default;
Word2Vec::Word2Vec(Word2Vec&&) noexcept = default;
Word2Vec& Word2Vec::operator=(Word2Vec&&) noexcept = default;

const Word2VecOptions& Word2Vec::options() const noexcept { return impl_->model.options; }
std::int64_t Word2Vec::vocabulary_size() const noexcept { return impl_->model.vocabulary_size(); }

void Word2Vec::initialize(std::uint64_t seed) {
  word2vec::Tables& tables = impl_->model.tables;
  word2vec::initialize_rows(impl_->model, tables[word2vec::vectors_table], 0, seed);
  for (const word2vec::TableName name : {word2vec::syn1neg_table, word2vec::syn1_table})
    std::fill_n(tables[name].data(), tables[name].rows() * tables[name].stride(), std::byte{0});
}

void Word2Vec::set_vocabulary(std::vector<std::int64_t> counts, double sample, double ns_exponent) {
  word2vec::check_vocabulary(counts, sample, ns_exponent);
  word2vec::Model& model = impl_->model;
  const Word2VecOptions& o = model.options;
  const auto rows = static_cast<std::int64_t>(counts.size());
  const std::int64_t stride = model.stride();
  std::vector<std::uint32_t> thresholds = word2vec::sample_thresholds(counts, sample);
  std::vector<cpu::AliasEntry> negatives;
  word2vec::HuffmanTree tree;
  if (o.negative > 0) negatives = word2vec::negative_table(counts, ns_exponent);
  if (o.hs) tree = word2vec::huffman_tree(counts);
  word2vec::Tables tables;
  for (const word2vec::TableName name : {word2vec::vectors_table, word2vec::syn1neg_table, word2vec::syn1_table}) {
    if ((name == word2vec::syn1neg_table && o.negative == 0) || (name == word2vec::syn1_table && !o.hs)) continue;
    tables[name] = word2vec::Table(rows, stride);
    const std::int64_t common = std::min(rows, model.tables[name].rows());
    std::copy_n(model.tables[name].data(), common * stride, tables[name].data());
    if (name == word2vec::vectors_table) word2vec::initialize_rows(model, tables[name], common, o.seed);
  }
  model.counts = std::move(counts);
  model.thresholds = std::move(thresholds);
  model.negatives = std::move(negatives);
  model.tree = std::move(tree);
  model.tables = std::move(tables);
}

std::int64_t Word2Vec::row_stride() const noexcept { return impl_->model.row_size(); }
std::shared_ptr<void> Word2Vec::vectors() const noexcept {
  return impl_->model.tables[word2vec::vectors_table].memory();
}
std::shared_ptr<void> Word2Vec::syn1neg() const noexcept {
  return impl_->model.tables[word2vec::syn1neg_table].memory();
}
std::shared_ptr<void> Word2Vec::syn1() const noexcept { return impl_->model.tables[word2vec::syn1_table].memory(); }

const std::vector<std::int64_t>& Word2Vec::counts() const noexcept { return impl_->model.counts; }

const std::vector<std::uint32_t>& Word2Vec::sample_thresholds() const noexcept { return impl_->model.thresholds; }

void Word2Vec::negative_table(std::vector<std::uint32_t>& thresholds, std::vector<std::int32_t>& aliases) const {
  const std::vector<cpu::AliasEntry>& table = impl_->model.negatives;
  thresholds.resize(table.size());
  aliases.resize(table.size());
  for (std::size_t i = 0; i < table.size(); ++i) {
    thresholds[i] = table[i].threshold;
    aliases[i] = table[i].alias;
  }
}

void Word2Vec::huffman_path(std::int64_t word, std::vector<std::int32_t>& points,
                            std::vector<std::uint8_t>& codes) const {
  const word2vec::Model& model = impl_->model;
  if (!model.options.hs) throw ValueError("hs is false, but only hierarchical softmax has Huffman paths");
  word2vec::check_range<std::int64_t>(word, 0, model.vocabulary_size() - 1, "word");
  const auto index = static_cast<std::size_t>(word);
  const auto begin = static_cast<std::ptrdiff_t>(model.tree.begin[index]);
  const auto end = static_cast<std::ptrdiff_t>(model.tree.begin[index + 1]);
  points.assign(model.tree.points.begin() + begin, model.tree.points.begin() + end);
  codes.assign(model.tree.codes.begin() + begin, model.tree.codes.begin() + end);
}

Word2VecResult Word2Vec::train(const std::int32_t* tokens, std::int64_t size, const Word2VecTraining& training) {
  word2vec::check_training(training);
  word2vec::check_tokens(tokens, size, vocabulary_size());
  if (training.deterministic) return word2vec::train_deterministic(impl_->model, tokens, size, training);
  word2vec::HogwildRows::Locks locks;
  return word2vec::train_hogwild(impl_->model, impl_->model.tables, locks, false, tokens, size, training);
}

std::vector<double> Word2Vec::score(const std::int32_t* tokens, std::int64_t size) const {
  const word2vec::Model& model = impl_->model;
  if (!model.options.hs) throw ValueError("hs is false, but sentences are scored by hierarchical softmax only");
  word2vec::check_tokens(tokens, size, vocabulary_size());
  std::vector<word2vec::Block> sentences;
  for (std::int64_t i = 0, begin = 0; i <= size; ++i) {
    if (i < size && tokens[i] >= 0) continue;
    if (i < size || begin < size) sentences.push_back({begin, i});
    begin = i + 1;
  }
  std::vector<double> scores(sentences.size());
  cpu::parallel_for(static_cast<std::int64_t>(sentences.size()), [&](std::int64_t i, int) {
    const word2vec::Block& sentence = sentences[static_cast<std::size_t>(i)];
    scores[static_cast<std::size_t>(i)] =
        word2vec::score_sentence(model, tokens + sentence.begin, sentence.end - sentence.begin);
  });
  return scores;
}

}  // namespace convec
