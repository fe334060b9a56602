// What a reduction joins: where it starts, and what it makes of two numbers (or vectors of them).
#pragma once

#include "num.h"

namespace gpunet {

struct Sum {
  template <class T> static HD T start() { return T(0); }
  template <class T> static HD T join(T a, T b) { return a + b; }
};
struct Largest {  // so written, NaN stays NaN
  template <class T> static HD T start() { return -infinity<T>(); }
  template <class T> static HD T join(T a, T b) { return (b > a) | (b != b) ? b : a; }
};
struct Smallest {
  template <class T> static HD T start() { return infinity<T>(); }
  template <class T> static HD T join(T a, T b) { return (b < a) | (b != b) ? b : a; }
};

}  // namespace gpunet
