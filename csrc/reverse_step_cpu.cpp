// hg3::reverse_step on CPUs: patients over threads, one pass over memory, vectors over time.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros_like.h>
#include <torch/library.h>

#include <algorithm>
#include <vector>

#include "check_arguments.h"
#include "instruction_sets.h"

namespace hg3 {
namespace {

constexpr int64_t ELEMENTS_A_TASK = 32'768;

using Kernel = void (*)(const Step&, int64_t, int64_t, float*);

template <typename T>
Kernel kernel_for() {
#if defined(__x86_64__)
  if (has_avx2()) return avx2::patients<T>;
#endif
  return portable::patients<T>;
}

Kernel kernel_for(at::ScalarType type) {
  if (type == at::kFloat) return kernel_for<float>();
  return type == at::kHalf ? kernel_for<c10::Half>() : kernel_for<c10::BFloat16>();
}

Row row_of(const at::Tensor& rows, int64_t number) {
  TORCH_CHECK_INDEX(0 <= number && number < rows.size(0), "hg3::reverse_step: step is ", number, ", expected 0 to ",
                    rows.size(0) - 1);
  const auto table = rows.accessor<float, 2>();
  const auto row = table[number];
  return {row[0], row[1], row[2], row[3], row[4], row[5], row[6]};
}

std::vector<Channel> channels_of(const at::Tensor& layout, const at::Tensor& bounds) {
  const auto whole = layout.contiguous();
  const int64_t* rows = whole.const_data_ptr<int64_t>();
  const auto limits = bounds.accessor<float, 2>();
  std::vector<Channel> channels;
  for (int64_t c = 0; c < layout.size(0); ++c) {
    const int64_t head = rows[3 * c], start = rows[3 * c + 1], width = rows[3 * c + 2];
    TORCH_CHECK_VALUE(is_channel(rows, c, layout.size(0)), "hg3::reverse_step: layout row ", c, " is (", head, ", ",
                      start, ", ", width, "), expected a head from 0 to 3 and blocks that follow one another");
    channels.push_back({static_cast<int32_t>(head), static_cast<int32_t>(start), static_cast<int32_t>(width),
                        limits[c][0], limits[c][1]});
  }
  return channels;
}

// Where the results go: fresh tensors, or the arguments themselves. In place, x_0_hat is written only
// where the row has history, as it is read.
struct Results {
  at::Tensor x_s, x_0_hat, moved, nonfinite;
  bool in_place;
};

Results results_for(const Arguments& given, const at::Tensor& x_s, const at::Tensor& x_0_hat, bool in_place) {
  return {x_s, x_0_hat, at::zeros_like(given.patient), at::zeros_like(given.patient), in_place};
}

// x_t and x_0_prev are contiguous, and may be the results' own x_s and x_0_hat.
void run(const Arguments& given, const Results& results) {
  const auto channels = channels_of(given.layout, given.bounds);
  const auto patient = given.patient.contiguous(), stream = given.stream.contiguous();
  const auto& [x_s, x_0_hat, moved, nonfinite, in_place] = results;
  Step step{};
  step.x_t = given.x_t.const_data_ptr<float>();
  step.x_0_prev = given.x_0_prev.const_data_ptr<float>();
  step.x_s = x_s.mutable_data_ptr<float>();
  step.raw = given.raw.const_data_ptr();
  for (int i = 0; i < 3; ++i) step.raw_stride[i] = given.raw.stride(i);
  step.set_shape(given.x_t.size(1), given.x_t.size(2));
  step.number = given.step.item<int64_t>();
  step.row = row_of(given.rows, step.number);
  step.x_0_hat = in_place && !(step.row.history > 0.0f) ? nullptr : x_0_hat.mutable_data_ptr<float>();
  step.channels = channels.data();
  step.seed = given.seed.item<int64_t>();
  step.patient = patient.const_data_ptr<int64_t>();
  step.stream = stream.const_data_ptr<int64_t>();
  step.moved = moved.mutable_data_ptr<int64_t>();
  step.nonfinite = nonfinite.mutable_data_ptr<int64_t>();
  if (given.x_t.numel() == 0) return;
  const Kernel kernel = kernel_for(given.raw.scalar_type());
  const int64_t grain = std::max<int64_t>(1, ELEMENTS_A_TASK / (step.C * step.L));
  at::parallel_for(0, given.x_t.size(0), grain, [&](int64_t begin, int64_t end) {
    std::vector<float> workspace(step.workspace());
    kernel(step, begin, end, workspace.data());
  });
}

using T = const at::Tensor&;

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> reverse_step(T x_t, T raw, T x_0_prev, T rows, T step,
                                                                        T layout, T bounds, T seed, T patient,
                                                                        T stream) {
  check_arguments({x_t, raw, x_0_prev, rows, step, layout, bounds, seed, patient, stream});
  const auto now = x_t.contiguous(), past = x_0_prev.contiguous();
  const Arguments given{now, raw, past, rows, step, layout, bounds, seed, patient, stream};
  const auto results = results_for(given, at::empty_like(now), at::empty_like(now), false);
  run(given, results);
  return {results.x_s, results.x_0_hat, results.moved, results.nonfinite};
}

std::tuple<at::Tensor, at::Tensor> reverse_step_in_place(T x, T raw, T x_0, T rows, T step, T layout, T bounds, T seed,
                                                         T patient, T stream) {
  const Arguments given{x, raw, x_0, rows, step, layout, bounds, seed, patient, stream};
  check_arguments(given);
  check_in_place(given);
  const auto results = results_for(given, x, x_0, true);
  run(given, results);
  note_written(x);
  note_written(x_0);
  return {results.moved, results.nonfinite};
}

}  // namespace
}  // namespace hg3

TORCH_LIBRARY_IMPL(hg3, CPU, library) {
  library.impl("reverse_step", &hg3::reverse_step);
  library.impl("reverse_step_", &hg3::reverse_step_in_place);
}
