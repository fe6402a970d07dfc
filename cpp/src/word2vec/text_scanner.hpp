// What counting and encoding share: cutting text into pieces, handing them to the threads, and taking the pieces' ids
// in the order of the text.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <convec/vocabulary.hpp>

#include "word2vec/tokens.hpp"

namespace convec::word2vec {

class TextFile;

// Memory for the ids of many pieces, straight from the system: what is released goes back to it at once.
class IdBlock {
 public:
  // Throws std::bad_alloc.
  explicit IdBlock(std::int64_t capacity);
  ~IdBlock();
  IdBlock(const IdBlock&) = delete;
  IdBlock& operator=(const IdBlock&) = delete;

  std::int32_t* ids() noexcept { return ids_; }
  std::int64_t capacity() const noexcept { return capacity_; }

 private:
  std::int32_t* ids_;
  std::int64_t capacity_;
};

// The ids of a piece of text. Some elements in front are left free: encoding happens in place and may insert so many
// sentence ends.
class Ids {
 public:
  Ids() = default;
  Ids(std::shared_ptr<IdBlock> block, std::int32_t* memory, std::int64_t slack, std::int64_t size)
      : block_(std::move(block)), memory_(memory), slack_(slack), size_(size) {}

  std::int32_t* memory() const noexcept { return memory_; }
  const std::int32_t* begin() const noexcept { return memory_ + slack_; }
  std::int64_t size() const noexcept { return size_; }
  std::int64_t bytes() const noexcept { return (slack_ + size_) * static_cast<std::int64_t>(sizeof(std::int32_t)); }
  void release() noexcept { block_.reset(); }

 private:
  std::shared_ptr<IdBlock> block_;
  std::int32_t* memory_ = nullptr;
  std::int64_t slack_ = 0;
  std::int64_t size_ = 0;
};

struct Piece {
  PieceSummary summary;
  Ids ids;
  int worker = 0;  // whose ids they are
  std::int64_t max_sentence_length = 0;
};

class TextScanner {
 public:
  TextScanner();
  virtual ~TextScanner();
  TextScanner(const TextScanner&) = delete;
  TextScanner& operator=(const TextScanner&) = delete;

  void scan_file(const std::string& path, const TextOptions& options);
  void feed(std::string_view text, const TextOptions& options);
  void end_text();
  bool text_complete() const noexcept { return fed_.open && fed_.lines_left == 0; }
  void scan(const TokenList::Impl& list, std::int64_t max_sentence_length);

  std::int64_t raw_words() const noexcept { return raw_words_; }
  std::int64_t sentences() const noexcept { return sentences_; }

 protected:
  // One thread at a time, pieces in order.
  virtual bool sequential() const noexcept { return false; }
  // Called before workers call identify().
  virtual void before_identify() {}
  // Writes the ids of tokens; called by many workers at once, each with pieces in the order of the text.
  virtual void identify(int worker, const char* text, const Token* tokens, int count, std::int64_t position,
                        std::int64_t max_sentence_length, std::int32_t* ids) = 0;
  // Whether the pieces' ids are wanted.
  virtual bool wants_ids() const noexcept = 0;
  // Takes the pieces of the text so far, in order.
  virtual void take(std::vector<Piece>& pieces) = 0;

 private:
  struct Worker;
  struct Fed {
    bool open = false;
    TextOptions options;
    std::int64_t lines_left = -1;
    std::vector<char> text;  // what is not scanned yet, `size` bytes and the padding
    std::int64_t size = 0;
    std::int64_t wanted = 0;  // bytes to scan at once
  };

  template <typename Work>
  void for_pieces(std::int64_t count, Work&& work);
  Worker& worker(int index);
  void scan_piece(int index, const char* text, std::int64_t size, std::int64_t position, const TextOptions& options,
                  Piece& piece);
  void scan_regular(const TextFile& file, const TextOptions& options);
  void scan_fed(std::int64_t size);
  void take_text(std::vector<Piece>& pieces);
  void close_sentence(std::int64_t max_sentence_length);
  void report(const TextOptions& options, std::int64_t bytes_left);

  std::vector<std::unique_ptr<Worker>> workers_;
  std::int64_t raw_words_ = 0;
  std::int64_t sentences_ = 0;
  std::int64_t open_words_ = 0;  // of the line the next piece may go on with
  std::int64_t position_ = 0;    // orders tokens over all texts: at least one for every byte
  std::int64_t bytes_ = 0;
  std::chrono::steady_clock::time_point last_report_{};
  Fed fed_;
};

}  // namespace convec::word2vec

namespace convec {

struct TokenList::Impl {
  std::vector<char> text;  // `size` bytes and the padding
  std::size_t size = 0;
  std::vector<word2vec::Token> tokens;
  std::size_t ended = 0;  // tokens of ended sentences
  std::int64_t words = 0;
  std::int64_t sentences = 0;
};

}  // namespace convec
