// The largest errors of elementary.h against the C library in float64, in units of the last place; then what has to
// be exact. Prints lines of a name and numbers.
#include "elementary.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

// `least` is the smallest distance of two floats that counts.
static void worse(double& worst, float value, double exact, double least = 0) {
  const double unit = std::max(exact == 0.0 ? 0x1p-149 : std::ldexp(1.0, std::ilogb(exact) - 23), least);
  const double error = std::fabs(value - exact) / unit;
  if (!(error <= worst)) worst = error;  // a NaN is the worst
}

int main() {
  double of_log = 0, of_sin = 0, of_cos = 0, of_exp = 0;
  for (uint32_t k = 0; k < 1u << 24; ++k) {
    const uint32_t word = k << 8 | (k & 0xff);  // the lowest byte must not matter
    const double u = (k + 1) * 0x1p-24;
    float sine, cosine;
    hg3::sine_cosine_of_turn(word, sine, cosine);
    worse(of_log, hg3::log_of_unit(word), std::log(u));
    worse(of_sin, sine, std::sin(2 * M_PI * u), 0x1p-48);  // float64 itself misses a zero by 2^-54
    worse(of_cos, cosine, std::cos(2 * M_PI * u), 0x1p-48);
  }
  for (uint32_t k = 0; k <= 86u << 17; ++k) {
    const float x = -static_cast<float>(k) * 0x1.000002p-17f;  // about 2^-17 apart, and no round numbers
    worse(of_exp, hg3::exp_of_negative(x), std::exp(static_cast<double>(std::max(x, -86.0f))));
  }
  std::printf("log %.4f\nsin %.4f\ncos %.4f\nexp %.4f\n", of_log, of_sin, of_cos, of_exp);
  std::printf("log_of_one %g\nexp_of_zero %g\n", hg3::log_of_unit(0xffffffffu), hg3::exp_of_negative(0.0f));
  std::printf("exp_far_below %a %a\n", hg3::exp_of_negative(-1e30f), hg3::exp_of_negative(-INFINITY));
  for (uint32_t quarter = 1; quarter <= 4; ++quarter) {
    float sine, cosine;
    hg3::sine_cosine_of_turn((quarter << 30) - 1, sine, cosine);
    std::printf("quarter_%u %g %g\n", quarter, static_cast<double>(sine), static_cast<double>(cosine));
  }
}
