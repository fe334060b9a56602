// Activations and their vjps on CUDA: the functors of activations.h, 16 bytes an access, the tail masked.
//
// Under NVRTC the names to ask for are gpunet::activation<gpunet::act::relu, float> and so on; no header of CUDA or of
// the standard library is needed. nvcc instantiates them all, so that a plain compile checks each.
#include "activations.h"

namespace gpunet {

template <class T> struct Pack;
template <> struct Pack<float> { typedef float4 type; static constexpr int n = 4; };
template <> struct Pack<double> { typedef double2 type; static constexpr int n = 2; };

// 16 bytes of an array of `size`, from element i on: at once where they are all there, else one by one.
template <class T> struct Lanes { T at[Pack<T>::n]; };

template <class T> __device__ __forceinline__ Lanes<T> load(const T* p, long long i, long long size) {
  typedef typename Pack<T>::type P;
  Lanes<T> v;
  if (i + Pack<T>::n <= size) {
    const P whole = *reinterpret_cast<const P*>(p + i);
    v.at[0] = whole.x;
    v.at[1] = whole.y;
    if constexpr (Pack<T>::n == 4) {
      v.at[2] = whole.z;
      v.at[3] = whole.w;
    }
  } else {
#pragma unroll
    for (int k = 0; k < Pack<T>::n; ++k) v.at[k] = i + k < size ? p[i + k] : T(0);
  }
  return v;
}

template <class T> __device__ __forceinline__ void store(T* p, long long i, long long size, const Lanes<T>& v) {
  typedef typename Pack<T>::type P;
  if (i + Pack<T>::n <= size) {
    P whole;
    whole.x = v.at[0];
    whole.y = v.at[1];
    if constexpr (Pack<T>::n == 4) {
      whole.z = v.at[2];
      whole.w = v.at[3];
    }
    *reinterpret_cast<P*>(p + i) = whole;
  } else {
#pragma unroll
    for (int k = 0; k < Pack<T>::n; ++k)
      if (i + k < size) p[i + k] = v.at[k];
  }
}

template <class T> __device__ __forceinline__ long long first_element() {
  return Pack<T>::n * (static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x);
}
template <class T> __device__ __forceinline__ long long stride() {
  return Pack<T>::n * static_cast<long long>(gridDim.x) * blockDim.x;
}

// out = act(x); both 16-byte aligned, and they may be one array.
template <class A, class T>
__global__ void activation(T* out, const T* x, long long size, T alpha) {
  for (long long i = first_element<T>(); i < size; i += stride<T>()) {
    Lanes<T> v = load(x, i, size);
#pragma unroll
    for (int k = 0; k < Pack<T>::n; ++k) v.at[k] = A::value(v.at[k], alpha);
    store(out, i, size, v);
  }
}

// out = g act'(saved); `saved` is the input or the output as the activation says, and out may be g.
template <class A, class T>
__global__ void activation_vjp(T* out, const T* g, const T* saved, long long size, T alpha) {
  for (long long i = first_element<T>(); i < size; i += stride<T>()) {
    Lanes<T> v = load(g, i, size);
    const Lanes<T> s = load(saved, i, size);
#pragma unroll
    for (int k = 0; k < Pack<T>::n; ++k) v.at[k] *= A::slope(s.at[k], alpha);
    store(out, i, size, v);
  }
}

#if !defined(__CUDACC_RTC__)
#define GPUNET_INSTANCES(A, T)                                           \
  template __global__ void activation<A, T>(T*, const T*, long long, T); \
  template __global__ void activation_vjp<A, T>(T*, const T*, const T*, long long, T);
#define GPUNET_ROW(name) GPUNET_INSTANCES(act::name, float) GPUNET_INSTANCES(act::name, double)
GPUNET_ACTIVATIONS(GPUNET_ROW)
#undef GPUNET_ROW
#undef GPUNET_INSTANCES
#endif

}  // namespace gpunet
