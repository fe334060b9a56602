// Bindings of the kernels that pick, add up and drop: gather, scatter_add, dropout.
#include "bind.h"

namespace gpunet {
namespace {

Index checked_rows(const char* name, const Array& rows, long length) {
  const Index index{rows.data, rows.type == Type::int64};
  for (long i = 0; i < rows.size; ++i)
    if (index[i] < 0 || index[i] >= length)
      throw py::index_error(std::string(name) + ": rows[" + std::to_string(i) + "] is " + std::to_string(index[i]) +
                            ", expected 0.." + std::to_string(length - 1) + " (length " + std::to_string(length) +
                            ")");
  return index;
}

// many: (n, ...), few: (length, ...): the same but for the first axis.
bool same_rows(const Array& many, const Array& few, long n) {
  return many.rank == few.rank && many.shape[0] == n &&
         std::equal(many.shape + 1, many.shape + many.rank, few.shape + 1);
}

long row_size(const Array& a) {
  long size = 1;
  for (int i = 1; i < a.rank; ++i) size *= a.shape[i];
  return size;
}

py::object gather(const py::object& out_object, const py::object& x_object, const Array& rows) {
  const Array out(out_object), x(x_object);
  if (!out.data || !x.data || !out.contiguous || !x.contiguous || !out.writeable || x.rank < 1) return declined();
  if (!rows.indexes() || !overlap_allowed({&out}, {&x, &rows})) return declined();
  const auto dtype = [](const py::object& o) { return py::reinterpret_borrow<py::array>(o).dtype(); };
  const py::dtype type = dtype(x_object);
  if (!dtype(out_object).equal(type) || type.kind() == 'O' || type.kind() == 'V') return declined();  // V may hold O
  if (!same_rows(out, x, rows.size)) shape_error("gather", {{"out", &out}, {"x", &x}, {"rows", &rows}});
  const Index index = checked_rows("gather", rows, x.shape[0]);
  const long bytes = row_size(x) * x.item;
  launch(kernels().gather, {out.as<char>(), x.as<char>(), index, rows.size, bytes}, kCheap / 4 * rows.size * bytes);
  return done();
}

py::object scatter_add(const Array& out, const Array& g, const Array& rows) {
  if (!usable({&out}, {&g}) || !rows.indexes() || out.rank < 1) return declined();
  if (!overlap_allowed({&out}, {&g, &rows})) return declined();
  if (!same_rows(g, out, rows.size)) shape_error("scatter_add", {{"out", &out}, {"g", &g}, {"rows", &rows}});
  const Index index = checked_rows("scatter_add", rows, out.shape[0]);
  by_type(out.type, [&](auto zero) {
    using T = decltype(zero);
    launch(table<T>().scatter_add, {out.as<T>(), g.as<T>(), index, rows.size, long(out.shape[0]), row_size(out)},
           kCheap * (out.size + g.size));
  });
  return done();
}

py::object dropout(const Array& out, const Array& x, double rate, long long step, unsigned long long seed,
                   unsigned stream) {
  if (!(rate >= 0 && rate < 1)) return declined();
  if (!usable({&out}, {&x}) || !overlap_allowed({&out}, {&x}, {&x})) return declined();
  if (!out.same_shape(x)) shape_error("dropout", {{"out", &out}, {"x", &x}});
  by_type(out.type, [&](auto zero) {
    using T = decltype(zero);
    launch(table<T>().dropout, {out.as<T>(), x.as<T>(), x.size, rate, seed, stream, unsigned(step)}, kCostly * x.size);
  });
  return done();
}

}  // namespace

void bind_rows(py::module_& m) {
  using py::arg, py::handle, py::kw_only, py::object;
  m.def("gather", [](const object& out, const object& x, handle rows) { return gather(out, x, rows); }, arg("out"),
        arg("x"), arg("rows"));
  m.def("scatter_add", [](handle out, handle g, handle rows, long) { return scatter_add(out, g, rows); }, arg("out"),
        arg("g"), arg("rows"), kw_only(), arg("n") = 0);  // n is out's length, which out tells
  m.def("dropout",
        [](handle out, handle x, handle rate, handle step, py::int_ seed, py::int_ stream) {
          const auto low = [](py::handle n) { return PyLong_AsUnsignedLongLongMask(n.ptr()); };
          return dropout(out, x, scalar(rate), integer(step), low(seed), unsigned(low(stream)));
        },
        arg("out"), arg("x"), arg("rate"), arg("step"), kw_only(), arg("seed"), arg("stream"));
}

}  // namespace gpunet
