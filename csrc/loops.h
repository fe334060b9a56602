// Loops over flat vectors: activations, their slopes, plain formulas. The maths comes in, the loop is written once.
#pragma once

#include <type_traits>

#include "activations.h"
#include "kernels.h"
#include "vec.h"

namespace gpunet {
namespace {

inline long least(long a, long b) { return a < b ? a : b; }
inline long ceil_div(long a, long b) { return (a + b - 1) / b; }

struct Span { long begin, end; };
inline long length(Span s) { return s.end - s.begin; }

// The share of n things of one part, in whole units of `unit`, as even as can be.
inline Span share(long n, long unit, Part part) {
  if (part.count == 1) return {0, n};
  const long units = (n + unit - 1) / unit;
  const long begin = units * part.index / part.count * unit, end = units * (part.index + 1) / part.count * unit;
  return {begin < n ? begin : n, end < n ? end : n};
}

// The share of n numbers, in cache lines.
template <class T> constexpr long kLine = 64 / long(sizeof(T));
template <class T> Span share(long n, Part part) { return share(n, kLine<T>, part); }

// f(first, size, count) for each size, or f(first, size) for each group: n things in as few groups of at most `most` as can
// be, as even as can be.
template <class F> HD void each_run(long n, long most, F f) {
  const long count = ceil_div(n, most);
  const long each = count > 1 ? n / count : n, rest = count > 1 ? n % count : 0;  // a division takes as long as a small tile
  if (rest) f(0, each + 1, rest);
  if (count) f(rest * (each + 1), each, count - rest);
}
template <class F> HD void each_group(long n, long most, F f) {
  each_run(n, most, [&](long first, long size, long count) {
    for (; count > 0; --count, first += size) f(first, size);
  });
}

// out[i][j] = x[j][i] for i < m, j < n, in square blocks of one vector; rows stand so far apart. With padding, rows of out
// are whole vectors.
enum class Padding { none, zeros };
template <Padding padding = Padding::none, class T>
void flip(T* out, long out_row, const T* x, long x_row, long m, long n) {
  constexpr int L = kLanes<T>;
  for (long j = 0; j < n; j += L)
    for (long i = 0; i < m; i += L) {
      Vec<T> square[L];
      const int columns = int(least(L, n - j)), rows = int(least(L, m - i));
#pragma GCC unroll 16
      for (int q = 0; q < L; ++q) {
        const T* p = x + (j + q) * x_row + i;
        square[q] = q >= columns ? Vec<T>{} : rows == L ? load(p) : load_first(p, rows);
      }
      transpose<T>(square);
#pragma GCC unroll 16
      for (int q = 0; q < L; ++q) {
        if (q >= rows) continue;
        if (padding == Padding::zeros || columns == L) store(out + (i + q) * out_row + j, square[q]);
        else store_first(out + (i + q) * out_row + j, square[q], columns);
      }
    }
}

template <class T, class F> HD void map(T* out, const T* x, Span s, F f) {
  each_vector<T>(s.begin, s.end, [=](auto lanes, long i) { lanes.store(out + i, f(lanes.load(x + i))); });
}

// out = act(z) on a block of rows; the epilogue of a product is this on a tile that is still in the cache.
template <class T> struct Block { T* out; const T* z; long row, rows, cols; T alpha; };
template <class T> using BlockKernel = void (*)(const Block<T>&);

template <class T, class A> void activate(const Block<T>& b) {
  for (long r = 0; r < b.rows; ++r)
    map(b.out + r * b.row, b.z + r * b.row, {0, b.cols}, [&](Vec<T> x) { return A::value(x, b.alpha); });
}

#define GPUNET_ROW(name) activate<T, act::name>,
template <class T> constexpr BlockKernel<T> kActivate[] = {GPUNET_ACTIVATIONS(GPUNET_ROW)};
#undef GPUNET_ROW
constexpr int kIdentity = 0, kRelu = 1;  // their places in the table

template <class T> void activation(const Activation<T>& a, Part part) {
  const Span s = share<T>(a.n, part);
  kActivate<T>[a.act]({a.out + s.begin, a.x + s.begin, 0, 1, s.end - s.begin, a.alpha});
}

// out = g act'(saved) on a block of rows; out may be g, and then the identity has nothing to do.
template <class T> struct Slopes { T* out; const T *g, *saved; long row, rows, cols; T alpha; };
template <class T> using SlopeKernel = void (*)(const Slopes<T>&);

template <class T, class A> void slope_times(const Slopes<T>& s) {
  if (std::is_same_v<A, act::identity> && s.out == s.g) return;
  for (long r = 0; r < s.rows; ++r)
    each_vector<T>(r * s.row, r * s.row + s.cols, [&](auto lanes, long i) {
      lanes.store(s.out + i, lanes.load(s.g + i) * A::slope(lanes.load(s.saved + i), s.alpha));
    });
}

#define GPUNET_ROW(name) slope_times<T, act::name>,
template <class T> constexpr SlopeKernel<T> kSlopeTimes[] = {GPUNET_ACTIVATIONS(GPUNET_ROW)};
#undef GPUNET_ROW

template <class T> void activation_vjp(const ActivationVjp<T>& a, Part part) {
  const Span s = share<T>(a.n, part);
  kSlopeTimes<T>[a.act]({a.out + s.begin, a.g + s.begin, a.saved + s.begin, 0, 1, s.end - s.begin, a.alpha});
}

}  // namespace
}  // namespace gpunet
