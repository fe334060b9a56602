// The formulas of formulas.h on CUDA, each by itself, with broadcasting.
#include "operands.h"

namespace gpunet {

template <Unary formula, class T>
GPUNET_RUN void unary(T* out, const T* x, long long x_row, long long x_step, long long cols, long long size, T low,
                      T high, const Control* control) {
  if (stopped(control)) return;
  const Operand<T> of_x = {x, x_row, x_step};
  for (long long k = first_element<T>(); k < size; k += grid_stride<T>()) {
    Lanes<T> v = of_x.lanes(k, cols, size);
#pragma unroll
    for (int lane = 0; lane < kLanes<T>; ++lane) v.at[lane] = unary_of<T, formula>::at(v.at[lane], low, high);
    store(out, k, size, v);
  }
}

template <Binary formula, class T>
GPUNET_RUN void binary(T* out, const T* x, long long x_row, long long x_step, const T* y, long long y_row,
                       long long y_step, long long cols, long long size, const Control* control) {
  if (stopped(control)) return;
  const Operand<T> of_x = {x, x_row, x_step}, of_y = {y, y_row, y_step};
  for (long long k = first_element<T>(); k < size; k += grid_stride<T>()) {
    Lanes<T> v = of_x.lanes(k, cols, size);
    const Lanes<T> w = of_y.lanes(k, cols, size);
#pragma unroll
    for (int lane = 0; lane < kLanes<T>; ++lane) v.at[lane] = binary_of<T, formula>::at(v.at[lane], w.at[lane]);
    store(out, k, size, v);
  }
}

// ---- several element types: one element a thread

template <Compare formula, class T>
GPUNET_RUN void compare(bool* out, const T* x, long long x_row, long long x_step, const T* y, long long y_row,
                        long long y_step, long long cols, long long size, const Control* control) {
  if (stopped(control)) return;
  const Operand<T> of_x = {x, x_row, x_step}, of_y = {y, y_row, y_step};
  for (long long k = first_one(); k < size; k += all_threads())
    out[k] = compare_of<T, formula>::at(of_x.at(k / cols, k % cols), of_y.at(k / cols, k % cols));
}

template <class T>
GPUNET_RUN void where(T* out, const bool* condition, long long c_row, long long c_step, const T* x, long long x_row,
                      long long x_step, const T* y, long long y_row, long long y_step, long long cols, long long size,
                      const Control* control) {
  if (stopped(control)) return;
  const Operand<bool> of_c = {condition, c_row, c_step};
  const Operand<T> of_x = {x, x_row, x_step}, of_y = {y, y_row, y_step};
  for (long long k = first_one(); k < size; k += all_threads()) {
    const long long i = k / cols, j = k % cols;
    out[k] = of_c.at(i, j) ? of_x.at(i, j) : of_y.at(i, j);
  }
}

template <class To, class From>
GPUNET_RUN void cast(To* out, const From* x, long long x_row, long long x_step, long long cols, long long size,
                     const Control* control) {
  if (stopped(control)) return;
  const Operand<From> of_x = {x, x_row, x_step};
  for (long long k = first_one(); k < size; k += all_threads()) out[k] = To(of_x.at(k / cols, k % cols));
}

}  // namespace gpunet

// clang-format off
#define GPUNET_ROW(name, ...)                                       \
  GPUNET_KERNEL(gpunet::unary<gpunet::Unary::name, float>)          \
  GPUNET_KERNEL(gpunet::unary<gpunet::Unary::name, double>)
GPUNET_UNARY(GPUNET_ROW)
#undef GPUNET_ROW
#define GPUNET_IF_true(...) __VA_ARGS__
#define GPUNET_IF_false(...)
#define GPUNET_ROW(name, formula, integers)                         \
  GPUNET_KERNEL(gpunet::binary<gpunet::Binary::name, float>)        \
  GPUNET_KERNEL(gpunet::binary<gpunet::Binary::name, double>)       \
  GPUNET_IF_##integers(GPUNET_KERNEL(gpunet::binary<gpunet::Binary::name, long long>))
GPUNET_BINARY(GPUNET_ROW)
#undef GPUNET_ROW
#define GPUNET_ROW(name, ...)                                       \
  GPUNET_KERNEL(gpunet::compare<gpunet::Compare::name, float>)      \
  GPUNET_KERNEL(gpunet::compare<gpunet::Compare::name, double>)     \
  GPUNET_KERNEL(gpunet::compare<gpunet::Compare::name, long long>)
GPUNET_COMPARE(GPUNET_ROW)
#undef GPUNET_ROW
#define GPUNET_ROW(To)                                              \
  GPUNET_KERNEL(gpunet::cast<To, float>)                            \
  GPUNET_KERNEL(gpunet::cast<To, double>)                           \
  GPUNET_KERNEL(gpunet::cast<To, int>)                              \
  GPUNET_KERNEL(gpunet::cast<To, long long>)                        \
  GPUNET_KERNEL(gpunet::cast<To, bool>)                             \
  GPUNET_KERNEL(gpunet::cast<To, unsigned char>)
GPUNET_ROW(float) GPUNET_ROW(double) GPUNET_ROW(long long)
#undef GPUNET_ROW
GPUNET_KERNEL(gpunet::where<float>) GPUNET_KERNEL(gpunet::where<double>) GPUNET_KERNEL(gpunet::where<long long>)
// clang-format on
