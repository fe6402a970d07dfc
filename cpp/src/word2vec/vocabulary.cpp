#include "word2vec/vocabulary.hpp"

#include <string>
#include <utility>

#include <convec/error.hpp>

namespace convec {

namespace {

void check_id(std::int64_t id, std::int64_t size) {
  if (id < 0 || id >= size)
    throw ValueError("id is " + std::to_string(id) + ", but the vocabulary has ids 0 to " + std::to_string(size - 1));
}

}  // namespace

Vocabulary::Vocabulary() : impl_(std::make_shared<Impl>(0)) {}
Vocabulary::Vocabulary(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
Vocabulary::~Vocabulary() = default;
Vocabulary::Vocabulary(const Vocabulary&) = default;
Vocabulary& Vocabulary::operator=(const Vocabulary&) = default;

Vocabulary::Vocabulary(const std::vector<std::string_view>& words, const std::vector<std::int64_t>& counts) {
  if (words.size() != counts.size())
    throw ShapeError("counts has " + std::to_string(counts.size()) + " numbers, but there are " +
                     std::to_string(words.size()) + " words");
  const auto impl = std::make_shared<Impl>(words.size());
  for (std::size_t index = 0; index < words.size(); ++index) {
    if (words[index].size() > static_cast<std::size_t>(word2vec::max_word_bytes))
      throw ValueError("words[" + std::to_string(index) + "] has " + std::to_string(words[index].size()) +
                       " bytes, but may have at most " + std::to_string(word2vec::max_word_bytes));
    if (counts[index] < 0)
      throw ValueError("counts[" + std::to_string(index) + "] is " + std::to_string(counts[index]) +
                       ", but must be at least 0");
    if (!impl->add(words[index], counts[index]))
      throw ValueError("words[" + std::to_string(index) + "], '" + std::string(words[index]) +
                       "', has come before; words must be distinct");
  }
  impl_ = impl;
}

std::int64_t Vocabulary::size() const noexcept { return static_cast<std::int64_t>(impl_->counts.size()); }

std::string_view Vocabulary::word(std::int64_t id) const {
  check_id(id, size());
  return impl_->word(id);
}

std::int64_t Vocabulary::count(std::int64_t id) const {
  check_id(id, size());
  return impl_->counts[static_cast<std::size_t>(id)];
}

const std::int64_t* Vocabulary::counts() const noexcept { return impl_->counts.data(); }
std::int64_t Vocabulary::total_count() const noexcept { return impl_->total; }
std::int32_t Vocabulary::find(std::string_view word) const noexcept { return impl_->table.find(word); }

}  // namespace convec
