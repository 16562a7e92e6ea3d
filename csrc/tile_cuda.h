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

// Where a patient's values lie in shared memory, (C, pitch), and in which order threads take them.
struct Tile {
  int C, L, length, pitch;
  int quads, n_quads, all_quads;  // of a channel in the tile, of all channels in it, of a channel whole
  bool whole, channels_last;  // every quad has four times and is aligned; neighbours in memory are channels
  int raw_along_c, raw_along_l;
  int64_t raw_bytes;  // of a patient's raw values where they lie together, else 0
  Divisor by_quads, by_channels;
};

inline int rounded_up(int64_t n, int64_t to) { return static_cast<int>((n + to - 1) / to * to); }

inline bool aligned(const DeviceStep& call) {
  const void* tensors[] = {call.x_t, call.x_0_prev, call.x_s, call.x_0_hat};
  return std::all_of(tensors, tensors + 4, [](auto place) { return reinterpret_cast<uintptr_t>(place) % 16 == 0; });
}

inline Tile tile_of(const DeviceStep& call, int64_t value_bytes) {
  Tile tile{.by_quads = Divisor(1), .by_channels = Divisor(static_cast<uint32_t>(call.C))};
  tile.C = static_cast<int>(call.C);
  tile.L = static_cast<int>(call.L);
  const int padded = rounded_up(call.L, 4), fitting = TILE_BYTES / static_cast<int>(sizeof(float)) / tile.C / 4 * 4;
  tile.length = std::clamp(fitting, 4, padded);
  tile.quads = tile.length / 4;
  tile.by_quads = Divisor(tile.quads);
  tile.n_quads = tile.C * tile.quads;
  tile.all_quads = padded / 4;
  tile.pitch = tile.quads % 2 ? tile.length : tile.length + 4;  // an odd number of quads: fewer lines share a bank
  tile.whole = tile.L % 4 == 0 && aligned(call);
  tile.channels_last = call.raw_stride[1] < call.raw_stride[2];
  tile.raw_along_c = static_cast<int>(call.raw_stride[1]);
  tile.raw_along_l = static_cast<int>(call.raw_stride[2]);
  const bool together = (call.C - 1) * call.raw_stride[1] + (call.L - 1) * call.raw_stride[2] + 1 == call.C * call.L;
  tile.raw_bytes = together ? call.C * call.L * value_bytes : 0;
  return tile;
}

// Four neighbours in time, of which the first n are there.
struct Quad {
  float v[4];

  template <bool WHOLE>
  __device__ static Quad load(const float* from, int n = 4) {
    Quad quad{};
    if (WHOLE) {
      const float4 four = *reinterpret_cast<const float4*>(from);
      quad = {{four.x, four.y, four.z, four.w}};
    } else {
#pragma unroll
      for (int k = 0; k < 4; ++k)
        if (k < n) quad.v[k] = from[k];
    }
    return quad;
  }

  template <bool WHOLE>
  __device__ void store(float* to, int n = 4) const {
    if (WHOLE) {
      *reinterpret_cast<float4*>(to) = make_float4(v[0], v[1], v[2], v[3]);
    } else {
#pragma unroll
      for (int k = 0; k < 4; ++k)
        if (k < n) to[k] = v[k];
    }
  }
};

}  // namespace hg3
