/// @file vocabulary.hpp
/// From text to words: counting them with all threads, and choosing those that get an id.
///
/// Text is UTF-8, one sentence a line. A line ends at '\n'; words are separated by white space exactly as Python's
/// str.split() has it: the ASCII white space (tab to carriage return, 0x1C to 0x20) and U+0085, U+00A0, U+1680, U+2000
/// to U+200A, U+2028, U+2029, U+202F, U+205F and U+3000. Words are strings of bytes: any other byte, NUL and bytes that
/// are not UTF-8 included, is part of a word and kept as it is. Lines without words are no sentences. Lines of more
/// than max_sentence_length words are cut into several sentences.
///
///     convec::WordCounter counter;
///     counter.count_file("text.txt");
///     const convec::Vocabulary vocabulary = counter.vocabulary();
///     const convec::Corpus corpus = counter.corpus(vocabulary);  // corpus.hpp
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <convec/export.hpp>

namespace convec {

class Corpus;

/// Where a scan of text is.
struct ScanProgress {
  std::int64_t bytes = 0;        ///< read so far, of all files and texts
  std::int64_t total_bytes = 0;  ///< to be read in all as far as known: `bytes` so far and the rest of the file
  std::int64_t raw_words = 0;    ///< seen so far
  std::int64_t sentences = 0;    ///< ended so far
};

/// Called from the thread that scans; throws to stop (the exception reaches the caller of the scan; the counter or
/// encoder is then only good for being thrown away).
using ScanCallback = std::function<void(const ScanProgress&)>;

/// How a text is read.
struct TextOptions {
  /// Longer sentences are cut.
  std::int64_t max_sentence_length = 10000;
  /// Only so many lines of it; below 0: all.
  std::int64_t max_lines = -1;
  /// False: line ends are white space like any other, the whole text is one sentence cut by max_sentence_length.
  bool lines = true;
  /// `progress` is called about every so many seconds.
  double progress_interval = 0.1;
  ScanCallback progress;  ///< may be empty
};

/// Sentences given as words rather than as text: a builder that counters and encoders read from. Words may be any
/// bytes, white space included, or none.
class CONVEC_API TokenList {
 public:
  TokenList();
  ~TokenList();
  TokenList(TokenList&&) noexcept;             ///< leaves the other empty
  TokenList& operator=(TokenList&&) noexcept;  ///< leaves the other empty

  /// Adds a word to the open sentence. @throws ValueError the word is longer than 64 MiB.
  void add(std::string_view word);
  /// Ends the open sentence, which may be empty: it counts as a sentence all the same.
  void end_sentence();
  /// Forgets everything, keeps the memory.
  void clear() noexcept;

  /// Words added.
  std::int64_t words() const noexcept;
  /// Sentences ended.
  std::int64_t sentences() const noexcept;
  /// Bytes of the words.
  std::int64_t bytes() const noexcept;

  struct Impl;
  const Impl& impl() const noexcept { return *impl_; }  ///< for the library itself

 private:
  std::unique_ptr<Impl> impl_;
};

/// Words with ids from 0 on and their counts. Immutable; copies share one body.
class CONVEC_API Vocabulary {
 public:
  /// No words.
  Vocabulary();
  /// Ids in the order given. @throws ShapeError the lengths differ. @throws ValueError a word comes twice, a count is
  /// negative, or there are 2^31 - 1 words or more.
  Vocabulary(const std::vector<std::string_view>& words, const std::vector<std::int64_t>& counts);
  ~Vocabulary();
  Vocabulary(const Vocabulary&);             ///< shares the words
  Vocabulary& operator=(const Vocabulary&);  ///< shares the words

  std::int64_t size() const noexcept;  ///< number of words
  /// @throws ValueError no such id.
  std::string_view word(std::int64_t id) const;
  /// @throws ValueError no such id.
  std::int64_t count(std::int64_t id) const;
  /// The counts by id.
  const std::int64_t* counts() const noexcept;
  /// Sum of the counts.
  std::int64_t total_count() const noexcept;
  /// The id of a word, or -1.
  std::int32_t find(std::string_view word) const noexcept;

  struct Impl;
  const Impl& impl() const noexcept { return *impl_; }  ///< for the library itself

 private:
  friend class WordCounter;
  explicit Vocabulary(std::shared_ptr<const Impl> impl);
  std::shared_ptr<const Impl> impl_;
};

/// Which of the counted words get an id.
struct VocabularyOptions {
  /// Words that occur less often are left out.
  std::int64_t min_count = 5;
  /// Above 0: min_count is raised until at most so many words stay.
  std::int64_t max_final_vocab = 0;
  /// Ids by descending count, equal counts by first appearance; false: all by first appearance.
  bool sorted = true;
};

/// Whether a word that has been counted `count` times stays when a scan prunes with `min_reduce`; may throw.
using PruneRule = std::function<bool(std::string_view word, std::int64_t count, std::int64_t min_reduce)>;

/// How words are counted.
struct WordCounterOptions {
  /// Above 0: whenever a sentence leaves more words than this in the table, those that occurred less often than
  /// min_reduce go, and min_reduce, at first 1, grows by 1 (gensim's max_vocab_size). Done by one thread, since what is
  /// pruned depends on the order of the sentences; counts of pruned words are lost.
  std::int64_t max_vocab_size = 0;
  /// Decides instead of `count >= min_reduce`.
  PruneRule prune_rule;
  /// Keep the words' places, 4 bytes a word, so that corpus() need not read the text again. Not possible together with
  /// max_vocab_size.
  bool keep_ids = true;
  /// Above so many bytes of them they are dropped after all; below 0: half of the memory that is free.
  std::int64_t memory_limit = -1;
};

struct CorpusOptions;

/// Counts words in files, pieces of text and lists of words. Results do not depend on the number of threads.
/// Not thread-safe.
class CONVEC_API WordCounter {
 public:
  /// A counter that has seen nothing. @throws ValueError an option is out of range.
  explicit WordCounter(WordCounterOptions options = {});
  ~WordCounter();
  WordCounter(WordCounter&&) noexcept;             ///< leaves the other empty
  WordCounter& operator=(WordCounter&&) noexcept;  ///< leaves the other empty

  /// Counts a text file. A file that is not regular (a pipe) is read to its end. Nothing is memory-mapped, so that a
  /// file cut short by somebody else is an error, not a crash.
  /// @throws IoError it cannot be read, or shrinks. @throws ValueError a word is longer than 64 MiB, or an option is
  /// out of range. @throws what progress throws.
  void count_file(const std::string& path, const TextOptions& options = {});
  /// Counts a piece of a text that comes in pieces (a decompressor's output); pieces may end anywhere. The options of
  /// the first piece hold to end_text().
  void feed(std::string_view text, const TextOptions& options = {});
  /// Ends the text begun by feed().
  void end_text();
  /// True: max_lines have been fed, more will not be counted.
  bool text_complete() const noexcept;
  /// Counts the ended sentences of a list. Longer sentences are cut in the corpus, but counted once here.
  void count(const TokenList& tokens, std::int64_t max_sentence_length = 10000);

  std::int64_t raw_words() const noexcept;  ///< words seen, repetitions included
  std::int64_t sentences() const noexcept;  ///< sentences seen
  /// Distinct words.
  std::int64_t size() const;
  /// What min_reduce has come to: 1 where nothing was pruned.
  std::int64_t min_reduce() const noexcept;

  /// Every distinct word, by first appearance. Valid until more is counted.
  std::vector<std::string_view> words() const;
  /// Their counts.
  std::vector<std::int64_t> counts() const;

  /// The min_count that vocabulary() will use: options.min_count, raised for max_final_vocab.
  std::int64_t effective_min_count(const VocabularyOptions& options) const;
  /// The words that are common enough.
  /// @throws ValueError an option is out of range, or 2^31 - 1 words or more are left.
  Vocabulary vocabulary(const VocabularyOptions& options = {}) const;

  /// Whether corpus() is possible: ids were kept, and fitted.
  bool has_corpus() const noexcept;
  /// What has been counted, as ids of any vocabulary. The ids kept are used up by it.
  /// @throws ValueError has_corpus() is false: read the text again with a CorpusEncoder.
  Corpus corpus(const Vocabulary& vocabulary, const CorpusOptions& options);
  /// The text that was counted, encoded by a vocabulary of it; once.
  Corpus corpus(const Vocabulary& vocabulary);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace convec
