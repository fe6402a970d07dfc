// Training without locks on tables that others train as well.
#pragma once

#include <cstdint>

#include <convec/word2vec.hpp>

#include "cpu/kernels/word2vec.hpp"
#include "word2vec/block.hpp"
#include "word2vec/rows.hpp"

namespace convec {

struct Word2Vec::Impl {
  word2vec::Model model;
};

namespace word2vec {

// Trains `tables` with the numbers of `model`, whose own tables are not touched.
// `others`: other processes train them at the same time.
Word2VecResult train_hogwild(const Model& model, const Tables& tables, HogwildRows::Locks& locks, bool others,
                             const std::int32_t* tokens, std::int64_t size, const Word2VecTraining& training);

}  // namespace word2vec

}  // namespace convec
