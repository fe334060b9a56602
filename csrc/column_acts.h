// What stands inside the nets of single columns: its value, and its value and slope, of one number or of a vector.
#pragma once

#include "maths.h"

namespace gpunet {

template <class T> struct ValueSlope { T value, slope; };

struct Cosine {
  template <class T> static HD T value(T z) { return cos(z); }
  template <class T> static HD ValueSlope<T> both(T z) {
    const Wave<T> w = wave(z);
    return {w.cosine, -w.sine};
  }
};

struct Ramp {  // the bounds count as inside, as in clip
  template <class T> static HD T value(T z) { return clamp(z, 0, 1); }
  template <class T> static HD ValueSlope<T> both(T z) {
    const T one = all<T>(1), inside = z <= one ? one : T{};
    return {value(z), z >= T{} ? inside : T{}};
  }
};

}  // namespace gpunet
