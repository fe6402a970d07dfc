// The draws of a piece of text: sub-sampling (and moving the survivors together), windows, negatives. Each is a
// function of the seed, the epoch and the position alone (word2vec/draws.hpp), so that all are made in parallel, before
// the updates need them: about 3 % of the instructions of those.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <climits>
#include <cstdint>

#include "kernel.hpp"
#include "launch.hpp"
#include "word2vec/draws.hpp"
#include "word2vec_kernels.hpp"

namespace convec::cuda {

namespace {

constexpr int tokens_a_thread = 4;
constexpr int tile_threads = word2vec_tile / tokens_a_thread;
constexpr int scan_threads = 1024;

// The sum over the threads before this one in the block; `total` gets that of all. `shared` holds one value a warp, and
// may be used again after the next barrier.
template <int threads, typename T>
__device__ T scan_block(T value, T* shared, T& total) {
  constexpr int warps = threads / warp_size;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  T inclusive = value;
  for (int distance = 1; distance < warp_size; distance *= 2) {
    const T below = __shfl_up_sync(whole_warp, inclusive, static_cast<unsigned>(distance));
    if (lane >= distance) inclusive += below;
  }
  if (lane == warp_size - 1) shared[warp] = inclusive;
  __syncthreads();
  T before = 0;
  total = 0;
  for (int other = 0; other < warps; ++other) {
    if (other < warp) before += shared[other];
    total += shared[other];
  }
  return before + inclusive - value;
}

// The tokens of one thread, one bit each.
struct Tokens {
  unsigned kept = 0;
  unsigned ends = 0;
  std::int32_t words[tokens_a_thread];
  std::uint32_t radii[tokens_a_thread];  // random words

  __device__ std::uint64_t counts() const {
    return static_cast<std::uint64_t>(__popc(kept)) | static_cast<std::uint64_t>(__popc(ends)) << 32U;
  }
};

__device__ Tokens take_tokens(const Word2VecDrawSettings& settings, const Word2VecPiece& piece, std::int64_t first) {
  Tokens tokens;
  const std::uint64_t stream = word2vec::draw_stream(settings.epoch, word2vec::draw_text);
  std::uint32_t random[4] = {};
  CONVEC_UNROLL
  for (int i = 0; i < tokens_a_thread; ++i) {
    tokens.words[i] = -1;
    tokens.radii[i] = 0;
    if (first + i >= piece.size) continue;
    const auto position = static_cast<std::uint64_t>(piece.position + first + i);
    const std::uint64_t second = position % 2;
    if (i == 0 || second == 0)
      philox::words(settings.seed, position / 2, stream, random[0], random[1], random[2], random[3]);
    const std::int32_t word = piece.tokens[first + i];
    tokens.words[i] = word;
    tokens.radii[i] = second == 0 ? random[1] : random[3];
    if (word < 0)
      tokens.ends |= 1U << i;
    else if (settings.thresholds == nullptr ||
             word2vec::survives(second == 0 ? random[0] : random[2], __ldg(settings.thresholds + word)))
      tokens.kept |= 1U << i;
  }
  return tokens;
}

__device__ std::int64_t first_token() {
  return static_cast<std::int64_t>(blockIdx.x) * word2vec_tile +
         static_cast<std::int64_t>(threadIdx.x) * tokens_a_thread;
}

__global__ void __launch_bounds__(tile_threads) count_tiles(Word2VecDrawSettings settings, Word2VecPiece piece) {
  __shared__ std::uint64_t shared[tile_threads / warp_size];
  std::uint64_t total;
  scan_block<tile_threads>(take_tokens(settings, piece, first_token()).counts(), shared, total);
  if (threadIdx.x == 0) piece.tiles[blockIdx.x] = total;
}

// One block.
__global__ void __launch_bounds__(scan_threads) scan_tiles(Word2VecPiece piece, int tiles) {
  __shared__ std::uint64_t shared[scan_threads / warp_size];
  std::uint64_t before = 0;
  for (int first = 0; first < tiles; first += scan_threads) {
    const int tile = first + static_cast<int>(threadIdx.x);
    std::uint64_t total;
    const std::uint64_t sum = scan_block<scan_threads>(tile < tiles ? piece.tiles[tile] : 0, shared, total);
    if (tile < tiles) piece.tiles[tile] = before + sum;
    before += total;
    __syncthreads();
  }
  if (threadIdx.x == 0) {
    *piece.kept = static_cast<std::int32_t>(before);
    *piece.next = 0;
  }
}

__global__ void __launch_bounds__(tile_threads) write_kept(Word2VecDrawSettings settings, Word2VecPiece piece) {
  __shared__ std::uint64_t shared[tile_threads / warp_size];
  const std::int64_t first = first_token();
  const Tokens tokens = take_tokens(settings, piece, first);
  std::uint64_t total;
  const std::uint64_t before = piece.tiles[blockIdx.x] + scan_block<tile_threads>(tokens.counts(), shared, total);
  auto at = static_cast<std::int32_t>(before);
  auto sentence = static_cast<std::int32_t>(before >> 32U);
  CONVEC_UNROLL
  for (int i = 0; i < tokens_a_thread; ++i) {
    if ((tokens.ends >> i & 1U) != 0) ++sentence;
    if ((tokens.kept >> i & 1U) == 0) continue;
    piece.words[at] = tokens.words[i];
    piece.offsets[at] = static_cast<std::int32_t>(first) + i;
    piece.sentences[at] = sentence;
    // The radius, until the window is known.
    piece.end[at] = settings.shrink_windows ? word2vec::radius_of(tokens.radii[i], settings.window) : settings.window;
    ++at;
  }
}

__global__ void __launch_bounds__(block_threads) find_windows(Word2VecPiece piece) {
  const std::int32_t kept = *piece.kept;
  const auto step = static_cast<std::int32_t>(gridDim.x * blockDim.x);
  for (auto i = static_cast<std::int32_t>(blockIdx.x * blockDim.x + threadIdx.x); i < kept; i += step) {
    const std::int32_t radius = piece.end[i];
    const std::int32_t sentence = piece.sentences[i];
    std::int32_t begin = i;
    while (begin > 0 && i - begin < radius && piece.sentences[begin - 1] == sentence) --begin;
    std::int32_t end = i + 1;
    while (end < kept && end - i <= radius && piece.sentences[end] == sentence) ++end;
    piece.begin[i] = begin;
    piece.end[i] = end;
  }
}

__global__ void __launch_bounds__(block_threads) draw_samples(Word2VecDrawSettings settings, Word2VecPiece piece) {
  const std::int64_t size = static_cast<std::int64_t>(*piece.kept) * settings.negative;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  const std::uint64_t stream = word2vec::draw_stream(settings.epoch, word2vec::draw_pool);
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < size; i += step) {
    const std::int64_t word = i / settings.negative;
    const std::int64_t position = piece.position + piece.offsets[word];
    const std::int64_t segment = position / cpu::word2vec_segment_size;
    const auto place = static_cast<std::int32_t>(position % cpu::word2vec_segment_size);
    const std::int32_t entry = place * settings.negative + static_cast<std::int32_t>(i - word * settings.negative);
    const word2vec::Lap lap = word2vec::lap_of(settings.seed, settings.epoch, segment, entry / settings.pool_size);
    const std::uint32_t mask = static_cast<std::uint32_t>(settings.pool_size) - 1;
    const std::uint32_t chosen = ((static_cast<std::uint32_t>(entry) & mask) * lap.stride + lap.offset) & mask;
    std::uint32_t random[4];
    philox::words(settings.seed, word2vec::pool_counter(segment, settings.pool_size) + chosen / 4, stream, random[0],
                  random[1], random[2], random[3]);
    // Chosen without an index into registers.
    const std::uint32_t low = chosen % 2 == 0 ? random[0] : random[1];
    const std::uint32_t high = chosen % 2 == 0 ? random[2] : random[3];
    piece.samples[i] = word2vec::negative_of(chosen % 4 < 2 ? low : high, settings.negatives, settings.vocabulary_size);
  }
}

// A sample equal to the centre word is left out (as in gensim), and equal samples are one with their number as weight.
__global__ void __launch_bounds__(block_threads) weigh_samples(std::int32_t negative, Word2VecPiece piece) {
  const std::int64_t size = static_cast<std::int64_t>(*piece.kept) * negative;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < size; i += step) {
    const std::int64_t word = i / negative;
    const std::int32_t sample = piece.samples[i];
    bool first = sample != piece.words[word];
    int equal = 0;
    for (std::int64_t other = word * negative; other < (word + 1) * negative; ++other) {
      const bool same = piece.samples[other] == sample;
      if (same && other < i) first = false;
      if (same) ++equal;
    }
    piece.weights[i] = first ? static_cast<float>(equal) : 0.0F;
  }
}

// first[0] = the smallest index of a number outside [-1, words), where there is one.
__global__ void __launch_bounds__(block_threads)
    check_tokens_kernel(const std::int32_t* tokens, std::int64_t size, std::int64_t words, unsigned long long* first) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < size; i += step)
    if (tokens[i] < -1 || tokens[i] >= words) {
      atomicMin(first, static_cast<unsigned long long>(i));
      return;
    }
}

// ---- Tables -----------------------------------------------------------------------------------------------------

__device__ inline float to_float(float value) { return value; }
__device__ inline float to_float(__half value) { return __half2float(value); }
__device__ inline float to_float(__nv_bfloat16 value) { return __bfloat162float(value); }
__device__ inline void from_float(float value, float& to) { to = value; }
__device__ inline void from_float(float value, __half& to) { to = __float2half_rn(value); }
__device__ inline void from_float(float value, __nv_bfloat16& to) { to = __float2bfloat16_rn(value); }

template <typename From, typename To>
__global__ void __launch_bounds__(block_threads) convert(const From* from, To* to, std::int64_t size) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < size; i += step)
    from_float(to_float(from[i]), to[i]);
}

template <typename From, typename To>
void launch_convert(const void* from, void* to, std::int64_t size, int device, cudaStream_t stream) {
  if (size == 0) return;
  launch(convert<From, To>, {loop_grid(device, size), dim3(block_threads), 0, stream}, static_cast<const From*>(from),
         static_cast<To*>(to), size);
}

}  // namespace

std::int64_t find_bad_token(int device, const std::int32_t* tokens, std::int64_t size, std::int64_t words,
                            cudaStream_t stream) {
  if (size == 0) return -1;
  const DeviceBuffer<unsigned long long> first(device, 1);
  check(cudaMemsetAsync(first.data(), 0xFF, sizeof(unsigned long long), stream), "cudaMemsetAsync");
  launch(check_tokens_kernel, {loop_grid(device, size), dim3(block_threads), 0, stream}, tokens, size, words,
         first.data());
  unsigned long long found = 0;
  check(cudaMemcpyAsync(&found, first.data(), sizeof found, cudaMemcpyDeviceToHost, stream), "a copy from the device");
  check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
  return found == ULLONG_MAX ? -1 : static_cast<std::int64_t>(found);
}

void draw_word2vec_piece(int device, const Word2VecDrawSettings& settings, const Word2VecPiece& piece,
                         cudaStream_t stream) {
  const std::int64_t tiles = word2vec_tiles(piece.size);
  const dim3 tile_grid(static_cast<unsigned>(tiles));
  launch(count_tiles, {tile_grid, dim3(tile_threads), 0, stream}, settings, piece);
  launch(scan_tiles, {dim3(1), dim3(scan_threads), 0, stream}, piece, tiles);
  launch(write_kept, {tile_grid, dim3(tile_threads), 0, stream}, settings, piece);
  launch(find_windows, {loop_grid(device, piece.size), dim3(block_threads), 0, stream}, piece);
  const std::int64_t samples = static_cast<std::int64_t>(piece.size) * settings.negative;
  launch(draw_samples, {loop_grid(device, samples), dim3(block_threads), 0, stream}, settings, piece);
  launch(weigh_samples, {loop_grid(device, samples), dim3(block_threads), 0, stream}, settings.negative, piece);
}

void convert_to_table(Precision from_format, const void* from, TablePrecision to_format, void* to, std::int64_t size,
                      int device, cudaStream_t stream) {
  if (from_format == Precision::float32 && to_format == TablePrecision::float32)
    launch_convert<float, float>(from, to, size, device, stream);
  else if (from_format == Precision::float32)
    launch_convert<float, __nv_bfloat16>(from, to, size, device, stream);
  else if (to_format == TablePrecision::float32)
    launch_convert<__half, float>(from, to, size, device, stream);
  else
    launch_convert<__half, __nv_bfloat16>(from, to, size, device, stream);
}

void convert_from_table(TablePrecision from_format, const void* from, Precision to_format, void* to, std::int64_t size,
                        int device, cudaStream_t stream) {
  if (from_format == TablePrecision::float32 && to_format == Precision::float32)
    launch_convert<float, float>(from, to, size, device, stream);
  else if (from_format == TablePrecision::float32)
    launch_convert<float, __half>(from, to, size, device, stream);
  else if (to_format == Precision::float32)
    launch_convert<__nv_bfloat16, float>(from, to, size, device, stream);
  else
    launch_convert<__nv_bfloat16, __half>(from, to, size, device, stream);
}

}  // namespace convec::cuda
