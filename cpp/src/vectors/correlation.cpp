// Correlation coefficients and their p-values.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include <convec/error.hpp>
#include <convec/vectors.hpp>

namespace convec {

namespace {

using std::int64_t;

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

void check_observations(int64_t count) {
  if (count < 2)
    throw ValueError("a correlation needs at least 2 observations, but there are " + std::to_string(count));
}

// log Gamma(x) for x > 0; std::lgamma writes to a global. Stirling's series after shifting x up (DLMF 5.11.1).
double log_gamma(double x) {
  double shift = 0;
  while (x < 12) {
    shift += std::log(x);
    x += 1;
  }
  const double r = 1 / (x * x);
  const double series =
      (1.0 / 12 - r * (1.0 / 360 - r * (1.0 / 1260 - r * (1.0 / 1680 - r * (1.0 / 1188 - r * (691.0 / 360360)))))) / x;
  constexpr double half_log_two_pi = 0.91893853320467274178;
  return (x - 0.5) * std::log(x) - x + half_log_two_pi + series - shift;
}

// The regularised incomplete beta function I_x(a, b) by its continued fraction (DLMF 8.17.22), evaluated by Lentz's
// method; it converges fast for x below (a + 1) / (a + b + 2).
double beta_fraction(double a, double b, double x) {
  constexpr double tiny = 1e-300;
  const auto away_from_zero = [](double value) { return std::abs(value) < tiny ? tiny : value; };
  double c = 1;
  double d = 1 / away_from_zero(1 - (a + b) * x / (a + 1));
  double fraction = d;
  for (int m = 1; m < 10000; ++m) {
    const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / away_from_zero(1 + even * d);
    c = away_from_zero(1 + even / c);
    fraction *= d * c;
    const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / away_from_zero(1 + odd * d);
    c = away_from_zero(1 + odd / c);
    fraction *= d * c;
    if (std::abs(d * c - 1) < 1e-16) break;
  }
  return fraction;
}

double incomplete_beta(double a, double b, double x) {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  const double factor = std::exp(a * std::log(x) + b * std::log1p(-x) + log_gamma(a + b) - log_gamma(a) - log_gamma(b));
  if (x < (a + 1) / (a + b + 2)) return factor * beta_fraction(a, b, x) / a;
  return 1 - factor * beta_fraction(b, a, 1 - x) / b;
}

// P(|r| >= |statistic|) without correlation: 1 - r^2 has the beta distribution with (n - 2) / 2 and 1 / 2, which for
// t = r sqrt((n - 2) / (1 - r^2)) is Student's t distribution.
double two_sided(double statistic, int64_t count) {
  if (count == 2) return 1;
  const double uncorrelated = (1 - std::abs(statistic)) * (1 + std::abs(statistic));
  return incomplete_beta(0.5 * static_cast<double>(count) - 1, 0.5, uncorrelated);
}

double coefficient(const double* x, const double* y, int64_t count) {
  const auto centred = [count](const double* values) {
    const double mean = std::accumulate(values, values + count, 0.0) / static_cast<double>(count);
    std::vector<double> result(values, values + count);
    // Scaled by the largest, so that squares neither overflow nor vanish.
    double largest = 0;
    for (double& value : result) {
      value -= mean;
      largest = std::max(largest, std::abs(value));
    }
    for (double& value : result) value /= largest;
    return result;
  };
  if (std::all_of(x, x + count, [x](double value) { return value == x[0]; }) ||
      std::all_of(y, y + count, [y](double value) { return value == y[0]; }))
    return nan;
  const std::vector<double> a = centred(x);
  const std::vector<double> b = centred(y);
  const auto dot = [](const std::vector<double>& u, const std::vector<double>& v) {
    return std::inner_product(u.begin(), u.end(), v.begin(), 0.0);
  };
  const double r = dot(a, b) / (std::sqrt(dot(a, a) * dot(b, b)));
  return std::isnan(r) ? r : std::clamp(r, -1.0, 1.0);
}

// Ranks from 1; equal values share the mean of theirs.
std::vector<double> ranks(const double* values, int64_t count) {
  std::vector<std::size_t> order(static_cast<std::size_t>(count));
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [values](std::size_t a, std::size_t b) { return values[a] < values[b]; });
  std::vector<double> result(order.size());
  for (std::size_t first = 0; first < order.size();) {
    std::size_t last = first;
    while (last < order.size() && values[order[last]] == values[order[first]]) ++last;
    for (std::size_t i = first; i < last; ++i) result[order[i]] = 0.5 * static_cast<double>(first + last + 1);
    first = last;
  }
  return result;
}

}  // namespace

Correlation pearson_correlation(const double* x, const double* y, int64_t count) {
  check_observations(count);
  const double r = coefficient(x, y, count);
  return {r, std::isnan(r) ? nan : two_sided(r, count)};
}

Correlation spearman_correlation(const double* x, const double* y, int64_t count) {
  check_observations(count);
  const auto bad = [](double value) { return std::isnan(value); };
  if (std::any_of(x, x + count, bad) || std::any_of(y, y + count, bad)) return {nan, nan};
  const double r = coefficient(ranks(x, count).data(), ranks(y, count).data(), count);
  return {r, std::isnan(r) || count < 3 ? nan : two_sided(r, count)};
}

}  // namespace convec
