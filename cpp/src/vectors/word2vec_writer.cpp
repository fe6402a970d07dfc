// Writes the file formats of the original word2vec tool.
#include <algorithm>
#include <charconv>
#include <string>

#include <convec/error.hpp>

#include "cpu/thread_pool.hpp"
#include "vectors/check.hpp"
#include "vectors/denormals.hpp"

namespace convec {

namespace {

using std::int64_t;

// Numbers a task, and tasks between two calls of the sink: about 16 MB of text.
constexpr int64_t task_numbers = 32'768;
constexpr int64_t tasks_at_once = 48;

void append_text(const float* vector, int64_t dim, std::string& text) {
  // The shortest float32 takes at most 15 characters.
  char number[32];
  for (int64_t k = 0; k < dim; ++k) {
    number[0] = ' ';
    const auto result = std::to_chars(number + 1, number + sizeof number, vector[k]);
    text.append(number, result.ptr);
  }
  text += '\n';
}

}  // namespace

void write_word2vec(const VectorTable& table, const std::vector<std::string_view>& words,
                    const std::vector<int64_t>& order, const Word2VecOutput& options,
                    const std::function<void(const char*, std::size_t)>& sink) {
  check::table(table);
  if (words.size() != order.size())
    throw ShapeError(std::to_string(words.size()) + " words were given for " + std::to_string(order.size()) +
                     " vectors, but there must be as many");
  for (const int64_t row : order)
    if (row < 0 || row >= table.rows)
      throw ValueError("order holds row " + std::to_string(row) + ", but the table has " + std::to_string(table.rows));
  const auto cannot_carry = [](std::string_view word) { return word.find_first_of(" \n\r") != std::string_view::npos; };
  if (cannot_carry(options.prefix))
    throw ValueError("prefix is '" + options.prefix + "', but must hold neither spaces nor line breaks");
  for (const std::string_view word : words)
    if (cannot_carry(word))
      throw ValueError("the key '" + std::string(word) +
                       "' holds a space or a line break, which ends a word in the word2vec format; rename it (a space "
                       "often becomes '_'), or save in convec's own format");

  if (options.header) {
    const int64_t total = options.total < 0 ? static_cast<int64_t>(order.size()) : options.total;
    const std::string header = std::to_string(total) + ' ' + std::to_string(table.dim) + '\n';
    sink(header.data(), header.size());
  }
  const int64_t task_rows = std::max<int64_t>(1, task_numbers / std::max<int64_t>(1, table.dim));
  const auto count = static_cast<int64_t>(order.size());
  std::vector<std::string> parts(static_cast<std::size_t>(tasks_at_once));
  for (int64_t start = 0; start < count; start += task_rows * tasks_at_once) {
    const int64_t tasks = std::min(tasks_at_once, (count - start + task_rows - 1) / task_rows);
    cpu::parallel_for(tasks, [&](int64_t task, int) {
      const KeepDenormals keep;
      std::string& part = parts[static_cast<std::size_t>(task)];
      part.clear();
      const int64_t first = start + task * task_rows;
      for (int64_t i = first; i < std::min(count, first + task_rows); ++i) {
        const float* vector = table.data + order[static_cast<std::size_t>(i)] * table.stride;
        part += options.prefix;
        part += words[static_cast<std::size_t>(i)];
        if (options.binary) {
          part += ' ';
          part.append(reinterpret_cast<const char*>(vector), static_cast<std::size_t>(table.dim) * sizeof(float));
        } else {
          append_text(vector, table.dim, part);
        }
      }
    });
    for (int64_t task = 0; task < tasks; ++task)
      sink(parts[static_cast<std::size_t>(task)].data(), parts[static_cast<std::size_t>(task)].size());
  }
}

}  // namespace convec
