// Kernels with one fault each, which fibers.h must name, and the sound ones beside them, which must pass.
#include "device.h"

namespace gpunet {

// ---- global memory
__global__ void unmasked(float* out, const float* x) { out[first_one()] = x[first_one()]; }
__global__ void masked(float* out, const float* x, int n) { if (first_one() < n) out[first_one()] = x[first_one()]; }
__global__ void wide_tail(float* out, const float* x, int n) {
  if (first_element<float>() < n) store(out, first_element<float>(), n, load_16(x + first_element<float>()));
}
__global__ void wide_unaligned(float* out, const float* x) { store_16(out, load_16(x + 1)); }
__global__ void writes_input(float* out, const float* x) { out[0] = const_cast<float*>(x)[0] = 1; }
__global__ void last_wins(int* out) { *out = static_cast<int>(first_one()); }
__global__ void reads_padding(float* out, const float* x, int n) { out[0] = x[n]; }

// ---- shared memory
__global__ void beyond_shared(float* out) {
  GPUNET_SHARED(float, s, 32);
  s[threadIdx.x + 1] = 1;
  __syncthreads();
  out[threadIdx.x] = s[threadIdx.x];
}
__global__ void uninitialised(float* out) {
  GPUNET_SHARED(float, s, 64);
  if (threadIdx.x < 16) s[threadIdx.x] = 1;
  __syncthreads();
  out[threadIdx.x] = s[threadIdx.x];
}
template <bool sound> __global__ void reversed(float* out) {
  GPUNET_SHARED(float, s, 64);
  s[threadIdx.x] = float(threadIdx.x);
  if (sound) __syncthreads();
  out[threadIdx.x] = s[blockDim.x - 1 - threadIdx.x];
}
template <bool sound> __global__ void reversed_in_warp(float* out) {
  GPUNET_SHARED(float, s, 32);
  s[threadIdx.x] = float(threadIdx.x);
  if (sound) __syncwarp();
  out[threadIdx.x] = s[31 - threadIdx.x];
}
template <bool sound> __global__ void overwritten(float* out) {  // a write after another's read
  GPUNET_SHARED(float, s, 64);
  s[threadIdx.x] = float(threadIdx.x);
  __syncthreads();
  const float other = s[blockDim.x - 1 - threadIdx.x];
  if (sound) __syncthreads();
  s[threadIdx.x] = other;
  __syncthreads();
  out[threadIdx.x] = s[threadIdx.x];
}

// ---- barriers and warp operations
__global__ void early_exit(float* out) {
  if (threadIdx.x < 16) __syncthreads();
  out[threadIdx.x] = 1;
}
__global__ void two_barriers(float* out) {
  if (threadIdx.x < 16) __syncthreads();
  else
    __syncthreads();
  out[threadIdx.x] = 1;
}
__global__ void part_of_a_warp(float* out) {
  float v = 1;
  if (threadIdx.x < 20) v += __shfl_xor_sync(kAllLanes, v, 1);
  out[threadIdx.x] = v;
}
__global__ void two_shuffles(float* out) {
  float v = 1;
  if (threadIdx.x < 16) v += __shfl_xor_sync(kAllLanes, v, 1);
  else
    v += __shfl_xor_sync(kAllLanes, v, 1);
  out[threadIdx.x] = v;
}
__global__ void whole_block(float* out) { out[threadIdx.x] = join_block<Sum>(float(threadIdx.x)); }

}  // namespace gpunet

GPUNET_KERNEL(gpunet::unmasked) GPUNET_KERNEL(gpunet::masked) GPUNET_KERNEL(gpunet::wide_tail)
GPUNET_KERNEL(gpunet::wide_unaligned) GPUNET_KERNEL(gpunet::writes_input) GPUNET_KERNEL(gpunet::last_wins)
GPUNET_KERNEL(gpunet::reads_padding) GPUNET_KERNEL(gpunet::beyond_shared) GPUNET_KERNEL(gpunet::uninitialised)
GPUNET_KERNEL(gpunet::reversed<true>) GPUNET_KERNEL(gpunet::reversed<false>)
GPUNET_KERNEL(gpunet::reversed_in_warp<true>) GPUNET_KERNEL(gpunet::reversed_in_warp<false>)
GPUNET_KERNEL(gpunet::overwritten<true>) GPUNET_KERNEL(gpunet::overwritten<false>)
GPUNET_KERNEL(gpunet::early_exit) GPUNET_KERNEL(gpunet::two_barriers) GPUNET_KERNEL(gpunet::part_of_a_warp)
GPUNET_KERNEL(gpunet::two_shuffles) GPUNET_KERNEL(gpunet::whole_block)
