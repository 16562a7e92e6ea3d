// What hg3::decode refuses, in the sentences of hg3/table/ops.py.
#pragma once

#include <optional>

#include "check_arguments.h"
#include "decode.h"

namespace hg3 {

constexpr int64_t CODES_OF_A_BYTE = 256;

inline void check_decode(const at::Tensor& x, const at::Tensor& reals, const at::Tensor& knots,
                         const at::Tensor& categories, const std::optional<at::Tensor>& patient) {
  constexpr auto op = "hg3::decode";
  TORCH_CHECK_VALUE(x.dim() == 3, op, ": x has shape ", shown(x.sizes()), ", expected (N, C, L)");
  check_type(op, "x", x, at::kFloat);
  check_shape(op, "reals", reals, {reals.dim() ? reals.size(0) : 0, 10});
  check_shape(op, "knots", knots, {2, knots.dim() == 2 ? knots.size(1) : 0});
  check_shape(op, "categories", categories, {categories.dim() ? categories.size(0) : 0, 2});
  check_type(op, "reals", reals, at::kDouble);
  check_type(op, "knots", knots, at::kDouble);
  check_type(op, "categories", categories, at::kLong);
  for (const auto& [name, tensor] : {std::pair{"reals", &reals}, {"knots", &knots}, {"categories", &categories}})
    check_device(op, name, *tensor, x.device());
  if (patient) {
    check_device(op, "patient", *patient, x.device());
    check_shape(op, "patient", *patient, {x.size(0)});
    check_type(op, "patient", *patient, at::kLong);
  }
}

inline void check_real(const Real& real, int64_t row, int64_t C, int64_t first_knot, int64_t n_knots) {
  const bool has_knots = real.n_knots == 0 || (0 <= first_knot && first_knot <= n_knots && 2 <= real.n_knots &&
                                               real.n_knots <= n_knots - first_knot);
  const bool fits = 0 <= real.channel && real.channel < C && NONE <= real.kind && real.kind < KINDS && has_knots;
  TORCH_CHECK_VALUE(fits, "hg3::decode: reals row ", row, " has channel ", real.channel, ", kind ", real.kind,
                    " and ", real.n_knots, " knots from ", first_knot, " on, expected a channel below ", C,
                    ", a kind from 0 to 3, and none, or two or more, of the ", n_knots, " knots");
}

inline void check_block(int64_t row, int64_t start, int64_t width, int64_t C, bool wide) {
  TORCH_CHECK_VALUE(0 <= start && 0 < width && start <= C && width <= C - start, "hg3::decode: categories row ", row,
                    " is (", start, ", ", width, "), expected a block inside the ", C, " channels");
  TORCH_CHECK_VALUE(wide || width <= CODES_OF_A_BYTE, "hg3::decode: categories row ", row, " has ", width,
                    " codes, expected at most 256; ask for wide codes");
}

}  // namespace hg3
