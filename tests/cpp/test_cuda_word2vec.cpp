// Word2Vec's CUDA kernels on the emulated device, against a plain reference with the same draws, and against the
// processor's trainer.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include <convec/cuda/word2vec.hpp>
#include <convec/error.hpp>
#include <convec/word2vec.hpp>

#include "emulation.hpp"
#include "test.hpp"
#include "word2vec/draws.hpp"

namespace {

using convec::DeviceError;
using convec::Precision;
using convec::ValueError;
using convec::Word2Vec;
using convec::Word2VecOptions;
using convec::Word2VecResult;
using convec::Word2VecTraining;
using convec::cuda::TablePrecision;
using convec::cuda::Word2VecDeviceOptions;
using convec::cuda::Word2VecIds;
using convec::cuda::Word2VecOnDevice;
using convec::emulation::Schedule;
namespace w2v = convec::word2vec;

using Tokens = std::vector<std::int32_t>;

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

// Numbers that look random, uniform in [0, 1).
class Numbers {
 public:
  double operator()() {
    state_ = state_ * 6364136223846793005U + 1442695040888963407U;
    return static_cast<double>(state_ >> 40U) * 0x1p-24;
  }

 private:
  std::uint64_t state_ = 12345;
};

struct Case {
  Word2VecOptions options;
  double sample = 0.0;
  std::int64_t words = 30;
  std::int64_t position = 0;
};

Word2VecOptions options_of(std::int64_t vector_size, bool sg, int negative = 5, int window = 5) {
  Word2VecOptions options;
  options.vector_size = vector_size;
  options.sg = sg;
  options.negative = negative;
  options.window = window;
  options.seed = 42;
  return options;
}

std::vector<std::int64_t> counts_of(std::int64_t words) {
  std::vector<std::int64_t> counts;
  for (std::int64_t i = 0; i < words; ++i) counts.push_back(1 + 400 / (i + 1));
  return counts;
}

// Sentences of 1, 2, 3, ... words and a long one; frequent words are frequent.
Tokens text_of(std::int64_t words, int sentences, int longest) {
  Numbers random;
  Tokens tokens;
  for (int sentence = 0; sentence < sentences; ++sentence) {
    const int length = sentence + 1 == sentences ? longest : 1 + sentence % 7;
    for (int i = 0; i < length; ++i)
      tokens.push_back(static_cast<std::int32_t>(std::pow(random(), 2.0) * static_cast<double>(words)));
    tokens.push_back(-1);
  }
  return tokens;
}

float* rows_of(const Word2Vec& model, const std::shared_ptr<void>& table) {
  static_cast<void>(model);
  return static_cast<float*>(table.get());
}

// A model of which both tables are random, so that both learn from the first word on.
Word2Vec model_of(const Case& c) {
  Word2Vec model(c.options, counts_of(c.words), c.sample);
  Numbers random;
  const std::int64_t stride = model.row_stride();
  for (const auto& table : {model.vectors(), model.syn1neg()})
    for (std::int64_t row = 0; row < c.words; ++row)
      for (std::int64_t k = 0; k < c.options.vector_size; ++k)
        rows_of(model, table)[row * stride + k] =
            static_cast<float>((random() - 0.5) * 2.0 / std::sqrt(static_cast<double>(c.options.vector_size)));
  return model;
}

std::vector<float> table_of(const Word2Vec& model, const std::shared_ptr<void>& table) {
  const float* rows = rows_of(model, table);
  return {rows, rows + model.vocabulary_size() * model.row_stride()};
}

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  CHECK_EQ(a.size(), b.size());
  double largest = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    if (!(difference <= largest)) largest = difference;  // keeps NaN
  }
  return largest;
}

// ---- The reference ----------------------------------------------------------------------------------------------

// Training as word2vec.hpp describes it, one window after the other, in double precision.
class Reference {
 public:
  explicit Reference(const Word2Vec& model)
      : o_(model.options()), words_(model.vocabulary_size()), thresholds_(model.sample_thresholds()) {
    std::vector<std::uint32_t> thresholds;
    std::vector<std::int32_t> aliases;
    model.negative_table(thresholds, aliases);
    for (std::size_t i = 0; i < aliases.size(); ++i) table_.push_back({thresholds[i], aliases[i]});
    vectors = copy(model, model.vectors());
    outputs = copy(model, model.syn1neg());
  }

  using Row = std::vector<double>;
  std::vector<Row> vectors;
  std::vector<Row> outputs;
  double loss = 0.0;
  std::int64_t trained = 0;

  void train(const Tokens& tokens, const Word2VecTraining& t) {
    struct Kept {
      std::int32_t word;
      std::int64_t offset;
      int sentence;
      int radius;
    };
    std::vector<Kept> kept;
    int sentence = 0;
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(tokens.size()); ++i) {
      const std::int32_t token = tokens[at(i)];
      if (token < 0) {
        ++sentence;
        continue;
      }
      std::uint32_t random[4];
      const auto position = static_cast<std::uint64_t>(t.position + i);
      convec::philox::words(o_.seed, position / 2, draw_stream(t, w2v::draw_text), random[0], random[1], random[2],
                            random[3]);
      const std::size_t own = 2 * (position % 2);
      if (!thresholds_.empty() && random[own] > thresholds_[at(token)]) continue;
      kept.push_back({token, i, sentence, o_.shrink_windows ? w2v::radius_of(random[own + 1], o_.window) : o_.window});
    }
    trained += static_cast<std::int64_t>(kept.size());
    const double total =
        static_cast<double>(t.words_total > 0 ? t.words_total : static_cast<std::int64_t>(tokens.size()));
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(kept.size()); ++i) {
      const Kept& centre = kept[at(i)];
      std::vector<std::int32_t> context;
      for (std::int64_t c = i - centre.radius; c <= i + centre.radius; ++c)
        if (c >= 0 && c < static_cast<std::int64_t>(kept.size()) && c != i && kept[at(c)].sentence == centre.sentence)
          context.push_back(kept[at(c)].word);
      const double done = std::min(1.0, static_cast<double>(t.words_done + centre.offset) / total);
      const auto alpha = static_cast<double>(t.alpha);
      train_window(centre.word, context, negatives_of(t, t.position + centre.offset),
                   alpha - (alpha - static_cast<double>(t.min_alpha)) * done);
    }
  }

 private:
  static std::uint64_t draw_stream(const Word2VecTraining& t, w2v::DrawPurpose purpose) {
    return w2v::draw_stream(static_cast<std::uint64_t>(t.epoch), purpose);
  }
  static std::vector<Row> copy(const Word2Vec& model, const std::shared_ptr<void>& table) {
    std::vector<Row> rows;
    for (std::int64_t row = 0; row < model.vocabulary_size(); ++row) {
      const float* from = rows_of(model, table) + row * model.row_stride();
      rows.emplace_back(from, from + model.options().vector_size);
    }
    return rows;
  }

  Tokens negatives_of(const Word2VecTraining& t, std::int64_t position) const {
    const int size = w2v::pool_size_for(o_.negative);
    const std::int64_t segment = position / 128;
    Tokens pool;
    for (int i = 0; i < size / 4; ++i) {
      std::uint32_t random[4];
      convec::philox::words(o_.seed, w2v::pool_counter(segment, size) + static_cast<std::uint64_t>(i),
                            draw_stream(t, w2v::draw_pool), random[0], random[1], random[2], random[3]);
      for (const std::uint32_t number : random) pool.push_back(w2v::negative_of(number, table_.data(), words_));
    }
    Tokens samples;
    for (int j = 0; j < o_.negative; ++j) {
      const int entry = static_cast<int>(position % 128) * o_.negative + j;
      const w2v::Lap lap = w2v::lap_of(o_.seed, static_cast<std::uint64_t>(t.epoch), segment, entry / size);
      samples.push_back(
          pool[(static_cast<unsigned>(entry % size) * lap.stride + lap.offset) % static_cast<unsigned>(size)]);
    }
    return samples;
  }

  struct Output {
    std::int32_t word;
    double label;
    double weight;
  };
  std::vector<double> gradients(const Row& x, const std::vector<Output>& group, const std::vector<Row>& y,
                                double alpha) {
    std::vector<double> result;
    for (std::size_t o = 0; o < group.size(); ++o) {
      double dot = 0.0;
      for (std::size_t k = 0; k < x.size(); ++k) dot += x[k] * y[o][k];
      loss += group[o].weight * std::log1p(std::exp(group[o].label > 0.0 ? -dot : dot));
      result.push_back((group[o].label - 1.0 / (1.0 + std::exp(-dot))) * group[o].weight * alpha);
    }
    return result;
  }
  static void add(double scale, const Row& from, Row& to) {
    for (std::size_t k = 0; k < to.size(); ++k) to[k] += scale * from[k];
  }

  void train_window(std::int32_t centre, const Tokens& context, const Tokens& samples, double alpha) {
    if (context.empty()) return;
    std::vector<Output> all = {{centre, 1.0, 1.0}};
    for (std::size_t j = 0; j < samples.size(); ++j) {
      const auto before = samples.begin() + static_cast<std::ptrdiff_t>(j);
      const bool first = samples[j] != centre && std::find(samples.begin(), before, samples[j]) == before;
      all.push_back(
          {samples[j], 0.0, first ? static_cast<double>(std::count(before, samples.end(), samples[j])) : 0.0});
    }
    std::vector<std::vector<Output>> groups;
    std::size_t begin = 0;
    for (std::size_t count = (all.size() + 7) / 8; count > 0; --count) {
      const std::size_t size = (all.size() - begin) / count;
      groups.emplace_back(all.begin() + static_cast<std::ptrdiff_t>(begin),
                          all.begin() + static_cast<std::ptrdiff_t>(begin + size));
      begin += size;
    }
    const std::size_t size = vectors[0].size();
    const auto rows_of_group = [&](const std::vector<Output>& group) {
      std::vector<Row> y;
      for (const Output& output : group) y.push_back(outputs[at(output.word)]);
      return y;
    };
    if (!o_.sg) {
      const double count = static_cast<double>(context.size());
      Row mean(size);
      for (const std::int32_t word : context) add(o_.cbow_mean ? 1.0 / count : 1.0, vectors[at(word)], mean);
      Row delta(size);
      for (const auto& group : groups) {
        const std::vector<Row> y = rows_of_group(group);
        const std::vector<double> g = gradients(mean, group, y, alpha);
        for (std::size_t o = 0; o < group.size(); ++o) {
          add(g[o], y[o], delta);
          add(g[o], mean, outputs[at(group[o].word)]);
        }
      }
      for (const std::int32_t word : context) add(o_.cbow_mean ? 1.0 : 1.0 / count, delta, vectors[at(word)]);
      return;
    }
    for (std::size_t first = 0; first < context.size(); first += 32) {
      const std::size_t last = std::min(first + 32, context.size());
      for (const auto& group : groups) {
        const std::vector<Row> y = rows_of_group(group);
        std::vector<Row> changes(group.size(), Row(size));
        Row next = vectors[at(context[first])];
        for (std::size_t c = first; c < last; ++c) {
          const Row x = next;
          // The row that follows is read before this one changes.
          if (c + 1 < last) next = vectors[at(context[c + 1])];
          const std::vector<double> g = gradients(x, group, y, alpha);
          for (std::size_t o = 0; o < group.size(); ++o) {
            add(g[o], y[o], vectors[at(context[c])]);
            add(g[o], x, changes[o]);
          }
        }
        for (std::size_t o = 0; o < group.size(); ++o) add(1.0, changes[o], outputs[at(group[o].word)]);
      }
    }
  }

  Word2VecOptions o_;
  std::int64_t words_;
  std::vector<std::uint32_t> thresholds_;
  std::vector<convec::cpu::AliasEntry> table_;
};

double difference_from(const std::vector<Reference::Row>& reference, const Word2Vec& model,
                       const std::shared_ptr<void>& table) {
  double largest = 0.0;
  for (std::int64_t row = 0; row < model.vocabulary_size(); ++row) {
    const float* numbers = rows_of(model, table) + row * model.row_stride();
    for (std::int64_t k = 0; k < model.row_stride(); ++k) {
      const double expected = k < model.options().vector_size ? reference[at(row)][at(k)] : 0.0;
      const double difference = std::abs(expected - static_cast<double>(numbers[k]));
      if (!(difference <= largest)) largest = difference;
    }
  }
  return largest;
}

Word2VecDeviceOptions one_team() {
  Word2VecDeviceOptions options;
  options.concurrency = 1;
  return options;
}

Word2VecTraining training_of(float alpha = 0.05F, std::int64_t position = 0) {
  Word2VecTraining training;
  training.alpha = alpha;
  training.min_alpha = alpha / 10.0F;
  training.epoch = 3;
  training.position = position;
  training.compute_loss = true;
  return training;
}

Word2VecResult train_on_device(Word2Vec& model, const Tokens& tokens, const Word2VecTraining& training,
                               const Word2VecDeviceOptions& options = one_team()) {
  Word2VecOnDevice device(model, options);
  const Word2VecResult result = device.train(tokens.data(), static_cast<std::int64_t>(tokens.size()), training);
  device.download();
  return result;
}

// Rounding in single precision: where vectors have grown long, by their length.
double tolerance_of(const std::vector<Reference::Row>& rows) {
  double largest = 1.0;
  for (const Reference::Row& row : rows)
    for (const double number : row) largest = std::max(largest, std::abs(number));
  return 1e-5 * largest;
}

// Trains on the device and by the reference; both must end the same, and not where they began.
void compare(const Case& c, const Tokens& tokens) {
  Word2Vec model = model_of(c);
  Reference reference(model);
  const std::vector<float> before = table_of(model, model.vectors());
  const Word2VecTraining training = training_of(0.05F, c.position);
  reference.train(tokens, training);
  const Word2VecResult result = train_on_device(model, tokens, training);
  CHECK_EQ(result.trained_words, reference.trained);
  CHECK_NEAR(result.loss, reference.loss, 1e-5 * reference.loss + 1e-9);
  CHECK(reference.loss > 0.0);
  CHECK(largest_difference(before, table_of(model, model.vectors())) > 0.003);
  CHECK_NEAR(difference_from(reference.vectors, model, model.vectors()), 0.0, tolerance_of(reference.vectors));
  CHECK_NEAR(difference_from(reference.outputs, model, model.syn1neg()), 0.0, tolerance_of(reference.outputs));
}

// Sets the order in which emulated threads take turns, for a scope.
struct InOrder {
  explicit InOrder(Schedule schedule) { convec::emulation::set_schedule(schedule, 5); }
  ~InOrder() { convec::emulation::set_schedule(Schedule::round_robin); }
  InOrder(const InOrder&) = delete;
  InOrder& operator=(const InOrder&) = delete;
};

struct Reset {
  Reset() = default;
  ~Reset() {
    cudaDeviceReset();
    convec::emulation::set_memory(std::size_t{1} << 32U);
  }
  Reset(const Reset&) = delete;
  Reset& operator=(const Reset&) = delete;
};

}  // namespace

TEST(vectors_of_every_size_learn_as_the_reference_says) {
  const Tokens tokens = text_of(30, 12, 20);
  for (const bool sg : {true, false}) {
    for (const std::int64_t size : {1, 50, 64, 100, 128, 200, 256, 300, 301, 385, 1024})
      compare({options_of(size, sg)}, tokens);
    const InOrder order(Schedule::one_warp);
    for (const std::int64_t size : {50, 300, 1024}) compare({options_of(size, sg)}, tokens);
  }
}

TEST(no_size_of_vectors_is_left_out) {
  // Every size of a lane's part, and both sides of where a team takes another part or another warp.
  const Tokens tokens = text_of(9, 5, 9);
  for (std::int64_t size = 1; size <= 1024; ++size)
    if (size <= 66 || (size + 1) % 64 <= 2)
      for (const bool sg : {true, false}) compare({options_of(size, sg, size % 2 == 0 ? 5 : 3), 0.0, 9}, tokens);
}

TEST(any_number_of_negatives_learns_as_the_reference_says) {
  const Tokens tokens = text_of(30, 12, 20);
  for (const int negative : {1, 2, 7, 8, 15, 20})
    for (const bool sg : {true, false})
      for (const std::int64_t size : {20, 400}) compare({options_of(size, sg, negative)}, tokens);
}

TEST(any_window_learns_as_the_reference_says) {
  const Tokens tokens = text_of(30, 12, 90);
  for (const int window : {1, 2, 16, 40, 1000000})
    for (const bool sg : {true, false})
      for (const bool shrink : {true, false}) {
        Case c{options_of(10, sg, 5, window)};
        c.options.shrink_windows = shrink;
        c.options.cbow_mean = !shrink;  // a sum in some of the cases
        compare(c, tokens);
      }
}

TEST(words_are_left_out_as_the_reference_says) {
  // Several tiles, at an even and at an odd position.
  const Tokens tokens = text_of(200, 500, 600);
  for (const std::int64_t position : {0, 12345}) compare({options_of(8, true), 0.01, 200, position}, tokens);
}

TEST(short_texts_and_small_vocabularies) {
  for (const bool sg : {true, false}) {
    for (const Tokens& tokens : {Tokens{0, 1}, Tokens{1, 0, 1, -1}, Tokens{-1, -1, 0, 1, 1, -1, -1, 0, -1}})
      compare({options_of(12, sg), 0.0, 2}, tokens);
    compare({options_of(12, sg), 0.0, 3}, {2, 2, 2, -1, 0});
  }
  // Nothing to learn from.
  for (const Tokens& tokens : {Tokens{}, Tokens{-1}, Tokens{0}, Tokens{0, -1, 1, -1, 0}}) {
    Word2Vec model = model_of({options_of(12, true), 0.0, 2});
    const std::vector<float> before = table_of(model, model.vectors());
    const Word2VecResult result = train_on_device(model, tokens, training_of());
    CHECK_EQ(result.loss, 0.0);
    CHECK(before == table_of(model, model.vectors()));
  }
}

TEST(every_word_of_every_sentence_is_updated) {
  // Each word occurs once, in sentences of 1, 2, 3, ... words; the last one does not end.
  constexpr std::int64_t words = 55;
  Tokens tokens;
  std::set<std::int32_t> alone;
  for (std::int32_t word = 0, length = 1; word < words; ++length) {
    if (length > 1) tokens.push_back(-1);
    if (length == 1) alone.insert(word);
    for (int i = 0; i < length && word < words; ++i) tokens.push_back(word++);
  }
  for (const bool sg : {true, false})
    for (const int concurrency : {1, 5}) {
      Case c{options_of(16, sg), 0.0, words};
      Word2Vec model = model_of(c);
      const std::vector<float> vectors = table_of(model, model.vectors());
      const std::vector<float> outputs = table_of(model, model.syn1neg());
      Word2VecDeviceOptions options;
      options.concurrency = concurrency;
      CHECK_EQ(train_on_device(model, tokens, training_of(), options).trained_words, words);
      for (std::int32_t word = 0; word < words; ++word) {
        const auto changed = [&](const std::vector<float>& before, const std::shared_ptr<void>& table) {
          const std::int64_t first = word * model.row_stride();
          return !std::equal(before.begin() + first, before.begin() + first + 16, rows_of(model, table) + first);
        };
        CHECK_EQ(changed(vectors, model.vectors()), alone.count(word) == 0);
        if (alone.count(word) == 0) CHECK(changed(outputs, model.syn1neg()));
      }
    }
}

TEST(the_processor_makes_the_same_draws) {
  // The processor trains pairs of windows on the same state: what differs is of the order of alpha squared.
  const Tokens tokens = text_of(300, 300, 100);
  for (const bool sg : {true, false}) {
    const Case c{options_of(24, sg), 0.02, 300, 128 * 7 + 5};
    Word2Vec on_processor = model_of(c);
    Word2Vec on_device = model_of(c);
    const std::vector<float> before = table_of(on_device, on_device.vectors());
    Word2VecTraining training = training_of(0.0003F, c.position);
    training.min_alpha = training.alpha;
    training.workers = 1;
    const Word2VecResult expected =
        on_processor.train(tokens.data(), static_cast<std::int64_t>(tokens.size()), training);
    const Word2VecResult result = train_on_device(on_device, tokens, training);
    CHECK_EQ(result.trained_words, expected.trained_words);
    CHECK_NEAR(result.loss, expected.loss, 1e-3 * expected.loss);
    CHECK(largest_difference(before, table_of(on_device, on_device.vectors())) > 0.001);
    for (const bool vectors : {true, false})
      CHECK_NEAR(largest_difference(table_of(on_device, vectors ? on_device.vectors() : on_device.syn1neg()),
                                    table_of(on_processor, vectors ? on_processor.vectors() : on_processor.syn1neg())),
                 0.0, 1e-5);
  }
}

TEST(the_order_of_threads_does_not_matter) {
  const Tokens tokens = text_of(30, 10, 15);
  for (const std::int64_t size : {100, 700}) {
    std::vector<float> first;
    for (const Schedule schedule : {Schedule::round_robin, Schedule::round_robin_reversed, Schedule::one_warp,
                                    Schedule::one_warp_reversed, Schedule::shuffled}) {
      const InOrder order(schedule);
      Word2Vec model = model_of({options_of(size, true)});
      train_on_device(model, tokens, training_of());
      const std::vector<float> vectors = table_of(model, model.vectors());
      if (first.empty()) first = vectors;
      CHECK(first == vectors);
    }
  }
}

TEST(many_teams_share_the_work) {
  const Tokens tokens = text_of(60, 150, 40);
  for (const std::int64_t size : {40, 500}) {
    const Case c{options_of(size, true), 0.0, 60};
    Word2Vec one = model_of(c);
    Word2Vec many = model_of(c);
    Word2VecTraining training = training_of(0.0005F);
    const Word2VecResult expected = train_on_device(one, tokens, training);
    Word2VecDeviceOptions options;
    options.concurrency = 7;
    const Word2VecResult result = train_on_device(many, tokens, training, options);
    CHECK_EQ(result.trained_words, expected.trained_words);
    CHECK_NEAR(result.loss, expected.loss, 1e-3 * expected.loss);
    CHECK_NEAR(largest_difference(table_of(one, one.vectors()), table_of(many, many.vectors())), 0.0, 2e-5);
  }
}

TEST(pieces_and_residence_do_not_change_the_result) {
  const Tokens tokens = text_of(40, 60, 500);
  const auto size = static_cast<std::int64_t>(tokens.size());
  for (const bool sg : {true, false}) {
    const Case c{options_of(20, sg), 0.05, 40};
    Word2Vec whole = model_of(c);
    const Word2VecResult expected = train_on_device(whole, tokens, training_of());
    for (const bool resident : {true, false}) {
      Word2VecDeviceOptions options = one_team();
      options.piece_tokens = 50;
      options.resident_bytes = resident ? -1 : 0;
      Word2Vec model = model_of(c);
      Word2VecOnDevice device(model, options);
      const Word2VecIds ids(device, tokens.data(), size);
      CHECK_EQ(ids.resident(), resident);
      CHECK_EQ(ids.size(), size);
      std::vector<std::int64_t> done;
      Word2VecTraining training = training_of();
      training.progress_interval = 0.0;
      training.progress = [&](std::int64_t words, float) { done.push_back(words); };
      const Word2VecResult result = device.train(ids, training);
      device.download();
      CHECK_EQ(result.trained_words, expected.trained_words);
      CHECK_NEAR(result.loss, expected.loss, 1e-6 * expected.loss);
      // The learning rate of a piece begins in single precision.
      CHECK_NEAR(largest_difference(table_of(whole, whole.vectors()), table_of(model, model.vectors())), 0.0, 1e-6);
      CHECK(std::is_sorted(done.begin(), done.end()));
      CHECK(std::set<std::int64_t>(done.begin(), done.end()).size() > 4);
      CHECK_EQ(done.back(), size);
    }
  }
}

TEST(the_learning_rate_falls_over_several_calls) {
  const Tokens tokens = text_of(30, 20, 30);
  const auto size = static_cast<std::int64_t>(tokens.size());
  Word2Vec model = model_of({options_of(9, true)});
  Reference reference(model);
  Word2VecOnDevice device(model, one_team());
  for (int epoch = 0; epoch < 3; ++epoch) {
    Word2VecTraining training = training_of();
    training.epoch = epoch;
    training.words_done = epoch * size;
    training.words_total = 2 * size;  // the third epoch stays at min_alpha
    reference.train(tokens, training);
    float last = 0.0F;
    training.progress = [&](std::int64_t, float alpha) { last = alpha; };
    device.train(tokens.data(), size, training);
    CHECK_NEAR(static_cast<double>(last), epoch == 0 ? 0.0275 : 0.005, 1e-6);
  }
  device.download();
  CHECK_NEAR(difference_from(reference.vectors, model, model.vectors()), 0.0, 2e-5);
}

TEST(bfloat16_tables_round_at_random) {
  const Tokens tokens = text_of(30, 40, 40);
  for (const std::int64_t size : {50, 100, 400}) {
    Word2Vec exact = model_of({options_of(size, true)});
    Word2Vec rounded = model_of({options_of(size, true)});
    const std::vector<float> before = table_of(exact, exact.vectors());
    // Single steps are below half of the last bit, so that rounding to the nearest would lose every one of them.
    Word2VecTraining training = training_of(0.002F);
    training.min_alpha = training.alpha;
    Word2VecDeviceOptions options = one_team();
    options.tables = TablePrecision::bfloat16;
    for (int epoch = 0; epoch < 4; ++epoch) {
      training.epoch = epoch;
      train_on_device(exact, tokens, training);
    }
    {
      Word2VecOnDevice device(rounded, options);
      for (int epoch = 0; epoch < 4; ++epoch) {
        training.epoch = epoch;
        device.train(tokens.data(), static_cast<std::int64_t>(tokens.size()), training);
      }
      device.download();
    }
    const std::vector<float> a = table_of(exact, exact.vectors());
    const std::vector<float> b = table_of(rounded, rounded.vectors());
    double moved = 0.0;  // in the direction of the exact change, and as far as that
    double wanted = 0.0;
    for (std::size_t i = 0; i < a.size(); ++i) {
      const double step = static_cast<double>(a[i]) - static_cast<double>(before[i]);
      moved += step * (static_cast<double>(b[i]) - static_cast<double>(before[i]));
      wanted += step * step;
      std::uint32_t bits;
      std::memcpy(&bits, &b[i], sizeof bits);
      CHECK_EQ(bits & 0xFFFFU, 0U);
    }
    CHECK_NEAR(moved / wanted, 1.0, 0.1);
  }
}

TEST(half_precision_models_are_converted_on_their_way) {
  Word2VecOptions options = options_of(20, true);
  options.precision = Precision::float16;
  for (const TablePrecision tables : {TablePrecision::float32, TablePrecision::bfloat16}) {
    Word2Vec model(options, counts_of(30));
    Word2Vec untouched(options, counts_of(30));
    const std::size_t bytes = at(30 * model.row_stride()) * 2;
    Word2VecDeviceOptions device_options = one_team();
    device_options.tables = tables;
    {
      Word2VecOnDevice device(model, device_options);
      device.download();
    }
    const bool same = std::memcmp(model.vectors().get(), untouched.vectors().get(), bytes) == 0;
    CHECK_EQ(same, tables == TablePrecision::float32);
    train_on_device(model, text_of(30, 40, 40), training_of(0.5F), device_options);
    CHECK(std::memcmp(model.vectors().get(), untouched.vectors().get(), bytes) != 0);
  }
}

TEST(bad_arguments_are_refused_before_anything_changes) {
  Word2VecOptions options = options_of(10, true);
  options.hs = true;
  Word2Vec tree(options, counts_of(5));
  CHECK_THROWS(Word2VecOnDevice(tree), ValueError, "hs is true");
  Word2Vec large(options_of(1025, true), counts_of(5));
  CHECK_THROWS(Word2VecOnDevice(large), ValueError, "vector_size is 1025");
  Word2Vec model = model_of({options_of(10, true), 0.0, 5});
  Word2VecDeviceOptions device_options;
  device_options.device = 1;
  CHECK_THROWS(Word2VecOnDevice(model, device_options), DeviceError, "invalid device");
  device_options = {};
  device_options.concurrency = -1;
  CHECK_THROWS(Word2VecOnDevice(model, device_options), ValueError, "concurrency is -1");

  Word2VecOnDevice device(model);
  CHECK(device.concurrency() >= 1);
  const Tokens tokens = {0, 1, 5, -1};
  const std::vector<float> before = table_of(model, model.vectors());
  CHECK_THROWS(device.train(tokens.data(), 4, {}), ValueError, "tokens[2] is 5");
  CHECK_THROWS(Word2VecIds(device, tokens.data(), 4), ValueError, "tokens[2] is 5");
  Word2VecTraining training;
  training.deterministic = true;
  CHECK_THROWS(device.train(tokens.data(), 2, training), ValueError, "deterministic is true");
  training = {};
  training.alpha = -1.0F;
  CHECK_THROWS(device.train(tokens.data(), 2, training), ValueError, "alpha is -1");
  device.download();
  CHECK(before == table_of(model, model.vectors()));
  model.set_vocabulary(counts_of(6), 0.0, 0.75);
  CHECK_THROWS(device.upload(), ValueError, "the model has 6 words now, but had 5");
  CHECK_THROWS(device.download(), ValueError, "the model has 6 words now, but had 5");
}

TEST(too_little_memory_says_how_much_is_needed) {
  const Reset reset;
  const std::size_t in_use = convec::emulation::memory_in_use();
  const Case c{options_of(256, true), 0.0, 4000};
  Word2Vec model = model_of(c);
  const std::vector<float> before = table_of(model, model.vectors());
  convec::emulation::set_memory(std::size_t{1} << 22U);
  CHECK_THROWS(Word2VecOnDevice(model), DeviceError,
               "a model of 4000 words and vectors of 256 numbers needs 8 MB, but 4 MB of 4 MB are free; use bfloat16");
  CHECK_EQ(convec::emulation::memory_in_use(), in_use);
  convec::emulation::set_memory(std::size_t{9} << 20U);
  {
    Word2VecOnDevice device(model, one_team());
    Tokens tokens(100000, 1);
    CHECK_THROWS(device.train(tokens.data(), 100000, {}), DeviceError,
                 "a piece of 100000 tokens of whole sentences needs 7 MB");
    // And it goes on with what fits.
    Tokens short_text = {0, 1, 2};
    CHECK_EQ(device.train(short_text.data(), 3, training_of()).trained_words, 3);
  }
  CHECK_EQ(convec::emulation::memory_in_use(), in_use);
  CHECK(before == table_of(model, model.vectors()));
  CHECK(Word2VecOnDevice::memory_needed(model) > std::int64_t{8} * 1024 * 1024);
}

TEST(a_lost_device_leaves_the_model_as_it_was) {
  const Tokens tokens = text_of(30, 40, 40);
  for (const int launches : {0, 3, 6, 9, 15}) {
    const Reset reset;
    Word2Vec model = model_of({options_of(10, true)});
    const std::vector<float> vectors = table_of(model, model.vectors());
    const std::vector<float> outputs = table_of(model, model.syn1neg());
    Word2VecDeviceOptions options = one_team();
    options.piece_tokens = 40;
    {
      Word2VecOnDevice device(model, options);
      convec::emulation::lose_device_after(launches, cudaErrorIllegalAddress);
      CHECK_THROWS(device.train(tokens.data(), static_cast<std::int64_t>(tokens.size()), training_of()), DeviceError,
                   "illegal memory access");
      CHECK_THROWS(device.download(), DeviceError, "illegal memory access");
    }
    CHECK(vectors == table_of(model, model.vectors()));
    CHECK(outputs == table_of(model, model.syn1neg()));
  }
}

TEST(whatever_fails_leaves_the_model_as_it_was) {
  const Tokens tokens = text_of(30, 20, 40);
  // From the first allocation to the last copy.
  const auto train = [&](Word2Vec& model, bool resident) {
    Word2VecDeviceOptions options;
    options.concurrency = 2;
    options.piece_tokens = 40;
    options.resident_bytes = resident ? -1 : 0;
    Word2VecOnDevice device(model, options);
    const Word2VecIds ids(device, tokens.data(), static_cast<std::int64_t>(tokens.size()));
    for (int epoch = 0; epoch < 2; ++epoch) {
      Word2VecTraining training = training_of();
      training.epoch = epoch;
      device.train(ids, training);
    }
    device.download();
  };
  for (const Precision precision : {Precision::float32, Precision::float16})
    for (const bool resident : {true, false})
      for (const bool memory : {true, false}) {
        int point = 0;
        for (bool failed = true; failed; ++point) {
          const Reset reset;
          const std::size_t in_use = convec::emulation::memory_in_use();
          Word2VecOptions options = options_of(10, true);
          options.precision = precision;
          Word2Vec model(options, counts_of(30));
          const Word2Vec before(options, counts_of(30));
          const std::size_t bytes = at(30 * model.row_stride()) * (precision == Precision::float16 ? 2 : 4);
          const auto unchanged = [&] {
            return std::memcmp(model.vectors().get(), before.vectors().get(), bytes) == 0 &&
                   std::memcmp(model.syn1neg().get(), before.syn1neg().get(), bytes) == 0;
          };
          if (memory)
            convec::emulation::fail_allocation_after(point);
          else
            convec::emulation::lose_device_after(point);
          try {
            train(model, resident);
            failed = false;
          } catch (const DeviceError& error) {
            const std::string message = error.what();
            CHECK(message.find(memory ? " MB were asked for" : "the device was lost") != std::string::npos);
          }
          CHECK_EQ(unchanged(), failed);
          if (!memory || !failed) continue;
          // Nothing is left behind, and there is no harm done.
          CHECK_EQ(convec::emulation::memory_in_use(), in_use);
          train(model, resident);
          CHECK(!unchanged());
        }
        CHECK(point > 20);
      }
}

TEST(progress_that_throws_ends_training_soon) {
  const Tokens tokens = text_of(30, 200, 40);
  Word2Vec model = model_of({options_of(10, true)});
  Word2VecDeviceOptions options = one_team();
  options.piece_tokens = 40;
  Word2VecOnDevice device(model, options);
  Word2VecTraining training = training_of();
  training.progress_interval = 0.0;
  int calls = 0;
  training.progress = [&](std::int64_t, float) {
    if (++calls == 4) throw std::runtime_error("enough");
  };
  CHECK_THROWS(device.train(tokens.data(), static_cast<std::int64_t>(tokens.size()), training), std::runtime_error,
               "enough");
  CHECK_EQ(calls, 4);
  // It can go on afterwards.
  training.progress = {};
  Word2VecTraining again = training_of();
  CHECK(device.train(tokens.data(), static_cast<std::int64_t>(tokens.size()), again).trained_words > 500);
  device.download();
}

TEST_MAIN()
