// The formulas of decode.h on columns of every kind, with curves and without, from numbers of every size: what comes
// out is a number inside the bounds, at the decimals, and never falls while x rises. Buffers end where their tensors
// end, for the sanitizers to see. Prints how many cells were decoded; stops at the first that is wrong.
#include "decode.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

using namespace hg3;

using Doubles = std::vector<double>;
using Formula = double (*)(float, const Real&);

static std::mt19937 chance(20260318);  // the same cases every time

static int64_t below(int64_t n) { return static_cast<int64_t>(chance() % static_cast<uint64_t>(n)); }

static double number(double low, double high) { return std::uniform_real_distribution<double>(low, high)(chance); }

static void check(bool holds, const char* what, float x, double value) {
  if (holds) return;
  std::fprintf(stderr, "%s: %a gives %a\n", what, static_cast<double>(x), value);
  std::exit(1);
}

// Increasing numbers that floats hold, some of which are neighbours.
static Doubles increasing(int64_t n) {
  Doubles numbers(n);  // and no room for more: what is read behind them is seen
  float last = static_cast<float>(number(-3.0, 0.0));
  for (double& one : numbers) {
    one = last;
    last = below(5) ? last + static_cast<float>(number(0.001, 1.0)) : std::nextafter(last, INFINITY);
  }
  return numbers;
}

static Real random_real(int32_t kind, const Doubles& knots, const Doubles& scores) {
  const double lambdas[] = {-2.0, -0.3, -1e-9, 0.0, 0.3, 1.0, 2.0};
  const int64_t decimals = below(9) - 2;
  Real real{};
  real.kind = kind;
  const bool plain = below(3) == 0;  // so that a number lies at a knot to the bit
  real.center = plain ? 0.0 : number(-2.0, 2.0);
  real.scale = plain ? 1.0 : std::exp(number(-3.0, 3.0));
  real.lambda = lambdas[below(7)];
  real.unit = std::pow(10.0, std::abs(static_cast<double>(decimals)));
  real.coarse = decimals < 0;
  const double step = real.coarse ? real.unit : 1.0 / real.unit;  // as the encoder has them, bounds lie at the decimals
  real.low = -step * static_cast<double>(below(1000));
  real.high = step * static_cast<double>(1 + below(100'000));
  real.knots = knots.data();
  real.scores = scores.data();
  real.n_knots = static_cast<int64_t>(knots.size());
  return real;
}

// Numbers of every size in order; among them what lies at a curve's own knots.
static std::vector<float> rising(const Real& real) {
  std::vector<float> x{0.0f, -0.0f, 1e-45f, -1e-45f, 1e6f, -1e6f, 1e30f, -1e30f, 3.4e38f, -3.4e38f};
  for (int i = 0; i < 100; ++i) x.push_back(static_cast<float>(number(-4.0, 4.0)));
  for (int64_t k = 0; k < real.n_knots; ++k)
    x.push_back(static_cast<float>((real.scores[k] - real.center) / real.scale));
  std::sort(x.begin(), x.end());
  return x;
}

static int64_t n_decoded = 0;

static void decode_column(Formula formula, const Real& real) {
  // libraries' functions may fall by units of the last place: that moves a number by a decimal at most
  const double slack = real.coarse ? real.unit : 1.0 / real.unit;
  double before = -INFINITY;
  for (const float x : rising(real)) {
    const double value = formula(x, real), steps = real.coarse ? value / real.unit : value * real.unit;
    check(real.low <= value && value <= real.high, "outside its bounds", x, value);
    check(std::fabs(steps - std::rint(steps)) < 1e-9 * (1.0 + std::fabs(steps)), "beside its decimals", x, value);
    check(!(value == 0.0 && std::signbit(value)), "minus zero", x, value);
    check(value >= before - 1.001 * slack, "falls", x, value);
    before = value;
    ++n_decoded;
  }
  check(std::isnan(formula(NAN, real)), "a number out of none", NAN, formula(NAN, real));
}

template <int32_t KIND>
static void decode_kind(int64_t n_knots) {
  const int64_t n = std::max<int64_t>(n_knots, 1);
  const Doubles knots = increasing(n), scores = increasing(n);
  Real real = random_real(KIND, knots, scores);
  if (n_knots > 0) decode_column(clinical<KIND, true>, real);
  real.n_knots = 0;
  decode_column(clinical<KIND, false>, real);
}

// Return the last position whose score is not above y, by looking at each.
static int64_t slowly(const Doubles& scores, double y) {
  int64_t last = 0;
  for (size_t k = 0; k + 1 < scores.size(); ++k)
    if (scores[k] <= y) last = static_cast<int64_t>(k);
  return last;
}

static void find_intervals(int64_t n_knots) {
  const Doubles scores = increasing(n_knots);
  Doubles sought(scores.begin(), scores.end() - 1);
  for (int i = 0; i < 20; ++i) sought.push_back(number(scores.front(), scores.back()));
  for (const double y : sought)
    if (y < scores.back())
      check(interval_of(scores.data(), n_knots, y) == slowly(scores, y), "the interval", static_cast<float>(y), y);
}

// The lead goes to the first of the largest, and to the first that is no number for good.
static void take_leads(int64_t n) {
  const float entries[] = {-1.0f, 0.0f, 0.5f, 1.0f, INFINITY, -INFINITY, NAN};
  std::vector<float> block(n);
  for (float& entry : block) entry = entries[below(7)];
  int64_t best = 0, wanted = 0;
  for (int64_t k = 1; k < n; ++k)
    if (leads(block[k], block[best])) best = k;
  const auto is_none = [](float entry) { return std::isnan(entry); };
  const auto none = std::find_if(block.begin(), block.end(), is_none);
  wanted = (none != block.end() ? none : std::max_element(block.begin(), block.end())) - block.begin();
  check(best == wanted, "the lead", block[best], block[wanted]);
  for (const float entry : block) check(weight_of(entry) >= 0.0, "a weight", entry, weight_of(entry));
}

int main() {
  for (int round = 0; round < 500; ++round) {
    const int64_t n_knots = round % 3 ? 2 + below(40) : 0;
    decode_kind<NONE>(n_knots);
    decode_kind<LOG1P>(n_knots);
    decode_kind<BOX_COX>(n_knots);
    decode_kind<YEO_JOHNSON>(n_knots);
    find_intervals(2 + below(100));
    take_leads(1 + below(20));
  }
  for (const uint32_t word : {0u, 1u, 0x80000000u, 0xffffffffu})
    check(0.0 <= unit_of(word) && unit_of(word) < 1.0, "a word's unit", 0.0f, unit_of(word));
  std::printf("%lld cells decoded\n", static_cast<long long>(n_decoded));
}
