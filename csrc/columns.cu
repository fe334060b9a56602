// Each column of a table through a small net of its own, on CUDA: as columns.h, whose rows stand side by side in a warp.
#include "column_acts.h"
#include "device.h"

namespace gpunet {

constexpr int kMade = 4;  // results of a column that a thread has in hand

// out [n, k w] = act(slope x + start) weight + bias of each column; a warp takes 32 rows of one.
template <class Act, class T>
GPUNET_RUN void column_nets(T* out, const T* x, const T* slope, const T* start, const T* weight, const T* bias, long long n,
                            int k, int m, int w, const Control* control) {
  const long long warp = row_of_warp(), row = warp / k * kWarp + threadIdx.x % kWarp;
  const int column = static_cast<int>(warp % k);
  if (row >= n || stopped(control)) return;
  const T at = x[row * k + column];
  slope += column * m, start += column * m, weight += column * m * w, bias += column * w;
  out += (row * k + column) * w;
  for (int first = 0; first < w; first += kMade) {
    T made[kMade];
#pragma unroll
    for (int q = 0; q < kMade; ++q) made[q] = first + q < w ? bias[first + q] : T(0);
    for (int i = 0; i < m; ++i) {
      const T f = Act::value(fma(at, slope[i], start[i]));
#pragma unroll
      for (int q = 0; q < kMade; ++q)
        if (first + q < w) made[q] = fma(f, weight[i * w + first + q], made[q]);
    }
#pragma unroll
    for (int q = 0; q < kMade; ++q)
      if (first + q < w) out[first + q] = made[q];
  }
}

// The gradients; a block takes one inner function of a column, its threads the rows. Of the first function comes dbias.
template <class Act, class T>
GPUNET_RUN void column_nets_vjp(T* dslope, T* dstart, T* dweight, T* dbias, const T* g, const T* x, const T* slope,
                                const T* start, const T* weight, long long n, int k, int m, int w, const Control* control) {
  if (stopped(control)) return;
  constexpr int kSums = 2 * kMade + 2, kMostWarps = 8;
  GPUNET_SHARED(T, sums, kSums * kMostWarps);
  const int unit = static_cast<int>(block_index().x), column = unit / m, thread = threadIdx.x;
  const int lane = thread % kWarp, warp = thread / kWarp, warps = blockDim.x / kWarp;
  weight += unit * w;
  for (int first = 0; first < w; first += kMade) {
    T found[kSums] = {};  // for the weights, for the bias, for slope and start
#pragma unroll 1
    for (long long row = thread; row < n; row += blockDim.x) {
      const T at = x[row * k + column], *up = g + (row * k + column) * w;
      const ValueSlope<T> f = Act::both(fma(at, slope[unit], start[unit]));
#pragma unroll
      for (int q = 0; q < kMade; ++q)
        if (first + q < w) found[q] = fma(f.value, up[first + q], found[q]), found[kMade + q] += up[first + q];
      if (first) continue;
      T d = 0;
      for (int q = 0; q < w; ++q) d = fma(weight[q], up[q], d);
      d *= f.slope;
      found[2 * kMade] = fma(d, at, found[2 * kMade]), found[2 * kMade + 1] += d;
    }
#pragma unroll
    for (int j = 0; j < kSums; ++j) {
      found[j] = join_warp<Sum>(found[j]);
      if (lane == 0) sums[j * kMostWarps + warp] = found[j];
    }
    __syncthreads();
    if (thread < kSums) {
      T total = 0;
      for (int i = 0; i < warps; ++i) total += T(sums[thread * kMostWarps + i]);
      const int q = first + thread % kMade;
      if (thread < kMade && q < w) dweight[unit * w + q] = total;
      if (thread / kMade == 1 && q < w && unit % m == 0) dbias[column * w + q] = total;
      if (thread >= 2 * kMade && first == 0) (thread % kMade ? dstart : dslope)[unit] = total;
    }
    __syncthreads();
  }
}

}  // namespace gpunet

#define GPUNET_ROW(Act, T)                             \
  GPUNET_KERNEL(gpunet::column_nets<gpunet::Act, T>)   \
  GPUNET_KERNEL(gpunet::column_nets_vjp<gpunet::Act, T>)
GPUNET_ROW(Cosine, float) GPUNET_ROW(Cosine, double) GPUNET_ROW(Ramp, float) GPUNET_ROW(Ramp, double)
#undef GPUNET_ROW
