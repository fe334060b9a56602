// Each column of a table through a small net of its own, forward and back: what lies between x and the net's results, m
// numbers for each of x, is made anew where it is wanted and never an array. Rows of the table stand side by side in the
// vectors.
#pragma once

#include "column_acts.h"
#include "loops.h"

namespace gpunet {
namespace {

constexpr long kSomeRows = 256, kSomeMade = 64;  // rows of the table, and results for each, that are in hand
template <class T> constexpr long kInHand = kSomeRows * kSomeMade;

// f(rows, columns): the part's share of the table in pieces; by rows where there are enough of them.
template <class F> void each_piece(long n, long k, long w, Part part, F f) {
  const bool by_rows = ceil_div(n, kSomeRows) >= part.count;
  const Span rows = by_rows ? share(n, kSomeRows, part) : Span{0, n}, cols = by_rows ? Span{0, k} : share(k, 1, part);
  for (long left = cols.begin, some = kSomeMade / w; left < cols.end; left += some)
    for (long top = rows.begin; top < rows.end; top += kSomeRows)
      f(Span{top, least(top + kSomeRows, rows.end)}, Span{left, least(left + some, cols.end)});
}

template <class T, class Act> void column_nets(const ColumnNets<T>& c, Part part) {
  constexpr int L = kLanes<T>;
  const long w = c.w;
  T* const columns = static_cast<T*>(scratch(2 * kInHand<T> * sizeof(T)));
  T* const made = columns + kInHand<T>;
  each_piece(c.n, c.k, w, part, [&](Span rows, Span cols) {
    const long n = length(rows), k = length(cols);
    flip<Padding::zeros>(columns, kSomeRows, c.x + rows.begin * c.k + cols.begin, c.k, k, n);
    for (long j = 0; j < k; ++j) {
      const T *x = columns + j * kSomeRows, *bias = c.bias + (cols.begin + j) * w;
      T* const out = made + j * w * kSomeRows;
      for (long q = 0; q < w; ++q)
        for (long r = 0; r < n; r += L) store(out + q * kSomeRows + r, all<Vec<T>>(bias[q]));
      for (long i = (cols.begin + j) * c.m, end = i + c.m; i < end; ++i) {
        const Vec<T> slope = all<Vec<T>>(c.slope[i]), start = all<Vec<T>>(c.start[i]);
        const T* weight = c.weight + i * w;
        for (long r = 0; r < n; r += L) {
          const Vec<T> f = Act::value(fma(load(x + r), slope, start));
          for (long q = 0; q < w; ++q) {
            T* const to = out + q * kSomeRows + r;
            store(to, fma(f, all<Vec<T>>(weight[q]), load(to)));
          }
        }
      }
    }
    flip(c.out + (rows.begin * c.k + cols.begin) * w, c.k * w, made, kSomeRows, n, k * w);
  });
}

// Adds to the sums of one column, n of whose rows stand in x and g: of each function w for the weights, one for slope and one
// for start; then w of the bias.
template <class T, class Act> void add_up(const ColumnNetsVjp<T>& c, long column, const T* x, const T* g, long n, T* to) {
  constexpr int L = kLanes<T>;
  const long w = c.w;
  for (long i = column * c.m, end = i + c.m; i < end; ++i, to += (w + 2) * L) {
    const Vec<T> slope = all<Vec<T>>(c.slope[i]), start = all<Vec<T>>(c.start[i]);
    const T* weight = c.weight + i * w;
    Vec<T> of_slope = load(to + w * L), of_start = load(to + (w + 1) * L);
    for (long r = 0; r < n; r += L) {
      const Vec<T> at = load(x + r);
      const ValueSlope<Vec<T>> f = Act::both(fma(at, slope, start));
      Vec<T> d{};
      for (long q = 0; q < w; ++q) {
        const Vec<T> up = load(g + q * kSomeRows + r);
        store(to + q * L, fma(f.value, up, load(to + q * L)));
        d = fma(all<Vec<T>>(weight[q]), up, d);
      }
      d *= f.slope;
      of_slope = fma(d, at, of_slope), of_start += d;
    }
    store(to + w * L, of_slope), store(to + (w + 1) * L, of_start);
  }
  for (long q = 0; q < w; ++q)
    for (long r = 0; r < n; r += L) store(to + q * L, load(to + q * L) + load(g + q * kSomeRows + r));
}

template <class T> void write_sums(const ColumnNetsVjp<T>& c, long column, const T* from) {
  constexpr int L = kLanes<T>;
  for (long i = column * c.m, end = i + c.m; i < end; ++i, from += 2 * L) {
    for (long q = 0; q < c.w; ++q, from += L) c.dweight[i * c.w + q] = sum(load(from));
    c.dslope[i] = sum(load(from)), c.dstart[i] = sum(load(from + L));
  }
  for (long q = 0; q < c.w; ++q) c.dbias[column * c.w + q] = sum(load(from + q * L));
}

template <class T, class Act> void column_nets_vjp(const ColumnNetsVjp<T>& c, Part part) {
  const long some = kSomeMade / c.w, each = (c.m * (c.w + 2) + c.w) * kLanes<T>;
  T* const columns = static_cast<T*>(scratch((unsigned long)(2 * kInHand<T> + some * each) * sizeof(T)));
  T *const gs = columns + kInHand<T>, *const sums = gs + kInHand<T>;
  const Span own = share(c.k, 1, part);
  for (long left = own.begin; left < own.end; left += some) {
    const long k = least(some, own.end - left);
    each_vector<T>(0, k * each, [=](auto lanes, long i) { lanes.store(sums + i, Vec<T>{}); });
    for (long top = 0; top < c.n; top += kSomeRows) {
      const long n = least(kSomeRows, c.n - top);
      flip<Padding::zeros>(columns, kSomeRows, c.x + top * c.k + left, c.k, k, n);
      flip<Padding::zeros>(gs, kSomeRows, c.g + (top * c.k + left) * c.w, c.k * c.w, k * c.w, n);
      for (long j = 0; j < k; ++j)
        add_up<T, Act>(c, left + j, columns + j * kSomeRows, gs + j * c.w * kSomeRows, n, sums + j * each);
    }
    for (long j = 0; j < k; ++j) write_sums(c, left + j, sums + j * each);
  }
}

}  // namespace
}  // namespace gpunet
