// What every .cu file stands on: 16 bytes an access with the tail masked, a warp's and a block's sum, and Control.
//
// Under NVRTC no header of CUDA or of the standard library is needed. Without a CUDA compiler, tests/fibers.h stands in
// CUDA's place.
#pragma once

#include "joins.h"

#if !defined(__CUDACC__)
#include "fibers.h"
#else
#define GPUNET_SHARED(T, name, n) __shared__ T name[n]
#if defined(__CUDACC_RTC__)
#define GPUNET_KERNEL(...)  // Python asks for the names it wants
#else
#define GPUNET_JOIN(a, b) a##b
#define GPUNET_NUMBERED(prefix, n) GPUNET_JOIN(prefix, n)
#define GPUNET_KERNEL(...) void* GPUNET_NUMBERED(instance_, __COUNTER__) = (void*)(&__VA_ARGS__);
#endif

namespace gpunet {
template <class T> struct alignas(16) Lanes { T at[16 / sizeof(T)]; };
template <class T> HD Lanes<T> load_16(const T* p) { return *reinterpret_cast<const Lanes<T>*>(p); }
template <class T> HD void store_16(T* p, const Lanes<T>& v) { *reinterpret_cast<Lanes<T>*>(p) = v; }
}  // namespace gpunet
#endif

// A kernel, and the most threads of its blocks. Where one launch does what several would, a function that several.h calls.
#if defined(GPUNET_SEVERAL)
#define GPUNET_RUN HD
#define GPUNET_AT_MOST(threads)
#else
#define GPUNET_RUN __global__
#define GPUNET_AT_MOST(threads) __launch_bounds__(threads)
#endif

namespace gpunet {

// Which block this is of its kernel's launch, and how many there are.
struct Triple { unsigned x, y, z; };
#if defined(GPUNET_SEVERAL)
struct Place { Triple block, grid; };
HD auto place() {
  GPUNET_SHARED(Place, place, 1);
  return place;
}
HD Triple block_index() { return Place(place()[0]).block; }
HD Triple grid_size() { return Place(place()[0]).grid; }
#else
HD Triple block_index() { return {blockIdx.x, blockIdx.y, blockIdx.z}; }
HD Triple grid_size() { return {gridDim.x, gridDim.y, gridDim.z}; }
#endif

// What the kernels of a device share: they do nothing once `go` is 0, so that the state stays as it was. A number that
// is not finite stops them. The host looks at it after many steps. No kernel that writes `go` has a barrier or a warp
// operation, which part of its threads would then miss.
struct Control { long long go, beyond, index, done; };

HD bool stopped(const Control* control) { return control->go == 0; }

// Whether 0 <= index < length; if not, the host is told.
HD bool within(long long index, long long length, Control* control) {
  if (index >= 0 && index < length) return true;
  control->beyond = 1, control->index = index;
  return false;
}
template <class T> HD T nan() { return infinity<T>() - infinity<T>(); }

// ---- flat vectors: each thread takes one element or 16 bytes of them, then those a whole grid further on

HD long long first_one() { return static_cast<long long>(block_index().x) * blockDim.x + threadIdx.x; }
HD long long all_threads() { return static_cast<long long>(grid_size().x) * blockDim.x; }

template <class T> constexpr int kLanes = 16 / int(sizeof(T));
template <class T> HD long long first_element() { return kLanes<T> * first_one(); }
template <class T> HD long long grid_stride() { return kLanes<T> * all_threads(); }

template <class T> HD bool whole(const T* p, long long i, long long size) {
  return i + kLanes<T> <= size && reinterpret_cast<unsigned long long>(p) % 16 == 0;
}

// Elements i.. of an array of `size`: at once where they are all there and the array is aligned, else one by one.
template <class T> HD Lanes<T> load(const T* p, long long i, long long size) {
  if (whole(p, i, size)) return load_16(p + i);
  Lanes<T> v;
#pragma unroll
  for (int k = 0; k < kLanes<T>; ++k) v.at[k] = i + k < size ? p[i + k] : T();
  return v;
}
template <class T> HD void store(T* p, long long i, long long size, const Lanes<T>& v) {
  if (whole(p, i, size)) return store_16(p + i, v);
#pragma unroll
  for (int k = 0; k < kLanes<T>; ++k)
    if (i + k < size) p[i + k] = v.at[k];
}

// ---- joining what the threads of a warp, or of a block, have found; every thread gets the result, in a fixed order

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

// Where each warp takes a row.
HD long long row_of_warp() {
  return static_cast<long long>(block_index().x) * (blockDim.x / kWarp) + threadIdx.x / kWarp;
}

template <class F, class T> HD T join_warp(T v) {
#pragma unroll
  for (int other = kWarp / 2; other; other /= 2) v = F::join(v, __shfl_xor_sync(kAllLanes, v, other));
  return v;
}

// A block of whole warps, at most 32.
template <class F, class T> HD T join_block(T v) {
  GPUNET_SHARED(T, warps, kWarp);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  v = join_warp<F>(v);
  if (lane == 0) warps[warp] = v;
  __syncthreads();
  return join_warp<F>(lane < static_cast<int>(blockDim.x) / kWarp ? T(warps[lane]) : F::template start<T>());
}

}  // namespace gpunet

#if defined(GPUNET_SEVERAL)
#include "several.h"
#endif
