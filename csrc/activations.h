// The activations, each once: value and slope, for the host (one number or a vector) and for CUDA alike.
//
// slope goes through the output where that is possible, so that the input may be forgotten or overwritten; an
// activation that needs its input says so. A new one is a struct here and its name in the table at the end.
#pragma once

#include "maths.h"

namespace gpunet {
namespace act {

#define THROUGH_OUTPUT static constexpr bool needs_input = false;
#define THROUGH_INPUT static constexpr bool needs_input = true;
#define VALUE template <class T, class S> static HD T value(T x, [[maybe_unused]] S alpha)
#define SLOPE template <class T, class S> static HD T slope([[maybe_unused]] T y, [[maybe_unused]] S alpha)
#define SLOPE_AT_INPUT template <class T, class S> static HD T slope(T x, [[maybe_unused]] S alpha)

struct identity {
  THROUGH_OUTPUT
  VALUE { return x; }
  SLOPE { return all<T>(S(1)); }
};

struct relu {
  THROUGH_OUTPUT
  VALUE { return x < T{} ? T{} : x; }  // so written, NaN stays NaN
  SLOPE { return y > T{} ? all<T>(S(1)) : T{}; }
};

struct leaky_relu {
  THROUGH_OUTPUT
  VALUE { return x < T{} ? x * alpha : x; }
  SLOPE { return y > T{} ? all<T>(S(1)) : all<T>(alpha); }
};

struct elu {  // Clevert et al. 2015
  THROUGH_OUTPUT
  VALUE { return x > T{} ? x : alpha * expm1(x); }
  SLOPE { return y > T{} ? all<T>(S(1)) : y + alpha; }
};

struct selu {  // Klambauer et al. 2017
  THROUGH_OUTPUT
  static constexpr double scale = 1.0507009873554804934193349852946, inner = 1.6732632423543772848170429916717;
  VALUE { return S(scale) * elu::value(x, S(inner)); }
  SLOPE { return y > T{} ? all<T>(S(scale)) : y + S(scale * inner); }
};

struct sigmoid {
  THROUGH_OUTPUT
  VALUE { return S(1) / (S(1) + exp(-x)); }
  SLOPE { return y * (S(1) - y); }
};

struct tanh {
  THROUGH_OUTPUT
  VALUE { return gpunet::tanh(x); }
  SLOPE { return S(1) - y * y; }
};

struct softplus {  // log(1 + e^x)
  THROUGH_OUTPUT
  VALUE { return (x < T{} ? T{} : x) + log1p_unit(exp(-abs(x))); }
  SLOPE { return -expm1(-y); }
};

// The slopes and the lower tails below are x times something that vanishes; x is held so that they end in 0, not NaN.
template <class T> HD T held_below(T x) { return x < all<T>(-1e4f) ? all<T>(-1e4f) : x; }

template <class T, class S> HD T held_above(T x, S most) { return x > all<T>(most) ? all<T>(most) : x; }

struct gelu {  // x Phi(x), exact (Hendrycks and Gimpel 2016)
  THROUGH_INPUT
  template <class T, class S> static HD T phi(T x, S) { return S(0.5) + S(0.5) * erf(x * S(0.70710678118654752440)); }
  VALUE { return held_below(x) * phi(x, alpha); }
  SLOPE_AT_INPUT {
    const T h = clamp(x, S(-1e4), S(1e4));
    return phi(x, alpha) + h * S(0.39894228040143267794) * exp(S(-0.5) * h * h);
  }
};

struct silu {  // x sigmoid(x) (Elfwing et al. 2017)
  THROUGH_INPUT
  VALUE { return held_below(x) * sigmoid::value(x, alpha); }
  SLOPE_AT_INPUT {
    const T s = sigmoid::value(x, alpha);
    return s + clamp(x, S(-1e4), S(1e4)) * s * (S(1) - s);
  }
};

struct mish {  // x tanh(softplus(x)) (Misra 2019); with e = e^x, tanh(log(1 + e)) = n / (n + 2) for n = e (e + 2)
  THROUGH_INPUT
  template <class T, class S> static HD T e(T x, S) { return exp(held_above(x, S(sizeof(S) == 4 ? 15 : 40))); }
  VALUE {
    const T n = e(x, alpha) * (e(x, alpha) + S(2));
    return held_below(x) * (n / (n + S(2)));
  }
  SLOPE_AT_INPUT {
    const T u = e(x, alpha), n = u * (u + S(2)), r = S(1) / (n + S(2));
    return n * r + clamp(x, S(-1e4), S(1e4)) * (S(4) * u * (u + S(1)) * r * r);
  }
};

#undef THROUGH_OUTPUT
#undef THROUGH_INPUT
#undef VALUE
#undef SLOPE
#undef SLOPE_AT_INPUT

}  // namespace act
}  // namespace gpunet

// clang-format off
#define GPUNET_ACTIVATIONS(X) \
  X(identity) X(relu) X(leaky_relu) X(elu) X(selu) X(sigmoid) X(tanh) X(softplus) X(gelu) X(silu) X(mish)
// clang-format on
