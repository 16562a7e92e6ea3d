// hg3::reverse_step on CPUs: patients over threads, one pass over memory, vectors over time.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros_like.h>
#include <torch/library.h>

#include <algorithm>
#include <vector>

#include "check_arguments.h"
#include "philox.h"
#include "reverse_step.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace hg3 {

constexpr int GROUP = 16;  // counters of Philox that are computed side by side
constexpr int TILE = 8;
constexpr int64_t ELEMENTS_A_TASK = 32'768;

// A whole call in plain pointers; tensors of shape (B, C, L) are contiguous but for raw.
struct Step {
  const float *x_t, *x_0_prev;
  float* x_s;
  float* x_0_hat;  // null where it is not wanted
  const void* raw;
  int64_t raw_stride[3];
  int64_t C, L, padded;  // padded: L rounded up to a multiple of 4, as elements are numbered
  int64_t noise_size;    // C * padded, rounded up to whole groups
  Row row;
  const Channel* channels;
  int64_t seed, number;
  const int64_t *patient, *stream;
  int64_t *moved, *nonfinite;
};

}  // namespace hg3

#define HG3_ISA portable
namespace hg3::portable {
inline void group_of_words(const Draw& draw, uint32_t first, uint32_t (&words)[4][GROUP]) {
  for (int i = 0; i < GROUP; ++i) {
    const Words quad = words_of(draw, first + i);
    for (int k = 0; k < 4; ++k) words[k][i] = quad.w[k];
  }
}

inline void transpose(const float* tile, float* out, int64_t stride) {
  for (int i = 0; i < TILE; ++i)
    for (int j = 0; j < TILE; ++j) out[j * stride + i] = tile[i * TILE + j];
}
}  // namespace hg3::portable
#include "reverse_step_body.h"
#undef HG3_ISA

#if defined(__x86_64__)
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#define HG3_ISA avx2
namespace hg3::avx2 {
inline __m256i all(uint32_t word) { return _mm256_set1_epi32(static_cast<int>(word)); }

// The even and the odd lanes' products of 32 bits by 32: compilers do not find this instruction.
struct Products {
  __m256i even, odd;
};

inline Products products(__m256i word, uint32_t multiplier) {
  const __m256i factor = all(multiplier);
  return {_mm256_mul_epu32(word, factor), _mm256_mul_epu32(_mm256_srli_epi64(word, 32), factor)};
}

inline __m256i high(Products p) { return _mm256_blend_epi32(_mm256_srli_epi64(p.even, 32), p.odd, 0xAA); }

inline __m256i low(Products p) { return _mm256_blend_epi32(p.even, _mm256_slli_epi64(p.odd, 32), 0xAA); }

// Philox of eight counters, one in each lane.
inline void eight_counters(const Draw& draw, uint32_t first, uint32_t* words) {
  __m256i c0 = _mm256_add_epi32(all(first), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  __m256i c1 = all(draw.stream), c2 = all(draw.patient[0]), c3 = all(draw.patient[1]);
  uint32_t k0 = draw.key[0], k1 = draw.key[1];
  for (int round = 0; round < ROUNDS; ++round) {
    const Products p0 = products(c0, MULTIPLIER_0), p1 = products(c2, MULTIPLIER_1);
    c0 = _mm256_xor_si256(_mm256_xor_si256(high(p1), c1), all(k0));
    c2 = _mm256_xor_si256(_mm256_xor_si256(high(p0), c3), all(k1));
    c1 = low(p1);
    c3 = low(p0);
    k0 += WEYL_0;
    k1 += WEYL_1;
  }
  const __m256i drawn[4] = {c0, c1, c2, c3};
  for (int k = 0; k < 4; ++k) _mm256_storeu_si256(reinterpret_cast<__m256i*>(words + k * GROUP), drawn[k]);
}

inline void group_of_words(const Draw& draw, uint32_t first, uint32_t (&words)[4][GROUP]) {
  for (int i = 0; i < GROUP; i += 8) eight_counters(draw, first + i, &words[0][i]);
}

inline void transpose(const float* tile, float* out, int64_t stride) {
  __m256 row[TILE], pair[TILE], quad[TILE];
  for (int i = 0; i < TILE; ++i) row[i] = _mm256_loadu_ps(tile + i * TILE);
  for (int i = 0; i < TILE; i += 2) {
    pair[i] = _mm256_unpacklo_ps(row[i], row[i + 1]);
    pair[i + 1] = _mm256_unpackhi_ps(row[i], row[i + 1]);
  }
  for (int i = 0; i < TILE; i += 4) {
    quad[i] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0x44);
    quad[i + 1] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0xEE);
    quad[i + 2] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0x44);
    quad[i + 3] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0xEE);
  }
  for (int i = 0; i < 4; ++i) {
    _mm256_storeu_ps(out + i * stride, _mm256_permute2f128_ps(quad[i], quad[i + 4], 0x20));
    _mm256_storeu_ps(out + (i + 4) * stride, _mm256_permute2f128_ps(quad[i], quad[i + 4], 0x31));
  }
}
}  // namespace hg3::avx2
#include "reverse_step_body.h"
#undef HG3_ISA
#pragma GCC pop_options
#endif

namespace hg3 {
namespace {

using Kernel = void (*)(const Step&, int64_t, int64_t, float*);

template <typename T>
Kernel kernel_for() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return avx2::patients<T>;
#endif
  return portable::patients<T>;
}

Kernel kernel_for(at::ScalarType type) {
  if (type == at::kFloat) return kernel_for<float>();
  return type == at::kHalf ? kernel_for<c10::Half>() : kernel_for<c10::BFloat16>();
}

Row row_of(const at::Tensor& rows, int64_t number) {
  TORCH_CHECK_INDEX(0 <= number && number < rows.size(0), "hg3::reverse_step: step is ", number, ", expected 0 to ",
                    rows.size(0) - 1);
  const auto table = rows.accessor<float, 2>();
  const auto row = table[number];
  return {row[0], row[1], row[2], row[3], row[4], row[5], row[6]};
}

std::vector<Channel> channels_of(const at::Tensor& layout, const at::Tensor& bounds) {
  const auto whole = layout.contiguous();
  const int64_t* rows = whole.const_data_ptr<int64_t>();
  const auto limits = bounds.accessor<float, 2>();
  std::vector<Channel> channels;
  for (int64_t c = 0; c < layout.size(0); ++c) {
    const int64_t head = rows[3 * c], start = rows[3 * c + 1], width = rows[3 * c + 2];
    TORCH_CHECK_VALUE(is_channel(rows, c, layout.size(0)), "hg3::reverse_step: layout row ", c, " is (", head, ", ",
                      start, ", ", width, "), expected a head from 0 to 3 and blocks that follow one another");
    channels.push_back({static_cast<int32_t>(head), static_cast<int32_t>(start), static_cast<int32_t>(width),
                        limits[c][0], limits[c][1]});
  }
  return channels;
}

// Where the results go: fresh tensors, or the arguments themselves. In place, x_0_hat is written only
// where the row has history, as it is read.
struct Results {
  at::Tensor x_s, x_0_hat, moved, nonfinite;
  bool in_place;
};

Results results_for(const Arguments& given, const at::Tensor& x_s, const at::Tensor& x_0_hat, bool in_place) {
  return {x_s, x_0_hat, at::zeros_like(given.patient), at::zeros_like(given.patient), in_place};
}

// x_t and x_0_prev are contiguous, and may be the results' own x_s and x_0_hat.
void run(const Arguments& given, const Results& results) {
  const auto channels = channels_of(given.layout, given.bounds);
  const auto patient = given.patient.contiguous(), stream = given.stream.contiguous();
  const auto& [x_s, x_0_hat, moved, nonfinite, in_place] = results;
  Step step{};
  step.x_t = given.x_t.const_data_ptr<float>();
  step.x_0_prev = given.x_0_prev.const_data_ptr<float>();
  step.x_s = x_s.mutable_data_ptr<float>();
  step.raw = given.raw.const_data_ptr();
  for (int i = 0; i < 3; ++i) step.raw_stride[i] = given.raw.stride(i);
  step.C = given.x_t.size(1);
  step.L = given.x_t.size(2);
  step.padded = (step.L + 3) / 4 * 4;
  step.noise_size = (step.C * step.padded + 4 * GROUP - 1) / (4 * GROUP) * (4 * GROUP);
  step.number = given.step.item<int64_t>();
  step.row = row_of(given.rows, step.number);
  step.x_0_hat = in_place && !(step.row.history > 0.0f) ? nullptr : x_0_hat.mutable_data_ptr<float>();
  step.channels = channels.data();
  step.seed = given.seed.item<int64_t>();
  step.patient = patient.const_data_ptr<int64_t>();
  step.stream = stream.const_data_ptr<int64_t>();
  step.moved = moved.mutable_data_ptr<int64_t>();
  step.nonfinite = nonfinite.mutable_data_ptr<int64_t>();
  if (given.x_t.numel() == 0) return;
  const Kernel kernel = kernel_for(given.raw.scalar_type());
  const int64_t grain = std::max<int64_t>(1, ELEMENTS_A_TASK / (step.C * step.L));
  at::parallel_for(0, given.x_t.size(0), grain, [&](int64_t begin, int64_t end) {
    std::vector<float> workspace(step.C * step.padded + step.noise_size + 2 * step.padded);
    kernel(step, begin, end, workspace.data());
  });
}

using T = const at::Tensor&;

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> reverse_step(T x_t, T raw, T x_0_prev, T rows, T step,
                                                                        T layout, T bounds, T seed, T patient,
                                                                        T stream) {
  check_arguments({x_t, raw, x_0_prev, rows, step, layout, bounds, seed, patient, stream});
  const auto now = x_t.contiguous(), past = x_0_prev.contiguous();
  const Arguments given{now, raw, past, rows, step, layout, bounds, seed, patient, stream};
  const auto results = results_for(given, at::empty_like(now), at::empty_like(now), false);
  run(given, results);
  return {results.x_s, results.x_0_hat, results.moved, results.nonfinite};
}

std::tuple<at::Tensor, at::Tensor> reverse_step_in_place(T x, T raw, T x_0, T rows, T step, T layout, T bounds, T seed,
                                                         T patient, T stream) {
  const Arguments given{x, raw, x_0, rows, step, layout, bounds, seed, patient, stream};
  check_arguments(given);
  check_in_place(given);
  const auto results = results_for(given, x, x_0, true);
  run(given, results);
  return {results.moved, results.nonfinite};
}

}  // namespace
}  // namespace hg3

TORCH_LIBRARY_IMPL(hg3, CPU, library) {
  library.impl("reverse_step", &hg3::reverse_step);
  library.impl("reverse_step_", &hg3::reverse_step_in_place);
}
