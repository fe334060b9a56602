// Rows picked, copied, added up and dropped on CUDA. A row number out of range is told to the host and stops the rest.
#include "device.h"
#include "philox.h"

namespace gpunet {

HD bool stops_beyond(long long index, long long length, Control* control) {
  if (within(index, length, control)) return false;
  control->go = 0;
  return true;
}

// out[i] = x[rows[i]], rows of `width` words W of a table of `length`.
template <class W, class I>
GPUNET_RUN void gather(W* out, const W* x, const I* rows, long long n, long long width, long long length,
                       Control* control) {
  if (stopped(control)) return;
  for (long long k = first_one(); k < n * width; k += all_threads()) {
    const long long row = rows[k / width];
    if (stops_beyond(row, length, control)) return;
    out[k] = x[row * width + k % width];
  }
}

// `n` words of a table of `length` rows, `width` words each, from row *start on: n / width rows.
template <class W, class I>
GPUNET_RUN void slice_rows(W* out, const W* x, const I* start, long long n, long long width, long long length,
                           Control* control) {
  if (stopped(control)) return;
  const long long first = *start, rows = n / width;
  if (stops_beyond(first, length - rows + 1, control)) return;
  for (long long k = first_one(); k < n; k += all_threads()) out[k] = x[first * width + k];
}

// The rows order[*start + i] of two tables, of x_width and y_width words W; a block for each row.
template <class W, class I>
GPUNET_RUN void gather_two(W* out_x, W* out_y, const W* x, const W* y, const I* order, const I* start, long long n,
                           long long order_length, long long x_width, long long y_width, long long length,
                           Control* control) {
  const long long first = *start;
  if (stopped(control) || stops_beyond(first, order_length - n + 1, control)) return;
  for (long long i = block_index().x; i < n; i += grid_size().x) {
    const long long row = order[first + i];
    if (stops_beyond(row, length, control)) return;
    for (long long j = threadIdx.x; j < x_width; j += blockDim.x) out_x[i * x_width + j] = x[row * x_width + j];
    for (long long j = threadIdx.x; j < y_width; j += blockDim.x) out_y[i * y_width + j] = y[row * y_width + j];
  }
}

// out[i] = x[i, columns[i]].
template <class W, class I>
GPUNET_RUN void pick(W* out, const W* x, const I* columns, long long n, long long cols, Control* control) {
  if (stopped(control)) return;
  for (long long i = first_one(); i < n; i += all_threads()) {
    if (stops_beyond(columns[i], cols, control)) return;
    out[i] = x[i * cols + columns[i]];
  }
}

template <class T, class I>
GPUNET_RUN void one_hot(T* out, const I* columns, long long n, long long cols, Control* control) {
  if (stopped(control)) return;
  for (long long k = first_one(); k < n * cols; k += all_threads()) {
    const long long column = columns[k / cols];
    if (stops_beyond(column, cols, control)) return;
    out[k] = T(column == k % cols);
  }
}

// Rows of `width` words: word (i, j) from x[i x_row + j x_step] to out[i out_row + j].
template <class W>
GPUNET_RUN void copy(W* out, long long out_row, const W* x, long long x_row, long long x_step, long long size,
                     long long width, const Control* control) {
  if (stopped(control)) return;
  for (long long k = first_one(); k < size; k += all_threads())
    out[k / width * out_row + k % width] = x[k / width * x_row + k % width * x_step];
}

// out [..][n1][n2] from x, whose axes have steps of their own.
template <class W>
GPUNET_RUN void copy_axes(W* out, const W* x, long long size, long long n1, long long n2, long long step0,
                          long long step1, long long step2, const Control* control) {
  if (stopped(control)) return;
  for (long long k = first_one(); k < size; k += all_threads())
    out[k] = x[k / (n1 * n2) * step0 + k / n2 % n1 * step1 + k % n2 * step2];
}

// Zeros, to which g[i] is added at rows[i]. Each thread owns a column and adds in the order of i: no atomics.
template <class T, class I>
GPUNET_RUN void scatter_add(T* out, const T* g, const I* rows, long long n, long long width, long long length,
                            Control* control) {
  if (stopped(control)) return;
  for (long long j = first_one(); j < width; j += all_threads()) {
    for (long long i = 0; i < length; ++i) out[i * width + j] = 0;
    for (long long i = 0; i < n; ++i) {
      if (stops_beyond(rows[i], length, control)) return;
      out[rows[i] * width + j] += g[i * width + j];
    }
  }
}

// x / (1 - rate) where gpunet.rng's `kept` says so; else 0.
template <class T>
GPUNET_RUN void dropout(T* out, const T* x, const double* rate, const long long* step, unsigned long long seed,
                        unsigned stream, long long size, const Control* control) {
  if (stopped(control)) return;
  const unsigned least = least_kept(*rate);
  const T scale = T(1 / (1 - *rate));
  for (long long block = first_one(); 8 * block < size; block += all_threads()) {
    const auto w = philox(static_cast<unsigned long long>(block), seed, stream, static_cast<unsigned>(*step));
    const unsigned long long words[4] = {w.w0, w.w2, w.w1, w.w3};
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      const long long i = 8 * block + k;
      const unsigned drawn = static_cast<unsigned>(words[k / 4 * 2 + k % 2] >> k / 2 % 2 * 16) & 0xffff;
      if (i < size) out[i] = drawn >= least ? x[i] * scale : T(0);
    }
  }
}

}  // namespace gpunet

// clang-format off
#define GPUNET_ROW(W, I)                      \
  GPUNET_KERNEL(gpunet::gather<W, I>)         \
  GPUNET_KERNEL(gpunet::slice_rows<W, I>)     \
  GPUNET_KERNEL(gpunet::pick<W, I>)
GPUNET_ROW(unsigned char, int) GPUNET_ROW(unsigned char, long long)
GPUNET_ROW(unsigned, int)      GPUNET_ROW(unsigned, long long)
GPUNET_ROW(long long, int)     GPUNET_ROW(long long, long long)
#undef GPUNET_ROW
GPUNET_KERNEL(gpunet::gather_two<unsigned char, int>) GPUNET_KERNEL(gpunet::gather_two<unsigned char, long long>)
GPUNET_KERNEL(gpunet::gather_two<unsigned, int>)      GPUNET_KERNEL(gpunet::gather_two<unsigned, long long>)
#define GPUNET_ROW(T, I)                      \
  GPUNET_KERNEL(gpunet::one_hot<T, I>)        \
  GPUNET_KERNEL(gpunet::scatter_add<T, I>)
GPUNET_ROW(float, int) GPUNET_ROW(float, long long) GPUNET_ROW(double, int) GPUNET_ROW(double, long long)
#undef GPUNET_ROW
GPUNET_KERNEL(gpunet::copy_axes<unsigned char>) GPUNET_KERNEL(gpunet::copy_axes<unsigned>)
GPUNET_KERNEL(gpunet::copy_axes<long long>)
GPUNET_KERNEL(gpunet::copy<unsigned char>) GPUNET_KERNEL(gpunet::copy<unsigned>) GPUNET_KERNEL(gpunet::copy<long long>)
GPUNET_KERNEL(gpunet::dropout<float>) GPUNET_KERNEL(gpunet::dropout<double>)
// clang-format on
