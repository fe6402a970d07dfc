// Splits text into tokens, 64 bytes at a time.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "word2vec/tokens.hpp"

namespace convec::word2vec {

// One bit a byte of a block of 64.
struct BlockMasks {
  std::uint64_t space = 0;    // ASCII white space
  std::uint64_t newline = 0;  // '\n'
  std::uint64_t lead = 0;     // may begin a white-space character of two or three bytes
};

#if defined(__SSE2__)
inline BlockMasks classify(const char* block) noexcept {
  const auto bits = [](__m128i compared, unsigned part) {
    return static_cast<std::uint64_t>(static_cast<std::uint32_t>(_mm_movemask_epi8(compared))) << (16 * part);
  };
  const auto up_to = [](__m128i value, char limit) {  // unsigned value <= limit
    return _mm_cmpeq_epi8(_mm_min_epu8(value, _mm_set1_epi8(limit)), value);
  };
  BlockMasks masks;
  std::uint64_t high = 0;
  for (unsigned part = 0; part < 4; ++part) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(block + 16 * part));
    const __m128i controls = up_to(_mm_sub_epi8(bytes, _mm_set1_epi8(0x09)), 4);
    const __m128i separators = up_to(_mm_sub_epi8(bytes, _mm_set1_epi8(0x1C)), 4);
    masks.space |= bits(_mm_or_si128(controls, separators), part);
    masks.newline |= bits(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('\n')), part);
    high |= bits(bytes, part);
  }
  if (high == 0) return masks;
  for (unsigned part = 0; part < 4; ++part) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(block + 16 * part));
    const __m128i next = _mm_loadu_si128(reinterpret_cast<const __m128i*>(block + 16 * part + 1));
    const auto is = [](__m128i value, int wanted) {
      return _mm_cmpeq_epi8(value, _mm_set1_epi8(static_cast<char>(wanted)));
    };
    const __m128i two = _mm_and_si128(is(bytes, 0xC2), _mm_or_si128(is(next, 0x85), is(next, 0xA0)));
    const __m128i three = _mm_and_si128(up_to(_mm_sub_epi8(bytes, _mm_set1_epi8(static_cast<char>(0xE1))), 2),
                                        _mm_or_si128(is(next, 0x9A), _mm_or_si128(is(next, 0x80), is(next, 0x81))));
    masks.lead |= bits(_mm_or_si128(two, three), part);
  }
  return masks;
}
#else
inline BlockMasks classify(const char* block) noexcept {
  BlockMasks masks;
  for (unsigned index = 0; index < 64; ++index) {
    const auto byte = static_cast<unsigned char>(block[index]);
    const std::uint64_t bit = std::uint64_t{1} << index;
    if ((byte >= 0x09 && byte <= 0x0D) || (byte >= 0x1C && byte <= 0x20)) masks.space |= bit;
    if (byte == '\n') masks.newline |= bit;
    if (byte == 0xC2 || (byte >= 0xE1 && byte <= 0xE3)) masks.lead |= bit;
  }
  return masks;
}
#endif

inline unsigned lowest_bit(std::uint64_t bits) noexcept { return static_cast<unsigned>(__builtin_ctzll(bits)); }

// Splits text[0, size), which begins and ends at the ends of words, and calls flush(tokens, count) for every so many
// tokens. text_padding bytes after the end must be readable. A line end is left out where the line has no words,
// except for the first: words of its line may lie in the piece before.
template <typename Flush>
PieceSummary tokenize(const char* text, std::int64_t size, bool lines, std::int64_t max_sentence_length,
                      Flush&& flush) {
  constexpr int capacity = 1024;
  Token tokens[capacity + 2 * 64];
  int count = 0;
  PieceSummary summary;
  std::int64_t line_begin = 0;       // words before the line
  std::uint64_t previous_space = 1;  // whether the byte before the block is white space
  std::uint64_t space_ahead = 0;     // bytes of the block that belong to a character begun in the one before
  std::uint32_t word_begin = 0;

  for (std::int64_t base = 0; base < size; base += 64) {
    BlockMasks masks = classify(text + base);
    std::uint64_t space = masks.space | space_ahead;
    space_ahead = 0;
    while (masks.lead != 0) {
      const unsigned at = lowest_bit(masks.lead);
      masks.lead &= masks.lead - 1;
      const auto bytes = static_cast<unsigned>(space_at(text + base + at, text + size));
      space |= ((std::uint64_t{1} << bytes) - 1) << at;
      if (at + bytes > 64) space_ahead = (std::uint64_t{1} << (at + bytes - 64)) - 1;
    }
    std::uint64_t newline = lines ? masks.newline : 0;
    if (size - base < 64) {
      const std::uint64_t beyond = ~std::uint64_t{0} << static_cast<unsigned>(size - base);
      space |= beyond;
      newline &= ~beyond;
    }
    const std::uint64_t after_space = (space << 1U) | previous_space;
    std::uint64_t begins = ~space & after_space;
    const std::uint64_t ends = space & ~after_space;
    const auto next_begin = [&begins, &word_begin, base] {
      if (begins == 0) return;
      word_begin = static_cast<std::uint32_t>(base + lowest_bit(begins));
      begins &= begins - 1;
    };
    if (previous_space != 0) next_begin();
    previous_space = space >> 63U;
    for (std::uint64_t events = ends | newline; events != 0; events &= events - 1) {
      const std::uint64_t bit = events & (~events + 1);
      const auto at = static_cast<std::uint32_t>(base + lowest_bit(events));
      if ((ends & bit) != 0) {
        tokens[count++] = {word_begin, at - word_begin};
        ++summary.words;
        next_begin();
      }
      if ((newline & bit) != 0) {
        const std::int64_t line_words = summary.words - line_begin;
        if (!summary.has_line_end) {
          summary.has_line_end = true;
          summary.head_words = line_words;
          tokens[count++] = {at, line_end};
        } else if (line_words > 0) {
          summary.sentences += (line_words - 1) / max_sentence_length + 1;
          tokens[count++] = {at, line_end};
        }
        line_begin = summary.words;
      }
    }
    if (count >= capacity) {
      flush(tokens, count);
      count = 0;
    }
  }
  if (previous_space == 0) {
    tokens[count++] = {word_begin, static_cast<std::uint32_t>(size) - word_begin};
    ++summary.words;
  }
  if (count > 0) flush(tokens, count);
  summary.tail_words = summary.words - line_begin;
  if (!summary.has_line_end) summary.head_words = summary.words;
  return summary;
}

}  // namespace convec::word2vec
