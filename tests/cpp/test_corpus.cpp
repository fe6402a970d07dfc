// From a text file to ids: the public API. The tests in Python compare with Python's own split and count.
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <convec/context.hpp>
#include <convec/corpus.hpp>
#include <convec/error.hpp>
#include <convec/vocabulary.hpp>

#include "test.hpp"

using convec::Corpus;
using convec::CorpusEncoder;
using convec::CorpusOptions;
using convec::TextOptions;
using convec::TokenList;
using convec::Vocabulary;
using convec::VocabularyOptions;
using convec::WordCounter;
using convec::WordCounterOptions;

namespace {

// A file in a folder for temporary files, gone with the object.
class TextOnDisk {
 public:
  explicit TextOnDisk(const std::string& text) {
    std::string path = "/tmp/convec-test-XXXXXX";
    const int descriptor = ::mkstemp(path.data());
    CHECK(descriptor >= 0);
    ::close(descriptor);
    path_ = path;
    std::ofstream(path_, std::ios::binary) << text;
  }
  ~TextOnDisk() { std::remove(path_.c_str()); }
  TextOnDisk(const TextOnDisk&) = delete;
  TextOnDisk& operator=(const TextOnDisk&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

std::vector<std::int32_t> ids_of(const Corpus& corpus) { return {corpus.tokens(), corpus.tokens() + corpus.size()}; }

std::string joined(const std::vector<std::int32_t>& ids) {
  std::string text;
  for (const std::int32_t id : ids) text += std::to_string(id) + " ";
  return text;
}

VocabularyOptions every_word() {
  VocabularyOptions options;
  options.min_count = 1;
  return options;
}

// About `size` bytes of words w0, w1, ..., the low numbers often, in lines of 1 to 29 words.
std::string made_up_text(std::size_t size) {
  std::string text;
  std::uint32_t state = 1;
  const auto random = [&state](std::uint32_t below) {
    state = state * 1664525U + 1013904223U;
    return (state >> 8U) % below;
  };
  while (text.size() < size) {
    for (std::uint32_t words = 1 + random(29); words > 0; --words)
      text += "w" + std::to_string(random(1 + random(1 + random(200000)))) + (words == 1 ? "\n" : " ");
  }
  return text;
}

}  // namespace

TEST(a_file_becomes_a_corpus) {
  const TextOnDisk file("the cat sat on the mat\n\n the end\r\ncat");
  WordCounter counter;
  counter.count_file(file.path());
  CHECK_EQ(counter.raw_words(), 9);
  CHECK_EQ(counter.sentences(), 3);
  CHECK_EQ(counter.size(), 6);
  VocabularyOptions options;
  options.min_count = 2;
  const Vocabulary vocabulary = counter.vocabulary(options);
  CHECK_EQ(vocabulary.size(), 2);
  CHECK(vocabulary.word(0) == "the");
  CHECK(vocabulary.word(1) == "cat");
  CHECK_EQ(vocabulary.count(0), 3);
  CHECK_EQ(vocabulary.counts()[1], 2);
  CHECK_EQ(vocabulary.total_count(), 5);
  CHECK_EQ(vocabulary.find("cat"), 1);
  CHECK_EQ(vocabulary.find("mat"), -1);
  CHECK(counter.has_corpus());
  const Corpus corpus = counter.corpus(vocabulary);
  CHECK_EQ(joined(ids_of(corpus)), "0 1 0 -1 0 -1 1 -1 ");
  CHECK_EQ(corpus.words(), 5);
  CHECK_EQ(corpus.raw_words(), 9);
  CHECK_EQ(corpus.sentences(), 3);
  CHECK(!counter.has_corpus());
  CHECK_THROWS(counter.corpus(vocabulary), convec::ValueError, "CorpusEncoder");
}

TEST(nothing_becomes_an_empty_corpus) {
  const TextOnDisk file("");
  WordCounter counter;
  counter.count_file(file.path());
  const Vocabulary vocabulary = counter.vocabulary();
  CHECK_EQ(vocabulary.size(), 0);
  CHECK_EQ(vocabulary.find(""), -1);
  CHECK_EQ(counter.corpus(vocabulary).size(), 0);
  CHECK_EQ(CorpusEncoder(vocabulary).finish().size(), 0);
  CHECK_EQ(Corpus().size(), 0);
  CHECK_EQ(Vocabulary().size(), 0);
}

TEST(the_number_of_threads_changes_nothing) {
  const TextOnDisk file(made_up_text(6'000'000));
  const int before = convec::num_threads();
  std::vector<std::string> words;
  std::vector<std::int64_t> counts;
  std::vector<std::int32_t> ids;
  for (const int threads : {1, 2, 5}) {
    convec::set_num_threads(threads);
    WordCounter counter;
    counter.count_file(file.path());
    const Vocabulary vocabulary = counter.vocabulary(every_word());
    const std::vector<std::string_view> views = counter.words();
    const std::vector<std::string> these(views.begin(), views.end());
    const std::vector<std::int32_t> tokens = ids_of(counter.corpus(vocabulary));
    if (threads == 1) {
      words = these;
      counts = counter.counts();
      ids = tokens;
    }
    CHECK(these == words);
    CHECK(counter.counts() == counts);
    CHECK(tokens == ids);
    CorpusEncoder encoder(vocabulary);
    encoder.add_file(file.path());
    CHECK(ids_of(encoder.finish()) == ids);
  }
  convec::set_num_threads(before);
}

TEST(long_sentences_are_cut_before_words_are_dropped) {
  TextOptions options;
  options.max_sentence_length = 3;
  WordCounter counter;
  counter.feed("a b c d e f\nx a x\na b", options);
  counter.feed(" c d", options);
  counter.end_text();
  CHECK_EQ(counter.sentences(), 5);
  VocabularyOptions common;
  common.min_count = 2;
  const Vocabulary vocabulary = counter.vocabulary(common);  // a, b, c, d, x
  CHECK_EQ(vocabulary.size(), 5);
  CHECK_EQ(joined(ids_of(counter.corpus(vocabulary))), "0 1 2 -1 3 -1 4 0 4 -1 0 1 2 -1 3 -1 ");
}

TEST(lists_of_words_may_hold_anything) {
  TokenList list;
  for (const std::string_view word :
       {std::string_view("machine learning"), std::string_view(""), std::string_view("a\0b", 3)})
    list.add(word);
  list.end_sentence();
  list.end_sentence();
  list.add("");
  list.end_sentence();
  list.add("of an open sentence");
  CHECK_EQ(list.words(), 5);
  CHECK_EQ(list.sentences(), 3);
  WordCounter counter;
  counter.count(list);
  CHECK_EQ(counter.raw_words(), 4);
  CHECK_EQ(counter.sentences(), 3);
  const Vocabulary vocabulary = counter.vocabulary(every_word());
  CHECK_EQ(vocabulary.find(""), 0);
  CHECK_EQ(vocabulary.find("machine learning"), 1);
  CHECK_EQ(vocabulary.find(std::string_view("a\0b", 3)), 2);
  CHECK_EQ(vocabulary.find("a"), -1);
  CHECK_EQ(joined(ids_of(counter.corpus(vocabulary))), "1 0 2 -1 -1 0 -1 ");
}

TEST(ids_above_the_limit_live_in_a_file) {
  const std::string text = made_up_text(2'000'000);
  WordCounter counter;
  counter.feed(text);
  counter.end_text();
  const Vocabulary vocabulary = counter.vocabulary(every_word());
  const Corpus in_memory = counter.corpus(vocabulary);
  CHECK(!in_memory.spilled());
  for (const std::int64_t limit : {std::int64_t{0}, std::int64_t{300'000}}) {
    CorpusOptions options;
    options.memory_limit = limit;
    CorpusEncoder encoder(vocabulary, options);
    encoder.feed(text);
    Corpus copy;
    {
      const Corpus spilled = encoder.finish();
      CHECK(spilled.spilled());
      CHECK(ids_of(spilled) == ids_of(in_memory));
      copy = spilled;
      CHECK_EQ(copy.tokens(), spilled.tokens());
    }
    CHECK(ids_of(copy) == ids_of(in_memory));
  }
  CorpusOptions nowhere;
  nowhere.memory_limit = 0;
  nowhere.spill_directory = "/no/such/folder";
  CorpusEncoder encoder(vocabulary, nowhere);
  const auto spill = [&] {
    encoder.feed(text);
    return encoder.finish();
  };
  CHECK_THROWS(spill(), convec::IoError, "/no/such/folder");
}

TEST(ids_that_do_not_fit_are_not_kept) {
  WordCounterOptions options;
  options.memory_limit = 1000;
  WordCounter counter(options);
  counter.feed(made_up_text(100'000));
  counter.end_text();
  CHECK(!counter.has_corpus());
  CHECK(counter.vocabulary(every_word()).size() > 100);
}

TEST(pruning_follows_the_sentences) {
  WordCounterOptions options;
  options.max_vocab_size = 2;
  WordCounter counter(options);
  counter.feed("a b c\na d\n");  // 3 words: nothing is below 1; 4 words: all but a are below 2
  counter.feed("a b");
  counter.end_text();
  CHECK_EQ(counter.min_reduce(), 3);
  CHECK_EQ(counter.size(), 2);
  CHECK(counter.words() == (std::vector<std::string_view>{"a", "b"}));
  CHECK(counter.counts() == (std::vector<std::int64_t>{3, 1}));
  CHECK(!counter.has_corpus());
}

TEST(max_final_vocab_raises_min_count) {
  WordCounter counter;
  counter.feed("a a a a b b b c c c d d e");
  counter.end_text();
  VocabularyOptions options = every_word();
  const std::map<std::int64_t, std::pair<std::int64_t, std::int64_t>> expected = {
      {0, {1, 5}}, {5, {1, 5}}, {9, {1, 5}}, {4, {2, 4}}, {3, {3, 3}}, {2, {4, 1}}, {1, {4, 1}}};
  for (const auto& [limit, result] : expected) {
    options.max_final_vocab = limit;
    CHECK_EQ(counter.effective_min_count(options), result.first);
    CHECK_EQ(counter.vocabulary(options).size(), result.second);
  }
}

TEST(progress_is_told_and_may_stop_the_scan) {
  const TextOnDisk file(made_up_text(500'000));
  TextOptions options;
  options.progress_interval = 0;
  std::int64_t bytes = 0;
  options.progress = [&](const convec::ScanProgress& state) {
    CHECK(state.bytes > bytes);
    CHECK(state.bytes <= state.total_bytes);
    bytes = state.bytes;
  };
  WordCounter counter;
  counter.count_file(file.path(), options);
  CHECK(bytes >= 500'000);
  options.progress = [](const convec::ScanProgress&) { throw convec::Cancelled("enough"); };
  CHECK_THROWS(counter.count_file(file.path(), options), convec::Cancelled, "enough");
}

TEST(bad_input_is_refused) {
  WordCounter counter;
  CHECK_THROWS(counter.count_file("/no/such/file"), convec::IoError,
               "/no/such/file: cannot open the text file: No such");
  CHECK_THROWS(counter.count_file("/"), convec::IoError, "directory");
  TextOptions options;
  options.max_sentence_length = 0;
  CHECK_THROWS(counter.feed("a", options), convec::ValueError, "max_sentence_length is 0");
  counter.feed("a");
  CHECK_THROWS(counter.count_file("/dev/null"), convec::ValueError, "end_text");
  TokenList list;
  CHECK_THROWS(counter.count(list), convec::ValueError, "end_text");
  CHECK_THROWS(list.add(std::string((std::size_t{64} << 20U) + 1, 'x')), convec::ValueError, "67108865 bytes");
  CHECK_THROWS(Vocabulary({"a", "b", "a"}, {1, 1, 1}), convec::ValueError, "words[2], 'a'");
  CHECK_THROWS(Vocabulary({"a"}, {1, 2}), convec::ShapeError, "counts has 2 numbers");
  CHECK_THROWS(Vocabulary({"a"}, {-1}), convec::ValueError, "counts[0] is -1");
  CHECK_THROWS(Vocabulary().word(0), convec::ValueError, "id is 0");
  WordCounterOptions negative;
  negative.max_vocab_size = -1;
  CHECK_THROWS(WordCounter(negative), convec::ValueError, "max_vocab_size is -1");
}

TEST_MAIN()
