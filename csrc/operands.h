// What elementwise kernels are made of on CUDA, alone (elementwise.cu) and chained (gpunet/devices/cuda_chains.py): their
// operands, which may be broadcast, and the formulas as functors.
#pragma once

#include "activations.h"
#include "device.h"
#include "formulas.h"

namespace gpunet {

// n values of any type, one for each lane.
template <class T, int n> struct Values { T at[n]; };

// Element (i, j) stands at data[i row + j step].
template <class T> struct Operand {
  const T* data;
  long long row, step;

  HD T at(long long i, long long j) const { return data[i * row + j * step]; }
  // Elements k.. of `size` in all, in rows of `cols`.
  HD Lanes<T> lanes(long long k, long long cols, long long size) const {
    if (step == 1 && (row == cols || cols == size)) return load(data, k, size);
    Lanes<T> v;
    long long i = k / cols, j = k % cols;
#pragma unroll
    for (int lane = 0; lane < kLanes<T>; ++lane) {
      v.at[lane] = k + lane < size ? at(i, j) : T();
      if (++j == cols) j = 0, ++i;
    }
    return v;
  }
  // n elements from (i, j) on, in rows of `cols`; so many are `left`. 16 bytes of one row are read at once.
  template <int n> HD Values<T, n> values(long long i, long long j, long long cols, long long left) const {
    Values<T, n> v;
    const T* p = data + i * row + j * step;
    if constexpr (n == kLanes<T>)
      if (step == 1 && j + n <= cols && reinterpret_cast<unsigned long long>(p) % 16 == 0) {
        const Lanes<T> found = load_16(p);
#pragma unroll
        for (int lane = 0; lane < n; ++lane) v.at[lane] = found.at[lane];
        return v;
      }
#pragma unroll
    for (int lane = 0; lane < n; ++lane) {
      v.at[lane] = lane < left ? at(i, j) : T();
      if (++j == cols) j = 0, ++i;
    }
    return v;
  }
};

// Bools beside lanes of floats: one by one.
template <int n> HD void store(bool* p, long long k, long long size, const Values<bool, n>& v) {
#pragma unroll
  for (int lane = 0; lane < n; ++lane)
    if (k + lane < size) p[k + lane] = v.at[lane];
}

template <class V, Unary formula> struct unary_of;
#define GPUNET_ROW(name, expression)                                                                \
  template <class V> struct unary_of<V, Unary::name> {                                              \
    static HD V at(V x, [[maybe_unused]] V low, [[maybe_unused]] V high) { return expression; }     \
  };
GPUNET_UNARY(GPUNET_ROW)
#undef GPUNET_ROW

template <class V, Binary formula> struct binary_of;
#define GPUNET_ROW(name, expression, integers) \
  template <class V> struct binary_of<V, Binary::name> { static HD V at(V x, V y) { return expression; } };
GPUNET_BINARY(GPUNET_ROW)
#undef GPUNET_ROW

template <class V, Compare formula> struct compare_of;
#define GPUNET_ROW(name, expression) \
  template <class V> struct compare_of<V, Compare::name> { static HD bool at(V x, V y) { return expression; } };
GPUNET_COMPARE(GPUNET_ROW)
#undef GPUNET_ROW

}  // namespace gpunet
