// Text: counted from a file as in pieces, and the corpus is the same in every way that leads to it.
#include <algorithm>
#include <map>
#include <numeric>

#include <convec/corpus.hpp>
#include <convec/vocabulary.hpp>

#include "file.hpp"
#include "fuzz.hpp"

using convec::Corpus;
using convec::CorpusEncoder;
using convec::TextOptions;
using convec::Vocabulary;
using convec::WordCounter;

namespace {

template <typename Reader>
void feed(Reader& reader, std::string_view text, const TextOptions& options, std::size_t step) {
  reader.feed({}, options);
  while (!text.empty() && !reader.text_complete()) {
    const std::string piece(text.substr(0, step));  // a copy of exactly these bytes
    reader.feed(piece, options);
    text.remove_prefix(piece.size());
  }
  reader.end_text();
}

std::vector<std::int32_t> ids(const Corpus& corpus) { return {corpus.tokens(), corpus.tokens() + corpus.size()}; }

std::map<std::string, std::int64_t> counted(const WordCounter& counter) {
  std::map<std::string, std::int64_t> all;
  const std::vector<std::int64_t> counts = counter.counts();
  for (const std::string_view word : counter.words()) all.emplace(word, counts[all.size()]);
  return all;
}

void check(const Corpus& corpus, const Vocabulary& vocabulary) {
  std::int64_t ends = 0;
  for (std::int64_t i = 0; i < corpus.size(); ++i) {
    const std::int32_t id = corpus.tokens()[i];
    FUZZ_CHECK(id >= -1 && id < vocabulary.size());
    ends += id == -1 ? 1 : 0;
  }
  FUZZ_CHECK(ends == corpus.sentences() && corpus.size() == corpus.words() + corpus.sentences());
}

std::vector<std::string> seeds() {
  const std::string text =
      "the cat sat\n\non the mat \t and\r\nthe\xC2\xA0"
      "dog\xE3\x80\x80"
      "barked \xFF\xFE\n\xE2\x80\xA8one\x1Ctwo\vthree";
  std::string long_line;
  for (int i = 0; i < 40; ++i) long_line += "w" + std::to_string(i % 7) + " ";
  std::vector<std::string> all;
  for (const char flags : {'\300', '\103', '\214'})
    for (const std::string& one : {text, long_line, std::string("a\0b c\0\n\n d", 10)})
      all.push_back(std::string{flags, '\2', '\11', '\1', '\3'} + one);
  return all;
}

}  // namespace

FUZZ_TARGET(corpus, seeds) {
  const unsigned flags = input.byte();
  TextOptions options;
  options.max_sentence_length = input.extent(40);
  const std::size_t step = 1 + input.byte();
  if ((flags & 1U) != 0) options.lines = false;
  const std::int64_t setting = input.extent(8);
  if ((flags & 2U) != 0) options.max_lines = setting;
  convec::WordCounterOptions counter_options;
  if ((flags & 4U) != 0) counter_options.max_vocab_size = std::max<std::int64_t>(setting, 0);
  if ((flags & 8U) != 0) counter_options.memory_limit = setting;
  convec::VocabularyOptions vocabulary_options;
  vocabulary_options.min_count = input.extent(4);
  vocabulary_options.sorted = (flags & 16U) == 0;
  if ((flags & 32U) != 0) vocabulary_options.max_final_vocab = setting;
  const std::string_view text = input.rest();
  const convec::fuzz::File file(text);
  convec::fuzz::accepts(text.size(), [&] {
    WordCounter counter(counter_options);
    counter.count_file(file.path(), options);
    const auto counts = counted(counter);
    if (counter_options.max_vocab_size == 0) {
      std::int64_t sum = 0;
      for (const auto& entry : counts) sum += entry.second;
      FUZZ_CHECK(sum == counter.raw_words());
    }
    if ((flags & 64U) != 0) {
      WordCounter in_pieces(counter_options);
      feed(in_pieces, text, options, step);
      FUZZ_CHECK(counter.raw_words() == in_pieces.raw_words() && counter.sentences() == in_pieces.sentences());
      FUZZ_CHECK(counts == counted(in_pieces));
    }
    const Vocabulary vocabulary = counter.vocabulary(vocabulary_options);
    CorpusEncoder encoder(vocabulary);
    encoder.add_file(file.path(), options);
    const Corpus corpus = encoder.finish();
    check(corpus, vocabulary);
    FUZZ_CHECK(corpus.raw_words() == counter.raw_words());
    if ((flags & 128U) != 0) {
      feed(encoder, text, options, step);
      FUZZ_CHECK(ids(encoder.finish()) == ids(corpus));
    }
    if (counter.has_corpus()) FUZZ_CHECK(ids(counter.corpus(vocabulary)) == ids(corpus));
  });
}
