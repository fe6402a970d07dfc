// The random draws of Word2Vec as functions of the seed, the epoch and the position in the epoch's text: the one copy
// of them, for the processor and for GPUs, so that a seed means the same everywhere. Forced inline, as philox.hpp.
#pragma once

#include <cstdint>

#include "cpu/kernels/word2vec.hpp"
#include "philox.hpp"

namespace convec::word2vec {

// What a Philox stream is used for; the epoch is in its upper half.
enum DrawPurpose : std::uint64_t { draw_text = 0, draw_pool = 1, draw_laps = 2, draw_rounding = 3 };

CONVEC_ANY_DEVICE std::uint64_t draw_stream(std::uint64_t epoch, DrawPurpose purpose) {
  return (epoch << 32U) | purpose;
}

// Positions 2i and 2i + 1 take the first and the second two words of counter i of draw_text: the first decides whether
// the token survives sub-sampling, the second is the radius of its window.
CONVEC_ANY_DEVICE bool survives(std::uint32_t random, std::uint32_t threshold) { return random <= threshold; }
CONVEC_ANY_DEVICE std::int32_t radius_of(std::uint32_t random, std::int32_t window) {
  return 1 + static_cast<std::int32_t>((std::uint64_t{random} * static_cast<std::uint32_t>(window)) >> 32U);
}

// A negative: the upper half of the product is an index into the alias table, the lower half the fraction within it.
CONVEC_ANY_DEVICE std::int32_t negative_of(std::uint32_t random, const cpu::AliasEntry* table,
                                           std::int64_t vocabulary_size) {
  const std::uint64_t product = std::uint64_t{random} * static_cast<std::uint64_t>(vocabulary_size);
  const auto index = static_cast<std::int32_t>(product >> 32U);
  const cpu::AliasEntry chosen = table[index];
  return static_cast<std::uint32_t>(product) < chosen.threshold ? index : chosen.alias;
}

// Negatives drawn for a segment: about 13 times `negative`, so that each is used about seven times where two words in
// three survive sub-sampling. Measured to be as good as fresh ones (docs/performance.md).
CONVEC_ANY_DEVICE std::int32_t pool_size_for(int negative) {
  std::int32_t size = 16;
  while (size < 12 * negative) size *= 2;
  return size;
}

// A segment of the text shares a pool of `size` negatives; entry 4i + k of it is word k of counter
// pool_counter(segment, size) + i of draw_pool.
CONVEC_ANY_DEVICE std::uint64_t pool_counter(std::int64_t segment, std::int32_t size) {
  return static_cast<std::uint64_t>(segment) * static_cast<std::uint64_t>(size / 4);
}

// The order in which a lap goes through the pool: its k-th negative is pool[(k * stride + offset) & (size - 1)]. The
// stride is odd, so that every entry comes up once a lap.
struct Lap {
  std::uint32_t stride;
  std::uint32_t offset;
};
CONVEC_ANY_DEVICE Lap lap_of(std::uint64_t seed, std::uint64_t epoch, std::int64_t segment, std::int32_t lap) {
  Lap drawn;
  std::uint32_t unused2;
  std::uint32_t unused3;
  philox::words(seed, (static_cast<std::uint64_t>(segment) << 16U) + static_cast<std::uint64_t>(lap),
                draw_stream(epoch, draw_laps), drawn.stride, drawn.offset, unused2, unused3);
  drawn.stride |= 1U;
  return drawn;
}

}  // namespace convec::word2vec
