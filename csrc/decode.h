// From x_0 to clinical units and codes, float64 throughout: the formulas of hg3/table/transforms.py and codecs.py.
//
// real: value = rounded(inverse(y)), held inside the bounds; y is x center-and-scaled back, then taken through the
// column's curve, if it has one: linear between knots, beyond them with the slope between the two ends; inverse by kind:
//   none: y    log1p: expm1(y)    box-cox: (lambda y + 1)^(1/lambda) - 1e-3    yeo-johnson: both its halves
// code: the arg-max of its block, or a draw from the probabilities (x_0 + 1) / 2
#pragma once

#include <cmath>

#include "portable.h"

namespace hg3 {

enum Kind : int32_t { NONE, LOG1P, BOX_COX, YEO_JOHNSON, KINDS };

constexpr double BOX_COX_SHIFT = 1e-3;
constexpr double LARGEST_EXPONENT = 230.0;  // exp of it is 1e100: far outside any bound, and still finite

// A real column: where it lies, how it was made, what its numbers look like.
struct Real {
  int64_t channel;
  int32_t kind;
  double center, scale, lambda;
  double unit;   // 10^decimals, or 10^-decimals if coarse
  bool coarse;   // fewer than 0 decimals: whole tens, hundreds
  double low, high;
  const double *knots, *scores;  // increasing, both, of a curve
  int64_t n_knots;               // 0: no curve
};

// The three leave a NaN as it is, as numpy does: it is not finite where x was not.
HG3_INLINE double at_least(double value, double low) { return value < low ? low : value; }
HG3_INLINE double at_most(double value, double high) { return value > high ? high : value; }
HG3_INLINE double between(double value, double low, double high) { return at_most(at_least(value, low), high); }

// Return log x of y = (x^lambda - 1) / lambda, held inside the exponents; past the pole their end.
HG3_INLINE double log_of_box_cox(double y, double lambda) {
  if (lambda == 0.0) return between(y, -LARGEST_EXPONENT, LARGEST_EXPONENT);
  const double base = at_least(lambda * y, -1.0);
  return between(std::log1p(base) / lambda, -LARGEST_EXPONENT, LARGEST_EXPONENT);
}

HG3_INLINE double inverse_log1p(double y) { return std::expm1(between(y, 0.0, LARGEST_EXPONENT)); }

HG3_INLINE double inverse_box_cox(double y, double lambda) {
  return at_least(std::exp(log_of_box_cox(y, lambda)) - BOX_COX_SHIFT, 0.0);
}

HG3_INLINE double inverse_yeo_johnson(double y, double lambda) {
  return y >= 0.0 ? std::expm1(log_of_box_cox(y, lambda)) : -std::expm1(log_of_box_cox(-y, 2.0 - lambda));
}

// Return the last position whose score is not above y; scores[0] <= y < scores[n - 1].
HG3_INLINE int64_t interval_of(const double* scores, int64_t n, double y) {
  int64_t low = 0, high = n - 1;
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    if (scores[middle] <= y) low = middle; else high = middle;
  }
  return low;
}

HG3_INLINE double inverse_curve(double y, const Real& real) {
  const double *s = real.scores, *v = real.knots;
  const int64_t last = real.n_knots - 1;
  const double slope = (v[last] - v[0]) / (s[last] - s[0]);
  double inside = y;
  if (y <= s[0]) {
    inside = v[0];
  } else if (y >= s[last]) {
    inside = v[last];
  } else if (y == y) {
    const int64_t j = interval_of(s, real.n_knots, y);
    inside = s[j] == y ? v[j] : (v[j + 1] - v[j]) / (s[j + 1] - s[j]) * (y - s[j]) + v[j];
  }
  return inside + slope * (at_most(y - s[0], 0.0) + at_least(y - s[last], 0.0));
}

template <int32_t KIND>
HG3_INLINE double inverse(double y, const Real& real) {
  if (KIND == LOG1P) return inverse_log1p(y);
  if (KIND == BOX_COX) return inverse_box_cox(y, real.lambda);
  if (KIND == YEO_JOHNSON) return inverse_yeo_johnson(y, real.lambda);
  return y;
}

// Return value at the decimals, half to even, inside the bounds, and never -0.
HG3_INLINE double on_lattice(double value, const Real& real) {
  const double steps = __builtin_rint(real.coarse ? value / real.unit : value * real.unit);
  return between(real.coarse ? steps * real.unit : steps / real.unit, real.low, real.high) + 0.0;
}

template <int32_t KIND, bool CURVE>
HG3_INLINE double clinical(float x, const Real& real) {
  const double y = static_cast<double>(x) * real.scale + real.center;
  return on_lattice(inverse<KIND>(CURVE ? inverse_curve(y, real) : y, real), real);
}

// Whether a code's entry takes the lead of an arg-max: the first of equals keeps it, and a NaN has it for good.
HG3_INLINE bool leads(float entry, float best) { return (entry > best) | ((entry != entry) & (best == best)); }

// Return a code's weight in a draw, twice its probability; what is below 0 is 0.
HG3_INLINE double weight_of(float entry) {
  const double weight = static_cast<double>(entry) + 1.0;
  return weight > 0.0 ? weight : 0.0;
}

// Return a word as a number in [0, 1).
HG3_INLINE double unit_of(uint32_t word) { return static_cast<double>(word) * 0x1p-32; }

}  // namespace hg3
