// The kernels for AVX-512 (F, VL, DQ, BW).
#include "kernels.inc"

namespace gpunet {
const Kernels avx512_kernels = all_kernels("avx512");
}
