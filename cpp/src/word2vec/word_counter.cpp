#include <algorithm>
#include <iterator>
#include <limits>
#include <numeric>
#include <string>
#include <string_view>
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
  const WordTable::Slots& slots = table.slots();
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

// A word of all tables, seen in the first that has it.
struct Entry {
  std::int64_t count;
  std::int64_t first;
  const WordTable* table;
  const WordTable::Slot* slot;

  std::string_view word() const noexcept { return table->word(*slot); }
};

bool by_appearance(const Entry& a, const Entry& b) { return a.first < b.first; }
bool by_count(const Entry& a, const Entry& b) { return a.count != b.count ? a.count > b.count : a.first < b.first; }

// All tables as one. Entries refer to the tables' slots: valid until one of them changes.
struct Merged {
  std::vector<std::vector<Entry>> entries;  // by part
  // For each worker's own ids: the part, and the place in its entries.
  std::vector<std::vector<std::uint32_t>> places;
  std::int64_t words = 0;
};

// The places of a part's entries by their words: open addressing, at most half of the slots taken.
class PlaceTable {
 public:
  explicit PlaceTable(std::size_t most_words) {
    std::size_t capacity = 16;
    while (capacity < 2 * most_words) capacity *= 2;
    slots_.resize(capacity, free_place);
    mask_ = capacity - 1;
  }

  // The place of a word among `entries`, to which it is added, without a count, where it is new.
  std::uint32_t place_of(const WordTable& table, const WordTable::Slot& slot, std::vector<Entry>& entries) {
    // The leading bits are those of the part.
    for (std::size_t at = WordTable::hash_of(slot) & mask_;; at = (at + 1) & mask_) {
      if (slots_[at] == free_place) {
        slots_[at] = static_cast<std::uint32_t>(entries.size());
        entries.push_back({0, std::numeric_limits<std::int64_t>::max(), &table, &slot});
        return slots_[at];
      }
      if (entries[slots_[at]].word() == table.word(slot)) return slots_[at];
    }
  }

 private:
  static constexpr std::uint32_t free_place = 0xFFFFFFFFU;
  std::vector<std::uint32_t> slots_;
  std::size_t mask_ = 0;
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

  void before_identify() override { forget_merged(); }
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

  void forget_merged() {
    merged.reset();
    ordered = {};
  }

  void prune(WordTable& table) {
    table.keep_if([this](std::string_view word, std::int64_t count) {
      return options.prune_rule ? options.prune_rule(word, count, min_reduce) : count >= min_reduce;
    });
    forget_merged();  // the rule may have asked for words
    ++min_reduce;
  }

  const Merged& merge() const {
    if (merged) return *merged;
    auto result = std::make_unique<Merged>();
    result->places.resize(tables.size());
    for (std::size_t worker = 0; worker < tables.size(); ++worker)
      if (tables[worker]) result->places[worker].resize(static_cast<std::size_t>(tables[worker]->size()));
    result->entries.resize(parts);
    cpu::parallel_for(parts, [&](std::int64_t index, int) {
      const auto part = static_cast<std::size_t>(index);
      std::size_t most = 0;
      for (const std::unique_ptr<WordTable>& table : tables)
        if (table) for_part(*table, part, [&](const WordTable::Slot&) { ++most; });
      std::vector<Entry> entries;
      PlaceTable known(most);
      for (std::size_t worker = 0; worker < tables.size(); ++worker) {
        if (!tables[worker]) continue;
        const WordTable& table = *tables[worker];
        for_part(table, part, [&](const WordTable::Slot& slot) {
          const std::uint32_t place = known.place_of(table, slot, entries);
          entries[place].count += slot.count;
          entries[place].first = std::min(entries[place].first, table.first(slot.id));
          result->places[worker][static_cast<std::size_t>(slot.id)] =
              static_cast<std::uint32_t>(part << id_bits) | place;
        });
      }
      result->entries[part] = std::vector<Entry>(entries.begin(), entries.end());  // without the room to grow
    });
    for (const std::vector<Entry>& entries : result->entries)
      result->words += static_cast<std::int64_t>(entries.size());
    merged = std::move(result);
    return *merged;
  }

  // The words that occur at least so often, in no order.
  std::vector<Entry> entries(std::int64_t min_count) const {
    std::vector<Entry> list;
    for (const std::vector<Entry>& entries : merge().entries)
      std::copy_if(entries.begin(), entries.end(), std::back_inserter(list),
                   [min_count](const Entry& entry) { return entry.count >= min_count; });
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
      ids[part].reserve(all.entries[part].size());
      for (const Entry& entry : all.entries[part]) {
        const std::int32_t id = vocabulary.find(entry.word());
        ids[part].push_back(id < 0 ? word2vec::absent_id : id);
        if (id >= 0) known[part] += entry.count;
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
  for (const Entry& entry : impl_->by_first()) words.push_back(entry.word());
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
  for (const Entry& entry : list) impl->add(entry.word(), entry.count);
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
  impl.forget_merged();  // made again if somebody asks; its memory is wanted for the corpus
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
