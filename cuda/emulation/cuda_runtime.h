// The part of CUDA that convec's kernels use, for a plain C++17 compiler and without a GPU: put this folder first on
// the include path, define CONVEC_CUDA_EMULATION, and compile a .cu file as C++. Blocks run one after the other; the
// threads of a block are fibers, which take turns where they wait for each other (emulation.hpp has the orders). Memory
// is the host's, but is poisoned for the host under AddressSanitizer; streams hold their work back until somebody
// waits for it, as the most careless GPU would. Names and behaviour are the CUDA C++ Programming Guide's; the two
// headers beside this one have half precision.
//
// Not seen by it: races between blocks, memory order, clusters. Tensor cores and asynchronous copies to shared memory
// are emulated where they are used (cuda/tensor_core.hpp, cuda/async_copy.hpp).
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

// NOLINTBEGIN(bugprone-reserved-identifier)

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __launch_bounds__(...)
// Blocks do not overlap, so that one copy serves them all.
#define __shared__ static thread_local

// ---- Vector types -----------------------------------------------------------------------------------------------

#define CONVEC_VECTOR_TYPES(element, name)                                                        \
  struct name##1 { element x; };                                                                  \
  struct alignas(2 * sizeof(element)) name##2 { element x, y; };                                  \
  struct name##3 { element x, y, z; };                                                            \
  struct alignas(sizeof(element) < 4 ? 4 * sizeof(element) : 16) name##4 { element x, y, z, w; }; \
  inline name##1 make_##name##1(element x) { return {x}; }                                        \
  inline name##2 make_##name##2(element x, element y) { return {x, y}; }                          \
  inline name##3 make_##name##3(element x, element y, element z) { return {x, y, z}; }            \
  inline name##4 make_##name##4(element x, element y, element z, element w) { return {x, y, z, w}; }

CONVEC_VECTOR_TYPES(signed char, char)
CONVEC_VECTOR_TYPES(unsigned char, uchar)
CONVEC_VECTOR_TYPES(short, short)
CONVEC_VECTOR_TYPES(unsigned short, ushort)
CONVEC_VECTOR_TYPES(int, int)
CONVEC_VECTOR_TYPES(unsigned int, uint)
CONVEC_VECTOR_TYPES(long long, longlong)
CONVEC_VECTOR_TYPES(unsigned long long, ulonglong)
CONVEC_VECTOR_TYPES(float, float)
CONVEC_VECTOR_TYPES(double, double)
#undef CONVEC_VECTOR_TYPES

struct dim3 {
  unsigned int x, y, z;
  constexpr dim3(unsigned int x_ = 1, unsigned int y_ = 1, unsigned int z_ = 1) noexcept : x(x_), y(y_), z(z_) {}
};

// ---- The runtime ------------------------------------------------------------------------------------------------

enum cudaError {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorInvalidSymbol = 13,
  cudaErrorInsufficientDriver = 35,
  cudaErrorDevicesUnavailable = 46,
  cudaErrorInvalidDeviceFunction = 98,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorInvalidResourceHandle = 400,
  cudaErrorNotReady = 600,
  cudaErrorIllegalAddress = 700,
  cudaErrorLaunchFailure = 719,
  cudaErrorStreamCaptureUnsupported = 900,
  cudaErrorStreamCaptureInvalidated = 901,
  cudaErrorNotSupported = 801,
  cudaErrorUnknown = 999
};
using cudaError_t = cudaError;

enum cudaMemcpyKind {
  cudaMemcpyHostToHost = 0,
  cudaMemcpyHostToDevice = 1,
  cudaMemcpyDeviceToHost = 2,
  cudaMemcpyDeviceToDevice = 3,
  cudaMemcpyDefault = 4
};

enum cudaDeviceAttr {
  cudaDevAttrMaxThreadsPerBlock = 1,
  cudaDevAttrMaxSharedMemoryPerBlock = 8,
  cudaDevAttrWarpSize = 10,
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrL2CacheSize = 38,
  cudaDevAttrMaxThreadsPerMultiProcessor = 39,
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrComputeCapabilityMinor = 76,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97
};

enum cudaFuncAttribute {
  cudaFuncAttributeMaxDynamicSharedMemorySize = 8,
  cudaFuncAttributePreferredSharedMemoryCarveout = 9
};

// The members that convec reads.
struct cudaFuncAttributes {
  int ptxVersion;
  int binaryVersion;
};

constexpr unsigned int cudaStreamDefault = 0;
constexpr unsigned int cudaStreamNonBlocking = 1;
constexpr unsigned int cudaEventDefault = 0;
constexpr unsigned int cudaEventDisableTiming = 2;
constexpr unsigned int cudaHostAllocDefault = 0;

enum cudaStreamCaptureMode {
  cudaStreamCaptureModeGlobal = 0,
  cudaStreamCaptureModeThreadLocal = 1,
  cudaStreamCaptureModeRelaxed = 2
};

enum cudaMemoryType {
  cudaMemoryTypeUnregistered = 0,
  cudaMemoryTypeHost = 1,
  cudaMemoryTypeDevice = 2,
  cudaMemoryTypeManaged = 3
};

struct cudaPointerAttributes {
  cudaMemoryType type;
  int device;
};

struct CUstream_st;
struct CUevent_st;
struct CUgraph_st;
struct CUgraphExec_st;
using cudaStream_t = CUstream_st*;
using cudaEvent_t = CUevent_st*;
using cudaGraph_t = CUgraph_st*;
using cudaGraphExec_t = CUgraphExec_st*;

// The members that convec reads.
struct cudaDeviceProp {
  char name[256];
  std::size_t totalGlobalMem;
  std::size_t sharedMemPerBlock;
  std::size_t sharedMemPerBlockOptin;
  int warpSize;
  int maxThreadsPerBlock;
  int maxThreadsPerMultiProcessor;
  int maxGridSize[3];
  int major;
  int minor;
  int multiProcessorCount;
  int l2CacheSize;
};

const char* cudaGetErrorName(cudaError_t error);
const char* cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError();
cudaError_t cudaPeekAtLastError();

cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaDeviceReset();
cudaError_t cudaDeviceSynchronize();
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaDriverGetVersion(int* version);
cudaError_t cudaRuntimeGetVersion(int* version);

cudaError_t cudaMalloc(void** pointer, std::size_t size);
cudaError_t cudaFree(void* pointer);
cudaError_t cudaMallocAsync(void** pointer, std::size_t size, cudaStream_t stream);
cudaError_t cudaFreeAsync(void* pointer, cudaStream_t stream);
cudaError_t cudaMallocHost(void** pointer, std::size_t size);
cudaError_t cudaHostAlloc(void** pointer, std::size_t size, unsigned int flags);
cudaError_t cudaFreeHost(void* pointer);
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total);
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer);
cudaError_t cudaMemcpy(void* to, const void* from, std::size_t size, cudaMemcpyKind kind);
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t size, cudaMemcpyKind kind,
                            cudaStream_t stream = nullptr);
cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch,
                              std::size_t width, std::size_t height, cudaMemcpyKind kind,
                              cudaStream_t stream = nullptr);
cudaError_t cudaMemset(void* pointer, int value, std::size_t size);
cudaError_t cudaMemsetAsync(void* pointer, int value, std::size_t size, cudaStream_t stream = nullptr);

cudaError_t cudaStreamCreate(cudaStream_t* stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned int flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamQuery(cudaStream_t stream);
cudaError_t cudaStreamGetId(cudaStream_t stream, unsigned long long* id);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int flags = 0);
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, void (*function)(void*), void* data);

// A captured graph is the list of the work in its order.
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable);

cudaError_t cudaEventCreate(cudaEvent_t* event);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned int flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream = nullptr);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventQuery(cudaEvent_t event);
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end);

template <typename T>
cudaError_t cudaMalloc(T** pointer, std::size_t size) {
  return cudaMalloc(reinterpret_cast<void**>(pointer), size);
}
template <typename T>
cudaError_t cudaMallocHost(T** pointer, std::size_t size) {
  return cudaMallocHost(reinterpret_cast<void**>(pointer), size);
}
template <typename T>
cudaError_t cudaFuncSetAttribute(T* /*kernel*/, cudaFuncAttribute /*attribute*/, int /*value*/) {
  return cudaSuccess;
}
inline cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* /*kernel*/) {
  *attributes = {90, 90};
  return cudaSuccess;
}
template <typename T>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, T* /*kernel*/, int threads, std::size_t) {
  *blocks = 2048 / threads < 32 ? 2048 / threads : 32;
  return cudaSuccess;
}

// ---- Within a kernel --------------------------------------------------------------------------------------------

namespace convec::emulation {

// What the lanes of a warp do together.
enum class Collective : std::uint8_t { sync, shuffle, vote, match, reduce };

struct CollectiveResult {
  std::uint64_t value;  // of the lane that was asked for, or the reduction
  std::uint32_t votes;  // lanes whose value is not zero; of match: lanes with the same value
};

using Combine = std::uint64_t (*)(std::uint64_t, std::uint64_t);

// Waits until every lane of `mask` is here.
CollectiveResult collective(Collective kind, std::uint32_t mask, std::uint64_t value, int source, Combine combine,
                            const char* file, int line);
// Waits until every thread of the block is here. Returns how many passed a `value` other than 0.
int barrier(int value, const char* file, int line);
std::uint32_t active_mask();
unsigned int lane();
std::byte* dynamic_shared_memory();
[[noreturn]] void trap(const char* file, int line);
void yield_thread();

// Asynchronous copies of a thread to shared memory, as late as they may be: what `shared` held is lost at once (the
// bytes become 0xFF, not a number), and the `source_size` bytes, and zeros up to `size`, are read and written when the
// thread waits for their group. A thread that returns before it has waited for all of its copies fails its block.
void copy_async(void* shared, const void* global, unsigned int size, unsigned int source_size, const char* file,
                int line);
// The copies since the last call become a group.
void commit_copies();
// Until at most the last `groups` of them are outstanding.
void wait_for_copies(unsigned int groups);

inline thread_local uint3 thread_index{};
inline thread_local uint3 block_index{};
inline thread_local dim3 block_size{};
inline thread_local dim3 grid_size{};

template <typename T>
std::uint64_t to_bits(T value) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8, "a shuffle moves up to 8 bytes");
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  return bits;
}
template <typename T>
T from_bits(std::uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

template <typename T, typename Source>
T shuffle(std::uint32_t mask, T value, int width, const char* file, int line, const Source& source) {
  const int own = static_cast<int>(lane());
  const int first = own & ~(width - 1);
  int from = source(own, first, first + width - 1);
  if (from < first || from > first + width - 1) from = own;
  return from_bits<T>(collective(Collective::shuffle, mask, to_bits(value), from, nullptr, file, line).value);
}

template <typename T, T (*combine)(T, T)>
T reduce(std::uint32_t mask, T value, const char* file, int line) {
  const Combine on_bits = [](std::uint64_t a, std::uint64_t b) {
    return to_bits(combine(from_bits<T>(a), from_bits<T>(b)));
  };
  return from_bits<T>(collective(Collective::reduce, mask, to_bits(value), 0, on_bits, file, line).value);
}

template <typename T>
T add(T a, T b) {
  return static_cast<T>(a + b);
}
template <typename T>
T least(T a, T b) {
  return b < a ? b : a;
}
template <typename T>
T greatest(T a, T b) {
  return a < b ? b : a;
}

}  // namespace convec::emulation

#define threadIdx (::convec::emulation::thread_index)
#define blockIdx (::convec::emulation::block_index)
#define blockDim (::convec::emulation::block_size)
#define gridDim (::convec::emulation::grid_size)
constexpr int warpSize = 32;

// Where a call stands, for messages: the parameters' defaults are evaluated at the caller's.
#define CONVEC_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(CONVEC_HERE) { convec::emulation::barrier(0, file, line); }
inline int __syncthreads_count(int predicate, CONVEC_HERE) {
  return convec::emulation::barrier(predicate != 0 ? 1 : 0, file, line);
}
inline int __syncthreads_or(int predicate, CONVEC_HERE) {
  return convec::emulation::barrier(predicate != 0 ? 1 : 0, file, line) != 0 ? 1 : 0;
}
inline int __syncthreads_and(int predicate, CONVEC_HERE) {
  return convec::emulation::barrier(predicate == 0 ? 1 : 0, file, line) == 0 ? 1 : 0;
}
inline void __syncwarp(unsigned int mask = 0xFFFFFFFFU, CONVEC_HERE) {
  convec::emulation::collective(convec::emulation::Collective::sync, mask, 0, 0, nullptr, file, line);
}
inline unsigned int __activemask() { return convec::emulation::active_mask(); }

template <typename T>
T __shfl_sync(unsigned int mask, T value, int source, int width = 32, CONVEC_HERE) {
  return convec::emulation::shuffle(mask, value, width, file, line,
                                    [=](int, int first, int) { return first + (source & (width - 1)); });
}
template <typename T>
T __shfl_up_sync(unsigned int mask, T value, unsigned int delta, int width = 32, CONVEC_HERE) {
  return convec::emulation::shuffle(mask, value, width, file, line,
                                    [=](int own, int, int) { return own - static_cast<int>(delta); });
}
template <typename T>
T __shfl_down_sync(unsigned int mask, T value, unsigned int delta, int width = 32, CONVEC_HERE) {
  return convec::emulation::shuffle(mask, value, width, file, line,
                                    [=](int own, int, int) { return own + static_cast<int>(delta); });
}
template <typename T>
T __shfl_xor_sync(unsigned int mask, T value, int lane_mask, int width = 32, CONVEC_HERE) {
  return convec::emulation::shuffle(mask, value, width, file, line, [=](int own, int, int) { return own ^ lane_mask; });
}

inline unsigned int __ballot_sync(unsigned int mask, int predicate, CONVEC_HERE) {
  return convec::emulation::collective(convec::emulation::Collective::vote, mask, predicate != 0 ? 1 : 0, 0, nullptr,
                                       file, line)
      .votes;
}
inline int __any_sync(unsigned int mask, int predicate, CONVEC_HERE) {
  return __ballot_sync(mask, predicate, file, line) != 0 ? 1 : 0;
}
inline int __all_sync(unsigned int mask, int predicate, CONVEC_HERE) {
  return __ballot_sync(mask, predicate, file, line) == mask ? 1 : 0;
}
template <typename T>
unsigned int __match_any_sync(unsigned int mask, T value, CONVEC_HERE) {
  return convec::emulation::collective(convec::emulation::Collective::match, mask, convec::emulation::to_bits(value), 0,
                                       nullptr, file, line)
      .votes;
}
#define CONVEC_REDUCE(name, combine)                                                  \
  inline unsigned int name(unsigned int mask, unsigned int value, CONVEC_HERE) {      \
    return convec::emulation::reduce<unsigned int, combine>(mask, value, file, line); \
  }                                                                                   \
  inline int name(unsigned int mask, int value, CONVEC_HERE) {                        \
    return convec::emulation::reduce<int, combine>(mask, value, file, line);          \
  }
CONVEC_REDUCE(__reduce_add_sync, convec::emulation::add)
CONVEC_REDUCE(__reduce_min_sync, convec::emulation::least)
CONVEC_REDUCE(__reduce_max_sync, convec::emulation::greatest)
#undef CONVEC_REDUCE

inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}
inline void __nanosleep(unsigned int) { convec::emulation::yield_thread(); }
inline void __trap(CONVEC_HERE) { convec::emulation::trap(file, line); }
#undef CONVEC_HERE

// One thread of the host runs all, so that a read and a write are atomic together as they stand.
#define CONVEC_ATOMIC(name, result)                 \
  template <typename T>                             \
  T name(T* address, std::common_type_t<T> value) { \
    const T old = *address;                         \
    *address = static_cast<T>(result);              \
    return old;                                     \
  }
CONVEC_ATOMIC(atomicAdd, old + value)
CONVEC_ATOMIC(atomicSub, old - value)
CONVEC_ATOMIC(atomicExch, value)
CONVEC_ATOMIC(atomicMin, value < old ? value : old)
CONVEC_ATOMIC(atomicMax, old < value ? value : old)
CONVEC_ATOMIC(atomicAnd, old& value)
CONVEC_ATOMIC(atomicOr, old | value)
CONVEC_ATOMIC(atomicXor, old ^ value)
#undef CONVEC_ATOMIC
inline float2 atomicAdd(float2* address, float2 value) {
  return {atomicAdd(&address->x, value.x), atomicAdd(&address->y, value.y)};
}
inline float4 atomicAdd(float4* address, float4 value) {
  return {atomicAdd(&address->x, value.x), atomicAdd(&address->y, value.y), atomicAdd(&address->z, value.z),
          atomicAdd(&address->w, value.w)};
}
template <typename T>
T atomicCAS(T* address, std::common_type_t<T> expected, std::common_type_t<T> value) {
  const T old = *address;
  if (old == expected) *address = value;
  return old;
}

template <typename T>
T __ldg(const T* address) {
  return *address;
}
template <typename T>
T __ldcs(const T* address) {
  return *address;
}
template <typename T>
T __ldcg(const T* address) {
  return *address;
}
template <typename T>
void __stcs(T* address, std::common_type_t<T> value) {
  *address = value;
}

inline int __popc(unsigned int x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(static_cast<unsigned int>(x)); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline unsigned int __umulhi(unsigned int a, unsigned int b) {
  return static_cast<unsigned int>((static_cast<unsigned long long>(a) * b) >> 32U);
}
inline unsigned int __brev(unsigned int x) {
  unsigned int reversed = 0;
  for (int bit = 0; bit < 32; ++bit) reversed |= ((x >> bit) & 1U) << (31 - bit);
  return reversed;
}
inline float __int_as_float(int x) { return convec::emulation::from_bits<float>(convec::emulation::to_bits(x)); }
inline float __uint_as_float(unsigned int x) {
  return convec::emulation::from_bits<float>(convec::emulation::to_bits(x));
}
inline int __float_as_int(float x) { return convec::emulation::from_bits<int>(convec::emulation::to_bits(x)); }
inline unsigned int __float_as_uint(float x) {
  return convec::emulation::from_bits<unsigned int>(convec::emulation::to_bits(x));
}

// Faster and less exact on a GPU.
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __frcp_rn(float x) { return 1.0F / x; }
inline float __fsqrt_rn(float x) { return std::sqrt(x); }
inline float __fmaf_rn(float x, float y, float z) { return std::fma(x, y, z); }
inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __saturatef(float x) { return x > 0.0F ? (x < 1.0F ? x : 1.0F) : 0.0F; }
inline float rsqrtf(float x) { return 1.0F / std::sqrt(x); }
inline float __frsqrt_rn(float x) { return 1.0F / std::sqrt(x); }
template <typename T, typename U>
std::common_type_t<T, U> min(T a, U b) {
  using Common = std::common_type_t<T, U>;
  return static_cast<Common>(b) < static_cast<Common>(a) ? static_cast<Common>(b) : static_cast<Common>(a);
}
template <typename T, typename U>
std::common_type_t<T, U> max(T a, U b) {
  using Common = std::common_type_t<T, U>;
  return static_cast<Common>(a) < static_cast<Common>(b) ? static_cast<Common>(b) : static_cast<Common>(a);
}

// NOLINTEND(bugprone-reserved-identifier)
