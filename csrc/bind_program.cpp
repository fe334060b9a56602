// _cpu.Program: kernels are recorded by calling them as ever, and run many times in one call.
#include <pybind11/stl.h>

#include <algorithm>
#include <memory>
#include <tuple>

#include "bind.h"

namespace gpunet {
namespace {

// What has no kernel: a Python function, called with the lock held and numbers as NumPy has them. False ends the run.
struct Callback { PyObject* function; };

void call_back(const Callback& callback, Part) {
  py::gil_scoped_acquire acquire;
  FlushDenormals keep(false);
  const py::object result = py::reinterpret_steal<py::object>(PyObject_CallNoArgs(callback.function));
  if (!result) throw py::error_already_set();
  if (result.ptr() == Py_False) throw EndOfRun{};
}

template <class T> struct Hope {
  void operator()(Finite<T>& f) const { *f.fine = true; }
};

struct Fine { const bool* fine; };

void end_unless(const Fine& f, Part) {
  if (!*f.fine) throw EndOfRun{};
}

// An argument's or a result's place in the program's memory; contiguous.
struct Port {
  explicit Port(const py::array& a) : place(a), bytes(std::size_t(a.nbytes())) {}

  const py::detail::PyArray_Proxy* operator->() const { return py::detail::array_proxy(place.ptr()); }

  // Whether an array has this element type and shape, and no gaps.
  bool fits(const py::object& a) const {
    const auto *mine = operator->(), *its = py::detail::array_proxy(a.ptr());
    return its->descr == mine->descr && its->nd == mine->nd && (its->flags & py::array::c_style) &&
           std::equal(mine->dimensions, mine->dimensions + mine->nd, its->dimensions);
  }

  py::object fresh() const {
    const auto& numpy = py::detail::npy_api::get();
    const auto* mine = operator->();
    Py_INCREF(mine->descr);  // which NewFromDescr takes over
    PyObject* made = numpy.PyArray_NewFromDescr_(numpy.PyArray_Type_, mine->descr, mine->nd, mine->dimensions, nullptr,
                                                 nullptr, 0, nullptr);
    if (!made) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(made);
  }

  py::array place;
  std::size_t bytes;
};

py::object attribute(py::handle thing, py::handle name) {
  PyObject* found = PyObject_GetAttr(thing.ptr(), name.ptr());
  if (!found) PyErr_Clear();
  return py::reinterpret_steal<py::object>(found);
}

// An argument's array: itself, or the value of a Tensor that no gradient flows through. Nothing for all else.
py::object array_of(py::handle given) {
  static PyObject *const value = PyUnicode_InternFromString("value"), *const node = PyUnicode_InternFromString("node");
  const auto is_array = [](py::handle h) { return h && Py_TYPE(h.ptr()) == py::detail::npy_api::get().PyArray_Type_; };
  if (is_array(given)) return py::reinterpret_borrow<py::object>(given);
  const py::object array = attribute(given, value);
  return is_array(array) && attribute(given, node).is_none() ? array : py::object();
}

// Whether each (thing, name, what it was) still holds: the attribute is the very same object.
bool unchanged(const py::tuple& facts) {
  for (py::handle fact : facts) {
    PyObject* const* parts = &PyTuple_GET_ITEM(fact.ptr(), 0);
    if (attribute(parts[0], parts[1]).ptr() != parts[2]) return false;
  }
  return true;
}

using Meeting = std::tuple<std::size_t, std::size_t, bool>;
std::vector<Meeting> meeting(const std::vector<py::object>& outs, const std::vector<py::object>& ins) {
  std::vector<Meeting> found;
  const std::vector<Array> from(ins.begin(), ins.end());
  for (std::size_t i = 0; i < outs.size(); ++i) {
    const Array out(outs[i]);
    for (std::size_t k = 0; k < from.size(); ++k) {
      const Array& in = from[k];
      const auto mine = out.extent(), its = in.extent();
      if (mine.second <= its.first || its.second <= mine.first) continue;
      const bool same = in.data == out.data && std::equal(in.strides, in.strides + in.rank, out.strides, out.strides + out.rank);
      found.emplace_back(i, k, same);
    }
  }
  return found;
}

// The two in one, for what is too small to be shared out.
template <class T> struct SmallFinite { Kernel<Finite<T>> kernel; const T* x; long n; };

template <class T> void end_unless_finite(const SmallFinite<T>& f, Part whole) {
  bool fine = true;
  f.kernel({f.x, f.n, &fine}, whole);
  if (!fine) throw EndOfRun{};
}

class Recorder {
 public:
  bool record(const py::object& kernel, const py::tuple& outs, const py::tuple& ins, const py::dict& settings) {
    const std::size_t before = program_.size();
    recording() = &program_;
    try {
      const py::object answer = kernel(*outs, *ins, **settings);
      recording() = nullptr;
      if (answer.ptr() != Py_NotImplemented) {
        kept_.push_back(outs), kept_.push_back(ins);
        return true;
      }
    } catch (py::error_already_set& error) {
      recording() = nullptr;
      if (!error.matches(PyExc_NotImplementedError)) throw;
    }
    program_.shrink(before);
    return false;
  }

  void call(const py::object& function) {
    kept_.push_back(function);
    program_.add(Call<Callback>{call_back, {function.ptr()}, {}}, 0);
  }

  bool watch(const py::object& value) {
    const Array a(value);
    if (!a.plain || !a.contiguous || (a.type != Type::float32 && a.type != Type::float64)) return false;
    kept_.push_back(value);
    by_type(a.type, [&](auto zero) {
      using T = decltype(zero);
      constexpr long kSmall = 4096;
      if (a.size <= kSmall) {
        program_.add(Call<SmallFinite<T>>{end_unless_finite<T>, {table<T>().finite, a.as<T>(), a.size}, {}}, 0);
        return;
      }
      auto fine = std::make_unique<bool>(true);
      program_.add(Call<Finite<T>, Hope<T>>{table<T>().finite, {a.as<T>(), a.size, fine.get()}, {}}, 2 * kCheap * a.size);
      program_.add(Call<Fine>{end_unless, {fine.get()}, {}}, 0);
      fine_.push_back(std::move(fine));
    });
    return true;
  }

  long run(long steps) {
    py::gil_scoped_release release;
    return program_.run(steps);
  }

  void ports(const std::vector<py::array>& ins, const std::vector<py::array>& outs) {
    ins_ = std::vector<Port>(ins.begin(), ins.end());
    outs_ = std::vector<Port>(outs.begin(), outs.end());
  }

  py::object step(const py::tuple& args, const py::tuple& facts) {
    if (args.size() != ins_.size() || !unchanged(facts)) return py::none();
    std::vector<py::object> held;  // nobody frees an array while it is copied
    std::vector<Move> before, after;
    for (std::size_t i = 0; i < ins_.size(); ++i) {
      held.push_back(array_of(args[i]));
      if (!held.back() || !ins_[i].fits(held.back())) return py::none();
      before.push_back({ins_[i]->data, py::detail::array_proxy(held.back().ptr())->data, ins_[i].bytes});
    }
    py::tuple made(outs_.size() + 1);
    for (std::size_t i = 0; i < outs_.size(); ++i) {
      py::object out = outs_[i].fresh();
      after.push_back({py::detail::array_proxy(out.ptr())->data, outs_[i]->data, outs_[i].bytes});
      PyTuple_SET_ITEM(made.ptr(), i + 1, out.release().ptr());
    }
    long done;
    {
      py::gil_scoped_release release;
      done = program_.call(before, after);
    }
    PyTuple_SET_ITEM(made.ptr(), 0, PyLong_FromLong(done));
    return std::move(made);
  }

  std::vector<double> profile(long steps) {
    py::gil_scoped_release release;
    return program_.profile(steps);
  }

  std::size_t size() const { return program_.size(); }
  long done() const { return program_.done(); }

 private:
  Program program_;
  std::vector<py::object> kept_;  // whose memory the calls point into
  std::vector<std::unique_ptr<bool>> fine_;
  std::vector<Port> ins_, outs_;
};

}  // namespace

void bind_program(py::module_& m) {
  using py::arg;
  py::class_<Recorder>(m, "Program", "A step as a list of kernel calls on fixed memory.")
      .def(py::init<>())
      .def("record", &Recorder::record, arg("kernel"), arg("outs"), arg("ins"), arg("settings"),
           "Add what kernel(*outs, *ins, **settings) would do; False where the kernel declines.")
      .def("call", &Recorder::call, arg("function"), "Add a call of a Python function; if it answers False, the run ends without counting the step.")
      .def("watch", &Recorder::watch, arg("value"),
           "End the run, without counting the step, where an element of value is not finite.")
      .def("run", &Recorder::run, arg("steps"), "Run so many steps; how many were done.")
      .def("ports", &Recorder::ports, arg("ins"), arg("outs"), "Where step() puts its arguments and takes its results from.")
      .def("step", &Recorder::step, arg("args"), arg("facts"),
           "Arguments in, one step, results out: (steps done, fresh arrays ...). None, and nothing done, where an argument "
           "does not fit or a fact (thing, attribute's name, the object it was) does not hold any more.")
      .def_static("unchanged", &unchanged, arg("facts"), "Whether all of such facts still hold.")
      .def_static("meeting", &meeting, arg("outs"), arg("ins"),
                  "(output, input, whether addresses and strides are equal), by number, where ranges of addresses meet.")
      .def("profile", &Recorder::profile, arg("steps"), "Run so many steps; the mean seconds of each instruction.")
      .def_property_readonly("done", &Recorder::done, "Whole steps of the last run.")
      .def("__len__", &Recorder::size);
}

}  // namespace gpunet
