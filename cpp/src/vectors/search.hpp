// What the searches on every device share: the order of neighbours, the best so far, and the caller's poll.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

#include <convec/vectors.hpp>

namespace convec::vectors {

// Calls the caller's poll now and then.
class Poll {
 public:
  explicit Poll(const std::function<void()>& function) : function_(function) {}
  void operator()() {
    if (!function_) return;
    const auto now = std::chrono::steady_clock::now();
    if (now - last_ < std::chrono::milliseconds(100)) return;
    last_ = now;
    function_();
  }

 private:
  const std::function<void()>& function_;
  std::chrono::steady_clock::time_point last_{};
};

struct Neighbour {
  float similarity;
  std::int64_t row;
};

// A total order, so that the best do not depend on the order in which they are met.
inline bool better(const Neighbour& a, const Neighbour& b) {
  return a.similarity > b.similarity || (a.similarity == b.similarity && a.row < b.row);
}

// The best of the candidates offered so far. Twice as many are kept and thinned out when they are full: constant time
// a candidate, for any number wanted.
class Best {
 public:
  Best(std::int64_t wanted, const std::int64_t* excluded, const std::int64_t* excluded_end)
      : wanted_(static_cast<std::size_t>(wanted)), excluded_(excluded), excluded_end_(excluded_end) {
    kept_.reserve(2 * wanted_ + 32);
  }

  // A candidate below this is not among the best.
  float threshold() const { return threshold_; }

  void offer(float similarity, std::int64_t row) {
    if (!(similarity >= threshold_)) return;  // also NaN
    if (std::find(excluded_, excluded_end_, row) != excluded_end_) return;
    kept_.push_back({similarity, row});
    if (kept_.size() == kept_.capacity()) thin_out();
  }

  void offer_all(const Best& other) {
    for (const Neighbour& n : other.kept_) offer(n.similarity, n.row);
  }

  // Sorted; at most `wanted`.
  const std::vector<Neighbour>& sorted() {
    if (kept_.size() > wanted_) thin_out();
    std::sort(kept_.begin(), kept_.end(), better);
    return kept_;
  }

 private:
  void thin_out() {
    const auto last = kept_.begin() + static_cast<std::ptrdiff_t>(wanted_);
    std::nth_element(kept_.begin(), last - 1, kept_.end(), better);
    threshold_ = kept_[wanted_ - 1].similarity;
    kept_.erase(last, kept_.end());
  }

  std::vector<Neighbour> kept_;
  std::size_t wanted_;
  const std::int64_t* excluded_;
  const std::int64_t* excluded_end_;
  float threshold_ = -std::numeric_limits<float>::infinity();
};

// Neighbours there can be.
inline std::int64_t neighbours_wanted(const NearestOptions& options) {
  return std::min(options.topn, options.end - options.begin);
}

// Queries to search for at a time, at most `most`: fewer where many neighbours are wanted of each by each of the
// holders of candidates, so that these take bounded memory.
inline std::int64_t queries_at_once(std::int64_t wanted, std::int64_t holders, std::int64_t most) {
  constexpr std::int64_t most_candidates = 8'000'000;
  return std::clamp<std::int64_t>(most_candidates / std::max<std::int64_t>(1, (2 * wanted + 32) * holders), 1, most);
}

}  // namespace convec::vectors
