#include "word2vec/sampling.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>

namespace convec::word2vec {

namespace {

constexpr double largest_word = 4294967295.0;  // 2^32 - 1

std::uint32_t to_threshold(double probability) {
  return static_cast<std::uint32_t>(std::min(std::max(probability, 0.0), 1.0) * largest_word);
}

}  // namespace

std::vector<std::uint32_t> sample_thresholds(const std::vector<std::int64_t>& counts, double sample) {
  if (sample <= 0.0) return {};
  double total = 0.0;
  for (const std::int64_t count : counts) total += static_cast<double>(count);
  const double t = sample < 1.0 ? sample * total : std::floor(sample * (3.0 + std::sqrt(5.0)) / 2.0);
  std::vector<std::uint32_t> thresholds;
  thresholds.reserve(counts.size());
  for (const std::int64_t count : counts) {
    const double ratio = static_cast<double>(count) / t;
    thresholds.push_back(to_threshold((std::sqrt(ratio) + 1.0) / ratio));
  }
  return thresholds;
}

std::vector<cpu::AliasEntry> negative_table(const std::vector<std::int64_t>& counts, double exponent) {
  const std::size_t size = counts.size();
  std::vector<double> share(size);
  double total = 0.0;
  for (std::size_t i = 0; i < size; ++i) {
    share[i] = std::pow(static_cast<double>(counts[i]), exponent);
    total += share[i];
  }
  std::vector<cpu::AliasEntry> table(size);
  std::vector<std::int32_t> small;
  std::vector<std::int32_t> large;
  for (std::size_t i = 0; i < size; ++i) {
    share[i] *= static_cast<double>(size) / total;
    (share[i] < 1.0 ? small : large).push_back(static_cast<std::int32_t>(i));
  }
  while (!small.empty() && !large.empty()) {
    const std::int32_t low = small.back();
    const std::int32_t high = large.back();
    small.pop_back();
    const auto low_index = static_cast<std::size_t>(low);
    const auto high_index = static_cast<std::size_t>(high);
    table[low_index] = {to_threshold(share[low_index]), high};
    share[high_index] -= 1.0 - share[low_index];
    if (share[high_index] < 1.0) {
      large.pop_back();
      small.push_back(high);
    }
  }
  // What is left is 1 but for rounding.
  for (const std::vector<std::int32_t>* rest : {&small, &large})
    for (const std::int32_t i : *rest)
      table[static_cast<std::size_t>(i)] = {std::numeric_limits<std::uint32_t>::max(), i};
  return table;
}

HuffmanTree huffman_tree(const std::vector<std::int64_t>& counts) {
  const std::size_t size = counts.size();
  HuffmanTree tree;
  tree.begin.assign(size + 1, 0);
  if (size < 2) return tree;
  // Leaves by rising count and inner nodes in the order they are made are both sorted, so the two smallest are at the
  // heads of two queues. Of equal counts leaves come first, then older nodes.
  std::vector<std::size_t> order(size);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return counts[a] < counts[b]; });
  const std::size_t inner = size - 1;
  std::vector<double> weight(inner);
  std::vector<std::size_t> parent(size + inner);  // leaves, then inner nodes
  std::vector<std::uint8_t> branch(size + inner);
  std::size_t leaf = 0;
  std::size_t node = 0;
  for (std::size_t made = 0; made < inner; ++made) {
    for (std::uint8_t side = 0; side < 2; ++side) {
      const bool take_leaf = leaf < size && (node == made || static_cast<double>(counts[order[leaf]]) <= weight[node]);
      const std::size_t child = take_leaf ? order[leaf] : size + node;
      weight[made] += take_leaf ? static_cast<double>(counts[order[leaf]]) : weight[node];
      ++(take_leaf ? leaf : node);
      parent[child] = made;
      branch[child] = side;
    }
  }
  const std::size_t root = size + inner - 1;
  for (std::size_t word = 0; word < size; ++word) {
    const std::size_t first = tree.points.size();
    for (std::size_t at = word; at != root; at = size + parent[at]) {
      tree.points.push_back(static_cast<std::int32_t>(parent[at]));
      tree.codes.push_back(branch[at]);
    }
    std::reverse(tree.points.begin() + static_cast<std::ptrdiff_t>(first), tree.points.end());
    std::reverse(tree.codes.begin() + static_cast<std::ptrdiff_t>(first), tree.codes.end());
    tree.begin[word + 1] = static_cast<std::int64_t>(tree.points.size());
  }
  return tree;
}

}  // namespace convec::word2vec
