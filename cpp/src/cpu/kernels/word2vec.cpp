#include "cpu/kernels/word2vec.hpp"

#include <cstddef>
#include <type_traits>

#include "cpu/kernels/math.hpp"
#include "philox.hpp"
#include "word2vec/draws.hpp"

namespace convec::cpu::CONVEC_ISA_NAMESPACE {

void fill_word2vec(Word2VecKernels& kernels);

namespace {

// ---- Draws ----------------------------------------------------------------------------------------------------

// Counters of word2vec/draws.hpp that are drawn at once.
constexpr int draw_batch = 64;

std::int64_t draw_text(const Word2VecDraws& draws, const std::int32_t* tokens, std::int64_t size,
                       const Word2VecText& text) {
  const std::uint64_t stream = word2vec::draw_stream(draws.epoch, word2vec::draw_text);
  std::int64_t kept = 0;
  std::int64_t sentence = 0;  // first kept word of the sentence
  // `end` holds the radius of each window until the sentence's end is known.
  const auto close_sentence = [&] {
    for (std::int64_t i = sentence; i < kept; ++i) {
      const std::int64_t radius = text.end[i];
      const std::int64_t first = i - radius;
      const std::int64_t last = i + radius + 1;
      text.begin[i] = static_cast<std::int32_t>(first < sentence ? sentence : first);
      text.end[i] = static_cast<std::int32_t>(last > kept ? kept : last);
    }
    sentence = kept;
  };
  std::uint32_t survival[2][draw_batch];
  std::uint32_t radii[2][draw_batch];
  const std::int64_t odd = draws.position % 2;
  for (std::int64_t start = -odd; start < size; start += 2 * draw_batch) {
    const std::uint64_t counter = static_cast<std::uint64_t>(draws.position + start) / 2;
    for (int lane = 0; lane < draw_batch; ++lane)
      philox::words(draws.seed, counter + static_cast<std::uint64_t>(lane), stream, survival[0][lane], radii[0][lane],
                    survival[1][lane], radii[1][lane]);
    const std::int64_t count = size - start < 2 * draw_batch ? size - start : 2 * draw_batch;
    for (std::int64_t at = start < 0 ? 1 : 0; at < count; ++at) {
      const std::int32_t word = tokens[start + at];
      if (word < 0) {
        close_sentence();
        continue;
      }
      text.words[kept] = word;
      text.offsets[kept] = static_cast<std::int32_t>(start + at);
      text.end[kept] = draws.shrink_windows ? word2vec::radius_of(radii[at % 2][at / 2], draws.window) : draws.window;
      const std::uint32_t random = survival[at % 2][at / 2];
      kept += draws.thresholds == nullptr || word2vec::survives(random, draws.thresholds[word]) ? 1 : 0;
    }
  }
  close_sentence();
  return kept;
}

void draw_pool(std::uint64_t seed, std::uint64_t epoch, std::int64_t segment, const AliasEntry* table,
               std::int64_t vocabulary_size, std::int32_t size, std::int32_t* pool) {
  const std::uint64_t stream = word2vec::draw_stream(epoch, word2vec::draw_pool);
  const std::uint64_t counter = word2vec::pool_counter(segment, size);
  // Whole vectors of counters, also where the pool is smaller.
  constexpr int batch = 16;
  for (std::int32_t start = 0; start < size; start += 4 * batch) {
    std::uint32_t random[4][batch];
    for (int lane = 0; lane < batch; ++lane)
      philox::words(seed, counter + static_cast<std::uint64_t>(start / 4 + lane), stream, random[0][lane],
                    random[1][lane], random[2][lane], random[3][lane]);
    for (int entry = 0; entry < 4 * batch && start + entry < size; ++entry)
      pool[start + entry] = word2vec::negative_of(random[entry % 4][entry / 4], table, vocabulary_size);
  }
}

void draw_laps(std::uint64_t seed, std::uint64_t epoch, std::int64_t segment, std::int32_t laps, std::uint32_t* strides,
               std::uint32_t* offsets) {
  for (std::int32_t lap = 0; lap < laps; ++lap) {
    const word2vec::Lap drawn = word2vec::lap_of(seed, epoch, segment, lap);
    strides[lap] = drawn.stride;
    offsets[lap] = drawn.offset;
  }
}

// ---- Updates --------------------------------------------------------------------------------------------------

// Rows hold float32 or, as bits, IEEE half-precision numbers; arithmetic is float32 always.
using Half = std::uint16_t;

CONVEC_INLINE Vec load_lanes(const float* p) { return vec_load(p); }
CONVEC_INLINE void store_lanes(float* p, Vec v) { vec_store(p, v); }

#if defined(__AVX512F__)

CONVEC_INLINE Vec load_lanes(const Half* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
CONVEC_INLINE void store_lanes(Half* p, Vec v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}

#elif defined(__AVX2__)

CONVEC_INLINE Vec load_lanes(const Half* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
CONVEC_INLINE void store_lanes(Half* p, Vec v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}

#else

CONVEC_INLINE Vec load_lanes(const Half* p) {
  VecInt bits;
  for (int lane = 0; lane < vec_width; ++lane) bits[lane] = p[lane];
  const VecInt magnitude = bits & vec_set_int(0x7FFF);
  const VecInt exponent = magnitude & vec_set_int(0x7C00);
  // Normal numbers get float32's bias; subnormal ones are whole multiples of 2^-24.
  const VecInt normal = (magnitude << 13) + vec_set_int(0x38000000);
  const VecInt special = (magnitude << 13) | vec_set_int(0x7F800000);
  const Vec tiny = vec_mul(__builtin_convertvector(magnitude, Vec), vec_set(5.9604645e-8F));
  const VecInt number = exponent == vec_set_int(0x7C00) ? special
                        : exponent == vec_set_int(0)    ? vec_bits(tiny)
                                                        : normal;
  return vec_from_bits(number | ((bits & vec_set_int(0x8000)) << 16));
}
// Rounds to the nearest, ties to even, as the instruction.
CONVEC_INLINE void store_lanes(Half* p, Vec v) {
  const VecInt bits = vec_bits(v);
  const VecInt magnitude = bits & vec_set_int(INT32_MAX);
  const VecInt rounded = magnitude + vec_set_int(0xFFF) + ((magnitude >> 13) & vec_set_int(1));
  const VecInt normal = (rounded - vec_set_int(0x38000000)) >> 13;
  // Adding 1/2 leaves multiples of 2^-24 in the low bits.
  const VecInt tiny = vec_bits(vec_add(vec_from_bits(magnitude), vec_set(0.5F))) - vec_set_int(0x3F000000);
  const VecInt infinite = vec_set_int(0x7C00) | ((magnitude > vec_set_int(0x7F800000)) & vec_set_int(0x200));
  const VecInt number = magnitude >= vec_set_int(0x47800000)  ? infinite
                        : magnitude < vec_set_int(0x38800000) ? tiny
                                                              : normal;
  const VecInt half = number | ((bits >> 16) & vec_set_int(0x8000));
  for (int lane = 0; lane < vec_width; ++lane) p[lane] = static_cast<Half>(half[lane]);
}

#endif

#if defined(__SANITIZE_THREAD__)

// Threads change rows that they share without locks (Hogwild), whole vectors at a time, which no atomic type can
// express. ThreadSanitizer sees relaxed atomic numbers in their place. Not inlined: the kernels are unrolled too far
// for that.
template <typename T>
__attribute__((noinline)) Vec load_row(const T* p) {
  alignas(64) T lanes[vec_width];
  for (int lane = 0; lane < vec_width; ++lane) __atomic_load(p + lane, lanes + lane, __ATOMIC_RELAXED);
  return load_lanes(lanes);
}
template <typename T>
__attribute__((noinline)) void store_row(T* p, Vec v) {
  alignas(64) T lanes[vec_width];
  store_lanes(lanes, v);
  for (int lane = 0; lane < vec_width; ++lane) __atomic_store(p + lane, lanes + lane, __ATOMIC_RELAXED);
}

#else

template <typename T>
CONVEC_INLINE Vec load_row(const T* p) {
  return load_lanes(p);
}
template <typename T>
CONVEC_INLINE void store_row(T* p, Vec v) {
  store_lanes(p, v);
}

#endif

template <typename T>
CONVEC_INLINE T* row_at(void* row, std::int64_t k) {
  return static_cast<T*>(row) + k;
}

constexpr int most_outputs = 8;    // of a group, trained together
constexpr int most_contexts = 32;  // of a window, trained together

// call(N) for N = size, or 8 where it is larger.
#define CONVEC_BY_SIZE(size, call) \
  switch (size) {                  \
    case 1:                        \
      call(1);                     \
      break;                       \
    case 2:                        \
      call(2);                     \
      break;                       \
    case 3:                        \
      call(3);                     \
      break;                       \
    case 4:                        \
      call(4);                     \
      break;                       \
    case 5:                        \
      call(5);                     \
      break;                       \
    case 6:                        \
      call(6);                     \
      break;                       \
    case 7:                        \
      call(7);                     \
      break;                       \
    default:                       \
      call(8);                     \
      break;                       \
  }

// Sums of the lanes of eight vectors, in order, each as one lane of the result's first eight. Vectors from `count` on
// are taken as zero.
#if defined(__AVX512F__)

// Within each 128-bit lane: (a, b, c, d), each summed over its four floats there.
CONVEC_INLINE __m512 sum_four(__m512 a, __m512 b, __m512 c, __m512 d) {
  const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
  const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
  const __m512d low = _mm512_unpacklo_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
  const __m512d high = _mm512_unpackhi_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
  return _mm512_add_ps(_mm512_castpd_ps(low), _mm512_castpd_ps(high));
}
// The 128-bit lanes of each argument summed, one result a 128-bit lane.
CONVEC_INLINE __m512 sum_lanes(__m512 a, __m512 b, __m512 c, __m512 d) {
  const __m512 ab = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xDD));
  const __m512 cd = _mm512_add_ps(_mm512_shuffle_f32x4(c, d, 0x88), _mm512_shuffle_f32x4(c, d, 0xDD));
  return _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xDD));
}

#elif defined(__AVX2__)

CONVEC_INLINE __m256 sum_four(__m256 a, __m256 b, __m256 c, __m256 d) {
  const __m256 ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
  const __m256 cd = _mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
  const __m256d low = _mm256_unpacklo_pd(_mm256_castps_pd(ab), _mm256_castps_pd(cd));
  const __m256d high = _mm256_unpackhi_pd(_mm256_castps_pd(ab), _mm256_castps_pd(cd));
  return _mm256_add_ps(_mm256_castpd_ps(low), _mm256_castpd_ps(high));
}

#endif

// Contexts whose dot products are formed together: two where there are registers for 2 x 8 sums.
#if defined(__AVX512F__)
constexpr int context_pair = 2;
#else
constexpr int context_pair = 1;
#endif

// Eight numbers, those from `count` on zero; repeated where a vector holds more.
CONVEC_INLINE void load_eight(const float* p, int count, Vec (&to)[(most_outputs + vec_width - 1) / vec_width]) {
#if defined(__AVX512F__)
  to[0] = _mm512_broadcast_f32x8(
      _mm256_maskz_loadu_ps(static_cast<__mmask8>((1U << static_cast<unsigned>(count)) - 1U), p));
#else
  for (int i = 0; i < most_outputs / vec_width; ++i) {
    const int left = count - i * vec_width;
    to[i] = left <= 0 ? vec_zero() : vec_load_some(p + i * vec_width, left);
  }
#endif
}

// A group of outputs: their learning rates, and these times the labels. Zero beyond the group.
constexpr int eight = (most_outputs + vec_width - 1) / vec_width;
struct Group {
  Vec targets[eight];
  Vec scales[eight];
};

template <int P>
CONVEC_INLINE Group group_of(const Word2VecWindows& w, std::int32_t first) {
  Group group;
  load_eight(w.labels + first, P, group.targets);
  load_eight(w.weights + first, P, group.scales);
  const Vec alpha = vec_set(w.alpha);
#pragma GCC unroll 2
  for (int i = 0; i < eight; ++i) {
    group.scales[i] = vec_mul(group.scales[i], alpha);
    group.targets[i] = vec_mul(group.targets[i], group.scales[i]);
  }
  return group;
}

// (label - sigma(dot)) * scale, to 3e-7 * scale: the update waits for it, so that a short chain counts for more than
// the last bit. e^-dot = 2^n 2^r with r in [-1/2, 1/2], a polynomial by Estrin's scheme; beyond +-30 sigma is 0 or 1.
CONVEC_INLINE Vec gradient(Vec dot, const Group& group, int part) {
  const Vec t = vec_clip(vec_mul(dot, vec_set(-1.44269504F)), vec_set(-43.0F), vec_set(43.0F));
  const Vec shifter = vec_set(12582912.0F);  // 1.5 * 2^23: the rounded integer is left in the low bits
  const Vec shifted = vec_add(t, shifter);
  const Vec r = vec_sub(t, vec_sub(shifted, shifter));
  const Vec square = vec_mul(r, r);
  const Vec low = vec_fma(r, vec_set(0.69314694F), vec_set(1.0000001F));
  const Vec middle = vec_fma(r, vec_set(0.05550713F), vec_set(0.24022120F));
  const Vec high = vec_fma(r, vec_set(0.0013276470F), vec_set(0.0096755410F));
  const Vec p = vec_fma(vec_fma(high, square, middle), square, low);
  const Vec e = vec_from_bits(vec_bits(p) + (vec_bits(shifted) << 23));
  return vec_sub(group.targets[part], group.scales[part] / vec_add(vec_set(1.0F), e));
}

// Dot products of `count` (1 or 2) input rows with P output rows, and from them what the rows are to change by:
// gradients[c * 8 + o]. The dot products go to `products` where it is not null.
template <typename Out, typename In, int P, int count>
CONVEC_INLINE void gradients_of(void* const* outputs, void* const* inputs, std::int64_t stride, const Group& group,
                                float* products, float* gradients) {
  Vec sums[count][most_outputs];
#pragma GCC unroll 2
  for (int c = 0; c < count; ++c)
#pragma GCC unroll 8
    for (int o = 0; o < most_outputs; ++o) sums[c][o] = vec_zero();
  for (std::int64_t k = 0; k < stride; k += vec_width) {
    Vec x[count];
#pragma GCC unroll 2
    for (int c = 0; c < count; ++c) x[c] = load_row(row_at<In>(inputs[c], k));
#pragma GCC unroll 8
    for (int o = 0; o < P; ++o) {
      const Vec y = load_row(row_at<Out>(outputs[o], k));
#pragma GCC unroll 2
      for (int c = 0; c < count; ++c) sums[c][o] = vec_fma(x[c], y, sums[c][o]);
    }
  }
#if defined(__AVX512F__)
  __m512 quads[4];
#pragma GCC unroll 2
  for (int c = 0; c < 2; ++c) {
    Vec* s = sums[c < count ? c : 0];
    quads[2 * c] = c < count ? sum_four(s[0], s[1], s[2], s[3]) : vec_zero();
    quads[2 * c + 1] = c < count && P > 4 ? sum_four(s[4], s[5], s[6], s[7]) : vec_zero();
  }
  const __m512 all = sum_lanes(quads[0], quads[1], quads[2], quads[3]);
  if (products != nullptr) _mm512_storeu_ps(products, all);
  _mm512_storeu_ps(gradients, gradient(all, group, 0));
#elif defined(__AVX2__)
  Vec* s = sums[0];
  const __m256 low = sum_four(s[0], s[1], s[2], s[3]);
  const __m256 high = P > 4 ? sum_four(s[4], s[5], s[6], s[7]) : vec_zero();
  const __m256 all = _mm256_add_ps(_mm256_permute2f128_ps(low, high, 0x20), _mm256_permute2f128_ps(low, high, 0x31));
  if (products != nullptr) _mm256_storeu_ps(products, all);
  _mm256_storeu_ps(gradients, gradient(all, group, 0));
#else
  alignas(16) float all[most_outputs];
#pragma GCC unroll 8
  for (int o = 0; o < most_outputs; ++o) all[o] = o < P ? vec_sum(sums[0][o]) : 0.0F;
#pragma GCC unroll 2
  for (int i = 0; i < eight; ++i) {
    const Vec part = vec_load(all + i * vec_width);
    if (products != nullptr) vec_store(products + i * vec_width, part);
    vec_store(gradients + i * vec_width, gradient(part, group, i));
  }
#endif
}

// Room for the eight numbers of each context, and what a whole vector writes beyond the last.
constexpr int values_size = (most_contexts + 1) * most_outputs;

// Sum of weight * -log sigma(+-dot) over the dot products of some contexts with P outputs.
// Not inlined: it is rarely wanted, and there are dozens of callers.
__attribute__((noinline)) double loss_of(const float* products, std::int64_t contexts, int outputs, const float* labels,
                                         const float* weights) {
  double total = 0.0;
  alignas(64) float terms[vec_width];
  alignas(64) float dots[vec_width];
  for (std::int64_t i = 0; i < contexts * most_outputs; i += vec_width) {
    const Vec x = vec_load(products + i);
    // -log sigma(s) = log(1 + e^-|s|) + max(-s, 0).
    vec_store(dots, x);
    vec_store(terms, vec_log1p(vec_exp(vec_negate(vec_abs(x)))));
    for (int lane = 0; lane < vec_width && i + lane < contexts * most_outputs; ++lane) {
      const int o = static_cast<int>((i + lane) % most_outputs);
      if (o >= outputs) continue;
      const float s = labels[o] > 0.0F ? dots[lane] : -dots[lane];
      total += static_cast<double>(weights[o]) * static_cast<double>(terms[lane] + (s < 0.0F ? -s : 0.0F));
    }
  }
  return total;
}

// One chunk of `V` vectors of the rows: what changes in the contexts is added at once, in the outputs at the end.
template <typename T, int P, int V>
CONVEC_INLINE void skip_gram_update(void* const* outputs, void* const* inputs, std::int64_t contexts,
                                    const float* gradients, std::int64_t k) {
  Vec y[V][P];
  Vec change[V][P];
#pragma GCC unroll 8
  for (int o = 0; o < P; ++o)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) {
      y[v][o] = load_row(row_at<T>(outputs[o], k + v * vec_width));
      change[v][o] = vec_zero();
    }
  for (std::int64_t i = 0; i < contexts; ++i) {
    T* row = row_at<T>(inputs[i], k);
    Vec x[V];
    Vec sum[V];
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) sum[v] = x[v] = load_row(row + v * vec_width);
#pragma GCC unroll 8
    for (int o = 0; o < P; ++o) {
      const Vec g = vec_set(gradients[i * most_outputs + o]);
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) {
        sum[v] = vec_fma(g, y[v][o], sum[v]);
        change[v][o] = vec_fma(g, x[v], change[v][o]);
      }
    }
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) store_row(row + v * vec_width, sum[v]);
  }
#pragma GCC unroll 8
  for (int o = 0; o < P; ++o)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) store_row(row_at<T>(outputs[o], k + v * vec_width), vec_add(y[v][o], change[v][o]));
}

// The words of a window, or some of them, and what they are to change by.
struct Contexts {
  alignas(64) float gradients[values_size];
  void* rows[most_contexts];
  std::int64_t count;
};

// What a window and P outputs are to change by.
template <typename T, int P>
CONVEC_INLINE void skip_gram_gradients(const Word2VecWindows& w, std::int32_t first, Contexts& contexts) {
  void* const* outputs = w.outputs + first;
  const Group group = group_of<P>(w, first);
  alignas(64) float products[values_size];
  const bool wants_loss = w.loss != nullptr;
  std::int64_t c = 0;
  for (; c + context_pair <= contexts.count; c += context_pair)
    gradients_of<T, T, P, context_pair>(outputs, contexts.rows + c, w.stride, group,
                                        wants_loss ? products + c * most_outputs : nullptr,
                                        contexts.gradients + c * most_outputs);
  if (c < contexts.count)
    gradients_of<T, T, P, 1>(outputs, contexts.rows + c, w.stride, group,
                             wants_loss ? products + c * most_outputs : nullptr, contexts.gradients + c * most_outputs);
  if (wants_loss) *w.loss += loss_of(products, contexts.count, P, w.labels + first, w.weights + first);
}

template <typename T, int P>
CONVEC_INLINE void skip_gram_updates(const Word2VecWindows& w, std::int32_t first, const Contexts& contexts) {
  void* const* outputs = w.outputs + first;
  std::int64_t k = 0;
#if defined(__AVX512F__)
  // Two vectors at a time share the broadcasts, where there are registers for it.
  if (P <= 6)
    for (; k + 2 * vec_width <= w.stride; k += 2 * vec_width)
      skip_gram_update<T, P, 2>(outputs, contexts.rows, contexts.count, contexts.gradients, k);
#endif
  for (; k < w.stride; k += vec_width)
    skip_gram_update<T, P, 1>(outputs, contexts.rows, contexts.count, contexts.gradients, k);
}

template <typename T, int P>
void skip_gram_group(const Word2VecWindows& w, std::int32_t first, Contexts& contexts) {
  skip_gram_gradients<T, P>(w, first, contexts);
  skip_gram_updates<T, P>(w, first, contexts);
}

// Two windows at once, so that one's dot products are formed while the other waits for its sigmoids.
template <typename T, int P>
void skip_gram_pair(const Word2VecWindows& w, std::int32_t first_a, Contexts& a, std::int32_t first_b, Contexts& b) {
  skip_gram_gradients<T, P>(w, first_a, a);
  skip_gram_gradients<T, P>(w, first_b, b);
  skip_gram_updates<T, P>(w, first_a, a);
  skip_gram_updates<T, P>(w, first_b, b);
}

// The mean (or sum) of a window's context vectors, and what it is to change by.
struct Mean {
  float* values;  // stride floats
  float* delta;   // stride floats
  alignas(64) float gradients[2 * most_outputs];
};

CONVEC_INLINE float inverse_count(const Word2VecWindows& w, std::int64_t i) {
  return 1.0F / static_cast<float>(w.end[i] - w.begin[i] - 1);
}

// Calls run(V, k), V a constant, for tiles of V vectors, at most eight, that cover a row.
template <typename Run>
CONVEC_INLINE void for_tiles(std::int64_t stride, const Run& run) {
  for (std::int64_t k = 0; k < stride; k += most_outputs * vec_width) {
#define CONVEC_CALL(V) run(std::integral_constant<int, V>(), k)
    CONVEC_BY_SIZE((stride - k) / vec_width, CONVEC_CALL)
#undef CONVEC_CALL
  }
}

template <typename T>
CONVEC_INLINE void cbow_mean(const Word2VecWindows& w, std::int64_t i, const Mean& mean) {
  const Vec scale = vec_set(w.cbow_mean ? inverse_count(w, i) : 1.0F);
  for_tiles(w.stride, [&](auto tile, std::int64_t k) {
    constexpr int V = decltype(tile)::value;
    Vec sum[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) sum[v] = vec_zero();
    for (std::int64_t c = w.begin[i]; c < w.end[i]; ++c) {
      if (c == i) continue;
      const T* row = row_at<T>(w.inputs[c], k);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sum[v] = vec_add(sum[v], load_row(row + v * vec_width));
    }
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) vec_store(mean.values + k + v * vec_width, vec_mul(sum[v], scale));
  });
}

template <typename T, int P>
CONVEC_INLINE void cbow_gradients(const Word2VecWindows& w, std::int32_t first, Mean& mean) {
  alignas(64) float products[2 * most_outputs];
  void* values = mean.values;
  gradients_of<T, float, P, 1>(w.outputs + first, &values, w.stride, group_of<P>(w, first),
                               w.loss != nullptr ? products : nullptr, mean.gradients);
  if (w.loss != nullptr) *w.loss += loss_of(products, 1, P, w.labels + first, w.weights + first);
}

// Adds mean.delta to the context vectors: as in gensim, the sum's change is divided over the words, the mean's is not.
template <typename T>
CONVEC_INLINE void cbow_add(const Word2VecWindows& w, std::int64_t i, const Mean& mean) {
  const Vec share = vec_set(w.cbow_mean ? 1.0F : inverse_count(w, i));
  for_tiles(w.stride, [&](auto tile, std::int64_t k) {
    constexpr int V = decltype(tile)::value;
    Vec delta[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) delta[v] = vec_mul(vec_load(mean.delta + k + v * vec_width), share);
    for (std::int64_t c = w.begin[i]; c < w.end[i]; ++c) {
      if (c == i) continue;
      T* row = row_at<T>(w.inputs[c], k);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) store_row(row + v * vec_width, vec_add(load_row(row + v * vec_width), delta[v]));
    }
  });
}

template <int P>
CONVEC_INLINE void broadcast_gradients(const Mean& mean, Vec (&g)[P]) {
#pragma GCC unroll 8
  for (int o = 0; o < P; ++o) g[o] = vec_set(mean.gradients[o]);
}

// Updates P outputs, and puts by how much the mean is to change into mean.delta, or adds it there.
template <typename T, int P, bool adds>
CONVEC_INLINE void cbow_updates(const Word2VecWindows& w, std::int32_t first, const Mean& mean) {
  void* const* outputs = w.outputs + first;
  Vec g[P];
  broadcast_gradients(mean, g);
  for (std::int64_t k = 0; k < w.stride; k += vec_width) {
    const Vec x = vec_load(mean.values + k);
    Vec sum = adds ? vec_load(mean.delta + k) : vec_zero();
#pragma GCC unroll 8
    for (int o = 0; o < P; ++o) {
      T* row = row_at<T>(outputs[o], k);
      const Vec y = load_row(row);
      sum = vec_fma(g[o], y, sum);
      store_row(row, vec_fma(g[o], x, y));
    }
    vec_store(mean.delta + k, sum);
  }
}

// Two windows at once, as skip_gram_pair.
template <typename T, int P>
void cbow_pair(const Word2VecWindows& w, std::int64_t i, std::int32_t first_i, Mean& mean_i, std::int64_t j,
               std::int32_t first_j, Mean& mean_j) {
  cbow_mean<T>(w, i, mean_i);
  cbow_gradients<T, P>(w, first_i, mean_i);
  cbow_mean<T>(w, j, mean_j);
  cbow_gradients<T, P>(w, first_j, mean_j);
  cbow_updates<T, P, false>(w, first_i, mean_i);
  cbow_add<T>(w, i, mean_i);
  cbow_updates<T, P, false>(w, first_j, mean_j);
  cbow_add<T>(w, j, mean_j);
}

// One of several groups of outputs: adds what is to change in the mean to mean.delta.
template <typename T, int P>
void cbow_group(const Word2VecWindows& w, std::int32_t first, Mean& mean) {
  cbow_gradients<T, P>(w, first, mean);
  cbow_updates<T, P, true>(w, first, mean);
}

template <typename T>
void prefetch_row(const void* row, std::int64_t stride) {
  constexpr std::int64_t cache_line = 64;
  const auto* bytes = static_cast<const std::byte*>(row);
  for (std::int64_t k = 0; k < stride * static_cast<std::int64_t>(sizeof(T)); k += cache_line)
    __builtin_prefetch(bytes + k, 1, 3);
}

// Calls run(first output, size) for groups of nearly equal size that cover outputs [first, last).
template <typename Run>
CONVEC_INLINE void for_groups(std::int32_t first, std::int32_t last, const Run& run) {
  std::int32_t groups = (last - first + most_outputs - 1) / most_outputs;
  for (; groups > 0; --groups) {
    const std::int32_t size = (last - first) / groups;
    run(first, size);
    first += size;
  }
}

// Takes context rows of centre word i from `next` on, until there are no more or no more fit. Returns where it stopped.
CONVEC_INLINE std::int64_t take_contexts(const Word2VecWindows& w, std::int64_t i, std::int64_t next,
                                         Contexts& contexts) {
  contexts.count = 0;
  for (; next < w.end[i] && contexts.count < most_contexts; ++next) {
    contexts.rows[contexts.count] = w.inputs[next];
    contexts.count += next == i ? 0 : 1;
  }
  return next;
}

// The window of centre word i, in parts where it or its outputs are many.
template <typename T>
void skip_gram_window(const Word2VecWindows& w, std::int64_t i, Contexts& contexts) {
  for (std::int64_t next = w.begin[i]; next < w.end[i];) {
    next = take_contexts(w, i, next, contexts);
    if (contexts.count == 0) return;
    for_groups(w.output_begin[i - w.first], w.output_begin[i - w.first + 1],
               [&](std::int32_t first, std::int32_t size) {
#define CONVEC_CALL(P) skip_gram_group<T, P>(w, first, contexts)
                 CONVEC_BY_SIZE(size, CONVEC_CALL)
#undef CONVEC_CALL
               });
  }
}

// Works through the two halves of a stretch side by side (their windows have few words in common): pair(i, first output
// of i, j, first output of j, outputs of each) where both have few outputs, else one(i).
template <typename T, typename Pair, typename One>
CONVEC_INLINE void for_pairs(const Word2VecWindows& w, const Pair& pair, const One& one) {
  const std::int64_t half = (w.last - w.first + 1) / 2;
  for (std::int64_t i = w.first; i < w.first + half; ++i) {
    const std::int64_t j = i + half;
    if (i + w.ahead < w.words) prefetch_row<T>(w.inputs[i + w.ahead], w.stride);
    if (j >= w.last) {
      one(i);
      break;
    }
    if (j + w.ahead < w.words) prefetch_row<T>(w.inputs[j + w.ahead], w.stride);
    const std::int32_t first_i = w.output_begin[i - w.first];
    const std::int32_t first_j = w.output_begin[j - w.first];
    const std::int32_t size_i = w.output_begin[i - w.first + 1] - first_i;
    const std::int32_t size_j = w.output_begin[j - w.first + 1] - first_j;
    if (size_i != size_j || size_i == 0 || size_i > most_outputs || !pair(i, first_i, j, first_j, size_i)) {
      one(i);
      one(j);
    }
  }
}

template <typename T>
void skip_gram(const Word2VecWindows& w) {
  Contexts a;
  Contexts b;
  for_pairs<T>(
      w,
      [&](std::int64_t i, std::int32_t first_i, std::int64_t j, std::int32_t first_j, std::int32_t size) {
        if (take_contexts(w, i, w.begin[i], a) < w.end[i] || take_contexts(w, j, w.begin[j], b) < w.end[j])
          return false;
#define CONVEC_CALL(P) skip_gram_pair<T, P>(w, first_i, a, first_j, b)
        CONVEC_BY_SIZE(size, CONVEC_CALL)
#undef CONVEC_CALL
        return true;
      },
      [&](std::int64_t i) { skip_gram_window<T>(w, i, a); });
}

template <typename T>
void cbow_window(const Word2VecWindows& w, std::int64_t i, Mean& mean) {
  if (w.end[i] - w.begin[i] < 2) return;
  cbow_mean<T>(w, i, mean);
  for (std::int64_t k = 0; k < w.stride; k += vec_width) vec_store(mean.delta + k, vec_zero());
  for_groups(w.output_begin[i - w.first], w.output_begin[i - w.first + 1], [&](std::int32_t first, std::int32_t size) {
#define CONVEC_CALL(P) cbow_group<T, P>(w, first, mean)
    CONVEC_BY_SIZE(size, CONVEC_CALL)
#undef CONVEC_CALL
  });
  cbow_add<T>(w, i, mean);
}

template <typename T>
void cbow(const Word2VecWindows& w) {
  Mean a;
  Mean b;
  a.values = w.scratch;
  a.delta = b.delta = w.scratch + w.stride;
  b.values = w.scratch + 2 * w.stride;
  for_pairs<T>(
      w,
      [&](std::int64_t i, std::int32_t first_i, std::int64_t j, std::int32_t first_j, std::int32_t size) {
        if (w.end[i] - w.begin[i] < 2 || w.end[j] - w.begin[j] < 2) return false;
#define CONVEC_CALL(P) cbow_pair<T, P>(w, i, first_i, a, j, first_j, b)
        CONVEC_BY_SIZE(size, CONVEC_CALL)
#undef CONVEC_CALL
        return true;
      },
      [&](std::int64_t i) { cbow_window<T>(w, i, a); });
}

#undef CONVEC_BY_SIZE

template <typename T>
void merge_rows(std::int64_t size, float share, void* shared, void* own, void* base) {
  const Vec factor = vec_set(share);
  for (std::int64_t i = 0; i < size; i += vec_width) {
    const Vec change = vec_sub(load_row(row_at<T>(own, i)), load_row(row_at<T>(base, i)));
    const Vec merged = vec_fma(factor, change, load_row(row_at<T>(shared, i)));
    store_row(row_at<T>(shared, i), merged);
    store_row(row_at<T>(own, i), merged);
    store_row(row_at<T>(base, i), merged);
  }
}

template <typename T>
void read_row(std::int64_t size, const void* row, float* to) {
  for (std::int64_t i = 0; i < size; i += vec_width) vec_store(to + i, load_row(static_cast<const T*>(row) + i));
}

template <typename T>
void write_row(std::int64_t size, const float* from, void* row) {
  for (std::int64_t i = 0; i < size; i += vec_width) store_row(row_at<T>(row, i), vec_load(from + i));
}

template <typename T>
float row_change(std::int64_t size, const void* row, const float* before, float* change) {
  Vec squares = vec_set(0.0F);
  for (std::int64_t i = 0; i < size; i += vec_width) {
    const Vec by = vec_sub(load_row(static_cast<const T*>(row) + i), vec_load(before + i));
    squares = vec_fma(by, by, squares);
    vec_store(change + i, by);
  }
  return vec_sum(squares);
}

float sum_of_squares(std::int64_t size, const float* numbers) {
  Vec squares = vec_set(0.0F);
  for (std::int64_t i = 0; i < size; i += vec_width)
    squares = vec_fma(vec_load(numbers + i), vec_load(numbers + i), squares);
  return vec_sum(squares);
}

template <typename T>
void move_row(std::int64_t size, float factor, const float* change, float* before, void* row) {
  const Vec by = vec_set(factor);
  for (std::int64_t i = 0; i < size; i += vec_width) {
    store_row(row_at<T>(row, i), vec_fma(by, vec_load(change + i), vec_load(before + i)));
    vec_store(before + i, load_row(row_at<T>(row, i)));
  }
}

template <typename T>
Word2VecRowKernels row_kernels() {
  return {skip_gram<T>, cbow<T>, merge_rows<T>, read_row<T>, write_row<T>, row_change<T>, move_row<T>, sum_of_squares};
}

}  // namespace

void fill_word2vec(Word2VecKernels& kernels) {
  kernels.draw_text = draw_text;
  kernels.draw_pool = draw_pool;
  kernels.draw_laps = draw_laps;
  kernels.float32 = row_kernels<float>();
  kernels.float16 = row_kernels<Half>();
}

}  // namespace convec::cpu::CONVEC_ISA_NAMESPACE
