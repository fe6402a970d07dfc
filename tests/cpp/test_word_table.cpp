// The parts behind counting and encoding: the table of words, the store of ids. Internal, so static only.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <unordered_map>
#include <vector>

#include "test.hpp"
#include "word2vec/id_store.hpp"
#include "word2vec/word_table.hpp"

using convec::word2vec::IdStore;
using convec::word2vec::Token;
using convec::word2vec::WordTable;

TEST(a_table_is_a_map) {
  // Words of every size around the borders of a slot's 8 and 16 bytes, alike in all but one byte, NULs included.
  std::vector<std::string> words;
  for (std::size_t size = 0; size < 40; ++size)
    for (std::size_t changed = 0; changed < size; ++changed)
      for (const char byte : {'\0', 'b', '\xff'}) {
        std::string word(size, 'a');
        word[changed] = byte;
        words.push_back(word);
      }
  for (std::size_t size = 0; size < 40; ++size) words.emplace_back(size, '\0');
  std::string text;
  std::vector<Token> tokens;
  std::unordered_map<std::string, std::int64_t> counts;
  for (std::size_t index = 0; index < words.size(); ++index) {
    for (std::size_t repeat = 0; repeat <= index % 3; ++repeat) {
      tokens.push_back({static_cast<std::uint32_t>(text.size()), static_cast<std::uint32_t>(words[index].size())});
      text += words[index];
      ++counts[words[index]];
    }
  }
  text.resize(text.size() + convec::word2vec::text_padding, 'z');
  WordTable table;
  std::vector<std::int32_t> ids(tokens.size());
  table.count(text.data(), tokens.data(), static_cast<int>(tokens.size()), 0, ids.data());
  CHECK_EQ(table.size(), static_cast<std::int64_t>(counts.size()));
  std::vector<std::int32_t> found(tokens.size());
  table.find(text.data(), tokens.data(), static_cast<int>(tokens.size()), found.data());
  CHECK(found == ids);
  for (const WordTable::Slot& slot : table.slots())
    if (slot.size != WordTable::free_size) {
      CHECK_EQ(slot.count, counts.at(std::string(table.word(slot))));
      CHECK_EQ(table.find(table.word(slot)), slot.id);
      const Token& first = tokens[static_cast<std::size_t>(table.first(slot.id))];
      CHECK(text.substr(first.start, first.size) == table.word(slot));
    }
  CHECK_EQ(table.find("absent"), -1);
  table.keep_if([](std::string_view word, std::int64_t) { return word.size() == 17; });
  CHECK_EQ(table.size(), 3 * 17 + 1);
  CHECK(table.find(std::string(17, '\0')) >= 0);
  CHECK_EQ(table.find(std::string(16, '\0')), -1);
}

TEST(more_than_2_to_the_31_ids_are_stored) {
  // The file is sparse: only what is written takes space.
  IdStore store(0, "");
  constexpr std::int64_t many = 2147483648 + 10;
  store.extend(many);
  store.extend(many);
  const std::vector<std::int32_t> ids = {1, 2, 3};
  store.write(2 * many - 3, ids.data(), 3);
  store.write(many, ids.data(), 3);
  store.finish();
  CHECK(store.spilled());
  CHECK_EQ(store.size(), 2 * many);
  CHECK_EQ(store.data()[2 * many - 1], 3);
  CHECK_EQ(store.data()[many + 1], 2);
  CHECK_EQ(store.data()[many - 1], 0);
}

TEST(a_store_moves_to_a_file_when_it_grows) {
  IdStore store(1000, "");
  for (std::int32_t id = 0; id < 1000; ++id) {
    store.extend(1);
    store.write(id, &id, 1);
    CHECK_EQ(store.spilled(), id >= 250);
  }
  store.finish();
  for (std::int32_t id = 0; id < 1000; ++id) CHECK_EQ(store.data()[id], id);
}

TEST(memory_is_known) {
  CHECK(convec::word2vec::available_memory() > 1'000'000);
  CHECK_EQ(convec::word2vec::resolve_memory_limit(5), 5);
  CHECK(convec::word2vec::resolve_memory_limit(-1) > 500'000);
}

TEST_MAIN()
