// Sums, means and extremes on CUDA, and whether all is finite. What is joined with what depends on the shape alone.
//
// Long reductions go in two launches: `chunk` elements at a time onto partial results, then these onto the result.
#include "device.h"

namespace gpunet {

// x [rows][n] -> out [rows][chunks], over `chunk` neighbours each, divided by `divisor`; block (row, chunk) makes one.
template <class F, class T>
GPUNET_RUN void fold_rows(T* out, const T* x, long long n, long long chunk, T divisor, const Control* control) {
  if (stopped(control)) return;
  const T* row = x + block_index().x * n;
  const long long begin = block_index().y * chunk, end = begin + chunk < n ? begin + chunk : n;
  T total = F::template start<T>();
  for (long long i = begin + threadIdx.x; i < end; i += blockDim.x) total = F::join(total, row[i]);
  total = join_block<F>(total);
  if (threadIdx.x == 0) out[static_cast<long long>(block_index().x) * grid_size().y + block_index().y] = total / divisor;
}

// x [before][n][cols] -> out [before][chunks][cols]; block (32, 8) at (columns, chunk, before).
constexpr int kLines = 8;
template <class F, class T>
GPUNET_RUN void fold_columns(T* out, const T* x, long long n, long long cols, long long chunk, T divisor,
                             const Control* control) {
  if (stopped(control)) return;
  GPUNET_SHARED(T, lines, kLines * kWarp);
  const int lane = threadIdx.x, line = threadIdx.y;
  const long long column = static_cast<long long>(block_index().x) * kWarp + lane;
  const long long begin = block_index().y * chunk, end = begin + chunk < n ? begin + chunk : n;
  const T* matrix = x + block_index().z * n * cols;
  T total = F::template start<T>();
  if (column < cols)
    for (long long i = begin + line; i < end; i += kLines) total = F::join(total, matrix[i * cols + column]);
  lines[line * kWarp + lane] = total;
  __syncthreads();
  if (line || column >= cols) return;
#pragma unroll
  for (int k = 1; k < kLines; ++k) total = F::join(total, T(lines[k * kWarp + lane]));
  out[(static_cast<long long>(block_index().z) * grid_size().y + block_index().y) * cols + column] = total / divisor;
}

// Everything stops unless all of x is finite.
template <class T> GPUNET_RUN void check_finite(const T* x, long long size, Control* control) {
  if (stopped(control)) return;
  bool fine = true;
  for (long long i = first_element<T>(); i < size; i += grid_stride<T>()) {
    const Lanes<T> v = load(x, i, size);
#pragma unroll
    for (int k = 0; k < kLanes<T>; ++k) fine = fine && abs(v.at[k]) < infinity<T>();
  }
  if (!fine) control->go = 0;
}

}  // namespace gpunet

#define GPUNET_ROW(F, T)                            \
  GPUNET_KERNEL(gpunet::fold_rows<gpunet::F, T>)    \
  GPUNET_KERNEL(gpunet::fold_columns<gpunet::F, T>)
GPUNET_ROW(Sum, float) GPUNET_ROW(Sum, double)
GPUNET_ROW(Largest, float) GPUNET_ROW(Largest, double)
GPUNET_ROW(Smallest, float) GPUNET_ROW(Smallest, double)
#undef GPUNET_ROW
GPUNET_KERNEL(gpunet::check_finite<float>)
GPUNET_KERNEL(gpunet::check_finite<double>)
