#include "matmul.hpp"

#include <atomic>

#include "cuda_backend.hpp"

namespace convec::cuda {

namespace {

template <typename Element>
__global__ void __launch_bounds__(block_threads)
    add_slices_kernel(PartialSums parts, int slices, int64_t count, Divider by_columns, Divider by_rows,
                      MatrixOutput<Element> to, int64_t z_step) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= count) return;
  float sum = 0.0F;
  for (int slice = 0; slice < slices; ++slice) sum += parts.data[slice * parts.slice_size + index];
  auto column = static_cast<std::uint32_t>(index);
  std::uint32_t row = by_columns.split(column);
  const std::uint32_t z = by_rows.split(row);
  MatrixOutput<Element> own = to;
  own.data += z * z_step;
  if (own.bias != nullptr) own.bias += z * z_step;
  own.vectors = false;
  const float four[4] = {sum, 0.0F, 0.0F, 0.0F};
  own.store(static_cast<int>(row), static_cast<int>(column), four, 1);
}

// ---- Sums of columns ------------------------------------------------------------------------------------------------

constexpr int lanes = 32;
constexpr int rows_at_once = block_threads / lanes;
constexpr int64_t most_slices = 256;

__device__ __forceinline__ float value_of(float number) { return number; }
__device__ __forceinline__ float value_of(BFloat16 number) { return __uint_as_float(Word{number.bits} << 16U); }

// Blocks of 32 columns and a slice of the rows.
template <typename Element>
__global__ void __launch_bounds__(block_threads)
    column_sums_kernel(int64_t rows, int64_t columns, int64_t slice, const Element* matrix, float* sums) {
  __shared__ float shared[rows_at_once][lanes];
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  const int at = static_cast<int>(threadIdx.x) / lanes;
  const int64_t column = static_cast<int64_t>(blockIdx.x) * lanes + lane;
  const int64_t begin = static_cast<int64_t>(blockIdx.y) * slice;
  const int64_t end = begin + slice < rows ? begin + slice : rows;
  float sum = 0.0F;
  if (column < columns) {
    // Sums of 64 elements are summed in turn: the rounding error stays small.
    constexpr int chunk = 64 * rows_at_once;
    for (int64_t first = begin + at; first < end; first += chunk) {
      float part = 0.0F;
      for (int64_t row = first; row < end && row < first + chunk; row += rows_at_once)
        part += value_of(matrix[row * columns + column]);
      sum += part;
    }
  }
  shared[at][lane] = sum;
  __syncthreads();
  if (at != 0 || column >= columns) return;
  for (int row = 1; row < rows_at_once; ++row) sum += shared[row][lane];
  sums[static_cast<int64_t>(blockIdx.y) * columns + column] = sum;
}

// ---- bfloat16 and back ----------------------------------------------------------------------------------------------

// Arrays come from elsewhere and may begin at any element.
__global__ void __launch_bounds__(block_threads) widen_kernel(int64_t size, const BFloat16* from, float* to) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < size; i += step)
    to[i] = value_of(from[i]);
}

__global__ void __launch_bounds__(block_threads) narrow_kernel(int64_t size, const float* from, BFloat16* to) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < size; i += step)
    to[i].bits = static_cast<std::uint16_t>(to_bfloat16_pair(from[i], 0.0F));
}

template <typename Element>
__global__ void __launch_bounds__(block_threads)
    resize_lines_kernel(int64_t size, int64_t from_numbers, Divider by_numbers, const Element* from, Element* to) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= size) return;
  auto number = static_cast<std::uint32_t>(index);
  const std::uint32_t line = by_numbers.split(number);
  to[index] = number < from_numbers ? from[line * from_numbers + number] : Element{};
}

// Says which code of this build a device runs.
__global__ void probe_kernel() {}

std::atomic<bool> pipelined{true};
std::atomic<bool> warpgroups{false};

int attribute_of(int device, cudaDeviceAttr attribute) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, attribute, device), "cudaDeviceGetAttribute");
  return value;
}

}  // namespace

bool products_are_pipelined() { return pipelined; }
bool pipeline_products(bool enabled) { return pipelined.exchange(enabled); }

bool use_warpgroups(bool enabled) { return warpgroups.exchange(enabled); }
bool warpgroups_multiply(int device) {
#if CONVEC_WARPGROUPS
  return warpgroups && attribute_of(device, cudaDevAttrComputeCapabilityMajor) == 9 &&
         attribute_of(device, cudaDevAttrComputeCapabilityMinor) == 0;
#else
  static_cast<void>(device);
  return false;
#endif
}

bool tensor_cores(int device) {
  if (attribute_of(device, cudaDevAttrComputeCapabilityMajor) < 8) return false;
  constexpr int most_devices = 64;
  static std::atomic<int> known[most_devices] = {};  // the virtual architecture, e.g. 90
  std::atomic<int>& compiled_for = known[device % most_devices];
  if (compiled_for == 0) {
    const DeviceGuard guard(device);
    cudaFuncAttributes attributes{};
    check(cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(probe_kernel)), "cudaFuncGetAttributes");
    compiled_for = attributes.ptxVersion;
  }
  return compiled_for >= 80;
}

template <typename Element>
void add_slices(const Context& context, const PartialSums& parts, int slices, int z, int rows, int columns,
                const MatrixOutput<Element>& to, int64_t z_step) {
  const int64_t count = int64_t{z} * rows * columns;
  if (count >= index_limit) throw ShapeError("a matrix product of 2^31 or more elements is too large for one launch");
  launch(add_slices_kernel<Element>, {grid_of(count), block_threads, 0, stream_of(context)}, parts, slices, count,
         Divider(columns), Divider(rows), to, z_step);
}

template void add_slices(const Context&, const PartialSums&, int, int, int, int, const MatrixOutput<float>&, int64_t);
template void add_slices(const Context&, const PartialSums&, int, int, int, int, const MatrixOutput<BFloat16>&,
                         int64_t);

template <typename Element>
void column_sums(const Context& context, int64_t rows, int64_t columns, const Element* matrix, float* sums) {
  constexpr int64_t least = 128;  // rows of a slice
  const int64_t across = (columns + lanes - 1) / lanes;
  const int64_t wanted = 1 + int64_t{2} * multiprocessors(context.device.index) / across;
  int64_t slices = std::min({most_slices, wanted, (rows + least - 1) / least});
  slices = std::max<int64_t>(slices, 1);
  const int64_t slice = (rows + slices - 1) / slices;
  const dim3 grid(static_cast<unsigned int>(across), static_cast<unsigned int>(slices));
  if (slices == 1) {
    launch(column_sums_kernel<Element>, {grid, block_threads, 0, stream_of(context)}, rows, columns, slice, matrix,
           sums);
    return;
  }
  Scratch scratch(context);
  float* parts = scratch.take<float>(slices * columns);
  launch(column_sums_kernel<Element>, {grid, block_threads, 0, stream_of(context)}, rows, columns, slice, matrix,
         parts);
  launch(column_sums_kernel<float>, {dim3(grid.x), block_threads, 0, stream_of(context)}, slices, columns, slices,
         parts, sums);
}
template void column_sums(const Context&, int64_t, int64_t, const float*, float*);
template void column_sums(const Context&, int64_t, int64_t, const BFloat16*, float*);

template <typename Element>
void resize_lines(const Context& context, int64_t lines, int64_t from_numbers, int64_t to_numbers, const Element* from,
                  Element* to) {
  if (to_numbers >= index_limit) throw ShapeError("a line of 2^31 or more numbers is too long for one launch");
  const int64_t most = (index_limit - 1) / to_numbers;
  for (int64_t first = 0; first < lines; first += most) {
    const int64_t size = std::min(most, lines - first) * to_numbers;
    launch(resize_lines_kernel<Element>, {grid_of(size), block_threads, 0, stream_of(context)}, size, from_numbers,
           Divider(to_numbers), from + first * from_numbers, to + first * to_numbers);
  }
}
template void resize_lines(const Context&, int64_t, int64_t, int64_t, const float*, float*);
template void resize_lines(const Context&, int64_t, int64_t, int64_t, const BFloat16*, BFloat16*);

void widen(const Context& context, int64_t size, const BFloat16* from, float* to) {
  if (size == 0) return;
  launch(widen_kernel, {loop_grid(context.device.index, size), block_threads, 0, stream_of(context)}, size, from, to);
}

void narrow(const Context& context, int64_t size, const float* from, BFloat16* to) {
  if (size == 0) return;
  launch(narrow_kernel, {loop_grid(context.device.index, size), block_threads, 0, stream_of(context)}, size, from, to);
}

}  // namespace convec::cuda
