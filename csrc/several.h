// One launch in the place of several, of one kernel for several nets: each block finds whose it is, and calls the kernel as
// if its net were alone. That costs a few nanoseconds a block, where a launch more would cost microseconds.
//
// A source that begins with #define GPUNET_SEVERAL has several<K> for each kernel K.
#pragma once

namespace gpunet {

constexpr int kSeveralThreads = 256;  // of a block, at most
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
constexpr int kSeveralBlocks = 1;  // on a multiprocessor, at least: NVRTC 12.9 and 13.5 spill parts of products.cu for two,
#else
constexpr int kSeveralBlocks = 2;  // and for sm_90, with one, parts of softmax.cu
#endif
constexpr int kTableBytes = 4096;  // of arguments, that every launch may have

typedef unsigned long long Argument;  // a pointer, or a number in its first bytes

// The launches, as gpunet/devices/several.py writes them down: their first block in the launch for all of them, or
// beyond all where there is none, their grids, and what each is given.
template <int arguments> struct Table {
  static constexpr int each = 16 + 8 * arguments, most = 8 * each <= kTableBytes ? 8 : kTableBytes / each;
  unsigned first[most];
  Triple grid[most];
  Argument given[most][arguments];
};
template <class... A> constexpr int count(void (*)(A...)) { return sizeof...(A); }

template <int... i> struct Numbers {};
template <int n, int... i> struct Below : Below<n - 1, n - 1, i...> {};
template <int... i> struct Below<0, i...> { typedef Numbers<i...> numbers; };

template <auto kernel, class... A, int... i> HD void call(void (*)(A...), Numbers<i...>, const Argument* given) {
  kernel(*reinterpret_cast<const A*>(given + i)...);
}

template <auto kernel>
__global__ void __launch_bounds__(kSeveralThreads, kSeveralBlocks) several(const __grid_constant__ Table<count(kernel)> table) {
  int mine = 0;
#pragma unroll
  for (int i = 1; i < table.most; ++i) mine += blockIdx.x >= table.first[i];
  if (threadIdx.x == 0 && threadIdx.y == 0) {
    const Triple grid = table.grid[mine];
    const unsigned at = blockIdx.x - table.first[mine];
    place()[0] = Place{{at % grid.x, at / grid.x % grid.y, at / grid.x / grid.y}, grid};
  }
  __syncthreads();
  call<kernel>(kernel, typename Below<count(kernel)>::numbers(), table.given[mine]);
}

}  // namespace gpunet
