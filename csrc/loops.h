// Loops over flat vectors: activations, their slopes, plain formulas. The maths comes in, the loop is written once.
#pragma once

#include <type_traits>

#include "activations.h"
#include "kernels.h"
#include "vec.h"

namespace gpunet {
namespace {

// A product holds a tile of C in registers: so many rows, so many vectors wide.
#if defined(__AVX512F__)
constexpr int kTileRows = 8, kTileVectors = 3;  // 24 of 32 registers
#else
constexpr int kTileRows = 6, kTileVectors = 2;  // 12 of 16
#endif

struct Span { long begin, end; };

// The share of n things of one part, in whole units of `unit`, as even as can be.
inline Span share(long n, long unit, Part part) {
  const long units = (n + unit - 1) / unit;
  const long begin = units * part.index / part.count * unit, end = units * (part.index + 1) / part.count * unit;
  return {begin < n ? begin : n, end < n ? end : n};
}

// The share of n numbers, in cache lines.
template <class T> Span share(long n, Part part) { return share(n, 64 / long(sizeof(T)), part); }

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

template <class T, class A> void slope_times(const ActivationVjp<T>& a, Part part) {
  const Span s = share<T>(a.n, part);
  each_vector<T>(s.begin, s.end, [&](auto lanes, long i) {
    lanes.store(a.out + i, lanes.load(a.g + i) * A::slope(lanes.load(a.saved + i), a.alpha));
  });
}

#define GPUNET_ROW(name) slope_times<T, act::name>,
template <class T> constexpr Kernel<ActivationVjp<T>> kSlopeTimes[] = {GPUNET_ACTIVATIONS(GPUNET_ROW)};
#undef GPUNET_ROW

template <class T> void activation_vjp(const ActivationVjp<T>& a, Part part) { kSlopeTimes<T>[a.act](a, part); }

inline long least(long a, long b) { return a < b ? a : b; }
inline long ceil_div(long a, long b) { return (a + b - 1) / b; }

// f(first, n): n things in as few groups of at most `most` as can be, as even as can be.
template <class F> HD void each_group(long n, long most, F f) {
  const long count = ceil_div(n, most), rest = count ? n % count : 0;
  for (long i = 0, first = 0, size; i < count; ++i, first += size) f(first, size = n / count + (i < rest));
}

// dz = g act'(saved), and the sums of its columns are added to db, on a tile of rows.
template <class T> struct Slopes { T *dz, *db; const T *g, *saved; long row, rows, cols; T alpha; };
template <class T> using SlopeKernel = void (*)(const Slopes<T>&);

template <class T, class A> void slopes(const Slopes<T>& s) {
  const bool stores = !std::is_same_v<A, act::identity> || s.dz != s.g;  // else it is there already
  each_vector<T>(0, s.cols, [&](auto lanes, long j) {
    Vec<T> total{};
    for (long i = j; i < s.rows * s.row; i += s.row) {
      const Vec<T> d = lanes.load(s.g + i) * A::slope(lanes.load(s.saved + i), s.alpha);
      if (stores) lanes.store(s.dz + i, d);
      total += d;
    }
    lanes.store(s.db + j, lanes.load(s.db + j) + total);
  });
}

#define GPUNET_ROW(name) slopes<T, act::name>,
template <class T> constexpr SlopeKernel<T> kSlopes[] = {GPUNET_ACTIVATIONS(GPUNET_ROW)};
#undef GPUNET_ROW

template <class T> void set_zero(T* out, long n) {
  each_vector<T>(0, n, [=](auto lanes, long j) { lanes.store(out + j, Vec<T>{}); });
}

// Rows go in blocks, and a block in tiles as a product makes them: the sums of columns have one order, whether a product
// adds them up or linear_vjp. Partial sums by tile also keep float32 from losing digits.
constexpr long kRowBlock = 128;
template <class F> HD void each_tile(long rows, F f) {
  for (long top = 0; top < rows; top += kRowBlock)
    each_group(least(kRowBlock, rows - top), kTileRows, [&](long first, long n) { f(top + first, n); });
}

// Each part owns columns.
template <class T> void linear_vjp(const LinearVjp<T>& a, Part part) {
  const bool by_matrix = a.count >= part.count;
  const Span matrices = by_matrix ? share(a.count, 1, part) : Span{0, a.count};
  const Span cols = by_matrix ? Span{0, a.cols} : share<T>(a.cols, part);
  for (long i = matrices.begin; i < matrices.end; ++i) {
    T* db = a.db + i * a.cols + cols.begin;
    set_zero(db, cols.end - cols.begin);
    each_tile(a.rows, [&](long first, long rows) {
      const long at = (i * a.rows + first) * a.cols + cols.begin;
      kSlopes<T>[a.act]({a.dz + at, db, a.g + at, a.saved + at, a.cols, rows, cols.end - cols.begin, a.alpha});
    });
  }
}

}  // namespace
}  // namespace gpunet
