// How the CUDA kernel cuts a patient: tiles of time, all channels of one in shared memory, four times a thread.
#pragma once

#include <algorithm>

#include "reverse_step_cuda.h"

namespace hg3 {

constexpr int TILE_BYTES = 32 * 1024;  // of shared memory, so that several blocks share a multiprocessor

// Division by a number that only the host knows, in two instructions (Granlund and Montgomery 1994); n < 2^31.
struct Divisor {
  uint32_t multiplier, shift;

  explicit Divisor(uint32_t by) : multiplier(0), shift(0) {
    while ((uint64_t{1} << shift) < by) ++shift;
    multiplier = static_cast<uint32_t>((((uint64_t{1} << shift) - by) << 32) / by + 1);
  }

  __device__ int quotient(int n) const { return static_cast<int>((__umulhi(multiplier, n) + n) >> shift); }
};

// How a patient is cut, and where its values lie in shared memory: (C, pitch).
struct Tile {
  int C, L, length, quads, pitch, n_quads, all_quads;  // quads of a channel, of the tile, of a whole channel
  Divisor by_channels, by_quads;
  int64_t raw_bytes;  // of a patient's raw values where they lie together, else 0

  __device__ void place(int i, bool channels_last, int& c, int& quad) const {
    const int outer = channels_last ? by_channels.quotient(i) : by_quads.quotient(i);
    const int inner = i - outer * (channels_last ? C : quads);
    c = channels_last ? inner : outer;
    quad = channels_last ? outer : inner;
  }
};

// Four neighbours in time, of which the first n are there.
struct Quad {
  float v[4];

  __device__ static Quad load(const float* from, int n, bool aligned) {
    if (aligned) {
      const float4 four = *reinterpret_cast<const float4*>(from);
      return {{four.x, four.y, four.z, four.w}};
    }
    Quad quad{};
#pragma unroll
    for (int k = 0; k < 4; ++k)
      if (k < n) quad.v[k] = from[k];
    return quad;
  }

  __device__ void store(float* to, int n, bool aligned) const {
    if (aligned) {
      *reinterpret_cast<float4*>(to) = make_float4(v[0], v[1], v[2], v[3]);
      return;
    }
#pragma unroll
    for (int k = 0; k < 4; ++k)
      if (k < n) to[k] = v[k];
  }
};

inline int rounded_up(int64_t n, int64_t to) { return static_cast<int>((n + to - 1) / to * to); }

inline Tile tile_of(const DeviceStep& call, int64_t value_bytes) {
  const int C = static_cast<int>(call.C), L = static_cast<int>(call.L), all = rounded_up(L, 4);
  const int fitting = TILE_BYTES / sizeof(float) / C / 4 * 4;
  const int length = std::clamp(fitting, 4, all), quads = length / 4;
  const int pitch = length % 8 ? length : length + 4;  // an odd number of quads: no two channels share a bank
  const bool together = (C - 1) * call.raw_stride[1] + (L - 1) * call.raw_stride[2] + 1 == call.C * call.L;
  return {C, L, length, quads, pitch, C * quads, all / 4, Divisor(C), Divisor(quads),
          together ? call.C * call.L * value_bytes : 0};
}

}  // namespace hg3
