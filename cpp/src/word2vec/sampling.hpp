// What Word2Vec derives from the counts of the words.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/kernels/word2vec.hpp"

namespace convec::word2vec {

// Probability that an occurrence of each word survives sub-sampling, in units of 2^-32, by the formula of word2vec.c:
// (sqrt(count / t) + 1) t / count, t = sample * total. A sample of 1 or more stands for a count (as gensim):
// t = sample (3 + sqrt 5) / 2. Empty where sample is 0.
std::vector<std::uint32_t> sample_thresholds(const std::vector<std::int64_t>& counts, double sample);

// Walker's alias table (Vose, 1991) of count^exponent.
std::vector<cpu::AliasEntry> negative_table(const std::vector<std::int64_t>& counts, double exponent);

// Huffman's tree over the counts. Word i's path from the root is points[begin[i]], ... up to begin[i + 1]: inner
// nodes, numbered from 0 in the order they were made (the root is the last), and codes, the branch taken at each.
struct HuffmanTree {
  std::vector<std::int64_t> begin;
  std::vector<std::int32_t> points;
  std::vector<std::uint8_t> codes;
};
HuffmanTree huffman_tree(const std::vector<std::int64_t>& counts);

}  // namespace convec::word2vec
