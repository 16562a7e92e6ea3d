// Enough of CUDA to run the kernel's own source on the host: a thread of the host for each of a block's, blocks one
// after another. Slow, and says nothing about speed; what it shows is arithmetic, indices, barriers and tiles.
#pragma once

#include <algorithm>
#include <atomic>
#include <barrier>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>

#define __host__
#define __device__
#define __global__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __shared__ static  // one block at a time, so that one copy is the block's

using cudaStream_t = void*;
enum cudaError_t { cudaSuccess, cudaErrorInvalidValue };
enum { cudaDevAttrMultiProcessorCount, cudaFuncAttributeMaxDynamicSharedMemorySize };
struct alignas(16) float4 {
  float x, y, z, w;
};
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
using std::min;

struct __nv_bfloat16 {
  uint16_t bits;
};
inline float __bfloat162float(__nv_bfloat16 value) {
  const uint32_t bits = uint32_t{value.bits} << 16;
  float result;
  std::memcpy(&result, &bits, sizeof result);
  return result;
}
using __half = _Float16;
inline float __half2float(__half value) { return static_cast<float>(value); }

namespace host {

struct Index {
  unsigned x;
};
inline thread_local Index thread, block;
inline Index threads, blocks;
inline std::vector<float4> shared;
inline std::barrier<>* all = nullptr;
inline std::vector<std::barrier<>*> warps;
inline std::atomic<int> disagreeing;
inline int lanes[32][32];

template <typename Kernel>
void run(unsigned n_blocks, int n_threads, int bytes, Kernel kernel) {
  blocks = {n_blocks};
  threads = {static_cast<unsigned>(n_threads)};
  for (unsigned b = 0; b < n_blocks; ++b) {
    // NaN, so that what is read before it is written shows
    shared.assign((bytes + sizeof(float4) - 1) / sizeof(float4), float4{NAN, NAN, NAN, NAN});
    std::barrier<> whole(n_threads);
    all = &whole;
    disagreeing = 0;
    warps.clear();
    for (int warp = 0; warp < n_threads / 32; ++warp) warps.push_back(new std::barrier<>(32));
    std::vector<std::thread> running;
    for (int t = 0; t < n_threads; ++t)
      running.emplace_back([=] {
        thread = {static_cast<unsigned>(t)};
        block = {b};
        kernel();
      });
    for (auto& one : running) one.join();
    for (auto* one : warps) delete one;
  }
}

}  // namespace host

#define threadIdx host::thread
#define blockIdx host::block
#define blockDim host::threads
#define gridDim host::blocks

inline void __syncthreads() { host::all->arrive_and_wait(); }
inline int __syncthreads_and(int holds) {  // once in a launch
  host::disagreeing += !holds;
  __syncthreads();
  return host::disagreeing == 0;
}
inline int __reduce_add_sync(unsigned, int value) {
  const unsigned warp = threadIdx.x / 32;
  host::lanes[warp][threadIdx.x % 32] = value;
  host::warps[warp]->arrive_and_wait();
  int total = 0;
  for (int lane : host::lanes[warp]) total += lane;
  host::warps[warp]->arrive_and_wait();
  return total;
}
inline int atomicAdd(int* sum, int value) { return std::atomic_ref<int>(*sum).fetch_add(value); }
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>((uint64_t{a} * b) >> 32); }

// A device of one multiprocessor that holds two blocks: three patients are a second turn for one of them.
inline cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
inline cudaError_t cudaDeviceGetAttribute(int* value, int, int) { return *value = 1, cudaSuccess; }
template <typename Kernel>
cudaError_t cudaFuncSetAttribute(Kernel, int, int bytes) {
  return bytes <= 99 * 1024 ? cudaSuccess : cudaErrorInvalidValue;  // the least of all architectures from 8.0 on
}
template <typename Kernel>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, Kernel, int, int) {
  return *blocks = 2, cudaSuccess;
}
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
