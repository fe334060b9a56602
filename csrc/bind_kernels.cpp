// Bindings of the kernels on tensors: activations, products, softmax.
#include "bind.h"

namespace gpunet {
namespace {

double activation_cost(int act) { return act <= find_activation("leaky_relu") ? kCheap : kCostly; }

py::object activation(const Array& out, const Array& x, int act, double alpha) {
  if (act < 0 || !usable({&out}, {&x}) || !overlap_allowed({&out}, {&x}, {&x})) return declined();
  if (!out.same_shape(x)) shape_error("activation", {{"out", &out}, {"x", &x}});
  by_type(out.type, [&](auto zero) {
    using T = decltype(zero);
    launch(table<T>().activation, {out.as<T>(), x.as<T>(), x.size, act, T(alpha)}, activation_cost(act) * x.size);
  });
  return done();
}

py::object activation_vjp(const Array& out, const Array& g, const Array& s, int act, double alpha) {
  if (!slope_known(act, alpha) || !usable({&out}, {&g, &s})) return declined();
  if (!overlap_allowed({&out}, {&g, &s}, {&g, &s})) return declined();
  if (!out.same_shape(g) || !out.same_shape(s)) shape_error("activation_vjp", {{"out", &out}, {"g", &g}, {"s", &s}});
  by_type(out.type, [&](auto zero) {
    using T = decltype(zero);
    launch(table<T>().activation_vjp, {out.as<T>(), g.as<T>(), s.as<T>(), g.size, act, T(alpha)},
           (needs_input(act) ? kCostly : kCheap) * g.size);
  });
  return done();
}

// A matrix or a stack of them, as it lies or transposed; nothing where neither fits.
template <class T> std::optional<Matrix<T>> matrix(const Array& a) {
  const int r = a.rank - 2;
  const py::ssize_t rows = a.shape[r], cols = a.shape[r + 1], item = a.item;
  const py::ssize_t row = a.strides[r], col = a.strides[r + 1];
  const bool stacked = r == 0 || a.shape[0] == 1 || a.size == 0 || a.strides[0] == rows * cols * item;
  const long next = r == 0 ? 0 : rows * cols;
  if (!stacked) return std::nullopt;
  if (a.contiguous || a.size == 0) return Matrix<T>{a.as<T>(), cols, 1, next};
  if ((cols == 1 || col == item) && (rows == 1 || row == cols * item)) return Matrix<T>{a.as<T>(), cols, 1, next};
  if ((rows == 1 || row == item) && (cols == 1 || col == rows * item)) return Matrix<T>{a.as<T>(), 1, rows, next};
  return std::nullopt;
}

// A stack on the left and one matrix on the right are one tall product.
template <class T> void flatten(Product<T>& p) {
  if (p.count > 1 && !p.b.next && p.a.next && p.a.col == 1 && !p.bias && !p.saved) p.m *= p.count, p.count = 1;
}

// Rows of C that are no whole vectors take the time of such.
template <class T> double cost(const Product<T>& p, double act_cost) {
  constexpr long kLanes = 64 / sizeof(T);
  return double(p.count) * p.m * ((p.n + kLanes - 1) / kLanes * kLanes * (2.0 * p.k + kCheap + act_cost));
}

template <class T> void launch_product(Product<T> p, double act_cost = 0) {
  flatten(p);
  launch(table<T>().product, p, cost(p, act_cost));
}

// A product with the rows of a table, if their numbers are given, or with the table itself.
template <class T> void launch_product(Product<T> p, const Array& x, const Array* rows, double act_cost = 0) {
  if (!rows) return launch_product(p, act_cost);
  p.rows = index_of(*rows);
  launch(table<T>().product, p, cost(p, act_cost), InRange{"gather", false, p.rows, rows->size, x.shape[0]});
}

bool takes_rows(const Array* rows, const Array& x) { return !rows || (rows->indexes() && x.rank == 2); }

py::object matmul(const Array& out, const Array& x, const Array& y) {
  const auto ranked = [](const Array& a) { return a.rank == 2 || a.rank == 3; };
  if (!usable({&out}, {&x, &y}, {&x, &y}) || !overlap_allowed({&out}, {&x, &y})) return declined();
  if (!ranked(x) || !ranked(y) || out.rank != std::max(x.rank, y.rank)) return declined();
  const auto m = x.shape[x.rank - 2], k = x.shape[x.rank - 1], n = y.shape[y.rank - 1];
  const auto count = out.rank == 2 ? 1 : x.rank == 3 ? x.shape[0] : y.shape[0];
  if (y.shape[y.rank - 2] != k || (x.rank == 3 && y.rank == 3 && y.shape[0] != count) ||
      !(out.rank == 2 ? out.is({m, n}) : out.is({count, m, n})))
    shape_error("matmul", {{"out", &out}, {"x", &x}, {"y", &y}});
  bool fits = true;
  by_type(out.type, [&](auto zero) {
    using T = decltype(zero);
    const auto a = matrix<T>(x), b = matrix<T>(y);
    fits = a && b;
    if (fits) launch_product<T>({out.as<T>(), out.as<T>(), *a, *b, nullptr, m, n, k, count, 0, T(0), nullptr, nullptr, {}});
  });
  return fits ? done() : declined();
}

// linear_keep, and linear: there z and out are one and the same. rows: those of x that count, or nullptr for all.
py::object linear(const char* name, const Array& out, const Array& z, const Array& x, const Array* rows, const Array& w,
                  const Array& b, int act, double alpha) {
  if (act < 0 || !usable({&out, &z}, {&x, &w, &b}) || !takes_rows(rows, x)) return declined();
  if (!overlap_allowed({&out}, {&x, &w, &b}) || !overlap_allowed({&z}, {&x, &w, &b})) return declined();
  if (&out != &z && !overlap_allowed({&out, &z}, {})) return declined();
  if (rows && !overlap_allowed({&out, &z}, {rows})) return declined();
  const int r = x.rank;
  if ((r != 2 && r != 3) || w.rank != r || b.rank != r - 1 || out.rank != r || z.rank != r) return declined();
  const auto m = rows ? rows->size : x.shape[r - 2], k = x.shape[r - 1], n = w.shape[r - 1], count = r == 3 ? x.shape[0] : 1;
  const bool fits = r == 2 ? w.is({k, n}) && b.is({n}) && out.is({m, n})
                           : w.is({count, k, n}) && b.is({count, n}) && out.is({count, m, n});
  if (!fits || !z.same_shape(out)) shape_error(name, {{"out", &out}, {"x", &x}, {"w", &w}, {"b", &b}});
  by_type(out.type, [&](auto zero) {
    using T = decltype(zero);
    const Matrix<T> a{x.as<T>(), k, 1, m * k}, panels{w.as<T>(), n, 1, k * n};
    launch_product<T>({out.as<T>(), z.as<T>(), a, panels, b.as<T>(), m, n, k, count, act, T(alpha), nullptr, nullptr, {}},
                      x, rows, activation_cost(act));
  });
  return done();
}

// Linear after linear: weights and biases by turns.
py::object layers(const Array& out, const Array& x, const py::args& weights, const py::tuple& acts,
                  const py::tuple& alphas) {
  const std::size_t count = acts.size();
  if (weights.size() != 2 * count || alphas.size() != count || count > Layers<float>::kMost) return declined();
  if (!usable({&out}, {&x}) || !overlap_allowed({&out}, {&x}) || x.rank != 2 || out.rank != 2) return declined();
  bool fits = true;
  by_type(out.type, [&](auto zero) {
    using T = decltype(zero);
    Layers<T> l{{}, int(count), 1};
    long k = x.shape[1];
    double work = 0;
    for (std::size_t i = 0; i < count && fits; ++i) {
      const Array w(weights[2 * i]), b(weights[2 * i + 1]);
      const int act = find_activation(py::cast<std::string_view>(acts[i]));
      fits = act >= 0 && usable({&out}, {&w, &b}) && overlap_allowed({&out}, {&w, &b}) && w.rank == 2 && b.rank == 1;
      if (!fits) return;
      const long n = w.shape[1];
      if (w.shape[0] != k || !b.is({n})) shape_error("layers", {{"x", &x}, {"w", &w}, {"b", &b}});
      l.of[i] = {out.as<T>(), out.as<T>(), {x.as<T>(), k, 1, 0}, {w.as<T>(), n, 1, 0}, b.as<T>(), x.shape[0], n, k, 1,
                 act, py::cast<T>(alphas[i]), nullptr, nullptr, {}};
      if (i + 1 < count) l.width = std::max(l.width, n);
      work += double(x.shape[0]) * double(n) * (2.0 * double(k) + activation_cost(act));
      k = n;
    }
    if (!out.is({x.shape[0], k})) shape_error("layers", {{"out", &out}, {"x", &x}});
    launch(table<T>().layers, l, work);
  });
  return fits ? done() : declined();
}

// The two ways back through linear: to the gradient before the activation of the layer below ...
py::object linear_dz(const Array& out, const Array& g, const Array& w, const Array& s, int act, double alpha) {
  if (!slope_known(act, alpha) || !usable({&out}, {&g, &w, &s}, {&w}) || !overlap_allowed({&out}, {&g, &w, &s}))
    return declined();
  const int r = g.rank;
  if ((r != 2 && r != 3) || w.rank != r || out.rank != r) return declined();
  const auto m = g.shape[r - 2], k = g.shape[r - 1], n = w.shape[r - 1], count = r == 3 ? g.shape[0] : 1;
  const bool fits = r == 2 ? w.is({k, n}) && out.is({m, n}) : w.is({count, k, n}) && out.is({count, m, n});
  if (!fits || !s.same_shape(out)) shape_error("linear_dz", {{"out", &out}, {"g", &g}, {"w", &w}, {"s", &s}});
  bool laid = true;
  by_type(out.type, [&](auto zero) {
    using T = decltype(zero);
    const auto a = matrix<T>(g), b = matrix<T>(w);
    laid = a && b;
    if (laid)
      launch_product<T>({out.as<T>(), out.as<T>(), *a, *b, nullptr, m, n, k, count, act, T(alpha), s.as<T>(), nullptr, {}},
                        needs_input(act) ? kCostly : kCheap);
  });
  return laid ? done() : declined();
}

// ... and to the gradients of the weights and of the bias.
py::object linear_dw(const char* name, const Array& dw, const Array& db, const Array& x, const Array* rows, const Array& g) {
  if (!usable({&dw, &db}, {&x, &g}) || !overlap_allowed({&dw, &db}, {&x, &g}) || !takes_rows(rows, x)) return declined();
  if (rows && !overlap_allowed({&dw, &db}, {rows})) return declined();
  const int r = x.rank;
  if ((r != 2 && r != 3) || g.rank != r || dw.rank != r) return declined();
  const auto k = rows ? rows->size : x.shape[r - 2], m = x.shape[r - 1], n = g.shape[r - 1], count = r == 3 ? x.shape[0] : 1;
  const bool fits = r == 2 ? g.is({k, n}) && dw.is({m, n}) && db.is({n})
                           : g.is({count, k, n}) && dw.is({count, m, n}) && db.is({count, n});
  if (!fits) shape_error(name, {{"dw", &dw}, {"db", &db}, {"x", &x}, {"g", &g}});
  by_type(dw.type, [&](auto zero) {
    using T = decltype(zero);
    const Matrix<T> a{x.as<T>(), 1, m, k * m}, b{g.as<T>(), n, 1, k * n};
    launch_product<T>({dw.as<T>(), dw.as<T>(), a, b, nullptr, m, n, k, count, 0, T(0), nullptr, db.as<T>(), {}}, x, rows);
  });
  return done();
}

py::object softmax(const char* name, bool log, const Array& out, const Array& x) {
  if (!usable({&out}, {&x}) || x.rank < 1 || !overlap_allowed({&out}, {&x}, {&x})) return declined();
  if (!out.same_shape(x)) shape_error(name, {{"out", &out}, {"x", &x}});
  const Extent of = rows_of_last_axis(x);
  by_type(out.type, [&](auto zero) {
    using T = decltype(zero);
    launch(table<T>().softmax, {out.as<T>(), x.as<T>(), of.rows, of.cols, log}, kCostly * x.size);
  });
  return done();
}

// Targets may change from step to step: they are looked at before each.
struct TargetsInRange {
  const char* name;
  long rows;
  template <class T> void operator()(CrossEntropy<T>& c) const {
    if (c.target.within(rows, c.cols)) return;
    for (long i = 0;; ++i)
      if (c.target[i] < 0 || c.target[i] >= c.cols)
        throw py::index_error(std::string(name) + ": row " + std::to_string(i) + " has target " +
                              std::to_string(c.target[i]) + ", expected 0.." + std::to_string(c.cols - 1) +
                              " (c = " + std::to_string(c.cols) + ")");
  }
};

py::object cross_entropy(const Array& loss, const Array& z, const Array& t, double smoothing) {
  const char* name = "softmax_cross_entropy";
  if (!usable({&loss}, {&z}) || !t.indexes() || z.rank != 2 || loss.rank != 1) return declined();
  if (!overlap_allowed({&loss}, {&z, &t})) return declined();
  const auto rows = z.shape[0], cols = z.shape[1];
  if (!t.is({rows}) || !loss.is({rows})) shape_error(name, {{"out", &loss}, {"z", &z}, {"t", &t}});
  const Index target = index_of(t);
  by_type(loss.type, [&](auto zero) {
    using T = decltype(zero);
    launch(table<T>().cross_entropy, {loss.as<T>(), nullptr, {}, z.as<T>(), target, rows, cols, smoothing},
           kCostly * z.size, TargetsInRange{name, rows});
  });
  return done();
}

// With the loss where it is asked for.
py::object cross_entropy_vjp(
    const Array* loss, const Array& out, const Array& g, const Array& z, const Array& t, double smoothing) {
  const char* name = loss ? "softmax_cross_entropy" : "softmax_cross_entropy_vjp";
  if (!usable({&out}, {&g, &z}, {&g}) || !t.indexes() || z.rank != 2 || g.rank != 1) return declined();
  const bool one = g.strides[0] == 0;  // broadcast, as the gradient of a mean is
  if (!one && !g.contiguous) return declined();
  if (!overlap_allowed({&out}, {&g, &z, &t}, {&z})) return declined();
  if (loss && (!usable({loss}, {&z}) || !overlap_allowed({loss}, {&g, &z, &t, &out}))) return declined();
  const auto rows = z.shape[0], cols = z.shape[1];
  if (!t.is({rows}) || !g.is({rows}) || !out.same_shape(z) || (loss && !loss->is({rows})))
    shape_error(name, {{"out", &out}, {"g", &g}, {"z", &z}, {"t", &t}});
  const Index target = index_of(t);
  by_type(out.type, [&](auto zero) {
    using T = decltype(zero);
    launch(loss ? table<T>().cross_entropy_both : table<T>().cross_entropy_vjp,
           {loss ? loss->as<T>() : nullptr, out.as<T>(), {g.as<T>(), 1, one}, z.as<T>(), target, rows, cols, smoothing},
           kCostly * z.size, TargetsInRange{name, rows});
  });
  return done();
}

}  // namespace

void bind_kernels(py::module_& m) {
  using py::arg, py::handle, py::kw_only;
  using Name = std::string_view;
  m.def("activation",
        [](handle out, handle x, Name act, double alpha) { return activation(out, x, find_activation(act), alpha); },
        arg("out"), arg("x"), kw_only(), arg("act"), arg("alpha"));
  m.def("activation_vjp",
        [](handle out, handle g, handle s, Name act, double alpha) {
          return activation_vjp(out, g, s, find_activation(act), alpha);
        },
        arg("out"), arg("g"), arg("s"), kw_only(), arg("act"), arg("alpha"));
  m.def("matmul", [](handle out, handle x, handle y) { return matmul(out, x, y); }, arg("out"), arg("x"), arg("y"));
  m.def("linear",
        [](handle out, handle x, handle w, handle b, Name act, double alpha) {
          const Array both(out);
          return linear("linear", both, both, x, nullptr, w, b, find_activation(act), alpha);
        },
        arg("out"), arg("x"), arg("w"), arg("b"), kw_only(), arg("act"), arg("alpha"));
  m.def("linear_keep",
        [](handle out, handle z, handle x, handle w, handle b, Name act, double alpha) {
          return linear("linear_keep", out, z, x, nullptr, w, b, find_activation(act), alpha);
        },
        arg("out"), arg("z"), arg("x"), arg("w"), arg("b"), kw_only(), arg("act"), arg("alpha"));
  m.def("linear_rows",
        [](handle out, handle x, handle r, handle w, handle b, Name act, double alpha) {
          const Array both(out), rows(r);
          return linear("linear_rows", both, both, x, &rows, w, b, find_activation(act), alpha);
        },
        arg("out"), arg("x"), arg("rows"), arg("w"), arg("b"), kw_only(), arg("act"), arg("alpha"));
  m.def("linear_keep_rows",
        [](handle out, handle z, handle x, handle r, handle w, handle b, Name act, double alpha) {
          const Array rows(r);
          return linear("linear_keep_rows", out, z, x, &rows, w, b, find_activation(act), alpha);
        },
        arg("out"), arg("z"), arg("x"), arg("rows"), arg("w"), arg("b"), kw_only(), arg("act"), arg("alpha"));
  m.def("layers",
        [](handle out, handle x, const py::args& weights, const py::tuple& acts, const py::tuple& alphas) {
          return layers(out, x, weights, acts, alphas);
        },
        arg("out"), arg("x"), kw_only(), arg("acts"), arg("alphas"));
  m.def("linear_dz",
        [](handle out, handle g, handle w, handle s, Name act, double alpha) {
          return linear_dz(out, g, w, s, find_activation(act), alpha);
        },
        arg("out"), arg("g"), arg("w"), arg("s"), kw_only(), arg("act"), arg("alpha"));
  m.def("linear_dw", [](handle dw, handle db, handle x, handle g) { return linear_dw("linear_dw", dw, db, x, nullptr, g); },
        arg("dw"), arg("db"), arg("x"), arg("g"));
  m.def("linear_dw_rows",
        [](handle dw, handle db, handle x, handle r, handle g) {
          const Array rows(r);
          return linear_dw("linear_dw_rows", dw, db, x, &rows, g);
        },
        arg("dw"), arg("db"), arg("x"), arg("rows"), arg("g"));
  m.def("softmax", [](handle out, handle x) { return softmax("softmax", false, out, x); }, arg("out"), arg("x"));
  m.def("log_softmax", [](handle out, handle x) { return softmax("log_softmax", true, out, x); }, arg("out"), arg("x"));
  m.def("softmax_cross_entropy",
        [](handle out, handle z, handle t, double smoothing) { return cross_entropy(out, z, t, smoothing); },
        arg("out"), arg("z"), arg("t"), kw_only(), arg("smoothing"));
  m.def("softmax_cross_entropy_vjp",
        [](handle out, handle g, handle z, handle t, double smoothing) {
          return cross_entropy_vjp(nullptr, out, g, z, t, smoothing);
        },
        arg("out"), arg("g"), arg("z"), arg("t"), kw_only(), arg("smoothing"));
  m.def("softmax_cross_entropy_both",
        [](handle value, handle out, handle g, handle z, handle t, double smoothing) {
          const Array loss(value);
          return cross_entropy_vjp(&loss, out, g, z, t, smoothing);
        },
        arg("value"), arg("out"), arg("g"), arg("z"), arg("t"), kw_only(), arg("smoothing"));
}

}  // namespace gpunet
