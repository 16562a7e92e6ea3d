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

// What a block of threads knows of the channels, in shared memory.
struct Channels {
  Channel* all;
  int* categories;  // where each block of logits starts, in any order
  int* n_categories;
};

// Bring the step's row to every thread, and the channels to shared memory; return false where one of them is none.
__device__ bool read_tables(const DeviceStep& call, Row& row, const Channels& channels) {
  bool fits = 0 <= *call.step && *call.step < call.n_rows;
  const float* entry = call.rows + (fits ? *call.step : 0) * 7;
  if (fits) row = {entry[0], entry[1], entry[2], entry[3], entry[4], entry[5], entry[6]};
  if (threadIdx.x == 0) *channels.n_categories = 0;
  __syncthreads();
  for (int c = threadIdx.x; c < call.C; c += blockDim.x) {
    const int64_t* channel = call.layout + 3 * c;
    const int32_t head = static_cast<int32_t>(channel[0]), start = static_cast<int32_t>(channel[1]);
    fits = fits && is_channel(call.layout, c, call.C);
    channels.all[c] = {head, start, static_cast<int32_t>(channel[2]), call.bounds[2 * c], call.bounds[2 * c + 1]};
    if (head == LOGITS && start == c) channels.categories[atomicAdd(channels.n_categories, 1)] = c;
  }
  return __syncthreads_and(fits);
}

// Ask for a later patient's bytes while this one is computed: memory is kept busy by what is on its way (48 KiB a
// multiprocessor of an H200, by CUB's tuning tables), which is more than the threads wait for by themselves.
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
template <typename T, bool WHOLE>
__device__ void gather(float* values, const T* raw, const Tile& tile, int l0) {
#pragma unroll 1
  for (int i = threadIdx.x; i < tile.n_quads; i += blockDim.x) {
    const int outer = (tile.channels_last ? tile.by_channels : tile.by_quads).quotient(i);
    const int inner = i - outer * (tile.channels_last ? tile.C : tile.quads);
    const int c = tile.channels_last ? inner : outer, quad = tile.channels_last ? outer : inner, l = l0 + 4 * quad;
    const T* first = raw + (c * tile.raw_along_c + l * tile.raw_along_l);
    Quad four;
#pragma unroll
    for (int k = 0; k < 4; ++k) four.v[k] = WHOLE || l + k < tile.L ? to_float(first[k * tile.raw_along_l]) : 0.0f;
    four.store<true>(values + c * tile.pitch + 4 * quad);
  }
}

// As is_finite, in one instruction.
__device__ bool finite(float value) { return fabsf(value) < as_float(0x7f800000u); }

// Count the logits of a quad that are not finite, before they are overwritten.
__device__ int count_nonfinite(const float* logits, int width, int pitch) {
  int nonfinite = 0;
#pragma unroll 1
  for (int k = 0; k < width; ++k)
    for (int j = 0; j < 4; ++j) nonfinite += !finite(logits[k * pitch + j]);
  return nonfinite;
}

// Turn a quad of logits a channel into the softmax over the channels; return how many are not finite. A time with
// one that is not gets the uniform distribution.
__device__ int softmax(float* logits, int width, int pitch) {
  Quad top = Quad::load<true>(logits), total{};
  bool sound[4] = {true, true, true, true};
#pragma unroll 1
  for (int k = 0; k < width; ++k) {
    const Quad logit = Quad::load<true>(logits + k * pitch);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      sound[j] = sound[j] && finite(logit.v[j]);
      top.v[j] = fmaxf(top.v[j], logit.v[j]);
    }
  }
  const bool all_sound = sound[0] && sound[1] && sound[2] && sound[3];
  const int nonfinite = all_sound ? 0 : count_nonfinite(logits, width, pitch);
#pragma unroll 1
  for (int k = 0; k < width; ++k) {
    Quad weight = Quad::load<true>(logits + k * pitch);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      weight.v[j] = exp_of_negative(weight.v[j] - top.v[j]);
      total.v[j] += weight.v[j];
    }
    weight.store<true>(logits + k * pitch);
  }
#pragma unroll
  for (int j = 0; j < 4; ++j) total.v[j] = 1.0f / total.v[j];
#pragma unroll 1
  for (int k = 0; k < width; ++k) {
    Quad entry = Quad::load<true>(logits + k * pitch);
#pragma unroll
    for (int j = 0; j < 4; ++j) entry.v[j] = code_entry(entry.v[j], total.v[j]);
    entry.store<true>(logits + k * pitch);
  }
#pragma unroll 1
  for (int k = 0; !all_sound && k < width; ++k)
    for (int j = 0; j < 4; ++j)
      if (!sound[j]) logits[k * pitch + j] = uniform_entry(width);
  return nonfinite;
}

__device__ int softmax_blocks(float* values, const Channels& channels, const Tile& tile) {
  const int n_quads = *channels.n_categories * tile.quads;
  int nonfinite = 0;
#pragma unroll 1
  for (int i = threadIdx.x; i < n_quads; i += blockDim.x) {
    const int which = tile.by_quads.quotient(i), quad = i - which * tile.quads, c = channels.categories[which];
    nonfinite += softmax(values + c * tile.pitch + 4 * quad, channels.all[c].width, tile.pitch);
  }
  return nonfinite;
}

// Turn the raw values of a real channel into x_0_hat; count the first n.
template <int32_t HEAD>
__device__ void real_entries(Quad& entries, const Quad& x_t, const Channel& channel, const Row& row, int n,
                             int& moved, int& nonfinite) {
  Quad free;
  bool sound = true;
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    sound = sound && finite(entries.v[k]);
    free.v[k] = clean_real(HEAD, row, x_t.v[k], entries.v[k]);
  }
  if (!sound) {
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      if (finite(entries.v[k])) continue;
      free.v[k] = middle(channel.low, channel.high);
      nonfinite += k < n;
    }
  }
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    entries.v[k] = held(free.v[k], channel.low, channel.high);
    moved += k < n && !(entries.v[k] == free.v[k]);
  }
}

__device__ Quad normals(const Draw& draw, uint32_t quad) {
  const Words words = words_of(draw, quad);
  Quad z;
  normal_pair(words.w[0], words.w[1], z.v[0], z.v[1]);
  normal_pair(words.w[2], words.w[3], z.v[2], z.v[3]);
  return z;
}

// Head, guardrail and update of a tile of the patient whose entries start at `first`. x_s may be x_t, and x_0_hat
// x_0_prev: a thread reads its entries before it writes them.
template <bool WHOLE>
__device__ void update(const float* values, const Channels& channels, const DeviceStep& call, const Tile& tile,
                       const Row& row, const Draw& draw, int64_t first, int l0, int& moved, int& nonfinite) {
  const bool history = row.history > 0.0f, noise = row.step_std != 0.0f;
  const float *x_t_from = call.x_t + first, *past_from = call.x_0_prev + first;
  float *x_s_to = call.x_s + first, *x_0_hat_to = history || call.always_x_0_hat ? call.x_0_hat + first : nullptr;
#pragma unroll 1
  for (int i = threadIdx.x; i < tile.n_quads; i += blockDim.x) {
    const int c = tile.by_quads.quotient(i), quad = i - c * tile.quads, l = l0 + 4 * quad;
    const int n = WHOLE ? 4 : min(4, tile.L - l), at = c * tile.L + l;
    if (l >= tile.L) continue;
    const Quad x_t = Quad::load<WHOLE>(x_t_from + at, n);
    const Quad past = history ? Quad::load<WHOLE>(past_from + at, n) : Quad{};
    const Quad z = noise ? normals(draw, c * tile.all_quads + l / 4) : Quad{};
    Quad x_0 = Quad::load<true>(values + c * tile.pitch + 4 * quad), x_s;
    const Channel& channel = channels.all[c];
    if (channel.head == V) real_entries<V>(x_0, x_t, channel, row, n, moved, nonfinite);
    if (channel.head == EPS) real_entries<EPS>(x_0, x_t, channel, row, n, moved, nonfinite);
    if (channel.head == X_0) real_entries<X_0>(x_0, x_t, channel, row, n, moved, nonfinite);
#pragma unroll
    for (int k = 0; k < 4; ++k) x_s.v[k] = updated(row, x_t.v[k], x_0.v[k], past.v[k], z.v[k]);
    x_s.store<WHOLE>(x_s_to + at, n);
    if (x_0_hat_to) x_0.store<WHOLE>(x_0_hat_to + at, n);
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

template <typename T, bool WHOLE>
__device__ void take_step(const DeviceStep& call, const Tile& tile, float* values, const Channels& channels,
                          const Row& row) {
  const int64_t seed = *call.seed, number = *call.step;
  for (int64_t b = blockIdx.x; b < call.B; b += gridDim.x) {
    prefetch_patient<T>(call, tile, b + gridDim.x, row.history > 0.0f);
    const T* raw = static_cast<const T*>(call.raw) + b * call.raw_stride[0];
    const Draw draw = draw_of(seed, call.stream[b], number, call.patient[b]);
    int moved = 0, nonfinite = 0;
    for (int l0 = 0; l0 < tile.L; l0 += tile.length) {
      if (l0 > 0) __syncthreads();  // between patients, write_counts has a barrier
      gather<T, WHOLE>(values, raw, tile, l0);
      __syncthreads();
      nonfinite += softmax_blocks(values, channels, tile);
      __syncthreads();
      update<WHOLE>(values, channels, call, tile, row, draw, b * call.C * call.L, l0, moved, nonfinite);
    }
    write_counts(call, b, moved, nonfinite);
  }
}

// What is left of a step without a row or with a layout that is none: numbers, and counts that refuse every patient.
__device__ void refuse(const DeviceStep& call) {
  const int64_t size = call.C * call.L, stride = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < call.B * size; i += stride) {
    call.x_s[i] = 0.0f;
    if (call.always_x_0_hat) call.x_0_hat[i] = 0.0f;
    if (i < call.B) call.moved[i] = 0;
    if (i < call.B) call.nonfinite[i] = size;
  }
}

template <typename T>
__global__ void __launch_bounds__(MOST_THREADS, 4) reverse_step_kernel(const DeviceStep call, const Tile tile) {
  extern __shared__ float4 shared[];
  __shared__ int n_categories;
  float* values = reinterpret_cast<float*>(shared);
  Channel* all = reinterpret_cast<Channel*>(values + tile.C * tile.pitch);
  const Channels channels{all, reinterpret_cast<int*>(all + tile.C), &n_categories};
  Row row{};
  if (!read_tables(call, row, channels)) return refuse(call);
  if (tile.whole) return take_step<T, true>(call, tile, values, channels, row);
  take_step<T, false>(call, tile, values, channels, row);
}

template <typename T>
cudaError_t launch(const DeviceStep& call, cudaStream_t stream) {
  const Tile tile = tile_of(call, sizeof(T));
  const int bytes = tile.C * static_cast<int>(tile.pitch * sizeof(float) + sizeof(Channel) + sizeof(int));
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
