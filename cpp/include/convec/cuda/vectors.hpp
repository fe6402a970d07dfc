/// @file cuda/vectors.hpp
/// Nearest neighbours on an NVIDIA GPU: the searches of vectors.hpp on a table that stays in a device's memory.
/// Programs link convec::cuda besides convec::core.
#pragma once

#include <cstdint>
#include <memory>

#include <convec/vectors.hpp>

namespace convec::cuda {

/// A table of vectors in a device's memory. Searches follow the rules of those on the processor, and find the same but
/// for rounding: the most similar first, rows of equal similarity in their order, no NaN. May be used by several
/// threads, which take turns.
class VectorsOnDevice {
 public:
  /// So few that they stay in the second-level cache of a large device.
  static constexpr std::int64_t usual_similarities = 8 * 1024 * 1024;

  /// Takes memory: about 4 bytes a number (vectors are rounded up to a multiple of 4) and a row, and when it is
  /// searched about 16 bytes more for each of `most_similarities`, at most. The vectors are zero.
  /// @param rows number of vectors, below 2^31
  /// @param dim elements of a vector
  /// @param device which, from 0
  /// @param most_similarities similarities that are held at once
  /// @throws ShapeError an extent is negative or too large. @throws ValueError most_similarities is below 1. @throws
  /// DeviceError no such device, or not enough memory on it; the message says how much is needed.
  VectorsOnDevice(std::int64_t rows, std::int64_t dim, int device = 0,
                  std::int64_t most_similarities = usual_similarities);
  ~VectorsOnDevice();
  VectorsOnDevice(VectorsOnDevice&&) noexcept;             ///< leaves the other empty
  VectorsOnDevice& operator=(VectorsOnDevice&&) noexcept;  ///< leaves the other empty

  std::int64_t rows() const noexcept;  ///< number of vectors
  std::int64_t dim() const noexcept;   ///< elements of a vector

  /// Copies the rows of a table to the rows from `first` on.
  /// @param norms (rows,), by which similarities are divided (0 where one is 0), or null: no division
  /// @throws ShapeError the table has another dim, or rows beyond the last. @throws DeviceError
  void copy_in(std::int64_t first, const VectorTable& table, const float* norms);

  /// vector_similarities() with rows [begin, end).
  /// @param queries (count, dim)
  /// @param output (count, end - begin)
  /// @throws ShapeError the count is negative. @throws ValueError [begin, end) is not within the table.
  /// @throws DeviceError
  void similarities(const float* queries, std::int64_t count, std::int64_t begin, std::int64_t end,
                    float* output) const;

  /// nearest_vectors(). Up to 128 neighbours are chosen on the device; more of them on the host, out of all
  /// similarities.
  /// @throws as nearest_vectors(). @throws DeviceError
  void nearest(const float* queries, std::int64_t count, const NearestOptions& options, std::int64_t* rows,
               float* similarities) const;

  /// multiplicative_similarities() with rows [begin, end).
  /// @param output (end - begin,)
  /// @throws as similarities()
  void multiplicative(const float* positive, std::int64_t positive_count, const float* negative,
                      std::int64_t negative_count, std::int64_t begin, std::int64_t end, float* output) const;

  /// nearest_multiplicative().
  /// @throws as nearest()
  void nearest_multiplicative(const float* positive, std::int64_t positive_count, const float* negative,
                              std::int64_t negative_count, const NearestOptions& options, std::int64_t* rows,
                              float* similarities) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace convec::cuda
