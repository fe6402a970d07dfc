// The JSON reader: strict, and what it accepts is written and read back the same.
#include "fuzz.hpp"
#include "io/json.hpp"

using convec::fuzz::Input;
using convec::io::JsonReader;
using convec::io::JsonWriter;

namespace {

void read_back(const std::string& text) {
  JsonWriter writer;
  writer.value(text);
  JsonReader again(writer.text().data(), writer.text().size(), "again");
  FUZZ_CHECK(again.string() == text);
  again.finish();
}

void read_back(double number) {
  JsonWriter writer;
  writer.value(number);
  JsonReader again(writer.text().data(), writer.text().size(), "again");
  FUZZ_CHECK(again.number() == number);
  again.finish();
}

void read_object(JsonReader& json) {
  std::string key;
  json.begin_object();
  while (json.next_key(key)) {
    FUZZ_CHECK(convec::io::is_utf8(key.data(), key.size()));
    read_back(key);
    if (json.at_string())
      read_back(json.string());
    else if (!json.null())
      json.skip();
  }
}

void read(std::size_t what, std::string_view text) {
  JsonReader json(text.data(), text.size(), "the input");
  switch (what) {
    case 0:
      json.skip();
      break;
    case 1:
      read_back(json.string());
      break;
    case 2:
      read_back(json.number());
      break;
    case 3:
      FUZZ_CHECK(json.count() >= 0);
      break;
    case 4:
      json.boolean();
      break;
    case 5:
      read_object(json);
      break;
    default:
      json.begin_array();
      while (json.next_element()) json.skip();
  }
  json.finish();
}

std::vector<std::string> seeds() {
  const std::string deep(31, '[');
  std::vector<std::string> all;
  for (const std::string& text :
       {std::string(R"({"a": [1, -2.5e-3, true, false, null], "b\u00e9\ud83d\ude00": {"c": "d\n\\\"\/\b\f\r\t"}})"),
        std::string(R"(["\u0000\u007f", 0, 1e308, -0.0, 9223372036854775807, {}, []])"),
        deep + "0" + std::string(31, ']'), std::string("\"text \xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80\""),
        std::string("  9223372036854775807 "), std::string("-1.5E+10"), std::string("true")})
    for (char what = 0; what < 7; ++what) all.push_back(what + text);
  return all;
}

}  // namespace

FUZZ_TARGET(json, seeds) {
  const std::size_t what = input.below(7);
  const std::string_view text = input.rest();
  convec::fuzz::accepts(text.size(), [&] { read(what, text); });
}
