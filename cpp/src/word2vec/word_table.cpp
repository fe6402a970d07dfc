#include "word2vec/word_table.hpp"

#include <algorithm>

#include <convec/error.hpp>

namespace convec::word2vec {

namespace {

__extension__ using Wide = unsigned __int128;

// Random odd numbers.
constexpr std::uint64_t secret_0 = 0x8BB84B93962EACC9U;
constexpr std::uint64_t secret_1 = 0x4B33A62ED433D4A3U;

// Both halves of the product: every bit of the result depends on every bit of both factors.
inline std::uint64_t mix(std::uint64_t a, std::uint64_t b) noexcept {
  const Wide product = static_cast<Wide>(a) * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64U);
}

inline std::uint64_t load(const char* bytes) noexcept {
  std::uint64_t value = 0;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

// Up to eight bytes, zeros after.
inline std::uint64_t load_part(const char* bytes, std::size_t size) noexcept {
  std::uint64_t value = 0;
  std::memcpy(&value, bytes, size);
  return value;
}

inline std::uint64_t hash_short(std::uint64_t first, std::uint64_t second, std::uint32_t size) noexcept {
  return mix(first ^ secret_0, second ^ (secret_1 + size));
}

std::uint64_t hash_long(const char* word, std::size_t size) noexcept {
  std::uint64_t hash = secret_0 + size;
  std::size_t at = 0;
  for (; at + 8 <= size; at += 8) hash = mix(hash ^ load(word + at), secret_1);
  if (at < size) hash = mix(hash ^ load_part(word + at, size - at), secret_1);
  return mix(hash, secret_0);
}

// masks[n]: the first n bytes of a word.
constexpr std::uint64_t masks[17] = {0,
                                     0xFF,
                                     0xFFFF,
                                     0xFFFFFF,
                                     0xFFFFFFFF,
                                     0xFFFFFFFFFF,
                                     0xFFFFFFFFFFFF,
                                     0xFFFFFFFFFFFFFF,
                                     ~std::uint64_t{0},
                                     ~std::uint64_t{0},
                                     ~std::uint64_t{0},
                                     ~std::uint64_t{0},
                                     ~std::uint64_t{0},
                                     ~std::uint64_t{0},
                                     ~std::uint64_t{0},
                                     ~std::uint64_t{0},
                                     ~std::uint64_t{0}};
constexpr std::uint64_t second_masks[17] = {0,
                                            0,
                                            0,
                                            0,
                                            0,
                                            0,
                                            0,
                                            0,
                                            0,
                                            0xFF,
                                            0xFFFF,
                                            0xFFFFFF,
                                            0xFFFFFFFF,
                                            0xFFFFFFFFFF,
                                            0xFFFFFFFFFFFF,
                                            0xFFFFFFFFFFFFFF,
                                            ~std::uint64_t{0}};

constexpr std::size_t least_slots = 256;
// Words looked up together, so that their cache misses overlap.
constexpr int group = 32;

}  // namespace

void throw_long_word(const std::string& where) {
  throw ValueError(where + "a word is longer than " + std::to_string(max_word_bytes / (1024 * 1024)) +
                   " MiB; is this text, with words separated by white space?");
}

struct WordTable::Key {
  const char* word;
  std::uint64_t first;
  std::uint64_t second;
  std::uint64_t hash;
  std::uint32_t size;

  // Reads 16 bytes.
  static Key padded(const char* word, std::uint32_t size) {
    if (size > short_size) return of_long(word, size);
    const std::uint64_t first = load(word) & masks[size];
    const std::uint64_t second = load(word + 8) & second_masks[size];
    return {word, first, second, hash_short(first, second, size), size};
  }

  // Reads nothing beyond the word.
  static Key exact(const char* word, std::uint32_t size) {
    if (size > short_size) return of_long(word, size);
    const std::uint64_t first = load_part(word, std::min<std::size_t>(size, 8));
    const std::uint64_t second = size > 8 ? load_part(word + 8, size - 8) : 0;
    return {word, first, second, hash_short(first, second, size), size};
  }

  static Key of_long(const char* word, std::uint32_t size) {
    if (size > max_word_bytes) throw_long_word("");
    const std::uint64_t hash = hash_long(word, size);
    return {word, hash, 0, hash, size};
  }
};

WordTable::WordTable(std::size_t expected_words) { make_room(expected_words); }

std::uint64_t WordTable::hash_of(const Slot& slot) noexcept {
  return slot.size > short_size ? slot.key[0] : hash_short(slot.key[0], slot.key[1], slot.size);
}

std::string_view WordTable::word(const Slot& slot) const noexcept {
  if (slot.size > short_size) return {bytes_.data() + slot.key[1], slot.size};
  return {reinterpret_cast<const char*>(slot.key), slot.size};
}

// At most 5 of 8 slots are taken.
void WordTable::make_room(std::size_t words) {
  const std::size_t wanted = (first_.size() + words) / 5 * 8 + 8;
  if (wanted <= slots_.size()) return;
  std::size_t capacity = std::max(slots_.size() * 2, least_slots);
  while (capacity < wanted) capacity *= 2;
  Slots old(capacity);
  old.swap(slots_);
  mask_ = capacity - 1;
  shift_ = static_cast<unsigned>(64 - __builtin_ctzll(capacity));
  for (const Slot& slot : old) {
    if (slot.size == free_size) continue;
    std::size_t at = home(hash_of(slot));
    while (slots_[at].size != free_size) at = (at + 1) & mask_;
    slots_[at] = slot;
  }
}

inline bool WordTable::matches(const Slot& slot, const Key& key) const noexcept {
  if (slot.size != key.size || slot.key[0] != key.first) return false;
  return key.size > short_size ? std::memcmp(bytes_.data() + slot.key[1], key.word, key.size) == 0
                               : slot.key[1] == key.second;
}

std::int32_t WordTable::insert(Slot& slot, const Key& key, std::int64_t first) {
  if (first_.size() >= 0x7FFFFFFEU)
    throw ValueError("the text has 2^31 - 2 different words or more, more than ids can number; set max_vocab_size");
  slot.key[0] = key.first;
  slot.key[1] = key.second;
  if (key.size > short_size) {
    slot.key[1] = bytes_.size();
    bytes_.insert(bytes_.end(), key.word, key.word + key.size);
  }
  slot.count = 0;
  slot.id = static_cast<std::int32_t>(first_.size());
  first_.push_back(first);
  slot.size = key.size;
  return slot.id;
}

// Calls act(slot, key, index) for each word: `slot` is the word's own or, where it is new, a free one.
template <bool inserting, typename Table, typename Act>
inline void WordTable::visit(Table& table, const char* text, const Token* tokens, int count, std::int32_t* ids,
                             Act&& act) {
  Key keys[group];
  for (int begin = 0; begin < count; begin += group) {
    const int size = std::min(group, count - begin);
    if constexpr (inserting) table.make_room(group);
    for (int index = 0; index < size; ++index) {
      const Token token = tokens[begin + index];
      if (token.size >= empty_sentence_end) {
        keys[index].size = token.size;
        continue;
      }
      keys[index] = Key::padded(text + token.start, token.size);
      __builtin_prefetch(&table.slots_[table.home(keys[index].hash)]);
    }
    for (int index = 0; index < size; ++index) {
      const Key& key = keys[index];
      if (key.size >= empty_sentence_end) {
        ids[begin + index] = key.size == line_end ? end_id : empty_id;
        continue;
      }
      std::size_t at = table.home(key.hash);
      while (table.slots_[at].size != free_size && !table.matches(table.slots_[at], key)) at = (at + 1) & table.mask_;
      ids[begin + index] = act(table.slots_[at], key, begin + index);
    }
  }
}

void WordTable::count(const char* text, const Token* tokens, int count, std::int64_t position, std::int32_t* ids) {
  visit<true>(*this, text, tokens, count, ids, [this, position](Slot& slot, const Key& key, int index) {
    if (slot.size == free_size) insert(slot, key, position + index);
    ++slot.count;
    return slot.id;
  });
}

void WordTable::find(const char* text, const Token* tokens, int count, std::int32_t* ids) const {
  visit<false>(*this, text, tokens, count, ids,
               [](const Slot& slot, const Key&, int) { return slot.size == free_size ? absent_id : slot.id; });
}

std::int32_t WordTable::find(std::string_view word) const noexcept {
  if (word.size() > static_cast<std::size_t>(max_word_bytes)) return -1;
  const Key key = Key::exact(word.data(), static_cast<std::uint32_t>(word.size()));
  for (std::size_t at = home(key.hash);; at = (at + 1) & mask_) {
    if (slots_[at].size == free_size) return -1;
    if (matches(slots_[at], key)) return slots_[at].id;
  }
}

std::int32_t WordTable::add(std::string_view word, std::int64_t count, std::int64_t first) {
  make_room(1);
  const Key key = Key::exact(word.data(), static_cast<std::uint32_t>(word.size()));
  std::size_t at = home(key.hash);
  while (slots_[at].size != free_size && !matches(slots_[at], key)) at = (at + 1) & mask_;
  Slot& slot = slots_[at];
  if (slot.size == free_size) insert(slot, key, first);
  slot.count += count;
  std::int64_t& earliest = first_[static_cast<std::size_t>(slot.id)];
  earliest = std::min(earliest, first);
  return slot.id;
}

void WordTable::keep_if(const std::function<bool(std::string_view, std::int64_t)>& keep) {
  std::vector<const Slot*> by_id(first_.size());
  for (const Slot& slot : slots_)
    if (slot.size != free_size) by_id[static_cast<std::size_t>(slot.id)] = &slot;
  WordTable kept;
  for (const Slot* slot : by_id)
    if (keep(word(*slot), slot->count)) kept.add(word(*slot), slot->count, first(slot->id));
  *this = std::move(kept);
}

}  // namespace convec::word2vec
