// Rows picked, copied, added up and dropped: gather, pick, one_hot, copy, scatter_add, dropout.
#pragma once

#include "loops.h"
#include "philox.h"

namespace gpunet {
namespace {

// A long row goes by whole vectors, the last of which lies over the one before: memcpy is slow where x is not aligned.
// Which row comes next no processor can guess, so it is asked for meanwhile.
HD void copy_row(char* out, const char* x, long bytes, const char* next) {
  if (bytes < kBytes) {
    __builtin_memcpy(out, x, static_cast<unsigned long>(bytes));
    return;
  }
  for (long i = 0; i < bytes - kBytes; i += kBytes) {
    __builtin_memcpy(out + i, x + i, kBytes);
    __builtin_prefetch(next + i);
  }
  __builtin_memcpy(out + bytes - kBytes, x + bytes - kBytes, kBytes);
}

// Rows of a length known to the compiler are copied without a call.
template <int known> HD void gather_rows(const Gather& g, Span s) {
  const long bytes = known ? known : g.row_bytes, ahead = 1 + 2048 / (bytes + 1);
  for (long i = s.begin; i < s.end; ++i)
    copy_row(g.out + i * bytes, g.x + g.rows[i] * bytes, bytes,
             g.x + g.rows[i + ahead < s.end ? i + ahead : i] * bytes);
}

inline void gather(const Gather& g, Part part) {
  const Span s = share(g.n, 1, part);
  if (g.row_bytes == 4) gather_rows<4>(g, s);
  else if (g.row_bytes == 8) gather_rows<8>(g, s);
  else gather_rows<0>(g, s);
}

inline void gather_two(const GatherTwo& g, Part part) { gather(g.first, part), gather(g.second, part); }

inline void pick(const Pick& p, Part part) {
  const Span s = share(p.rows, 64, part);
  for (long i = s.begin; i < s.end; ++i)
    __builtin_memcpy(p.out + i * p.item, p.x + (i * p.cols + p.columns[i]) * p.item,
                     static_cast<unsigned long>(p.item));
}

template <class T> void one_hot(const OneHot<T>& h, Part part) {
  const Span s = share(h.rows, 64, part);
  each_vector<T>(s.begin * h.cols, s.end * h.cols, [&](auto lanes, long j) { lanes.store(h.out + j, Vec<T>{}); });
  for (long i = s.begin; i < s.end; ++i) h.out[i * h.cols + h.columns[i]] = T(1);
}

inline void copy(const Copy& c, Part part) {
  const bool by_row = c.rows >= part.count;
  const Span rows = by_row ? share(c.rows, 1, part) : Span{0, c.rows};
  const Span bytes = by_row ? Span{0, c.bytes} : share(c.bytes, 64, part);
  for (long i = rows.begin; i < rows.end; ++i)
    __builtin_memcpy(c.out + i * c.out_row + bytes.begin, c.x + i * c.x_row + bytes.begin,
                     static_cast<unsigned long>(bytes.end - bytes.begin));
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
