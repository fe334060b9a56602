// The kernels for AVX2 with fused multiply-add.
#include "kernels.inc"

namespace gpunet {
const Kernels avx2_kernels = {"avx2", gather, kTable<float>, kTable<double>};
}
