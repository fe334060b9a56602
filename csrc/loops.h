// Loops over flat vectors: activations, their slopes, plain formulas. The maths comes in, the loop is written once.
#pragma once

#include <type_traits>

#include "activations.h"
#include "kernels.h"
#include "vec.h"

namespace gpunet {
namespace {

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

// One matrix of linear_vjp. Each part owns columns; partial sums of kRows rows keep float32 from losing digits.
template <class T, class A> void slope_and_sum(const LinearVjp<T>& a, long matrix, Span cols) {
  constexpr long kRows = 128;
  T *dz = a.dz + matrix * a.rows * a.cols, *db = a.db + matrix * a.cols;
  const T *g = a.g + matrix * a.rows * a.cols, *saved = a.saved + matrix * a.rows * a.cols;
  const bool stores = !std::is_same_v<A, act::identity> || dz != g;  // else it is there already
  each_vector<T>(cols.begin, cols.end, [&](auto lanes, long j) { lanes.store(db + j, Vec<T>{}); });
  for (long top = 0; top < a.rows; top += kRows) {
    const long bottom = top + kRows < a.rows ? top + kRows : a.rows;
    each_vector<T>(cols.begin, cols.end, [&](auto lanes, long j) {
      Vec<T> total{};
      for (long i = top * a.cols + j; i < bottom * a.cols; i += a.cols) {
        const Vec<T> d = lanes.load(g + i) * A::slope(lanes.load(saved + i), a.alpha);
        if (stores) lanes.store(dz + i, d);
        total += d;
      }
      lanes.store(db + j, lanes.load(db + j) + total);
    });
  }
}

template <class T> using SlopeAndSum = void (*)(const LinearVjp<T>&, long, Span);
#define GPUNET_ROW(name) slope_and_sum<T, act::name>,
template <class T> constexpr SlopeAndSum<T> kSlopeAndSum[] = {GPUNET_ACTIVATIONS(GPUNET_ROW)};
#undef GPUNET_ROW

template <class T> void linear_vjp(const LinearVjp<T>& a, Part part) {
  const bool by_matrix = a.count >= part.count;
  const Span matrices = by_matrix ? share(a.count, 1, part) : Span{0, a.count};
  const Span cols = by_matrix ? Span{0, a.cols} : share<T>(a.cols, part);
  for (long i = matrices.begin; i < matrices.end; ++i) kSlopeAndSum<T>[a.act](a, i, cols);
}

}  // namespace
}  // namespace gpunet
