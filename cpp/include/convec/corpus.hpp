/// @file corpus.hpp
/// Text as ids of a vocabulary, ready to train on.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include <convec/export.hpp>
#include <convec/vocabulary.hpp>

namespace convec {

/// How text is cut into sentences and ids are kept.
struct CorpusOptions {
  /// Above so many bytes of ids they live in a temporary file; below 0: half of the memory that is free.
  std::int64_t memory_limit = -1;
  /// Folder of that file, which has no name and goes with the corpus; empty: TMPDIR, else /var/tmp, else /tmp.
  std::string spill_directory;
};

/// Ids of words, every sentence followed by -1, words that are not in the vocabulary left out (a sentence may be empty
/// for that). Immutable; copies share one body.
class CONVEC_API Corpus {
 public:
  /// No sentences.
  Corpus();
  ~Corpus();
  Corpus(const Corpus&);             ///< shares the ids
  Corpus& operator=(const Corpus&);  ///< shares the ids

  /// The ids, size() of them, valid while a copy of this corpus lives.
  const std::int32_t* tokens() const noexcept;
  /// words() + sentences().
  std::int64_t size() const noexcept;
  /// Words of the text that are in the vocabulary.
  std::int64_t words() const noexcept;
  /// All words of the text.
  std::int64_t raw_words() const noexcept;
  /// Sentences after cutting: the number of -1s.
  std::int64_t sentences() const noexcept;
  /// Whether the ids live in a temporary file.
  bool spilled() const noexcept;

  struct Impl;

 private:
  friend class WordCounter;
  friend class CorpusEncoder;
  explicit Corpus(std::shared_ptr<const Impl> impl);
  std::shared_ptr<const Impl> impl_;
};

/// Encodes files, pieces of text and lists of words by a vocabulary that is known. The result does not depend on the
/// number of threads. Not thread-safe.
class CONVEC_API CorpusEncoder {
 public:
  /// An encoder by the words of a vocabulary. @throws ValueError an option is out of range.
  explicit CorpusEncoder(const Vocabulary& vocabulary, CorpusOptions options = {});
  ~CorpusEncoder();
  CorpusEncoder(CorpusEncoder&&) noexcept;             ///< leaves the other empty
  CorpusEncoder& operator=(CorpusEncoder&&) noexcept;  ///< leaves the other empty

  /// As WordCounter::count_file. @throws also IoError the temporary file cannot be written.
  void add_file(const std::string& path, const TextOptions& options = {});
  /// As WordCounter::feed.
  void feed(std::string_view text, const TextOptions& options = {});
  /// As WordCounter::end_text.
  void end_text();
  /// As WordCounter::text_complete.
  bool text_complete() const noexcept;
  /// Encodes the ended sentences of a list; an empty one leaves a -1 of its own.
  void add(const TokenList& tokens, std::int64_t max_sentence_length = 10000);

  /// The corpus so far; the encoder is empty then.
  Corpus finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace convec
