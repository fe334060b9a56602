// Layer norm, row by row, and batch norm, column by column, forward and back. A row is read while it is in the cache, and
// so are some neighbouring columns.
#pragma once

#include "reduce.h"

namespace gpunet {
namespace {

// Sums along a row of what add(sums, lanes, j) adds: four vectors at a time, which do not wait for each other.
template <class T, int n> struct RowSums { T at[n]; };
template <class T, int n, class F> HD RowSums<T, n> row_sums(long cols, F add) {
  constexpr int L = kLanes<T>;
  Vec<T> some[4][n] = {};
  long j = 0;
  for (; j + 4 * L <= cols; j += 4 * L)
#pragma GCC unroll 4
    for (int q = 0; q < 4; ++q) add(some[q], Whole{}, j + q * L);
  each_vector<T>(j, cols, [&](auto lanes, long i) { add(some[0], lanes, i); });
  RowSums<T, n> found;
#pragma GCC unroll 2
  for (int k = 0; k < n; ++k) found.at[k] = sum((some[0][k] + some[1][k]) + (some[2][k] + some[3][k]));
  return found;
}

template <class T> void layer_norm(const LayerNorm<T>& s, Part part) {
  const Span rows = share(s.rows, 1, part);
  for (long i = rows.begin; i < rows.end; ++i) {
    const T* x = s.x + i * s.cols;
    const T mean = row_sums<T, 1>(s.cols, [=](auto& total, auto lanes, long j) { total[0] += lanes.load(x + j); }).at[0] / T(s.cols);
    const T squares = row_sums<T, 1>(s.cols, [=](auto& total, auto lanes, long j) {
      const Vec<T> centred = lanes.load_or(mean, x + j) - mean;
      total[0] += centred * centred;
    }).at[0];
    const T scale = 1 / root(squares / T(s.cols) + T(s.eps));
    each_vector<T>(0, s.cols, [=, out = s.out + i * s.cols](auto lanes, long j) {
      lanes.store(out + j, (lanes.load(x + j) - mean) * scale * lanes.load(s.gamma + j) + lanes.load(s.beta + j));
    });
    s.mean[i] = mean, s.scale[i] = scale;
  }
}

// dx = scale (h - mean(h) - normal mean(h normal)), with h = g gamma and normal = (x - mean) scale; out may be g.
template <class T> void layer_norm_dx(const LayerNormDx<T>& s, Part part) {
  const Span rows = share(s.rows, 1, part);
  for (long i = rows.begin; i < rows.end; ++i) {
    const T *g = s.g + i * s.cols, *x = s.x + i * s.cols, mean = s.mean[i], scale = s.scale[i];
    const auto sums = row_sums<T, 2>(s.cols, [=](auto& total, auto lanes, long j) {
      const Vec<T> h = lanes.load(g + j) * lanes.load(s.gamma + j);
      total[0] += h, total[1] += h * ((lanes.load(x + j) - mean) * scale);
    });
    const T level = sums.at[0] / T(s.cols), slope = sums.at[1] / T(s.cols);
    each_vector<T>(0, s.cols, [=, out = s.out + i * s.cols](auto lanes, long j) {
      const Vec<T> h = lanes.load(g + j) * lanes.load(s.gamma + j), normal = (lanes.load(x + j) - mean) * scale;
      lanes.store(out + j, scale * ((h - level) - normal * slope));
    });
  }
}

// f(number of vectors, lanes, j): some vectors of neighbouring columns at a time, which do not wait for each other.
template <int n> struct Vectors { static constexpr int count = n; };
template <class T, class F> HD void each_columns(Span cols, F f) {
  constexpr long kSome = 4 * kLanes<T>;
  long j = cols.begin;
  for (; j + kSome <= cols.end; j += kSome) f(Vectors<4>{}, Whole{}, j);
  each_vector<T>(j, cols.end, [&](auto lanes, long i) { f(Vectors<1>{}, lanes, i); });
}

// Adds to `total` what add(sums, i, q) adds for vector q of row i, kFolded rows at a time.
template <class T, int vectors, int n, class F> HD void column_sums(Vec<T> (&total)[vectors][n], long rows, F add) {
  for (long top = 0; top < rows; top += kFolded) {
    Vec<T> block[vectors][n] = {};
    for (long i = top, end = least(top + kFolded, rows); i < end; ++i)
#pragma GCC unroll 4
      for (int q = 0; q < vectors; ++q) add(block[q], i, q);
#pragma GCC unroll 4
    for (int q = 0; q < vectors; ++q)
#pragma GCC unroll 2
      for (int k = 0; k < n; ++k) total[q][k] += block[q][k];
  }
}

template <class T> void layer_norm_dw(const LayerNormDw<T>& s, Part part) {
  each_columns<T>(share<T>(s.cols, part), [&](auto vectors, auto lanes, long first) {
    Vec<T> total[vectors.count][2] = {};
    column_sums<T>(total, s.rows, [=](auto& sums, long i, int q) {
      const long at = i * s.cols + first + q * kLanes<T>;
      const Vec<T> g = lanes.load(s.g + at);
      sums[0] += g * ((lanes.load(s.x + at) - s.mean[i]) * s.scale[i]), sums[1] += g;
    });
#pragma GCC unroll 4
    for (int q = 0; q < vectors.count; ++q) {
      const long j = first + q * kLanes<T>;
      lanes.store(s.dgamma + j, total[q][0]), lanes.store(s.dbeta + j, total[q][1]);
    }
  });
}

// The same down the columns.
template <class T> void batch_norm(const BatchNorm<T>& s, Part part) {
  each_columns<T>(share<T>(s.cols, part), [&](auto vectors, auto lanes, long first) {
    constexpr int n = vectors.count, L = kLanes<T>;
    Vec<T> mean[n][1] = {}, var[n][1] = {}, scale[n], beta[n];
    column_sums<T>(mean, s.rows, [=](auto& sums, long i, int q) { sums[0] += lanes.load(s.x + i * s.cols + first + q * L); });
#pragma GCC unroll 4
    for (int q = 0; q < n; ++q) mean[q][0] /= T(s.rows);
    column_sums<T>(var, s.rows, [&](auto& sums, long i, int q) {
      const Vec<T> centred = lanes.load(s.x + i * s.cols + first + q * L) - mean[q][0];
      sums[0] += centred * centred;
    });
#pragma GCC unroll 4
    for (int q = 0; q < n; ++q) {
      const long j = first + q * L;
      var[q][0] /= T(s.rows);
      lanes.store(s.mean + j, mean[q][0]), lanes.store(s.var + j, var[q][0]);
      scale[q] = lanes.load(s.gamma + j) / root(var[q][0] + T(s.eps)), beta[q] = lanes.load(s.beta + j);
    }
    for (long i = 0; i < s.rows; ++i)
#pragma GCC unroll 4
      for (int q = 0; q < n; ++q) {
        const long at = i * s.cols + first + q * L;
        lanes.store(s.out + at, (lanes.load(s.x + at) - mean[q][0]) * scale[q] + beta[q]);
      }
  });
}

// dx = gamma scale (g - mean(g) - normal mean(g normal)), which may lie over g; and the gradients of gamma and beta.
template <class T> void batch_norm_vjp(const BatchNormVjp<T>& s, Part part) {
  each_columns<T>(share<T>(s.cols, part), [&](auto vectors, auto lanes, long first) {
    constexpr int n = vectors.count, L = kLanes<T>;
    Vec<T> mean[n], scale[n], total[n][2] = {};
#pragma GCC unroll 4
    for (int q = 0; q < n; ++q) {
      const long j = first + q * L;
      mean[q] = lanes.load(s.mean + j), scale[q] = T(1) / root(lanes.load(s.var + j) + T(s.eps));
    }
    column_sums<T>(total, s.rows, [&](auto& sums, long i, int q) {
      const long at = i * s.cols + first + q * L;
      const Vec<T> g = lanes.load(s.g + at);
      sums[0] += g * ((lanes.load(s.x + at) - mean[q]) * scale[q]), sums[1] += g;
    });
    Vec<T> steep[n], level[n], slope[n];
#pragma GCC unroll 4
    for (int q = 0; q < n; ++q) {
      const long j = first + q * L;
      lanes.store(s.dgamma + j, total[q][0]), lanes.store(s.dbeta + j, total[q][1]);
      steep[q] = lanes.load(s.gamma + j) * scale[q];
      slope[q] = scale[q] * (total[q][0] / T(s.rows)), level[q] = total[q][1] / T(s.rows);
    }
    for (long i = 0; i < s.rows; ++i)
#pragma GCC unroll 4
      for (int q = 0; q < n; ++q) {
        const long at = i * s.cols + first + q * L;
        lanes.store(s.dx + at, steep[q] * ((lanes.load(s.g + at) - level[q]) - (lanes.load(s.x + at) - mean[q]) * slope[q]));
      }
  });
}

}  // namespace
}  // namespace gpunet
