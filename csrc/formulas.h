// The elementwise formulas as tables: name, and what it makes of x, or of x and y. A new one is a row here.
//
// x and y are vectors of floats (scalar integers where a row says that it takes them).
#pragma once

#include "maths.h"

// clang-format off
//    name     formula
#define GPUNET_UNARY(X)                                                   \
  X(neg,    -x)                                                           \
  X(abs,    abs(x))                                                       \
  X(sign,   x > V{} ? all<V>(1) : x < V{} ? all<V>(-1) : x)               \
  X(square, x * x)                                                        \
  X(sqrt,   root(x))                                                      \
  X(exp,    exp(x))                                                       \
  X(log,    log(x))                                                       \
  X(erf,    erf(x))                                                       \
  X(sin,    sin(x))                                                       \
  X(cos,    cos(x))                                                       \
  X(clip,   clamp(x, low, high))

//    name     formula (NaN in either comes through)            integers too
#define GPUNET_BINARY(X)                                                  \
  X(add,     x + y,                                             true)     \
  X(sub,     x - y,                                             true)     \
  X(mul,     x * y,                                             true)     \
  X(maximum, (x > y) | (x != x) ? x : y,                        true)     \
  X(minimum, (x < y) | (x != x) ? x : y,                        true)     \
  X(div,     x / y,                                             false)    \
  X(mod,     mod(x, y),                                         false)    \
  X(pow,     pow(x, y),                                         false)

#define GPUNET_COMPARE(X) \
  X(eq, x == y) X(ne, x != y) X(lt, x < y) X(le, x <= y) X(gt, x > y) X(ge, x >= y)
// clang-format on

namespace gpunet {

#define GPUNET_NAME(name, ...) name,
enum class Unary { GPUNET_UNARY(GPUNET_NAME) count };
enum class Binary { GPUNET_BINARY(GPUNET_NAME) count };
enum class Compare { GPUNET_COMPARE(GPUNET_NAME) count };
#undef GPUNET_NAME

}  // namespace gpunet
