// Places on CUDA: where the largest number stands, an array put into a larger one, each net's bias in a stack of nets.
#include "device.h"

namespace gpunet {

// Whether a stands before b in the order that argmax looks for: NaN, then the larger, then the earlier.
template <class T> struct Found { T value; long long at; };
template <class T> HD bool before(const Found<T>& a, const Found<T>& b) {
  const bool a_nan = a.value != a.value, b_nan = b.value != b.value;
  if (a_nan != b_nan) return a_nan;
  if (!a_nan && a.value != b.value) return a.value > b.value;
  return a.at < b.at;
}

// x [before][n][after] -> out [before][after], the place along n; one warp for each.
template <class T>
GPUNET_RUN void argmax(long long* out, const T* x, long long size, long long n, long long after,
                       const Control* control) {
  if (stopped(control)) return;
  const int lane = threadIdx.x % kWarp;
  const long long warps = all_threads() / kWarp;
  for (long long k = first_one() / kWarp; k < size; k += warps) {
    const T* line = x + k / after * n * after + k % after;
    Found<T> best = {line[0], 0};
    for (long long i = lane; i < n; i += kWarp) {
      const Found<T> here = {line[i * after], i};
      if (before(here, best)) best = here;
    }
#pragma unroll
    for (int other = kWarp / 2; other; other /= 2) {
      const Found<T> theirs = {__shfl_xor_sync(kAllLanes, best.value, other), __shfl_xor_sync(kAllLanes, best.at, other)};
      if (before(theirs, best)) best = theirs;
    }
    if (lane == 0) out[k] = best.at;
  }
}

// The place in x of place i of an axis onto which x's `count` elements go at start, start + step, ...; -1 between them.
HD long long placed(long long i, long long start, long long step, long long count) {
  const long long from = i - start, at = from / step;
  return from % step == 0 && at >= 0 && at < count ? at : -1;
}

// out [..][n1][n2] = fill, with x [..][count1][count2] placed along each axis.
template <class W>
GPUNET_RUN void place(W* out, const W* x, W fill, long long size, long long n1, long long n2, long long start0,
                      long long step0, long long count0, long long start1, long long step1, long long count1,
                      long long start2, long long step2, long long count2, const Control* control) {
  if (stopped(control)) return;
  for (long long k = first_one(); k < size; k += all_threads()) {
    const long long i = placed(k / (n1 * n2), start0, step0, count0), j = placed(k / n2 % n1, start1, step1, count1),
                    l = placed(k % n2, start2, step2, count2);
    out[k] = i < 0 || j < 0 || l < 0 ? fill : x[(i * count1 + j) * count2 + l];
  }
}

// z [nets][..][cols] += bias [nets][cols]; `each` elements of z belong to a net.
template <class T>
GPUNET_RUN void add_biases(T* z, const T* bias, long long size, long long each, long long cols, const Control* control) {
  if (stopped(control)) return;
  for (long long k = first_one(); k < size; k += all_threads()) z[k] += bias[k / each * cols + k % cols];
}

}  // namespace gpunet

GPUNET_KERNEL(gpunet::add_biases<float>) GPUNET_KERNEL(gpunet::add_biases<double>)
GPUNET_KERNEL(gpunet::argmax<float>) GPUNET_KERNEL(gpunet::argmax<double>)
GPUNET_KERNEL(gpunet::argmax<int>) GPUNET_KERNEL(gpunet::argmax<long long>)
GPUNET_KERNEL(gpunet::place<unsigned char>) GPUNET_KERNEL(gpunet::place<unsigned>) GPUNET_KERNEL(gpunet::place<long long>)
