#include <algorithm>
#include <numeric>
#include <string>
#include <utility>

#include <convec/corpus.hpp>
#include <convec/error.hpp>
#include <convec/vocabulary.hpp>

#include "cpu/thread_pool.hpp"
#include "word2vec/encoding.hpp"
#include "word2vec/text_scanner.hpp"
#include "word2vec/vocabulary.hpp"
#include "word2vec/word_table.hpp"

namespace convec {

using word2vec::IdMaps;
using word2vec::Piece;
using word2vec::Token;
using word2vec::WordTable;

namespace {

// Tables are merged in parts of the hashes' range, by the leading bits.
constexpr unsigned part_bits = 6;
constexpr std::size_t parts = std::size_t{1} << part_bits;
constexpr unsigned id_bits = 32 - part_bits;
constexpr std::int64_t pieces_encoded_at_once = 128;

// Calls act(slot) for each word of a table whose hash is in the part.
template <typename Act>
void for_part(const WordTable& table, std::size_t part, Act&& act) {
  const std::vector<WordTable::Slot>& slots = table.slots();
  const std::size_t share = slots.size() / parts;
  const std::size_t end = (part + 1) * share;
  // Words that found their own slots taken lie beyond the end, up to the first free slot.
  for (std::size_t at = part * share;; ++at) {
    const WordTable::Slot& slot = slots[at & (slots.size() - 1)];
    if (slot.size == WordTable::free_size) {
      if (at >= end) return;
    } else if (WordTable::hash_of(slot) >> (64 - part_bits) == part) {
      act(slot);
    }
  }
}

struct Entry {
  std::int64_t count;
  std::int64_t first;
  const WordTable* table;
  const WordTable::Slot* slot;
};

bool by_appearance(const Entry& a, const Entry& b) { return a.first < b.first; }
bool by_count(const Entry& a, const Entry& b) { return a.count != b.count ? a.count > b.count : a.first < b.first; }

// All tables as one.
struct Merged {
  std::vector<WordTable> tables;
  // For each worker's own ids: the part, and the id in its table.
  std::vector<std::vector<std::uint32_t>> places;
  std::int64_t words = 0;
};

}  // namespace

struct WordCounter::Impl final : word2vec::TextScanner {
  explicit Impl(WordCounterOptions options_)
      : options(std::move(options_)), keeping(options.keep_ids && options.max_vocab_size == 0) {
    if (options.max_vocab_size < 0)
      throw ValueError("max_vocab_size is " + std::to_string(options.max_vocab_size) + ", but must be at least 0");
    if (keeping) memory_limit = word2vec::resolve_memory_limit(options.memory_limit);
    tables.resize(1024);
  }

  bool sequential() const noexcept override { return options.max_vocab_size > 0; }
  bool wants_ids() const noexcept override { return keeping; }

  void identify(int worker, const char* text, const Token* tokens, int count, std::int64_t position,
                std::int64_t max_sentence_length, std::int32_t* ids) override {
    std::unique_ptr<WordTable>& table = tables[static_cast<std::size_t>(worker)];
    if (!table) table = std::make_unique<WordTable>();
    if (options.max_vocab_size == 0) {
      table->count(text, tokens, count, position, ids);
      return;
    }
    int begin = 0;
    for (int index = 0; index < count; ++index) {
      if (tokens[index].size < word2vec::empty_sentence_end) {
        if (++sentence_words < max_sentence_length) continue;
      } else if (tokens[index].size == word2vec::line_end && sentence_words == 0) {
        continue;  // the sentence ended with a cut, or there is none
      }
      table->count(text, tokens + begin, index + 1 - begin, position + begin, ids + begin);
      begin = index + 1;
      sentence_words = 0;
      if (table->size() > options.max_vocab_size) prune(*table);
    }
    table->count(text, tokens + begin, count - begin, position + begin, ids + begin);
  }

  void take(std::vector<Piece>& pieces) override {
    merged.reset();
    ordered.clear();
    if (!keeping) return;
    for (Piece& piece : pieces) {
      kept_bytes += piece.ids.bytes();
      kept.push_back(std::move(piece));
    }
    if (kept_bytes <= memory_limit) return;
    keeping = false;
    kept.clear();
    kept.shrink_to_fit();
  }

  void prune(WordTable& table) {
    table.keep_if([this](std::string_view word, std::int64_t count) {
      return options.prune_rule ? options.prune_rule(word, count, min_reduce) : count >= min_reduce;
    });
    ++min_reduce;
  }

  const Merged& merge() const {
    if (merged) return *merged;
    auto result = std::make_unique<Merged>();
    result->places.resize(tables.size());
    for (std::size_t worker = 0; worker < tables.size(); ++worker)
      if (tables[worker]) result->places[worker].resize(static_cast<std::size_t>(tables[worker]->size()));
    result->tables.assign(parts, WordTable(0, part_bits));
    cpu::parallel_for(parts, [&](std::int64_t index, int) {
      const auto part = static_cast<std::size_t>(index);
      WordTable& merged_table = result->tables[part];
      for (std::size_t worker = 0; worker < tables.size(); ++worker) {
        if (!tables[worker]) continue;
        const WordTable& table = *tables[worker];
        for_part(table, part, [&](const WordTable::Slot& slot) {
          const auto id =
              static_cast<std::uint32_t>(merged_table.add(table.word(slot), slot.count, table.first(slot.id)));
          result->places[worker][static_cast<std::size_t>(slot.id)] = static_cast<std::uint32_t>(part << id_bits) | id;
        });
      }
    });
    for (const WordTable& table : result->tables) result->words += table.size();
    merged = std::move(result);
    return *merged;
  }

  // The words that occur at least so often, in no order.
  std::vector<Entry> entries(std::int64_t min_count) const {
    const Merged& all = merge();
    std::vector<std::vector<Entry>> found(parts);
    cpu::parallel_for(parts, [&](std::int64_t index, int) {
      const auto part = static_cast<std::size_t>(index);
      const WordTable& table = all.tables[part];
      for (const WordTable::Slot& slot : table.slots())
        if (slot.size != WordTable::free_size && slot.count >= min_count)
          found[part].push_back({slot.count, table.first(slot.id), &table, &slot});
    });
    std::vector<Entry> list;
    for (const std::vector<Entry>& some : found) list.insert(list.end(), some.begin(), some.end());
    return list;
  }

  const std::vector<Entry>& by_first() const {
    if (ordered.empty()) {
      ordered = entries(0);
      std::sort(ordered.begin(), ordered.end(), by_appearance);
    }
    return ordered;
  }

  // Also adds the words that are in the vocabulary up.
  IdMaps maps_to(const Vocabulary& vocabulary, std::int64_t& known_words) const {
    const Merged& all = merge();
    std::vector<std::vector<std::int32_t>> ids(parts);
    std::vector<std::int64_t> known(parts);
    cpu::parallel_for(parts, [&](std::int64_t index, int) {
      const auto part = static_cast<std::size_t>(index);
      const WordTable& table = all.tables[part];
      ids[part].resize(static_cast<std::size_t>(table.size()));
      for (const WordTable::Slot& slot : table.slots()) {
        if (slot.size == WordTable::free_size) continue;
        const std::int32_t id = vocabulary.find(table.word(slot));
        ids[part][static_cast<std::size_t>(slot.id)] = id < 0 ? word2vec::absent_id : id;
        if (id >= 0) known[part] += slot.count;
      }
    });
    known_words = std::accumulate(known.begin(), known.end(), std::int64_t{0});
    IdMaps maps(tables.size());
    cpu::parallel_for(static_cast<std::int64_t>(tables.size()), [&](std::int64_t index, int) {
      const auto worker = static_cast<std::size_t>(index);
      const std::vector<std::uint32_t>& places = all.places[worker];
      maps[worker].resize(places.size());
      constexpr std::uint32_t id_mask = (1U << id_bits) - 1;
      for (std::size_t id = 0; id < places.size(); ++id)
        maps[worker][id] = ids[places[id] >> id_bits][places[id] & id_mask];
    });
    return maps;
  }

  WordCounterOptions options;
  bool keeping;
  std::int64_t memory_limit = 0;
  std::vector<std::unique_ptr<WordTable>> tables;  // one a worker
  std::vector<Piece> kept;
  std::int64_t kept_bytes = 0;
  std::int64_t min_reduce = 1;
  std::int64_t sentence_words = 0;  // of the open sentence, where pruning follows it
  mutable std::unique_ptr<Merged> merged;
  mutable std::vector<Entry> ordered;
};

WordCounter::WordCounter(WordCounterOptions options) : impl_(std::make_unique<Impl>(std::move(options))) {}
WordCounter::~WordCounter() = default;
WordCounter::WordCounter(WordCounter&&) noexcept = default;
WordCounter& WordCounter::operator=(WordCounter&&) noexcept = default;

void WordCounter::count_file(const std::string& path, const TextOptions& options) { impl_->scan_file(path, options); }
void WordCounter::feed(std::string_view text, const TextOptions& options) { impl_->feed(text, options); }
void WordCounter::end_text() { impl_->end_text(); }
bool WordCounter::text_complete() const noexcept { return impl_->text_complete(); }
void WordCounter::count(const TokenList& tokens, std::int64_t max_sentence_length) {
  impl_->scan(tokens.impl(), max_sentence_length);
}

std::int64_t WordCounter::raw_words() const noexcept { return impl_->raw_words(); }
std::int64_t WordCounter::sentences() const noexcept { return impl_->sentences(); }
std::int64_t WordCounter::size() const { return impl_->merge().words; }
std::int64_t WordCounter::min_reduce() const noexcept { return impl_->min_reduce; }

std::vector<std::string_view> WordCounter::words() const {
  std::vector<std::string_view> words;
  words.reserve(impl_->by_first().size());
  for (const Entry& entry : impl_->by_first()) words.push_back(entry.table->word(*entry.slot));
  return words;
}

std::vector<std::int64_t> WordCounter::counts() const {
  std::vector<std::int64_t> counts;
  counts.reserve(impl_->by_first().size());
  for (const Entry& entry : impl_->by_first()) counts.push_back(entry.count);
  return counts;
}

std::int64_t WordCounter::effective_min_count(const VocabularyOptions& options) const {
  if (options.max_final_vocab < 0)
    throw ValueError("max_final_vocab is " + std::to_string(options.max_final_vocab) + ", but must be at least 0");
  if (options.max_final_vocab == 0) return options.min_count;
  std::vector<Entry> list = impl_->entries(options.min_count);
  if (options.max_final_vocab >= static_cast<std::int64_t>(list.size())) return options.min_count;
  // More than the first word that is one too many.
  const auto first_out = list.begin() + options.max_final_vocab;
  std::nth_element(list.begin(), first_out, list.end(), by_count);
  return first_out->count + 1;
}

Vocabulary WordCounter::vocabulary(const VocabularyOptions& options) const {
  std::vector<Entry> list = impl_->entries(effective_min_count(options));
  std::sort(list.begin(), list.end(), options.sorted ? by_count : by_appearance);
  const auto impl = std::make_shared<Vocabulary::Impl>(list.size());
  for (const Entry& entry : list) impl->add(entry.table->word(*entry.slot), entry.count);
  return Vocabulary(impl);
}

bool WordCounter::has_corpus() const noexcept { return impl_->keeping; }

Corpus WordCounter::corpus(const Vocabulary& vocabulary) { return corpus(vocabulary, CorpusOptions{}); }

Corpus WordCounter::corpus(const Vocabulary& vocabulary, const CorpusOptions& options) {
  Impl& impl = *impl_;
  if (!impl.keeping)
    throw ValueError(
        "the ids of the text were not kept (keep_ids is false, max_vocab_size is set, they exceeded memory_limit, or "
        "corpus() has been called); read the text again with a CorpusEncoder");
  std::int64_t known_words = 0;
  const IdMaps maps = impl.maps_to(vocabulary, known_words);
  word2vec::Encoding encoding(options);
  encoding.reserve(known_words + impl.sentences());
  const auto count = static_cast<std::int64_t>(impl.kept.size());
  for (std::int64_t begin = 0; begin < count; begin += pieces_encoded_at_once)
    encoding.append(impl.kept.data() + begin, std::min(pieces_encoded_at_once, count - begin), &maps);
  impl.keeping = false;
  impl.kept.clear();
  impl.kept.shrink_to_fit();
  return Corpus(encoding.finish());
}

}  // namespace convec
