// Training of word vectors: settings and words from anywhere.
#include <cmath>

#include <convec/word2vec.hpp>

#include "fuzz.hpp"

using convec::Word2Vec;
using convec::Word2VecOptions;

namespace {

std::vector<std::string> seeds() {
  std::vector<std::string> all;
  for (const char flags : {'\0', '\1', '\2', '\3', '\7', '\17', '\77'}) {
    std::string seed{flags, '\7', '\4', '\2', '\0', '\6', '\50', '\30', '\20', '\10', '\4', '\2', '\170', '\170'};
    for (int i = 0; i < 60; ++i) seed += static_cast<char>(i % 9);
    all.push_back(seed);
  }
  return all;
}

}  // namespace

FUZZ_TARGET(word2vec, seeds) {
  const unsigned flags = input.byte();
  Word2VecOptions options;
  options.sg = (flags & 1U) != 0;
  options.hs = (flags & 2U) != 0;
  options.shrink_windows = (flags & 4U) == 0;
  options.cbow_mean = (flags & 8U) == 0;
  if ((flags & 16U) != 0) options.precision = convec::Precision::float16;
  convec::Word2VecTraining training;
  training.deterministic = (flags & 32U) != 0;
  training.compute_loss = (flags & 64U) != 0;
  options.vector_size = input.extent(40);
  options.negative = static_cast<int>(input.from_zero(12));
  options.window = static_cast<int>(input.extent(12));
  if ((flags & 128U) != 0) {
    training.alpha = input.number();
    training.min_alpha = input.number();
    training.position = input.extent(100);
    training.epoch = input.extent(100);
    training.words_done = input.extent(100);
    training.words_total = input.extent(100);
    training.workers = static_cast<int>(input.extent(4));
    training.progress_interval = static_cast<double>(input.number());
  }
  std::vector<std::int64_t> counts(input.below(12));
  for (std::int64_t& count : counts) count = input.extent(100);
  const double sample = static_cast<double>(input.number());
  const double exponent = static_cast<double>(input.number());
  std::vector<std::int32_t> tokens;
  while (input.left() > 0) {
    const std::uint8_t choice = input.byte();
    tokens.push_back(choice == 255 ? static_cast<std::int32_t>(input.bits())
                                   : static_cast<std::int32_t>(choice % 13) - 1);
  }
  if (counts.size() > 0 && options.vector_size > 4096) return;  // allowed, and only slow
  convec::fuzz::returns([&] {
    Word2Vec model(options, counts, sample, exponent);
    const auto words = static_cast<std::int64_t>(counts.size());
    FUZZ_CHECK(model.vocabulary_size() == words && model.row_stride() >= options.vector_size);
    constexpr std::int64_t most_work = 1'000'000;
    const auto size = static_cast<std::int64_t>(tokens.size());
    if (size * options.vector_size * (options.negative + 20) > most_work) return;
    bool known = true;
    for (const std::int32_t token : tokens) known = known && token >= -1 && token < words;
    const bool trained = convec::fuzz::returns([&] {
      const convec::Word2VecResult result = model.train(tokens.data(), size, training);
      FUZZ_CHECK(result.trained_words >= 0 && result.trained_words <= size);
    });
    FUZZ_CHECK(known || !trained);
    if (options.hs) {
      const bool scored = convec::fuzz::returns([&] { model.score(tokens.data(), size); });
      FUZZ_CHECK(known || !scored);
      std::vector<std::int32_t> points;
      std::vector<std::uint8_t> codes;
      for (std::int64_t word = 0; word < words; ++word) {
        model.huffman_path(word, points, codes);
        FUZZ_CHECK(points.size() == codes.size());
      }
    }
    std::vector<std::int64_t> more = counts;
    more.push_back(1);
    model.set_vocabulary(more, sample, exponent);
    FUZZ_CHECK(model.vocabulary_size() == words + 1);
  });
}
