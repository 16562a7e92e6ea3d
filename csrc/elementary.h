// log, sin, cos and exp as fixed polynomials: the same bits from vector body, scalar tail and GPU.
//
// Branch-free, so that compilers vectorise them, and without the stack frame that sincosf has on a
// GPU. The polynomials interpolate at Chebyshev nodes; errors are the largest over all inputs, or
// over a dense grid for exp, in units of the last place (tests/csrc/test_elementary.py).
#pragma once

#include "portable.h"

namespace hg3 {

// Return log(u) of u = (word >> 8) + 1, in units of 2^-24: u / 2^24 lies in (0, 1].
HG3_INLINE float log_of_unit(uint32_t word) {
  // u = 2^exponent (1 + g) with 1 + g in [sqrt(1/2), sqrt(2)): the bits of sqrt(1/2) tell where to cut.
  const uint32_t bits = as_bits(static_cast<float>(static_cast<int32_t>((word >> 8) + 1)));
  const uint32_t shifted = bits - 0x3f3504f3u;
  const float exponent = static_cast<float>(static_cast<int32_t>(shifted >> 23) - 24);
  const float g = as_float((shifted & 0x007fffffu) + 0x3f3504f3u) - 1.0f;
  float p = -0x1.43b246p-4f;
  p = fused(p, g, 0x1.02814ep-3f);
  p = fused(p, g, -0x1.0a33eap-3f);
  p = fused(p, g, 0x1.231ce6p-3f);
  p = fused(p, g, -0x1.54d03ep-3f);
  p = fused(p, g, 0x1.999f14p-3f);
  p = fused(p, g, -0x1.0000cep-2f);
  p = fused(p, g, 0x1.555554p-2f);
  const float square = g * g;
  const float log_mantissa = fused(p * g, square, fused(-0.5f, square, g));
  return fused(exponent, 0x1.62e43p-1f, fused(exponent, -0x1.05c61p-29f, log_mantissa));
}

// Set sine and cosine of 2 pi u for u = ((word >> 8) + 1) / 2^24.
HG3_INLINE void sine_cosine_of_turn(uint32_t word, float& sine, float& cosine) {
  const int32_t k = static_cast<int32_t>((word >> 8) + 1);
  const int32_t quarter = (k + (1 << 21)) >> 22;  // the nearest quarter turn, 0 to 4
  const float r = static_cast<float>(k - (quarter << 22)) * 0x1p-24f;  // the rest, exact, |r| <= 1/8
  const float q = r * r;
  float s = fused(-75.4016127f, q, 81.5925429f);
  s = fused(s, q, -41.3416626f);
  s = fused(s, q, 6.28318529f) * r;
  float c = fused(59.4241060f, q, -85.4488201f);
  c = fused(c, q, 64.9393691f);
  c = fused(c, q, -19.7392088f);
  c = fused(c, q, 1.0f);
  const bool swapped = quarter & 1;
  const uint32_t sine_sign = (static_cast<uint32_t>(quarter) & 2u) << 30;
  const uint32_t cosine_sign = (static_cast<uint32_t>(quarter + 1) & 2u) << 30;
  sine = as_float(as_bits(swapped ? c : s) ^ sine_sign);
  cosine = as_float(as_bits(swapped ? s : c) ^ cosine_sign);
}

// Return exp(x) of x <= 0; below -86, near where a float ends, exp(-86).
HG3_INLINE float exp_of_negative(float x) {
  x = x > -86.0f ? x : -86.0f;
  const float shifted = fused(x, 0x1.715476p0f, 0x1.8p23f);  // the addend leaves round(x / log 2) in the low bits
  const float n = shifted - 0x1.8p23f;
  const float f = fused(n, 0x1.05c61p-29f, fused(n, -0x1.62e43p-1f, x));
  float p = fused(0.00139261761f, f, 0.00836317307f);
  p = fused(p, f, 0.0416665546f);
  p = fused(p, f, 0.166665770f);
  p = fused(p, f, 0.5f);
  p = fused(p, f, 1.0f);
  p = fused(p, f, 1.0f);
  return as_float(as_bits(p) + (as_bits(shifted) << 23));  // 2^n p: n is added to the exponent
}

}  // namespace hg3
