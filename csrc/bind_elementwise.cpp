// Bindings of the elementwise formulas, whose operands may be broadcast, and of sums, means and extremes over axes.
#include <pybind11/stl.h>

#include <array>
#include <limits>

#include "bind.h"

namespace gpunet {
namespace {

// How the operands of an elementwise kernel lie, as rows and columns of the output: neighbouring axes are one where
// every operand allows it. Steps are in elements; 0: broadcast.
template <int N> struct Grid {
  long rows = 1, cols = 1;
  std::array<long, N> row{}, col{};

  template <class T> Operand<T> operand(const Array& a, int i) const {
    return {a.as<T>(), row[std::size_t(i)], cols == 1 || col[std::size_t(i)] == 0};
  }
};

// Nothing where there are more than two such axes, or columns that lie apart.
template <int N> std::optional<Grid<N>> grid(const char* name, const Array& out, const Array* const (&ins)[N]) {
  struct Axis { long length; std::array<long, N> step; };
  Axis axes[2] = {};
  int count = 0;
  for (int d = out.rank - 1; d >= 0; --d) {
    Axis axis{out.shape[d], {}};
    for (std::size_t i = 0; i < N; ++i) {
      const Array& a = *ins[i];
      const int at = d - (out.rank - a.rank);
      if (a.rank > out.rank || (at >= 0 && a.shape[at] != 1 && a.shape[at] != axis.length))
        shape_error(name, {{"out", &out}, {"operand", &a}});
      if (at >= 0 && a.shape[at] != 1) {
        if (a.strides[at] % a.item) return std::nullopt;
        axis.step[i] = a.strides[at] / a.item;
      }
    }
    if (axis.length == 1) continue;
    bool joins = count > 0;
    for (std::size_t i = 0; joins && i < N; ++i)
      joins = axis.step[i] == axes[count - 1].step[i] * axes[count - 1].length;
    if (joins) axes[count - 1].length *= axis.length;
    else if (count == 2) return std::nullopt;
    else axes[count++] = axis;
  }
  bool dense = true;
  for (std::size_t i = 0; i < N; ++i) dense = dense && (axes[0].step[i] == 0 || axes[0].step[i] == 1);
  if (count == 2 && !dense) return std::nullopt;
  Grid<N> g;
  if (count > 0 && dense) g.cols = axes[0].length, g.col = axes[0].step;
  if (count > 0 && !dense) g.rows = axes[0].length, g.row = axes[0].step;
  if (count == 2) g.rows = axes[1].length, g.row = axes[1].step;
  if (out.size == 0) g.rows = 0;
  return g;
}

bool writeable(const Array& out, Type type) {
  return out.type == type && out.plain && out.contiguous && out.writeable;
}

py::object unary(const char* name, Unary formula, const Array& out, const Array& x, double low = 0, double high = 0) {
  if (!usable({&out}, {&x}, {&x}) || !overlap_allowed({&out}, {&x}, {&x})) return declined();
  if (!out.same_shape(x)) shape_error(name, {{"out", &out}, {"x", &x}});
  const auto g = grid<1>(name, out, {&x});
  if (!g) return declined();
  by_type(out.type, [&](auto zero) {
    using T = decltype(zero);
    launch(table<T>().unary[formula], {out.as<T>(), g->template operand<T>(x, 0), g->rows, g->cols, T(low), T(high)},
           (formula < Unary::exp ? kCheap : kCostly) * out.size);
  });
  return done();
}

// f(zero, table of kernels on two operands) for the types that have one.
template <class F> bool by_number(Type type, F f) {
  if (type == Type::float32) f(float(), kernels().f32.both);
  else if (type == Type::float64) f(double(), kernels().f64.both);
  else if (type == Type::int64) f(std::int64_t(), kernels().i64);
  else return false;
  return true;
}

py::object binary(const char* name, Binary formula, const Array& out, const Array& x, const Array& y) {
  if (x.type != out.type || y.type != out.type || !x.plain || !y.plain || !writeable(out, x.type)) return declined();
  if (!overlap_allowed({&out}, {&x, &y}, {&x, &y})) return declined();
  const auto g = grid<2>(name, out, {&x, &y});
  bool fits = false;
  if (g)
    by_number(out.type, [&](auto zero, const auto& both) {
      using T = decltype(zero);
      const auto kernel = both.binary[formula];  // integers have none for some
      fits = kernel != nullptr;
      if (fits)
        launch(kernel, {out.as<T>(), g->template operand<T>(x, 0), g->template operand<T>(y, 1), g->rows, g->cols},
               (formula < Binary::mod ? kCheap : kCostly) * out.size);
    });
  return fits ? done() : declined();
}

py::object compare(const char* name, Compare formula, const Array& out, const Array& x, const Array& y) {
  if (x.type != y.type || !x.plain || !y.plain || !writeable(out, Type::boolean)) return declined();
  if (!overlap_allowed({&out}, {&x, &y})) return declined();
  const auto g = grid<2>(name, out, {&x, &y});
  const bool fits = g && by_number(x.type, [&](auto zero, const auto& both) {
    using T = decltype(zero);
    launch(both.compare[formula],
           {out.as<bool>(), g->template operand<T>(x, 0), g->template operand<T>(y, 1), g->rows, g->cols},
           kCheap * out.size);
  });
  return fits ? done() : declined();
}

py::object where(const Array& out, const Array& condition, const Array& x, const Array& y) {
  if (x.type != out.type || y.type != out.type || !x.plain || !y.plain || !writeable(out, x.type)) return declined();
  if (condition.type != Type::boolean || !overlap_allowed({&out}, {&condition, &x, &y}, {&x, &y})) return declined();
  const auto g = grid<3>("where", out, {&condition, &x, &y});
  const bool fits = g && by_number(out.type, [&](auto zero, const auto& both) {
    using T = decltype(zero);
    launch(both.where,
           {out.as<T>(), g->template operand<bool>(condition, 0), g->template operand<T>(x, 1),
            g->template operand<T>(y, 2), g->rows, g->cols},
           kCheap * out.size);
  });
  return fits ? done() : declined();
}

template <class To> bool cast_to(const Casts<To>& casts, const Array& out, const Array& x, const Grid<1>& g) {
  const auto from = [&](auto kernel, auto zero) {
    using From = decltype(zero);
    launch(kernel, {out.as<To>(), g.template operand<From>(x, 0), g.rows, g.cols}, kCheap * out.size);
    return true;
  };
  switch (x.type) {
    case Type::float32: return from(casts.f32, float());
    case Type::float64: return from(casts.f64, double());
    case Type::int32: return from(casts.i32, int());
    case Type::int64: return from(casts.i64, std::int64_t());
    case Type::boolean: return from(casts.boolean, bool());
    case Type::uint8: return from(casts.u8, (unsigned char)0);
    default: return false;
  }
}

}  // namespace

// In place only as a copy: another type may have other sizes.
py::object cast(const Array& out, const Array& x) {
  if (!x.plain || !writeable(out, out.type)) return declined();
  if (!overlap_allowed({&out}, {&x}) && !(out.type == x.type && overlap_allowed({&out}, {&x}, {&x}))) return declined();
  if (!out.same_shape(x)) shape_error("cast", {{"out", &out}, {"x", &x}});
  const auto g = grid<1>("cast", out, {&x});
  if (!g) return declined();
  const bool fits = out.type == Type::float32   ? cast_to(kernels().f32.casts, out, x, *g)
                    : out.type == Type::float64 ? cast_to(kernels().f64.casts, out, x, *g)
                    : out.type == Type::int64   ? cast_to(kernels().i64_casts, out, x, *g)
                                                : false;
  return fits ? done() : declined();
}

namespace {

// The axes that are reduced, which must be neighbours: [first, last).
std::optional<std::pair<int, int>> neighbours(const py::handle& axis, int rank) {
  if (axis.is_none()) return std::pair{0, rank};
  bool chosen[32] = {};
  const auto choose = [&](int a) { chosen[a < 0 ? a + rank : a] = true; };
  if (rank > 32) return std::nullopt;
  if (py::isinstance<py::tuple>(axis))
    for (py::handle a : axis) choose(a.cast<int>());
  else choose(axis.cast<int>());
  int first = 0, last = rank;
  while (first < rank && !chosen[first]) ++first;
  while (last > first && !chosen[last - 1]) --last;
  for (int i = first; i < last; ++i)
    if (!chosen[i]) return std::nullopt;
  return std::pair{first, last};
}

// How many elements stand before the reduced axes, along them, and after.
std::array<long, 3> around(const Array& x, std::pair<int, int> axes) {
  std::array<long, 3> sizes{1, 1, 1};
  for (int i = 0; i < x.rank; ++i) sizes[i < axes.first ? 0 : i < axes.second ? 1 : 2] *= x.shape[i];
  return sizes;
}

template <class T> using Reducer = Kernel<Reduce<T>> Table<T>::*;

py::object reduce(const char* name, Reducer<float> f32, Reducer<double> f64, bool mean, const Array& out,
                  const Array& x, py::handle axis) {
  if (!usable({&out}, {&x}) || !overlap_allowed({&out}, {&x})) return declined();
  const auto axes = neighbours(axis, x.rank);
  if (!axes) return declined();
  const auto [before, n, after] = around(x, *axes);
  if (out.size != before * after) shape_error(name, {{"out", &out}, {"x", &x}});
  by_type(out.type, [&](auto zero) {
    using T = decltype(zero);
    const Reduce<T> r{out.as<T>(), x.as<T>(), before, n, after, mean ? T(n) : T(1)};
    if constexpr (std::is_same_v<T, float>) launch(table<T>().*f32, r, kCheap / 2 * x.size);
    else launch(table<T>().*f64, r, kCheap / 2 * x.size);
  });
  return done();
}

py::object argmax(const Array& out, const Array& x, py::handle axis) {
  if ((x.type != Type::float32 && x.type != Type::float64) || !x.plain || !x.contiguous) return declined();
  if (!writeable(out, Type::int64)) return declined();
  const auto axes = neighbours(axis, x.rank);
  if (!axes || !overlap_allowed({&out}, {&x})) return declined();
  const auto [before, n, after] = around(x, *axes);
  if (out.size != before * after || (n == 0 && out.size)) shape_error("argmax", {{"out", &out}, {"x", &x}});
  by_type(x.type, [&](auto zero) {
    using T = decltype(zero);
    launch(table<T>().argmax, {out.as<std::int64_t>(), x.as<T>(), before, n, after}, kCheap * x.size);
  });
  return done();
}

}  // namespace

void bind_elementwise(py::module_& m) {
  using py::arg, py::handle, py::kw_only;
#define GPUNET_ROW(name, ...)                                                                            \
  if (Unary::name != Unary::clip)                                                                        \
    m.def(#name, [](handle out, handle x) { return unary(#name, Unary::name, out, x); }, arg("out"), arg("x"));
  GPUNET_UNARY(GPUNET_ROW)
#undef GPUNET_ROW
#define GPUNET_ROW(name, ...)                                                                              \
  m.def(#name, [](handle out, handle x, handle y) { return binary(#name, Binary::name, out, x, y); }, arg("out"), \
        arg("x"), arg("y"));
  GPUNET_BINARY(GPUNET_ROW)
#undef GPUNET_ROW
#define GPUNET_ROW(name, ...)                                                                                \
  m.def(#name, [](handle out, handle x, handle y) { return compare(#name, Compare::name, out, x, y); }, arg("out"), \
        arg("x"), arg("y"));
  GPUNET_COMPARE(GPUNET_ROW)
#undef GPUNET_ROW
#define GPUNET_REDUCE(name, kernel, mean)                                                                     \
  m.def(#name,                                                                                                \
        [](handle out, handle x, handle axis, handle) {                                                       \
          return reduce(#name, &Table<float>::kernel, &Table<double>::kernel, mean, out, x, axis);            \
        },                                                                                                    \
        arg("out"), arg("x"), kw_only(), arg("axis") = py::none(), arg("keepdims") = false);  // as out's shape is
  GPUNET_REDUCE(sum, sum, false)
  GPUNET_REDUCE(mean, sum, true)
  GPUNET_REDUCE(max, max, false)
  GPUNET_REDUCE(min, min, false)
#undef GPUNET_REDUCE
  m.def("argmax", [](handle out, handle x, handle axis, handle) { return argmax(out, x, axis); }, arg("out"), arg("x"),
        kw_only(), arg("axis") = py::none(), arg("keepdims") = false);
  m.def("clip",
        [](handle out, handle x, std::optional<double> low, std::optional<double> high) {
          constexpr double infinity = std::numeric_limits<double>::infinity();
          return unary("clip", Unary::clip, out, x, low.value_or(-infinity), high.value_or(infinity));
        },
        arg("out"), arg("x"), kw_only(), arg("low") = py::none(), arg("high") = py::none());
  m.def("where", [](handle out, handle condition, handle x, handle y) { return where(out, condition, x, y); },
        arg("out"), arg("condition"), arg("x"), arg("y"));
  m.def("cast", [](handle out, handle x, handle) { return cast(out, x); }, arg("out"), arg("x"), kw_only(),
        arg("dtype") = py::none());  // as out has it
}

}  // namespace gpunet
