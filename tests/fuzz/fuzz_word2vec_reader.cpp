// The word2vec formats: read in pieces as at once, and what was read is written and read back the same.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

#include <convec/vectors.hpp>

#include "fuzz.hpp"

using convec::Word2VecFormat;
using convec::Word2VecReader;

namespace {

struct Content {
  std::string words;
  std::vector<std::int64_t> word_ends;
  std::int64_t rows = 0;
  std::int64_t dim = 0;
  std::string vectors;

  bool operator==(const Content& other) const {
    return words == other.words && word_ends == other.word_ends && rows == other.rows && dim == other.dim &&
           vectors == other.vectors;
  }
};

// Reads the file in pieces of `step` bytes as python/convec/models/_word2vec_format.py does.
Content read(std::string_view bytes, const Word2VecFormat& format, bool size_known, std::size_t step) {
  Word2VecReader reader(format, size_known ? static_cast<std::int64_t>(bytes.size()) : -1);
  std::size_t begin = 0;
  std::size_t length = step;
  while (!reader.done()) {
    const std::size_t end = begin + std::min(length, bytes.size() - begin);
    // A copy of exactly these bytes: reading beyond them is noticed.
    const std::vector<char> block(bytes.data() + begin, bytes.data() + end);
    const std::size_t used = reader.read(block.data(), block.size(), end == bytes.size());
    FUZZ_CHECK(used <= block.size());
    length = used > 0 ? step : 2 * length;
    begin += used;
  }
  Content content;
  content.words.assign(reader.words().begin(), reader.words().end());
  content.word_ends = reader.word_ends();
  content.rows = reader.rows();
  content.dim = reader.dim();
  FUZZ_CHECK(content.rows <= reader.promised());
  FUZZ_CHECK(content.rows == static_cast<std::int64_t>(content.word_ends.size()));
  FUZZ_CHECK(std::is_sorted(content.word_ends.begin(), content.word_ends.end()));
  FUZZ_CHECK(content.word_ends.empty() || content.word_ends.back() == static_cast<std::int64_t>(content.words.size()));
  const auto vectors = reader.take_vectors();
  const std::size_t size = static_cast<std::size_t>(content.rows * content.dim) *
                           (format.float64 && !format.binary ? sizeof(double) : sizeof(float));
  if (size > 0) content.vectors.assign(static_cast<const char*>(vectors.get()), size);
  return content;
}

void write_and_read_back(const Content& content, bool binary) {
  std::vector<float> values(content.vectors.size() / sizeof(float));
  if (values.empty()) return;
  std::memcpy(values.data(), content.vectors.data(), content.vectors.size());
  // Text does not tell one NaN from another.
  if (!binary && std::any_of(values.begin(), values.end(), [](float value) { return std::isnan(value); })) return;
  std::vector<std::string_view> words;
  std::vector<std::int64_t> order;
  std::int64_t begin = 0;
  for (const std::int64_t end : content.word_ends) {
    words.push_back(
        std::string_view(content.words).substr(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin)));
    order.push_back(static_cast<std::int64_t>(order.size()));
    begin = end;
  }
  // A binary word may hold what text cannot carry.
  const bool plain = std::none_of(words.begin(), words.end(), [](std::string_view word) {
    return word.empty() || word.find_first_of("\t\r\v\f") != std::string_view::npos;
  });
  std::string file;
  if (!convec::fuzz::returns([&] {
        convec::write_word2vec({values.data(), content.rows, content.dim, content.dim}, words, order,
                               {binary, true, -1, {}},
                               [&file](const char* data, std::size_t size) { file.append(data, size); });
      }))
    return;
  if (plain) FUZZ_CHECK(read(file, {binary, false, -1, false}, true, file.size()) == content);
}

std::vector<std::string> seeds() {
  const std::string text = "3 2\nthe 1.5 -2e-3\n\xC3\xA9t\xC3\xA9 0 nan\nof -inf 1e39\n";
  std::string binary = "2 3\n";
  const float numbers[] = {1.0F, -0.5F, 1e-30F, 0.0F, 3.0F, -1e30F};
  for (int row = 0; row < 2; ++row) {
    binary += row == 0 ? "the " : "of ";
    binary.append(reinterpret_cast<const char*>(numbers + 3 * row), 3 * sizeof(float));
    binary += '\n';
  }
  std::vector<std::string> all;
  for (const char step : {'\0', '\1', '\12'}) {
    for (const char flags : {'\0', '\4', '\10', '\20'}) all.push_back(std::string{flags, step} + text);
    for (const char flags : {'\2', '\6'}) all.push_back(std::string{flags, step} + text.substr(4));
    for (const char flags : {'\1', '\11', '\21'}) all.push_back(std::string{flags, step} + binary);
  }
  return all;
}

}  // namespace

FUZZ_TARGET(word2vec_reader, seeds) {
  const unsigned flags = input.byte();
  const std::size_t step = input.byte();
  const Word2VecFormat format{(flags & 1U) != 0, (flags & 2U) != 0, (flags & 16U) != 0 ? 1 : -1, (flags & 4U) != 0};
  const bool size_known = (flags & 8U) != 0;
  const std::string_view bytes = input.rest();
  std::optional<Content> whole;
  std::optional<Content> in_pieces;
  convec::fuzz::accepts(bytes.size(),
                        [&] { whole = read(bytes, format, size_known, std::max<std::size_t>(bytes.size(), 1)); });
  if (step > 0) {
    convec::fuzz::accepts(bytes.size(), [&] { in_pieces = read(bytes, format, size_known, step); });
    FUZZ_CHECK(whole == in_pieces);
  }
  if (whole && (format.binary || !format.float64)) write_and_read_back(*whole, format.binary);
}
