#include <convec/random.hpp>

#include <cmath>
#include <string>

#include <convec/error.hpp>

#include "cpu/thread_pool.hpp"
#include "ops/check.hpp"
#include "philox.hpp"

namespace convec {

namespace {

// Streams of the Philox counter, so that the same seed gives unrelated numbers to the three distributions.
enum Stream : std::uint64_t { uniform_stream = 1, normal_stream = 2, truncated_stream = 1ULL << 32U };

// Elements a task; a multiple of the 4 words of a counter.
constexpr std::int64_t task_elements = 4096;

struct Words {
  std::uint32_t word[4];
};

Words words(std::uint64_t seed, std::uint64_t counter, std::uint64_t stream) {
  Words w;
  philox::words(seed, counter, stream, w.word[0], w.word[1], w.word[2], w.word[3]);
  return w;
}

struct Pair {
  double first;
  double second;
};

// Two independent standard normal numbers from two words: the radius from one, the angle from the other.
Pair box_muller(std::uint32_t a, std::uint32_t b) {
  constexpr double unit = 1.0 / 4294967296.0;
  constexpr double turn = 6.283185307179586477;
  const double radius = std::sqrt(-2.0 * std::log((static_cast<double>(a) + 1.0) * unit));
  const double angle = turn * unit * static_cast<double>(b);
  return {radius * std::cos(angle), radius * std::sin(angle)};
}

std::int64_t check_output(const TensorView& output) {
  check::float32(output, "output");
  if (output.device.type != DeviceType::cpu)
    throw DeviceError("output is on " + to_string(output.device) +
                      ", but random numbers are made on the cpu; copy them");
  return output.shape.size();
}

void check_normal(float mean, float stddev) {
  if (!std::isfinite(mean)) throw ValueError("mean is " + std::to_string(mean) + ", but must be finite");
  if (!(stddev >= 0.0F && std::isfinite(stddev)))
    throw ValueError("stddev is " + std::to_string(stddev) + ", but must be finite and not negative");
}

// Calls four(counter, values) for the 4 elements of each counter and stores those that exist.
template <typename Four>
void fill_by_four(TensorView output, Four&& four) {
  float* data = output.f32();
  cpu::parallel_for_range(check_output(output), task_elements, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; i += 4) {
      float values[4];
      four(static_cast<std::uint64_t>(i) / 4, values);
      for (std::int64_t k = 0; k < 4 && i + k < end; ++k) data[i + k] = values[k];
    }
  });
}

}  // namespace

void fill_uniform(TensorView output, float low, float high, std::uint64_t seed) {
  const float width = high - low;
  if (!std::isfinite(width) || low > high)
    throw ValueError("low is " + std::to_string(low) + " and high is " + std::to_string(high) +
                     ", but both and their difference must be finite, and low must not be above high");
  fill_by_four(output, [=](std::uint64_t counter, float* values) {
    const Words w = words(seed, counter, uniform_stream);
    for (int k = 0; k < 4; ++k) {
      const float value = low + width * (static_cast<float>(w.word[k] >> 8U) * 0x1p-24F);
      // The sum may round up to the end of the interval, which does not belong to it.
      values[k] = value < high || low == high ? value : low;
    }
  });
}

void fill_normal(TensorView output, float mean, float stddev, std::uint64_t seed) {
  check_normal(mean, stddev);
  fill_by_four(output, [=](std::uint64_t counter, float* values) {
    const Words w = words(seed, counter, normal_stream);
    const Pair a = box_muller(w.word[0], w.word[1]);
    const Pair b = box_muller(w.word[2], w.word[3]);
    const double z[4] = {a.first, a.second, b.first, b.second};
    for (int k = 0; k < 4; ++k)
      values[k] = static_cast<float>(static_cast<double>(mean) + static_cast<double>(stddev) * z[k]);
  });
}

void fill_truncated_normal(TensorView output, float mean, float stddev, std::uint64_t seed) {
  check_normal(mean, stddev);
  float* data = output.f32();
  cpu::parallel_for_range(check_output(output), task_elements, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      // Each element draws from a sequence of its own until a number fits: 4 candidates a counter.
      for (std::uint64_t attempt = 0;; ++attempt) {
        const Words w = words(seed, static_cast<std::uint64_t>(i), truncated_stream + attempt);
        const Pair a = box_muller(w.word[0], w.word[1]);
        const Pair b = box_muller(w.word[2], w.word[3]);
        bool found = false;
        for (const double z : {a.first, a.second, b.first, b.second}) {
          if (std::abs(z) > 2.0) continue;
          data[i] = static_cast<float>(static_cast<double>(mean) + static_cast<double>(stddev) * z);
          found = true;
          break;
        }
        if (found) break;
      }
    }
  });
}

}  // namespace convec
