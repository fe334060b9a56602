// Bindings of the kernels that pick, copy, add up and drop rows.
#include "bind.h"

namespace gpunet {
namespace {

bool is_index(const Array& a) {
  return a.plain && a.contiguous && (a.type == Type::int32 || a.type == Type::int64);
}

bool usable_bytes(const Array& out, const Array& x) {
  return out.data && x.data && out.contiguous && x.contiguous && out.writeable && out.item == x.item;
}

// The same element type, and none that holds Python objects (V may).
bool same_dtype(const py::handle& a, const py::handle& b) {
  const auto dtype = [](py::handle h) { return py::reinterpret_borrow<py::array>(h).dtype(); };
  const py::dtype type = dtype(a);
  return dtype(b).equal(type) && type.kind() != 'O' && type.kind() != 'V';
}

// many: the shape of rows, then that of one row of few.
bool same_rows(const Array& many, const Array& few, const Array& rows) {
  return many.rank == few.rank - 1 + rows.rank && std::equal(rows.shape, rows.shape + rows.rank, many.shape) &&
         std::equal(few.shape + 1, few.shape + few.rank, many.shape + rows.rank);
}

long row_size(const Array& a) {
  long size = 1;
  for (int i = 1; i < a.rank; ++i) size *= a.shape[i];
  return size;
}

py::object gather(py::handle out_handle, py::handle x_handle, const Array& rows) {
  const Array out(out_handle), x(x_handle);
  if (!usable_bytes(out, x) || !same_dtype(out_handle, x_handle) || x.rank < 1) return declined();
  if (!is_index(rows) || !overlap_allowed({&out}, {&x, &rows})) return declined();
  if (!same_rows(out, x, rows)) shape_error("gather", {{"out", &out}, {"x", &x}, {"rows", &rows}});
  const Index index = index_of(rows);
  const long bytes = row_size(x) * x.item;
  launch(kernels().gather, {out.as<char>(), x.as<char>(), index, rows.size, bytes}, kCheap / 4 * rows.size * bytes,
         InRange{"gather", false, index, rows.size, x.shape[0]});
  return done();
}

long slice_start(long at, long size, long length) {
  if (at < 0 || at + size > length)
    throw py::index_error("slice_rows: rows " + std::to_string(at) + " to " + std::to_string(at + size - 1) + " of " +
                          std::to_string(length));
  return at;
}

py::object slice_rows(py::handle out_handle, py::handle x_handle, py::handle cursor) {
  const Array out(out_handle), x(x_handle), at(cursor);
  if (at.rank != 0 || (at.data && at.type != Type::int64 && at.type != Type::int32)) return declined();
  if (!usable_bytes(out, x) || !same_dtype(out_handle, x_handle) || x.rank < 1 || out.rank != x.rank) return declined();
  if (!overlap_allowed({&out}, {&x})) return declined();
  const long bytes = row_size(x) * x.item, size = out.shape[0], length = x.shape[0];
  const char* first = x.as<char>();
  const Whole start(cursor);
  launch(kernels().copy, {out.as<char>(), first, 1, out.size * out.item, 0, 0}, kCheap / 4 * out.size * out.item,
         [=](Copy& c) { c.x = first + slice_start(start, size, length) * bytes; });
  return done();
}

// The rows order[start..] of x and y.
py::object gather_two(py::handle out_x_handle, py::handle out_y_handle, py::handle x_handle, py::handle y_handle,
                      const Array& order, py::handle cursor, long size) {
  const Array out_x(out_x_handle), out_y(out_y_handle), x(x_handle), y(y_handle), at(cursor);
  if (!is_index(order) || order.rank != 1 || at.rank != 0 || (at.data && at.type != Type::int64 && at.type != Type::int32))
    return declined();
  if (!same_dtype(out_x_handle, x_handle) || !same_dtype(out_y_handle, y_handle)) return declined();
  for (const auto& [out, in] : {std::pair{&out_x, &x}, std::pair{&out_y, &y}})
    if (!usable_bytes(*out, *in) || in->rank < 1 || out->rank != in->rank || out->shape[0] != size ||
        !std::equal(in->shape + 1, in->shape + in->rank, out->shape + 1))
      return declined();
  if (!overlap_allowed({&out_x, &out_y}, {&x, &y, &order, &at})) return declined();
  const Index index = index_of(order);
  const long bytes_x = row_size(x) * x.item, bytes_y = row_size(y) * y.item, length = order.size;
  const long fewest = std::min(x.shape[0], y.shape[0]);
  const Whole start(cursor);
  launch(kernels().gather_two,
         {{out_x.as<char>(), x.as<char>(), index, size, bytes_x}, {out_y.as<char>(), y.as<char>(), index, size, bytes_y}},
         kCheap / 4 * size * (bytes_x + bytes_y), [=](GatherTwo& g) {
           g.first.rows = g.second.rows = index.from(slice_start(start, size, length));
           InRange{"gather", false, g.first.rows, size, fewest}(g);
         });
  return done();
}

py::object pick(py::handle out_handle, py::handle x_handle, const Array& columns) {
  const Array out(out_handle), x(x_handle);
  if (!usable_bytes(out, x) || !same_dtype(out_handle, x_handle) || x.rank < 1 || !is_index(columns)) return declined();
  if (!overlap_allowed({&out}, {&x, &columns})) return declined();
  const long cols = x.shape[x.rank - 1];
  if (!out.same_shape(columns) || out.rank != x.rank - 1 || !std::equal(out.shape, out.shape + out.rank, x.shape))
    shape_error("pick", {{"out", &out}, {"x", &x}, {"t", &columns}});
  const Index index = index_of(columns);
  launch(kernels().pick, {out.as<char>(), x.as<char>(), index, out.size, cols, out.item}, kCheap * out.size,
         InRange{"pick", true, index, out.size, cols});
  return done();
}

py::object one_hot(const Array& out, const Array& columns) {
  if (!usable({&out}, {}) || !is_index(columns) || out.rank != columns.rank + 1) return declined();
  if (!overlap_allowed({&out}, {&columns})) return declined();
  if (!std::equal(columns.shape, columns.shape + columns.rank, out.shape))
    shape_error("one_hot", {{"out", &out}, {"t", &columns}});
  const long cols = out.shape[out.rank - 1];
  const Index index = index_of(columns);
  by_type(out.type, [&](auto zero) {
    using T = decltype(zero);
    launch(table<T>().one_hot, {out.as<T>(), index, columns.size, cols}, kCheap * out.size,
           InRange{"one_hot", true, index, columns.size, cols});
  });
  return done();
}

// Rows of bytes; nothing where they already stand in their place.
void launch_copy(const Copy& c) {
  if (c.out != c.x) launch(kernels().copy, c, kCheap / 4 * c.rows * c.bytes);
}

// Of x's axes those that differ, neighbours that lie as one joined; nothing where more than four are left.
std::optional<Walk> walk_of(const Array& out, const Array& x) {
  if (!x.plain || !out.writeable || !out.contiguous || (x.item != 4 && x.item != 8)) return std::nullopt;
  Walk w{out.as<char>(), x.as<char>(), {1, 1, 1, 1}, {0, 0, 0, 0}, x.item};
  int last = 4;  // axes are filled in from the last
  for (int d = x.rank - 1; d >= 0; --d) {
    if (x.shape[d] == 1) continue;
    if (last < 4 && x.strides[d] == w.step[last] * w.n[last]) w.n[last] *= x.shape[d];
    else if (--last < 0) return std::nullopt;
    else w.n[last] = x.shape[d], w.step[last] = x.strides[d];
  }
  return w;
}

py::object copy(py::handle out_handle, py::handle x_handle) {
  const Array out(out_handle), x(x_handle);
  if (x.data && !x.contiguous && out.type == x.type) {
    py::object made = cast(out, x);  // where rows lie apart
    if (!made.is(declined()) || !out.same_shape(x) || !same_dtype(out_handle, x_handle)) return made;
    const auto w = walk_of(out, x);
    if (!w || !overlap_allowed({&out}, {&x})) return made;
    launch(kernels().walk, *w, kCheap * x.size);
    return done();
  }
  if (!usable_bytes(out, x) || !same_dtype(out_handle, x_handle)) return declined();
  if (!overlap_allowed({&out}, {&x}, {&x})) return declined();
  if (!out.same_shape(x)) shape_error("copy", {{"out", &out}, {"x", &x}});
  launch_copy({out.as<char>(), x.as<char>(), 1, x.size * x.item, 0, 0});
  return done();
}

// Pieces side by side: rows of `out` are filled from left to right. pack is this with one row.
py::object join(const char* name, py::handle out_handle, const py::args& pieces, int axis) {
  const Array out(out_handle);
  long rows = 1, filled = 0;
  for (int i = 0; i < axis; ++i) rows *= out.shape[i];
  const long out_row = rows ? out.size * out.item / rows : 0;
  for (py::handle piece : pieces) {
    const Array x(piece);
    if (!usable_bytes(out, x) || !same_dtype(out_handle, piece)) return declined();
    const bool there = rows == 1 && x.as<char>() == out.as<char>() + filled;
    if (!there && !overlap_allowed({&out}, {&x})) return declined();
    filled += rows ? x.size * x.item / rows : 0;
  }
  if (filled != out_row) shape_error(name, {{"out", &out}});
  char* to = out.as<char>();
  for (py::handle piece : pieces) {
    const Array x(piece);
    const long bytes = rows ? x.size * x.item / rows : 0;
    launch_copy({to, x.as<char>(), rows, bytes, out_row, bytes});
    to += bytes;
  }
  return done();
}

py::object scatter_add(const Array& out, const Array& g, const Array& rows) {
  if (!usable({&out}, {&g}) || !is_index(rows) || out.rank < 1) return declined();
  if (!overlap_allowed({&out}, {&g, &rows})) return declined();
  if (!same_rows(g, out, rows)) shape_error("scatter_add", {{"out", &out}, {"g", &g}, {"rows", &rows}});
  const Index index = index_of(rows);
  by_type(out.type, [&](auto zero) {
    using T = decltype(zero);
    launch(table<T>().scatter_add, {out.as<T>(), g.as<T>(), index, rows.size, long(out.shape[0]), row_size(out)},
           kCheap * (out.size + g.size), InRange{"scatter_add", false, index, rows.size, out.shape[0]});
  });
  return done();
}

bool is_rate(double r) { return r >= 0 && r < 1; }

// The rate and the step, as they are when the numbers are drawn.
struct Drawn {
  Real rate;
  Whole step;
  template <class Args> void operator()(Args& d) const {
    d.draw.rate = rate, d.draw.step = unsigned(std::int64_t(step));
    if (!is_rate(d.draw.rate))
      throw py::value_error("dropout: the rate is a probability in [0, 1), got " + std::to_string(d.draw.rate));
  }
};

py::object dropout(const Array& out, const Array& x, Real rate, Whole step, unsigned long long seed, unsigned stream) {
  if (!is_rate(rate) || !usable({&out}, {&x}) || !overlap_allowed({&out}, {&x}, {&x})) return declined();
  if (!out.same_shape(x)) shape_error("dropout", {{"out", &out}, {"x", &x}});
  by_type(out.type, [&](auto zero) {
    using T = decltype(zero);
    launch(table<T>().dropout, {out.as<T>(), x.as<T>(), {x.size, 0, seed, stream, 0}}, kCostly * x.size, Drawn{rate, step});
  });
  return done();
}

py::object dropout_keep(const Array& out, Real rate, Whole step, unsigned long long seed, unsigned stream) {
  if (!is_rate(rate) || out.type != Type::boolean || !out.contiguous || !out.writeable) return declined();
  launch(kernels().dropout_keep, {out.as<bool>(), {out.size, 0, seed, stream, 0}}, kCostly * out.size, Drawn{rate, step});
  return done();
}

// The lowest bits of a Python integer of any size.
unsigned long long low_bits(py::handle n) { return PyLong_AsUnsignedLongLongMask(n.ptr()); }

}  // namespace

void bind_rows(py::module_& m) {
  using py::arg, py::handle, py::kw_only;
  m.def("gather", [](handle out, handle x, handle rows) { return gather(out, x, rows); }, arg("out"), arg("x"),
        arg("rows"));
  m.def("slice_rows", [](handle out, handle x, handle start, handle) { return slice_rows(out, x, start); }, arg("out"),
        arg("x"), arg("start"), kw_only(), arg("size"));  // size is out's length
  m.def("gather_two",
        [](handle out_x, handle out_y, handle x, handle y, handle order, handle start, long size) {
          return gather_two(out_x, out_y, x, y, order, start, size);
        },
        arg("out_x"), arg("out_y"), arg("x"), arg("y"), arg("order"), arg("start"), kw_only(), arg("size"));
  m.def("pick", [](handle out, handle x, handle t) { return pick(out, x, t); }, arg("out"), arg("x"), arg("t"));
  m.def("one_hot", [](handle out, handle t, handle, handle) { return one_hot(out, t); }, arg("out"), arg("t"),
        kw_only(), arg("n"), arg("dtype"));  // as out has them
  m.def("copy", [](handle out, handle x) { return copy(out, x); }, arg("out"), arg("x"));
  m.def("pack", [](handle out, const py::args& xs) { return join("pack", out, xs, 0); }, arg("out"));
  m.def("concat", [](handle out, const py::args& xs, int axis) { return join("concat", out, xs, axis); }, arg("out"),
        kw_only(), arg("axis"));
  m.def("scatter_add", [](handle out, handle g, handle rows, long) { return scatter_add(out, g, rows); }, arg("out"),
        arg("g"), arg("rows"), kw_only(), arg("n") = 0);  // n is out's length, which out tells
  m.def("dropout",
        [](handle out, handle x, Real rate, Whole step, py::int_ seed, py::int_ stream) {
          return dropout(out, x, rate, step, low_bits(seed), unsigned(low_bits(stream)));
        },
        arg("out"), arg("x"), arg("rate"), arg("step"), kw_only(), arg("seed"), arg("stream"));
  m.def("dropout_keep",
        [](handle out, Real rate, Whole step, handle, py::int_ seed, py::int_ stream) {
          return dropout_keep(out, rate, step, low_bits(seed), unsigned(low_bits(stream)));
        },
        arg("out"), arg("rate"), arg("step"), kw_only(), arg("shape"), arg("seed"), arg("stream"));  // shape is out's
}

}  // namespace gpunet
