// Activations and their vjps on CUDA, alone and after a bias: the functors of activations.h.
#include "activations.h"
#include "device.h"

namespace gpunet {

// out = act(x); they may be one array.
template <class A, class T>
GPUNET_RUN void activation(T* out, const T* x, long long size, T alpha, const Control* control) {
  if (stopped(control)) return;
  for (long long i = first_element<T>(); i < size; i += grid_stride<T>()) {
    Lanes<T> v = load(x, i, size);
#pragma unroll
    for (int k = 0; k < kLanes<T>; ++k) v.at[k] = A::value(v.at[k], alpha);
    store(out, i, size, v);
  }
}

// out = g act'(saved); `saved` is the input or the output as the activation says, and out may be g.
template <class A, class T>
GPUNET_RUN void activation_vjp(T* out, const T* g, const T* saved, long long size, T alpha, const Control* control) {
  if (stopped(control)) return;
  for (long long i = first_element<T>(); i < size; i += grid_stride<T>()) {
    Lanes<T> v = load(g, i, size);
    const Lanes<T> s = load(saved, i, size);
#pragma unroll
    for (int k = 0; k < kLanes<T>; ++k) v.at[k] *= A::slope(s.at[k], alpha);
    store(out, i, size, v);
  }
}

// z = x + bias, one bias for each of `cols` columns, and out = act(z); out, z and x may be one array.
template <class A, class T>
GPUNET_RUN void bias_activation(T* out, T* z, const T* x, const T* bias, long long size, int cols, T alpha,
                                const Control* control) {
  if (stopped(control)) return;
  for (long long i = first_element<T>(); i < size; i += grid_stride<T>()) {
    Lanes<T> v = load(x, i, size);
    int column = static_cast<int>(i % cols);
#pragma unroll
    for (int k = 0; k < kLanes<T>; ++k) {
      v.at[k] += bias[column];
      column = column + 1 == cols ? 0 : column + 1;
    }
    if (z != out) store(z, i, size, v);
#pragma unroll
    for (int k = 0; k < kLanes<T>; ++k) v.at[k] = A::value(v.at[k], alpha);
    store(out, i, size, v);
  }
}

}  // namespace gpunet

// clang-format off
#define GPUNET_ROW(name)                                               \
  GPUNET_KERNEL(gpunet::activation<gpunet::act::name, float>)          \
  GPUNET_KERNEL(gpunet::activation<gpunet::act::name, double>)         \
  GPUNET_KERNEL(gpunet::activation_vjp<gpunet::act::name, float>)      \
  GPUNET_KERNEL(gpunet::activation_vjp<gpunet::act::name, double>)     \
  GPUNET_KERNEL(gpunet::bias_activation<gpunet::act::name, float>)     \
  GPUNET_KERNEL(gpunet::bias_activation<gpunet::act::name, double>)
// clang-format on
GPUNET_ACTIVATIONS(GPUNET_ROW)
#undef GPUNET_ROW
