// What the bindings share: arrays as the kernels want them, declining politely, and the launch.
//
// A kernel is called kernel(*outs, *ins, **settings). It returns NotImplemented where it declines (element types,
// layout, rank), and raises ValueError or IndexError where the caller is wrong.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "kernels.h"
#include "program.h"
#include "threads.h"

namespace gpunet {
namespace py = pybind11;

const Kernels& kernels();  // of the instruction set in use
template <class T> const Table<T>& table() {
  if constexpr (std::is_same_v<T, float>) return kernels().f32;
  else return kernels().f64;
}

enum class Type { float32, float64, int32, int64, uint8, boolean, other };

// An argument, looked at once. If it is not an array, `type` is other and `plain` false.
struct Array {
  Array(py::handle h);  // implicit: this is how an argument becomes an Array
  template <class T> T* as() const { return static_cast<T*>(data); }
  bool same_shape(const Array& other) const;
  bool is(std::initializer_list<py::ssize_t> sizes) const;
  bool indexes() const;      // a vector of int32 or int64
  std::string text() const;  // "(3, 4)"

  void* data = nullptr;
  Type type = Type::other;
  bool plain = false;       // aligned, native byte order
  bool contiguous = false;  // in C order
  bool writeable = false;
  int rank = 0;
  py::ssize_t size = 0, item = 0;
  std::pair<const char*, const char*> extent() const;  // the first byte, and the one after the last
  const py::ssize_t *shape = nullptr, *strides = nullptr;
};

using Arrays = std::initializer_list<const Array*>;

py::object declined();
inline py::object done() { return py::none(); }

// The Program that kernels are recorded into now instead of being run, or nullptr.
Program*& recording();

// A number that a kernel needs: a Python number, or an array without axes, which is read each time it is needed.
template <class T> class Scalar {
 public:
  Scalar() = default;
  explicit Scalar(py::handle h);
  operator T() const { return read_ ? read_(at_) : value_; }

 private:
  T (*read_)(const void*) = nullptr;
  const void* at_ = nullptr;
  T value_{};
};
using Real = Scalar<double>;
using Whole = Scalar<std::int64_t>;
int find_activation(std::string_view name);  // -1: not known here
bool needs_input(int act);
// With a negative alpha the sign of the output no longer tells the sign of the input.
inline bool slope_known(int act, double alpha) { return act >= 0 && (needs_input(act) || !(alpha < 0)); }

py::object cast(const Array& out, const Array& x);

[[noreturn]] void shape_error(const char* kernel, std::initializer_list<std::pair<const char*, const Array*>> arrays);

// Nothing written may lie over something read, unless it is the very same array and the kernel works in place.
bool overlap_allowed(Arrays outs, Arrays ins, Arrays in_place = {});

// All float32 or all float64, plain, outs writeable, all contiguous but for those in `views`.
bool usable(Arrays outs, Arrays ins, Arrays views = {});

template <class F> void by_type(Type type, F f) {
  if (type == Type::float32) f(float());
  else f(double());
}

// Run a kernel on as many threads as its work (about: floating-point operations) is worth; or record it.
template <class Args, class Prepare = Nothing>
void launch(Kernel<Args> kernel, const Args& args, double work, const Prepare& prepare = {}) {
  constexpr double kRelease = 2e5;
  Call<Args, Prepare> call{kernel, args, prepare};
  if (recording()) return recording()->add(call, work);
  call.begin(&call);
  std::optional<py::gil_scoped_release> release;
  if (work >= kRelease) release.emplace();
  FlushDenormals flush;
  run_parts(call.run, &call, parts_for(work));
}

struct Extent { long rows, cols; };
inline Extent rows_of_last_axis(const Array& a) {
  const long cols = a.rank ? a.shape[a.rank - 1] : 0;
  return {cols ? a.size / cols : 0, cols};
}

inline Index index_of(const Array& rows) { return {rows.data, rows.type == Type::int64}; }

// Row or column numbers may change from step to step: they are looked at before each.
struct InRange {
  const char* name;
  bool columns;
  Index index;
  long n, length;

  template <class Args> void operator()(Args&) const {
    if (index.within(n, length)) return;
    for (long i = 0;; ++i)
      if (index[i] < 0 || index[i] >= length) fail(i);
  }
  [[noreturn]] void fail(long i) const {
    const std::string at = std::to_string(i), got = std::to_string(index[i]), all = std::to_string(length);
    throw py::index_error(name + (columns ? ": index " + got + " is out of range for " + all + " columns, in row " + at
                                          : ": rows[" + at + "] is " + got + ", expected 0.." +
                                                std::to_string(length - 1) + " (length " + all + ")"));
  }
};

// What one element costs, in floating-point operations: cheap ones are bound by memory.
constexpr double kCheap = 10, kCostly = 40;

void bind_chain(py::module_& m);
void bind_columns(py::module_& m);
void bind_elementwise(py::module_& m);
void bind_kernels(py::module_& m);
void bind_normalize(py::module_& m);
void bind_program(py::module_& m);
void bind_rows(py::module_& m);
void bind_scaling(py::module_& m);
void bind_text(py::module_& m);
void bind_updates(py::module_& m);

}  // namespace gpunet

template <class T> struct pybind11::detail::type_caster<gpunet::Scalar<T>> {
  PYBIND11_TYPE_CASTER(gpunet::Scalar<T>, const_name("number"));
  bool load(handle h, bool) {
    value = gpunet::Scalar<T>(h);
    return true;
  }
};
