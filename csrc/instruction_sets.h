// A range of patients on one core, for every instruction set: hg3::portable, and hg3::avx2 where the compiler
// knows it. Which of them runs is decided by the CPU at run time, and does not change a bit. Free of torch.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "philox.h"
#include "reverse_step.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace hg3 {

constexpr int GROUP = 16;  // counters of Philox that are computed side by side
constexpr int TILE = 8;

// Before a loop whose entries may lie over what they are made from, each over its own.
#if defined(__clang__)
#define HG3_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define HG3_INDEPENDENT _Pragma("GCC ivdep")
#endif

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

  void set_shape(int64_t n_channels, int64_t length) {
    C = n_channels;
    L = length;
    padded = (L + 3) / 4 * 4;
    noise_size = (C * padded + 4 * GROUP - 1) / (4 * GROUP) * (4 * GROUP);
  }

  // How many floats `patients` works in: x_0_hat, noise, and two lines for a block of logits.
  int64_t workspace() const { return C * padded + noise_size + 2 * padded; }
};

// Whether this CPU runs what hg3::avx2 is compiled to; hg3::portable runs on every one.
inline bool has_avx2() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
  return false;
#endif
}

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
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
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
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
