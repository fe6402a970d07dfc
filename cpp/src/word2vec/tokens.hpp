// The tokens of a text: where each word is, and where sentences end.
#pragma once

#include <cstddef>
#include <cstdint>

namespace convec::word2vec {

// Text is cut into pieces of about this size, each the work of one task: with its ids it stays in the level-2 cache.
constexpr std::int64_t piece_bytes = 256 * 1024;
// Longer words are refused: such a file is no text, and a token's size must fit its field.
constexpr std::int64_t max_word_bytes = 64 * 1024 * 1024;
// So many bytes after the end of a text may be read (and are ignored).
constexpr std::size_t text_padding = 64;

// A word at text + start; or, by its size, the end of a sentence.
struct Token {
  std::uint32_t start;
  std::uint32_t size;
};

constexpr std::uint32_t line_end = 0xFFFFFFFFU;            // ends the sentence if it has words
constexpr std::uint32_t empty_sentence_end = 0xFFFFFFFEU;  // ends a sentence that has none

// What stands in a stream of ids for what is no word of the vocabulary. Only end_id remains in a corpus.
constexpr std::int32_t end_id = -1;
constexpr std::int32_t absent_id = -2;
constexpr std::int32_t empty_id = -3;

// What a piece of text says about the sentences it is part of.
struct PieceSummary {
  std::int64_t words = 0;
  std::int64_t head_words = 0;  // before the first line end (all, where there is none)
  std::int64_t tail_words = 0;  // after the last line end
  std::int64_t sentences = 0;   // that begin and end here, after cutting
  bool has_line_end = false;
};

// Bytes of the white-space character of Python's str.split() that begins at `at`, or 0. At most three bytes are read.
inline int space_at(const char* at, const char* end) noexcept {
  const auto byte = [at](int index) { return static_cast<unsigned char>(at[index]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return (first >= 0x09 && first <= 0x0D) || (first >= 0x1C && first <= 0x20) ? 1 : 0;
  if (first == 0xC2) return end - at >= 2 && (byte(1) == 0x85 || byte(1) == 0xA0) ? 2 : 0;
  if (first < 0xE1 || first > 0xE3 || end - at < 3) return 0;
  const unsigned char second = byte(1);
  const unsigned char third = byte(2);
  bool space = false;
  if (first == 0xE1) space = second == 0x9A && third == 0x80;  // U+1680
  if (first == 0xE2 && second == 0x80)                         // U+2000 to U+200A, U+2028, U+2029, U+202F
    space = (third >= 0x80 && third <= 0x8A) || third == 0xA8 || third == 0xA9 || third == 0xAF;
  if (first == 0xE2 && second == 0x81) space = third == 0x9F;  // U+205F
  if (first == 0xE3) space = second == 0x80 && third == 0x80;  // U+3000
  return space ? 3 : 0;
}

// First position from `position` on that has white space ending at it, or `size`. `text` may begin anywhere.
inline std::int64_t boundary_from(const char* text, std::int64_t size, std::int64_t position) noexcept {
  for (std::int64_t at = position < 3 ? 0 : position - 3; at < size; ++at) {
    const int space = space_at(text + at, text + size);
    if (space > 0 && at + space >= position) return at + space;
  }
  return size;
}

// Last position up to `size` that has white space ending at it, or 0.
inline std::int64_t last_boundary(const char* text, std::int64_t size) noexcept {
  for (std::int64_t at = size - 1; at >= 0; --at) {
    const int space = space_at(text + at, text + size);
    if (space > 0) return at + space;
  }
  return 0;
}

}  // namespace convec::word2vec
