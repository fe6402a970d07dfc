#include "io/json.hpp"

#include <charconv>
#include <cmath>
#include <cstring>
#include <utility>

#include <convec/error.hpp>

namespace convec::io {

namespace {

bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }

void append_utf8(std::string& text, unsigned code) {
  const auto put = [&text](unsigned byte) { text += static_cast<char>(byte); };
  if (code < 0x80U) {
    put(code);
  } else if (code < 0x800U) {
    put(0xC0U | code >> 6U);
    put(0x80U | (code & 0x3FU));
  } else if (code < 0x10000U) {
    put(0xE0U | code >> 12U);
    put(0x80U | (code >> 6U & 0x3FU));
    put(0x80U | (code & 0x3FU));
  } else {
    put(0xF0U | code >> 18U);
    put(0x80U | (code >> 12U & 0x3FU));
    put(0x80U | (code >> 6U & 0x3FU));
    put(0x80U | (code & 0x3FU));
  }
}

}  // namespace

bool is_utf8(const char* text, std::size_t size) noexcept {
  const auto* at = reinterpret_cast<const unsigned char*>(text);
  const unsigned char* const end = at + size;
  while (at < end) {
    const unsigned first = *at++;
    if (first < 0x80U) continue;
    int more = 0;
    unsigned code = 0;
    unsigned least = 0;
    if (first >> 5U == 0x6U) {
      more = 1;
      code = first & 0x1FU;
      least = 0x80U;
    } else if (first >> 4U == 0xEU) {
      more = 2;
      code = first & 0xFU;
      least = 0x800U;
    } else if (first >> 3U == 0x1EU) {
      more = 3;
      code = first & 0x7U;
      least = 0x10000U;
    } else {
      return false;
    }
    if (end - at < more) return false;
    for (; more > 0; --more) {
      const unsigned byte = *at++;
      if (byte >> 6U != 0x2U) return false;
      code = code << 6U | (byte & 0x3FU);
    }
    if (code < least || code > 0x10FFFFU || (code >= 0xD800U && code < 0xE000U)) return false;
  }
  return true;
}

std::string quoted(const std::string& text) {
  constexpr std::size_t longest = 80;
  std::string shown = "'";
  std::size_t cut = std::min(text.size(), longest);
  // Not in the middle of a character.
  while (cut < text.size() && cut > 0 && (static_cast<unsigned char>(text[cut]) & 0xC0U) == 0x80U) --cut;
  for (const char c : text.substr(0, cut)) shown += static_cast<unsigned char>(c) < 0x20U || c == '\x7F' ? '?' : c;
  if (cut < text.size()) shown += "...";
  return shown + "'";
}

// ---- Reading ----

JsonReader::JsonReader(const char* text, std::size_t size, std::string source)
    : begin_(text), at_(text), end_(text + size), source_(std::move(source)) {
  if (!is_utf8(text, size)) throw ValueError(source_ + " is not UTF-8 text");
}

void JsonReader::fail(const std::string& what) const {
  throw ValueError(source_ + ": " + what + " (byte " + std::to_string(at_ - begin_) + ")");
}

char JsonReader::peek() noexcept {
  while (at_ < end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\r' || *at_ == '\t')) ++at_;
  return at_ < end_ ? *at_ : '\0';
}

void JsonReader::expect(char wanted, const char* what) {
  if (peek() != wanted || at_ == end_) fail(std::string("expected ") + what);
  ++at_;
}

void JsonReader::open(char bracket, const char* what) {
  expect(bracket, what);
  if (depth_ == max_depth) fail("nested more than " + std::to_string(max_depth) + " deep");
  first_ |= std::uint64_t{1} << static_cast<unsigned>(depth_);
  ++depth_;
}

// Whether another member follows in the object or array that ends with `end`.
bool JsonReader::next(char end) {
  const std::uint64_t bit = std::uint64_t{1} << static_cast<unsigned>(depth_ - 1);
  const char c = peek();
  if (c == end) {
    ++at_;
    --depth_;
    first_ &= ~bit;
    return false;
  }
  if ((first_ & bit) == 0) expect(',', end == '}' ? "',' or '}'" : "',' or ']'");
  first_ &= ~bit;
  return true;
}

void JsonReader::begin_object() { open('{', "an object"); }

bool JsonReader::next_key(std::string& key) {
  if (!next('}')) return false;
  key = string();
  expect(':', "':'");
  return true;
}

void JsonReader::begin_array() { open('[', "an array"); }

bool JsonReader::next_element() { return next(']'); }

unsigned JsonReader::hex4() {
  unsigned value = 0;
  for (int digit = 0; digit < 4; ++digit, ++at_) {
    const char c = at_ < end_ ? *at_ : '\0';
    value <<= 4U;
    if (is_digit(c))
      value |= static_cast<unsigned>(c - '0');
    else if (c >= 'a' && c <= 'f')
      value |= static_cast<unsigned>(c - 'a' + 10);
    else if (c >= 'A' && c <= 'F')
      value |= static_cast<unsigned>(c - 'A' + 10);
    else
      fail("expected four hexadecimal digits");
  }
  return value;
}

std::string JsonReader::string() {
  expect('"', "a string");
  // Escapes only make the text shorter, so one allocation is enough.
  const char* close = at_;
  while (close < end_ && *close != '"') close += *close == '\\' ? 2 : 1;
  if (close >= end_) fail("a string has no end");
  std::string text;
  text.reserve(static_cast<std::size_t>(close - at_));
  while (*at_ != '"') {
    const char c = *at_++;
    if (static_cast<unsigned char>(c) < 0x20U) fail("a control character in a string");
    if (c != '\\') {
      text += c;
      continue;
    }
    const char escape = *at_++;
    switch (escape) {
      case '"':
      case '\\':
      case '/':
        text += escape;
        break;
      case 'b':
        text += '\b';
        break;
      case 'f':
        text += '\f';
        break;
      case 'n':
        text += '\n';
        break;
      case 'r':
        text += '\r';
        break;
      case 't':
        text += '\t';
        break;
      case 'u': {
        unsigned code = hex4();
        if (code >= 0xD800U && code < 0xDC00U && end_ - at_ > 2 && at_[0] == '\\' && at_[1] == 'u') {
          at_ += 2;
          const unsigned low = hex4();
          if (low < 0xDC00U || low >= 0xE000U) fail("half a surrogate pair");
          code = 0x10000U + ((code - 0xD800U) << 10U) + (low - 0xDC00U);
        }
        if (code >= 0xD800U && code < 0xE000U) fail("half a surrogate pair");
        append_utf8(text, code);
        break;
      }
      default:
        fail("an escape that JSON has not");
    }
  }
  ++at_;
  return text;
}

void JsonReader::word(const char* text) {
  const std::size_t size = std::strlen(text);
  if (static_cast<std::size_t>(end_ - at_) < size || std::memcmp(at_, text, size) != 0)
    fail(std::string("expected ") + text);
  at_ += size;
}

bool JsonReader::boolean() {
  const char c = peek();
  if (c == 't') {
    word("true");
    return true;
  }
  if (c != 'f') fail("expected true or false");
  word("false");
  return false;
}

bool JsonReader::null() {
  if (peek() != 'n') return false;
  word("null");
  return true;
}

// End of the number at at_, or at_ where there is none by JSON's grammar.
const char* JsonReader::number_end() const {
  const char* at = at_;
  const auto digits = [&at, this] {
    const char* const start = at;
    while (at < end_ && is_digit(*at)) ++at;
    return at > start;
  };
  if (at < end_ && *at == '-') ++at;
  if (at < end_ && *at == '0')
    ++at;
  else if (!digits())
    return at_;
  if (at < end_ && *at == '.') {
    ++at;
    if (!digits()) return at_;
  }
  if (at < end_ && (*at == 'e' || *at == 'E')) {
    ++at;
    if (at < end_ && (*at == '+' || *at == '-')) ++at;
    if (!digits()) return at_;
  }
  return at;
}

double JsonReader::number() {
  peek();
  const char* const end = number_end();
  double value = 0.0;
  if (end == at_) fail("expected a number");
  const auto [stop, error] = std::from_chars(at_, end, value);
  if (error != std::errc() || stop != end) fail("a number that does not fit");
  at_ = end;
  return value;
}

std::int64_t JsonReader::count() {
  peek();
  const char* const end = number_end();
  std::int64_t value = 0;
  if (end == at_ || *at_ == '-') fail("expected a whole number that is not negative");
  const auto [stop, error] = std::from_chars(at_, end, value);
  if (error != std::errc()) fail("a number that does not fit 63 bits");
  if (stop != end) fail("expected a whole number");
  at_ = end;
  return value;
}

void JsonReader::skip() {
  std::string key;
  switch (peek()) {
    case '{':
      begin_object();
      while (next_key(key)) skip();
      break;
    case '[':
      begin_array();
      while (next_element()) skip();
      break;
    case '"':
      string();
      break;
    case 't':
    case 'f':
      boolean();
      break;
    case 'n':
      null();
      break;
    default:
      number();
  }
}

void JsonReader::finish() {
  peek();
  if (at_ != end_) fail("expected the end");
}

// ---- Writing ----

void JsonWriter::separate() {
  if (!first_) text_ += ',';
  first_ = false;
}

void JsonWriter::quote(const std::string& text) {
  constexpr char hex[] = "0123456789abcdef";
  text_ += '"';
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      text_ += '\\';
      text_ += c;
    } else if (byte < 0x20U) {
      text_ += "\\u00";
      text_ += hex[byte >> 4U];
      text_ += hex[byte & 0xFU];
    } else {
      text_ += c;
    }
  }
  text_ += '"';
}

JsonWriter& JsonWriter::open(char bracket) {
  separate();
  text_ += bracket;
  first_ = true;
  return *this;
}

JsonWriter& JsonWriter::close(char bracket) {
  text_ += bracket;
  first_ = false;
  return *this;
}

JsonWriter& JsonWriter::key(const std::string& name) {
  separate();
  quote(name);
  text_ += ':';
  first_ = true;
  return *this;
}

JsonWriter& JsonWriter::value(const std::string& text) {
  separate();
  quote(text);
  return *this;
}

JsonWriter& JsonWriter::value(std::int64_t number) {
  separate();
  text_ += std::to_string(number);
  return *this;
}

namespace {

template <typename Number>
std::string shortest(Number number) {
  if (!std::isfinite(number)) throw ValueError("a number is NaN or infinite, which JSON has not");
  char digits[64];
  return {digits, std::to_chars(digits, digits + sizeof(digits), number).ptr};
}

}  // namespace

JsonWriter& JsonWriter::value(double number) {
  separate();
  text_ += shortest(number);
  return *this;
}

JsonWriter& JsonWriter::value(float number) {
  separate();
  text_ += shortest(number);
  return *this;
}

JsonWriter& JsonWriter::value(bool truth) {
  separate();
  text_ += truth ? "true" : "false";
  return *this;
}

}  // namespace convec::io
