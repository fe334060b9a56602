// Sums, means, extremes and their places over some neighbouring axes. The order is fixed, whatever the number of threads.
#pragma once

#include "joins.h"
#include "loops.h"

namespace gpunet {
namespace {

constexpr long kFolded = 128;  // vectors or rows that are joined before they meet the rest: float32 keeps its digits

// n neighbours: four vectors at a time, which do not wait for each other.
template <class T, class F> HD T fold_block(const T* x, long n) {
  constexpr int L = kLanes<T>;
  Vec<T> a = all<Vec<T>>(F::template start<T>()), b = a, c = a, d = a;
  long i = 0;
  for (; i + 4 * L <= n; i += 4 * L) {
    a = F::join(a, load(x + i)), b = F::join(b, load(x + i + L));
    c = F::join(c, load(x + i + 2 * L)), d = F::join(d, load(x + i + 3 * L));
  }
  each_vector<T>(i, n, [&](auto lanes, long j) { a = F::join(a, lanes.load_or(F::template start<T>(), x + j)); });
  return across<T>(F::join(F::join(a, b), F::join(c, d)), [](T p, T q) { return F::join(p, q); });
}

template <class T, class F> HD T fold_row(const T* x, long n) {
  constexpr long kBlock = kFolded * kLanes<T>;
  T total = F::template start<T>();
  for (long i = 0; i < n; i += kBlock) total = F::join(total, fold_block<T, F>(x + i, n - i < kBlock ? n - i : kBlock));
  return total;
}

// n rows of `after` columns onto the columns [cols): several vectors of them at a time, which do not wait for each other.
template <class T, class F, int vectors, class Lanes>
HD void fold_some(T* out, const T* x, long n, long after, Lanes lanes) {
  const auto start = all<Vec<T>>(F::template start<T>());
  Vec<T> total[vectors], block[vectors];
  for (Vec<T>& v : total) v = start;
  for (long top = 0; top < n; top += kFolded) {
    for (Vec<T>& v : block) v = start;
    for (const T *row = x + top * after, *end = x + least(top + kFolded, n) * after; row < end; row += after)
#pragma GCC unroll 4
      for (int q = 0; q < vectors; ++q) block[q] = F::join(block[q], lanes.load(row + q * kLanes<T>));
#pragma GCC unroll 4
    for (int q = 0; q < vectors; ++q) total[q] = F::join(total[q], block[q]);
  }
#pragma GCC unroll 4
  for (int q = 0; q < vectors; ++q) lanes.store(out + q * kLanes<T>, total[q]);
}

template <class T, class F> HD void fold_columns(T* out, const T* x, long n, long after, Span cols) {
  constexpr long kSome = 4 * kLanes<T>;
  long j = cols.begin;
  for (; j + kSome <= cols.end; j += kSome) fold_some<T, F, 4>(out + j, x + j, n, after, Whole{});
  each_vector<T>(j, cols.end, [&](auto lanes, long i) { fold_some<T, F, 1>(out + i, x + i, n, after, lanes); });
}

template <class T, class F> void reduce(const Reduce<T>& r, Part part) {
  const bool by_row = r.after == 1 || r.before >= part.count;
  const Span rows = by_row ? share(r.before, 1, part) : Span{0, r.before};
  const Span cols = by_row ? Span{0, r.after} : share<T>(r.after, part);
  for (long i = rows.begin; i < rows.end; ++i) {
    const T* x = r.x + i * r.n * r.after;
    T* out = r.out + i * r.after;
    if (r.after == 1) *out = fold_row<T, F>(x, r.n);
    else fold_columns<T, F>(out, x, r.n, r.after, cols);
    if (r.divisor != 1) map(out, out, cols, [&](Vec<T> v) { return v / r.divisor; });
  }
}

template <class T> void argmax(const ArgMax<T>& a, Part part) {
  const Span s = share(a.before * a.after, 8, part);
  for (long at = s.begin; at < s.end; ++at) {
    const T* x = a.x + at / a.after * a.n * a.after + at % a.after;
    long best = 0;
    for (long i = 1; i < a.n; ++i) {
      const T here = x[i * a.after], top = x[best * a.after];
      if ((here > top) | ((here != here) & (top == top))) best = i;
    }
    a.out[at] = best;
  }
}

struct Zeros {  // x * 0 is 0 where x is finite, and NaN elsewhere
  template <class T> static T start() { return T(0); }
  template <class V> static HD V join(V a, V b) { return fma(b, V{}, a); }
};

template <class T> void finite(const Finite<T>& f, Part part) {
  const Span s = share<T>(f.n, part);
  if (fold_row<T, Zeros>(f.x + s.begin, s.end - s.begin) != 0) __atomic_store_n(f.fine, false, __ATOMIC_RELAXED);
}

}  // namespace
}  // namespace gpunet
