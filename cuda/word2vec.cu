// The host's side of Word2Vec on a GPU: memory, and feeding pieces of text.
#include <convec/cuda/word2vec.hpp>

#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <convec/error.hpp>

#include "runtime.hpp"
#include "word2vec/check.hpp"
#include "word2vec/draws.hpp"
#include "word2vec_kernels.hpp"

namespace convec::cuda {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::int64_t usual_piece_tokens = std::int64_t{1} << 21U;
constexpr std::int64_t smallest_piece_tokens = std::int64_t{1} << 15U;
// Of scratch memory for one piece, which negative may drive up: two numbers a negative and token.
constexpr std::int64_t most_piece_bytes = std::int64_t{1} << 28U;
// Device memory that resident word numbers leave to others.
constexpr std::int64_t reserve_bytes = std::int64_t{1} << 29U;
// Numbers of a table that are converted at once on their way.
constexpr std::int64_t slab_numbers = std::int64_t{1} << 24U;
// Teams that work on windows with the same word at once, on average, by default: each moves the word's rows from where
// they were before the others did. Estimated from the processor's trainer, not measured on a GPU.
constexpr double most_meetings = 32.0;
constexpr auto poll_interval = std::chrono::microseconds(100);

std::int64_t bytes_of(TablePrecision precision) { return precision == TablePrecision::bfloat16 ? 2 : 4; }
std::int64_t bytes_of(Precision precision) { return precision == Precision::float16 ? 2 : 4; }

// Scratch memory of a piece, for each of its tokens.
std::int64_t piece_bytes(int negative) {
  constexpr std::int64_t arrays = 6;  // tokens, words, offsets, sentences, begin, end
  return 4 * (arrays + 2 * static_cast<std::int64_t>(negative));
}

std::int64_t piece_tokens(const Word2Vec& model, const Word2VecDeviceOptions& options) {
  if (options.piece_tokens > 0) return options.piece_tokens;
  return std::clamp(most_piece_bytes / piece_bytes(model.options().negative), smallest_piece_tokens,
                    usual_piece_tokens);
}

std::int64_t table_bytes(const Word2Vec& model, TablePrecision precision) {
  return 2 * model.vocabulary_size() * model.row_stride() * bytes_of(precision);
}

void check_options(const Word2Vec& model, const Word2VecDeviceOptions& options) {
  if (model.options().hs)
    throw ValueError(
        "hs is true, but hierarchical softmax is trained on the cpu only: set hs to false and negative, e.g. to 5, or "
        "train on the cpu");
  if (model.options().vector_size > Word2VecOnDevice::largest_vector_size)
    throw ValueError("vector_size is " + std::to_string(model.options().vector_size) +
                     ", but a CUDA device trains vectors of at most " +
                     std::to_string(Word2VecOnDevice::largest_vector_size) + " numbers; train on the cpu");
  word2vec::check_range(options.device, 0, std::numeric_limits<int>::max(), "device");
  word2vec::check_range(options.concurrency, 0, 1 << 20, "concurrency");
  word2vec::check_range<std::int64_t>(options.piece_tokens, 0, std::int64_t{1} << 30, "piece_tokens");
  word2vec::check_range<std::int64_t>(options.resident_bytes, -1, std::numeric_limits<std::int64_t>::max(),
                                      "resident_bytes");
}

// The largest share of a word of the text after sub-sampling.
double largest_share(const Word2Vec& model) {
  const std::vector<std::uint32_t>& thresholds = model.sample_thresholds();
  double total = 0.0;
  double largest = 0.0;
  for (std::size_t i = 0; i < model.counts().size(); ++i) {
    double kept = static_cast<double>(model.counts()[i]);
    if (!thresholds.empty()) kept *= static_cast<double>(thresholds[i]) / 4294967296.0;
    total += kept;
    largest = std::max(largest, kept);
  }
  return total > 0.0 ? largest / total : 1.0;
}

// Cuts a text into pieces of whole sentences: about `piece` tokens, more where a sentence is longer. Returns where they
// begin, and the end.
template <typename Tokens>
std::vector<std::int64_t> cut(Tokens&& tokens, std::int64_t size, std::int64_t piece) {
  std::vector<std::int64_t> cuts = {0};
  while (cuts.back() < size) {
    const std::int64_t begin = cuts.back();
    std::int64_t end = std::min(begin + piece, size);
    if (end < size) {
      while (end > begin && tokens[end - 1] >= 0) --end;
      if (end == begin)
        for (end = begin + piece; end < size && tokens[end - 1] >= 0;) ++end;
    }
    cuts.push_back(end);
  }
  return cuts;
}

// Single numbers of a text on a device, fetched a stretch at a time.
class FetchedTokens {
 public:
  FetchedTokens(const std::int32_t* tokens, std::int64_t size, cudaStream_t stream)
      : tokens_(tokens), size_(size), stream_(stream) {}

  std::int32_t operator[](std::int64_t index) {
    if (index < first_ || index >= first_ + static_cast<std::int64_t>(stretch_.size())) fetch(index);
    return stretch_[static_cast<std::size_t>(index - first_)];
  }

 private:
  void fetch(std::int64_t index) {
    constexpr std::int64_t length = 4096;
    first_ = index / length * length;
    stretch_.resize(static_cast<std::size_t>(std::min(length, size_ - first_)));
    check(cudaMemcpyAsync(stretch_.data(), tokens_ + first_, stretch_.size() * sizeof(std::int32_t),
                          cudaMemcpyDeviceToHost, stream_),
          "a copy from the device");
    check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
  }

  const std::int32_t* tokens_;
  std::int64_t size_;
  cudaStream_t stream_;
  std::int64_t first_ = 0;
  std::vector<std::int32_t> stretch_;
};

std::int64_t longest_piece(const std::vector<std::int64_t>& cuts) {
  std::int64_t longest = 0;
  for (std::size_t i = 1; i < cuts.size(); ++i) longest = std::max(longest, cuts[i] - cuts[i - 1]);
  return longest;
}

// Device memory of a piece of text.
struct PieceMemory {
  std::int64_t capacity = 0;  // tokens
  DeviceBuffer<std::int32_t> words;
  DeviceBuffer<std::int32_t> offsets;
  DeviceBuffer<std::int32_t> sentences;
  DeviceBuffer<std::int32_t> begin;
  DeviceBuffer<std::int32_t> end;
  DeviceBuffer<std::int32_t> samples;
  DeviceBuffer<float> weights;
  DeviceBuffer<std::uint64_t> tiles;

  PieceMemory() = default;
  PieceMemory(int device, std::int64_t tokens, int negative)
      : capacity(tokens),
        words(device, tokens),
        offsets(device, tokens),
        sentences(device, tokens),
        begin(device, tokens),
        end(device, tokens),
        samples(device, tokens * negative),
        weights(device, tokens * negative),
        tiles(device, word2vec_tiles(tokens)) {}
};

// A piece of text in work: two take turns, so that one is copied and drawn while the other trains.
struct Slot {
  explicit Slot(int device) : stream(device), trained(device), kept(device, 1), next(device, 1), kept_host(1) {}

  Stream stream;
  Event trained;
  DeviceBuffer<std::int32_t> kept;
  DeviceBuffer<std::uint32_t> next;
  PinnedBuffer<std::int32_t> kept_host;
  PieceMemory memory;
  // Of word numbers that are not resident.
  PinnedBuffer<std::int32_t> host_tokens;
  DeviceBuffer<std::int32_t> tokens;
  std::int64_t in_work = 0;  // tokens; 0: idle
};

}  // namespace

struct Word2VecIds::Impl {
  const std::int32_t* tokens;
  std::int64_t size;
  std::vector<std::int64_t> cuts;
  DeviceBuffer<std::int32_t> copy;
  const std::int32_t* on_device = nullptr;  // the copy, or what was there; null: streamed
};

struct Word2VecOnDevice::Impl {
  Impl(Word2Vec& the_model, const Word2VecDeviceOptions& the_options);

  void copy_to_table(const void* from, void* to, std::int64_t size);
  void copy_from_table(const void* from, void* to, std::int64_t size);
  Word2VecResult train(const std::int32_t* tokens, const std::int32_t* on_device, const std::vector<std::int64_t>& cuts,
                       const Word2VecTraining& training);

  std::int64_t numbers() const { return model->vocabulary_size() * model->row_stride(); }
  bool same_format() const {
    return model->options().precision == Precision::float32 && options.tables == TablePrecision::float32;
  }

  Word2Vec* model;
  Word2VecDeviceOptions options;
  std::int64_t words;  // of the vocabulary when the tables were made
  DeviceBuffer<std::byte> vectors;
  DeviceBuffer<std::byte> outputs;
  DeviceBuffer<std::uint32_t> thresholds;
  DeviceBuffer<cpu::AliasEntry> negatives;
  DeviceBuffer<std::int32_t> stop;
  DeviceBuffer<double> loss;
  std::optional<Word2VecUpdate> update;
  Slot slots[2];
  Stream stopping;
};

namespace {

// One training call: hands out the pieces and reports progress.
class Feed {
 public:
  Feed(Slot (&slots)[2], const Word2VecTraining& training, std::int64_t size)
      : slots_(slots),
        training_(training),
        total_(training.words_total > 0 ? training.words_total : std::max<std::int64_t>(size, 1)) {}

  // The learning rate after so many tokens of this call.
  double alpha(std::int64_t tokens) const {
    const double done = static_cast<double>(training_.words_done + tokens) / static_cast<double>(total_);
    const auto start = static_cast<double>(training_.alpha);
    return start - (start - static_cast<double>(training_.min_alpha)) * std::min(done, 1.0);
  }
  // What it falls by at each token.
  double slope() const {
    return (static_cast<double>(training_.alpha) - static_cast<double>(training_.min_alpha)) /
           static_cast<double>(total_);
  }

  // Waits for a slot's work and counts it. `progress` is called meanwhile, and may throw.
  void finish(Slot& slot) {
    if (slot.in_work == 0) return;
    for (;;) {
      const cudaError_t status = cudaStreamQuery(slot.stream.get());
      if (status == cudaSuccess) break;
      if (status != cudaErrorNotReady) check(status, "training on the device");
      report(false);
      std::this_thread::sleep_for(poll_interval);
    }
    count(slot);
    report(false);
  }

  // After an exception: waits without a report.
  void abandon() noexcept {
    for (Slot& slot : slots_) {
      if (cudaStreamSynchronize(slot.stream.get()) == cudaSuccess) count(slot);
      slot.in_work = 0;
    }
  }

  void report(bool last) {
    if (!training_.progress) return;
    const auto now = Clock::now();
    if (!last && std::chrono::duration<double>(now - reported_).count() < training_.progress_interval) return;
    reported_ = now;
    training_.progress(done_, static_cast<float>(alpha(done_)));
  }

  std::int64_t trained() const { return trained_; }

 private:
  void count(Slot& slot) noexcept {
    if (slot.in_work == 0) return;
    trained_ += *slot.kept_host.data();
    done_ += slot.in_work;
    slot.in_work = 0;
  }

  Slot (&slots_)[2];
  const Word2VecTraining& training_;
  std::int64_t total_;
  std::int64_t done_ = 0;
  std::int64_t trained_ = 0;
  Clock::time_point reported_ = Clock::now();
};

}  // namespace

Word2VecOnDevice::Impl::Impl(Word2Vec& the_model, const Word2VecDeviceOptions& the_options)
    : model(&the_model),
      options(the_options),
      words(the_model.vocabulary_size()),
      slots{Slot(the_options.device), Slot(the_options.device)},
      stopping(the_options.device) {
  const int device = options.device;
  const Word2VecOptions& o = model->options();
  require_memory(
      device, table_bytes(*model, options.tables) + 12 * words,
      "a model of " + std::to_string(words) + " words and vectors of " + std::to_string(o.vector_size) + " numbers",
      options.tables == TablePrecision::float32 ? "use bfloat16 tables, smaller vectors or fewer words"
                                                : "use smaller vectors or fewer words");
  vectors = DeviceBuffer<std::byte>(device, numbers() * bytes_of(options.tables));
  outputs = DeviceBuffer<std::byte>(device, numbers() * bytes_of(options.tables));
  stop = DeviceBuffer<std::int32_t>(device, 1);
  loss = DeviceBuffer<double>(device, 1);
  const cudaStream_t stream = slots[0].stream.get();
  const auto copy_in = [&](auto& buffer, const auto& from) {
    buffer = std::decay_t<decltype(buffer)>(device, static_cast<std::int64_t>(from.size()));
    check(cudaMemcpyAsync(buffer.data(), from.data(), from.size() * sizeof(from[0]), cudaMemcpyHostToDevice, stream),
          "a copy to the device");
  };
  if (!model->sample_thresholds().empty()) copy_in(thresholds, model->sample_thresholds());
  std::vector<std::uint32_t> alias_thresholds;
  std::vector<std::int32_t> aliases;
  model->negative_table(alias_thresholds, aliases);
  std::vector<cpu::AliasEntry> table(aliases.size());
  for (std::size_t i = 0; i < table.size(); ++i) table[i] = {alias_thresholds[i], aliases[i]};
  copy_in(negatives, table);
  slots[0].stream.wait();
  const double most = std::max(1.0, most_meetings / largest_share(*model));
  update.emplace(device, o.sg, static_cast<std::int32_t>(o.vector_size), o.negative, options.tables,
                 options.concurrency, static_cast<std::int64_t>(std::min(most, 1e9)));
}

void Word2VecOnDevice::Impl::copy_to_table(const void* from, void* to, std::int64_t size) {
  const cudaStream_t stream = slots[0].stream.get();
  const Precision format = model->options().precision;
  const auto bytes = static_cast<std::size_t>(bytes_of(format));
  if (same_format()) {
    check(cudaMemcpyAsync(to, from, static_cast<std::size_t>(size) * bytes, cudaMemcpyHostToDevice, stream),
          "a copy to the device");
    slots[0].stream.wait();
    return;
  }
  const std::int64_t slab = std::min(size, slab_numbers);
  const DeviceBuffer<std::byte> staged(options.device, slab * bytes_of(format));
  for (std::int64_t first = 0; first < size; first += slab) {
    const std::int64_t count = std::min(slab, size - first);
    check(cudaMemcpyAsync(staged.data(), static_cast<const std::byte*>(from) + first * bytes_of(format),
                          static_cast<std::size_t>(count) * bytes, cudaMemcpyHostToDevice, stream),
          "a copy to the device");
    convert_to_table(format, staged.data(), options.tables,
                     static_cast<std::byte*>(to) + first * bytes_of(options.tables), count, options.device, stream);
  }
  slots[0].stream.wait();
}

void Word2VecOnDevice::Impl::copy_from_table(const void* from, void* to, std::int64_t size) {
  const cudaStream_t stream = slots[0].stream.get();
  const Precision format = model->options().precision;
  const auto bytes = static_cast<std::size_t>(bytes_of(format));
  if (same_format()) {
    check(cudaMemcpyAsync(to, from, static_cast<std::size_t>(size) * bytes, cudaMemcpyDeviceToHost, stream),
          "a copy from the device");
    slots[0].stream.wait();
    return;
  }
  const std::int64_t slab = std::min(size, slab_numbers);
  const DeviceBuffer<std::byte> staged(options.device, slab * bytes_of(format));
  for (std::int64_t first = 0; first < size; first += slab) {
    const std::int64_t count = std::min(slab, size - first);
    convert_from_table(options.tables, static_cast<const std::byte*>(from) + first * bytes_of(options.tables), format,
                       staged.data(), count, options.device, stream);
    check(cudaMemcpyAsync(static_cast<std::byte*>(to) + first * bytes_of(format), staged.data(),
                          static_cast<std::size_t>(count) * bytes, cudaMemcpyDeviceToHost, stream),
          "a copy from the device");
  }
  slots[0].stream.wait();
}

Word2VecResult Word2VecOnDevice::Impl::train(const std::int32_t* tokens, const std::int32_t* on_device,
                                             const std::vector<std::int64_t>& cuts, const Word2VecTraining& training) {
  const Word2VecOptions& o = model->options();
  Feed feed(slots, training, cuts.back());
  const std::int64_t longest = longest_piece(cuts);
  for (Slot& slot : slots) {
    if (longest > slot.memory.capacity) {
      slot.memory = {};
      require_memory(options.device, longest * piece_bytes(o.negative),
                     "a piece of " + std::to_string(longest) + " tokens of whole sentences",
                     "use a smaller piece_tokens, or cut long sentences by a -1");
      slot.memory = PieceMemory(options.device, longest, o.negative);
    }
    if (on_device == nullptr && longest > slot.tokens.size()) {
      slot.tokens = {};
      slot.host_tokens = {};
      slot.tokens = DeviceBuffer<std::int32_t>(options.device, longest);
      slot.host_tokens = PinnedBuffer<std::int32_t>(longest);
    }
  }
  const cudaStream_t first_stream = slots[0].stream.get();
  check(cudaMemsetAsync(stop.data(), 0, sizeof(std::int32_t), first_stream), "cudaMemsetAsync");
  check(cudaMemsetAsync(loss.data(), 0, sizeof(double), first_stream), "cudaMemsetAsync");
  slots[0].stream.wait();

  const Word2VecDrawSettings draws{o.seed,
                                   static_cast<std::uint64_t>(training.epoch),
                                   thresholds.data(),
                                   negatives.data(),
                                   words,
                                   o.window,
                                   o.shrink_windows,
                                   o.negative,
                                   word2vec::pool_size_for(o.negative)};
  Word2VecUpdateSettings settings{};
  settings.vectors = vectors.data();
  settings.outputs = outputs.data();
  settings.row_size = model->row_stride();
  settings.vector_size = static_cast<std::int32_t>(o.vector_size);
  settings.negative = o.negative;
  settings.cbow_mean = o.cbow_mean;
  settings.seed = o.seed;
  settings.epoch = static_cast<std::uint64_t>(training.epoch);
  settings.slope = static_cast<float>(feed.slope());
  settings.last_alpha = training.min_alpha;
  settings.stop = stop.data();
  settings.loss = training.compute_loss ? loss.data() : nullptr;

  Word2VecResult result;
  try {
    for (std::size_t number = 0; number + 1 < cuts.size(); ++number) {
      const std::int64_t begin = cuts[number];
      const std::int64_t size = cuts[number + 1] - begin;
      Slot& slot = slots[number % 2];
      const Slot& before = slots[1 - number % 2];
      const cudaStream_t stream = slot.stream.get();
      feed.finish(slot);
      Word2VecPiece piece{};
      if (on_device != nullptr) {
        piece.tokens = on_device + begin;
      } else {
        std::copy_n(tokens + begin, size, slot.host_tokens.data());
        check(cudaMemcpyAsync(slot.tokens.data(), slot.host_tokens.data(),
                              static_cast<std::size_t>(size) * sizeof(std::int32_t), cudaMemcpyHostToDevice, stream),
              "a copy to the device");
        piece.tokens = slot.tokens.data();
      }
      piece.size = static_cast<std::int32_t>(size);
      piece.position = training.position + begin;
      piece.kept = slot.kept.data();
      piece.next = slot.next.data();
      piece.tiles = slot.memory.tiles.data();
      piece.words = slot.memory.words.data();
      piece.offsets = slot.memory.offsets.data();
      piece.sentences = slot.memory.sentences.data();
      piece.begin = slot.memory.begin.data();
      piece.end = slot.memory.end.data();
      piece.samples = slot.memory.samples.data();
      piece.weights = slot.memory.weights.data();
      draw_word2vec_piece(options.device, draws, piece, stream);
      // Pieces are drawn at the same time, but trained in their order.
      if (number > 0) before.trained.hold(stream);
      settings.alpha = static_cast<float>(feed.alpha(begin));
      (*update)(piece, settings, stream);
      slot.trained.record(stream);
      check(cudaMemcpyAsync(slot.kept_host.data(), slot.kept.data(), sizeof(std::int32_t), cudaMemcpyDeviceToHost,
                            stream),
            "a copy from the device");
      slot.in_work = size;
    }
    for (std::size_t turn = cuts.size() - 1; turn < cuts.size() + 1; ++turn) feed.finish(slots[turn % 2]);
    feed.report(true);
  } catch (...) {
    // Teams in work end after the chunk they are at.
    static_cast<void>(cudaMemsetAsync(stop.data(), 0x01, sizeof(std::int32_t), stopping.get()));
    static_cast<void>(cudaStreamSynchronize(stopping.get()));
    feed.abandon();
    throw;
  }
  result.trained_words = feed.trained();
  check(cudaMemcpyAsync(&result.loss, loss.data(), sizeof(double), cudaMemcpyDeviceToHost, first_stream),
        "a copy from the device");
  slots[0].stream.wait();
  return result;
}

Word2VecIds::Word2VecIds(const Word2VecOnDevice& model, const std::int32_t* tokens, std::int64_t size)
    : impl_(std::make_unique<Impl>()) {
  const Word2VecOnDevice::Impl& on_device = *model.impl_;
  word2vec::check_tokens(tokens, size, on_device.words);
  impl_->tokens = tokens;
  impl_->size = size;
  impl_->cuts = cut(tokens, size, piece_tokens(*on_device.model, on_device.options));
  const int device = on_device.options.device;
  const DeviceGuard guard(device);
  const auto bytes = static_cast<std::int64_t>(static_cast<std::size_t>(size) * sizeof(std::int32_t));
  std::int64_t room = on_device.options.resident_bytes;
  if (room < 0) {
    std::size_t free = 0;
    std::size_t total = 0;
    check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
    room = static_cast<std::int64_t>(free) - reserve_bytes -
           2 * longest_piece(impl_->cuts) * piece_bytes(on_device.model->options().negative);
  }
  if (bytes == 0 || bytes > room) return;
  impl_->copy = DeviceBuffer<std::int32_t>(device, size);
  check(cudaMemcpy(impl_->copy.data(), tokens, static_cast<std::size_t>(bytes), cudaMemcpyHostToDevice),
        "a copy to the device");
  impl_->on_device = impl_->copy.data();
}

Word2VecIds::Word2VecIds(const Word2VecOnDevice& model, const ConstTensorView& tokens, void* stream)
    : impl_(std::make_unique<Impl>()) {
  const Word2VecOnDevice::Impl& on_device = *model.impl_;
  const int device = on_device.options.device;
  if (tokens.dtype != DType::int32)
    throw DTypeError(std::string("tokens is ") + name_of(tokens.dtype) + ", but must be int32");
  if (tokens.shape.rank() != 1)
    throw ShapeError("tokens has " + std::to_string(tokens.shape.rank()) + " dimensions, but must have 1");
  if (tokens.device != Device{DeviceType::cuda, device})
    throw DeviceError("tokens is on " + to_string(tokens.device) +
                      ", but the model is on cuda:" + std::to_string(device) + "; move one of them");
  const DeviceGuard guard(device);
  const Stream own(device);
  Event made(device);
  made.record(static_cast<cudaStream_t>(stream));
  made.hold(own.get());
  const auto* data = static_cast<const std::int32_t*>(tokens.data);
  const std::int64_t size = tokens.shape[0];
  FetchedTokens fetched(data, size, own.get());
  const std::int64_t bad = find_bad_token(device, data, size, on_device.words, own.get());
  if (bad >= 0) word2vec::refuse_token(bad, fetched[bad], on_device.words);
  impl_->tokens = nullptr;
  impl_->size = size;
  impl_->cuts = cut(fetched, size, piece_tokens(*on_device.model, on_device.options));
  // What is longer than a piece is one sentence and its end.
  if (longest_piece(impl_->cuts) > word2vec::longest_sentence + 1) word2vec::refuse_sentence();
  if (size > 0) impl_->on_device = data;
}
Word2VecIds::~Word2VecIds() = default;
Word2VecIds::Word2VecIds(Word2VecIds&&) noexcept = default;
Word2VecIds& Word2VecIds::operator=(Word2VecIds&&) noexcept = default;

std::int64_t Word2VecIds::size() const noexcept { return impl_->size; }
bool Word2VecIds::resident() const noexcept { return impl_->on_device != nullptr; }

Word2VecOnDevice::Word2VecOnDevice(Word2Vec& model, const Word2VecDeviceOptions& options) {
  check_options(model, options);
  const DeviceGuard guard(options.device);
  impl_ = std::make_unique<Impl>(model, options);
  upload();
}
Word2VecOnDevice::~Word2VecOnDevice() = default;
Word2VecOnDevice::Word2VecOnDevice(Word2VecOnDevice&&) noexcept = default;
Word2VecOnDevice& Word2VecOnDevice::operator=(Word2VecOnDevice&&) noexcept = default;

namespace {

void check_vocabulary(const Word2Vec& model, std::int64_t words) {
  if (model.vocabulary_size() != words)
    throw ValueError("the model has " + std::to_string(model.vocabulary_size()) + " words now, but had " +
                     std::to_string(words) + " when its tables were made on the device; make them anew");
}

}  // namespace

void Word2VecOnDevice::upload() {
  check_vocabulary(*impl_->model, impl_->words);
  const DeviceGuard guard(impl_->options.device);
  impl_->copy_to_table(impl_->model->vectors().get(), impl_->vectors.data(), impl_->numbers());
  impl_->copy_to_table(impl_->model->syn1neg().get(), impl_->outputs.data(), impl_->numbers());
}

void Word2VecOnDevice::download() {
  check_vocabulary(*impl_->model, impl_->words);
  const DeviceGuard guard(impl_->options.device);
  const std::int64_t numbers = impl_->numbers();
  const auto bytes = static_cast<std::size_t>(numbers * bytes_of(impl_->model->options().precision));
  // Both are here before the model changes.
  std::vector<std::byte> vectors(bytes);
  std::vector<std::byte> outputs(bytes);
  impl_->copy_from_table(impl_->vectors.data(), vectors.data(), numbers);
  impl_->copy_from_table(impl_->outputs.data(), outputs.data(), numbers);
  std::memcpy(impl_->model->vectors().get(), vectors.data(), bytes);
  std::memcpy(impl_->model->syn1neg().get(), outputs.data(), bytes);
}

namespace {

void check_call(const Word2VecTraining& training, int concurrency) {
  word2vec::check_training(training);
  if (training.deterministic && concurrency != 1)
    throw ValueError(
        "deterministic is true, but a CUDA device works on many stretches of text at once, and its result depends on "
        "their timing; train on the cpu, or with a concurrency of 1");
}

}  // namespace

Word2VecResult Word2VecOnDevice::train(const std::int32_t* tokens, std::int64_t size,
                                       const Word2VecTraining& training) {
  check_call(training, impl_->options.concurrency);
  word2vec::check_tokens(tokens, size, impl_->words);
  const DeviceGuard guard(impl_->options.device);
  return impl_->train(tokens, nullptr, cut(tokens, size, piece_tokens(*impl_->model, impl_->options)), training);
}

Word2VecResult Word2VecOnDevice::train(const Word2VecIds& ids, const Word2VecTraining& training) {
  check_call(training, impl_->options.concurrency);
  const DeviceGuard guard(impl_->options.device);
  return impl_->train(ids.impl_->tokens, ids.impl_->on_device, ids.impl_->cuts, training);
}

int Word2VecOnDevice::concurrency() const noexcept { return impl_->update->teams(); }

std::int64_t Word2VecOnDevice::memory_needed(const Word2Vec& model, const Word2VecDeviceOptions& options) {
  check_options(model, options);
  return table_bytes(model, options.tables) + 12 * model.vocabulary_size() +
         2 * piece_tokens(model, options) * piece_bytes(model.options().negative);
}

}  // namespace convec::cuda
