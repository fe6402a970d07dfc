// Keyed vectors without Python: search, correlations, near spellings and the word2vec formats.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <convec/cpu_features.hpp>
#include <convec/error.hpp>
#include <convec/random.hpp>
#include <convec/vectors.hpp>

#include "test.hpp"

using convec::NearestOptions;
using convec::VectorTable;
using convec::Word2VecFormat;
using convec::Word2VecOutput;
using convec::Word2VecReader;
using std::int64_t;

namespace {

constexpr float nan = std::numeric_limits<float>::quiet_NaN();

// Random vectors whose rows are `stride` apart, NaN between them.
struct Table {
  std::vector<float> data;
  VectorTable view;

  Table(int64_t rows, int64_t dim, int64_t stride) : data(static_cast<std::size_t>(rows * stride), nan) {
    std::vector<float> numbers(static_cast<std::size_t>(rows * dim));
    convec::fill_normal({numbers.data(), convec::Shape{rows * dim}}, 0.0F, 1.0F, 7);
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t k = 0; k < dim; ++k)
        data[static_cast<std::size_t>(i * stride + k)] = numbers[static_cast<std::size_t>(i * dim + k)];
    view = {data.data(), rows, dim, stride};
  }

  double dot(int64_t a, int64_t b) const {
    double sum = 0;
    for (int64_t k = 0; k < view.dim; ++k)
      sum += static_cast<double>(view.data[a * view.stride + k]) * static_cast<double>(view.data[b * view.stride + k]);
    return sum;
  }
  double cosine(int64_t a, int64_t b) const { return dot(a, b) / std::sqrt(dot(a, a) * dot(b, b)); }
};

// The row itself as a query of unit length.
std::vector<float> query_of(const Table& table, int64_t row) {
  std::vector<float> query(table.view.data + row * table.view.stride,
                           table.view.data + row * table.view.stride + table.view.dim);
  const auto norm = static_cast<float>(std::sqrt(table.dot(row, row)));
  for (float& x : query) x /= norm;
  return query;
}

std::string written(const VectorTable& table, const std::vector<std::string_view>& words,
                    const Word2VecOutput& options) {
  std::vector<int64_t> order(words.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int64_t>(i);
  std::string bytes;
  convec::write_word2vec(table, words, order, options,
                         [&](const char* data, std::size_t size) { bytes.append(data, size); });
  return bytes;
}

// Reads `bytes` in blocks of `step`, doubled where nothing whole is in one.
void read_all(Word2VecReader& reader, const std::string& bytes, std::size_t step) {
  std::size_t begin = 0;
  std::size_t size = step;
  while (!reader.done()) {
    const std::size_t end = std::min(bytes.size(), begin + size);
    const std::size_t used = reader.read(bytes.data() + begin, end - begin, end == bytes.size());
    size = used == 0 ? 2 * size : step;
    begin += used;
  }
}

}  // namespace

TEST(neighbours_are_those_of_a_plain_search_at_every_level) {
  const convec::IsaLevel before = convec::current_isa();
  for (const convec::IsaLevel level : convec::available_isas()) {
    convec::set_isa(level);
    for (const auto& [rows, dim, stride] : std::vector<std::array<int64_t, 3>>{{1, 1, 1}, {50, 5, 16}, {700, 37, 48}}) {
      const Table table(rows, dim, stride);
      std::vector<float> norms(static_cast<std::size_t>(rows));
      convec::vector_norms(table.view, norms.data());
      for (const int64_t count : {1, 6}) {
        std::vector<float> queries;
        for (int64_t q = 0; q < count; ++q) {
          const std::vector<float> query = query_of(table, q % rows);
          queries.insert(queries.end(), query.begin(), query.end());
        }
        NearestOptions options;
        options.topn = 3;
        options.end = rows;
        std::vector<int64_t> found(static_cast<std::size_t>(count * 3));
        std::vector<float> similarities(found.size());
        convec::nearest_vectors(table.view, norms.data(), queries.data(), count, options, found.data(),
                                similarities.data());
        for (int64_t q = 0; q < count; ++q) {
          CHECK_EQ(found[static_cast<std::size_t>(3 * q)], q % rows);
          for (std::size_t i = static_cast<std::size_t>(3 * q); i < static_cast<std::size_t>(3 * q + 3); ++i) {
            if (found[i] < 0) {
              CHECK(rows < 3 && std::isnan(similarities[i]));
              continue;
            }
            CHECK_NEAR(similarities[i], table.cosine(q % rows, found[i]), 2e-6);
            int64_t better = 0;
            for (int64_t row = 0; row < rows; ++row) better += table.cosine(q % rows, row) > similarities[i] + 2e-6;
            CHECK(better <= static_cast<int64_t>(i) - 3 * q);
          }
        }
      }
    }
  }
  convec::set_isa(before);
}

TEST(searches_refuse_bad_arguments) {
  const Table table(4, 3, 3);
  const std::vector<float> query(3, 1.0F);
  int64_t rows[4];
  float similarities[4];
  NearestOptions options;
  options.topn = 1;
  options.end = 5;
  const auto search = [&](const VectorTable& view) {
    convec::nearest_vectors(view, nullptr, query.data(), 1, options, rows, similarities);
  };
  CHECK_THROWS(search(table.view), convec::ValueError, "the table has 4");
  options.end = 4;
  options.topn = -1;
  CHECK_THROWS(search(table.view), convec::ValueError, "topn is -1");
  options.topn = 1;
  CHECK_THROWS(search({table.data.data(), 4, 3, 2}), convec::ShapeError, "2 elements apart");
  CHECK_THROWS(search({table.data.data(), -4, 3, 3}), convec::ShapeError, "(-4, 3)");
  CHECK_THROWS(search({table.data.data(), 1LL << 61, 3, 3}), convec::ShapeError, "too large");
  const int64_t excluded[] = {0, 1};
  const int64_t offsets[] = {2, 0};
  options.excluded = excluded;
  options.excluded_offsets = offsets;
  CHECK_THROWS(search(table.view), convec::ValueError, "excluded_offsets");
  CHECK_THROWS(convec::vector_similarities(table.view, nullptr, query.data(), -1, similarities), convec::ShapeError,
               "-1 queries");
}

TEST(a_search_can_be_stopped) {
  const Table table(3000, 4, 4);
  const std::vector<float> query(4, 1.0F);
  int64_t row = 0;
  float similarity = 0;
  NearestOptions options;
  options.topn = 1;
  options.end = 3000;
  options.poll = [] { throw convec::Cancelled("stop"); };
  CHECK_THROWS(convec::nearest_vectors(table.view, nullptr, query.data(), 1, options, &row, &similarity),
               convec::Cancelled, "stop");
}

TEST(correlations_have_known_values) {
  const double x[] = {1, 2, 3, 4, 5};
  const double y[] = {2, 1, 4, 3, 5};
  // r = 0.8; the p-value of t = 2.3094 at 3 degrees of freedom: 1 - 2/pi (atan(4/3) + 12/25).
  const double p = 1 - 2 / 3.14159265358979323846 * (std::atan(4.0 / 3) + 12.0 / 25);
  for (const convec::Correlation c : {convec::pearson_correlation(x, y, 5), convec::spearman_correlation(x, y, 5)}) {
    CHECK_NEAR(c.statistic, 0.8, 1e-15);
    CHECK_NEAR(c.pvalue, p, 1e-14);
  }
  CHECK_THROWS(convec::pearson_correlation(x, y, 1), convec::ValueError, "at least 2");
}

TEST(spellings_are_near) {
  const std::vector<std::string_view> keys{"house", "hose", "mouse", "HOUSE", "", "houses", "uhose", "haus", "\xC3"};
  const std::vector<int64_t> near = convec::near_spellings("house", keys, 4);
  CHECK(near == std::vector<int64_t>({0, 3, 1, 2}));
  CHECK(convec::near_spellings("", keys, 4).empty());
  CHECK(convec::near_spellings(std::string(65, 'x'), keys, 4).empty());
  CHECK(convec::near_spellings(std::string(200, '\x80'), keys, 4).empty());
  CHECK(convec::near_spellings(std::string(64, 'x'), {std::string_view(std::string(64, 'x'))}, 1).size() == 1U);
}

TEST(formats_go_round) {
  const Table table(300, 5, 16);
  std::vector<std::string> names;
  for (int i = 0; i < 300; ++i) names.push_back("word" + std::to_string(i));
  const std::vector<std::string_view> words(names.begin(), names.end());
  for (const bool binary : {false, true}) {
    const std::string bytes = written(table.view, words, {binary, true, -1, "p_"});
    for (const std::size_t step : {std::size_t{1}, std::size_t{1000}, bytes.size()}) {
      Word2VecReader reader({binary, false, -1, false}, static_cast<int64_t>(bytes.size()));
      read_all(reader, bytes, step);
      CHECK_EQ(reader.rows(), 300);
      CHECK_EQ(reader.dim(), 5);
      CHECK_EQ(reader.promised(), 300);
      CHECK_EQ(std::string(reader.words().begin(), reader.words().begin() + reader.word_ends()[1]), "p_word0p_word1");
      const auto vectors = reader.take_vectors();
      const auto* read = static_cast<const float*>(vectors.get());
      for (int64_t i = 0; i < 300; ++i) CHECK(std::equal(read + i * 5, read + i * 5 + 5, table.view.data + i * 16));
    }
  }
}

TEST(damaged_files_are_refused) {
  const auto read = [](const std::string& bytes, const Word2VecFormat& format) {
    Word2VecReader reader(format, static_cast<int64_t>(bytes.size()));
    read_all(reader, bytes, bytes.size() + 1);
  };
  CHECK_THROWS(read("", {}), convec::EofError, "empty");
  CHECK_THROWS(read("3 4\na 1 2 3 4\n", {}), convec::EofError, "too short");
  CHECK_THROWS(read("2 1\na 1\nb x\n", {}), convec::ValueError, "line 3: 'x' is not a number");
  CHECK_THROWS(read("2 1\na    \nb x\n", {}), convec::ValueError, "line 2 has 0 numbers");
  CHECK_THROWS(read("2 1\naaaaaaaaaaa", {true, false, -1, false}), convec::EofError, "after 0 of the 2");
  // Text read as bytes: two "vectors" of four bytes, and more behind them.
  const std::string text = "2 1\na 0.12345678\nb 0.12345678\n";
  CHECK_THROWS(read(text, {true, false, -1, false}), convec::ValueError, "is this the binary format?");
  read(text, {true, false, 2, false});
  read("1 1\na 1234\r\n\n", {true, false, -1, false});
  Word2VecReader unbounded(Word2VecFormat{true, false, -1, false});
  CHECK_THROWS(read_all(unbounded, text, 4), convec::ValueError, "after the last of the 2");
  CHECK_THROWS(Word2VecReader({true, true, -1, false}), convec::ValueError, "no_header");
}

TEST(writing_refuses_what_cannot_be_read_back) {
  const Table table(2, 2, 2);
  CHECK_THROWS(written(table.view, {"a", "b c"}, {}), convec::ValueError, "'b c' holds a space");
  CHECK_THROWS(written(table.view, {"a", "b", "c"}, {}), convec::ValueError, "row 2");
}

TEST_MAIN()
