// Keys that look like another one: bit-parallel edit distance.
#include <algorithm>
#include <array>
#include <cstdint>
#include <mutex>
#include <string_view>
#include <utility>
#include <vector>

#include <convec/vectors.hpp>

#include "cpu/thread_pool.hpp"

namespace convec {

namespace {

using std::int64_t;
using std::uint64_t;

// Bits of a machine word, one a character of the pattern.
constexpr std::size_t longest_pattern = 64;

// Code points of UTF-8, ASCII letters in lower case. Malformed bytes give some code point, never a read beyond the end.
class Characters {
 public:
  explicit Characters(std::string_view text) : text_(text) {}

  bool next(std::uint32_t& character) {
    if (position_ == text_.size()) return false;
    const std::uint32_t lead = byte();
    if (lead < 0x80) {
      character = lead >= 'A' && lead <= 'Z' ? lead + 32 : lead;
      return true;
    }
    const int more = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : 1;
    character = lead;
    for (int i = 0; i < more && position_ < text_.size(); ++i) character = character << 6U | (byte() & 0x3FU);
    return true;
  }

 private:
  std::uint32_t byte() { return static_cast<unsigned char>(text_[position_++]); }

  std::string_view text_;
  std::size_t position_ = 0;
};

int64_t length(std::string_view text) {
  Characters characters(text);
  int64_t count = 0;
  for (std::uint32_t c = 0; characters.next(c);) ++count;
  return count;
}

// Optimal string alignment distance (a swap of neighbours counts once), a whole column of the table of distances in
// one machine word: Hyyrö, "A Bit-Vector Algorithm for Computing Levenshtein and Damerau Edit Distances", 2003.
class EditDistance {
 public:
  // At most longest_pattern characters.
  explicit EditDistance(std::string_view pattern) {
    Characters characters(pattern);
    for (std::uint32_t c = 0; characters.next(c); ++size_) {
      if (c >= ascii_.size() && positions(c) == 0) others_.emplace_back(c, 0);
      uint64_t& bits =
          c < ascii_.size()
              ? ascii_[c]
              : std::find_if(others_.begin(), others_.end(), [c](auto& o) { return o.first == c; })->second;
      bits |= uint64_t{1} << static_cast<unsigned>(size_);
    }
  }

  int64_t size() const { return size_; }

  int64_t to(std::string_view text) const {
    int64_t distance = size_;
    const uint64_t end = uint64_t{1} << static_cast<unsigned>(size_ - 1);
    uint64_t rises = ~uint64_t{0};
    uint64_t falls = 0;
    uint64_t diagonal = 0;
    uint64_t previous = 0;
    Characters characters(text);
    for (std::uint32_t c = 0; characters.next(c);) {
      const uint64_t equal = positions(c);
      const uint64_t swapped = ((~diagonal & equal) << 1U) & previous;
      diagonal = (((equal & rises) + rises) ^ rises) | equal | falls | swapped;
      const uint64_t right_rises = falls | ~(diagonal | rises);
      const uint64_t right_falls = diagonal & rises;
      distance += (right_rises & end) != 0 ? 1 : 0;
      distance -= (right_falls & end) != 0 ? 1 : 0;
      const uint64_t shifted = (right_rises << 1U) | 1U;
      rises = (right_falls << 1U) | ~(diagonal | shifted);
      falls = shifted & diagonal;
      previous = equal;
    }
    return distance;
  }

 private:
  // Where the pattern has the character.
  uint64_t positions(std::uint32_t c) const {
    if (c < ascii_.size()) return ascii_[c];
    for (const auto& [other, bits] : others_)
      if (other == c) return bits;
    return 0;
  }

  std::array<uint64_t, 128> ascii_{};
  std::vector<std::pair<std::uint32_t, uint64_t>> others_;
  int64_t size_ = 0;
};

}  // namespace

std::vector<int64_t> near_spellings(std::string_view wanted, const std::vector<std::string_view>& keys,
                                    std::size_t count) {
  if (wanted.empty() || length(wanted) > static_cast<int64_t>(longest_pattern) || count == 0) return {};
  const EditDistance distance(wanted);
  const int64_t size = distance.size();
  const int64_t most = std::max<int64_t>(1, size / 3);
  constexpr int64_t task_keys = 16384;
  std::vector<std::pair<int64_t, int64_t>> found;  // distance, index
  std::mutex mutex;
  cpu::parallel_for_range(static_cast<int64_t>(keys.size()), task_keys, [&](int64_t first, int64_t last) {
    std::vector<std::pair<int64_t, int64_t>> near;
    for (int64_t i = first; i < last; ++i) {
      const std::string_view key = keys[static_cast<std::size_t>(i)];
      const int64_t difference = length(key) - size;
      if (key.empty() || difference > most || -difference > most) continue;
      const int64_t d = distance.to(key);
      if (d <= most) near.emplace_back(d, i);
    }
    if (near.size() > count) {
      std::nth_element(near.begin(), near.begin() + static_cast<std::ptrdiff_t>(count), near.end());
      near.resize(count);
    }
    const std::lock_guard<std::mutex> lock(mutex);
    found.insert(found.end(), near.begin(), near.end());
  });
  std::sort(found.begin(), found.end());
  if (found.size() > count) found.resize(count);
  std::vector<int64_t> indices;
  indices.reserve(found.size());
  for (const auto& [d, index] : found) indices.push_back(index);
  return indices;
}

}  // namespace convec
