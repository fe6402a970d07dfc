// A team of threads that trains Word2Vec's windows, skip-gram and CBOW with negative sampling; the kernels are made of
// it in word2vec_update.cu (float32 tables) and word2vec_update_bfloat16.cu, which compile side by side.
//
// A team of threads takes chunks of kept words, handed out by a counter, and trains their windows one after the other.
// A team is one warp for vectors of up to 384 numbers, and otherwise a block of one warp for every 256. Each thread
// holds its part of the vectors in registers: of a centre word's outputs (the word itself and its negatives, which the
// whole window shares) both the rows and what they are to change by, so that every row is read once a window and
// written once, by an atomic addition that nobody waits for. The dot products of a context word with all outputs are
// reduced together: 9 shuffles for up to 8 of them.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "kernel.hpp"
#include "word2vec/draws.hpp"
#include "word2vec_kernels.hpp"

namespace convec::cuda::word2vec_team {

constexpr int most_outputs = 8;    // trained together, as on the processor
constexpr int most_contexts = 32;  // of a skip-gram window, trained against the same state of the outputs
constexpr int most_warps = 4;      // of a team, and of a block
constexpr int most_threads = most_warps * warp_size;

// Rows are read past the first-level cache, which does not see what other multiprocessors change.
__device__ __forceinline__ void load_numbers(const float* from, float (&to)[4]) {
  const float4 numbers = __ldcg(reinterpret_cast<const float4*>(from));
  to[0] = numbers.x;
  to[1] = numbers.y;
  to[2] = numbers.z;
  to[3] = numbers.w;
}
__device__ __forceinline__ void load_numbers(const float* from, float (&to)[2]) {
  const float2 numbers = __ldcg(reinterpret_cast<const float2*>(from));
  to[0] = numbers.x;
  to[1] = numbers.y;
}
__device__ __forceinline__ float upper_half(std::uint32_t bits) { return __uint_as_float(bits & 0xFFFF0000U); }
__device__ __forceinline__ void load_numbers(const __nv_bfloat16* from, float (&to)[2]) {
  const unsigned int pair = __ldcg(reinterpret_cast<const unsigned int*>(from));
  to[0] = upper_half(pair << 16U);
  to[1] = upper_half(pair);
}
__device__ __forceinline__ void load_numbers(const __nv_bfloat16* from, float (&to)[4]) {
  const uint2 pairs = __ldcg(reinterpret_cast<const uint2*>(from));
  to[0] = upper_half(pairs.x << 16U);
  to[1] = upper_half(pairs.x);
  to[2] = upper_half(pairs.y << 16U);
  to[3] = upper_half(pairs.y);
}

// Xorshift (Marsaglia, 2003), of a thread: for rounding, where speed counts for more than quality.
class Random {
 public:
  __device__ explicit Random(std::uint32_t seed) : state_(seed | 1U) {}
  __device__ std::uint32_t operator()() {
    state_ ^= state_ << 13U;
    state_ ^= state_ >> 17U;
    state_ ^= state_ << 5U;
    return state_;
  }

 private:
  std::uint32_t state_;
};

// One instruction from compute capability 9.0 on.
__device__ __forceinline__ void add_numbers(float* to, const float (&change)[4], Random&) {
#if defined(CONVEC_CUDA_EMULATION) || (defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900)
  atomicAdd(reinterpret_cast<float4*>(to), make_float4(change[0], change[1], change[2], change[3]));
#else
  for (int k = 0; k < 4; ++k) atomicAdd(to + k, change[k]);
#endif
}
__device__ __forceinline__ void add_numbers(float* to, const float (&change)[2], Random&) {
#if defined(CONVEC_CUDA_EMULATION) || (defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900)
  atomicAdd(reinterpret_cast<float2*>(to), make_float2(change[0], change[1]));
#else
  for (int k = 0; k < 2; ++k) atomicAdd(to + k, change[k]);
#endif
}

// bfloat16 has 8 bits: rounded to the nearest, most updates would be lost. Rounding up with the probability of what is
// cut off keeps them on average. Numbers that share a word of memory change together, or not at all: then again.
template <typename Word, int Width>
__device__ __forceinline__ void add_rounded(Word* to, const float (&change)[Width], Random& random) {
  std::uint32_t noise[(Width + 1) / 2];
  CONVEC_UNROLL
  for (int pair = 0; pair < (Width + 1) / 2; ++pair) noise[pair] = random();
  Word old = __ldcg(to);
  for (Word seen = 0;;) {
    Word sum = 0;
    CONVEC_UNROLL
    for (int k = 0; k < Width; ++k) {
      const auto bits = static_cast<std::uint32_t>(old >> (16 * k)) << 16U;
      const float number = __uint_as_float(bits) + change[k];
      std::uint32_t rounded = __float_as_uint(number);
      if (number == number) rounded += noise[k / 2] >> (16 * (k % 2)) & 0xFFFFU;
      sum |= static_cast<Word>(rounded >> 16U) << (16 * k);
    }
    seen = old;
    old = atomicCAS(to, seen, sum);
    if (old == seen) break;
  }
}
__device__ __forceinline__ void add_numbers(__nv_bfloat16* to, const float (&change)[4], Random& random) {
  add_rounded(reinterpret_cast<unsigned long long*>(to), change, random);
}
__device__ __forceinline__ void add_numbers(__nv_bfloat16* to, const float (&change)[2], Random& random) {
  add_rounded(reinterpret_cast<unsigned int*>(to), change, random);
}

// How a team shares out a vector: `Chunks` times `Width` consecutive numbers a thread.
template <int Width_, int Chunks_, bool block_team_>
struct Layout {
  static constexpr int Width = Width_;
  static constexpr int Chunks = Chunks_;
  static constexpr bool block_team = block_team_;  // else a warp
};

// A thread's part of a vector.
template <typename L>
struct Part {
  float at[L::Chunks][L::Width];
};

template <typename L>
__device__ __forceinline__ void clear(Part<L>& part) {
  CONVEC_UNROLL
  for (int c = 0; c < L::Chunks; ++c) CONVEC_UNROLL
  for (int k = 0; k < L::Width; ++k) part.at[c][k] = 0.0F;
}
template <typename L>
__device__ __forceinline__ void add_scaled(float scale, const Part<L>& part, Part<L>& to) {
  CONVEC_UNROLL
  for (int c = 0; c < L::Chunks; ++c) CONVEC_UNROLL
  for (int k = 0; k < L::Width; ++k) to.at[c][k] += scale * part.at[c][k];
}
template <typename L>
__device__ __forceinline__ float dot(const Part<L>& a, const Part<L>& b) {
  float sum = 0.0F;
  CONVEC_UNROLL
  for (int c = 0; c < L::Chunks; ++c) CONVEC_UNROLL
  for (int k = 0; k < L::Width; ++k) sum += a.at[c][k] * b.at[c][k];
  return sum;
}

// What the warps of a team tell each other.
struct TeamMemory {
  float sums[2][most_warps][most_outputs];
  unsigned chunk;
};

// A thread's view of its team.
template <typename Row, typename L>
class Team {
 public:
  __device__ Team(const Word2VecPiece& piece, const Word2VecUpdateSettings& settings, TeamMemory& memory)
      : piece_(piece),
        settings_(settings),
        memory_(memory),
        lane_(static_cast<int>(threadIdx.x) % warp_size),
        warp_(L::block_team ? static_cast<int>(threadIdx.x) / warp_size : 0),
        warps_(L::block_team ? static_cast<int>(blockDim.x) / warp_size : 1),
        random_(0) {}

  // Trains chunk after chunk, as long as there are any.
  template <int P, bool skip_gram>
  __device__ void run() {
    const std::int64_t kept = *piece_.kept;
    for (;;) {
      const std::int64_t first = static_cast<std::int64_t>(take_chunk()) * word2vec_chunk;
      if (first >= kept) break;
      if constexpr (!std::is_same_v<Row, float>) seed_random(first);
      const auto last = static_cast<std::int32_t>(first + word2vec_chunk < kept ? first + word2vec_chunk : kept);
      for (auto word = static_cast<std::int32_t>(first); word < last; ++word) {
        const Window window = window_of(word);
        if (window.end - window.begin < 2) continue;
        if constexpr (skip_gram)
          train_skip_gram<P>(window);
        else
          train_cbow<P>(window);
      }
    }
    if (settings_.loss != nullptr && warp_ == 0 && loss_ != 0.0) atomicAdd(settings_.loss, loss_);
  }

 private:
  struct Window {
    std::int32_t centre;  // indices of kept words
    std::int32_t begin;
    std::int32_t end;
    float alpha;
  };

  // Up to P rows that are trained together, and of this thread's one of them what it is told there: the one whose dot
  // product reduce() leaves in this lane.
  template <int P>
  struct Group {
    Row* rows[P];
    Part<L> parts[P];
    float label;
    float weight;
  };

  __device__ unsigned take_chunk() {
    if constexpr (L::block_team) {
      if (threadIdx.x == 0) memory_.chunk = next_chunk();
      __syncthreads();
      const unsigned chunk = memory_.chunk;
      // Nobody may write the next one before all have read this.
      __syncthreads();
      return chunk;
    } else {
      const unsigned chunk = lane_ == 0 ? next_chunk() : 0;
      return __shfl_sync(whole_warp, chunk, 0);
    }
  }
  __device__ unsigned next_chunk() const {
    if (__ldcg(settings_.stop) != 0) return 0x7FFFFFFFU;
    return atomicAdd(piece_.next, 1U);
  }

  __device__ void seed_random(std::int64_t first) {
    const auto position = static_cast<std::uint64_t>(piece_.position + piece_.offsets[first]);
    std::uint32_t seed;
    std::uint32_t unused[3];
    philox::words(settings_.seed, position * most_threads + static_cast<std::uint64_t>(warp_ * warp_size + lane_),
                  word2vec::draw_stream(settings_.epoch, word2vec::draw_rounding), seed, unused[0], unused[1],
                  unused[2]);
    random_ = Random(seed);
  }

  __device__ Window window_of(std::int32_t word) const {
    const float alpha = settings_.alpha - settings_.slope * static_cast<float>(piece_.offsets[word]);
    const float last = settings_.last_alpha;
    return {word, piece_.begin[word], piece_.end[word],
            settings_.slope >= 0.0F ? fmaxf(alpha, last) : fminf(alpha, last)};
  }

  __device__ Row* vector_of(std::int32_t context) const {
    return static_cast<Row*>(settings_.vectors) + piece_.words[context] * settings_.row_size;
  }
  __device__ Row* output_of(std::int32_t word) const {
    return static_cast<Row*>(settings_.outputs) + word * settings_.row_size;
  }

  // The first number of a chunk of this thread.
  __device__ __forceinline__ int number_of(int chunk) const {
    return ((warp_ * L::Chunks + chunk) * warp_size + lane_) * L::Width;
  }
  __device__ __forceinline__ Part<L> load(const Row* row) const {
    Part<L> part;
    CONVEC_UNROLL
    for (int c = 0; c < L::Chunks; ++c) {
      if (number_of(c) < settings_.vector_size) {
        load_numbers(row + number_of(c), part.at[c]);
      } else {
        CONVEC_UNROLL
        for (int k = 0; k < L::Width; ++k) part.at[c][k] = 0.0F;
      }
    }
    return part;
  }
  __device__ __forceinline__ void add(Row* row, const Part<L>& change) {
    CONVEC_UNROLL
    for (int c = 0; c < L::Chunks; ++c)
      if (number_of(c) < settings_.vector_size) add_numbers(row + number_of(c), change.at[c], random_);
  }

  // Output `index` of a window is the centre word for 0, else a negative.
  template <int P>
  __device__ __forceinline__ void load_group(const Window& window, int first, int size, Group<P>& group) const {
    const std::int64_t samples = static_cast<std::int64_t>(window.centre) * settings_.negative - 1;
    CONVEC_UNROLL
    for (int o = 0; o < P; ++o) {
      if (o >= size) {
        group.rows[o] = nullptr;
        clear(group.parts[o]);
        continue;
      }
      const std::int32_t word =
          first + o == 0 ? piece_.words[window.centre] : __ldg(piece_.samples + samples + first + o);
      group.rows[o] = output_of(word);
      group.parts[o] = load(group.rows[o]);
    }
    const int own = lane_ / (warp_size / most_outputs);
    group.label = first + own == 0 ? 1.0F : 0.0F;
    group.weight = own >= size ? 0.0F : first + own == 0 ? 1.0F : __ldg(piece_.weights + samples + first + own);
  }

  // The sums over the team of eight numbers a thread: lanes 4i to 4i + 3 get that of number i.
  __device__ __forceinline__ float reduce(const float (&numbers)[most_outputs]) {
    float four[4];
    float two[2];
    bool upper = (lane_ & 16) != 0;
    CONVEC_UNROLL
    for (int i = 0; i < 4; ++i)
      four[i] =
          (upper ? numbers[i + 4] : numbers[i]) + __shfl_xor_sync(whole_warp, upper ? numbers[i] : numbers[i + 4], 16);
    upper = (lane_ & 8) != 0;
    CONVEC_UNROLL
    for (int i = 0; i < 2; ++i)
      two[i] = (upper ? four[i + 2] : four[i]) + __shfl_xor_sync(whole_warp, upper ? four[i] : four[i + 2], 8);
    upper = (lane_ & 4) != 0;
    float sum = (upper ? two[1] : two[0]) + __shfl_xor_sync(whole_warp, upper ? two[0] : two[1], 4);
    sum += __shfl_xor_sync(whole_warp, sum, 2);
    sum += __shfl_xor_sync(whole_warp, sum, 1);
    if constexpr (L::block_team) {
      // Two buffers in turn: a warp that is ahead writes the one that no other can still be reading.
      turn_ = 1 - turn_;
      const int number = lane_ / 4;
      if (lane_ % 4 == 0) memory_.sums[turn_][warp_][number] = sum;
      __syncthreads();
      sum = 0.0F;
      for (int warp = 0; warp < warps_; ++warp) sum += memory_.sums[turn_][warp][number];
    }
    return sum;
  }

  // What the rows of a group are to change by along x: (label - sigma(dot)) * weight * alpha, in the lanes of reduce().
  template <int P>
  __device__ __forceinline__ float gradient(const Part<L>& x, const Group<P>& group, float alpha) {
    float dots[most_outputs];
    CONVEC_UNROLL
    for (int o = 0; o < most_outputs; ++o) dots[o] = 0.0F;
    CONVEC_UNROLL
    for (int o = 0; o < P; ++o) dots[o] = dot(x, group.parts[o]);
    const float product = reduce(dots);
    if (settings_.loss != nullptr && lane_ % 4 == 0 && group.weight > 0.0F) {
      // -log sigma(+-dot), without overflow
      const float signed_product = group.label > 0.0F ? -product : product;
      const float loss = fmaxf(signed_product, 0.0F) + log1pf(expf(-fabsf(signed_product)));
      loss_ += static_cast<double>(group.weight * loss);
    }
    const float sigma = 1.0F / (1.0F + __expf(-product));
    return (group.label - sigma) * (group.weight * alpha);
  }
  __device__ __forceinline__ static float gradient_of(float gradient, int output) {
    return __shfl_sync(whole_warp, gradient, output * (warp_size / most_outputs));
  }

  // Calls train(first, size) for groups of outputs, of nearly equal size, as on the processor.
  template <int P, typename Train>
  __device__ __forceinline__ void for_groups(const Train& train) const {
    const int outputs = 1 + settings_.negative;
    if constexpr (P < most_outputs) {
      train(0, outputs);
    } else {
      int first = 0;
      for (int groups = (outputs + P - 1) / P; groups > 0; --groups) {
        const int size = (outputs - first) / groups;
        train(first, size);
        first += size;
      }
    }
  }

  template <int P>
  __device__ __forceinline__ void train_skip_gram(const Window& window) {
    for (std::int32_t begin = window.begin; begin < window.end;) {
      // Up to most_contexts words, the centre word not counted.
      std::int32_t end = begin + most_contexts;
      if (begin <= window.centre && window.centre <= end) ++end;
      if (end > window.end) end = window.end;
      for_groups<P>([&](int first, int size) { train_contexts<P>(window, begin, end, first, size); });
      begin = end;
    }
  }

  template <int P>
  __device__ __forceinline__ void train_contexts(const Window& window, std::int32_t begin, std::int32_t end, int first,
                                                 int size) {
    const auto following = [&](std::int32_t context) { return context + (context + 1 == window.centre ? 2 : 1); };
    std::int32_t context = begin == window.centre ? begin + 1 : begin;
    if (context >= end) return;
    Group<P> group;
    load_group(window, first, size, group);
    Part<L> changes[P];
    CONVEC_UNROLL
    for (int o = 0; o < P; ++o) clear(changes[o]);
    Row* row = vector_of(context);
    Part<L> x = load(row);
    for (;;) {
      // The next row is on its way while this one is in work.
      const std::int32_t next = following(context);
      Row* next_row = nullptr;
      Part<L> next_x;
      if (next < end) {
        next_row = vector_of(next);
        next_x = load(next_row);
      }
      const float own = gradient(x, group, window.alpha);
      Part<L> change;
      clear(change);
      CONVEC_UNROLL
      for (int o = 0; o < P; ++o) {
        if (o >= size) continue;
        const float g = gradient_of(own, o);
        add_scaled(g, group.parts[o], change);
        add_scaled(g, x, changes[o]);
      }
      add(row, change);
      if (next >= end) break;
      context = next;
      row = next_row;
      x = next_x;
    }
    CONVEC_UNROLL
    for (int o = 0; o < P; ++o)
      if (o < size) add(group.rows[o], changes[o]);
  }

  template <int P>
  __device__ __forceinline__ void train_cbow(const Window& window) {
    const auto contexts = static_cast<float>(window.end - window.begin - 1);
    Part<L> mean;
    clear(mean);
    for (std::int32_t context = window.begin; context < window.end; ++context)
      if (context != window.centre)
        add_scaled(settings_.cbow_mean ? 1.0F / contexts : 1.0F, load(vector_of(context)), mean);
    Part<L> delta;
    clear(delta);
    for_groups<P>([&](int first, int size) {
      Group<P> group;
      load_group(window, first, size, group);
      const float own = gradient(mean, group, window.alpha);
      CONVEC_UNROLL
      for (int o = 0; o < P; ++o) {
        if (o >= size) continue;
        const float g = gradient_of(own, o);
        add_scaled(g, group.parts[o], delta);
        Part<L> change;
        clear(change);
        add_scaled(g, mean, change);
        add(group.rows[o], change);
      }
    });
    if (!settings_.cbow_mean) {
      // As gensim: the sum's gradient is shared out.
      Part<L> shared;
      clear(shared);
      add_scaled(1.0F / contexts, delta, shared);
      delta = shared;
    }
    for (std::int32_t context = window.begin; context < window.end; ++context)
      if (context != window.centre) add(vector_of(context), delta);
  }

  const Word2VecPiece& piece_;
  const Word2VecUpdateSettings& settings_;
  TeamMemory& memory_;
  int lane_;
  int warp_;
  int warps_;
  Random random_;
  int turn_ = 0;
  double loss_ = 0.0;
};

template <typename Row, typename L, int P, bool skip_gram>
__global__ void __launch_bounds__(most_threads) update(Word2VecPiece piece, Word2VecUpdateSettings settings) {
  __shared__ TeamMemory memory;
  Team<Row, L>(piece, settings, memory).template run<P, skip_gram>();
}

// The smallest layout that holds a vector: up to 64 numbers (2 a thread), 128 (100 and 128), 256 (200 and 256), 384
// (300); above, a block of warps of 256. P: outputs that are trained together.
constexpr std::int32_t largest_of_a_warp = 384;

template <typename Row, int P>
Word2VecKernel kernel_of_a_warp(std::int32_t vector_size, bool skip_gram) {
  if (vector_size <= 64)
    return skip_gram ? update<Row, Layout<2, 1, false>, P, true> : update<Row, Layout<2, 1, false>, P, false>;
  if (vector_size <= 128)
    return skip_gram ? update<Row, Layout<4, 1, false>, P, true> : update<Row, Layout<4, 1, false>, P, false>;
  if (vector_size <= 256)
    return skip_gram ? update<Row, Layout<4, 2, false>, P, true> : update<Row, Layout<4, 2, false>, P, false>;
  return skip_gram ? update<Row, Layout<4, 3, false>, P, true> : update<Row, Layout<4, 3, false>, P, false>;
}

template <typename Row>
Word2VecKernel kernel_of_a_block(bool skip_gram) {
  using L = Layout<4, 2, true>;
  return skip_gram ? update<Row, L, most_outputs, true> : update<Row, L, most_outputs, false>;
}

}  // namespace convec::cuda::word2vec_team
