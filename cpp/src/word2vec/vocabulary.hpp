// The body of a Vocabulary.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include <convec/vocabulary.hpp>

#include "word2vec/word_table.hpp"

namespace convec {

struct Vocabulary::Impl {
  std::vector<char> bytes;                  // the words, one after the other
  std::vector<std::int64_t> offsets = {0};  // where each begins, and the end
  std::vector<std::int64_t> counts;
  word2vec::WordTable table;
  std::int64_t total = 0;

  explicit Impl(std::size_t words) : table(words) {
    offsets.reserve(words + 1);
    counts.reserve(words);
  }

  // Gives the word the next id. False where it has one already: the body is then good for nothing.
  bool add(std::string_view word, std::int64_t count) {
    const auto id = static_cast<std::int32_t>(counts.size());
    if (table.add(word, count, id) != id) return false;
    bytes.insert(bytes.end(), word.begin(), word.end());
    offsets.push_back(static_cast<std::int64_t>(bytes.size()));
    counts.push_back(count);
    total += count;
    return true;
  }

  std::string_view word(std::int64_t id) const {
    const auto index = static_cast<std::size_t>(id);
    return {bytes.data() + offsets[index], static_cast<std::size_t>(offsets[index + 1] - offsets[index])};
  }
};

}  // namespace convec
