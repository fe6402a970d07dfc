// Turns the ids of pieces of text into those of a corpus: words that are not in the vocabulary go, long sentences are
// cut.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include <convec/corpus.hpp>

#include "word2vec/id_store.hpp"
#include "word2vec/text_scanner.hpp"

namespace convec {

struct Corpus::Impl {
  explicit Impl(const CorpusOptions& options) : ids(options.memory_limit, options.spill_directory) {}
  word2vec::IdStore ids;
  std::int64_t raw_words = 0;
  std::int64_t sentences = 0;
};

}  // namespace convec

namespace convec::word2vec {

// For each worker, the final ids (or absent_id) of its own.
using IdMaps = std::vector<std::vector<std::int32_t>>;

class Encoding {
 public:
  explicit Encoding(const CorpusOptions& options);
  // Makes room for so many words and ends of sentences.
  void reserve(std::int64_t ids) { corpus_->ids.reserve(ids); }
  // Appends pieces, in order, and releases their ids. `maps` is null where the ids are final.
  void append(Piece* pieces, std::int64_t count, const IdMaps* maps);
  // The corpus so far, closed.
  std::shared_ptr<const Corpus::Impl> finish();

 private:
  std::shared_ptr<Corpus::Impl> corpus_;
  std::int64_t open_words_ = 0;  // words of the open sentence, after cutting
};

}  // namespace convec::word2vec
