// What philox.h and instruction_sets.h draw:
//   sets                                          the instruction sets that this CPU runs, a line each
//   words SET c0 c1 c2 c3 k0 k1 GROUPS            Philox's words from that counter on, uint32
//   normals SET seed stream step patient N SIZE   of N patients, SIZE elements each, float32
//   statistics seed patients SIZE                 the sums of z to z^4, then how many z lie in each of 2^16 cells
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "instruction_sets.h"

using namespace hg3;

static void group(const std::string& set, const Draw& draw, uint32_t first, uint32_t (&words)[4][GROUP]) {
#if defined(__x86_64__)
  if (set == "avx2") return avx2::group_of_words(draw, first, words);
#endif
  portable::group_of_words(draw, first, words);
}

static void normals(const std::string& set, float* z, int64_t n, const Draw& draw) {
#if defined(__x86_64__)
  if (set == "avx2") return avx2::draw_normals(z, n, draw);
#endif
  portable::draw_normals(z, n, draw);
}

static void write_words(char** given) {
  uint32_t w[7], words[4][GROUP];
  for (int i = 0; i < 7; ++i) w[i] = static_cast<uint32_t>(std::strtoull(given[3 + i], nullptr, 0));
  const Draw draw{{w[4], w[5]}, w[1], {w[2], w[3]}};
  for (uint32_t g = 0; g < w[6]; ++g) {
    group(given[2], draw, w[0] + g * GROUP, words);
    for (int i = 0; i < GROUP; ++i)
      for (int k = 0; k < 4; ++k) std::fwrite(&words[k][i], sizeof(uint32_t), 1, stdout);
  }
}

static void write_normals(char** given) {
  int64_t n[6];
  for (int i = 0; i < 6; ++i) n[i] = std::strtoll(given[3 + i], nullptr, 0);
  const int64_t size = (n[5] + 4 * GROUP - 1) / (4 * GROUP) * (4 * GROUP);
  std::vector<float> z(size);
  for (int64_t patient = n[3]; patient < n[3] + n[4]; ++patient) {
    normals(given[2], z.data(), n[5], draw_of(n[0], n[1], n[2], patient));
    std::fwrite(z.data(), sizeof(float), n[5], stdout);
  }
}

static void write_statistics(char** given) {
  const int64_t seed = std::strtoll(given[2], nullptr, 0), n_patients = std::strtoll(given[3], nullptr, 0);
  const int64_t size = std::strtoll(given[4], nullptr, 0) / (4 * GROUP) * (4 * GROUP);
  std::vector<float> z(size);
  std::vector<int64_t> cells(1 << 16);
  double sums[4] = {};
  for (int64_t patient = 0; patient < n_patients; ++patient) {
    normals(has_avx2() ? "avx2" : "portable", z.data(), size, draw_of(seed, 3 << 28, 0, patient));
    double part[4] = {};
    for (const double one : z) {
      const double square = one * one;
      part[0] += one;
      part[1] += square;
      part[2] += square * one;
      part[3] += square * square;
      ++cells[static_cast<int>((one + 8) * (1 << 12))];  // |z| ends before 6
    }
    for (int i = 0; i < 4; ++i) sums[i] += part[i];
  }
  for (const double sum : sums) std::printf("%.17g\n", sum);
  for (const int64_t count : cells) std::printf("%lld\n", static_cast<long long>(count));
}

int main(int, char** given) {
  const std::string what = given[1];
  if (what == "sets") std::puts(has_avx2() ? "portable\navx2" : "portable");
  if (what == "words") write_words(given);
  if (what == "normals") write_normals(given);
  if (what == "statistics") write_statistics(given);
}
