// What a row of numbers needs before it meets a net: the usual case of gpunet/tabular/scaling.py, in one pass.
#include "bind.h"

namespace gpunet {
namespace {

// A number for all columns, or one for each; `numbers` is null where it is neither.
struct Each {
  const double* numbers = nullptr;
  long step = 0;
  double one = 0;

  Each(py::handle given, py::ssize_t cols) {
    if (PyFloat_Check(given.ptr())) {
      one = PyFloat_AS_DOUBLE(given.ptr()), numbers = &one;
      return;
    }
    const Array a(given);
    if (!a.plain || !a.contiguous || a.type != Type::float64 || !(a.rank == 0 || a.is({cols}))) return;
    numbers = a.as<double>(), step = a.rank;
  }
  Each(const Each&) = delete;
};

template <class T> bool standardise(float* out, const T* x, const Each& center, const Each& scale, long rows, long cols, double limit) {
  bool usual = true;  // without a branch, so that it is done by vectors; false for NaN
  for (long i = 0; i < rows; ++i, out += cols, x += cols)
    for (long j = 0; j < cols; ++j) {
      const double z = (double(x[j]) - center.numbers[j * center.step]) / scale.numbers[j * scale.step];
      usual &= __builtin_fabs(z) <= limit;
      out[j] = float(z);
    }
  return usual;
}

// None where a number is not within the limit, or for arrays that NumPy has to look at.
py::object standardised(py::handle values, py::handle center_given, py::handle scale_given, double limit) {
  const Array x(values);
  if (!x.plain || !x.contiguous || x.rank != 2) return py::none();
  const long rows = x.shape[0], cols = x.shape[1];
  const Each center(center_given, cols), scale(scale_given, cols);
  if (!center.numbers || !scale.numbers) return py::none();
  py::array_t<float> made({rows, cols});
  float* out = made.mutable_data();
  bool usual;
  {
    std::optional<py::gil_scoped_release> release;
    if (x.size > 10000) release.emplace();
    if (x.type == Type::float32) usual = standardise(out, x.as<float>(), center, scale, rows, cols, limit);
    else if (x.type == Type::float64) usual = standardise(out, x.as<double>(), center, scale, rows, cols, limit);
    else if (x.type == Type::uint8) usual = standardise(out, x.as<unsigned char>(), center, scale, rows, cols, limit);
    else usual = false;
  }
  return usual ? py::object(std::move(made)) : py::none();
}

}  // namespace

void bind_scaling(py::module_& m) {
  using py::arg;
  m.def("standardised", &standardised, arg("values"), arg("center"), arg("scale"), arg("limit"),
        "(values - center) / scale in float64, as float32 [rows, columns]; None unless all are within the limit.");
}

}  // namespace gpunet
