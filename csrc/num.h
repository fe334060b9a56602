// A number is a float, a double or, on the host, a whole vector of them: what the formulas need to know of each.
//
// num<T>::S is the element type and num<T>::U the unsigned integer of its width, lane by lane. vec.h adds the vector
// types. Conditions are written `mask ? a : b`, which means the same for one number and for a vector of GCC or Clang.
#pragma once

#if defined(__CUDACC__)
#define HD __device__ __forceinline__
#else
#define HD inline __attribute__((always_inline))
#endif

namespace gpunet {

template <class T> struct num;

template <> struct num<float> {
  typedef float S;
  typedef unsigned int U;
#if defined(__CUDACC__)
  static HD U bits(float x) { return __float_as_uint(x); }
  static HD float from_bits(U u) { return __uint_as_float(u); }
  static HD float fma(float a, float b, float c) { return fmaf(a, b, c); }
  static HD float libm_sin(float x) { return sinf(x); }
  static HD float libm_cos(float x) { return cosf(x); }
  static HD float libm_fmod(float x, float y) { return fmodf(x, y); }
  static HD float root(float x) { return sqrtf(x); }
#else
  static HD U bits(float x) { U u; __builtin_memcpy(&u, &x, sizeof u); return u; }
  static HD float from_bits(U u) { float x; __builtin_memcpy(&x, &u, sizeof x); return x; }
  static HD float fma(float a, float b, float c) { return a * b + c; }
  static HD float libm_sin(float x) { return __builtin_sinf(x); }
  static HD float libm_cos(float x) { return __builtin_cosf(x); }
  static HD float libm_fmod(float x, float y) { return __builtin_fmodf(x, y); }
  static HD float root(float x) { return __builtin_sqrtf(x); }
#endif
  static HD bool any(bool mask) { return mask; }
  static HD float quotient(float a, float b) { return a / b; }
  static constexpr bool scales = false;
};

template <> struct num<double> {
  typedef double S;
  typedef unsigned long long U;
#if defined(__CUDACC__)
  static HD U bits(double x) { return (U)__double_as_longlong(x); }
  static HD double from_bits(U u) { return __longlong_as_double((long long)u); }
  static HD double fma(double a, double b, double c) { return ::fma(a, b, c); }
  static HD double libm_sin(double x) { return ::sin(x); }
  static HD double libm_cos(double x) { return ::cos(x); }
  static HD double libm_fmod(double x, double y) { return ::fmod(x, y); }
  static HD double root(double x) { return ::sqrt(x); }
#else
  static HD U bits(double x) { U u; __builtin_memcpy(&u, &x, sizeof u); return u; }
  static HD double from_bits(U u) { double x; __builtin_memcpy(&x, &u, sizeof x); return x; }
  static HD double fma(double a, double b, double c) { return a * b + c; }
  static HD double libm_sin(double x) { return __builtin_sin(x); }
  static HD double libm_cos(double x) { return __builtin_cos(x); }
  static HD double libm_fmod(double x, double y) { return __builtin_fmod(x, y); }
  static HD double root(double x) { return __builtin_sqrt(x); }
#endif
  static HD bool any(bool mask) { return mask; }
  static HD double quotient(double a, double b) { return a / b; }
  static constexpr bool scales = false;
};

// How the bits of an IEEE number are laid out.
template <class S> struct ieee;
template <> struct ieee<float> {
  static constexpr unsigned sign = 0x80000000u, mantissa = 0x007fffffu, infinity = 0x7f800000u, one = 0x3f800000u;
  static constexpr int digits = 23, bias = 127;
};
template <> struct ieee<double> {
  static constexpr unsigned long long sign = 0x8000000000000000ull, mantissa = 0x000fffffffffffffull,
                                      infinity = 0x7ff0000000000000ull, one = 0x3ff0000000000000ull;
  static constexpr int digits = 52, bias = 1023;
};

template <class T> HD T fma(T a, T b, T c) { return num<T>::fma(a, b, c); }
template <class T> HD T root(T x) { return num<T>::root(x); }
template <class T> HD T quotient(T a, T b) { return num<T>::quotient(a, b); }
template <class T> HD T all(typename num<T>::S x) { return x - T{}; }
template <class T> HD T infinity() {
  typedef typename num<T>::S S;
  return all<T>(num<S>::from_bits(ieee<S>::infinity));
}

template <class T> HD T abs(T x) {
  typedef num<T> N;
  return N::from_bits(N::bits(x) & ~ieee<typename N::S>::sign);
}

template <class T> HD T copysign(T magnitude, T sign) {
  typedef num<T> N;
  const auto s = ieee<typename N::S>::sign;
  return N::from_bits((N::bits(magnitude) & ~s) | (N::bits(sign) & s));
}

// x held between lo and hi; NaN stays NaN.
template <class T> HD T clamp(T x, typename num<T>::S lo, typename num<T>::S hi) {
  x = x < all<T>(lo) ? all<T>(lo) : x;
  return x > all<T>(hi) ? all<T>(hi) : x;
}

// c0 + x c1 + x^2 c2 + ..., by Horner's rule.
template <class T> HD T poly(T, typename num<T>::S c) { return all<T>(c); }
template <class T, class... C> HD T poly(T x, typename num<T>::S c, C... rest) {
  return fma(x, poly(x, rest...), all<T>(c));
}

}  // namespace gpunet
