// What is asked of the arguments of training, on whatever device.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>

#include <convec/error.hpp>
#include <convec/word2vec.hpp>

namespace convec::word2vec {

constexpr std::int64_t longest_sentence = 1000000000;

template <typename T>
void check_range(T value, T least, T most, const char* name) {
  if (value < least || value > most)
    throw ValueError(std::string(name) + " is " + std::to_string(value) + ", but must be between " +
                     std::to_string(least) + " and " + std::to_string(most));
}

inline void check_finite(double value, double least, const char* name) {
  if (!(value >= least) || !std::isfinite(value))
    throw ValueError(std::string(name) + " is " + std::to_string(value) + ", but must be a finite number of at least " +
                     std::to_string(least));
}

[[noreturn]] inline void refuse_token(std::int64_t index, std::int32_t token, std::int64_t vocabulary_size) {
  throw ValueError("tokens[" + std::to_string(index) + "] is " + std::to_string(token) + ", but must be -1 or below " +
                   std::to_string(vocabulary_size) + ", the number of words");
}

[[noreturn]] inline void refuse_sentence() {
  throw ValueError("a sentence of tokens is longer than 1000000000 words; cut it by a -1");
}

inline void check_tokens(const std::int32_t* tokens, std::int64_t size, std::int64_t vocabulary_size) {
  check_range<std::int64_t>(size, 0, std::numeric_limits<std::int64_t>::max() / 8, "size");
  std::int64_t sentence = 0;
  for (std::int64_t i = 0; i < size; ++i) {
    const std::int32_t token = tokens[i];
    if (token < -1 || token >= vocabulary_size) refuse_token(i, token, vocabulary_size);
    sentence = token < 0 ? 0 : sentence + 1;
    if (sentence > longest_sentence) refuse_sentence();
  }
}

inline void check_training(const Word2VecTraining& t) {
  constexpr std::int64_t most = 1000000000000000000;
  check_range<std::int64_t>(t.position, 0, most, "position");
  check_range<std::int64_t>(t.epoch, 0, std::int64_t{0xFFFFFFFF}, "epoch");
  check_range<std::int64_t>(t.words_done, 0, most, "words_done");
  check_range<std::int64_t>(t.words_total, 0, most, "words_total");
  check_range(t.workers, 1, 1024, "workers");
  check_finite(t.alpha, 0.0, "alpha");
  check_finite(t.min_alpha, 0.0, "min_alpha");
}

}  // namespace convec::word2vec
