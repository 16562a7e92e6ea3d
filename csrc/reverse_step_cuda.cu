// hg3::reverse_step on GPUs: a block of threads takes one patient after another, one pass over memory.
//
// What the network leaves channels-last is turned in shared memory; there the softmax of each block of channels is
// taken, a thread a time; then each thread takes four times of a channel: one counter of Philox, 16 bytes of each
// tensor. A patient too large for shared memory is cut into tiles of time.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>

#include "philox.h"
#include "reverse_step.h"
#include "reverse_step_cuda.h"
#include "tile_cuda.h"

namespace hg3 {
namespace {

constexpr int MOST_THREADS = 256, LANES = 32;
constexpr unsigned ALL_LANES = 0xffffffffu;
constexpr int LINE_BYTES = 128;

__device__ float to_float(float value) { return value; }
__device__ float to_float(__nv_bfloat16 value) { return __bfloat162float(value); }
__device__ float to_float(__half value) { return __half2float(value); }

// Bring the step's row and the channels to every thread; return false where the step or the layout is none.
__device__ bool read_tables(const DeviceStep& call, Row& row, Channel* channels) {
  bool fits = 0 <= *call.step && *call.step < call.n_rows;
  const float* entry = call.rows + (fits ? *call.step : 0) * 7;
  if (fits) row = {entry[0], entry[1], entry[2], entry[3], entry[4], entry[5], entry[6]};
  for (int64_t c = threadIdx.x; c < call.C; c += blockDim.x) {
    const int64_t* channel = call.layout + 3 * c;
    fits = fits && is_channel(call.layout, c, call.C);
    channels[c] = {static_cast<int32_t>(channel[0]), static_cast<int32_t>(channel[1]),
                   static_cast<int32_t>(channel[2]), call.bounds[2 * c], call.bounds[2 * c + 1]};
  }
  return __syncthreads_and(fits);
}

// Ask for a later patient's bytes while this one is computed: a multiprocessor of an H200 needs some 48 KiB on
// their way to keep its memory busy, more than its threads wait for by themselves.
__device__ void prefetch(const void* first, int64_t bytes) {
  const char* from = static_cast<const char*>(first);
  for (int64_t i = threadIdx.x * LINE_BYTES; i < bytes; i += blockDim.x * LINE_BYTES)
    asm volatile("prefetch.global.L2 [%0];" ::"l"(__cvta_generic_to_global(from + i)));
}

template <typename T>
__device__ void prefetch_patient(const DeviceStep& call, const Tile& tile, int64_t b, bool history) {
  if (b >= call.B) return;
  const int64_t size = call.C * call.L, bytes = size * sizeof(float);
  prefetch(call.x_t + b * size, bytes);
  if (history) prefetch(call.x_0_prev + b * size, bytes);
  prefetch(static_cast<const T*>(call.raw) + b * call.raw_stride[0], tile.raw_bytes);
}

// Bring a tile of raw values to shared memory; neighbouring threads read what is neighbouring in memory.
template <typename T>
__device__ void gather(float* values, const DeviceStep& call, const Tile& tile, int64_t b, int l0, bool known) {
  const int64_t along_c = call.raw_stride[1], along_l = call.raw_stride[2];
  const T* patient = static_cast<const T*>(call.raw) + b * call.raw_stride[0];
  for (int i = threadIdx.x; i < tile.n_quads; i += blockDim.x) {
    int c, quad;
    tile.place(i, along_c < along_l, c, quad);
    const int l = l0 + 4 * quad;
    const T* first = patient + c * along_c + l * along_l;
    Quad four;
#pragma unroll
    for (int k = 0; k < 4; ++k)
      four.v[k] = known && l + k < tile.L ? to_float(first[k * along_l]) : as_float(0x7fc00000u);
    four.store(values + c * tile.pitch + 4 * quad, 4, true);
  }
}

// Turn logits, one a line of shared memory, into the softmax over them; return how many are not finite.
__device__ int softmax(float* logits, int width, int pitch) {
  float top = logits[0], total = 0.0f;
  int nonfinite = 0;
#pragma unroll 4
  for (int k = 0; k < width; ++k) {
    const float logit = logits[k * pitch];
    const bool finite = is_finite(logit);
    nonfinite += !finite;
    // What is not finite makes top NaN, which no comparison undoes: the mark of a broken block.
    top = !finite ? as_float(0x7fc00000u) : (logit > top ? logit : top);
  }
#pragma unroll 4
  for (int k = 0; k < width; ++k) {
    const float weight = exp_of_negative(logits[k * pitch] - top);
    logits[k * pitch] = weight;
    total += weight;
  }
  const float reciprocal = 1.0f / total, uniform = uniform_entry(width);
#pragma unroll 4
  for (int k = 0; k < width; ++k) {
    const float entry = code_entry(logits[k * pitch], reciprocal);
    logits[k * pitch] = nonfinite ? uniform : entry;
  }
  return nonfinite;
}

__device__ int softmax_blocks(float* values, const Channel* channels, const Tile& tile, int l0) {
  int nonfinite = 0;
  for (int i = threadIdx.x; i < 4 * tile.n_quads; i += blockDim.x) {
    const int c = tile.by_quads.quotient(i / 4), l = i - c * tile.length;
    if (channels[c].head == LOGITS && channels[c].start == c && l0 + l < tile.L)
      nonfinite += softmax(values + c * tile.pitch + l, channels[c].width, tile.pitch);
  }
  return nonfinite;
}

// Turn the first n raw values of a real channel into x_0_hat.
__device__ void real_entries(Quad& entries, const Quad& x_t, const Channel& channel, const Row& row, int n,
                             int& moved, int& nonfinite) {
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    const float raw = entries.v[k];
    const bool finite = is_finite(raw);
    const float free = finite ? clean_real(channel.head, row, x_t.v[k], raw) : middle(channel.low, channel.high);
    const float inside = held(free, channel.low, channel.high);
    nonfinite += k < n && !finite;
    moved += k < n && !(inside == free);
    entries.v[k] = inside;
  }
}

__device__ Quad normals(const Draw& draw, uint32_t quad) {
  const Words words = words_of(draw, quad);
  Quad z;
  normal_pair(words.w[0], words.w[1], z.v[0], z.v[1]);
  normal_pair(words.w[2], words.w[3], z.v[2], z.v[3]);
  return z;
}

// Head, guardrail and update of a tile of patient b. x_s may be x_t: a thread reads its entries before it writes them.
__device__ void update(const float* values, const Channel* channels, const DeviceStep& call, const Tile& tile,
                       const Row& row, const Draw& draw, int64_t b, int l0, bool known, int& moved, int& nonfinite) {
  const bool history = row.history > 0.0f, noise = row.step_std != 0.0f, keep = history || call.always_x_0_hat;
  const uintptr_t places = reinterpret_cast<uintptr_t>(call.x_t) | reinterpret_cast<uintptr_t>(call.x_s) |
                           reinterpret_cast<uintptr_t>(call.x_0_prev) | reinterpret_cast<uintptr_t>(call.x_0_hat);
  const bool aligned = places % sizeof(float4) == 0 && tile.L % 4 == 0;
  for (int i = threadIdx.x; i < tile.n_quads; i += blockDim.x) {
    int c, quad;
    tile.place(i, false, c, quad);
    const int l = l0 + 4 * quad, n = min(4, tile.L - l);
    if (n <= 0) continue;
    const int64_t at = (b * tile.C + c) * tile.L + l;
    const Quad x_t = Quad::load(call.x_t + at, n, aligned);
    const Quad past = history ? Quad::load(call.x_0_prev + at, n, aligned) : Quad{};
    const Quad z = noise ? normals(draw, c * tile.all_quads + l / 4) : Quad{};
    Quad x_0 = Quad::load(values + c * tile.pitch + 4 * quad, 4, true), x_s;
    if (!known || channels[c].head != LOGITS) real_entries(x_0, x_t, channels[c], row, n, moved, nonfinite);
#pragma unroll
    for (int k = 0; k < 4; ++k) x_s.v[k] = updated(row, x_t.v[k], x_0.v[k], past.v[k], z.v[k]);
    x_s.store(call.x_s + at, n, aligned);
    if (keep) x_0.store(call.x_0_hat + at, n, aligned);
  }
}

// Add up the block's counts and write them, by one thread; between two calls must stand a barrier.
__device__ void write_counts(const DeviceStep& call, int64_t b, int moved, int nonfinite) {
  __shared__ int partial[2][MOST_THREADS / LANES];
  moved = __reduce_add_sync(ALL_LANES, moved);
  nonfinite = __reduce_add_sync(ALL_LANES, nonfinite);
  if (threadIdx.x % LANES == 0) {
    partial[0][threadIdx.x / LANES] = moved;
    partial[1][threadIdx.x / LANES] = nonfinite;
  }
  __syncthreads();
  if (threadIdx.x > 1) return;
  int64_t total = 0;
  for (int warp = 0; warp < blockDim.x / LANES; ++warp) total += partial[threadIdx.x][warp];
  (threadIdx.x ? call.nonfinite : call.moved)[b] = total;
}

template <typename T>
__global__ void __launch_bounds__(MOST_THREADS) reverse_step_kernel(const DeviceStep call, const Tile tile) {
  extern __shared__ float4 shared[];
  float* values = reinterpret_cast<float*>(shared);
  Channel* channels = reinterpret_cast<Channel*>(values + tile.C * tile.pitch);
  Row row{1.0f, 0.0f, 0.0f, 1.0f, 0.0f, 0.0f, 0.0f};  // of an unknown step: x_s = x_0_hat
  const bool known = read_tables(call, row, channels);
  const int64_t seed = *call.seed, number = *call.step;
  for (int64_t b = blockIdx.x; b < call.B; b += gridDim.x) {
    prefetch_patient<T>(call, tile, b + gridDim.x, row.history > 0.0f);
    const Draw draw = draw_of(seed, call.stream[b], number, call.patient[b]);
    int moved = 0, nonfinite = 0;
    for (int l0 = 0; l0 < tile.L; l0 += tile.length) {
      if (l0 > 0) __syncthreads();  // between patients, write_counts has a barrier
      gather<T>(values, call, tile, b, l0, known);
      __syncthreads();
      if (known) nonfinite += softmax_blocks(values, channels, tile, l0);
      __syncthreads();
      update(values, channels, call, tile, row, draw, b, l0, known, moved, nonfinite);
    }
    write_counts(call, b, moved, nonfinite);
  }
}

template <typename T>
cudaError_t launch(const DeviceStep& call, cudaStream_t stream) {
  const Tile tile = tile_of(call, sizeof(T));
  const int bytes = tile.C * (tile.pitch * static_cast<int>(sizeof(float)) + static_cast<int>(sizeof(Channel)));
  const int turns = (tile.n_quads + MOST_THREADS - 1) / MOST_THREADS;
  const int threads = rounded_up((tile.n_quads + turns - 1) / turns, LANES);  // as many in the last turn
  const auto kernel = reverse_step_kernel<T>;
  int device = 0, processors = 0, resident = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (!error) error = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
  if (!error) error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (!error) error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, kernel, threads, bytes);
  if (error) return error;
  const int64_t blocks = std::min<int64_t>(call.B, int64_t{processors} * std::max(resident, 1));
  kernel<<<static_cast<unsigned>(blocks), threads, bytes, stream>>>(call, tile);
  return cudaGetLastError();
}

}  // namespace

cudaError_t launch_reverse_step(const DeviceStep& call, cudaStream_t stream) {
  if (call.raw_type == RawType::FLOAT) return launch<float>(call, stream);
  return call.raw_type == RawType::HALF ? launch<__half>(call, stream) : launch<__nv_bfloat16>(call, stream);
}

}  // namespace hg3
