// The reverse step on a GPU in plain pointers: neither the kernel nor whoever compiles it needs a header of torch.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace hg3 {

constexpr int MOST_CHANNELS = 2048;  // a tile of all channels lies in shared memory
constexpr int64_t MOST_ENTRIES = INT32_MAX;  // of a patient, holes between its raw values included

enum class RawType { FLOAT, BFLOAT16, HALF };

// A whole call; all pointers are to memory of the device, and the host reads none of it, so that a captured graph
// replays with the step and the seed of its own time. Tensors of shape (B, C, L) are contiguous but for raw;
// x_s may be x_t, and x_0_hat x_0_prev.
struct DeviceStep {
  const float *x_t, *x_0_prev;
  float *x_s, *x_0_hat;
  bool always_x_0_hat;  // written even where the row has no history
  const void* raw;
  RawType raw_type;
  int64_t raw_stride[3];  // in elements
  int64_t B, C, L;        // none of them 0
  const float* rows;
  int64_t n_rows;
  const int64_t* layout;
  const float* bounds;
  const int64_t *step, *seed, *patient, *stream;
  int64_t *moved, *nonfinite;
};

// Launch on the current device. A step outside the rows, or a layout that is none, makes every entry count as not
// finite, so that whoever reads the counts refuses the patients.
cudaError_t launch_reverse_step(const DeviceStep& call, cudaStream_t stream);

}  // namespace hg3
