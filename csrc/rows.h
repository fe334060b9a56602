// Rows picked, added up and dropped: gather, scatter_add, dropout.
#pragma once

#include "loops.h"
#include "philox.h"

namespace gpunet {
namespace {

inline void gather(const Gather& g, Part part) {
  const Span s = share(g.n, 1, part);
  for (long i = s.begin; i < s.end; ++i)
    __builtin_memcpy(g.out + i * g.row_bytes, g.x + g.rows[i] * g.row_bytes, static_cast<unsigned long>(g.row_bytes));
}

// Each part owns columns and adds the rows in their order, so there is nothing to race for.
template <class T> void scatter_add(const ScatterAdd<T>& a, Part part) {
  const Span s = share<T>(a.width, part);
  for (long i = 0; i < a.length; ++i)
    each_vector<T>(s.begin, s.end, [&](auto lanes, long j) { lanes.store(a.out + i * a.width + j, Vec<T>{}); });
  for (long i = 0; i < a.n; ++i) {
    T* out = a.out + a.rows[i] * a.width;
    const T* g = a.g + i * a.width;
    each_vector<T>(s.begin, s.end, [&](auto lanes, long j) {
      lanes.store(out + j, lanes.load(out + j) + lanes.load(g + j));
    });
  }
}

// The uniform numbers of kUniforms<> elements, from one vector of Philox blocks; (word >> 8) 2^-24 as in rng.py.
constexpr int kBlocks = kBytes / 8, kUniforms = 4 * kBlocks;
HD void uniforms(long first, unsigned long long seed, unsigned stream, unsigned step, float* u) {
  VecU64 block;
  for (int i = 0; i < kBlocks; ++i) block[i] = static_cast<unsigned long long>(first / 4 + i);
  const Words<VecU64> w = philox(block, seed, stream, step);
  for (int i = 0; i < kBlocks; ++i) {
    u[4 * i] = float(int(w.w0[i] >> 8)) * 0x1p-24f;
    u[4 * i + 1] = float(int(w.w1[i] >> 8)) * 0x1p-24f;
    u[4 * i + 2] = float(int(w.w2[i] >> 8)) * 0x1p-24f;
    u[4 * i + 3] = float(int(w.w3[i] >> 8)) * 0x1p-24f;
  }
}

template <class T> void dropout(const Dropout<T>& d, Part part) {
  const Span s = share(d.n, 256, part);
  const float rate = float(d.rate);
  const T scale = T(1 / (1 - d.rate));
  for (long first = s.begin; first < s.end; first += kUniforms) {
    float u[kUniforms];
    uniforms(first, d.seed, d.stream, d.step, u);
    const long n = s.end - first < kUniforms ? s.end - first : kUniforms;
    for (long i = 0; i < n; ++i) d.out[first + i] = u[i] >= rate ? d.x[first + i] * scale : T(0);
  }
}

}  // namespace
}  // namespace gpunet
