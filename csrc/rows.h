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

// Some rows of out at a time: turned as vectors go, or in squares, so that both sides stay in the nearest cache.
template <class T> void walk_items(const Walk& w, Part part) {
  constexpr long kSide = 16;
  const long rows = w.n[2], cols = w.n[3], groups = ceil_div(rows, kSide);
  const Span s = share(w.n[0] * w.n[1] * groups, 1, part);
  for (long g = s.begin; g < s.end; ++g) {
    const long k = g / groups, top = g % groups * kSide, n = least(kSide, rows - top);
    T* out = reinterpret_cast<T*>(w.out) + (k * rows + top) * cols;
    const char* x = w.x + k / w.n[1] * w.step[0] + k % w.n[1] * w.step[1] + top * w.step[2];
    if (w.step[2] == w.item && w.step[3] % w.item == 0) {
      flip(out, cols, reinterpret_cast<const T*>(x), w.step[3] / w.item, n, cols);
      continue;
    }
    for (long j = 0; j < cols; j += kSide)
      for (long a = 0; a < n; ++a)
        for (long b = j; b < least(j + kSide, cols); ++b)
          out[a * cols + b] = *reinterpret_cast<const T*>(x + a * w.step[2] + b * w.step[3]);
  }
}

inline void walk(const Walk& w, Part part) {
  if (w.item == 4) walk_items<float>(w, part);  // whatever they are: vectors move bits
  else walk_items<double>(w, part);
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

// Which of kDrawn elements are kept, a byte each, in order: a vector of Philox blocks, of which each gives eight.
constexpr int kBlocks = kBytes / 8, kDrawn = 8 * kBlocks;

HD void draw(VecU64& block, const Draw& d, VecU16 least, unsigned char* kept) {
  const Words<VecU64> w = philox(block, d.seed, d.stream, d.step);
  block += static_cast<unsigned long long>(kBlocks);
  const VecU16 first = (VecU16)(w.w0 | w.w1 << 32), second = (VecU16)(w.w2 | w.w3 << 32);
  const VecU16 both = ((VecU16)(first >= least) & 1) | ((VecU16)(second >= least) & 256);
  __builtin_memcpy(kept, &both, sizeof both);
}

// A vector at a time, which is loaded before out is written: out may be x.
template <class T> HD void keep(T* out, const T* x, const unsigned char* kept, T scale) {
  Vec<T> v;
  __builtin_memcpy(&v, x, sizeof v);
  for (int i = 0; i < kLanes<T>; ++i) v[i] = kept[i] ? v[i] * scale : T(0);
  __builtin_memcpy(out, &v, sizeof v);
}

// some(first, kept) for kDrawn elements at a time, then one(i, kept) for each that is left.
template <class Some, class One> HD void each_drawn(const Draw& d, Part part, Some some, One one) {
  const Span s = share(d.n, 512, part);
  const VecU16 least = VecU16{} + least_kept(d.rate);
  unsigned char kept[kDrawn];
  VecU64 block;
  for (int i = 0; i < kBlocks; ++i) block[i] = static_cast<unsigned long long>(s.begin / 8 + i);
  long first = s.begin;
  for (; first + kDrawn <= s.end; first += kDrawn) {
    draw(block, d, least, kept);
    some(first, kept);
  }
  if (first == s.end) return;
  draw(block, d, least, kept);
  for (int i = 0; first + i < s.end; ++i) one(first + i, kept[i]);
}

template <class T> void dropout(const Dropout<T>& d, Part part) {
  const T scale = T(1 / (1 - d.draw.rate));
  each_drawn(
      d.draw, part,
      [&](long first, const unsigned char* kept) {
        for (int i = 0; i < kDrawn; i += kLanes<T>) keep(d.out + first + i, d.x + first + i, kept + i, scale);
      },
      [&](long i, bool kept) { d.out[i] = kept ? d.x[i] * scale : T(0); });
}

inline void dropout_keep(const DropoutKeep& d, Part part) {
  each_drawn(
      d.draw, part, [&](long first, const unsigned char* kept) { __builtin_memcpy(d.out + first, kept, kDrawn); },
      [&](long i, bool kept) { d.out[i] = kept; });
}

}  // namespace
}  // namespace gpunet
