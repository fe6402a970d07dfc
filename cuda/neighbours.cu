// Nearest neighbours: similarities as a matrix product of queries and vectors, a part of the table at a time, of which
// warps keep the best of each query's; these and the best so far are merged.
#include <convec/cuda/vectors.hpp>

#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include <convec/error.hpp>

#include "kernel.hpp"
#include "launch.hpp"
#include "matmul.hpp"
#include "runtime.hpp"
#include "vectors/check.hpp"
#include "vectors/search.hpp"

namespace convec::cuda {

namespace {

// Queries searched for at a time: the table is read from memory once for each such group.
constexpr int64_t group_queries = 256;
// Up to this many queries a pass of dot products takes no longer than the table takes to be read.
constexpr int few_queries = 4;
// Neighbours that a warp keeps at most; where more are wanted the host chooses them.
constexpr int64_t most_on_device = 128;
// Similarities of one query that a warp chooses from.
constexpr int range_rows = 2048;
constexpr int warps = block_threads / warp_size;
constexpr std::int32_t no_row = std::numeric_limits<std::int32_t>::max();

// ---- Similarities ---------------------------------------------------------------------------------------------------

__device__ __forceinline__ float divide_by_norm(float dot, float norm) { return norm == 0.0F ? 0.0F : dot / norm; }

// Dot products of up to `Queries` queries and the rows, divided by the rows' norms. A warp a row.
template <int Queries>
__global__ void __launch_bounds__(block_threads)
    dots_kernel(const float* vectors, const float* norms, int64_t stride, int64_t rows, const float* queries, int count,
                float* similarities) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * warps + threadIdx.x / warp_size;
  for (int64_t row = first; row < rows; row += static_cast<int64_t>(gridDim.x) * warps) {
    const float* vector = vectors + row * stride;
    float sums[Queries] = {};
    for (int64_t k = 4 * lane; k < stride; k += 4 * warp_size) {
      const Floats<4> x = load<4>(vector + k);
      CONVEC_UNROLL
      for (int q = 0; q < Queries; ++q) {
        if (q >= count) break;
        const Floats<4> y = load<4>(queries + q * stride + k);
        for (int i = 0; i < 4; ++i) sums[q] += x.at[i] * y.at[i];
      }
    }
    CONVEC_UNROLL
    for (int q = 0; q < Queries; ++q) {
      if (q >= count) break;
      const float dot = reduce_warp(sums[q]);
      if (lane == 0) similarities[q * rows + row] = divide_by_norm(dot, norms[row]);
    }
  }
}

// The product of queries and transposed vectors.
struct SimilarityProduct {
  struct Output {
    float* similarities;
    const float* norms;
    int64_t stride;

    __device__ __forceinline__ void store(int query, int row, const float* four, int left) const {
      for (int i = 0; i < 4; ++i)
        if (i < left) similarities[query * stride + row + i] = divide_by_norm(four[i], norms[row + i]);
    }
  };
  struct Operands {
    Matrix<true> a;
    Matrix<true> b;
    Output c;
    int rows, columns, depth;
  };

  Operands all;
  __device__ __forceinline__ Operands operands(int, int) const { return all; }
};

// similarities[t, i] of the terms and row i become one value a row (Levy and Goldberg, 2014, equation 4).
__global__ void __launch_bounds__(block_threads)
    multiply_kernel(const float* similarities, int64_t rows, int64_t positive, int64_t negative, float* output) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (row >= rows) return;
  float above = 1.0F;
  float below = 1.0F;
  for (int64_t term = 0; term < positive; ++term) above *= 0.5F * (1.0F + similarities[term * rows + row]);
  for (int64_t term = positive; term < positive + negative; ++term)
    below *= 0.5F * (1.0F + similarities[term * rows + row]);
  output[row] = above / (below + 1e-6F);
}

// A similarity that is not to be found.
struct Exclusion {
  std::int32_t query;
  std::int32_t row;  // of the table
};

__global__ void __launch_bounds__(block_threads)
    exclude_kernel(const Exclusion* exclusions, int64_t count, int64_t first_row, int64_t rows, float* similarities) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= count) return;
  const Exclusion exclusion = exclusions[index];
  const int64_t row = exclusion.row - first_row;
  if (row >= 0 && row < rows) similarities[exclusion.query * rows + row] = NAN;
}

// ---- The best of them -----------------------------------------------------------------------------------------------

// Similarities of each query and where they come from.
struct Similarities {
  const float* values;  // (queries, size)
  int64_t size;
  std::int32_t first_row;

  __device__ float value(int64_t query, int64_t i) const { return values[query * size + i]; }
  __device__ std::int32_t row(int64_t, int64_t i) const { return first_row + static_cast<std::int32_t>(i); }
};

// What warps have chosen: the first `size` of `capacity` entries a query.
struct Candidates {
  float* values;  // (queries, capacity)
  std::int32_t* rows;
  int64_t size;
  int64_t capacity;

  __device__ float value(int64_t query, int64_t i) const { return values[query * capacity + i]; }
  __device__ std::int32_t row(int64_t query, int64_t i) const { return rows[query * capacity + i]; }
};

// A warp's best so far, in shared memory, in their order. Entries that are still free have no row.
struct BestOfWarp {
  float* values;
  std::int32_t* rows;
  int wanted;
  int lane;

  __device__ void clear() const {
    for (int i = lane; i < wanted; i += warp_size) {
      values[i] = -INFINITY;
      rows[i] = no_row;
    }
    __syncwarp();
  }

  // As better() of vectors/search.hpp; false for NaN.
  __device__ static bool better(float a, std::int32_t a_row, float b, std::int32_t b_row) {
    return a > b || (a == b && a_row < b_row);
  }

  // One candidate a lane.
  __device__ void offer(float value, std::int32_t row) const {
    for (;;) {
      const bool wins = better(value, row, values[wanted - 1], rows[wanted - 1]);
      const unsigned winners = __ballot_sync(whole_warp, wins ? 1 : 0);
      if (winners == 0) return;
      const int winner = __ffs(static_cast<int>(winners)) - 1;
      insert(__shfl_sync(whole_warp, value, winner), __shfl_sync(whole_warp, row, winner));
      if (lane == winner) value = NAN;
    }
  }

 private:
  // The same candidate in every lane.
  __device__ void insert(float value, std::int32_t row) const {
    int place = 0;  // entries before it
    for (int first = (wanted - 1) / warp_size * warp_size; first >= 0; first -= warp_size) {
      const int i = first + lane;
      const float own_value = i < wanted ? values[i] : 0.0F;
      const std::int32_t own_row = i < wanted ? rows[i] : 0;
      const bool stays = i < wanted && better(own_value, own_row, value, row);
      place += __popc(__ballot_sync(whole_warp, stays ? 1 : 0));
      // All are read before one of them is overwritten; those above have moved already.
      __syncwarp();
      if (i + 1 < wanted && !stays) {
        values[i + 1] = own_value;
        rows[i + 1] = own_row;
      }
      __syncwarp();
    }
    if (lane == 0) {
      values[place] = value;
      rows[place] = row;
    }
    __syncwarp();
  }
};

// The best `wanted` of each range of each query; a warp a range. Those of range r are at r * wanted of the query's.
template <typename Source>
__global__ void __launch_bounds__(block_threads)
    select_kernel(Source source, int64_t queries, int64_t range, Divider by_ranges, int wanted, Candidates chosen) {
  auto* const shared_values = dynamic_shared<float>();
  auto* const shared_rows = reinterpret_cast<std::int32_t*>(shared_values + warps * wanted);
  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  std::uint32_t number = blockIdx.x * warps + static_cast<std::uint32_t>(warp);  // of the warp's range
  const int64_t query = by_ranges.split(number);
  if (query >= queries) return;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const BestOfWarp best{shared_values + warp * wanted, shared_rows + warp * wanted, wanted, lane};
  best.clear();
  const int64_t begin = number * range;
  const int64_t end = begin + range < source.size ? begin + range : source.size;
  for (int64_t first = begin; first < end; first += warp_size) {
    const int64_t i = first + lane;
    best.offer(i < end ? source.value(query, i) : NAN, i < end ? source.row(query, i) : no_row);
  }
  for (int i = lane; i < wanted; i += warp_size) {
    const int64_t to = query * chosen.capacity + number * wanted + i;
    chosen.values[to] = best.values[i];
    chosen.rows[to] = best.rows[i];
  }
}

int64_t padded(int64_t dim) { return (dim + 3) / 4 * 4; }

void check_table(int64_t rows, int64_t dim) {
  check::table({nullptr, rows, dim, dim});
  if (rows >= index_limit || dim >= index_limit)
    throw ShapeError("the table of vectors has shape (" + std::to_string(rows) + ", " + std::to_string(dim) +
                     "), but on a CUDA device extents must be below 2^31; search on the cpu");
}

}  // namespace

struct VectorsOnDevice::Impl {
  Impl(int64_t the_rows, int64_t the_dim, int device, int64_t the_most_similarities)
      : most_similarities(the_most_similarities),
        rows(the_rows),
        dim(the_dim),
        stride(padded(the_dim)),
        vectors(take(device, the_rows, the_dim)),
        norms(device, the_rows),
        stream(device),
        context{{DeviceType::cuda, device}, stream.get()} {
    check(cudaMemsetAsync(vectors.data(), 0, bytes_of(vectors.size()), stream.get()), "cudaMemsetAsync");
    check(cudaMemsetAsync(norms.data(), 0, bytes_of(rows), stream.get()), "cudaMemsetAsync");
    stream.wait();
  }

  static DeviceBuffer<float> take(int device, int64_t rows, int64_t dim) {
    const int64_t numbers = rows * padded(dim);
    require_memory(device, static_cast<int64_t>(bytes_of(numbers + rows)),
                   "a table of " + std::to_string(rows) + " vectors of " + std::to_string(dim) + " numbers",
                   "search on the cpu, or fewer vectors");
    return {device, numbers};
  }
  static std::size_t bytes_of(int64_t floats) { return static_cast<std::size_t>(floats) * sizeof(float); }
  int device() const { return context.device.index; }

  // Memory for so many elements at least; what was in it is lost.
  template <typename T>
  T* scratch(DeviceBuffer<T>& buffer, int64_t size) {
    if (buffer.size() < size) {
      buffer = {};
      buffer = DeviceBuffer<T>(device(), size);
    }
    return buffer.data();
  }

  // Rows of the table whose similarities to so many queries at once are held.
  int64_t part_rows(int64_t at_once, int64_t all) const {
    return std::clamp<int64_t>(most_similarities / std::max<int64_t>(at_once, 1), 1, std::max<int64_t>(all, 1));
  }

  // Copies queries to the device, where each takes `stride` numbers.
  void set_queries(const float* from, int64_t count) { set_queries(from, count, nullptr, 0); }
  void set_queries(const float* first, int64_t first_count, const float* second, int64_t second_count) {
    float* to = scratch(queries, (first_count + second_count) * stride);
    check(cudaMemsetAsync(to, 0, bytes_of((first_count + second_count) * stride), stream.get()), "cudaMemsetAsync");
    copy_rows(first, first_count, to);
    copy_rows(second, second_count, to + first_count * stride);
  }
  void copy_rows(const float* from, int64_t count, float* to, int64_t from_stride = -1) {
    if (count == 0 || dim == 0) return;
    check(cudaMemcpy2DAsync(to, bytes_of(stride), from, bytes_of(from_stride < 0 ? dim : from_stride), bytes_of(dim),
                            static_cast<std::size_t>(count), cudaMemcpyHostToDevice, stream.get()),
          "a copy to the device");
  }

  // Queues the similarities of the queries and rows [begin, begin + count): (queries, count).
  void multiply(int64_t queries_now, int64_t begin, int64_t count) {
    float* to = scratch(similarities, queries_now * count);
    const float* from = queries.data();
    const float* part = vectors.data() + begin * stride;
    if (queries_now <= few_queries) {
      const auto kernel = queries_now == 1 ? dots_kernel<1> : dots_kernel<few_queries>;
      launch(kernel, {loop_grid(device(), count * warp_size), block_threads, 0, stream.get()}, part,
             norms.data() + begin, stride, count, from, queries_now, to);
      return;
    }
    const auto all = static_cast<int>(queries_now);
    const auto columns = static_cast<int>(count);
    const SimilarityProduct product{{{from, stride, all, true},
                                     {part, stride, columns, true},
                                     {to, norms.data() + begin, count},
                                     all,
                                     columns,
                                     static_cast<int>(stride)}};
    run_in_float32(context, MatmulPlan(context, 1, queries_now, count, stride, false, false), product);
  }

  // Calls found(similarities, first row, rows) for parts of rows [begin, end).
  template <typename Found>
  void for_similarities(int64_t queries_now, int64_t begin, int64_t end, Found&& found) {
    const int64_t part = part_rows(queries_now, end - begin);
    for (int64_t first = begin; first < end; first += part) {
      const int64_t count = std::min(part, end - first);
      multiply(queries_now, first, count);
      found(similarities.data(), first, count);
    }
  }

  // The same with the similarities of all terms as one value a row.
  template <typename Found>
  void for_products(int64_t positive, int64_t negative, int64_t begin, int64_t end, Found&& found) {
    const int64_t terms = positive + negative;
    const int64_t part = part_rows(terms, end - begin);
    for (int64_t first = begin; first < end; first += part) {
      const int64_t count = std::min(part, end - first);
      float* to = scratch(products, part);
      if (terms > 0) multiply(terms, first, count);
      launch(multiply_kernel, {grid_of(count), block_threads, 0, stream.get()}, similarities.data(), count, positive,
             negative, to);
      found(to, first, count);
    }
  }

  // Copies (queries, count) numbers to columns of (queries, all).
  void copy_out(const float* from, int64_t queries_now, int64_t count, float* to, int64_t all) {
    check(cudaMemcpy2DAsync(to, bytes_of(all), from, bytes_of(count), bytes_of(count),
                            static_cast<std::size_t>(queries_now), cudaMemcpyDeviceToHost, stream.get()),
          "a copy from the device");
    stream.wait();
  }

  // The exclusions of some queries that matter, onto the device.
  std::vector<Exclusion> set_exclusions(const NearestOptions& options, int64_t first_query, int64_t queries_now) {
    std::vector<Exclusion> found;
    if (options.excluded == nullptr) return found;
    for (int64_t q = 0; q < queries_now; ++q)
      for (int64_t i = options.excluded_offsets[first_query + q]; i < options.excluded_offsets[first_query + q + 1];
           ++i)
        if (options.excluded[i] >= options.begin && options.excluded[i] < options.end)
          found.push_back({static_cast<std::int32_t>(q), static_cast<std::int32_t>(options.excluded[i])});
    if (!found.empty())
      check(cudaMemcpyAsync(scratch(exclusions, static_cast<int64_t>(found.size())), found.data(),
                            found.size() * sizeof(Exclusion), cudaMemcpyHostToDevice, stream.get()),
            "a copy to the device");
    return found;
  }

  // The neighbours of some queries. for_parts(found) calls found(values, first row, rows) for parts of the values.
  template <typename ForParts>
  void choose(const NearestOptions& options, int64_t first_query, int64_t queries_now, vectors::Poll& poll,
              int64_t* rows_found, float* values_found, ForParts&& for_parts) {
    const int64_t wanted = vectors::neighbours_wanted(options);
    const std::vector<Exclusion> excluded = set_exclusions(options, first_query, queries_now);
    const Drain drain{stream.get()};
    const auto exclude = [&](float* values, int64_t first, int64_t count) {
      const auto size = static_cast<int64_t>(excluded.size());
      if (size > 0)
        launch(exclude_kernel, {grid_of(size), block_threads, 0, stream.get()}, exclusions.data(), size, first, count,
               values);
    };
    const auto write = [&](int64_t q, int64_t i, int64_t row, float value) {
      rows_found[(first_query + q) * options.topn + i] = row;
      values_found[(first_query + q) * options.topn + i] = value;
    };
    if (wanted > most_on_device) {
      std::vector<vectors::Best> best;
      best.reserve(static_cast<std::size_t>(queries_now));
      for (int64_t q = 0; q < queries_now; ++q) best.emplace_back(wanted, nullptr, nullptr);
      std::vector<float> host;
      for_parts([&](float* values, int64_t first, int64_t count) {
        exclude(values, first, count);
        host.resize(static_cast<std::size_t>(queries_now * count));
        copy_out(values, queries_now, count, host.data(), count);
        for (int64_t q = 0; q < queries_now; ++q)
          for (int64_t i = 0; i < count; ++i)
            best[static_cast<std::size_t>(q)].offer(host[static_cast<std::size_t>(q * count + i)], first + i);
        poll();
      });
      for (int64_t q = 0; q < queries_now; ++q) {
        int64_t i = 0;
        for (const vectors::Neighbour& n : best[static_cast<std::size_t>(q)].sorted())
          write(q, i++, n.row, n.similarity);
      }
      return;
    }

    // The best so far, where there are any, and after them those of a part's ranges.
    const int64_t ranges = (part_rows(queries_now, options.end - options.begin) + range_rows - 1) / range_rows;
    const int64_t capacity = (1 + ranges) * wanted;
    float* chosen_values = scratch(candidate_values, queries_now * capacity);
    std::int32_t* chosen_rows = scratch(candidate_rows, queries_now * capacity);
    int64_t kept = 0;
    for_parts([&](float* values, int64_t first, int64_t count) {
      exclude(values, first, count);
      const int64_t ranges_now = (count + range_rows - 1) / range_rows;
      select(Similarities{values, count, static_cast<std::int32_t>(first)}, queries_now, range_rows, ranges_now, wanted,
             {chosen_values + kept, chosen_rows + kept, 0, capacity});
      const int64_t candidates = kept + ranges_now * wanted;
      const Candidates all{chosen_values, chosen_rows, candidates, capacity};
      if (candidates > wanted) select(all, queries_now, candidates, 1, wanted, all);
      kept = wanted;
      poll();
    });
    std::vector<float> host_values(static_cast<std::size_t>(queries_now * wanted));
    std::vector<std::int32_t> host_rows(host_values.size());
    const auto copy = [&](void* to, const void* from) {
      constexpr std::size_t element = sizeof(float);
      static_assert(sizeof(std::int32_t) == element);
      const auto width = static_cast<std::size_t>(wanted) * element;
      check(cudaMemcpy2DAsync(to, width, from, static_cast<std::size_t>(capacity) * element, width,
                              static_cast<std::size_t>(queries_now), cudaMemcpyDeviceToHost, stream.get()),
            "a copy from the device");
    };
    copy(host_values.data(), chosen_values);
    copy(host_rows.data(), chosen_rows);
    stream.wait();
    for (int64_t q = 0; q < queries_now; ++q)
      for (int64_t i = 0; i < wanted; ++i) {
        const auto from = static_cast<std::size_t>(q * wanted + i);
        if (host_rows[from] != no_row) write(q, i, host_rows[from], host_values[from]);
      }
  }

  template <typename Source>
  void select(const Source& source, int64_t queries_now, int64_t range, int64_t ranges, int64_t wanted,
              const Candidates& chosen) {
    const std::size_t shared = static_cast<std::size_t>(warps * wanted) * (sizeof(float) + sizeof(std::int32_t));
    launch(select_kernel<Source>, {grid_of(queries_now * ranges * warp_size), block_threads, shared, stream.get()},
           source, queries_now, range, Divider(ranges), wanted, chosen);
  }

  // Waits at the end of a scope: what was queued reads and writes the host's memory.
  struct Drain {
    cudaStream_t stream;
    ~Drain() { static_cast<void>(cudaStreamSynchronize(stream)); }
  };

  int64_t most_similarities;
  int64_t rows;
  int64_t dim;
  int64_t stride;  // numbers from one vector to the next; those beyond dim are zero
  DeviceBuffer<float> vectors;
  DeviceBuffer<float> norms;
  Stream stream;
  Context context;
  std::mutex mutex;
  // Scratch memory.
  DeviceBuffer<float> queries;
  DeviceBuffer<float> similarities;
  DeviceBuffer<float> products;
  DeviceBuffer<Exclusion> exclusions;
  DeviceBuffer<float> candidate_values;
  DeviceBuffer<std::int32_t> candidate_rows;
};

VectorsOnDevice::VectorsOnDevice(std::int64_t rows, std::int64_t dim, int device, std::int64_t most_similarities) {
  check_table(rows, dim);
  if (most_similarities < 1)
    throw ValueError("most_similarities is " + std::to_string(most_similarities) + ", but must be at least 1");
  const DeviceGuard guard(device);
  impl_ = std::make_unique<Impl>(rows, dim, device, most_similarities);
}
VectorsOnDevice::~VectorsOnDevice() = default;
VectorsOnDevice::VectorsOnDevice(VectorsOnDevice&&) noexcept = default;
VectorsOnDevice& VectorsOnDevice::operator=(VectorsOnDevice&&) noexcept = default;

std::int64_t VectorsOnDevice::rows() const noexcept { return impl_->rows; }
std::int64_t VectorsOnDevice::dim() const noexcept { return impl_->dim; }

void VectorsOnDevice::copy_in(std::int64_t first, const VectorTable& table, const float* norms) {
  check::table(table);
  Impl& impl = *impl_;
  if (table.dim != impl.dim || first < 0 || first > impl.rows || table.rows > impl.rows - first)
    throw ShapeError("rows " + std::to_string(first) + " to " + std::to_string(first + table.rows) + " of " +
                     std::to_string(table.dim) + " numbers are given, but the table on the device has shape (" +
                     std::to_string(impl.rows) + ", " + std::to_string(impl.dim) + ")");
  if (table.rows == 0) return;
  const std::lock_guard<std::mutex> lock(impl.mutex);
  const DeviceGuard guard(impl.device());
  std::vector<float> ones;
  if (norms == nullptr) ones.assign(static_cast<std::size_t>(table.rows), 1.0F);
  const Impl::Drain drain{impl.stream.get()};
  impl.copy_rows(table.data, table.rows, impl.vectors.data() + first * impl.stride, table.stride);
  check(cudaMemcpyAsync(impl.norms.data() + first, norms == nullptr ? ones.data() : norms, Impl::bytes_of(table.rows),
                        cudaMemcpyHostToDevice, impl.stream.get()),
        "a copy to the device");
  impl.stream.wait();
}

void VectorsOnDevice::similarities(const float* queries, std::int64_t count, std::int64_t begin, std::int64_t end,
                                   float* output) const {
  Impl& impl = *impl_;
  check::count(count, "queries");
  check::range(begin, end, impl.rows);
  const std::lock_guard<std::mutex> lock(impl.mutex);
  const DeviceGuard guard(impl.device());
  const Impl::Drain drain{impl.stream.get()};
  const int64_t all = end - begin;
  for (int64_t first = 0; first < count; first += group_queries) {
    const int64_t now = std::min(group_queries, count - first);
    impl.set_queries(queries + first * impl.dim, now);
    impl.for_similarities(now, begin, end, [&](const float* values, int64_t row, int64_t rows_now) {
      impl.copy_out(values, now, rows_now, output + first * all + (row - begin), all);
    });
  }
}

void VectorsOnDevice::nearest(const float* queries, std::int64_t count, const NearestOptions& options,
                              std::int64_t* rows, float* similarities) const {
  Impl& impl = *impl_;
  check::search(impl.rows, options, count);
  std::fill_n(rows, count * options.topn, -1);
  std::fill_n(similarities, count * options.topn, std::numeric_limits<float>::quiet_NaN());
  const int64_t wanted = vectors::neighbours_wanted(options);
  if (wanted == 0) return;
  const std::lock_guard<std::mutex> lock(impl.mutex);
  const DeviceGuard guard(impl.device());
  const Impl::Drain drain{impl.stream.get()};
  vectors::Poll poll(options.poll);
  const int64_t group = wanted > most_on_device ? vectors::queries_at_once(wanted, 1, group_queries) : group_queries;
  for (int64_t first = 0; first < count; first += group) {
    const int64_t now = std::min(group, count - first);
    impl.set_queries(queries + first * impl.dim, now);
    impl.choose(options, first, now, poll, rows, similarities,
                [&](const auto& found) { impl.for_similarities(now, options.begin, options.end, found); });
  }
}

void VectorsOnDevice::multiplicative(const float* positive, std::int64_t positive_count, const float* negative,
                                     std::int64_t negative_count, std::int64_t begin, std::int64_t end,
                                     float* output) const {
  Impl& impl = *impl_;
  check::count(positive_count, "positive vectors");
  check::count(negative_count, "negative vectors");
  check::range(begin, end, impl.rows);
  const std::lock_guard<std::mutex> lock(impl.mutex);
  const DeviceGuard guard(impl.device());
  const Impl::Drain drain{impl.stream.get()};
  impl.set_queries(positive, positive_count, negative, negative_count);
  impl.for_products(positive_count, negative_count, begin, end,
                    [&](const float* values, int64_t row, int64_t rows_now) {
                      impl.copy_out(values, 1, rows_now, output + (row - begin), rows_now);
                    });
}

void VectorsOnDevice::nearest_multiplicative(const float* positive, std::int64_t positive_count, const float* negative,
                                             std::int64_t negative_count, const NearestOptions& options,
                                             std::int64_t* rows, float* similarities) const {
  Impl& impl = *impl_;
  check::search(impl.rows, options, 1);
  check::count(positive_count, "positive vectors");
  check::count(negative_count, "negative vectors");
  std::fill_n(rows, options.topn, -1);
  std::fill_n(similarities, options.topn, std::numeric_limits<float>::quiet_NaN());
  if (vectors::neighbours_wanted(options) == 0) return;
  const std::lock_guard<std::mutex> lock(impl.mutex);
  const DeviceGuard guard(impl.device());
  const Impl::Drain drain{impl.stream.get()};
  vectors::Poll poll(options.poll);
  impl.set_queries(positive, positive_count, negative, negative_count);
  impl.choose(options, 0, 1, poll, rows, similarities, [&](const auto& found) {
    impl.for_products(positive_count, negative_count, options.begin, options.end, found);
  });
}

}  // namespace convec::cuda
