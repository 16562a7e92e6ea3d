// hg3::decode on CPUs: patients over threads; a patient's channels stay in the nearest cache.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <vector>

#include "check_decode.h"
#include "decode.h"
#include "philox.h"

// Compiled for AVX2 too, and chosen when it is loaded; no vector width changes a bit.
#if defined(__x86_64__)
#define HG3_CLONES __attribute__((target_clones("avx2", "default")))
#else
#define HG3_CLONES
#endif

namespace hg3 {
namespace {

constexpr int64_t ENTRIES_A_TASK = 32'768;

struct Block {
  int64_t start, width;
};

// A whole call in plain pointers.
struct Decoding {
  const float* x;
  int64_t stride[3];
  int64_t N, C, L, padded;  // padded: L rounded up to a multiple of 4, as elements are numbered
  std::vector<Real> reals;
  std::vector<Block> blocks;
  const int64_t* patient;  // null: arg-max
  int64_t seed, stream;
};

// Return a channel of a patient as L neighbours in memory: where it lies, or copied.
const float* line_of(const Decoding& call, int64_t n, int64_t c, float* __restrict copy) {
  const float* channel = call.x + n * call.stride[0] + c * call.stride[1];
  if (call.stride[2] == 1) return channel;
  for (int64_t l = 0; l < call.L; ++l) copy[l] = channel[l * call.stride[2]];
  return copy;
}

template <int32_t KIND, bool CURVE>
HG3_INLINE void decode_kind(const float* __restrict x, double* __restrict out, const Real& real, int64_t L) {
  const Real local = real;
  for (int64_t l = 0; l < L; ++l) out[l] = clinical<KIND, CURVE>(x[l], local);
}

template <bool CURVE>
HG3_INLINE void decode_curve(const float* x, double* out, const Real& real, int64_t L) {
  switch (real.kind) {
    case LOG1P: return decode_kind<LOG1P, CURVE>(x, out, real, L);
    case BOX_COX: return decode_kind<BOX_COX, CURVE>(x, out, real, L);
    case YEO_JOHNSON: return decode_kind<YEO_JOHNSON, CURVE>(x, out, real, L);
    default: return decode_kind<NONE, CURVE>(x, out, real, L);
  }
}

HG3_CLONES void decode_line(const float* x, double* out, const Real& real, int64_t L) {
  if (real.n_knots) return decode_curve<true>(x, out, real, L);
  decode_curve<false>(x, out, real, L);
}

// Let the codes lead that take the lead: position k, whose entries these are.
HG3_CLONES void take_lead(const float* __restrict entry, int32_t k, float* __restrict best, int32_t* __restrict code,
                          int64_t L) {
  for (int64_t l = 0; l < L; ++l) {
    const bool first = leads(entry[l], best[l]);
    code[l] = first ? k : code[l];
    best[l] = first ? entry[l] : best[l];
  }
}

void argmax_line(const Decoding& call, int64_t n, const Block& block, float* best, int32_t* code, float* copy) {
  const float* first = line_of(call, n, block.start, copy);
  std::copy(first, first + call.L, best);
  std::fill(code, code + call.L, 0);
  for (int64_t k = 1; k < block.width; ++k)
    take_lead(line_of(call, n, block.start + k, copy), static_cast<int32_t>(k), best, code, call.L);
}

// Return the code that a word draws from entries of one block, or the given one where none has a weight.
int32_t drawn_code(const float* entry, int64_t width, int64_t stride, uint32_t word, int32_t otherwise) {
  double total = 0.0, reached = 0.0;
  for (int64_t k = 0; k < width; ++k) total += weight_of(entry[k * stride]);
  const double wanted = unit_of(word) * total;
  for (int64_t k = 0; k < width; ++k) {
    reached += weight_of(entry[k * stride]);
    if (reached > wanted) return static_cast<int32_t>(k);
  }
  return otherwise;
}

// Draw the codes of a block over the arg-max that stands there.
void draw_line(const Decoding& call, int64_t n, const Block& block, int32_t* code) {
  const Draw draw = draw_of(call.seed, call.stream, 0, call.patient[n]);
  const float* entry = call.x + n * call.stride[0] + block.start * call.stride[1];
  for (int64_t first = 0; first < call.L; first += 4) {
    const Words quad = words_of(draw, static_cast<uint32_t>((block.start * call.padded + first) / 4));
    for (int64_t l = first; l < std::min(first + 4, call.L); ++l)
      code[l] = drawn_code(entry + l * call.stride[2], block.width, call.stride[1], quad.w[l - first], code[l]);
  }
}

template <typename Code>
void decode_patients(const Decoding& call, int64_t begin, int64_t end, double* values, Code* codes) {
  std::vector<float> copy(call.L), best(call.L);
  std::vector<int32_t> code(call.L);
  for (int64_t n = begin; n < end; ++n) {
    for (size_t r = 0; r < call.reals.size(); ++r) {
      const Real& real = call.reals[r];
      const float* line = line_of(call, n, real.channel, copy.data());
      decode_line(line, values + (r * call.N + n) * call.L, real, call.L);
    }
    for (size_t b = 0; b < call.blocks.size(); ++b) {
      argmax_line(call, n, call.blocks[b], best.data(), code.data(), copy.data());
      if (call.patient) draw_line(call, n, call.blocks[b], code.data());
      std::copy(code.begin(), code.end(), codes + (b * call.N + n) * call.L);
    }
  }
}

// Return a whole number from 0 on that a row of float64 holds, or -1.
int64_t whole(double entry) { return entry >= 0.0 && entry < 0x1p31 ? static_cast<int64_t>(entry) : -1; }

std::vector<Real> reals_of(const at::Tensor& table, const at::Tensor& knots, int64_t C) {
  const auto rows = table.accessor<double, 2>();
  const double* knot = knots.const_data_ptr<double>();
  std::vector<Real> reals;
  for (int64_t r = 0; r < table.size(0); ++r) {
    const auto row = rows[r];
    const int64_t first = whole(row[8]);
    Real real{};
    real.channel = whole(row[0]);
    real.kind = static_cast<int32_t>(whole(row[1]));
    real.center = row[2];
    real.scale = row[3];
    real.lambda = row[4];
    real.unit = std::pow(10.0, std::abs(row[5]));
    real.coarse = row[5] < 0.0;
    real.low = row[6];
    real.high = row[7];
    real.n_knots = whole(row[9]);
    check_real(real, r, C, first, knots.size(1));
    real.knots = knot + first;
    real.scores = knot + knots.size(1) + first;
    reals.push_back(real);
  }
  return reals;
}

std::vector<Block> blocks_of(const at::Tensor& categories, int64_t C, bool wide) {
  const auto rows = categories.accessor<int64_t, 2>();
  std::vector<Block> blocks;
  for (int64_t b = 0; b < categories.size(0); ++b) {
    check_block(b, rows[b][0], rows[b][1], C, wide);
    blocks.push_back({rows[b][0], rows[b][1]});
  }
  return blocks;
}

template <typename Code>
void run(const Decoding& call, const at::Tensor& values, const at::Tensor& codes) {
  const int64_t grain = std::max<int64_t>(1, ENTRIES_A_TASK / std::max<int64_t>(1, call.C * call.L));
  double* to_values = values.mutable_data_ptr<double>();
  Code* to_codes = codes.mutable_data_ptr<Code>();
  at::parallel_for(0, call.N, grain, [&](int64_t begin, int64_t end) {
    decode_patients<Code>(call, begin, end, to_values, to_codes);
  });
}

std::tuple<at::Tensor, at::Tensor> decode(const at::Tensor& x, const at::Tensor& reals, const at::Tensor& knots,
                                          const at::Tensor& categories, const std::optional<at::Tensor>& patient,
                                          int64_t seed, int64_t stream, bool wide) {
  check_decode(x, reals, knots, categories, patient);
  const auto curves = knots.contiguous();
  const auto numbers = patient ? patient->contiguous() : at::Tensor();
  Decoding call{};
  call.x = x.const_data_ptr<float>();
  for (int i = 0; i < 3; ++i) call.stride[i] = x.stride(i);
  call.N = x.size(0);
  call.C = x.size(1);
  call.L = x.size(2);
  call.padded = (call.L + 3) / 4 * 4;
  call.reals = reals_of(reals, curves, call.C);
  call.blocks = blocks_of(categories, call.C, wide);
  call.patient = patient ? numbers.const_data_ptr<int64_t>() : nullptr;
  call.seed = seed;
  call.stream = stream;
  const auto values = at::empty({reals.size(0), call.N, call.L}, x.options().dtype(at::kDouble));
  const auto codes = at::empty({categories.size(0), call.N, call.L}, x.options().dtype(wide ? at::kInt : at::kByte));
  wide ? run<int32_t>(call, values, codes) : run<uint8_t>(call, values, codes);
  return {values, codes};
}

}  // namespace
}  // namespace hg3

TORCH_LIBRARY_IMPL(hg3, CPU, library) { library.impl("decode", &hg3::decode); }
