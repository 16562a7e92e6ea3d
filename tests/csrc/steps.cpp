// Whole reverse steps of random layouts, lengths, types and memory layouts, with entries that are not finite: every
// way to compute one has to give the same bits. Buffers end where their tensors end, for the sanitizers to see.
// Prints how many steps were compared; stops at the first that differs.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "instruction_sets.h"

using namespace hg3;

struct Brief {  // bfloat16, as torch has it
  uint16_t high;
  explicit Brief(float value) : high(static_cast<uint16_t>(as_bits(value) >> 16)) {}
  operator float() const { return as_float(static_cast<uint32_t>(high) << 16); }
};

struct Half {  // float16
  _Float16 value;
  explicit Half(float rounded) : value(static_cast<_Float16>(rounded)) {}
  operator float() const { return value; }
};

using Floats = std::vector<float>;
using Kernel = void (*)(const Step&, int64_t, int64_t, float*);

static std::mt19937 chance(20260317);  // the same cases every time

static int64_t below(int64_t n) { return static_cast<int64_t>(chance() % static_cast<uint64_t>(n)); }

static float value() {
  static std::normal_distribution<float> normal(0.0f, 1.5f);
  const float odd[] = {NAN, INFINITY, -INFINITY, 1e30f, -1e30f, 3e38f, 1e-42f, -0.0f};
  return below(200) == 0 ? odd[below(8)] : normal(chance);
}

static Floats values(int64_t n) {
  Floats drawn(n);
  for (float& one : drawn) one = value();
  return drawn;
}

static std::vector<Channel> random_channels(int64_t n) {
  std::vector<Channel> channels;
  while (static_cast<int64_t>(channels.size()) < n) {
    const int32_t start = static_cast<int32_t>(channels.size()), head = static_cast<int32_t>(below(4));
    const int32_t width = head == LOGITS ? 1 + static_cast<int32_t>(below(std::min<int64_t>(7, n - start))) : 1;
    const float bound = below(3) ? 0.7f : INFINITY;
    for (int32_t k = 0; k < width; ++k) channels.push_back({head, start, width, -bound, bound});
  }
  return channels;
}

// All that a step takes; its raw values as (B, C, L) and as (B, L, C).
struct Case {
  int64_t B, C, L;
  std::vector<Channel> channels;
  Floats x_t, x_0_prev, raw, raw_last;
  std::vector<int64_t> patient, stream;
  Row row;

  Case(int64_t B, int64_t C, int64_t L, float step_std, float history)
      : B(B), C(C), L(L), channels(random_channels(C)), x_t(values(B * C * L)), x_0_prev(values(B * C * L)),
        raw(values(B * C * L)), raw_last(raw.size()), row{0.6f, 0.8f, 0.9f, 0.3f, -0.2f, step_std, history} {
    for (int64_t b = 0; b < B; ++b) {
      patient.push_back((int64_t{1} << 33) - 2 + b);
      stream.push_back((3 << 28) | static_cast<int64_t>(below(3)) << 20);
      for (int64_t c = 0; c < C; ++c)
        for (int64_t l = 0; l < L; ++l) raw_last[(b * L + l) * C + c] = raw[(b * C + c) * L + l];
    }
  }
};

struct Answer {
  Floats x_s, x_0_hat;
  std::vector<int64_t> moved, nonfinite;
  bool operator==(const Answer& other) const {
    const auto same = [](const Floats& a, const Floats& b) { return !std::memcmp(a.data(), b.data(), 4 * a.size()); };
    return same(x_s, other.x_s) && same(x_0_hat, other.x_0_hat) && moved == other.moved && nonfinite == other.nonfinite;
  }
};

// Take the step with patients cut into chunks, in place or not, from raw values of the strides given.
template <typename T>
static Answer taken(const Case& given, Kernel kernel, const std::vector<T>& raw, int64_t along_c, int64_t along_l,
                    int64_t chunk, bool in_place) {
  const int64_t n = given.B * given.C * given.L;
  Answer answer{given.x_t, in_place ? given.x_0_prev : Floats(n, NAN), std::vector<int64_t>(given.B), {}};
  answer.nonfinite = answer.moved;
  Step step{};
  step.x_t = in_place ? answer.x_s.data() : given.x_t.data();
  step.x_0_prev = in_place ? answer.x_0_hat.data() : given.x_0_prev.data();
  step.x_s = answer.x_s.data();
  step.x_0_hat = in_place && given.row.history == 0.0f ? nullptr : answer.x_0_hat.data();
  step.raw = raw.data();
  step.raw_stride[0] = given.C * given.L, step.raw_stride[1] = along_c, step.raw_stride[2] = along_l;
  step.set_shape(given.C, given.L);
  step.row = given.row, step.channels = given.channels.data();
  step.seed = -77, step.number = 9, step.patient = given.patient.data(), step.stream = given.stream.data();
  step.moved = answer.moved.data(), step.nonfinite = answer.nonfinite.data();
  for (int64_t begin = 0; begin < given.B; begin += chunk) {
    Floats workspace(step.workspace());
    kernel(step, begin, std::min(begin + chunk, given.B), workspace.data());
  }
  return answer;
}

// The kernel of the widest instruction set that this CPU runs.
template <typename T>
static Kernel widest() {
#if defined(__x86_64__)
  if (has_avx2()) return avx2::patients<T>;
#endif
  return portable::patients<T>;
}

static int n_compared = 0;

static void check(bool same, const char* what, const Case& given) {
  ++n_compared;
  if (same) return;
  std::fprintf(stderr, "%s differs at C = %d, L = %d\n", what, static_cast<int>(given.C), static_cast<int>(given.L));
  std::exit(1);
}

template <typename T>
static void compare(const Case& given) {
  const Kernel plain = portable::patients<T>, other = widest<T>();
  const std::vector<T> raw(given.raw.begin(), given.raw.end()), last(given.raw_last.begin(), given.raw_last.end());
  const Answer wanted = taken(given, plain, raw, given.L, 1, given.B, false);
  check(taken(given, other, raw, given.L, 1, given.B, false) == wanted, "the other instruction set", given);
  for (const Kernel kernel : {plain, other}) {
    check(taken(given, kernel, last, 1, given.C, given.B, false) == wanted, "channels last", given);
    for (int64_t chunk = 1; chunk < given.B; ++chunk)
      check(taken(given, kernel, raw, given.L, 1, chunk, false) == wanted, "a chunk of patients", given);
    Answer in_place = taken(given, kernel, last, 1, given.C, given.B, true);
    if (given.row.history == 0.0f) {
      check(!std::memcmp(in_place.x_0_hat.data(), given.x_0_prev.data(), 4 * given.x_t.size()), "x_0 untouched", given);
      in_place.x_0_hat = wanted.x_0_hat;
    }
    check(in_place == wanted, "in place", given);
  }
}

static Floats first_months(const Floats& whole, int64_t length, int64_t kept) {
  Floats first;
  for (size_t i = 0; i < whole.size(); i += length) first.insert(first.end(), &whole[i], &whole[i] + kept);
  return first;
}

// A length of the same padding draws the same noise: its months are the first of the longer one's, to the bit.
static void compare_prefix(const Case& given, Kernel kernel) {
  if (given.L % 4 != 0) return;
  const Answer whole = taken(given, kernel, given.raw, given.L, 1, given.B, false);
  for (int64_t L = given.L - 3; L < given.L; ++L) {
    Case part = given;
    part.L = L;
    part.x_t = first_months(given.x_t, given.L, L);
    part.x_0_prev = first_months(given.x_0_prev, given.L, L);
    part.raw = first_months(given.raw, given.L, L);
    const Answer cut = taken(part, kernel, part.raw, L, 1, part.B, false);
    for (int64_t i = 0; i < given.B * given.C; ++i)
      check(!std::memcmp(&cut.x_s[i * L], &whole.x_s[i * given.L], 4 * L), "the prefix", part);
  }
}

int main() {
  for (const int64_t C : {1, 7, 8, 9, 22})
    for (const int64_t L : {1, 2, 3, 5, 7, 8, 9, 12, 15, 17, 61, 64})
      for (const int flags : {0, 1, 2, 3}) {
        const Case given(1 + below(4), C, L, flags & 1 ? 0.4f : 0.0f, flags & 2 ? 1.0f : 0.0f);
        compare<float>(given);
        compare<Brief>(given);
        compare<Half>(given);
        compare_prefix(given, portable::patients<float>);
        compare_prefix(given, widest<float>());
      }
  std::printf("%d steps agree\n", n_compared);
}
