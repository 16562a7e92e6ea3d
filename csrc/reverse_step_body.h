// A range of patients on one core. Compiled once per instruction set: define HG3_ISA before including it.
//
// Each patient passes through buffers that stay in the nearest caches, so that memory is read and written
// once. Loops run over time, where every channel does the same thing; the compiler makes vectors of them.

namespace hg3::HG3_ISA {

// Draw the normals of all elements of a patient: C * roundup4(L) of them, rounded up to whole groups.
inline void draw_normals(float* z, int64_t n_elements, const Draw& draw) {
  uint32_t words[4][GROUP];
  for (int64_t first = 0; first < n_elements; first += 4 * GROUP) {
    group_of_words(draw, static_cast<uint32_t>(first / 4), words);
    float normals[4][GROUP];
    for (int i = 0; i < GROUP; ++i) {
      normal_pair(words[0][i], words[1][i], normals[0][i], normals[1][i]);
      normal_pair(words[2][i], words[3][i], normals[2][i], normals[3][i]);
    }
    for (int i = 0; i < GROUP; ++i)
      for (int k = 0; k < 4; ++k) z[first + 4 * i + k] = normals[k][i];
  }
}

// Bring channels-last values, as the network leaves them, to (C, padded), an 8 x 8 tile at a time; the
// last tiles overlap their neighbours.
template <typename T>
inline void gather_tiles(float* __restrict buffer, const T* __restrict raw, const Step& step) {
  const int64_t along_l = step.raw_stride[2];
  for (int64_t l = 0; l < step.L; l += TILE) {
    const int64_t l0 = std::min(l, step.L - TILE);
    for (int64_t c = 0; c < step.C; c += TILE) {
      const int64_t c0 = std::min(c, step.C - TILE);
      float tile[TILE * TILE];
      for (int i = 0; i < TILE; ++i)
        for (int j = 0; j < TILE; ++j) tile[i * TILE + j] = static_cast<float>(raw[(l0 + i) * along_l + c0 + j]);
      transpose(tile, buffer + c0 * step.padded + l0, step.padded);
    }
  }
}

template <typename T>
inline void gather(float* __restrict buffer, const T* __restrict raw, const Step& step) {
  const int64_t along_c = step.raw_stride[1], along_l = step.raw_stride[2];
  if (along_c == 1 && step.C >= TILE && step.L >= TILE) return gather_tiles(buffer, raw, step);
  for (int64_t c = 0; c < step.C; ++c) {
    const T* channel = raw + c * along_c;
    float* line = buffer + c * step.padded;
    if (along_l == 1) {
      for (int64_t l = 0; l < step.L; ++l) line[l] = static_cast<float>(channel[l]);
    } else {
      for (int64_t l = 0; l < step.L; ++l) line[l] = static_cast<float>(channel[l * along_l]);
    }
  }
}

// Turn a channel of raw values into x_0_hat; count what is not finite and what the guardrail moves.
template <int32_t HEAD>
inline void real_channel(float* __restrict buffer, const float* __restrict x_t, const Channel& channel,
                         const Row& row, int64_t L, int32_t& moved, int32_t& nonfinite) {
  const float low = channel.low, high = channel.high, centre = middle(low, high);
  const Row all = row;
  int32_t outside = 0, broken = 0;
  for (int64_t l = 0; l < L; ++l) {
    const float raw = buffer[l];
    const bool finite = is_finite(raw);
    const float clean = clean_real(HEAD, all, x_t[l], raw);
    const float free = finite ? clean : centre;
    const float inside = held(free, low, high);
    broken += finite ? 0 : 1;
    outside += inside == free ? 0 : 1;
    buffer[l] = inside;
  }
  moved += outside;
  nonfinite += broken;
}

// Make all logits 0, which is the uniform distribution, at the times where one is not finite, which
// `mark` is NaN at; return how many entries are not.
inline int32_t without_nonfinite(float* block, const float* mark, int32_t width, int64_t padded, int64_t L) {
  int32_t broken = 0;
  for (int64_t l = 0; l < L; ++l) {
    if (mark[l] == mark[l]) continue;
    for (int32_t k = 0; k < width; ++k) {
      broken += !is_finite(block[k * padded + l]);
      block[k * padded + l] = 0.0f;
    }
  }
  return broken;
}

// Turn a block of logits into the softmax over its channels. All passes run over time; `scratch` holds two lines.
inline void category_block(float* __restrict block, float* __restrict scratch, int32_t width, int64_t padded,
                           int64_t L, int32_t& nonfinite) {
  float* __restrict top = scratch;
  float* __restrict total = scratch + padded;
  for (int64_t l = 0; l < L; ++l) total[l] = 0.0f;
  for (int32_t k = 0; k < width; ++k)  // 0 times a logit is 0, or NaN where it is not finite
    for (int64_t l = 0; l < L; ++l) total[l] = fused(block[k * padded + l], 0.0f, total[l]);
  int32_t any = 0;
  for (int64_t l = 0; l < L; ++l) any |= total[l] != total[l];
  if (any) nonfinite += without_nonfinite(block, total, width, padded, L);
  for (int64_t l = 0; l < L; ++l) top[l] = block[l];
  for (int32_t k = 1; k < width; ++k)
    for (int64_t l = 0; l < L; ++l) top[l] = block[k * padded + l] > top[l] ? block[k * padded + l] : top[l];
  for (int64_t l = 0; l < L; ++l) total[l] = 0.0f;
  for (int32_t k = 0; k < width; ++k)
    for (int64_t l = 0; l < L; ++l) {
      const float weight = exp_of_negative(block[k * padded + l] - top[l]);
      block[k * padded + l] = weight;
      total[l] += weight;
    }
  for (int64_t l = 0; l < L; ++l) total[l] = 1.0f / total[l];
  for (int32_t k = 0; k < width; ++k)
    for (int64_t l = 0; l < L; ++l) block[k * padded + l] = code_entry(block[k * padded + l], total[l]);
}

// x_s may be x_t, and x_0_hat x_0_prev: every entry is read before it is written.
inline void update_patient(const Step& step, int64_t first, const float* __restrict clean, const float* __restrict z) {
  const Row row = step.row;
  for (int64_t c = 0; c < step.C; ++c) {
    const float* x_t = step.x_t + first + c * step.L;
    const float* x_0_prev = step.x_0_prev + first + c * step.L;
    float* x_s = step.x_s + first + c * step.L;
    const float* x_0 = clean + c * step.padded;
    const float* noise = z + c * step.padded;
    if (row.history > 0.0f && row.step_std != 0.0f) {
      HG3_INDEPENDENT
      for (int64_t l = 0; l < step.L; ++l) x_s[l] = updated(row, x_t[l], x_0[l], x_0_prev[l], noise[l]);
    } else if (row.history > 0.0f) {
      HG3_INDEPENDENT
      for (int64_t l = 0; l < step.L; ++l) x_s[l] = updated(row, x_t[l], x_0[l], x_0_prev[l], 0.0f);
    } else if (row.step_std != 0.0f) {
      HG3_INDEPENDENT
      for (int64_t l = 0; l < step.L; ++l) x_s[l] = updated(row, x_t[l], x_0[l], 0.0f, noise[l]);
    } else {
      HG3_INDEPENDENT
      for (int64_t l = 0; l < step.L; ++l) x_s[l] = updated(row, x_t[l], x_0[l], 0.0f, 0.0f);
    }
    if (step.x_0_hat) std::memcpy(step.x_0_hat + first + c * step.L, x_0, sizeof(float) * step.L);
  }
}

template <typename T>
inline void patients(const Step& step, int64_t begin, int64_t end, float* workspace) {
  float* clean = workspace;
  float* z = clean + step.C * step.padded;
  float* scratch = z + step.noise_size;
  for (int64_t b = begin; b < end; ++b) {
    const int64_t first = b * step.C * step.L;
    int32_t moved = 0, nonfinite = 0;
    gather(clean, static_cast<const T*>(step.raw) + b * step.raw_stride[0], step);
    for (int64_t c = 0; c < step.C; c += step.channels[c].head == LOGITS ? step.channels[c].width : 1) {
      const Channel& channel = step.channels[c];
      float* buffer = clean + c * step.padded;
      if (channel.head == LOGITS) {
        category_block(buffer, scratch, channel.width, step.padded, step.L, nonfinite);
      } else {
        const auto real = channel.head == V     ? real_channel<V>
                          : channel.head == EPS ? real_channel<EPS>
                                                : real_channel<X_0>;
        real(buffer, step.x_t + first + c * step.L, channel, step.row, step.L, moved, nonfinite);
      }
    }
    if (step.row.step_std != 0.0f)
      draw_normals(z, step.C * step.padded, draw_of(step.seed, step.stream[b], step.number, step.patient[b]));
    update_patient(step, first, clean, z);
    step.moved[b] = moved;
    step.nonfinite[b] = nonfinite;
  }
}

}  // namespace hg3::HG3_ISA
