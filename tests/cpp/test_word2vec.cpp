// Word2Vec from C++: from word numbers to vectors, repeatable, stoppable, and what it refuses. Values are compared with
// a float64 reference in tests/python/test_word2vec_trainer.py.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

#include <convec/context.hpp>
#include <convec/cpu_features.hpp>
#include <convec/error.hpp>
#include <convec/word2vec.hpp>
#include <convec/word2vec_shared.hpp>

#include "test.hpp"

using convec::Word2Vec;
using convec::Word2VecOptions;
using convec::Word2VecSharedTables;
using convec::Word2VecTraining;

namespace {

constexpr std::int64_t words = 40;

// Sentences of eight words: even words keep company with even ones, odd with odd.
std::vector<std::int32_t> text(std::int64_t sentences) {
  std::vector<std::int32_t> tokens;
  std::uint32_t state = 1;
  for (std::int64_t sentence = 0; sentence < sentences; ++sentence) {
    for (int i = 0; i < 8; ++i) {
      state = state * 1664525U + 1013904223U;
      tokens.push_back(static_cast<std::int32_t>((state >> 8U) % 20U) * 2 + static_cast<std::int32_t>(sentence % 2));
    }
    tokens.push_back(-1);
  }
  return tokens;
}

std::vector<std::int64_t> counts() { return std::vector<std::int64_t>(words, 100); }

Word2Vec model(bool sg, bool hs = false) {
  Word2VecOptions options;
  options.vector_size = 20;
  options.sg = sg;
  options.hs = hs;
  return {options, counts(), 0.0, 0.75};
}

double cosine(const Word2Vec& trained, std::int64_t a, std::int64_t b) {
  const auto* vectors = static_cast<const float*>(trained.vectors().get());
  const float* x = vectors + a * trained.row_stride();
  const float* y = vectors + b * trained.row_stride();
  double xy = 0.0;
  double xx = 0.0;
  double yy = 0.0;
  for (std::int64_t k = 0; k < trained.options().vector_size; ++k) {
    xy += static_cast<double>(x[k]) * static_cast<double>(y[k]);
    xx += static_cast<double>(x[k]) * static_cast<double>(x[k]);
    yy += static_cast<double>(y[k]) * static_cast<double>(y[k]);
  }
  return xy / std::sqrt(xx * yy);
}

// Zeroed memory for the shared tables of a model.
std::shared_ptr<void> shared_memory(const Word2Vec& model) {
  const auto size = static_cast<std::size_t>(Word2VecSharedTables::memory_size(model));
  std::shared_ptr<void> memory(std::aligned_alloc(64, (size + 63) / 64 * 64), [](void* freed) { std::free(freed); });
  std::memset(memory.get(), 0, size);
  return memory;
}

std::vector<float> table(const Word2Vec& trained) {
  const auto* data = static_cast<const float*>(trained.vectors().get());
  return {data, data + trained.vocabulary_size() * trained.row_stride()};
}

struct Threads {
  explicit Threads(int count) : before(convec::num_threads()) { convec::set_num_threads(count); }
  ~Threads() { convec::set_num_threads(before); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;
  int before;
};

}  // namespace

TEST(company_makes_neighbours) {
  const std::vector<std::int32_t> tokens = text(2000);
  for (const bool sg : {true, false})
    for (const bool hs : {false, true}) {
      Word2Vec trained = model(sg, hs);
      Word2VecTraining training;
      training.alpha = 0.05F;
      training.workers = 1;
      for (training.epoch = 0; training.epoch < 5; ++training.epoch)
        trained.train(tokens.data(), static_cast<std::int64_t>(tokens.size()), training);
      CHECK(cosine(trained, 0, 2) > cosine(trained, 0, 3) + 0.3);
      CHECK(cosine(trained, 1, 3) > cosine(trained, 1, 4) + 0.3);
    }
}

TEST(deterministic_training_does_not_depend_on_threads) {
  const Threads four(4);
  const std::vector<std::int32_t> tokens = text(3000);
  std::vector<std::vector<float>> results;
  for (const int workers : {1, 2, 4}) {
    Word2Vec trained = model(true);
    Word2VecTraining training;
    training.deterministic = true;
    training.workers = workers;
    trained.train(tokens.data(), static_cast<std::int64_t>(tokens.size()), training);
    results.push_back(table(trained));
  }
  CHECK(results[0] == results[1]);
  CHECK(results[0] == results[2]);
}

TEST(hogwild_threads_share_the_tables) {
  const Threads four(4);
  const std::vector<std::int32_t> tokens = text(5000);
  for (const bool sg : {true, false}) {
    Word2Vec trained = model(sg);
    Word2VecTraining training;
    training.alpha = 0.05F;
    training.workers = 4;
    convec::Word2VecResult result;
    for (training.epoch = 0; training.epoch < 3; ++training.epoch)
      result = trained.train(tokens.data(), static_cast<std::int64_t>(tokens.size()), training);
    CHECK_EQ(result.trained_words, 5000 * 8);
    CHECK(cosine(trained, 0, 2) > cosine(trained, 0, 3) + 0.3);
  }
}

TEST(models_share_tables) {
  const std::vector<std::int32_t> tokens = text(5000);
  const auto size = static_cast<std::int64_t>(tokens.size());
  const auto half = static_cast<std::int64_t>(tokens.size() / 18 * 9);
  for (const bool hs : {false, true}) {
    Word2Vec first = model(true, hs);
    Word2Vec second = model(true, hs);
    second.initialize(7);
    const std::vector<float> before = table(second);
    const std::shared_ptr<void> memory = shared_memory(first);
    const std::int64_t bytes = Word2VecSharedTables::memory_size(first);
    Word2VecSharedTables tables(first, memory, bytes);
    Word2VecSharedTables same(second, memory, bytes);
    tables.upload();
    // Each in its process, if it were not for the test.
    const auto train = [&](Word2VecSharedTables& shared, std::int64_t begin, std::int64_t end) {
      Word2VecTraining training;
      training.alpha = 0.05F;
      training.workers = 1;
      training.position = begin;
      std::int64_t trained = 0;
      for (training.epoch = 0; training.epoch < 3; ++training.epoch)
        trained += shared.train(tokens.data() + begin, end - begin, training).trained_words;
      CHECK_EQ(trained, 3 * (end - begin) / 9 * 8);
    };
    std::thread beside([&] { train(same, half, size); });
    train(tables, 0, half);
    beside.join();
    CHECK(table(second) == before);
    second.initialize(7);
    same.download();
    tables.download();
    CHECK(table(first) == table(second));
    CHECK(cosine(first, 0, 2) > cosine(first, 0, 3) + 0.3);
  }
}

TEST(one_process_alone_trains_shared_tables_as_its_own) {
  const std::vector<std::int32_t> tokens = text(500);
  Word2VecTraining training;
  training.workers = 1;
  Word2Vec own = model(true);
  own.train(tokens.data(), static_cast<std::int64_t>(tokens.size()), training);
  Word2Vec other = model(true);
  Word2VecSharedTables tables(other, shared_memory(other), Word2VecSharedTables::memory_size(other));
  tables.upload();
  tables.train(tokens.data(), static_cast<std::int64_t>(tokens.size()), training);
  tables.download();
  CHECK(table(own) == table(other));
}

TEST(a_lock_of_a_killed_process_is_passed_over) {
  Word2VecOptions options;
  options.vector_size = 4;
  options.sg = true;
  // Enough words for copies of the frequent ones, which the locks are about.
  Word2Vec large(options, std::vector<std::int64_t>(4096, 10), 0.0, 0.75);
  const std::shared_ptr<void> memory = shared_memory(large);
  Word2VecSharedTables tables(large, memory, Word2VecSharedTables::memory_size(large));
  tables.upload();
  *static_cast<std::uint32_t*>(memory.get()) = 1;  // the first lock is taken
  const std::vector<std::int32_t> tokens = text(10);
  Word2VecTraining training;
  training.workers = 1;
  CHECK_EQ(tables.train(tokens.data(), static_cast<std::int64_t>(tokens.size()), training).trained_words, 80);
}

TEST(shared_tables_refuse) {
  Word2Vec trained = model(true);
  const std::int64_t size = Word2VecSharedTables::memory_size(trained);
  const std::shared_ptr<void> memory = shared_memory(trained);
  CHECK_THROWS(Word2VecSharedTables(trained, nullptr, size), convec::ValueError, "memory is null");
  CHECK_THROWS(Word2VecSharedTables(trained, memory, size - 1), convec::ValueError, "but the tables take");
  const std::shared_ptr<void> odd(memory, static_cast<char*>(memory.get()) + 4);
  CHECK_THROWS(Word2VecSharedTables(trained, odd, size), convec::ValueError, "not aligned");
  Word2VecSharedTables tables(trained, memory, size);
  tables.upload();
  Word2VecTraining training;
  const std::vector<std::int32_t> wrong{0, 40};
  CHECK_THROWS(tables.train(wrong.data(), 2, training), convec::ValueError, "tokens[1]");
  training.deterministic = true;
  CHECK_THROWS(tables.train(wrong.data(), 1, training), convec::ValueError, "deterministic");
  trained.set_vocabulary(std::vector<std::int64_t>(41, 1), 0.0, 0.75);
  CHECK_THROWS(tables.upload(), convec::ValueError, "the model has 41 words now");
  CHECK_THROWS(tables.download(), convec::ValueError, "the model has 41 words now");
  CHECK_THROWS(tables.train(wrong.data(), 1, {}), convec::ValueError, "the model has 41 words now");
}

TEST(every_level_trains_alike) {
  const std::vector<std::int32_t> tokens = text(300);
  const convec::IsaLevel before = convec::current_isa();
  std::vector<std::vector<float>> results;
  for (const convec::IsaLevel level : convec::available_isas()) {
    convec::set_isa(level);
    Word2Vec trained = model(true, true);
    Word2VecTraining training;
    training.workers = 1;
    trained.train(tokens.data(), static_cast<std::int64_t>(tokens.size()), training);
    results.push_back(table(trained));
  }
  convec::set_isa(before);
  // The order of the sums differs, over some thousand updates.
  for (const std::vector<float>& result : results)
    for (std::size_t i = 0; i < result.size(); ++i) CHECK_NEAR(result[i], results[0][i], 1e-4);
}

TEST(progress_may_stop_training) {
  const Threads two(2);
  const std::vector<std::int32_t> tokens = text(20000);
  for (const bool deterministic : {false, true}) {
    Word2Vec trained = model(true);
    Word2VecTraining training;
    training.workers = 2;
    training.deterministic = deterministic;
    training.progress_interval = 0.0;
    int calls = 0;
    training.progress = [&](std::int64_t, float) {
      if (++calls == 3) throw std::runtime_error("stop");
    };
    CHECK_THROWS(trained.train(tokens.data(), static_cast<std::int64_t>(tokens.size()), training), std::runtime_error,
                 "stop");
    CHECK_EQ(calls, 3);
    const std::vector<float> result = table(trained);
    CHECK(std::all_of(result.begin(), result.end(), [](float x) { return std::isfinite(x); }));
  }
}

TEST(sub_sampling_may_leave_nothing) {
  Word2VecOptions options;
  options.vector_size = 20;
  Word2Vec trained(options, counts(), 1e-30);
  const std::vector<float> before = table(trained);
  const std::vector<std::int32_t> tokens = text(50);
  for (const std::uint32_t threshold : trained.sample_thresholds()) CHECK_EQ(threshold, 0U);
  CHECK_EQ(trained.train(tokens.data(), static_cast<std::int64_t>(tokens.size()), {}).trained_words, 0);
  CHECK(table(trained) == before);
}

TEST(a_larger_vocabulary_keeps_its_rows) {
  Word2Vec trained = model(false);
  const std::vector<float> before = table(trained);
  const std::shared_ptr<void> old = trained.vectors();
  trained.set_vocabulary(std::vector<std::int64_t>(words + 10, 100), 0.0, 0.75);
  CHECK_EQ(trained.vocabulary_size(), words + 10);
  const std::vector<float> after = table(trained);
  CHECK(std::equal(before.begin(), before.end(), after.begin()));
  CHECK_EQ(*static_cast<const float*>(old.get()), before[0]);
}

TEST(what_is_refused) {
  Word2VecOptions options;
  options.vector_size = 0;
  CHECK_THROWS(Word2Vec(options, counts()), convec::ValueError, "vector_size is 0");
  options = {};
  options.negative = 0;
  CHECK_THROWS(Word2Vec(options, counts()), convec::ValueError, "one of them is needed");
  CHECK_THROWS(Word2Vec(Word2VecOptions(), {}), convec::ValueError, "counts is empty");
  CHECK_THROWS(Word2Vec(Word2VecOptions(), {1, 0}), convec::ValueError, "counts[1] is 0");
  Word2Vec trained = model(true);
  const std::vector<std::int32_t> tokens = {0, 1, words};
  CHECK_THROWS(trained.train(tokens.data(), 3, {}), convec::ValueError, "tokens[2] is 40");
  Word2VecTraining training;
  training.workers = 0;
  CHECK_THROWS(trained.train(tokens.data(), 2, training), convec::ValueError, "workers is 0");
  CHECK_THROWS(trained.score(tokens.data(), 2), convec::ValueError, "hs is false");
}

TEST_MAIN()
