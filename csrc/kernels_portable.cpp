// The kernels for any processor of the architecture.
#include "kernels.inc"

namespace gpunet {
const Kernels portable_kernels = all_kernels("portable");
}
