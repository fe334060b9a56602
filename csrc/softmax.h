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

// lse - (1 - e) z[t] - e mean(z), a vector of rows at a time so that they share one logarithm. Each term is taken
// relative to the row's largest, so that large logits do not swallow the loss.
template <class T> void cross_entropy(const CrossEntropy<T>& c, Part part) {
  constexpr int L = kLanes<T>;
  const Span rows = share<T>(c.rows, part);
  const T e = T(c.smoothing);
  for (long first = rows.begin; first < rows.end; first += L) {
    T total[L], rest[L];
    const int n = int(rows.end - first < L ? rows.end - first : L);
    for (int q = 0; q < L; ++q) total[q] = 1, rest[q] = 0;
    for (int q = 0; q < n; ++q) {
      const T* z = c.z + (first + q) * c.cols;
      const T top = row_largest(z, c.cols);
      total[q] = row_exp_sum<T>(z, top, c.cols, nullptr);
      rest[q] = (1 - e) * (top - z[c.target[first + q]]);
      if (e != 0) rest[q] += e * (top - row_sum(z, c.cols) / T(c.cols));
    }
    const Vec<T> loss = log(load(total)) + load(rest);
    if (n == L) store(c.out + first, loss);
    else store_first(c.out + first, loss, n);
  }
}

// g (softmax(z) - target distribution); out may be z.
template <class T> void cross_entropy_vjp(const CrossEntropy<T>& c, Part part) {
  const Span rows = share(c.rows, 1, part);
  const T e = T(c.smoothing), floor = e / T(c.cols);
  for (long i = rows.begin; i < rows.end; ++i) {
    const T* z = c.z + i * c.cols;
    T* out = c.out + i * c.cols;
    const T g = c.g[i], total = row_exp_sum(z, row_largest(z, c.cols), c.cols, out);
    const T one = out[c.target[i]] / total;
    map(out, out, {0, c.cols}, [=](Vec<T> v) { return g * (v / total - floor); });
    out[c.target[i]] = g * (one - floor - (1 - e));
  }
}

}  // namespace
}  // namespace gpunet
