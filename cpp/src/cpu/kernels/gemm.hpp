// The one float32 matrix micro-kernel: convolution, its gradients and dense layers are all calls of it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace convec::cpu {

// C[p, :] (+)= sum over segments s and steps k of A[a_segments[s] + p * a_row + k * a_step] * B_s[k * b_step + :],
// for p in [0, rows). A is broadcast, B is read a vector at a time.
struct GemmTile {
  const float* a;
  const std::ptrdiff_t* a_segments;  // offsets into a, one a segment
  std::ptrdiff_t a_row;
  std::ptrdiff_t a_step;
  const float* b;
  const std::ptrdiff_t* b_segments;  // offsets into b; null: one segment follows the other (length * b_step apart)
  std::ptrdiff_t b_step;
  std::int64_t segments;
  std::int64_t length;  // steps a segment
  float* c;
  std::ptrdiff_t c_row;
  int rows;           // 1 to GemmKernels::rows
  int columns;        // 1 to GemmKernels::columns; B must be readable, C is written only, up to here
  bool accumulate;    // add to C instead of overwriting it
  bool relu;          // after the bias
  const float* bias;  // null: none; readable to a whole panel
  // What is read later: each step fetches the line there and goes ahead_bytes on. tile_f32_along fetches it into the
  // first-level cache, for the next tile, and C before it is written; tile_f32_across into the second-level cache.
  // Null: nothing.
  const float* ahead;
  std::ptrdiff_t ahead_bytes;
};

struct GemmKernels {
  int rows;     // most rows of a tile
  int columns;  // columns of a packed panel of B
  int vector;   // floats a vector
  // a_step must be 1.
  void (*tile_f32_along)(const GemmTile&);
  // a_row must be 1.
  void (*tile_f32_across)(const GemmTile&);
};

}  // namespace convec::cpu
