// Nearest neighbours on the emulated device, against the processor's: the same rows, and the same similarities bit by
// bit, because all numbers are small integers and all norms powers of two, of which there are many ties.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <vector>

#include <convec/cuda/vectors.hpp>
#include <convec/error.hpp>
#include <convec/vectors.hpp>

#include "emulation.hpp"
#include "test.hpp"

namespace {

using convec::DeviceError;
using convec::NearestOptions;
using convec::ShapeError;
using convec::ValueError;
using convec::VectorTable;
using convec::cuda::VectorsOnDevice;
using convec::emulation::Schedule;

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

// Numbers that look random.
class Numbers {
 public:
  int operator()(int below) {
    state_ = state_ * 6364136223846793005U + 1442695040888963407U;
    return static_cast<int>((state_ >> 33U) % static_cast<unsigned>(below));
  }

 private:
  std::uint64_t state_ = 54321;
};

std::vector<float> integers(Numbers& random, std::int64_t count) {
  std::vector<float> values;
  for (std::int64_t i = 0; i < count; ++i) values.push_back(static_cast<float>(random(5) - 2));
  return values;
}

// A table with rows further apart than they are long, and everything that is asked of it.
struct Case {
  std::int64_t rows;
  std::int64_t dim;
  std::int64_t queries;
  std::int64_t topn;
  std::int64_t most_similarities = VectorsOnDevice::usual_similarities;
  bool norms = true;
  std::int64_t begin = 0;
  std::int64_t left_out = 0;  // rows at the end
};

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

void compare(const Case& c) {
  Numbers random;
  const std::int64_t stride = c.dim + 3;
  const std::vector<float> numbers = integers(random, c.rows * stride);
  const VectorTable table{numbers.data(), c.rows, c.dim, stride};
  std::vector<float> norms;
  for (std::int64_t i = 0; i < c.rows; ++i) norms.push_back(random(9) == 0 ? 0.0F : std::ldexp(1.0F, random(3)));
  const float* norm_data = c.norms ? norms.data() : nullptr;
  std::vector<float> queries = integers(random, c.queries * c.dim);
  VectorsOnDevice there(c.rows, c.dim, 0, c.most_similarities);
  there.copy_in(0, table, norm_data);

  NearestOptions options;
  options.topn = c.topn;
  options.begin = c.begin;
  options.end = c.rows - c.left_out;
  // Some queries without, some with rows that are beyond what is searched, or there twice.
  std::vector<std::int64_t> excluded;
  std::vector<std::int64_t> offsets{0};
  for (std::int64_t q = 0; q < c.queries; ++q) {
    for (int i = random(4); i > 0; --i) excluded.push_back(random(static_cast<int>(c.rows) + 2));
    offsets.push_back(static_cast<std::int64_t>(excluded.size()));
  }
  options.excluded = excluded.data();
  options.excluded_offsets = offsets.data();

  const std::int64_t size = c.queries * c.topn;
  std::vector<std::int64_t> expected_rows(at(size));
  std::vector<std::int64_t> rows(at(size));
  std::vector<float> expected(at(size));
  std::vector<float> values(at(size));
  nearest_vectors(table, norm_data, queries.data(), c.queries, options, expected_rows.data(), expected.data());
  there.nearest(queries.data(), c.queries, options, rows.data(), values.data());
  CHECK(rows == expected_rows);
  CHECK(same(values, expected));

  std::vector<float> all(at(c.queries * c.rows));
  vector_similarities(table, norm_data, queries.data(), c.queries, all.data());
  const std::int64_t searched = options.end - options.begin;
  std::vector<float> part(at(c.queries * searched));
  there.similarities(queries.data(), c.queries, options.begin, options.end, part.data());
  for (std::int64_t q = 0; q < c.queries; ++q)
    for (std::int64_t i = 0; i < searched; ++i)
      CHECK_EQ(part[at(q * searched + i)], all[at(q * c.rows + options.begin + i)]);

  // Products of similarities are rounded.
  const std::int64_t positive = (c.queries + 1) / 2;
  const std::int64_t negative = c.queries - positive;
  for (float& number : queries) number /= 64.0F;
  const float* below = queries.data() + positive * c.dim;
  std::vector<float> product(at(c.rows));
  multiplicative_similarities(table, norm_data, queries.data(), positive, below, negative, product.data());
  std::vector<float> product_part(at(searched));
  there.multiplicative(queries.data(), positive, below, negative, options.begin, options.end, product_part.data());
  for (std::int64_t i = 0; i < searched; ++i) {
    const double wanted = static_cast<double>(product[at(options.begin + i)]);
    CHECK_NEAR(product_part[at(i)], wanted, 1e-5 * (1.0 + std::abs(wanted)));
  }
  std::vector<std::int64_t> product_rows(at(c.topn));
  std::vector<float> product_values(at(c.topn));
  there.nearest_multiplicative(queries.data(), positive, below, negative, options, product_rows.data(),
                               product_values.data());
  std::vector<std::int64_t> again(at(c.topn));
  std::vector<float> again_values(at(c.topn));
  nearest_multiplicative(table, norm_data, queries.data(), positive, below, negative, options, again.data(),
                         again_values.data());
  for (std::int64_t i = 0; i < c.topn; ++i) {
    CHECK_EQ(product_rows[at(i)] < 0, again[at(i)] < 0);
    if (again[at(i)] < 0) {
      CHECK(std::isnan(product_values[at(i)]));
      continue;
    }
    const double wanted = static_cast<double>(again_values[at(i)]);
    CHECK_NEAR(product_values[at(i)], wanted, 1e-5 * (1.0 + std::abs(wanted)));
    // Its own value, and a row that may be found.
    CHECK_EQ(product_values[at(i)], product_part[at(product_rows[at(i)] - options.begin)]);
    for (std::int64_t e = 0; e < offsets[1]; ++e) CHECK(product_rows[at(i)] != excluded[at(e)]);
  }
}

struct Reset {
  Reset() = default;
  ~Reset() {
    cudaDeviceReset();
    convec::emulation::set_memory(std::size_t{1} << 32U);
    convec::emulation::set_schedule(Schedule::round_robin);
  }
  Reset(const Reset&) = delete;
  Reset& operator=(const Reset&) = delete;
};

}  // namespace

TEST(tables_of_every_size_are_searched_as_on_the_processor) {
  for (const std::int64_t rows : {1, 2, 31, 97, 2049})
    for (const std::int64_t queries : {1, 3, 7}) compare({rows, 5, queries, 10});
  for (const std::int64_t dim : {1, 3, 4, 64, 100, 129, 301})
    for (const std::int64_t queries : {1, 4, 5}) compare({67, dim, queries, 5});
  // Groups of queries.
  compare({37, 3, 259, 2});
}

TEST(any_number_of_neighbours_is_found) {
  for (const std::int64_t topn : {0, 1, 2, 31, 32, 33, 64, 127, 128, 129, 500, 3001})
    for (const std::int64_t queries : {1, 6}) compare({2500, 2, queries, topn});
}

TEST(parts_of_the_table_are_searched_one_after_the_other) {
  for (const std::int64_t most : {1, 7, 100, 5000, 9001})
    for (const std::int64_t topn : {1, 10, 200}) {
      if (most < 100 && topn > 1) continue;
      compare({most < 100 ? 53 : 5003, 3, most < 100 ? 2 : 1, topn, most});
    }
  compare({5003, 3, 6, 100, 20000});
}

TEST(parts_of_the_rows_are_searched) {
  for (const bool norms : {true, false})
    for (const std::int64_t topn : {3, 90, 300}) compare({600, 6, 5, topn, 1500, norms, 101, 77});
  compare({600, 6, 5, 3, 1500, true, 300, 300});  // none
}

TEST(nan_and_infinity_are_ranked_as_on_the_processor) {
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  constexpr float infinity = std::numeric_limits<float>::infinity();
  const std::vector<float> numbers = {1, nan, -infinity, infinity, 3, -infinity, 3, nan};
  const VectorTable table{numbers.data(), 8, 1, 1};
  VectorsOnDevice there(8, 1);
  there.copy_in(0, table, nullptr);
  const float query = 1.0F;
  for (const std::int64_t topn : {3, 8, 200}) {
    NearestOptions options;
    options.topn = topn;
    options.end = 8;
    std::vector<std::int64_t> rows(at(topn));
    std::vector<float> values(at(topn));
    there.nearest(&query, 1, options, rows.data(), values.data());
    const std::vector<std::int64_t> wanted = {3, 4, 6, 0, 2, 5, -1, -1};
    for (std::int64_t i = 0; i < topn; ++i) CHECK_EQ(rows[at(i)], i < 8 ? wanted[at(i)] : -1);
    for (std::int64_t i = 0; i < topn; ++i) CHECK_EQ(std::isnan(values[at(i)]), rows[at(i)] < 0);
  }
}

TEST(the_order_of_threads_does_not_matter) {
  const Reset reset;
  for (const Schedule schedule :
       {Schedule::round_robin_reversed, Schedule::one_warp, Schedule::one_warp_reversed, Schedule::shuffled}) {
    convec::emulation::set_schedule(schedule, 3);
    compare({2100, 5, 1, 40});
    compare({130, 20, 6, 33});
  }
}

TEST(rows_may_be_replaced) {
  const std::vector<float> numbers = {1, 2, 3, 4};
  VectorsOnDevice there(4, 2);
  CHECK_EQ(there.rows(), 4);
  CHECK_EQ(there.dim(), 2);
  const float norms[] = {2, 4};
  there.copy_in(1, {numbers.data(), 2, 2, 2}, norms);
  const float query[] = {1, 1};
  std::vector<float> values(4);
  there.similarities(query, 1, 0, 4, values.data());
  CHECK(values == std::vector<float>({0, 1.5F, 1.75F, 0}));
}

TEST(bad_arguments_are_refused) {
  CHECK_THROWS(VectorsOnDevice(-1, 2), ShapeError, "shape (-1, 2)");
  CHECK_THROWS(VectorsOnDevice(2147483648, 2), ShapeError, "below 2^31; search on the cpu");
  CHECK_THROWS(VectorsOnDevice(2, 2, 1), DeviceError, "invalid device");
  CHECK_THROWS(VectorsOnDevice(2, 2, 0, 0), ValueError, "most_similarities is 0");
  VectorsOnDevice there(4, 2);
  const std::vector<float> numbers(20);
  CHECK_THROWS(there.copy_in(3, {numbers.data(), 2, 2, 2}, nullptr), ShapeError, "rows 3 to 5 of 2 numbers are given");
  CHECK_THROWS(there.copy_in(0, {numbers.data(), 2, 3, 3}, nullptr), ShapeError, "of 3 numbers are given");
  CHECK_THROWS(there.copy_in(-1, {numbers.data(), 1, 2, 2}, nullptr), ShapeError, "rows -1 to 0");
  NearestOptions options;
  options.end = 5;
  std::int64_t row = 0;
  float value = 0;
  CHECK_THROWS(there.nearest(numbers.data(), 1, options, &row, &value), ValueError, "the table has 4");
  options.topn = -1;
  CHECK_THROWS(there.nearest(numbers.data(), 1, options, &row, &value), ValueError, "topn is -1");
  CHECK_THROWS(there.similarities(numbers.data(), -1, 0, 1, &value), ShapeError, "-1 queries");
  CHECK_THROWS(there.similarities(numbers.data(), 1, 3, 2, &value), ValueError, "rows 3 to 2");
}

TEST(a_poll_that_throws_ends_the_search) {
  VectorsOnDevice there(100, 2, 0, 10);
  NearestOptions options;
  options.topn = 1;
  options.end = 100;
  options.poll = [] { throw std::runtime_error("enough"); };
  const float query[] = {1, 1};
  std::int64_t row = 0;
  float value = 0;
  CHECK_THROWS(there.nearest(query, 1, options, &row, &value), std::runtime_error, "enough");
  options.poll = {};
  there.nearest(query, 1, options, &row, &value);
  CHECK_EQ(row, 0);
}

TEST(too_little_memory_and_a_lost_device_are_reported) {
  const Reset reset;
  const std::size_t in_use = convec::emulation::memory_in_use();
  convec::emulation::set_memory(std::size_t{1} << 20U);
  CHECK_THROWS(
      VectorsOnDevice(100000, 10), DeviceError,
      "out of memory on cuda:0: a table of 100000 vectors of 10 numbers needs 5 MB, but 1 MB of 1 MB are free");
  CHECK_EQ(convec::emulation::memory_in_use(), in_use);
  const std::vector<float> numbers(40000, 1.0F);
  VectorsOnDevice there(20000, 2);
  there.copy_in(0, {numbers.data(), 20000, 2, 2}, nullptr);
  std::vector<float> values(20000 * 10);
  CHECK_THROWS(there.similarities(numbers.data(), 10, 0, 20000, values.data()), DeviceError, "out of memory");
  there.similarities(numbers.data(), 1, 0, 20000, values.data());
  CHECK_EQ(values[19999], 2.0F);
  convec::emulation::lose_device_after(0, cudaErrorIllegalAddress);
  CHECK_THROWS(there.similarities(numbers.data(), 1, 0, 20000, values.data()), DeviceError, "illegal memory access");
}

TEST_MAIN()
