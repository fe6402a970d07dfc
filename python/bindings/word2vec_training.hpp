// What the bindings of the trainers on every device share.
#pragma once

#include <cstdint>
#include <utility>

#include <pybind11/pybind11.h>

#include <convec/word2vec.hpp>

#include "gil.hpp"
#include "in_use.hpp"

namespace convec::python {

template <>
struct SharedNames<Word2Vec> {
  static constexpr const char* noun = "the model";
  static constexpr const char* how = "give each thread a copy of the model (copy.deepcopy(model))";
};
using SharedWord2Vec = Shared<Word2Vec>;

// Calls run(training) without the interpreter's lock, and returns {'trained_words': ..., 'loss': ...}. progress(words
// done, alpha), where it is not None, is called now and then; what it raises, and Ctrl-C, stop training.
template <typename Run>
pybind11::dict train_word2vec(Word2VecTraining training, const pybind11::object& progress, Run&& run) {
  training.progress = [&](std::int64_t done, float rate) {
    const AcquireGil acquire;
    if (PyErr_CheckSignals() != 0) throw pybind11::error_already_set();
    if (!progress.is_none()) progress(done, rate);
  };
  Word2VecResult result;
  {
    const ReleaseGil release;
    result = std::forward<Run>(run)(std::as_const(training));
  }
  pybind11::dict values;
  values["trained_words"] = result.trained_words;
  values["loss"] = result.loss;
  return values;
}

}  // namespace convec::python
