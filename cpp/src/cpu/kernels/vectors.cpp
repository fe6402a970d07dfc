#include "cpu/kernels/vectors.hpp"

#include "cpu/kernels/math.hpp"

namespace convec::cpu::CONVEC_ISA_NAMESPACE {

void fill_vectors(VectorKernels& kernels);

namespace {

template <int...>
struct Lanes {};
template <int Count, int... Lane>
struct CountLanes : CountLanes<Count - 1, Count - 1, Lane...> {};
template <int... Lane>
struct CountLanes<0, Lane...> {
  using Type = Lanes<Lane...>;
};
using AllLanes = typename CountLanes<vec_width>::Type;

// Where lane `lane` of a fold comes from: of every 2 * Half lanes the first half from x, the second from y.
template <int Half>
constexpr int fold_source(int lane, int upper) {
  const int block = lane / (2 * Half) * (2 * Half);
  const int within = lane % (2 * Half);
  return block + within % Half + upper * Half + (within < Half ? 0 : vec_width);
}

// Adds the halves of every 2 * Half lanes of x and of y, x's sums before y's.
template <int Half, int... Lane>
CONVEC_INLINE Vec fold(Vec x, Vec y, Lanes<Lane...>) {
#if defined(__clang__) || __GNUC__ >= 12
  return vec_add(Vec(__builtin_shufflevector(x, y, fold_source<Half>(Lane, 0)...)),
                 Vec(__builtin_shufflevector(x, y, fold_source<Half>(Lane, 1)...)));
#else
  return vec_add(Vec(__builtin_shuffle(x, y, VecInt{fold_source<Half>(Lane, 0)...})),
                 Vec(__builtin_shuffle(x, y, VecInt{fold_source<Half>(Lane, 1)...})));
#endif
}

// Lane i of the result is the sum over the lanes of v[i].
template <int Half>
CONVEC_INLINE Vec sum_each(Vec* v) {
#pragma GCC unroll 8
  for (int i = 0; i < Half; ++i) v[i] = fold<Half>(v[i], v[i + Half], AllLanes{});
  if constexpr (Half > 1)
    return sum_each<Half / 2>(v);
  else
    return v[0];
}

// Dot products of vec_width rows, `offsets` from the first, with others `next` behind them to follow; `Self`: of each
// row with itself.
template <bool Self>
CONVEC_INLINE Vec dots_of_group(std::int64_t dim, const float* rows, const std::ptrdiff_t* offsets, std::ptrdiff_t next,
                                const float* query) {
  Vec sums[vec_width];
#pragma GCC unroll 16
  for (int i = 0; i < vec_width; ++i) sums[i] = vec_zero();
  std::int64_t k = 0;
  for (; k + vec_width <= dim; k += vec_width) {
    const Vec q = Self ? vec_zero() : vec_load(query + k);
#pragma GCC unroll 16
    for (int i = 0; i < vec_width; ++i) {
      const Vec x = vec_load(rows + offsets[i] + k);
      // The same place in the next group: so many streams are more than the processor fetches ahead by itself.
      __builtin_prefetch(rows + offsets[i] + next + k);
      sums[i] = vec_fma(x, Self ? x : q, sums[i]);
    }
  }
  if (k < dim) {
    const int left = static_cast<int>(dim - k);
    const Vec q = Self ? vec_zero() : vec_load_first(query + k, left);
#pragma GCC unroll 16
    for (int i = 0; i < vec_width; ++i) {
      const Vec x = vec_load_first(rows + offsets[i] + k, left);
      sums[i] = vec_fma(x, Self ? x : q, sums[i]);
    }
  }
  return sum_each<vec_width / 2>(sums);
}

// Calls use(row, count, sums) for groups of rows; the last group repeats its last row.
template <bool Self, typename Use>
CONVEC_INLINE void for_groups(std::int64_t rows, std::int64_t dim, const float* vectors, std::ptrdiff_t stride,
                              const float* query, Use use) {
  std::ptrdiff_t offsets[vec_width];
  for (int i = 0; i < vec_width; ++i) offsets[i] = i * stride;
  for (std::int64_t row = 0; row < rows; row += vec_width) {
    const std::int64_t count = rows - row < vec_width ? rows - row : vec_width;
    for (std::int64_t i = count; i < vec_width; ++i) offsets[i] = (count - 1) * stride;
    use(row, count, dots_of_group<Self>(dim, vectors + row * stride, offsets, vec_width * stride, query));
  }
}

CONVEC_INLINE Vec divide_by_norm(Vec dots, Vec norms) {
  return vec_select(vec_equal(norms, vec_zero()), vec_zero(), dots / norms);
}

float dots_f32(std::int64_t rows, std::int64_t dim, const float* vectors, std::ptrdiff_t stride, const float* query,
               const float* norms, float* output) {
  const Vec lowest = vec_set(-__builtin_inff());
  Vec largest = lowest;
  for_groups<false>(rows, dim, vectors, stride, query,
                    [&](std::int64_t row, std::int64_t count, Vec values) __attribute__((always_inline)) {
                      if (norms != nullptr) values = divide_by_norm(values, vec_load_some(norms + row, count));
                      vec_store_some(output + row, values, count);
                      // The second operand where either is NaN: a NaN is passed over.
                      largest = vec_max(vec_fill_from(values, count, lowest), largest);
                    });
  return vec_largest(largest);
}

void squared_norms_f32(std::int64_t rows, std::int64_t dim, const float* vectors, std::ptrdiff_t stride,
                       float* output) {
  for_groups<true>(rows, dim, vectors, stride, nullptr,
                   [&](std::int64_t row, std::int64_t count, Vec values)
                       __attribute__((always_inline)) { vec_store_some(output + row, values, count); });
}

CONVEC_INLINE bool any_at_least(Vec values, Vec thresholds) {
#if defined(__AVX512F__)
  return _mm512_cmp_ps_mask(values, thresholds, _CMP_GE_OQ) != 0;
#elif defined(__AVX2__)
  return _mm256_movemask_ps(_mm256_cmp_ps(values, thresholds, _CMP_GE_OQ)) != 0;
#else
  bool any = false;
  for (int lane = 0; lane < vec_width; ++lane) any |= values[lane] >= thresholds[lane];
  return any;
#endif
}

std::int64_t select_f32(std::int64_t rows, std::int64_t columns, float* values, std::ptrdiff_t row, const float* norms,
                        const float* thresholds, std::int32_t* selected) {
  std::int64_t count = 0;
  for (std::int64_t i = 0; i < rows; ++i) {
    float* line = values + i * row;
    const Vec norm = vec_set(norms == nullptr ? 1.0F : norms[i]);
    for (std::int64_t c = 0; c < columns; c += vec_width) {
      const Vec value = divide_by_norm(vec_load(line + c), norm);
      if (!any_at_least(value, vec_load(thresholds + c))) continue;
      vec_store(line + c, value);
      const std::int64_t end = c + vec_width < columns ? c + vec_width : columns;
      for (std::int64_t j = c; j < end; ++j)
        if (line[j] >= thresholds[j]) selected[count++] = static_cast<std::int32_t>(i * row + j);
    }
  }
  return count;
}

}  // namespace

void fill_vectors(VectorKernels& kernels) {
  kernels.dots_f32 = dots_f32;
  kernels.squared_norms_f32 = squared_norms_f32;
  kernels.select_f32 = select_f32;
}

}  // namespace convec::cpu::CONVEC_ISA_NAMESPACE
