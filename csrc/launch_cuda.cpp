// hg3::reverse_step for torch on CUDA: checks, where the results go, and the launch on torch's stream.
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_like.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "check_arguments.h"
#include "reverse_step_cuda.h"

namespace hg3 {
namespace {

RawType raw_type(at::ScalarType type) {
  if (type == at::kFloat) return RawType::FLOAT;
  return type == at::kHalf ? RawType::HALF : RawType::BFLOAT16;
}

struct Counts {
  at::Tensor moved, nonfinite;
};

// x_t and x_0_prev are contiguous, and may be x_s and x_0_hat themselves.
Counts run(const Arguments& given, const at::Tensor& x_s, const at::Tensor& x_0_hat, bool always_x_0_hat) {
  const int64_t B = given.x_t.size(0), C = given.x_t.size(1), L = given.x_t.size(2);
  TORCH_CHECK_VALUE(C <= MOST_CHANNELS, "hg3::reverse_step: x_t has ", C, " channels, expected at most ",
                    MOST_CHANNELS, " on a GPU");
  TORCH_CHECK_VALUE(C * L <= MOST_ENTRIES, "hg3::reverse_step: x_t has ", C, " channels of length ", L,
                    ", expected at most 2147483647 entries a patient on a GPU");
  const c10::cuda::CUDAGuard guard(given.x_t.device());  // the current device need not be the tensors'
  const auto rows = given.rows.contiguous(), layout = given.layout.contiguous(), bounds = given.bounds.contiguous();
  const auto patient = given.patient.contiguous(), stream = given.stream.contiguous();
  const Counts counts{at::empty_like(patient), at::empty_like(patient)};
  if (given.x_t.numel() == 0) {
    counts.moved.zero_();
    counts.nonfinite.zero_();
    return counts;
  }
  // the kernel counts in 32 bits inside a patient
  const bool near = (C - 1) * given.raw.stride(1) + (L - 1) * given.raw.stride(2) < MOST_ENTRIES;
  const at::Tensor raw = near ? given.raw : given.raw.contiguous();
  const DeviceStep call{given.x_t.const_data_ptr<float>(),
                        given.x_0_prev.const_data_ptr<float>(),
                        x_s.mutable_data_ptr<float>(),
                        x_0_hat.mutable_data_ptr<float>(),
                        always_x_0_hat,
                        raw.const_data_ptr(),
                        raw_type(raw.scalar_type()),
                        {raw.stride(0), raw.stride(1), raw.stride(2)},
                        B,
                        C,
                        L,
                        rows.const_data_ptr<float>(),
                        rows.size(0),
                        layout.const_data_ptr<int64_t>(),
                        bounds.const_data_ptr<float>(),
                        given.step.const_data_ptr<int64_t>(),
                        given.seed.const_data_ptr<int64_t>(),
                        patient.const_data_ptr<int64_t>(),
                        stream.const_data_ptr<int64_t>(),
                        counts.moved.mutable_data_ptr<int64_t>(),
                        counts.nonfinite.mutable_data_ptr<int64_t>()};
  C10_CUDA_CHECK(launch_reverse_step(call, c10::cuda::getCurrentCUDAStream()));
  return counts;
}

using T = const at::Tensor&;

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> reverse_step(T x_t, T raw, T x_0_prev, T rows, T step,
                                                                        T layout, T bounds, T seed, T patient,
                                                                        T stream) {
  check_arguments({x_t, raw, x_0_prev, rows, step, layout, bounds, seed, patient, stream});
  const auto now = x_t.contiguous(), past = x_0_prev.contiguous();
  const auto x_s = at::empty_like(now), x_0_hat = at::empty_like(now);
  const auto [moved, nonfinite] =
      run({now, raw, past, rows, step, layout, bounds, seed, patient, stream}, x_s, x_0_hat, true);
  return {x_s, x_0_hat, moved, nonfinite};
}

std::tuple<at::Tensor, at::Tensor> reverse_step_in_place(T x, T raw, T x_0, T rows, T step, T layout, T bounds, T seed,
                                                         T patient, T stream) {
  const Arguments given{x, raw, x_0, rows, step, layout, bounds, seed, patient, stream};
  check_arguments(given);
  check_in_place(given);
  const auto [moved, nonfinite] = run(given, x, x_0, false);
  note_written(x);
  note_written(x_0);
  return {moved, nonfinite};
}

}  // namespace
}  // namespace hg3

TORCH_LIBRARY_IMPL(hg3, CUDA, library) {
  library.impl("reverse_step", &hg3::reverse_step);
  library.impl("reverse_step_", &hg3::reverse_step_in_place);
}
