// Philox4x32-10 (Salmon et al. 2011): noise as a function of (seed; stream, retry, step, patient, element).
//
// key     = seed (64 bits)
// counter = (element / 4, stream << 28 | retry << 20 | step, patient low, patient high)
// element = c * roundup4(L) + l, whatever the memory layout
#pragma once

#include "elementary.h"

namespace hg3 {

constexpr int ROUNDS = 10;
constexpr uint32_t MULTIPLIER_0 = 0xD2511F53u, MULTIPLIER_1 = 0xCD9E8D57u;
constexpr uint32_t WEYL_0 = 0x9E3779B9u, WEYL_1 = 0xBB67AE85u;

struct Words {
  uint32_t w[4];
};

// Which draw: everything but the element.
struct Draw {
  uint32_t key[2];
  uint32_t stream;  // stream << 28 | retry << 20 | step
  uint32_t patient[2];
};

HG3_INLINE Draw draw_of(int64_t seed, int64_t stream, int64_t step, int64_t patient) {
  const uint64_t key = static_cast<uint64_t>(seed), number = static_cast<uint64_t>(patient);
  return {{static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32)},
          static_cast<uint32_t>(stream | step),
          {static_cast<uint32_t>(number), static_cast<uint32_t>(number >> 32)}};
}

HG3_INLINE Words philox(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint32_t k0, uint32_t k1) {
#if defined(__CUDACC__)
#pragma unroll
#endif
  for (int round = 0; round < ROUNDS; ++round) {
    const uint64_t p0 = static_cast<uint64_t>(c0) * MULTIPLIER_0;
    const uint64_t p1 = static_cast<uint64_t>(c2) * MULTIPLIER_1;
    c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c1 = static_cast<uint32_t>(p1);
    c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c3 = static_cast<uint32_t>(p0);
    k0 += WEYL_0;
    k1 += WEYL_1;
  }
  return {{c0, c1, c2, c3}};
}

// Return the words of elements 4 quad to 4 quad + 3.
HG3_INLINE Words words_of(const Draw& draw, uint32_t quad) {
  return philox(quad, draw.stream, draw.patient[0], draw.patient[1], draw.key[0], draw.key[1]);
}

// Set two standard normals from two words (Box and Muller 1958), u = ((word >> 8) + 1) / 2^24 in (0, 1].
HG3_INLINE void normal_pair(uint32_t first, uint32_t second, float& with_cosine, float& with_sine) {
  const float radius = __builtin_sqrtf(-2.0f * log_of_unit(first));
  float sine, cosine;
  sine_cosine_of_turn(second, sine, cosine);
  with_cosine = radius * cosine;
  with_sine = radius * sine;
}

}  // namespace hg3
