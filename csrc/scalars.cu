// What a step does with single numbers (counters, the learning rate, the loss summed up), in one launch for all of it.
#include "device.h"
#include "num.h"

namespace gpunet {

enum Scalar { kAdd, kSub, kMul, kDiv, kMaximum, kMinimum, kMove, kWatch, kCount };
enum ScalarType { kFloat, kDouble, kWhole };

// out = x `what` y. One of a lower level is done before those of a higher one.
struct ScalarCall {
  int code = -1;  // what + 16 type of x and y + 64 type of out + 256 level
  void* out = nullptr;
  const void* x = nullptr;
  const void* y = nullptr;
};

HD double real_at(const void* p, int type) {
  return type == kFloat ? static_cast<double>(*static_cast<const float*>(p)) : *static_cast<const double*>(p);
}
template <class N> HD N result(int what, N x, N y) {
  switch (what) {
    case kAdd: return x + y;
    case kSub: return x - y;
    case kMul: return x * y;
    case kDiv: return x / y;
    case kMaximum: return (y > x) | (y != y) ? y : x;
    case kMinimum: return (y < x) | (y != y) ? y : x;
    default: return x;
  }
}
template <class N> HD void put(void* out, int type, N v) {
  if (type == kFloat) *static_cast<float*>(out) = static_cast<float>(v);
  else if (type == kDouble) *static_cast<double*>(out) = static_cast<double>(v);
  else *static_cast<long long*>(out) = static_cast<long long>(v);
}

// float32 is worked out in float64, from which each of these rounds to what float32 gives.
HD void run(const ScalarCall& call, Control* control) {
  const int what = call.code % 16, from = call.code / 16 % 4, to = call.code / 64 % 4;
  if (what == kCount) ++control->done;
  else if (what == kWatch) {
    if (!(abs(real_at(call.x, from)) < infinity<double>())) control->go = 0;
  } else if (from == kWhole) {
    const long long x = *static_cast<const long long*>(call.x), y = *static_cast<const long long*>(call.y);
    put(call.out, to, what == kDiv ? x : result(what, x, y));
  } else {
    put(call.out, to, result(what, real_at(call.x, from), real_at(call.y, from)));
  }
}

#define GPUNET_CALL(i) int code##i, void *out##i, const void *x##i, const void *y##i
#define GPUNET_CASE(i) case i: call = {code##i, out##i, x##i, y##i}; break;

// One warp, a lane for each call.
template <class C>
GPUNET_RUN void scalars(GPUNET_CALL(0), GPUNET_CALL(1), GPUNET_CALL(2), GPUNET_CALL(3), GPUNET_CALL(4), GPUNET_CALL(5),
                        GPUNET_CALL(6), GPUNET_CALL(7), int levels, C* control) {
  ScalarCall call;
  switch (threadIdx.x) {
    GPUNET_CASE(0) GPUNET_CASE(1) GPUNET_CASE(2) GPUNET_CASE(3)
    GPUNET_CASE(4) GPUNET_CASE(5) GPUNET_CASE(6) GPUNET_CASE(7)
    default: break;
  }
  for (int level = 0; level < levels; ++level) {
    if (call.code >= 0 && call.code / 256 == level && !stopped(control)) run(call, control);
    __syncwarp();
  }
}
#undef GPUNET_CALL
#undef GPUNET_CASE

}  // namespace gpunet

GPUNET_KERNEL(gpunet::scalars<gpunet::Control>)
