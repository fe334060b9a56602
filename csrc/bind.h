// What the bindings share: arrays as the kernels want them, declining politely, and the launch.
//
// A kernel is called kernel(*outs, *ins, **settings). It returns NotImplemented where it declines (element types,
// layout, rank), and raises ValueError or IndexError where the caller is wrong.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>

#include "kernels.h"
#include "threads.h"

namespace gpunet {
namespace py = pybind11;

const Kernels& kernels();  // of the instruction set in use
template <class T> const Table<T>& table() {
  if constexpr (std::is_same_v<T, float>) return kernels().f32;
  else return kernels().f64;
}

enum class Type { float32, float64, int32, int64, other };

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
  const py::ssize_t *shape = nullptr, *strides = nullptr;
};

using Arrays = std::initializer_list<const Array*>;

py::object declined();
inline py::object done() { return py::none(); }

double scalar(py::handle h);        // a 0-d float64 array or a Python number
long long integer(py::handle h);    // a 0-d int64 array or a Python int
int find_activation(std::string_view name);  // -1: not known here
bool needs_input(int act);

[[noreturn]] void shape_error(const char* kernel, std::initializer_list<std::pair<const char*, const Array*>> arrays);

// Nothing written may lie over something read, unless it is the very same array and the kernel works in place.
bool overlap_allowed(Arrays outs, Arrays ins, Arrays in_place = {});

// All float32 or all float64, plain, outs writeable, all contiguous but for those in `views`.
bool usable(Arrays outs, Arrays ins, Arrays views = {});

template <class F> void by_type(Type type, F f) {
  if (type == Type::float32) f(float());
  else f(double());
}

// Run a kernel on as many threads as its work (about: floating-point operations) is worth.
template <class Args> void launch(Kernel<Args> kernel, const Args& args, double work) {
  constexpr double kRelease = 2e5, kThread = 5e6;
  std::optional<py::gil_scoped_release> release;
  if (work >= kRelease) release.emplace();
  struct Call { Kernel<Args> kernel; const Args* args; } call{kernel, &args};
  const double worth = work / kThread;
  const int parts = worth < 2 ? 1 : worth < thread_count() ? int(worth) : thread_count();
  FlushDenormals flush;
  run_parts([](const void* c, Part part) {
    const Call& call = *static_cast<const Call*>(c);
    call.kernel(*call.args, part);
  }, &call, parts);
}

// What one element costs, in floating-point operations: cheap ones are bound by memory.
constexpr double kCheap = 10, kCostly = 40;

void bind_kernels(py::module_& m);
void bind_rows(py::module_& m);
void bind_updates(py::module_& m);

}  // namespace gpunet
