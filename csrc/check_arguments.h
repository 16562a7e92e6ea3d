// What the operators refuse, in the sentences of hg3/sampling/check_arguments.py.
#pragma once

#include <ATen/MemoryOverlap.h>
#include <ATen/core/Tensor.h>
#include <c10/core/GradMode.h>
#include <c10/core/ScalarType.h>

#include <sstream>
#include <string>

namespace hg3 {

inline std::string shown(at::IntArrayRef shape) {
  std::ostringstream text;
  text << '(';
  for (size_t i = 0; i < shape.size(); ++i) text << (i ? ", " : "") << shape[i];
  text << (shape.size() == 1 ? ",)" : ")");
  return text.str();
}

inline void check_shape(const char* op, const char* name, const at::Tensor& tensor, at::IntArrayRef shape) {
  TORCH_CHECK_VALUE(tensor.sizes() == shape, op, ": ", name, " has shape ", shown(tensor.sizes()), ", expected ",
                    shown(shape));
}

inline void check_type(const char* op, const char* name, const at::Tensor& tensor, at::ScalarType type) {
  TORCH_CHECK_VALUE(tensor.scalar_type() == type, op, ": ", name, " is torch.",
                    c10::getDtypeNames(tensor.scalar_type()).first, ", expected torch.",
                    c10::getDtypeNames(type).first);
}

inline void check_device(const char* op, const char* name, const at::Tensor& tensor, at::Device device) {
  TORCH_CHECK_VALUE(tensor.device() == device, op, ": ", name, " is on ", tensor.device().str(), ", expected ",
                    device.str());
}

constexpr int64_t MOST_STEPS = 1 << 20;  // the bits of a Philox counter that hold the step

// The arguments of hg3::reverse_step, named as in its schema.
struct Arguments {
  const at::Tensor &x_t, &raw, &x_0_prev, &rows, &step, &layout, &bounds, &seed, &patient, &stream;
};

inline void check_arguments(const Arguments& given) {
  constexpr auto op = "hg3::reverse_step";
  TORCH_CHECK_VALUE(given.x_t.dim() == 3, op, ": x_t has shape ", shown(given.x_t.sizes()), ", expected (B, C, L)");
  check_type(op, "x_t", given.x_t, at::kFloat);
  const int64_t B = given.x_t.size(0), C = given.x_t.size(1);
  check_shape(op, "raw", given.raw, given.x_t.sizes());
  check_shape(op, "x_0_prev", given.x_0_prev, given.x_t.sizes());
  TORCH_CHECK_VALUE(given.rows.dim() == 2 && given.rows.size(1) == 7, op, ": rows has shape ",
                    shown(given.rows.sizes()), ", expected (", given.rows.dim() ? given.rows.size(0) : 0, ", 7)");
  TORCH_CHECK_VALUE(given.rows.size(0) <= MOST_STEPS, op, ": rows has ", given.rows.size(0),
                    " steps, expected at most ", MOST_STEPS, ", as many as the noise can tell apart");
  check_shape(op, "layout", given.layout, {C, 3});
  check_shape(op, "bounds", given.bounds, {C, 2});
  check_shape(op, "patient", given.patient, {B});
  check_shape(op, "stream", given.stream, {B});
  const auto raw_type = given.raw.scalar_type();
  TORCH_CHECK_VALUE(raw_type == at::kFloat || raw_type == at::kBFloat16 || raw_type == at::kHalf, op, ": raw is torch.",
                    c10::getDtypeNames(raw_type).first, ", expected torch.float32, torch.bfloat16 or torch.float16");
  check_type(op, "x_0_prev", given.x_0_prev, at::kFloat);
  check_type(op, "rows", given.rows, at::kFloat);
  check_type(op, "bounds", given.bounds, at::kFloat);
  const std::pair<const char*, const at::Tensor&> whole[] = {
      {"step", given.step}, {"layout", given.layout}, {"seed", given.seed}, {"patient", given.patient},
      {"stream", given.stream}};
  for (const auto& [name, tensor] : whole) check_type(op, name, tensor, at::kLong);
  const std::pair<const char*, const at::Tensor&> scalars[] = {{"step", given.step}, {"seed", given.seed}};
  for (const auto& [name, tensor] : scalars)
    TORCH_CHECK_VALUE(tensor.numel() == 1, op, ": ", name, " has shape ", shown(tensor.sizes()), ", expected ()");
  const std::pair<const char*, const at::Tensor&> all[] = {
      {"raw", given.raw},       {"x_0_prev", given.x_0_prev}, {"rows", given.rows}, {"step", given.step},
      {"layout", given.layout}, {"bounds", given.bounds},     {"seed", given.seed}, {"patient", given.patient},
      {"stream", given.stream}};
  for (const auto& [name, tensor] : all) check_device(op, name, tensor, given.x_t.device());
  const bool differentiable = given.x_t.requires_grad() || given.raw.requires_grad() || given.x_0_prev.requires_grad();
  TORCH_CHECK_VALUE(!(differentiable && c10::GradMode::is_enabled()), op,
                    ": an argument requires a gradient, which a step of sampling has not; call it under torch.no_grad()");
}

// What is written where it stands has no holes, and neither lies under the other nor in part under the network's output.
inline void check_in_place(const Arguments& given) {
  constexpr auto op = "hg3::reverse_step_";
  const auto &x = given.x_t, &x_0 = given.x_0_prev;
  const std::pair<const char*, const at::Tensor&> written[] = {{"x", x}, {"x_0", x_0}};
  for (const auto& [name, tensor] : written) {
    TORCH_CHECK_VALUE(tensor.is_contiguous(), op, ": ", name, " is not contiguous; use reverse_step");
    TORCH_CHECK_VALUE(at::get_overlap_status(tensor, given.raw) != at::MemOverlapStatus::Partial, op, ": ", name,
                      " lies in part over raw; use reverse_step");
  }
  TORCH_CHECK_VALUE(x.numel() == 0 || at::get_overlap_status(x, x_0) == at::MemOverlapStatus::No, op,
                    ": x and x_0 lie over one another, expected two tensors");
}

// Let autograd know that a tensor was written over, as torch's own operators do.
inline void note_written(const at::Tensor& tensor) {
  if (!tensor.is_inference()) tensor.unsafeGetTensorImpl()->bump_version();
}

}  // namespace hg3
