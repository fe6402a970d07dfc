// The emulated CUDA device: every primitive the kernels count on, and the mistakes it is there to expose.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <convec/error.hpp>

#include "async_copy.hpp"
#include "emulation.hpp"
#include "launch.hpp"
#include "test.hpp"

using convec::DeviceError;
using convec::cuda::check;
using convec::cuda::dynamic_shared;
using convec::cuda::Launch;
using convec::cuda::launch;
using convec::emulation::Schedule;

namespace {

constexpr unsigned all_lanes = 0xFFFFFFFFU;
constexpr Schedule schedules[] = {Schedule::round_robin, Schedule::round_robin_reversed, Schedule::one_warp,
                                  Schedule::one_warp_reversed, Schedule::shuffled};

// Device memory that starts as zeros.
template <typename T>
class Array {
 public:
  explicit Array(std::size_t size) : size_(size) {
    check(cudaMalloc(&data_, size * sizeof(T)), "cudaMalloc");
    check(cudaMemset(data_, 0, size * sizeof(T)), "cudaMemset");
  }
  ~Array() { static_cast<void>(cudaFree(data_)); }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;

  T* data() const { return data_; }
  std::vector<T> read() const {
    std::vector<T> host(size_);
    check(cudaMemcpy(host.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost), "cudaMemcpy");
    return host;
  }

 private:
  T* data_ = nullptr;
  std::size_t size_;
};

// Restores the device after a test that broke it.
struct Reset {
  Reset() = default;
  ~Reset() {
    cudaDeviceReset();
    convec::emulation::set_schedule(Schedule::round_robin);
    convec::emulation::set_memory(std::size_t{1} << 30U);
  }
  Reset(const Reset&) = delete;
  Reset& operator=(const Reset&) = delete;
};

template <typename T, typename... P, typename... A>
std::vector<T> run(void (*kernel)(P...), const Launch& where, std::size_t size, Schedule schedule, A... arguments) {
  convec::emulation::set_schedule(schedule, 7);
  const Array<T> out(size);
  launch(kernel, where, out.data(), arguments...);
  check(cudaDeviceSynchronize(), "the kernel");
  return out.read();
}

// What the failing kernel is said to have done.
template <typename... P, typename... A>
std::string failure_of(void (*kernel)(P...), const Launch& where, A... arguments) {
  const Reset reset;
  const Array<float> out(4096);
  try {
    launch(kernel, where, out.data(), arguments...);
    check(cudaDeviceSynchronize(), "the kernel");
  } catch (const DeviceError& error) {
    return error.what();
  }
  return "nothing";
}

void check_contains(const std::string& text, const std::string& part, int line) {
  if (text.find(part) == std::string::npos)
    convec::test::fail(__FILE__, line, "'" + text + "' does not contain '" + part + "'");
}
#define CHECK_CONTAINS(text, part) check_contains(text, part, __LINE__)

__global__ void indices(unsigned* out) {
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  out[block * blockDim.x * blockDim.y * blockDim.z + thread] = 1000 * block + thread;
}

__global__ void reverse(int* out) {
  __shared__ int values[256];
  values[threadIdx.x] = static_cast<int>(threadIdx.x);
  __syncthreads();
  out[threadIdx.x] = values[blockDim.x - 1 - threadIdx.x];
}

__global__ void reverse_without_barrier(int* out) {
  __shared__ int values[256];
  values[threadIdx.x] = -1;
  __syncthreads();
  values[threadIdx.x] = static_cast<int>(threadIdx.x);
  out[threadIdx.x] = values[blockDim.x - 1 - threadIdx.x];
}

// Each thread takes what its neighbour of the next warp wrote, and its warp then writes something new. `wait`: the
// barrier in between, which is easily forgotten. While all warps advance in step nobody notices.
__global__ void exchange(int* out, bool wait) {
  __shared__ int values[128];
  values[threadIdx.x] = static_cast<int>(threadIdx.x);
  __syncthreads();
  const int taken = __shfl_xor_sync(all_lanes, values[(threadIdx.x + 32) % blockDim.x], 1);
  if (wait) __syncthreads();
  values[threadIdx.x] = -1;
  out[threadIdx.x] = taken;
}

__global__ void broadcast_in_shared(int* out, bool wait) {
  __shared__ int value;
  if (threadIdx.x == 0) value = -1;
  __syncthreads();
  if (threadIdx.x == 0) value = 5;
  if (wait) __syncwarp();
  out[threadIdx.x] = value;
}

__global__ void shuffles(int* out) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  int* row = out + 8 * threadIdx.x;
  int sum = lane;
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(all_lanes, sum, step);
  row[0] = sum;
  row[1] = __shfl_sync(all_lanes, lane, 5);
  row[2] = __shfl_up_sync(all_lanes, lane, 3);
  row[3] = __shfl_down_sync(all_lanes, lane, 3);
  row[4] = __shfl_sync(all_lanes, lane, 9, 8);
  row[5] = __shfl_down_sync(all_lanes, lane, 1, 4);
  row[6] = static_cast<int>(__shfl_xor_sync(all_lanes, 0.5 * lane, 1) * 2.0);
  row[7] = __shfl_xor_sync(all_lanes, lane, 8, 8);
}

__global__ void votes(unsigned* out) {
  const int lane = static_cast<int>(threadIdx.x);
  unsigned* row = out + 8 * lane;
  row[0] = __ballot_sync(all_lanes, lane % 3 == 0);
  row[1] = static_cast<unsigned>(__any_sync(all_lanes, lane == 31) + 2 * __any_sync(all_lanes, lane > 31));
  row[2] = static_cast<unsigned>(__all_sync(all_lanes, lane < 32) + 2 * __all_sync(all_lanes, lane < 31));
  row[3] = __match_any_sync(all_lanes, lane / 8);
  row[4] = __reduce_add_sync(all_lanes, static_cast<unsigned>(lane));
  row[5] = static_cast<unsigned>(__reduce_max_sync(all_lanes, -lane) + 1);
  // The halves diverge and work apart.
  if (lane < 16)
    row[6] = __ballot_sync(0x0000FFFFU, lane % 2 == 0);
  else
    row[6] = __reduce_min_sync(0xFFFF0000U, static_cast<unsigned>(lane));
  row[7] = __activemask();
}

__global__ void barrier_votes(int* out) {
  const int thread = static_cast<int>(threadIdx.x);
  const int count = __syncthreads_count(thread < 40);
  const int any = __syncthreads_or(thread == 63);
  const int all = __syncthreads_and(thread != 63);
  out[thread] = 100 * count + 10 * any + all;
}

__global__ void atomics(int* out) {
  const int thread = static_cast<int>(threadIdx.x);
  atomicAdd(&out[0], thread);
  atomicMax(&out[1], thread);
  atomicMin(&out[2], -thread);
  atomicOr(&out[3], thread % 256);
  int seen = out[4];
  for (int expected = seen - 1; expected != seen;) {
    expected = seen;
    seen = atomicCAS(&out[4], expected, expected + 2);
  }
  if (atomicExch(&out[5], 1) == 0) atomicAdd(&out[6], 1);
}

__global__ void wide_atomics(float* out) {
  atomicAdd(reinterpret_cast<float4*>(out), make_float4(1.0F, 2.0F, 3.0F, 4.0F));
  atomicAdd(reinterpret_cast<float2*>(out + 4), make_float2(0.5F, 0.25F));
}

__global__ void fill_shared(float* out, int size) {
  float* shared = dynamic_shared<float>();
  if (threadIdx.x == 0) out[size] = std::isnan(shared[size - 1]) ? 1.0F : 0.0F;
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < size; i += static_cast<int>(blockDim.x))
    shared[i] = static_cast<float>(i);
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < size; i += static_cast<int>(blockDim.x))
    out[i] = shared[size - 1 - i];
}

__global__ void some_leave(float*) {
  if (threadIdx.x >= 40) return;
  __syncthreads();
}
__global__ void two_barriers(float*) {
  // NOLINTNEXTLINE(bugprone-branch-clone): that is the mistake
  if (threadIdx.x < 32)
    __syncthreads();
  else
    __syncthreads();
}
__global__ void barrier_and_shuffle(float*) {
  if (threadIdx.x == 3)
    __syncthreads();
  else
    __syncwarp();
}
__global__ void half_a_warp(float*) {
  if (threadIdx.x < 16) __syncwarp();
}
__global__ void not_in_mask(float*) { __syncwarp(0x1U); }
__global__ void reads_beyond_mask(float* out) {
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_sync(0xFFFFU, 1.0F, 20);
}
__global__ void traps(float*) {
  if (threadIdx.x == 5) __trap();
}

// A ring of three stages, filled two steps ahead: a thread copies one four of each, and adds up what its neighbour of
// the other warp has copied.
enum class Mistake { none, no_wait, late_wait, no_barrier, early_copy, no_last_wait };
__global__ void ring(float* out, const float* from, int steps, Mistake mistake) {
  using convec::cuda::commit_copies;
  using convec::cuda::copy_async;
  using convec::cuda::wait_for_copies;
  auto* stages = dynamic_shared<float4>();
  const auto thread = static_cast<int>(threadIdx.x);
  const int threads = static_cast<int>(blockDim.x);
  const int other = (thread + 32) % threads;
  const auto fetch = [&](int step) {
    // The last step's fours are zeros.
    copy_async(stages + step % 3 * threads + thread, from + 4 * (step * threads + thread), step + 1 < steps);
    commit_copies();
  };
  float sum = 0.0F;
  fetch(0);
  fetch(1);
  for (int step = 0; step < steps; ++step) {
    if (mistake == Mistake::late_wait)
      wait_for_copies<2>();
    else if (mistake != Mistake::no_wait)
      wait_for_copies<1>();
    if (mistake == Mistake::early_copy) fetch(step + 2);
    if (mistake != Mistake::no_barrier) __syncthreads();
    if (mistake != Mistake::early_copy) fetch(step + 2);
    const float4 four = stages[step % 3 * threads + other];
    sum += four.x + four.y + four.z + four.w;
  }
  if (mistake != Mistake::no_last_wait) wait_for_copies<0>();
  out[thread] = sum;
}
__global__ void copies_misaligned(float* out) { convec::cuda::copy_async(dynamic_shared<float>(), out + 1, true); }

__global__ void add_one(int* values, int size) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < size) values[i] += 1;
}

__global__ void spin(int* flag) {
  if (threadIdx.x == 0)
    while (*flag == 0) __nanosleep(10);
  else
    *flag = 1;
}

}  // namespace

TEST(every_thread_of_every_block_runs_once) {
  for (const Schedule schedule : schedules) {
    const auto out = run<unsigned>(indices, {dim3(2, 3, 2), dim3(5, 4, 3)}, 12 * 60, schedule);
    for (unsigned i = 0; i < out.size(); ++i) CHECK_EQ(out[i], 1000 * (i / 60) + i % 60);
  }
  CHECK_EQ(run<unsigned>(indices, {dim3(1), dim3(1024)}, 1024, Schedule::one_warp)[1023], 1023U);
}

TEST(a_barrier_waits_for_the_block) {
  for (const Schedule schedule : schedules)
    for (const unsigned size : {1U, 31U, 32U, 33U, 256U}) {
      const auto out = run<int>(reverse, {dim3(1), dim3(size)}, size, schedule);
      for (unsigned i = 0; i < size; ++i) CHECK_EQ(out[i], static_cast<int>(size - 1 - i));
    }
}

TEST(a_missing_barrier_before_a_read_is_exposed) {
  for (const Schedule schedule : schedules) {
    const auto out = run<int>(reverse_without_barrier, {dim3(1), dim3(256)}, 256, schedule);
    bool right = true;
    for (int i = 0; i < 256; ++i) right = right && out[static_cast<std::size_t>(i)] == 255 - i;
    CHECK(!right);
  }
}

TEST(a_missing_barrier_before_a_write_is_exposed_by_running_one_warp) {
  const auto right = [](const std::vector<int>& out) {
    for (std::size_t i = 0; i < out.size(); ++i)
      if (out[i] != static_cast<int>((i + 32) % 128 ^ 1U)) return false;
    return true;
  };
  for (const Schedule schedule : schedules) CHECK(right(run<int>(exchange, {dim3(1), dim3(128)}, 128, schedule, true)));
  CHECK(right(run<int>(exchange, {dim3(1), dim3(128)}, 128, Schedule::round_robin, false)));
  CHECK(!right(run<int>(exchange, {dim3(1), dim3(128)}, 128, Schedule::one_warp, false)));
  CHECK(!right(run<int>(exchange, {dim3(1), dim3(128)}, 128, Schedule::one_warp_reversed, false)));
}

TEST(a_missing_wait_within_a_warp_is_exposed_by_running_backwards) {
  for (const Schedule schedule : schedules)
    for (const int value : run<int>(broadcast_in_shared, {dim3(1), dim3(32)}, 32, schedule, true)) CHECK_EQ(value, 5);
  CHECK_EQ(run<int>(broadcast_in_shared, {dim3(1), dim3(32)}, 32, Schedule::round_robin, false)[31], 5);
  CHECK_EQ(run<int>(broadcast_in_shared, {dim3(1), dim3(32)}, 32, Schedule::round_robin_reversed, false)[31], -1);
}

TEST(shuffles_move_values_between_lanes) {
  for (const Schedule schedule : schedules) {
    const auto out = run<int>(shuffles, {dim3(1), dim3(64)}, 8 * 64, schedule);
    for (int thread = 0; thread < 64; ++thread) {
      const int lane = thread % 32;
      const int* row = out.data() + 8 * thread;
      CHECK_EQ(row[0], 31 * 16);
      CHECK_EQ(row[1], 5);
      CHECK_EQ(row[2], lane < 3 ? lane : lane - 3);
      CHECK_EQ(row[3], lane > 28 ? lane : lane + 3);
      CHECK_EQ(row[4], lane / 8 * 8 + 1);
      CHECK_EQ(row[5], lane % 4 == 3 ? lane : lane + 1);
      CHECK_EQ(row[6], lane + (lane % 2 == 0 ? 1 : -1));
      CHECK_EQ(row[7], lane);  // beyond the width: its own
    }
  }
}

TEST(votes_and_reductions_see_the_lanes_of_the_mask) {
  for (const Schedule schedule : schedules) {
    const auto out = run<unsigned>(votes, {dim3(1), dim3(32)}, 8 * 32, schedule);
    for (unsigned lane = 0; lane < 32; ++lane) {
      const unsigned* row = &out[8 * lane];
      CHECK_EQ(row[0], 0x49249249U);
      CHECK_EQ(row[1], 1U);
      CHECK_EQ(row[2], 1U);
      CHECK_EQ(row[3], 0xFFU << (lane / 8 * 8));
      CHECK_EQ(row[4], 496U);
      CHECK_EQ(row[5], 1U);
      CHECK_EQ(row[6], lane < 16 ? 0x5555U : 16U);
    }
  }
}

TEST(barriers_count) {
  for (const Schedule schedule : schedules)
    for (const int value : run<int>(barrier_votes, {dim3(1), dim3(64)}, 64, schedule)) CHECK_EQ(value, 4010);
}

TEST(atomics_change_memory_at_once) {
  const auto out = run<int>(atomics, {dim3(1), dim3(96)}, 7, Schedule::shuffled);
  CHECK(out == std::vector<int>({95 * 48, 95, -95, 127, 192, 1, 1}));
  const auto wide = run<float>(wide_atomics, {dim3(2), dim3(8)}, 8, Schedule::round_robin);
  CHECK(wide == std::vector<float>({16, 32, 48, 64, 8, 4, 0, 0}));
}

TEST(asynchronous_copies_land_when_they_are_waited_for) {
  constexpr int threads = 64;
  constexpr int steps = 7;
  const Launch where{dim3(1), dim3(threads), 3 * threads * sizeof(float4)};
  std::vector<float> values(std::size_t{4} * threads * (steps + 2));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 97);
  const Array<float> from(values.size());
  check(cudaMemcpy(from.data(), values.data(), 4 * values.size(), cudaMemcpyHostToDevice), "cudaMemcpy");
  std::vector<float> wanted(threads);
  for (std::size_t thread = 0; thread < threads; ++thread)
    for (std::size_t step = 0; step + 1 < steps; ++step)
      for (std::size_t i = 0; i < 4; ++i) wanted[thread] += values[4 * (step * threads + (thread + 32) % 64) + i];
  const auto sums = [&](Mistake mistake, Schedule schedule) {
    return run<float>(ring, where, threads, schedule, static_cast<const float*>(from.data()), steps, mistake);
  };
  for (const Schedule schedule : schedules) {
    CHECK(sums(Mistake::none, schedule) == wanted);
    for (const Mistake mistake : {Mistake::no_wait, Mistake::late_wait, Mistake::no_barrier, Mistake::early_copy})
      CHECK(sums(mistake, schedule) != wanted);
  }
  CHECK_CONTAINS(failure_of(ring, where, static_cast<const float*>(from.data()), steps, Mistake::no_last_wait),
                 " returns before its copy has landed, at ");
  CHECK_CONTAINS(failure_of(copies_misaligned, where), "addresses that are not aligned to them, at ");
}

TEST(dynamic_shared_memory_has_the_size_asked_for_and_no_values) {
  for (const int size : {1, 100, 50000}) {
    const auto count = static_cast<std::size_t>(size);
    const auto out = run<float>(fill_shared, {dim3(3), dim3(64), 4 * count}, count + 1, Schedule::one_warp, size);
    for (std::size_t i = 0; i < count; ++i) CHECK_EQ(out[i], static_cast<float>(count - 1 - i));
    CHECK_EQ(out[count], 1.0F);
  }
}

TEST(divergent_threads_are_reported) {
  const Launch two_warps{dim3(1), dim3(64)};
  const std::string left = failure_of(some_leave, two_warps);
  CHECK_CONTAINS(left, "block (0, 0, 0): divergent threads: 40 wait at __syncthreads (the first: thread (0, 0, 0) at ");
  CHECK_CONTAINS(left, "24 have returned (the first: thread (40, 0, 0))");
  CHECK_CONTAINS(left, "test_cuda_emulation.cpp:");
  CHECK_CONTAINS(failure_of(two_barriers, two_warps), "divergent barriers: thread (0, 0, 0) waits at ");
  CHECK_CONTAINS(failure_of(barrier_and_shuffle, two_warps), "31 wait for lanes of their warp");
  CHECK_CONTAINS(failure_of(half_a_warp, two_warps),
                 "16 wait for lanes of their warp (the first: thread (0, 0, 0) at ");
  CHECK_CONTAINS(failure_of(half_a_warp, Launch{dim3(1), dim3(16)}), "lane 16 of the mask 0xFFFFFFFF is beyond");
  CHECK_CONTAINS(failure_of(not_in_mask, two_warps), "is not in its own mask 0x00000001");
  CHECK_CONTAINS(failure_of(reads_beyond_mask, two_warps), "reads lane 20, which is not in the mask 0x0000FFFF");
  CHECK_CONTAINS(failure_of(traps, two_warps), "__trap() at ");
}

TEST(a_thread_that_spins_lets_the_others_run) {
  for (const Schedule schedule : schedules) CHECK_EQ(run<int>(spin, {dim3(1), dim3(2)}, 1, schedule)[0], 1);
}

TEST(work_waits_in_its_stream_until_somebody_waits_for_it) {
  const Reset reset;
  cudaStream_t first;
  cudaStream_t second;
  cudaEvent_t event;
  check(cudaStreamCreateWithFlags(&first, cudaStreamNonBlocking), "cudaStreamCreate");
  check(cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking), "cudaStreamCreate");
  check(cudaEventCreate(&event), "cudaEventCreate");
  int* pinned;
  check(cudaMallocHost(&pinned, 3 * sizeof(int)), "cudaMallocHost");
  const Array<int> values(2);

  pinned[0] = 10;
  pinned[1] = 20;
  pinned[2] = 0;
  check(cudaMemcpyAsync(values.data(), pinned, 8, cudaMemcpyHostToDevice, first), "cudaMemcpyAsync");
  pinned[0] = 30;  // too early: the copy has not begun
  check(cudaEventRecord(event, first), "cudaEventRecord");
  check(cudaStreamWaitEvent(second, event, 0), "cudaStreamWaitEvent");
  launch(add_one, {dim3(1), dim3(32), 0, second}, values.data(), 2);
  check(cudaMemcpyAsync(pinned + 2, values.data(), 4, cudaMemcpyDeviceToHost, second), "cudaMemcpyAsync");
  CHECK_EQ(pinned[2], 0);
  CHECK_EQ(cudaStreamQuery(second), cudaErrorNotReady);
  check(cudaStreamSynchronize(second), "cudaStreamSynchronize");
  CHECK_EQ(pinned[2], 31);
  CHECK_EQ(cudaEventQuery(event), cudaSuccess);

  // Pageable memory is read at once.
  int pageable = 7;
  check(cudaMemcpyAsync(values.data(), &pageable, 4, cudaMemcpyHostToDevice, first), "cudaMemcpyAsync");
  pageable = 8;
  check(cudaMemcpyAsync(&pageable, values.data(), 4, cudaMemcpyDeviceToHost, first), "cudaMemcpyAsync");
  CHECK_EQ(pageable, 7);

  CHECK_EQ(cudaMemcpy(&pageable, pinned, 4, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
  check(cudaFreeHost(pinned), "cudaFreeHost");
  check(cudaEventDestroy(event), "cudaEventDestroy");
  check(cudaStreamDestroy(first), "cudaStreamDestroy");
  check(cudaStreamDestroy(second), "cudaStreamDestroy");
  CHECK_EQ(cudaStreamSynchronize(first), cudaErrorInvalidResourceHandle);
}

TEST(memory_is_limited_and_errors_become_exceptions) {
  const Reset reset;
  const std::size_t before = convec::emulation::memory_in_use();
  convec::emulation::set_memory(before + 1000);
  void* memory = nullptr;
  CHECK_THROWS(check(cudaMalloc(&memory, 1001), "cudaMalloc of 1001 bytes"), DeviceError,
               "cudaMalloc of 1001 bytes failed: out of memory (cudaErrorMemoryAllocation)");
  CHECK_EQ(cudaGetLastError(), cudaSuccess);
  check(cudaMalloc(&memory, 1000), "cudaMalloc");
  CHECK_EQ(convec::emulation::memory_in_use(), before + 1000);
  check(cudaFree(memory), "cudaFree");
  CHECK_EQ(cudaFree(memory), cudaErrorInvalidValue);

  CHECK_THROWS(launch(add_one, {dim3(1), dim3(1025)}, nullptr, 0), DeviceError, "invalid configuration");
  CHECK_THROWS(launch(add_one, {dim3(0), dim3(1)}, nullptr, 0), DeviceError, "invalid configuration");
  CHECK_THROWS(launch(add_one, {dim3(1), dim3(1), 300000}, nullptr, 0), DeviceError, "invalid configuration");
}

TEST(a_lost_device_stays_lost_until_a_reset) {
  const Reset reset;
  const Array<int> values(1);
  convec::emulation::lose_device_after(1, cudaErrorIllegalAddress);
  launch(add_one, {dim3(1), dim3(1)}, values.data(), 1);
  CHECK_EQ(values.read()[0], 1);
  CHECK_THROWS(launch(add_one, {dim3(1), dim3(1)}, values.data(), 1), DeviceError, "illegal memory access");
  CHECK_THROWS(values.read(), DeviceError, "illegal memory access");
  void* memory;
  CHECK_EQ(cudaMalloc(&memory, 4), cudaErrorIllegalAddress);
  cudaDeviceReset();
  check(cudaMalloc(&memory, 4), "cudaMalloc");
}

TEST(half_precision_rounds_to_the_nearest_even) {
  // Every half-precision number survives the way to float and back.
  for (unsigned bits = 0; bits < 65536; ++bits) {
    const auto number = static_cast<unsigned short>(bits);
    const __half h = __ushort_as_half(number);
    if ((bits & 0x7FFFU) <= 0x7C00U) CHECK_EQ(__half_as_ushort(__float2half(__half2float(h))), number);
    const __nv_bfloat16 b = __ushort_as_bfloat16(number);
    if ((bits & 0x7FFFU) <= 0x7F80U) CHECK_EQ(__bfloat16_as_ushort(__float2bfloat16(__bfloat162float(b))), number);
  }
  CHECK_EQ(__half2float(__ushort_as_half(0x0001)), 0x1p-24F);
  CHECK_EQ(__half2float(__ushort_as_half(0x3C01)), 1.0F + 0x1p-10F);
  CHECK_EQ(__half2float(__ushort_as_half(0xFBFF)), -65504.0F);
  CHECK_EQ(__half2float(__float2half(1.0F + 0x1p-11F)), 1.0F);
  CHECK_EQ(__half2float(__float2half(1.0F + 0x3p-11F)), 1.0F + 0x1p-9F);
  CHECK_EQ(__half_as_ushort(__float2half(65520.0F)), 0x7C00);
  CHECK_EQ(__half_as_ushort(__float2half(65519.0F)), 0x7BFF);
  CHECK_EQ(__half_as_ushort(__float2half(0x1p-25F)), 0);
  CHECK(std::isnan(__half2float(__float2half(std::nanf("")))));
  CHECK_EQ(__bfloat162float(__float2bfloat16(1.0F + 0x1p-8F)), 1.0F);
  CHECK_EQ(__bfloat162float(__float2bfloat16(1.0F + 0x3p-8F)), 1.0F + 0x1p-6F);
  CHECK(std::isnan(__bfloat162float(__float2bfloat16(std::nanf("")))));
}

TEST_MAIN()
