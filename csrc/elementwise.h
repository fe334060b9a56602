// Elementwise formulas over rows whose operands may be broadcast: the loops around the tables of formulas.h.
#pragma once

#include <cstdint>

#include "formulas.h"
#include "loops.h"

namespace gpunet {
namespace {

// Body is called with each row of this part's share, and the columns of it.
template <class T, class F> HD void each_row(long rows, long cols, Part part, F body) {
  const bool by_row = rows >= part.count;
  const Span r = by_row ? share(rows, 1, part) : Span{0, rows}, c = by_row ? Span{0, cols} : share<T>(cols, part);
  for (long i = r.begin; i < r.end; ++i) body(i, c);
}

// f(a function that reads the operand's elements): decided once a row whether it is one number or many.
template <class T, class F> HD void vectors_of(const Operand<T>& o, long row, F f) {
  const T* p = o.data + row * o.row;
  if (o.one) f([v = all<Vec<T>>(*p)](auto, long) { return v; });
  else f([p](auto lanes, long j) { return lanes.load(p + j); });
}
template <class T, class F> HD void numbers_of(const Operand<T>& o, long row, F f) {
  const T* p = o.data + row * o.row;
  if (o.one) f([v = *p](long) { return v; });
  else f([p](long j) { return p[j]; });
}

template <class T, Unary formula> struct unary_of;
#define GPUNET_ROW(name, expression)                                        \
  template <class T> struct unary_of<T, Unary::name> {                      \
    typedef Vec<T> V;                                                       \
    static HD V at(V x, [[maybe_unused]] T low, [[maybe_unused]] T high) { return expression; } \
  };
GPUNET_UNARY(GPUNET_ROW)
#undef GPUNET_ROW

template <class T, Unary formula> void unary(const UnaryArgs<T>& u, Part part) {
  each_row<T>(u.rows, u.cols, part, [&](long i, Span cols) {
    T* out = u.out + i * u.cols;
    vectors_of(u.x, i, [=, &u](auto x) {
      each_vector<T>(cols.begin, cols.end, [=, &u](auto lanes, long j) {
        lanes.store(out + j, unary_of<T, formula>::at(x(lanes, j), u.low, u.high));
      });
    });
  });
}

template <class V, Binary formula> struct binary_of;
#define GPUNET_ROW(name, expression, integers)             \
  template <class V> struct binary_of<V, Binary::name> {   \
    static constexpr bool takes_integers = integers;       \
    static HD V at(V x, V y) { return expression; }        \
  };
GPUNET_BINARY(GPUNET_ROW)
#undef GPUNET_ROW

template <class T, Binary formula> void binary(const BinaryArgs<T>& b, Part part) {
  each_row<T>(b.rows, b.cols, part, [&](long i, Span cols) {
    T* out = b.out + i * b.cols;
    vectors_of(b.x, i, [&](auto x) {
      vectors_of(b.y, i, [=](auto y) {
        each_vector<T>(cols.begin, cols.end, [=](auto lanes, long j) {
          lanes.store(out + j, binary_of<Vec<T>, formula>::at(x(lanes, j), y(lanes, j)));
        });
      });
    });
  });
}

template <Binary formula> void binary_integers(const BinaryArgs<std::int64_t>& b, Part part) {
  using T = std::int64_t;
  each_row<T>(b.rows, b.cols, part, [&](long i, Span cols) {
    T* out = b.out + i * b.cols;
    numbers_of(b.x, i, [&](auto x) {
      numbers_of(b.y, i, [=](auto y) {
        for (long j = cols.begin; j < cols.end; ++j) out[j] = binary_of<T, formula>::at(x(j), y(j));
      });
    });
  });
}

template <Binary formula> constexpr Kernel<BinaryArgs<std::int64_t>> kernel_on_integers() {
  if constexpr (binary_of<std::int64_t, formula>::takes_integers) return binary_integers<formula>;
  else return nullptr;
}

template <class T, Compare formula> struct compare_of;
#define GPUNET_ROW(name, expression) \
  template <class T> struct compare_of<T, Compare::name> { static HD auto at(T x, T y) { return expression; } };
GPUNET_COMPARE(GPUNET_ROW)
#undef GPUNET_ROW

template <class T, Compare formula> void compare(const CompareArgs<T>& c, Part part) {
  each_row<T>(c.rows, c.cols, part, [&](long i, Span cols) {
    bool* out = c.out + i * c.cols;
    numbers_of(c.x, i, [&](auto x) {
      numbers_of(c.y, i, [=](auto y) {
        for (long j = cols.begin; j < cols.end; ++j) out[j] = compare_of<T, formula>::at(x(j), y(j));
      });
    });
  });
}

template <class T> void where(const Where<T>& w, Part part) {
  each_row<T>(w.rows, w.cols, part, [&](long i, Span cols) {
    T* out = w.out + i * w.cols;
    numbers_of(w.condition, i, [&](auto condition) {
      numbers_of(w.x, i, [&](auto x) {
        numbers_of(w.y, i, [=](auto y) {
          for (long j = cols.begin; j < cols.end; ++j) {
            const T a = x(j), b = y(j);  // both are read, so that it is a choice and no branch
            out[j] = condition(j) ? a : b;
          }
        });
      });
    });
  });
}

template <class To, class From> void cast(const Cast<To, From>& c, Part part) {
  each_row<To>(c.rows, c.cols, part, [&](long i, Span cols) {
    To* out = c.out + i * c.cols;
    numbers_of(c.x, i, [=](auto x) {
      for (long j = cols.begin; j < cols.end; ++j) out[j] = To(x(j));
    });
  });
}

// ---- the tables, filled from the rows

#define GPUNET_ROW(name, ...) unary<T, Unary::name>,
template <class T> constexpr Formulas<UnaryArgs<T>, Unary> kUnary = {{GPUNET_UNARY(GPUNET_ROW)}};
#undef GPUNET_ROW
#define GPUNET_ROW(name, ...) binary<T, Binary::name>,
template <class T> constexpr Formulas<BinaryArgs<T>, Binary> kBinary = {{GPUNET_BINARY(GPUNET_ROW)}};
#undef GPUNET_ROW
#define GPUNET_ROW(name, ...) kernel_on_integers<Binary::name>(),
template <> constexpr Formulas<BinaryArgs<std::int64_t>, Binary> kBinary<std::int64_t> = {{GPUNET_BINARY(GPUNET_ROW)}};
#undef GPUNET_ROW
#define GPUNET_ROW(name, ...) compare<T, Compare::name>,
template <class T> constexpr Formulas<CompareArgs<T>, Compare> kCompare = {{GPUNET_COMPARE(GPUNET_ROW)}};
#undef GPUNET_ROW

template <class T> constexpr Both<T> kBoth = {kBinary<T>, kCompare<T>, where<T>};
template <class To> constexpr Casts<To> kCasts = {
    cast<To, float>, cast<To, double>, cast<To, int>, cast<To, std::int64_t>, cast<To, bool>, cast<To, unsigned char>,
};

}  // namespace
}  // namespace gpunet
