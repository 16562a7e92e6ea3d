// One entry of one reverse step: head, guardrail, update. The formula of every implementation in C++ and CUDA.
//
// eps:    x_0_hat = (x_t - noise_t e) / signal_t          v:   x_0_hat = signal_t x_t - noise_t v
// logits: x_0_hat = 2 softmax(l) - 1, per block           x_0: x_0_hat = raw
// x_s = a x_t + b0 x_0_hat + b1 x_0_hat_prev + step_std z
#pragma once

#include "elementary.h"

namespace hg3 {

enum Head : int32_t { EPS, V, X_0, LOGITS };

// A row of the sampler's table, in the order in which it lies in memory.
struct Row {
  float signal_t, noise_t, a, b0, b1, step_std, history;
};

// What a channel is: its head, its block of channels and its sampling bounds, infinite where there are none.
struct Channel {
  int32_t head, start, width;
  float low, high;
};

// Return whether row c of a layout (C, 3) is a channel's: blocks follow one another, and their channels agree.
HG3_INLINE bool is_channel(const int64_t* layout, int64_t c, int64_t C) {
  const int64_t* row = layout + 3 * c;
  const int64_t head = row[0], start = row[1], width = row[2];
  if (head < EPS || head > LOGITS || start < 0 || start > c || c - start >= width || width > C - start) return false;
  if (c == start) return c == 0 || row[-2] + row[-1] == c;
  return row[-3] == head && row[-2] == start && row[-1] == width;
}

HG3_INLINE bool is_finite(float value) { return (as_bits(value) & 0x7f800000u) != 0x7f800000u; }

// Return x_0_hat before the guardrail, for any head but logits.
HG3_INLINE float clean_real(int32_t head, const Row& row, float x_t, float raw) {
  if (head == V) return fused(-row.noise_t, raw, row.signal_t * x_t);
  if (head == EPS) return fused(-row.noise_t, raw, x_t) / row.signal_t;
  return raw;
}

// Return what stands for an entry that is not finite: the middle of the range, or where that is
// infinite the number in it nearest to 0.
HG3_INLINE float middle(float low, float high) {
  const float centre = (low + high) * 0.5f;
  const float nearest = low > 0.0f ? low : (high < 0.0f ? high : 0.0f);
  return is_finite(low + high) ? centre : nearest;
}

// Return value inside the bounds; a NaN stays one, and is counted by the next step.
HG3_INLINE float held(float value, float low, float high) {
  const float above = value < low ? low : value;
  return above > high ? high : above;
}

// Return a code's entry from its weight in the softmax and the reciprocal of the block's total.
HG3_INLINE float code_entry(float weight, float reciprocal) { return fused(2.0f * weight, reciprocal, -1.0f); }

// Return the entry of every code of a block that holds something not finite: the uniform distribution.
HG3_INLINE float uniform_entry(int32_t width) { return code_entry(1.0f, 1.0f / static_cast<float>(width)); }

// Return x_s; x_0_prev and z count only where the row has history and noise.
HG3_INLINE float updated(const Row& row, float x_t, float x_0_hat, float x_0_prev, float z) {
  float x_s = fused(row.b0, x_0_hat, row.a * x_t);
  if (row.history > 0.0f) x_s = fused(row.b1, x_0_prev, x_s);
  if (row.step_std != 0.0f) x_s = fused(row.step_std, z, x_s);
  return x_s;
}

}  // namespace hg3
