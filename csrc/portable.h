// What lets one formula compile for the host and for the device; free of torch.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define HG3_INLINE __host__ __device__ __forceinline__
#else
#define HG3_INLINE inline __attribute__((always_inline))
#endif

namespace hg3 {

// One rounding, on the host and on the device; never left to the compiler's contraction.
HG3_INLINE float fused(float a, float b, float c) { return __builtin_fmaf(a, b, c); }

HG3_INLINE float as_float(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

HG3_INLINE uint32_t as_bits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

}  // namespace hg3
