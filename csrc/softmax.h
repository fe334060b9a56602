// Softmax along rows and the cross entropy that goes with it. Each row is read while it is in the cache.
#pragma once

#include "loops.h"

namespace gpunet {
namespace {

template <class T> HD T row_largest(const T* z, long cols) {
  Vec<T> top = -infinity<Vec<T>>();
  each_vector<T>(0, cols, [&](auto lanes, long j) {
    const Vec<T> v = lanes.load_or(-infinity<T>(), z + j);
    top = v > top ? v : top;
  });
  return largest(top);
}

// The sum of exp(z - top); with `out` the terms are kept there. A NaN that `top` has missed shows up in the sum.
template <class T> HD T row_exp_sum(const T* z, T top, long cols, T* out) {
  Vec<T> total{};
  each_vector<T>(0, cols, [&](auto lanes, long j) {
    const Vec<T> e = exp(lanes.load_or(-infinity<T>(), z + j) - top);
    if (out) lanes.store(out + j, e);
    total += e;
  });
  return sum(total);
}

template <class T> HD T row_sum(const T* z, long cols) {
  Vec<T> total{};
  each_vector<T>(0, cols, [&](auto lanes, long j) { total += lanes.load(z + j); });
  return sum(total);
}

template <class T> HD T log_of(T x) { return log(all<Vec<T>>(x))[0]; }

template <class T> void softmax(const Softmax<T>& s, Part part) {
  const Span rows = share(s.rows, 1, part);
  for (long i = rows.begin; i < rows.end; ++i) {
    const T* z = s.z + i * s.cols;
    T* out = s.out + i * s.cols;
    const T top = row_largest(z, s.cols), total = row_exp_sum(z, top, s.cols, s.log ? nullptr : out);
    if (s.log) {
      const T log_total = log_of(total);
      map(out, z, {0, s.cols}, [=](Vec<T> v) { return (v - top) - log_total; });
    } else {
      map(out, out, {0, s.cols}, [=](Vec<T> v) { return v / total; });
    }
  }
}

// Narrow rows, as logits often are, go by kLanes at a time and transposed: lane q of column[j] is element (q, j), and
// what a row needs of its columns is done lane by lane.
template <class T> struct Columns {
  Vec<T> column[kLanes<T>];
  long cols;

  HD Columns(const T* z, int rows, long n) : cols(n) {
    const First some{int(cols)};
#pragma GCC unroll 16
    for (int q = 0; q < kLanes<T>; ++q) column[q] = q < rows ? some.load(z + q * cols) : Vec<T>{};
    transpose<T>(column);
  }
  HD Vec<T> largest() const {
    Vec<T> top = column[0];
    for (long j = 1; j < cols; ++j) top = column[j] > top ? column[j] : top;
    return top;
  }
  HD Vec<T> mean() const {
    Vec<T> total = column[0];
    for (long j = 1; j < cols; ++j) total += column[j];
    return total / T(cols);
  }
  // Each element becomes exp(z - top); their sums.
  HD Vec<T> exp_sum(Vec<T> top) {
    Vec<T> total{};
    for (long j = 0; j < cols; ++j) total += column[j] = exp(column[j] - top);
    return total;
  }
  HD void store_rows(T* out, int rows) {
    const First some{int(cols)};
    transpose<T>(column);
#pragma GCC unroll 16
    for (int q = 0; q < kLanes<T>; ++q)
      if (q < rows) some.store(out + q * cols, column[q]);
  }
};

// f(row, how many) for each vector of rows.
template <class T, class F> HD void each_vector_of_rows(Span rows, F f) {
  for (long i = rows.begin; i < rows.end; i += kLanes<T>)
    f(i, int(rows.end - i < kLanes<T> ? rows.end - i : kLanes<T>));
}

// A row's exponentials, which lie in `out`, become g (softmax(z) - target distribution).
template <class T> void finish_slope(T* out, T g, T total, long target, long cols, T e) {
  const T floor = e / T(cols), one = out[target] / total;
  map(out, out, {0, cols}, [=](Vec<T> v) { return g * (v / total - floor); });
  out[target] = g * (one - floor - (1 - e));
}

template <class T> void finish_slope(Columns<T>& columns, const CrossEntropy<T>& c, Vec<T> total, long first, int n) {
  constexpr int L = kLanes<T>;
  const T e = T(c.smoothing), floor = e / T(c.cols);
  T target[L];
  for (int q = 0; q < L; ++q) target[q] = q < n ? T(c.target[first + q]) : T(-1);
  const Vec<T> g = c.g.one ? all<Vec<T>>(*c.g.data) : First{n}.load(c.g.data + first);
  const Vec<T> one = all<Vec<T>>(1 - e), each_target = load(target);
  for (long j = 0; j < c.cols; ++j)
    columns.column[j] =
        g * (columns.column[j] / total - floor - (each_target == all<Vec<T>>(T(j)) ? one : Vec<T>{}));
  columns.store_rows(c.slope + first * c.cols, n);
}

// The loss, lse - (1 - e) z[t] - e mean(z), and its gradient, g (softmax(z) - target distribution), which may lie over z;
// either or both. A vector of rows at a time, so that they share one logarithm. Each term of the loss is taken relative to
// the row's largest, so that large logits do not swallow it.
template <class T, bool kLoss, bool kSlope> void cross_entropy(const CrossEntropy<T>& c, Part part) {
  constexpr int L = kLanes<T>;
  const T e = T(c.smoothing);
  each_vector_of_rows<T>(share<T>(c.rows, part), [&](long first, int n) {
    T top[L], total[L], mean[L], right[L];
    const T* z = c.z + first * c.cols;
    if (kLoss)
      for (int q = 0; q < L; ++q) right[q] = q < n ? z[q * c.cols + c.target[first + q]] : T(0);
    if (c.cols <= L) {
      Columns<T> columns(z, n, c.cols);
      const Vec<T> largest = columns.largest();
      if (kLoss && e != 0) store(mean, columns.mean());
      const Vec<T> sum = columns.exp_sum(largest);
      store(top, largest), store(total, sum);
      if (kSlope) finish_slope(columns, c, sum, first, n);
    } else {
      for (int q = 0; q < L; ++q) top[q] = mean[q] = 0, total[q] = 1;
      for (int q = 0; q < n; ++q, z += c.cols) {
        T* slope = kSlope ? c.slope + (first + q) * c.cols : nullptr;
        if (kLoss && e != 0) mean[q] = row_sum(z, c.cols) / T(c.cols);
        top[q] = row_largest(z, c.cols), total[q] = row_exp_sum(z, top[q], c.cols, slope);
        if (kSlope) finish_slope(slope, c.g.data[c.g.one ? 0 : first + q], total[q], c.target[first + q], c.cols, e);
      }
    }
    if (!kLoss) return;
    Vec<T> loss = log(load(total)) + (1 - e) * (load(top) - load(right));
    if (e != 0) loss += e * (load(top) - load(mean));
    if (n == L) store(c.loss + first, loss);
    else store_first(c.loss + first, loss, n);
  });
}

}  // namespace
}  // namespace gpunet
