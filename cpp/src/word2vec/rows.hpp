// Where a thread finds and changes the rows of a model's tables.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <tuple>
#include <vector>

#include "cpu/kernels/word2vec.hpp"
#include "word2vec/row_lock.hpp"
#include "word2vec/table.hpp"

namespace convec::word2vec {

enum TableName : std::uint8_t { vectors_table, syn1neg_table, syn1_table, table_count };
using Tables = std::array<Table, table_count>;

// Rows in place, shared with the other threads without locks (Hogwild), but for the most frequent ones: these are in
// every window, and threads that write the same cache lines wait for each other. Each thread changes a copy of its own
// and now and then adds what changed to the shared row.
class HogwildRows {
 public:
  // Each guards a part of the shared rows of which threads have copies, so that many threads need not queue at one.
  using Locks = std::array<RowLock, 16>;

  // `hot` rows of each table get a copy; 0: none. Threads with different `worker` begin merging at different locks.
  HogwildRows(const Tables& tables, std::int64_t hot, const cpu::Word2VecRowKernels& kernels, std::int64_t row_size,
              Locks& locks, int worker)
      : kernels_(kernels), row_size_(row_size), locks_(locks), worker_(static_cast<std::size_t>(worker)) {
    for (std::size_t name = 0; name < table_count; ++name) {
      const Table& table = tables[name];
      Part& part = parts_[name];
      part.shared = table.data();
      part.stride = table.stride();
      part.hot_size = std::min(hot, table.rows());
      if (part.hot_size == 0) continue;
      // Words are numbered by falling frequency; the inner nodes of the Huffman tree by rising count, up to the root.
      part.hot_begin = name == syn1_table ? std::max<std::int64_t>(0, table.rows() - 1 - part.hot_size) : 0;
      part.own = Table(part.hot_size, part.stride);
      part.base = Table(part.hot_size, part.stride);
    }
    merge();
  }

  void* row(TableName name, std::int64_t index) const {
    const Part& part = parts_[name];
    const std::int64_t hot = index - part.hot_begin;
    const bool is_own = static_cast<std::uint64_t>(hot) < static_cast<std::uint64_t>(part.hot_size);
    // Without a branch: nobody can foretell how frequent the next word is.
    std::byte* const bases[] = {part.shared, part.own.data()};
    return bases[is_own ? 1 : 0] + (is_own ? hot : index) * part.stride;
  }

  // Whether the row is likely to be in a cache already.
  bool is_hot(TableName name, std::int64_t index) const {
    const Part& part = parts_[name];
    return static_cast<std::uint64_t>(index - part.hot_begin) < static_cast<std::uint64_t>(part.hot_size);
  }

  // Exchanges what changed in the copies with the shared rows.
  void merge() {
    constexpr auto lock_count = static_cast<std::int64_t>(std::tuple_size<Locks>::value);
    for (std::size_t turn = 0; turn < locks_.size(); ++turn) {
      const std::size_t number = (worker_ + turn) % locks_.size();
      const auto share = static_cast<std::int64_t>(number);
      const std::lock_guard<RowLock> lock(locks_[number]);
      for (Part& part : parts_) {
        const std::int64_t first = part.hot_size * share / lock_count;
        const std::int64_t rows = part.hot_size * (share + 1) / lock_count - first;
        if (rows > 0)
          kernels_.merge_rows(rows * row_size_, 1.0F, part.shared + (part.hot_begin + first) * part.stride,
                              part.own.row(first), part.base.row(first));
      }
    }
  }

 private:
  struct Part {
    std::byte* shared = nullptr;
    std::int64_t stride = 0;
    std::int64_t hot_begin = 0;
    std::int64_t hot_size = 0;
    Table own;
    Table base;
  };
  std::array<Part, table_count> parts_;
  const cpu::Word2VecRowKernels& kernels_;
  std::int64_t row_size_;  // numbers
  Locks& locks_;
  std::size_t worker_;
};

// Uses of the rows by all the shards of a round.
class RowUse {
 public:
  explicit RowUse(const Tables& tables) {
    for (std::size_t name = 0; name < table_count; ++name)
      counts_[name].resize(static_cast<std::size_t>(tables[name].rows()));
  }

  struct Count {
    std::int32_t shards = 0;
    std::int32_t uses = 0;
  };
  Count& operator()(TableName name, std::int64_t index) { return counts_[name][static_cast<std::size_t>(index)]; }

 private:
  std::array<std::vector<Count>, table_count> counts_;
};

// A copy of every row that is asked for, as it was then: the shared tables do not change until apply().
class SnapshotRows {
 public:
  // `often`: uses of a row by a shard that pull it the whole way.
  SnapshotRows(const Tables& tables, const cpu::Word2VecRowKernels& kernels, std::int64_t row_size, std::int32_t often)
      : tables_(tables), kernels_(kernels), row_size_(row_size), often_(often) {
    for (std::size_t name = 0; name < table_count; ++name)
      slots_[name].assign(static_cast<std::size_t>(tables[name].rows()), -1);
    stride_ = tables[vectors_table].stride();
  }

  void* row(TableName name, std::int64_t index) {
    std::int32_t& slot = slots_[name][static_cast<std::size_t>(index)];
    if (slot < 0) {
      slot = static_cast<std::int32_t>(touched_.size());
      touched_.push_back({name, 0, index});
      const auto slab = static_cast<std::size_t>(slot) / rows_a_slab;
      if (slab == slabs_.size()) slabs_.emplace_back(2 * rows_a_slab, stride_);
      const auto bytes = static_cast<std::size_t>(stride_);
      const std::byte* shared = tables_[name].row(index);
      std::memcpy(own(slot), shared, bytes);
      std::memcpy(base(slot), shared, bytes);
    }
    ++touched_[static_cast<std::size_t>(slot)].uses;
    return own(slot);
  }

  bool is_hot(TableName, std::int64_t) const { return true; }

  // Counts the uses of the rows whose number is `part` modulo `parts`.
  void count(std::int64_t part, std::int64_t parts, RowUse& use) const {
    for (const Touched& touched : touched_) {
      if (touched.index % parts != part) continue;
      RowUse::Count& count = use(touched.name, touched.index);
      ++count.shards;
      count.uses += touched.uses;
    }
  }

  // Adds what changed to the same rows of the tables. The shards all start from the same state, so that a row that each
  // of them met often was pulled the whole way by each: the sum of its changes would overshoot, and it takes their mean
  // instead. Rare rows take the sum, as if the shards had come one after the other.
  void apply(std::int64_t part, std::int64_t parts, RowUse& use) {
    for (std::size_t slot = 0; slot < touched_.size(); ++slot) {
      const Touched& touched = touched_[slot];
      if (touched.index % parts != part) continue;
      const RowUse::Count& count = use(touched.name, touched.index);
      const float often = std::min(1.0F, static_cast<float>(count.uses) / static_cast<float>(count.shards * often_));
      kernels_.merge_rows(row_size_, 1.0F / (1.0F + static_cast<float>(count.shards - 1) * often),
                          tables_[touched.name].row(touched.index), own(static_cast<std::int32_t>(slot)),
                          base(static_cast<std::int32_t>(slot)));
    }
  }

  // Forgets the copies, and the uses of their rows.
  void clear(RowUse& use) {
    for (const Touched& touched : touched_) {
      slots_[touched.name][static_cast<std::size_t>(touched.index)] = -1;
      use(touched.name, touched.index) = {};
    }
    touched_.clear();
  }

 private:
  static constexpr std::size_t rows_a_slab = 1024;
  struct Touched {
    TableName name;
    std::int32_t uses;
    std::int64_t index;
  };

  std::byte* own(std::int32_t slot) const {
    const auto number = static_cast<std::size_t>(slot);
    return slabs_[number / rows_a_slab].row(static_cast<std::int64_t>(number % rows_a_slab));
  }
  std::byte* base(std::int32_t slot) const { return own(slot) + static_cast<std::int64_t>(rows_a_slab) * stride_; }

  const Tables& tables_;
  const cpu::Word2VecRowKernels& kernels_;
  std::int64_t row_size_;  // numbers
  std::int32_t often_;
  std::int64_t stride_ = 0;  // bytes
  std::array<std::vector<std::int32_t>, table_count> slots_;
  std::vector<Touched> touched_;
  std::vector<Table> slabs_;  // own rows, then base rows
};

}  // namespace convec::word2vec
