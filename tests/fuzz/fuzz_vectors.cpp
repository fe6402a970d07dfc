// Nearest neighbours, correlations and near spellings: tables, rows and texts from anywhere.
#include <algorithm>
#include <cmath>

#include <convec/cpu_features.hpp>
#include <convec/vectors.hpp>

#include "fuzz.hpp"
#include "guarded.hpp"

using convec::fuzz::Guarded;
using convec::fuzz::Input;
using convec::fuzz::returns;
using convec::fuzz::some_bytes;

namespace {

constexpr std::int64_t most_rows = 40;

float* numbers(Guarded& guarded, Input& input, std::int64_t count) {
  auto* const values = static_cast<float*>(guarded.bytes(static_cast<std::size_t>(count) * sizeof(float)));
  const float first = input.number();
  const float step = input.number();
  for (std::int64_t i = 0; i < count; ++i) values[i] = first + step * static_cast<float>(i % 5);
  return values;
}

void search(Input& input) {
  Guarded guarded;
  convec::VectorTable table;
  table.rows = input.extent(most_rows);
  table.dim = input.extent(40);
  table.stride = std::clamp<std::int64_t>(table.dim, -1, 1000) + static_cast<std::int64_t>(input.below(66)) - 1;
  const std::int64_t queries = input.between(0, 5);
  if (std::abs(static_cast<double>(table.rows)) > most_rows || std::abs(static_cast<double>(table.dim)) > 64) {
    // Larger than memory, or negative: only the latter can be told, and must be.
    if (table.rows >= 0 && table.dim >= 0 && table.stride >= table.dim) return;
    FUZZ_CHECK(!returns([&] { convec::vector_norms(table, nullptr); }));
    return;
  }
  const std::int64_t rows = std::max<std::int64_t>(table.rows, 0);
  const std::int64_t dim = std::max<std::int64_t>(table.dim, 0);
  const std::int64_t length = rows == 0 ? 0 : (rows - 1) * std::max<std::int64_t>(table.stride, 0) + dim;
  table.data = numbers(guarded, input, length);
  float* const norms = numbers(guarded, input, rows);
  const float* const wanted = numbers(guarded, input, queries * dim);
  float* const similarities = numbers(guarded, input, std::max<std::int64_t>(queries, 1) * rows);
  returns([&] { convec::vector_norms(table, norms); });
  const float* const used = input.flag() ? norms : nullptr;
  returns([&] { convec::vector_similarities(table, used, wanted, queries, similarities); });
  convec::NearestOptions options;
  options.topn = input.extent(12);
  options.begin = input.from_zero(4);
  options.end = input.byte() < 200 ? table.rows : input.extent(most_rows);
  std::int64_t excluded[8];
  std::int64_t offsets[6] = {};
  for (std::int64_t& row : excluded) row = input.extent(most_rows);
  for (int i = 1; i < 6; ++i)
    offsets[i] = std::min<std::int64_t>(input.byte() < 250 ? offsets[i - 1] + input.between(0, 1) : input.extent(8), 8);
  if (input.flag()) {
    options.excluded = excluded;
    options.excluded_offsets = offsets;
  }
  if (options.topn > 1000) return;
  const std::int64_t found = std::max<std::int64_t>(queries, 1) * std::max<std::int64_t>(options.topn, 0);
  auto* const best = static_cast<std::int64_t*>(guarded.bytes(static_cast<std::size_t>(found) * sizeof(std::int64_t)));
  float* const best_similarities = numbers(guarded, input, found);
  const auto check = [&](std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i)
      FUZZ_CHECK(best[i] == -1 || (best[i] >= options.begin && best[i] < options.end));
  };
  if (returns([&] { convec::nearest_vectors(table, used, wanted, queries, options, best, best_similarities); }))
    check(queries * std::max<std::int64_t>(options.topn, 0));
  const std::int64_t positive = input.between(0, queries);
  returns([&] {
    convec::multiplicative_similarities(table, used, wanted, positive, wanted + positive * dim, queries - positive,
                                        similarities);
  });
  if (queries > 0 && returns([&] {
        convec::nearest_multiplicative(table, used, wanted, positive, wanted + positive * dim, queries - positive,
                                       options, best, best_similarities);
      }))
    check(std::max<std::int64_t>(options.topn, 0));
}

void correlate(Input& input) {
  std::vector<double> x;
  std::vector<double> y;
  while (input.left() > 0) {
    x.push_back(static_cast<double>(input.number()));
    y.push_back(static_cast<double>(input.number()));
  }
  const auto count = static_cast<std::int64_t>(x.size());
  for (const auto measure : {&convec::pearson_correlation, &convec::spearman_correlation}) {
    returns([&] {
      const convec::Correlation found = measure(x.data(), y.data(), count);
      FUZZ_CHECK(std::isnan(found.statistic) || std::abs(found.statistic) <= 1.0);
      FUZZ_CHECK(std::isnan(found.pvalue) || (found.pvalue >= 0.0 && found.pvalue <= 1.0));
    });
  }
}

void spell(Input& input) {
  const std::size_t wanted_count = input.below(6);
  const std::string_view text = input.rest();
  std::vector<std::string_view> keys;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    keys.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  const std::string_view wanted = keys.front();
  const std::vector<std::int64_t> found = convec::near_spellings(wanted, keys, wanted_count);
  FUZZ_CHECK(found.size() <= wanted_count);
  for (const std::int64_t index : found) FUZZ_CHECK(index >= 0 && index < static_cast<std::int64_t>(keys.size()));
}

std::vector<std::string> seeds() {
  std::vector<std::string> all;
  for (unsigned round = 0; round < 8; ++round) {
    all.push_back(std::string{static_cast<char>(round % 2), static_cast<char>(round)} +
                  some_bytes(13 * round + 5, 60, 90));
  }
  all.push_back(std::string{2, 0, 3} + "hello\nhallo\nHELLO\nhel\xC3\xA9o\n\xFF\n\nh");
  return all;
}

}  // namespace

FUZZ_TARGET(vectors, seeds) {
  const std::size_t what = input.below(3);
  static const std::vector<convec::IsaLevel> levels = convec::available_isas();
  convec::set_isa(levels[input.below(levels.size())]);
  if (what == 0)
    search(input);
  else if (what == 1)
    correlate(input);
  else
    spell(input);
}
