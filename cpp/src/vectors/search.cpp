// Nearest neighbours: blocks of rows against blocks of queries, each thread keeping the best it has met.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <convec/error.hpp>
#include <convec/vectors.hpp>

#include "cpu/kernels/kernel_table.hpp"
#include "cpu/panels.hpp"
#include "cpu/scratch.hpp"
#include "cpu/thread_pool.hpp"
#include "vectors/check.hpp"
#include "vectors/search.hpp"

namespace convec {

namespace {

using std::int64_t;
using vectors::Best;
using vectors::Neighbour;
using vectors::neighbours_wanted;
using vectors::Poll;

constexpr float infinity = std::numeric_limits<float>::infinity();
// Rows whose dot products are looked at together; a group of them and a query stay in the first-level cache.
constexpr int64_t block_rows = 64;
// Rows a task: fixed, so that no sum depends on the number of threads.
constexpr int64_t task_rows = 4096;
// From this many queries on, a matrix product is faster than one pass of dot products a query.
constexpr int64_t product_queries = 6;
// Queries searched at a time: the table is read from memory once for each such group.
constexpr int64_t group_queries = 256;

// The best of some queries, one set for each thread at work: taken by a task and given back with what it found.
class BestSets {
 public:
  BestSets(int64_t first_query, int64_t count, int64_t wanted, const NearestOptions& options)
      : first_(first_query), count_(count), wanted_(wanted), options_(options) {}

  using Set = std::vector<Best>;

  std::unique_ptr<Set> take() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!idle_.empty()) {
        std::unique_ptr<Set> set = std::move(idle_.back());
        idle_.pop_back();
        return set;
      }
    }
    auto set = std::make_unique<Set>();
    set->reserve(static_cast<std::size_t>(count_));
    for (int64_t q = first_; q < first_ + count_; ++q) {
      const int64_t* excluded = options_.excluded;
      if (excluded == nullptr)
        set->emplace_back(wanted_, nullptr, nullptr);
      else
        set->emplace_back(wanted_, excluded + options_.excluded_offsets[q],
                          excluded + options_.excluded_offsets[q + 1]);
    }
    return set;
  }

  void give_back(std::unique_ptr<Set> set) {
    const std::lock_guard<std::mutex> lock(mutex_);
    idle_.push_back(std::move(set));
  }

  // The best of all sets, into rows of topn elements.
  void write(int64_t* rows, float* similarities) {
    for (int64_t q = 0; q < count_; ++q) {
      int64_t found = 0;
      if (!idle_.empty() && wanted_ > 0) {
        Best& best = (*idle_.front())[static_cast<std::size_t>(q)];
        for (std::size_t i = 1; i < idle_.size(); ++i) best.offer_all((*idle_[i])[static_cast<std::size_t>(q)]);
        for (const Neighbour& n : best.sorted()) {
          rows[q * options_.topn + found] = n.row;
          similarities[q * options_.topn + found++] = n.similarity;
        }
      }
      std::fill(rows + q * options_.topn + found, rows + (q + 1) * options_.topn, -1);
      std::fill(similarities + q * options_.topn + found, similarities + (q + 1) * options_.topn,
                std::numeric_limits<float>::quiet_NaN());
    }
  }

 private:
  int64_t first_, count_, wanted_;
  const NearestOptions& options_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Set>> idle_;
};

const float* at(const VectorTable& table, int64_t row) { return table.data + row * table.stride; }
const float* norm_at(const float* norms, int64_t row) { return norms == nullptr ? nullptr : norms + row; }

// Calls block(first row, rows, set) for the blocks of [begin, end), in threads.
template <typename Block>
void for_blocks(int64_t begin, int64_t end, int64_t block_size, BestSets& sets, Poll& poll, Block&& block) {
  // A region of about a hundred tasks at a time, with the caller's poll between.
  constexpr int64_t region = 128 * task_rows;
  for (int64_t start = begin; start < end; start += region) {
    const int64_t stop = std::min(end, start + region);
    cpu::parallel_for_range(stop - start, task_rows, [&](int64_t first, int64_t last) {
      std::unique_ptr<BestSets::Set> set = sets.take();
      for (int64_t row = start + first; row < start + last; row += block_size)
        block(row, std::min(block_size, start + last - row), *set);
      sets.give_back(std::move(set));
    });
    poll();
  }
}

void offer_block(const float* values, int64_t row, int64_t count, float largest, Best& best) {
  if (!(largest >= best.threshold())) return;
  for (int64_t i = 0; i < count; ++i) best.offer(values[i], row + i);
}

void search_by_dots(const VectorTable& table, const float* norms, const float* queries, int64_t count,
                    const NearestOptions& options, BestSets& sets, Poll& poll) {
  const cpu::VectorKernels& kernels = cpu::kernels().vectors;
  for_blocks(options.begin, options.end, block_rows, sets, poll, [&](int64_t row, int64_t rows, BestSets::Set& set) {
    float values[block_rows];
    for (int64_t q = 0; q < count; ++q) {
      const float largest = kernels.dots_f32(rows, table.dim, at(table, row), table.stride, queries + q * table.dim,
                                             norm_at(norms, row), values);
      offer_block(values, row, rows, largest, set[static_cast<std::size_t>(q)]);
    }
  });
}

void search_by_product(const VectorTable& table, const float* norms, const float* queries, int64_t count,
                       const NearestOptions& options, BestSets& sets, Poll& poll) {
  const cpu::KernelTable& kernels = cpu::kernels();
  const cpu::GemmKernels& gemm = kernels.gemm;
  const cpu::Panels panels(count, gemm);
  cpu::Scratch scratch;
  float* packed = scratch.take<float>(panels.stored() * table.dim);
  for (int64_t panel = 0; panel < panels.count(); ++panel)
    kernels.pack.transpose_f32(queries + panels.begin(panel) * table.dim, table.dim,
                               packed + panels.offset(panel) * table.dim, panels.width(panel), table.dim,
                               panels.used(panel), panels.width(panel));

  // Rows that stay in the second-level cache while all panels pass over them.
  const int64_t tile_rows = gemm.rows;
  const int64_t tiles =
      std::max<int64_t>(1, std::min<int64_t>(16, 32768 / std::max<int64_t>(1, table.dim * tile_rows)));
  for_blocks(options.begin, options.end, tile_rows * tiles, sets, poll,
             [&](int64_t row, int64_t rows, BestSets::Set& set) {
               static constexpr std::ptrdiff_t no_offset[1] = {0};
               // Larger than any level's tile: 14 x 32.
               alignas(64) float values[16 * 32];
               alignas(64) float thresholds[32];
               std::int32_t selected[16 * 32];
               for (int64_t panel = 0; panel < panels.count(); ++panel) {
                 const int64_t first = panels.begin(panel);
                 const int64_t used = panels.used(panel);
                 const auto refresh = [&] {
                   for (int64_t c = 0; c < used; ++c)
                     thresholds[c] = set[static_cast<std::size_t>(first + c)].threshold();
                 };
                 std::fill(thresholds, thresholds + 32, infinity);
                 refresh();
                 for (int64_t r = 0; r < rows; r += tile_rows) {
                   cpu::GemmTile tile{};
                   tile.a = at(table, row + r);
                   tile.a_segments = no_offset;
                   tile.a_row = table.stride;
                   tile.a_step = 1;
                   tile.b = packed + panels.offset(panel) * table.dim;
                   tile.b_step = panels.width(panel);
                   tile.segments = 1;
                   tile.length = table.dim;
                   tile.c = values;
                   tile.c_row = panels.full;
                   tile.rows = static_cast<int>(std::min(tile_rows, rows - r));
                   tile.columns = static_cast<int>(used);
                   gemm.tile_f32_along(tile);
                   const int64_t hits = kernels.vectors.select_f32(tile.rows, used, values, panels.full,
                                                                   norm_at(norms, row + r), thresholds, selected);
                   for (int64_t i = 0; i < hits; ++i) {
                     const int64_t column = selected[i] % panels.full;
                     set[static_cast<std::size_t>(first + column)].offer(values[selected[i]],
                                                                         row + r + selected[i] / panels.full);
                   }
                   if (hits > 0) refresh();
                 }
               }
             });
}

// One similarity a row out of those to all terms.
class Multiplicative {
 public:
  Multiplicative(const VectorTable& table, const float* norms, const float* positive, int64_t positive_count,
                 const float* negative, int64_t negative_count)
      : table_(table),
        norms_(norms),
        positive_(positive),
        negative_(negative),
        positive_count_(positive_count),
        negative_count_(negative_count) {}

  // At most block_rows rows. Returns the largest.
  float operator()(int64_t row, int64_t rows, float* values) const {
    float below[block_rows];
    multiply(positive_, positive_count_, row, rows, values);
    multiply(negative_, negative_count_, row, rows, below);
    float largest = -infinity;
    for (int64_t i = 0; i < rows; ++i) {
      values[i] /= below[i] + 1e-6F;
      largest = values[i] > largest ? values[i] : largest;
    }
    return largest;
  }

 private:
  void multiply(const float* terms, int64_t count, int64_t row, int64_t rows, float* product) const {
    float values[block_rows];
    std::fill_n(product, rows, 1.0F);
    for (int64_t term = 0; term < count; ++term) {
      cpu::kernels().vectors.dots_f32(rows, table_.dim, at(table_, row), table_.stride, terms + term * table_.dim,
                                      norm_at(norms_, row), values);
      for (int64_t i = 0; i < rows; ++i) product[i] *= 0.5F * (1.0F + values[i]);
    }
  }

  const VectorTable& table_;
  const float* norms_;
  const float* positive_;
  const float* negative_;
  int64_t positive_count_, negative_count_;
};

}  // namespace

void vector_norms(const VectorTable& table, float* norms) {
  check::table(table);
  cpu::parallel_for_range(table.rows, task_rows, [&](int64_t first, int64_t last) {
    cpu::kernels().vectors.squared_norms_f32(last - first, table.dim, at(table, first), table.stride, norms + first);
    for (int64_t row = first; row < last; ++row) {
      // Outside these bounds the squares of the elements may have overflowed, or vanished.
      if (norms[row] > 1e-24F && norms[row] < 1e30F) {
        norms[row] = std::sqrt(norms[row]);
        continue;
      }
      double sum = 0;
      for (int64_t k = 0; k < table.dim; ++k) {
        const double x = at(table, row)[k];
        sum += x * x;
      }
      norms[row] = static_cast<float>(std::sqrt(sum));
    }
  });
}

void vector_similarities(const VectorTable& table, const float* norms, const float* queries, int64_t count,
                         float* output) {
  check::table(table);
  check::count(count, "queries");
  cpu::parallel_for_range(table.rows, task_rows, [&](int64_t first, int64_t last) {
    const cpu::VectorKernels& kernels = cpu::kernels().vectors;
    for (int64_t row = first; row < last; row += block_rows) {
      const int64_t rows = std::min(block_rows, last - row);
      for (int64_t q = 0; q < count; ++q)
        kernels.dots_f32(rows, table.dim, at(table, row), table.stride, queries + q * table.dim, norm_at(norms, row),
                         output + q * table.rows + row);
    }
  });
}

void nearest_vectors(const VectorTable& table, const float* norms, const float* queries, int64_t count,
                     const NearestOptions& options, int64_t* rows, float* similarities) {
  check::table(table);
  check::search(table.rows, options, count);
  Poll poll(options.poll);
  const int64_t group = vectors::queries_at_once(neighbours_wanted(options), num_threads(), group_queries);
  for (int64_t first = 0; first < count; first += group) {
    const int64_t queries_now = std::min(group, count - first);
    BestSets sets(first, queries_now, neighbours_wanted(options), options);
    if (neighbours_wanted(options) > 0) {
      const auto search = queries_now < product_queries ? search_by_dots : search_by_product;
      search(table, norms, queries + first * table.dim, queries_now, options, sets, poll);
    }
    sets.write(rows + first * options.topn, similarities + first * options.topn);
  }
}

void multiplicative_similarities(const VectorTable& table, const float* norms, const float* positive,
                                 int64_t positive_count, const float* negative, int64_t negative_count, float* output) {
  check::table(table);
  check::count(positive_count, "positive vectors");
  check::count(negative_count, "negative vectors");
  const Multiplicative combine(table, norms, positive, positive_count, negative, negative_count);
  cpu::parallel_for_range(table.rows, task_rows, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; row += block_rows)
      combine(row, std::min(block_rows, last - row), output + row);
  });
}

void nearest_multiplicative(const VectorTable& table, const float* norms, const float* positive, int64_t positive_count,
                            const float* negative, int64_t negative_count, const NearestOptions& options, int64_t* rows,
                            float* similarities) {
  check::table(table);
  check::search(table.rows, options, 1);
  check::count(positive_count, "positive vectors");
  check::count(negative_count, "negative vectors");
  Poll poll(options.poll);
  BestSets sets(0, 1, neighbours_wanted(options), options);
  if (neighbours_wanted(options) > 0) {
    const Multiplicative combine(table, norms, positive, positive_count, negative, negative_count);
    for_blocks(options.begin, options.end, block_rows, sets, poll, [&](int64_t row, int64_t count, BestSets::Set& set) {
      float values[block_rows];
      const float largest = combine(row, count, values);
      offer_block(values, row, count, largest, set.front());
    });
  }
  sets.write(rows, similarities);
}

}  // namespace convec
