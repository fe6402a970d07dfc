// Reads the file formats of the original word2vec tool.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>

#include <convec/error.hpp>
#include <convec/vectors.hpp>

#include "cpu/thread_pool.hpp"
#include "vectors/denormals.hpp"

namespace convec {

namespace {

using std::int64_t;

// A header is two numbers; what has no line break within this is none.
constexpr std::size_t longest_header = 256;
// Beyond this a "word" is a sign of the wrong format, and waiting for its end would hold the whole file.
constexpr std::size_t longest_word = 1'048'576;
constexpr std::size_t longest_number = 64;
constexpr int64_t largest_dim = 1'048'576;
// Bytes of text a task.
constexpr std::size_t task_bytes = 524'288;
constexpr int64_t task_records = 1024;

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\v' || c == '\f'; }

std::string_view trim_end(std::string_view text) {
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

// The next run of characters other than blanks, taken off the front of `text`.
std::string_view next_token(std::string_view& text) {
  std::size_t begin = 0;
  while (begin < text.size() && is_space(text[begin])) ++begin;
  std::size_t end = begin;
  while (end < text.size() && !is_space(text[end])) ++end;
  const std::string_view token = text.substr(begin, end - begin);
  text.remove_prefix(end);
  return token;
}

// A piece of the file for a message: short, and printable.
std::string quoted(std::string_view text) {
  constexpr std::size_t most = 40;
  std::string result = "'";
  for (const char c : text.substr(0, most)) {
    const auto byte = static_cast<unsigned char>(c);
    result += byte >= 0x20 && byte < 0x7F ? c : '?';
  }
  return result + (text.size() > most ? "...'" : "'");
}

bool parse_integer(std::string_view token, int64_t& value) {
  const auto [end, error] = std::from_chars(token.data(), token.data() + token.size(), value);
  return error == std::errc() && end == token.data() + token.size() && !token.empty();
}

// Beyond the range of float (double) a number becomes infinite, or zero.
template <typename Float>
bool parse_number(std::string_view token, Float& value) {
  if (!token.empty() && token.front() == '+') token.remove_prefix(1);
  const char* first = token.data();
  const char* last = first + token.size();
  const auto [end, error] = std::from_chars(first, last, value);
  if (error == std::errc()) return end == last;
  if (error != std::errc::result_out_of_range || end != last) return false;
  const bool negative = token.front() == '-';
  if constexpr (std::is_same_v<Float, float>) {
    double wide = 0;
    if (std::from_chars(first, last, wide).ec == std::errc()) {
      const bool tiny = std::abs(wide) < 1;
      value = tiny ? 0.0F : std::numeric_limits<float>::infinity();
      if (negative) value = -value;
      return true;
    }
  }
  const std::size_t exponent = token.find_first_of("eE");
  const bool tiny = exponent != std::string_view::npos && token.substr(exponent).find('-') != std::string_view::npos;
  value = tiny ? Float{0} : std::numeric_limits<Float>::infinity();
  if (negative) value = -value;
  return true;
}

// Memory that grows in place where that is possible.
class Memory {
 public:
  Memory() = default;
  ~Memory() { std::free(data_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  void* data() const noexcept { return data_; }
  void resize(std::size_t bytes) {
    void* moved = std::realloc(data_, std::max<std::size_t>(bytes, 1));
    if (moved == nullptr) throw std::bad_alloc();
    data_ = moved;
  }
  void* take() noexcept { return std::exchange(data_, nullptr); }

 private:
  void* data_ = nullptr;
};

// What went wrong first, by line, in a region where every task reads its own lines.
struct LineError {
  int64_t line = -1;
  std::string message;
};

// Consecutive lines that one task parses.
struct Segment {
  std::size_t begin = 0, end = 0;
  int64_t first_line = 0, lines = 0;
  std::string words;
  std::vector<int64_t> word_sizes;
  LineError error;
};

}  // namespace

struct Word2VecReader::State {
  Word2VecFormat format;
  int64_t size = -1;
  bool started = false;
  bool finished = false;
  int64_t header_bytes = 0;
  int64_t promised = 0;
  int64_t rows = 0;
  int64_t first = 0;  // of the rows that are held
  int64_t dim = 0;
  std::vector<char> words;
  std::vector<int64_t> word_ends;
  Memory vectors;
  int64_t capacity = 0;

  std::size_t element() const { return format.float64 && !format.binary ? sizeof(double) : sizeof(float); }
  int64_t left() const { return promised - rows; }
  int64_t line_of(int64_t row) const { return row + (format.no_header ? 1 : 2); }

  // Memory for rows up to `end`.
  void reserve(int64_t end) {
    const int64_t wanted = end - first;
    if (wanted <= capacity) return;
    // Never more than is promised, and no more than twice what has been seen.
    const int64_t target = std::min(promised - first, std::max(wanted, 2 * capacity));
    const std::size_t bytes = static_cast<std::size_t>(target) * static_cast<std::size_t>(dim) * element();
    vectors.resize(bytes);
    capacity = target;
  }

  // Bytes consumed; 0 where more are needed.
  std::size_t start(std::string_view data, bool last) {
    if (format.no_header) return start_without_header(data, last);
    const std::size_t end = data.substr(0, longest_header).find('\n');
    if (end == std::string_view::npos) {
      if (data.size() < longest_header && !last) return 0;
      if (data.empty()) throw EofError("the file is empty, but must start with the number of vectors and their size");
      throw ValueError(bad_header(data));
    }
    std::string_view line = data.substr(0, end);
    const std::string_view rows_token = next_token(line);
    const std::string_view dim_token = next_token(line);
    int64_t count = 0;
    if (!parse_integer(rows_token, count) || !parse_integer(dim_token, dim) || !trim_end(line).empty())
      throw ValueError(bad_header(data.substr(0, end)));
    if (count < 0 || dim < 1 || dim > largest_dim)
      throw ValueError("the header promises " + std::to_string(count) + " vectors of " + std::to_string(dim) +
                       " numbers; there must be at least 0 vectors of 1 to " + std::to_string(largest_dim) +
                       " numbers");
    promised = format.limit < 0 ? count : std::min(count, format.limit);
    header_bytes = static_cast<int64_t>(end) + 1;
    if (size >= 0) {
      // Least bytes a vector: a space and one digit a number and a line break, which the last line may lack.
      const int64_t least = format.binary ? 4 * dim + 1 : 2 * dim + 1;
      const int64_t rest = size - header_bytes + (format.binary ? 0 : 1);
      if (promised > rest / least)
        throw EofError("the header promises " + std::to_string(count) + " vectors of " + std::to_string(dim) +
                       " numbers, but the file of " + std::to_string(size) +
                       " bytes is too short for that; it is damaged, or its header is wrong");
      if (!format.pieces) reserve(promised);
    }
    started = true;
    return end + 1;
  }

  static std::string bad_header(std::string_view line) {
    return "the first line is " + quoted(line) +
           ", but must be the number of vectors and their size; no_header=True reads text without such a line";
  }

  std::size_t start_without_header(std::string_view data, bool last) {
    std::size_t end = data.find('\n');
    if (end == std::string_view::npos) {
      if (!last) {
        if (data.size() > longest_word + longest_number * largest_dim) throw ValueError("the first line has no end");
        return 0;
      }
      end = data.size();
    }
    std::string_view line = trim_end(data.substr(0, end));
    if (line.empty() && last && end == data.size()) throw EofError("the file is empty");
    line.remove_prefix(std::min(line.size(), line.find(' ')));
    while (!next_token(line).empty()) ++dim;
    if (dim < 1 || dim > largest_dim)
      throw ValueError("line 1 has " + std::to_string(dim) + " numbers after its word, but must have 1 to " +
                       std::to_string(largest_dim));
    promised = format.limit < 0 ? std::numeric_limits<int64_t>::max() : format.limit;
    started = true;
    return 0;
  }

  std::size_t read_text(std::string_view data, bool last) {
    // Whole lines only, unless nothing follows. Where their number is not promised, empty ones may end the file: they
    // are left until more is known.
    const std::size_t used = format.no_header ? trim_end(data).size() : data.size();
    std::size_t end = used;
    if (!last && used > 0) {
      std::size_t line_break = format.no_header ? data.find('\n', used) : std::string_view::npos;
      if (line_break == std::string_view::npos) line_break = data.substr(0, used).rfind('\n');
      end = line_break == std::string_view::npos ? 0 : line_break + 1;
    }
    if (end == 0) {
      if (data.size() > longest_word + longest_number * static_cast<std::size_t>(dim))
        throw ValueError("line " + std::to_string(line_of(rows)) + " has no end within " + std::to_string(data.size()) +
                         " bytes; is this the text format? binary=True reads the other");
      return 0;
    }
    std::vector<Segment> segments = cut(data.substr(0, end));
    int64_t lines = 0;
    for (Segment& segment : segments) {
      segment.first_line = lines;
      segment.lines = std::min(segment.lines, left() - lines);
      lines += segment.lines;
    }
    // Numbers take two bytes each at least: what does not fit is refused before memory is taken for it.
    if (lines > (static_cast<int64_t>(end) + 1) / (2 * dim + 1)) report_short_line(data.substr(0, end));
    reserve(rows + lines);
    std::vector<std::size_t> ends(segments.size());
    cpu::parallel_for(static_cast<int64_t>(segments.size()), [&](int64_t index, int) {
      const KeepDenormals keep;
      Segment& segment = segments[static_cast<std::size_t>(index)];
      ends[static_cast<std::size_t>(index)] =
          format.float64 ? parse<double>(data, segment) : parse<float>(data, segment);
    });
    for (const Segment& segment : segments)
      if (segment.error.line >= 0) throw ValueError(segment.error.message);
    std::size_t consumed = 0;
    for (std::size_t i = 0; i < segments.size() && segments[i].lines > 0; ++i) {
      words.insert(words.end(), segments[i].words.begin(), segments[i].words.end());
      for (const int64_t word_size : segments[i].word_sizes)
        word_ends.push_back((word_ends.empty() ? 0 : word_ends.back()) + word_size);
      consumed = ends[i];
    }
    rows += lines;
    return consumed;
  }

  // Segments of about task_bytes that end with a line, and their numbers of lines.
  static std::vector<Segment> cut(std::string_view data) {
    std::vector<Segment> segments;
    for (std::size_t begin = 0; begin < data.size();) {
      std::size_t end = data.size();
      if (end - begin > task_bytes) {
        const std::size_t line_break = data.find('\n', begin + task_bytes);
        if (line_break != std::string_view::npos) end = line_break + 1;
      }
      Segment segment;
      segment.begin = begin;
      segment.end = end;
      segments.push_back(std::move(segment));
      begin = end;
    }
    cpu::parallel_for(static_cast<int64_t>(segments.size()), [&](int64_t index, int) {
      Segment& segment = segments[static_cast<std::size_t>(index)];
      segment.lines = std::count(data.begin() + static_cast<std::ptrdiff_t>(segment.begin),
                                 data.begin() + static_cast<std::ptrdiff_t>(segment.end), '\n');
      if (data[segment.end - 1] != '\n') ++segment.lines;
    });
    return segments;
  }

  // Where the last line read ends.
  template <typename Float>
  std::size_t parse(std::string_view data, Segment& segment) {
    std::size_t position = segment.begin;
    for (int64_t i = 0; i < segment.lines; ++i) {
      const std::size_t line_break = std::min(data.find('\n', position), segment.end);
      const int64_t row = rows + segment.first_line + i;
      parse_line(trim_end(data.substr(position, line_break - position)), row,
                 static_cast<Float*>(vectors.data()) + (row - first) * dim, segment);
      if (segment.error.line >= 0) return position;
      position = std::min(line_break + 1, segment.end);
    }
    return position;
  }

  template <typename Float>
  void parse_line(std::string_view line, int64_t row, Float* vector, Segment& segment) const {
    const std::size_t space = std::min(line.find(' '), line.size());
    const std::string_view word = line.substr(0, space);
    std::string_view numbers = line.substr(space);
    for (int64_t k = 0; k < dim; ++k) {
      const std::string_view token = next_token(numbers);
      if (token.empty()) return count_error(line, row, segment);
      if (!parse_number(token, vector[k])) {
        segment.error = {row, "line " + std::to_string(line_of(row)) + ": " + quoted(token) +
                                  " is not a number; is this the text format? binary=True reads the other"};
        return;
      }
    }
    if (!numbers.empty()) return count_error(line, row, segment);
    if (word.size() > longest_word) {
      segment.error = {row, "the word of line " + std::to_string(line_of(row)) + " has " + std::to_string(word.size()) +
                                " bytes, but at most " + std::to_string(longest_word) + " are read"};
      return;
    }
    segment.words.append(word);
    segment.word_sizes.push_back(static_cast<int64_t>(word.size()));
  }

  void count_error(std::string_view line, int64_t row, Segment& segment) const {
    int64_t count = 0;
    std::string_view numbers = line.substr(std::min(line.find(' '), line.size()));
    while (!next_token(numbers).empty()) ++count;
    segment.error = {row, "line " + std::to_string(line_of(row)) + " has " + std::to_string(count) +
                              " numbers after its word, but line 1 promises " + std::to_string(dim) + " a vector"};
  }

  [[noreturn]] void report_short_line(std::string_view data) {
    Segment segment;
    std::vector<float> vector(static_cast<std::size_t>(dim));
    int64_t row = rows;
    for (std::size_t begin = 0; begin < data.size() && segment.error.line < 0; ++row) {
      const std::size_t end = std::min(data.find('\n', begin), data.size());
      parse_line(trim_end(data.substr(begin, end - begin)), row, vector.data(), segment);
      begin = end + 1;
    }
    throw ValueError(segment.error.message);
  }

  std::size_t read_binary(std::string_view data) {
    struct Record {
      std::size_t word, word_end;
    };
    const std::size_t bytes = static_cast<std::size_t>(dim) * sizeof(float);
    std::vector<Record> records;
    std::size_t position = 0;
    while (static_cast<int64_t>(records.size()) < left()) {
      std::size_t word = position;
      while (word < data.size() && data[word] == '\n') ++word;
      const std::size_t space = data.substr(word, longest_word + 1).find(' ');
      if (space == std::string_view::npos) {
        if (data.size() - word > longest_word)
          throw ValueError("the word of vector " + std::to_string(rows + static_cast<int64_t>(records.size()) + 1) +
                           " has no end within " + std::to_string(longest_word) +
                           " bytes; is this the binary format, and the vectors' size right?");
        break;
      }
      if (data.size() - (word + space + 1) < bytes) break;
      records.push_back({word, word + space});
      position = word + space + 1 + bytes;
    }
    const auto count = static_cast<int64_t>(records.size());
    reserve(rows + count);
    char* target = static_cast<char*>(vectors.data()) + static_cast<std::size_t>(rows - first) * bytes;
    cpu::parallel_for_range(count, task_records, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        std::memcpy(target + static_cast<std::size_t>(i) * bytes,
                    data.data() + records[static_cast<std::size_t>(i)].word_end + 1, bytes);
    });
    for (const Record& record : records) {
      words.insert(words.end(), data.data() + record.word, data.data() + record.word_end);
      word_ends.push_back(static_cast<int64_t>(words.size()));
    }
    rows += count;
    return position;
  }

  // Text that is read as bytes gives vectors of the promised number and size, too, long before its end: whether
  // nothing but line breaks follows is looked at where all vectors are read.
  bool ends_with_vectors() const { return format.binary && format.limit < 0; }

  std::size_t read_end(std::string_view data) const {
    if (data.find_first_not_of("\r\n") != std::string_view::npos)
      throw ValueError("the file goes on after the last of the " + std::to_string(promised) +
                       " vectors that its header promises; is this the binary format? binary=False reads text, and "
                       "limit= reads so many vectors and no further");
    return data.size();
  }
};

Word2VecReader::Word2VecReader(const Word2VecFormat& format, int64_t size) : state_(std::make_unique<State>()) {
  if (format.binary && format.no_header)
    throw ValueError("no_header reads text only: without a header the size of binary vectors is unknown");
  state_->format = format;
  state_->size = size;
}

Word2VecReader::~Word2VecReader() = default;

std::size_t Word2VecReader::read(const char* data, std::size_t size, bool last) {
  State& s = *state_;
  if (s.format.pieces) {
    s.words.clear();
    s.word_ends.clear();
    s.first = s.rows;
  }
  std::size_t consumed = 0;
  const std::string_view all(data, size);
  if (!s.started) {
    consumed = s.start(all, last);
    if (!s.started) return 0;
  }
  if (!s.finished) {
    if (s.left() > 0) {
      const std::string_view rest = all.substr(consumed);
      consumed += s.format.binary ? s.read_binary(rest) : s.read_text(rest, last);
    }
    s.finished = s.left() == 0;
    if (s.finished && s.ends_with_vectors()) {
      consumed += s.read_end(all.substr(consumed));
      s.finished = last;
    }
    if (last && !s.finished) {
      if (!s.format.no_header)
        throw EofError("the file ends after " + std::to_string(s.rows) + " of the " + std::to_string(s.promised) +
                       " vectors wanted; it is damaged, or its header's count is wrong");
      s.finished = true;
      s.promised = s.rows;
    }
  }
  return consumed;
}

bool Word2VecReader::done() const noexcept { return state_->finished; }
int64_t Word2VecReader::promised() const noexcept { return state_->format.no_header ? state_->rows : state_->promised; }
int64_t Word2VecReader::rows() const noexcept { return state_->rows - state_->first; }
int64_t Word2VecReader::dim() const noexcept { return state_->dim; }
const std::vector<char>& Word2VecReader::words() const noexcept { return state_->words; }
const std::vector<int64_t>& Word2VecReader::word_ends() const noexcept { return state_->word_ends; }

std::unique_ptr<void, void (*)(void*)> Word2VecReader::take_vectors() {
  state_->capacity = 0;
  return {state_->vectors.take(), &std::free};
}

}  // namespace convec
