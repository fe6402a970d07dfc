// JSON, read as a stream: the caller says what must come next, so nothing is built that it did not ask for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace convec::io {

// Whether the bytes are UTF-8 without overlong forms and surrogates.
bool is_utf8(const char* text, std::size_t size) noexcept;

// A text from a file for a message: in quotes, cut where long, control characters replaced.
std::string quoted(const std::string& text);

// Strict: RFC 8259 and nothing beyond it. Every member throws ValueError "<source>: ... (byte 12)" where the text is
// not what was asked for, or is nested more deeply than max_depth.
class JsonReader {
 public:
  static constexpr int max_depth = 32;

  // The text is not copied. Throws ValueError where it is not UTF-8.
  JsonReader(const char* text, std::size_t size, std::string source);

  // {"key": value, ...}: begin_object(), then next_key() and the value until next_key() is false.
  void begin_object();
  bool next_key(std::string& key);
  // [value, ...]: begin_array(), then the value as long as next_element() is true.
  void begin_array();
  bool next_element();

  std::string string();
  bool boolean();
  double number();
  // A whole number without fraction or exponent in [0, 2^63).
  std::int64_t count();
  // Whether the next value is a string, which is not read.
  bool at_string() noexcept { return peek() == '"'; }
  // Whether the next value is null, which is then read.
  bool null();
  // Reads any value and forgets it.
  void skip();
  // Nothing but white space may follow.
  void finish();

  [[noreturn]] void fail(const std::string& what) const;

 private:
  char peek() noexcept;
  void expect(char wanted, const char* what);
  bool next(char end);
  void open(char bracket, const char* what);
  void word(const char* text);
  unsigned hex4();
  const char* number_end() const;

  const char* begin_;
  const char* at_;
  const char* end_;
  std::string source_;
  int depth_ = 0;
  std::uint64_t first_ = 0;  // bit d: nothing has been read yet of the object or array at depth d
};

// Writes JSON without white space. Commas are its business.
class JsonWriter {
 public:
  JsonWriter& begin_object() { return open('{'); }
  JsonWriter& end_object() { return close('}'); }
  JsonWriter& begin_array() { return open('['); }
  JsonWriter& end_array() { return close(']'); }
  JsonWriter& key(const std::string& name);
  JsonWriter& value(const std::string& text);
  JsonWriter& value(const char* text) { return value(std::string(text)); }
  JsonWriter& value(std::int64_t number);
  // The shortest text that reads back as the same number. Not for NaN and infinities, which JSON has not.
  JsonWriter& value(double number);
  JsonWriter& value(float number);
  JsonWriter& value(bool truth);

  const std::string& text() const noexcept { return text_; }

 private:
  JsonWriter& open(char bracket);
  JsonWriter& close(char bracket);
  void separate();
  void quote(const std::string& text);

  std::string text_;
  bool first_ = true;
};

}  // namespace convec::io
