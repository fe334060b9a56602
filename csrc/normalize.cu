// Layer norm on CUDA: one warp a row, and for the gradients of gamma and beta a block for 32 columns.
#include "device.h"

namespace gpunet {

// out = (x - mean) scale gamma + beta, with each row's mean and scale = 1 / sqrt(variance + eps).
template <class T>
GPUNET_RUN void layer_norm(T* out, T* means, T* scales, const T* x, const T* gamma, const T* beta, long long rows,
                           int cols, T eps, const Control* control) {
  const long long row = row_of_warp();
  if (row >= rows || stopped(control)) return;
  const int lane = threadIdx.x % kWarp;
  x += row * cols, out += row * cols;
  T total = 0, squares = 0;
  for (int j = lane; j < cols; j += kWarp) total += x[j];
  const T mean = join_warp<Sum>(total) / T(cols);
  for (int j = lane; j < cols; j += kWarp) squares += (x[j] - mean) * (x[j] - mean);
  const T scale = 1 / root(join_warp<Sum>(squares) / T(cols) + eps);
  for (int j = lane; j < cols; j += kWarp) out[j] = (x[j] - mean) * scale * gamma[j] + beta[j];
  if (lane == 0) means[row] = mean, scales[row] = scale;
}

// out = scale (h - mean(h) - normal mean(h normal)), with h = g gamma and normal = (x - mean) scale; out may be g.
template <class T>
GPUNET_RUN void layer_norm_dx(T* out, const T* g, const T* x, const T* means, const T* scales, const T* gamma,
                              long long rows, int cols, const Control* control) {
  const long long row = row_of_warp();
  if (row >= rows || stopped(control)) return;
  const int lane = threadIdx.x % kWarp;
  const T mean = means[row], scale = scales[row];
  x += row * cols, g += row * cols, out += row * cols;
  T level = 0, slope = 0;
  for (int j = lane; j < cols; j += kWarp) {
    const T h = g[j] * gamma[j];
    level += h, slope += h * ((x[j] - mean) * scale);
  }
  level = join_warp<Sum>(level) / T(cols), slope = join_warp<Sum>(slope) / T(cols);
  for (int j = lane; j < cols; j += kWarp)
    out[j] = scale * (g[j] * gamma[j] - level - (x[j] - mean) * scale * slope);
}

// Over `chunk` rows each, dgamma and dbeta [chunks][cols]; block (32, 8) at (columns, chunk), as fold_columns.
constexpr int kLines = 8;
template <class T>
GPUNET_RUN void layer_norm_dw(T* dgamma, T* dbeta, const T* g, const T* x, const T* means, const T* scales, long long rows,
                              long long cols, long long chunk, const Control* control) {
  if (stopped(control)) return;
  GPUNET_SHARED(T, lines, 2 * kLines * kWarp);
  const int lane = threadIdx.x, line = threadIdx.y;
  const long long column = static_cast<long long>(block_index().x) * kWarp + lane;
  const long long begin = block_index().y * chunk, end = begin + chunk < rows ? begin + chunk : rows;
  T of_gamma = 0, of_beta = 0;
  if (column < cols)
    for (long long i = begin + line; i < end; i += kLines) {
      const T up = g[i * cols + column];
      of_gamma += up * ((x[i * cols + column] - means[i]) * scales[i]), of_beta += up;
    }
  lines[line * kWarp + lane] = of_gamma, lines[(kLines + line) * kWarp + lane] = of_beta;
  __syncthreads();
  if (line || column >= cols) return;
#pragma unroll
  for (int k = 1; k < kLines; ++k)
    of_gamma += T(lines[k * kWarp + lane]), of_beta += T(lines[(kLines + k) * kWarp + lane]);
  const long long at = block_index().y * cols + column;
  dgamma[at] = of_gamma, dbeta[at] = of_beta;
}

}  // namespace gpunet

#define GPUNET_ROW(T)                        \
  GPUNET_KERNEL(gpunet::layer_norm<T>)       \
  GPUNET_KERNEL(gpunet::layer_norm_dx<T>)    \
  GPUNET_KERNEL(gpunet::layer_norm_dw<T>)
GPUNET_ROW(float) GPUNET_ROW(double)
#undef GPUNET_ROW
