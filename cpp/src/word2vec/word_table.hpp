// A hash table from words to ids and counts: open addressing, words of up to 16 bytes in the slot itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "word2vec/system_memory.hpp"
#include "word2vec/tokens.hpp"

namespace convec::word2vec {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the masks of short words are for little-endian machines");

// Throws the ValueError for a word of more than max_word_bytes; `where` is a file's name and a colon, or nothing.
[[noreturn]] void throw_long_word(const std::string& where);

class WordTable {
 public:
  static constexpr std::uint32_t short_size = 16;  // words up to this long are in their slot
  static constexpr std::uint32_t free_size = 0xFFFFFFFFU;

  struct Slot {
    std::uint64_t key[2] = {0, 0};  // the word's bytes, zeros after; of a long word its hash and its place in bytes_
    std::int64_t count = 0;
    std::uint32_t size = free_size;
    std::int32_t id = 0;
  };

  explicit WordTable(std::size_t expected_words = 0);

  std::int64_t size() const noexcept { return static_cast<std::int64_t>(first_.size()); }

  // Both throw ValueError for a word of more than max_word_bytes.
  // Counts each word (new ones get the next id) and writes its id, or the id of a sentence's end. `position` orders the
  // tokens of all calls: the word at tokens[0] is at `position`, the next at position + 1 and so on.
  void count(const char* text, const Token* tokens, int count, std::int64_t position, std::int32_t* ids);
  // Writes each word's id or absent_id, or the id of a sentence's end.
  void find(const char* text, const Token* tokens, int count, std::int32_t* ids) const;

  // The id of a word, or -1.
  std::int32_t find(std::string_view word) const noexcept;
  // Adds `count` to the word, first seen at `first`; its id.
  std::int32_t add(std::string_view word, std::int64_t count, std::int64_t first);

  using Slots = std::vector<Slot, SystemAllocator<Slot>>;
  // All slots: those of free_size are free. A word's place is given by the leading bits of its hash, so words whose
  // hashes begin alike lie together.
  const Slots& slots() const noexcept { return slots_; }
  // Views a short word's bytes in the slot itself: valid until the table changes.
  std::string_view word(const Slot& slot) const noexcept;
  static std::uint64_t hash_of(const Slot& slot) noexcept;
  // Position of the first occurrence of the word with this id.
  std::int64_t first(std::int32_t id) const noexcept { return first_[static_cast<std::size_t>(id)]; }

  // Keeps the words for which keep(word, count) holds, asked in the order of their ids; ids are given anew in the same
  // order.
  void keep_if(const std::function<bool(std::string_view, std::int64_t)>& keep);

 private:
  struct Key;
  template <bool inserting, typename Table, typename Act>
  static void visit(Table& table, const char* text, const Token* tokens, int count, std::int32_t* ids, Act&& act);
  void make_room(std::size_t words);
  std::size_t home(std::uint64_t hash) const noexcept { return static_cast<std::size_t>(hash >> shift_); }
  bool matches(const Slot& slot, const Key& key) const noexcept;
  std::int32_t insert(Slot& slot, const Key& key, std::int64_t first);

  Slots slots_;
  std::size_t mask_ = 0;
  unsigned shift_ = 0;
  std::vector<std::int64_t> first_;
  std::vector<char> bytes_;  // long words
};

}  // namespace convec::word2vec
