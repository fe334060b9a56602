// The kernels for AVX2 with fused multiply-add.
#include "kernels.inc"

namespace gpunet {
const Kernels avx2_kernels = all_kernels("avx2");
}
