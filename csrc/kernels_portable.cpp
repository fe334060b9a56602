// The kernels for any processor of the architecture.
#include "kernels.inc"

namespace gpunet {
const Kernels portable_kernels = {"portable", gather, kTable<float>, kTable<double>};
}
