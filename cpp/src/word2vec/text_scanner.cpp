#include "word2vec/text_scanner.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>

#include <convec/error.hpp>

#include "cpu/thread_pool.hpp"
#include "word2vec/system_memory.hpp"
#include "word2vec/text_file.hpp"
#include "word2vec/tokenizer.hpp"
#include "word2vec/word_table.hpp"

namespace convec::word2vec {

namespace {

// Pieces between two looks at the caller's wishes: 32 MB of text, a quarter of a second of one thread's work.
constexpr std::int64_t pieces_at_once = 128;
// Fed text is scanned when so much has come together.
constexpr std::int64_t fed_bytes = 16 * piece_bytes;
// The last word of a piece usually ends within so many bytes after it.
constexpr std::int64_t usual_overhang = 512;
constexpr std::int64_t tokens_of_list_piece = 32768;
constexpr std::size_t most_workers = 1024;
// Ids of about five pieces.
constexpr std::int64_t block_ids = 256 * 1024;

void check(const TextOptions& options) {
  if (options.max_sentence_length < 1)
    throw ValueError("max_sentence_length is " + std::to_string(options.max_sentence_length) +
                     ", but must be at least 1");
  if (!(options.progress_interval >= 0.0))
    throw ValueError("progress_interval is " + std::to_string(options.progress_interval) +
                     " seconds, but must be at least 0");
}

std::int64_t sentences_of(std::int64_t words, std::int64_t max_sentence_length) {
  return words == 0 ? 0 : (words - 1) / max_sentence_length + 1;
}

}  // namespace

IdBlock::IdBlock(std::int64_t capacity)
    : ids_(static_cast<std::int32_t*>(system_allocate(static_cast<std::size_t>(capacity) * sizeof(std::int32_t)))),
      capacity_(capacity) {}

IdBlock::~IdBlock() { system_free(ids_, static_cast<std::size_t>(capacity_) * sizeof(std::int32_t)); }

struct TextScanner::Worker {
  std::vector<char> text;
  std::vector<std::int32_t> ids;  // of the piece in work
  std::shared_ptr<IdBlock> block;
  std::int64_t block_used = 0;

  // A copy of the piece's ids to keep.
  Ids keep(std::int64_t size, std::int64_t slack) {
    if (block && block.use_count() == 1) block_used = 0;  // all that was in it has been released
    if (!block || block_used + slack + size > block->capacity()) {
      block = std::make_shared<IdBlock>(std::max(block_ids, slack + size));
      block_used = 0;
    }
    std::int32_t* memory = block->ids() + block_used;
    block_used += slack + size;
    std::copy_n(ids.data(), size, memory + slack);
    return {block, memory, slack, size};
  }
};

TextScanner::TextScanner() : workers_(most_workers) {}
TextScanner::~TextScanner() = default;

TextScanner::Worker& TextScanner::worker(int index) {
  std::unique_ptr<Worker>& worker = workers_[static_cast<std::size_t>(index)];
  if (!worker) worker = std::make_unique<Worker>();
  return *worker;
}

// Each worker gets pieces in the order of the text, whatever the pool's order: so the first occurrence that a worker
// sees of a word is its first of all.
template <typename Work>
void TextScanner::for_pieces(std::int64_t count, Work&& work) {
  before_identify();
  if (sequential()) {
    for (std::int64_t number = 0; number < count; ++number) work(number, 0);
    return;
  }
  std::atomic<std::int64_t> next{0};
  cpu::parallel_for(count, [&](std::int64_t, int index) { work(next.fetch_add(1, std::memory_order_relaxed), index); });
}

void TextScanner::scan_piece(int index, const char* text, std::int64_t size, std::int64_t position,
                             const TextOptions& options, Piece& piece) {
  std::vector<std::int32_t>& ids = worker(index).ids;
  std::size_t done = 0;
  piece.worker = index;
  piece.max_sentence_length = options.max_sentence_length;
  piece.summary = tokenize(text, size, options.lines, options.max_sentence_length, [&](const Token* tokens, int count) {
    if (ids.size() < done + static_cast<std::size_t>(count))
      ids.resize(2 * ids.size() + static_cast<std::size_t>(count));
    identify(index, text, tokens, count, position + static_cast<std::int64_t>(done), options.max_sentence_length,
             ids.data() + done);
    done += static_cast<std::size_t>(count);
  });
  if (wants_ids())
    piece.ids =
        worker(index).keep(static_cast<std::int64_t>(done), piece.summary.words / options.max_sentence_length + 1);
}

void TextScanner::scan_regular(const TextFile& file, const TextOptions& options) {
  const std::int64_t size = options.max_lines < 0 ? file.size() : file.bytes_of_lines(options.max_lines);
  const std::int64_t count = (size + piece_bytes - 1) / piece_bytes;
  std::vector<Piece> pieces;
  for (std::int64_t from = 0; from < count; from += pieces_at_once) {
    const std::int64_t pieces_now = std::min(pieces_at_once, count - from);
    pieces.clear();
    pieces.resize(static_cast<std::size_t>(pieces_now));
    // A piece has the words that begin in [begin, end) of the file: from the first end of white space at or after
    // `begin` to that at or after `end`. A piece in the midst of a long word has none and does not look for its end.
    for_pieces(pieces_now, [&](std::int64_t number, int index) {
      const std::int64_t begin = (from + number) * piece_bytes;
      const std::int64_t end = std::min(begin + piece_bytes, size);
      const std::int64_t origin = std::max<std::int64_t>(begin - 3, 0);  // white space is up to 3 bytes long
      std::int64_t length = std::min(end + usual_overhang, size) - origin;
      std::vector<char>& text = worker(index).text;
      text.resize(std::max(text.size(), static_cast<std::size_t>(length) + text_padding));
      file.read_at(origin, text.data(), length);
      const std::int64_t first = begin == 0 ? 0 : boundary_from(text.data(), length, begin - origin);
      if (first >= end - origin) return;
      std::int64_t last = boundary_from(text.data(), length, end - origin);
      while (last == length && origin + length < size) {
        if (length > piece_bytes + max_word_bytes) throw_long_word(file.path() + ": ");
        const std::int64_t more = std::min({length, size - origin - length, piece_bytes + max_word_bytes + 1 - length});
        text.resize(static_cast<std::size_t>(length + more) + text_padding);
        file.read_at(origin + length, text.data() + length, more);
        length += more;
        last = boundary_from(text.data(), length, length - more);
      }
      std::memset(text.data() + length, 0, text_padding);
      scan_piece(index, text.data() + first, last - first, position_ + origin + first, options,
                 pieces[static_cast<std::size_t>(number)]);
    });
    take_text(pieces);
    const std::int64_t done = std::min((from + pieces_now) * piece_bytes, size);
    bytes_ += done - from * piece_bytes;
    report(options, size - done);
  }
  position_ += size + 1;
}

void TextScanner::scan_file(const std::string& path, const TextOptions& options) {
  check(options);
  if (fed_.open) throw ValueError("a text is being fed; call end_text() before a file is read");
  const TextFile file(path);
  if (file.regular()) {
    scan_regular(file, options);
    close_sentence(options.max_sentence_length);
    return;
  }
  std::vector<char> buffer(static_cast<std::size_t>(piece_bytes));
  feed({}, options);
  while (!text_complete()) {
    const std::int64_t got = file.read_next(buffer.data(), static_cast<std::int64_t>(buffer.size()));
    if (got == 0) break;
    if (got == TextFile::nothing_yet) {
      report(options, 0);
      continue;
    }
    feed({buffer.data(), static_cast<std::size_t>(got)}, options);
  }
  end_text();
}

void TextScanner::feed(std::string_view text, const TextOptions& options) {
  if (!fed_.open) {
    check(options);
    fed_ = Fed{};
    fed_.options = options;
    fed_.lines_left = options.max_lines;
    fed_.wanted = fed_bytes;
    fed_.open = true;
  }
  if (fed_.lines_left >= 0) {
    std::size_t kept = 0;
    while (fed_.lines_left > 0 && kept < text.size()) {
      const std::size_t newline = text.find('\n', kept);
      if (newline == std::string_view::npos) {
        kept = text.size();
      } else {
        kept = newline + 1;
        --fed_.lines_left;
      }
    }
    text = text.substr(0, kept);
  }
  // Taken over bit by bit, so that a large piece is not copied as a whole.
  while (!text.empty()) {
    const std::size_t taken = std::min(text.size(), static_cast<std::size_t>(fed_bytes));
    const auto size = static_cast<std::size_t>(fed_.size);
    if (fed_.text.size() < size + taken + text_padding) fed_.text.resize(size + taken + text_padding);
    std::memcpy(fed_.text.data() + size, text.data(), taken);
    fed_.size += static_cast<std::int64_t>(taken);
    text.remove_prefix(taken);
    if (fed_.size < fed_.wanted) continue;
    const std::int64_t last = last_boundary(fed_.text.data(), fed_.size);
    if (fed_.size - last > max_word_bytes) throw_long_word("");
    scan_fed(last);
    // A long word is looked at again when it has doubled, or is too long.
    fed_.wanted = std::max(fed_bytes, std::min(2 * fed_.size, max_word_bytes + 1));
  }
}

// Scans the first `size` bytes of what was fed, which end with white space or are all.
void TextScanner::scan_fed(std::int64_t size) {
  if (size == 0) return;
  const char* text = fed_.text.data();
  std::vector<Piece> pieces(static_cast<std::size_t>((size + piece_bytes - 1) / piece_bytes));
  for_pieces(static_cast<std::int64_t>(pieces.size()), [&](std::int64_t number, int index) {
    const std::int64_t begin = number * piece_bytes;
    const std::int64_t end = std::min(begin + piece_bytes, size);
    const std::int64_t first = begin == 0 ? 0 : boundary_from(text, size, begin);
    if (first >= end) return;
    const std::int64_t last = boundary_from(text, size, end);
    scan_piece(index, text + first, last - first, position_ + first, fed_.options,
               pieces[static_cast<std::size_t>(number)]);
  });
  take_text(pieces);
  position_ += size + 1;
  bytes_ += size;
  std::memmove(fed_.text.data(), text + size, static_cast<std::size_t>(fed_.size - size));
  fed_.size -= size;
  report(fed_.options, 0);
}

void TextScanner::end_text() {
  if (!fed_.open) return;
  if (fed_.size > 0) {
    std::memset(fed_.text.data() + fed_.size, 0, text_padding);
    scan_fed(fed_.size);
  }
  close_sentence(fed_.options.max_sentence_length);
  fed_ = Fed{};
}

void TextScanner::scan(const TokenList::Impl& list, std::int64_t max_sentence_length) {
  TextOptions options;
  options.max_sentence_length = max_sentence_length;
  check(options);
  if (fed_.open) throw ValueError("a text is being fed; call end_text() before a list is read");
  const auto size = static_cast<std::int64_t>(list.ended);
  std::vector<Piece> pieces(static_cast<std::size_t>((size + tokens_of_list_piece - 1) / tokens_of_list_piece));
  for_pieces(static_cast<std::int64_t>(pieces.size()), [&](std::int64_t number, int index) {
    const std::int64_t begin = number * tokens_of_list_piece;
    const auto count = static_cast<int>(std::min(tokens_of_list_piece, size - begin));
    const Token* tokens = list.tokens.data() + begin;
    Piece& piece = pieces[static_cast<std::size_t>(number)];
    piece.worker = index;
    piece.max_sentence_length = max_sentence_length;
    PieceSummary& summary = piece.summary;
    for (int token = 0; token < count; ++token) {
      if (tokens[token].size < empty_sentence_end) {
        ++summary.words;
        ++summary.tail_words;
      } else {
        summary.has_line_end = true;
        summary.tail_words = 0;
      }
    }
    std::vector<std::int32_t>& ids = worker(index).ids;
    ids.resize(std::max(ids.size(), static_cast<std::size_t>(count)));
    // Lists are sentences as they are; only the corpus has them cut.
    identify(index, list.text.data(), tokens, count, position_ + begin, std::numeric_limits<std::int64_t>::max(),
             ids.data());
    if (wants_ids()) piece.ids = worker(index).keep(count, summary.words / max_sentence_length + 1);
  });
  for (const Piece& piece : pieces) raw_words_ += piece.summary.words;
  sentences_ += list.sentences;
  take(pieces);
  position_ += size;
}

// Adds up what pieces of text say of their sentences.
void TextScanner::take_text(std::vector<Piece>& pieces) {
  for (const Piece& piece : pieces) {
    const PieceSummary& summary = piece.summary;
    raw_words_ += summary.words;
    if (summary.has_line_end) {
      sentences_ += sentences_of(open_words_ + summary.head_words, piece.max_sentence_length) + summary.sentences;
      open_words_ = summary.tail_words;
    } else {
      open_words_ += summary.words;
    }
  }
  take(pieces);
}

void TextScanner::close_sentence(std::int64_t max_sentence_length) {
  if (open_words_ == 0) return;
  std::vector<Piece> pieces(1);
  pieces[0].summary.has_line_end = true;
  pieces[0].max_sentence_length = max_sentence_length;
  const Token token{0, line_end};
  std::vector<std::int32_t>& ids = worker(0).ids;
  ids.resize(std::max<std::size_t>(ids.size(), 1));
  before_identify();
  identify(0, "", &token, 1, position_, max_sentence_length, ids.data());
  if (wants_ids()) pieces[0].ids = worker(0).keep(1, 1);
  take_text(pieces);
}

void TextScanner::report(const TextOptions& options, std::int64_t bytes_left) {
  if (!options.progress) return;
  const auto now = std::chrono::steady_clock::now();
  if (std::chrono::duration<double>(now - last_report_).count() < options.progress_interval) return;
  last_report_ = now;
  options.progress({bytes_, bytes_ + bytes_left, raw_words_, sentences_});
}

}  // namespace convec::word2vec

namespace convec {

TokenList::TokenList() : impl_(std::make_unique<Impl>()) { impl_->text.resize(word2vec::text_padding); }
TokenList::~TokenList() = default;
TokenList::TokenList(TokenList&&) noexcept = default;
TokenList& TokenList::operator=(TokenList&&) noexcept = default;

void TokenList::add(std::string_view word) {
  constexpr std::size_t most_bytes = 0xF0000000U;  // of the text of a list
  if (word.size() > static_cast<std::size_t>(word2vec::max_word_bytes))
    throw ValueError("a word has " + std::to_string(word.size()) + " bytes, but may have at most " +
                     std::to_string(word2vec::max_word_bytes));
  Impl& list = *impl_;
  if (list.size + word.size() > most_bytes)
    throw ValueError("a list of words is longer than 3.75 GiB; count or encode it in several lists");
  const std::size_t needed = list.size + word.size() + word2vec::text_padding;
  if (list.text.size() < needed) list.text.resize(2 * needed);
  if (!word.empty()) std::memcpy(list.text.data() + list.size, word.data(), word.size());
  list.tokens.push_back({static_cast<std::uint32_t>(list.size), static_cast<std::uint32_t>(word.size())});
  list.size += word.size();
  ++list.words;
}

void TokenList::end_sentence() {
  Impl& list = *impl_;
  const bool empty = list.tokens.size() == list.ended;
  list.tokens.push_back({0, empty ? word2vec::empty_sentence_end : word2vec::line_end});
  list.ended = list.tokens.size();
  ++list.sentences;
}

void TokenList::clear() noexcept {
  impl_->size = 0;
  impl_->tokens.clear();
  impl_->ended = 0;
  impl_->words = 0;
  impl_->sentences = 0;
}

std::int64_t TokenList::words() const noexcept { return impl_->words; }
std::int64_t TokenList::sentences() const noexcept { return impl_->sentences; }
std::int64_t TokenList::bytes() const noexcept { return static_cast<std::int64_t>(impl_->size); }

}  // namespace convec
