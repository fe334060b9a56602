// Softmax along rows and the cross entropy that goes with it on CUDA: one warp a row.
#include "device.h"
#include "maths.h"

namespace gpunet {

template <class T> HD T row_largest(const T* z, int cols) {
  T top = -infinity<T>();
  for (int j = threadIdx.x % kWarp; j < cols; j += kWarp) top = z[j] > top ? z[j] : top;
  return join_warp<Largest>(top);
}

// The sum of exp(z - top). A NaN that `top` has missed shows up here.
template <class T> HD T row_exp_sum(const T* z, T top, int cols) {
  T total = 0;
  for (int j = threadIdx.x % kWarp; j < cols; j += kWarp) total += exp(z[j] - top);
  return join_warp<Sum>(total);
}

// out = softmax(z) or its logarithm; out may be z.
template <class T, bool logarithm>
GPUNET_RUN void softmax(T* out, const T* z, long long rows, int cols, const Control* control) {
  const long long row = row_of_warp();
  if (row >= rows || stopped(control)) return;
  z += row * cols, out += row * cols;
  const T top = row_largest(z, cols), total = row_exp_sum(z, top, cols), log_total = log(total);
  for (int j = threadIdx.x % kWarp; j < cols; j += kWarp)
    out[j] = logarithm ? (z[j] - top) - log_total : exp(z[j] - top) / total;
}

// The mean of z, which only smoothing asks for.
template <class T> HD T row_mean(const T* z, T top, int cols, T smoothing) {
  if (smoothing == 0) return top;
  T total = 0;
  for (int j = threadIdx.x % kWarp; j < cols; j += kWarp) total += z[j];
  return join_warp<Sum>(total) / T(cols);
}

// lse - (1 - e) z[t] - e mean(z), each term relative to the row's largest: large logits do not swallow the loss.
template <class T> HD T row_loss(T of_right, T top, T total, T mean, T smoothing) {
  return log(total) + (1 - smoothing) * (top - of_right) + smoothing * (top - mean);
}

// factor (softmax(z) - target distribution); out may be z.
template <class T>
HD void row_gradient(T* out, T factor, const T* z, int right, T top, T total, int cols, T smoothing) {
  const T floor = smoothing / T(cols);
  for (int j = threadIdx.x % kWarp; j < cols; j += kWarp)
    out[j] = factor * (exp(z[j] - top) / total - floor - (j == right ? 1 - smoothing : T(0)));
}

// The loss of each row, NaN where its target is out of range.
template <class T, class I>
GPUNET_RUN void cross_entropy(T* out, const T* z, const I* target, long long rows, int cols, T smoothing,
                              Control* control) {
  const long long row = row_of_warp();
  if (row >= rows || stopped(control)) return;
  const int right = within(target[row], cols, control) ? static_cast<int>(target[row]) : -1;
  z += row * cols;
  const T top = row_largest(z, cols), total = row_exp_sum(z, top, cols), mean = row_mean(z, top, cols, smoothing);
  if (threadIdx.x % kWarp == 0) out[row] = row_loss(right < 0 ? nan<T>() : z[right], top, total, mean, smoothing);
}

// Both of these: the loss of each row in `value`, its gradient in `out`, which may be z.
template <class T, class I>
GPUNET_RUN void cross_entropy_both(T* value, T* out, const T* g, int g_step, const T* z, const I* target, long long rows,
                                   int cols, T smoothing, Control* control) {
  const long long row = row_of_warp();
  if (row >= rows || stopped(control)) return;
  const int right = within(target[row], cols, control) ? static_cast<int>(target[row]) : -1;
  z += row * cols, out += row * cols;
  const T top = row_largest(z, cols), total = row_exp_sum(z, top, cols), mean = row_mean(z, top, cols, smoothing);
  const T of_right = right < 0 ? nan<T>() : z[right];
  __syncwarp();  // z may be written from here on
  if (threadIdx.x % kWarp == 0) value[row] = row_loss(of_right, top, total, mean, smoothing);
  row_gradient(out, right < 0 ? nan<T>() : g[row * g_step], z, right, top, total, cols, smoothing);
}

// out = g (softmax(z) - target distribution), g one for each row or, with g_step 0, one for all; out may be z.
template <class T, class I>
GPUNET_RUN void cross_entropy_vjp(T* out, const T* g, int g_step, const T* z, const I* target, long long rows, int cols,
                                  T smoothing, Control* control) {
  const long long row = row_of_warp();
  if (row >= rows || stopped(control)) return;
  const bool known = within(target[row], cols, control);
  z += row * cols, out += row * cols;
  const T top = row_largest(z, cols), total = row_exp_sum(z, top, cols);
  row_gradient(out, known ? g[row * g_step] : nan<T>(), z, static_cast<int>(target[row]), top, total, cols, smoothing);
}

}  // namespace gpunet

#define GPUNET_ROW(T, I)                               \
  GPUNET_KERNEL(gpunet::cross_entropy<T, I>)           \
  GPUNET_KERNEL(gpunet::cross_entropy_vjp<T, I>)       \
  GPUNET_KERNEL(gpunet::cross_entropy_both<T, I>)
GPUNET_ROW(float, int) GPUNET_ROW(float, long long) GPUNET_ROW(double, int) GPUNET_ROW(double, long long)
#undef GPUNET_ROW
GPUNET_KERNEL(gpunet::softmax<float, false>) GPUNET_KERNEL(gpunet::softmax<float, true>)
GPUNET_KERNEL(gpunet::softmax<double, false>) GPUNET_KERNEL(gpunet::softmax<double, true>)
