// The kernels for AMX: those for AVX-512, but for products of float32.
#include "amx.h"

namespace gpunet {
const Kernels amx_kernels = [] {
  Kernels kernels = avx512_kernels;
  kernels.name = "amx";
  kernels.f32.product = [](const Product<float>& p, Part part) { tiles_or_not(p)(p, part); };
  kernels.f32.layers = layers<float, tiles_or_not, kTileScratch>;
  return kernels;
}();
}  // namespace gpunet
