/// @file cuda/word2vec.hpp
/// Word2Vec on an NVIDIA GPU: a model's tables live there while it trains. Programs link convec::cuda besides
/// convec::core.
#pragma once

#include <cstdint>
#include <memory>

#include <convec/tensor.hpp>
#include <convec/word2vec.hpp>

namespace convec::cuda {

/// Element type of the tables in device memory. Arithmetic is float32 always.
enum class TablePrecision : std::uint8_t {
  float32,  ///< as on the host
  bfloat16  ///< half the memory; updates are rounded up or down at random, by which they are right on average
};

/// How a model trains on a device.
struct Word2VecDeviceOptions {
  int device = 0;                                   ///< which, from 0
  TablePrecision tables = TablePrecision::float32;  ///< element type of the tables there
  /// Stretches of text in work at once, each by a team of threads of its own, which see each other's updates late
  /// (Hogwild). 1: one after the other, which always gives the same result. 0: as many as keep the device busy, but
  /// fewer where one word is so frequent that the late updates of its row would add up (see docs/word2vec.md).
  int concurrency = 0;
  /// Bytes of device memory that word numbers kept for several epochs may take; -1: what is free, less a reserve.
  std::int64_t resident_bytes = -1;
  /// Tokens that are handed to the device at once, in whole sentences; 0: about two million, fewer where negative is
  /// large.
  std::int64_t piece_tokens = 0;
};

class Word2VecOnDevice;

/// Word numbers for several epochs: checked once, and copied to the device where there is room; otherwise streamed
/// from the host's memory, which must live as long. Numbers that lie on the device already stay where they are.
class Word2VecIds {
 public:
  /// @param tokens `size` numbers, each sentence followed by -1 (the last one need not be)
  /// @throws ValueError a number is not in the model's vocabulary. @throws DeviceError
  Word2VecIds(const Word2VecOnDevice& model, const std::int32_t* tokens, std::int64_t size);
  /// Numbers in the memory of the model's device, which are neither copied nor moved: the memory must live as long,
  /// and stay as it is. Returns when they have been checked.
  /// @param tokens (size,) int32, as above
  /// @param stream whose work so far makes them (a cudaStream_t; null: the default stream)
  /// @throws DTypeError, ShapeError they are not int32, or have not one dimension. @throws ValueError a number is not
  /// in the model's vocabulary. @throws DeviceError they are elsewhere, or the device fails.
  Word2VecIds(const Word2VecOnDevice& model, const ConstTensorView& tokens, void* stream = nullptr);
  ~Word2VecIds();
  Word2VecIds(Word2VecIds&&) noexcept;             ///< leaves the other empty
  Word2VecIds& operator=(Word2VecIds&&) noexcept;  ///< leaves the other empty

  std::int64_t size() const noexcept;  ///< numbers, ends of sentences included
  /// Whether they are in device memory.
  bool resident() const noexcept;

 private:
  friend class Word2VecOnDevice;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// A model's tables on a device. The model on the host changes in download() alone, and there as a whole, so that
/// whatever goes wrong on the device leaves it as it was. Not thread-safe. The model must outlive it, and keep its
/// vocabulary.
///
/// Every random number is that of the processor's trainer: which words are left out, how wide windows are, and the
/// negatives. Windows are trained one after the other within a stretch of text, and each context word of a skip-gram
/// window is met as the one before left it.
class Word2VecOnDevice {
 public:
  static constexpr std::int64_t largest_vector_size = 1024;  ///< that a device trains

  /// Takes device memory and copies the tables there.
  /// @throws ValueError the model has hierarchical softmax or larger vectors, or an option is out of range.
  /// @throws DeviceError no such device, or not enough memory on it; the message says how much is needed.
  explicit Word2VecOnDevice(Word2Vec& model, const Word2VecDeviceOptions& options = {});
  ~Word2VecOnDevice();
  Word2VecOnDevice(Word2VecOnDevice&&) noexcept;             ///< leaves the other empty
  Word2VecOnDevice& operator=(Word2VecOnDevice&&) noexcept;  ///< leaves the other empty

  /// Copies the model's tables to the device once more. @throws DeviceError
  void upload();
  /// Copies the tables back into the model. @throws DeviceError; the model is as it was then. @throws std::bad_alloc
  void download();

  /// As Word2Vec::train(); `workers` has no meaning here. Words are counted as done when a piece is, and a `progress`
  /// that throws ends training within milliseconds.
  /// @throws ValueError as Word2Vec::train(), or deterministic is asked for with a concurrency other than 1.
  /// @throws DeviceError
  Word2VecResult train(const std::int32_t* tokens, std::int64_t size, const Word2VecTraining& training);
  /// The same, on numbers kept for several epochs.
  Word2VecResult train(const Word2VecIds& ids, const Word2VecTraining& training);

  /// Stretches in work at once: what `concurrency` came to.
  int concurrency() const noexcept;
  /// Bytes of device memory that a model needs, without word numbers: tables, and room for pieces of text.
  static std::int64_t memory_needed(const Word2Vec& model, const Word2VecDeviceOptions& options = {});

 private:
  friend class Word2VecIds;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace convec::cuda
