#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include <convec/error.hpp>
#include <convec/word2vec_shared.hpp>

#include "word2vec/check.hpp"
#include "word2vec/hogwild.hpp"

namespace convec {

namespace {

using word2vec::HogwildRows;
using word2vec::Model;
using word2vec::Table;

// Of rows, so that none shares a cache line with another.
constexpr std::int64_t alignment = 64;
static_assert(alignof(HogwildRows::Locks) == alignment && sizeof(HogwildRows::Locks) % alignment == 0);

std::int64_t table_size(const Table& table) {
  return (table.rows() * table.stride() + alignment - 1) / alignment * alignment;
}

std::int64_t total_size(const Model& model) {
  std::int64_t size = sizeof(HogwildRows::Locks);
  for (const Table& table : model.tables) size += table_size(table);
  return size;
}

}  // namespace

struct Word2VecSharedTables::Impl {
  Model& model;
  std::shared_ptr<void> memory;  // the locks, then the tables
  word2vec::Tables tables;

  HogwildRows::Locks& locks() const { return *static_cast<HogwildRows::Locks*>(memory.get()); }

  void check_vocabulary() const {
    const std::int64_t rows = tables[word2vec::vectors_table].rows();
    if (model.vocabulary_size() != rows)
      throw ValueError("the model has " + std::to_string(model.vocabulary_size()) +
                       " words now, but shares tables of " + std::to_string(rows) + ": share them anew");
  }

  void copy(const word2vec::Tables& from, const word2vec::Tables& to) const {
    check_vocabulary();
    for (std::size_t name = 0; name < from.size(); ++name)
      std::copy_n(from[name].data(), from[name].rows() * from[name].stride(), to[name].data());
  }
};

std::int64_t Word2VecSharedTables::memory_size(const Word2Vec& model) { return total_size(model.impl_->model); }

Word2VecSharedTables::Word2VecSharedTables(Word2Vec& model, std::shared_ptr<void> memory, std::int64_t size) {
  const std::int64_t wanted = memory_size(model);
  if (memory == nullptr) throw ValueError("memory is null, but must be " + std::to_string(wanted) + " bytes");
  if (size < wanted)
    throw ValueError("memory has " + std::to_string(size) + " bytes, but the tables take " + std::to_string(wanted));
  if (reinterpret_cast<std::uintptr_t>(memory.get()) % alignment != 0)
    throw ValueError("memory is not aligned to " + std::to_string(alignment) + " bytes");
  const word2vec::Tables& own = model.impl_->model.tables;
  impl_ = std::make_unique<Impl>(Impl{model.impl_->model, std::move(memory), {}});
  auto* next = static_cast<std::byte*>(impl_->memory.get()) + sizeof(HogwildRows::Locks);
  for (std::size_t name = 0; name < own.size(); ++name) {
    if (own[name].rows() == 0) continue;
    impl_->tables[name] = Table({impl_->memory, next}, own[name].rows(), own[name].stride());
    next += table_size(own[name]);
  }
}

Word2VecSharedTables::~Word2VecSharedTables() = default;
Word2VecSharedTables::Word2VecSharedTables(Word2VecSharedTables&&) noexcept = default;
Word2VecSharedTables& Word2VecSharedTables::operator=(Word2VecSharedTables&&) noexcept = default;

void Word2VecSharedTables::upload() { impl_->copy(impl_->model.tables, impl_->tables); }
void Word2VecSharedTables::download() { impl_->copy(impl_->tables, impl_->model.tables); }

Word2VecResult Word2VecSharedTables::train(const std::int32_t* tokens, std::int64_t size,
                                           const Word2VecTraining& training) {
  impl_->check_vocabulary();
  word2vec::check_training(training);
  if (training.deterministic)
    throw ValueError("deterministic is true, but what processes change in shared tables depends on their timing");
  word2vec::check_tokens(tokens, size, impl_->model.vocabulary_size());
  return word2vec::train_hogwild(impl_->model, impl_->tables, impl_->locks(), true, tokens, size, training);
}

}  // namespace convec
