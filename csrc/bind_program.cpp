// _cpu.Program: kernels are recorded by calling them as ever, and run many times in one call.
#include <pybind11/stl.h>

#include <memory>

#include "bind.h"

namespace gpunet {
namespace {

// What has no kernel: a Python function, called with the lock held and numbers as NumPy has them.
struct Callback { PyObject* function; };

void call_back(const Callback& callback, Part) {
  py::gil_scoped_acquire acquire;
  FlushDenormals keep(false);
  if (PyObject* result = PyObject_CallNoArgs(callback.function)) Py_DECREF(result);
  else throw py::error_already_set();
}

template <class T> struct Hope {
  void operator()(Finite<T>& f) const { *f.fine = true; }
};

struct Fine { const bool* fine; };

void end_unless(const Fine& f, Part) {
  if (!*f.fine) throw EndOfRun{};
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
      auto fine = std::make_unique<bool>(true);
      program_.add(Call<Finite<T>, Hope<T>>{table<T>().finite, {a.as<T>(), a.size, fine.get()}, {}}, kCheap / 4 * a.size);
      program_.add(Call<Fine>{end_unless, {fine.get()}, {}}, 0);
      fine_.push_back(std::move(fine));
    });
    return true;
  }

  long run(long steps) {
    py::gil_scoped_release release;
    return program_.run(steps);
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
};

}  // namespace

void bind_program(py::module_& m) {
  using py::arg;
  py::class_<Recorder>(m, "Program", "A step as a list of kernel calls on fixed memory.")
      .def(py::init<>())
      .def("record", &Recorder::record, arg("kernel"), arg("outs"), arg("ins"), arg("settings"),
           "Add what kernel(*outs, *ins, **settings) would do; False where the kernel declines.")
      .def("call", &Recorder::call, arg("function"), "Add a call of a Python function.")
      .def("watch", &Recorder::watch, arg("value"),
           "End the run, without counting the step, where an element of value is not finite.")
      .def("run", &Recorder::run, arg("steps"), "Run so many steps; how many were done.")
      .def("profile", &Recorder::profile, arg("steps"), "Run so many steps; the mean seconds of each instruction.")
      .def_property_readonly("done", &Recorder::done, "Whole steps of the last run.")
      .def("__len__", &Recorder::size);
}

}  // namespace gpunet
