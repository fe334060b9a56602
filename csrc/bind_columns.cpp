// The nets of single columns, as gpunet/ops/columns.py has them.
#include "bind.h"

namespace gpunet {
namespace {

ColumnAct act_of(std::string_view name) {
  return name == "cos" ? ColumnAct::cos : name == "ramp" ? ColumnAct::ramp : ColumnAct::count;
}

struct Sizes { long n, k, m, w; };

// Nothing where a kernel does not take them.
std::optional<Sizes> sizes_of(const Array& x, const Array& slope, const Array& weight) {
  constexpr long kMost = 64;  // results of a column
  if (x.rank != 2 || slope.rank != 2 || weight.rank != 3 || !x.size || !slope.size || !weight.size) return std::nullopt;
  if (weight.shape[2] > kMost) return std::nullopt;
  return Sizes{x.shape[0], x.shape[1], slope.shape[1], weight.shape[2]};
}

double work_of(const Sizes& s, ColumnAct act) {
  return double(s.n) * double(s.k) * double(s.m) * ((act == ColumnAct::cos ? 2 * kCostly : kCheap) + 4.0 * double(s.w));
}

py::object column_nets(const Array& out, const Array& x, const Array& slope, const Array& start, const Array& weight,
                       const Array& bias, std::string_view act) {
  const ColumnAct by = act_of(act);
  const auto s = sizes_of(x, slope, weight);
  if (!s || by == ColumnAct::count || !usable({&out}, {&x, &slope, &start, &weight, &bias})) return declined();
  if (!overlap_allowed({&out}, {&x, &slope, &start, &weight, &bias})) return declined();
  const auto [n, k, m, w] = *s;
  if (!out.is({n, k * w}) || !slope.is({k, m}) || !start.is({k, m}) || !weight.is({k, m, w}) || !bias.is({k, w}))
    shape_error("column_nets", {{"out", &out}, {"x", &x}, {"slope", &slope}, {"start", &start}, {"weight", &weight}, {"bias", &bias}});
  by_type(out.type, [&, n = n, k = k, m = m, w = w](auto zero) {
    using T = decltype(zero);
    launch(table<T>().column_nets[by],
           {out.as<T>(), x.as<T>(), slope.as<T>(), start.as<T>(), weight.as<T>(), bias.as<T>(), n, k, m, w}, work_of(*s, by));
  });
  return done();
}

py::object column_nets_vjp(const Array& dslope, const Array& dstart, const Array& dweight, const Array& dbias, const Array& g,
                           const Array& x, const Array& slope, const Array& start, const Array& weight, std::string_view act) {
  const ColumnAct by = act_of(act);
  const auto s = sizes_of(x, slope, weight);
  if (!s || by == ColumnAct::count) return declined();
  if (!usable({&dslope, &dstart, &dweight, &dbias}, {&g, &x, &slope, &start, &weight})) return declined();
  if (!overlap_allowed({&dslope, &dstart, &dweight, &dbias}, {&g, &x, &slope, &start, &weight})) return declined();
  const auto [n, k, m, w] = *s;
  const bool fits = g.is({n, k * w}) && slope.is({k, m}) && start.is({k, m}) && weight.is({k, m, w});
  if (!fits || !dslope.is({k, m}) || !dstart.is({k, m}) || !dweight.is({k, m, w}) || !dbias.is({k, w}))
    shape_error("column_nets_vjp", {{"dweight", &dweight}, {"g", &g}, {"x", &x}, {"slope", &slope}, {"start", &start}, {"weight", &weight}});
  by_type(g.type, [&, n = n, k = k, m = m, w = w](auto zero) {
    using T = decltype(zero);
    launch(table<T>().column_nets_vjp[by],
           {dslope.as<T>(), dstart.as<T>(), dweight.as<T>(), dbias.as<T>(), g.as<T>(), x.as<T>(), slope.as<T>(),
            start.as<T>(), weight.as<T>(), n, k, m, w},
           2 * work_of(*s, by));
  });
  return done();
}

}  // namespace

void bind_columns(py::module_& m) {
  using py::arg, py::handle, py::kw_only;
  m.def("column_nets",
        [](handle out, handle x, handle slope, handle start, handle weight, handle bias, std::string_view act) {
          return column_nets(out, x, slope, start, weight, bias, act);
        },
        arg("out"), arg("x"), arg("slope"), arg("start"), arg("weight"), arg("bias"), kw_only(), arg("act"));
  m.def("column_nets_vjp",
        [](handle dslope, handle dstart, handle dweight, handle dbias, handle g, handle x, handle slope, handle start,
           handle weight, std::string_view act) {
          return column_nets_vjp(dslope, dstart, dweight, dbias, g, x, slope, start, weight, act);
        },
        arg("dslope"), arg("dstart"), arg("dweight"), arg("dbias"), arg("g"), arg("x"), arg("slope"), arg("start"),
        arg("weight"), kw_only(), arg("act"));
}

}  // namespace gpunet
