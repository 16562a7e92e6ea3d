// The operators' schemas, how this extension was built, and what it runs on.
#include <pybind11/pybind11.h>
#include <torch/library.h>
#include <torch/version.h>

#include "instruction_sets.h"

TORCH_LIBRARY(hg3, library) {
  library.def(
      "reverse_step(Tensor x_t, Tensor raw, Tensor x_0_prev, Tensor rows, Tensor step, Tensor layout, Tensor bounds, "
      "Tensor seed, Tensor patient, Tensor stream) -> (Tensor, Tensor, Tensor, Tensor)");
  library.def(
      "reverse_step_(Tensor(a!) x, Tensor raw, Tensor(b!) x_0, Tensor rows, Tensor step, Tensor layout, "
      "Tensor bounds, Tensor seed, Tensor patient, Tensor stream) -> (Tensor, Tensor)");
  library.def(
      "decode(Tensor x, Tensor reals, Tensor knots, Tensor categories, Tensor? patient=None, int seed=0, int stream=0, "
      "bool wide=False) -> (Tensor, Tensor)");
}

namespace {

pybind11::dict build_info() {
  pybind11::dict built;
#if defined(__clang__)
  built["compiler"] = "clang " __clang_version__;
#else
  built["compiler"] = "gcc " __VERSION__;
#endif
  built["flags"] = HG3_FLAGS;
  built["torch"] = TORCH_VERSION;
#if defined(HG3_CUDA)
  built["nvcc_flags"] = HG3_NVCC_FLAGS;
  built["cuda"] = HG3_CUDA;
  built["architectures"] = HG3_ARCHITECTURES;
#else
  built["nvcc_flags"] = pybind11::none();
  built["cuda"] = pybind11::none();
  built["architectures"] = pybind11::none();
#endif
  return built;
}

}  // namespace

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) {
  module.doc() = "hg3's compiled operators, called through torch.ops.hg3; here is only how they were built and run.";
  module.def("build_info", &build_info, "Return compiler, flags, torch, cuda and architectures of the build.");
  module.def("instruction_set", [] { return hg3::has_avx2() ? "avx2" : "portable"; },
             "Return the instruction set by which this CPU takes a reverse step.");
}
