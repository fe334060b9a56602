// exp, expm1, log, tanh and erf without a branch, for one number or a vector: at most 2 ulp, NaN and infinity right.
//
// The polynomials are weighted minimax fits, made for this file. float and double share each algorithm and differ in
// their coefficients, which are chosen by the type of the last argument.
#pragma once

#include "num.h"

namespace gpunet {

// (e^r - 1 - r) / r^2 for |r| <= ln 2 / 2.
template <class T> HD T exp_series(T r, float) {
  return poly(r, 0.5000000013866817688f, 0.16666666682068579154f, 0.041666460938501305448f,
              0.0083333104827387768417f, 0.001393409035281537147f, 0.00019891479841355472286f);
}
template <class T> HD T exp_series(T r, double) {
  return poly(r, 0.5, 0.16666666666666671207, 0.041666666666666669909, 0.0083333333333258479847,
              0.0013888888888883543254, 0.00019841269875819579062, 0.000024801587326261103886,
              2.7557254139316890463e-6, 2.7557272742699345706e-7, 2.510573921958671297e-8, 2.091505988491768587e-9);
}

// Adding `round` leaves the nearest integer in the low bits. ln2_high has so few bits that n ln2_high is exact.
template <class S> struct exp_constants;
template <> struct exp_constants<float> {
  static constexpr float low = -104.0f, high = 89.0f, minus1 = -20.0f;  // the ends of exp, the low end of expm1
  static constexpr float log2e = 1.44269504088896341f, round = 12582912.0f;
  static constexpr float ln2_high = 0.693359375f, ln2_low = -2.12194440054690583e-4f;
  static constexpr unsigned round_bits = 0x4b400000u, offset = 256;
};
template <> struct exp_constants<double> {
  static constexpr double low = -746.0, high = 710.0, minus1 = -45.0;
  static constexpr double log2e = 1.4426950408889634074, round = 6755399441055744.0;
  static constexpr double ln2_high = 6.93147180369123816490e-1, ln2_low = 1.90821492927058770002e-10;
  static constexpr unsigned long long round_bits = 0x4338000000000000ull, offset = 4096;
};

// x = n ln 2 + r (Cody and Waite 1980); minus1 = e^r - 1, and n is offset so that it is never negative.
template <class T> struct exp_parts {
  T minus1;
  typename num<T>::U n;
};

template <class T> HD exp_parts<T> split_exp(T x) {
  typedef num<T> N;
  typedef exp_constants<typename N::S> C;
  const T shifted = fma(x, all<T>(C::log2e), all<T>(C::round));
  const T n = shifted - C::round;
  T r = fma(n, all<T>(-C::ln2_high), x);
  r = fma(n, all<T>(-C::ln2_low), r);
  return {fma(r * r, exp_series(r, typename N::S()), r), N::bits(shifted) - (C::round_bits - C::offset)};
}

// Two factors, so that neither 2^128 nor a denormal result needs a case of its own.
template <class T> HD T exp(T x) {
  typedef num<T> N;
  typedef exp_constants<typename N::S> C;
  typedef ieee<typename N::S> I;
  const exp_parts<T> e = split_exp(clamp(x, C::low, C::high));
  const auto half = e.n >> 1, rest = e.n - half;
  const auto zero = C::offset / 2 - I::bias;
  const T p = e.minus1 + typename N::S(1);
  return p * N::from_bits((half - zero) << I::digits) * N::from_bits((rest - zero) << I::digits);
}

// e^x - 1 for x up to 88 (double: 709), with full relative accuracy around 0.
template <class T> HD T expm1(T x) {
  typedef num<T> N;
  typedef typename N::S S;
  typedef exp_constants<S> C;
  const exp_parts<T> e = split_exp(clamp(x, C::minus1, C::high - 1));
  const T scale = N::from_bits((e.n - (C::offset - ieee<S>::bias)) << ieee<S>::digits);
  return fma(e.minus1, scale, scale - S(1));
}

// (log((1 + s) / (1 - s)) - 2 s) / s with z = s^2 <= 0.0295.
template <class T> HD T log_series(T z, float) {
  return z * poly(z, 0.66666666553525361816f, 0.40000122633698782862f, 0.28550730844773806074f,
                  0.23332912804368642451f);
}
template <class T> HD T log_series(T z, double) {
  return z * poly(z, 0.66666666666666666461, 0.40000000000000890358, 0.28571428570795430945, 0.22222222393566608674,
                  0.18181795442371985421, 0.15386250447940188611, 0.13268485680654426838, 0.13089629160674622641);
}

// k ln 2 + log(1 + f) for 1 + f between sqrt(1/2) and sqrt(2); the order of the sums is that of fdlibm's e_log.c.
template <class T> HD T log_sum(T f, T k) {
  typedef typename num<T>::S S;
  typedef exp_constants<S> C;
  const T s = f / (f + S(2)), half_square = S(0.5) * f * f;
  const T small = fma(s, half_square + log_series(s * s, S()), k * C::ln2_low);
  return fma(k, all<T>(C::ln2_high), f - (half_square - small));
}

template <class T> HD T log(T x) {
  typedef num<T> N;
  typedef typename N::S S;
  typedef ieee<S> I;
  const auto sqrt_half = sizeof(S) == 4 ? typename num<S>::U(0x3f3504f3u) : typename num<S>::U(0x3fe6a09e667f3bcdull);
  const S two_digits = num<S>::from_bits(I::one + (typename num<S>::U(I::digits) << I::digits));  // 2^digits
  const S least_normal = num<S>::from_bits(typename num<S>::U(1) << I::digits);
  const auto denormal = x < all<T>(least_normal);
  const T scaled = denormal ? x * two_digits : x;
  const auto shifted = N::bits(scaled) + (I::one - sqrt_half);
  const T exponent = N::from_bits((shifted >> I::digits) | num<S>::bits(two_digits)) - (two_digits + S(I::bias));
  const T mantissa = N::from_bits((shifted & I::mantissa) + sqrt_half);
  const T y = log_sum(mantissa - S(1), denormal ? exponent - S(I::digits) : exponent);
  const T nan = infinity<T>() - infinity<T>();
  const T outside = x == T{} ? -infinity<T>() : nan;
  const T finite = x < infinity<T>() ? y : x;
  return x > T{} ? finite : outside;
}

// log(1 + u) for 0 <= u <= 1.
template <class T> HD T log1p_unit(T u) {
  typedef typename num<T>::S S;
  const auto upper = u > all<T>(S(0.41421356237309504880));
  return log_sum(upper ? S(0.5) * (u - S(1)) : u, upper ? all<T>(S(1)) : T{});
}

// (tanh(a) / a - 1) / s with s = a^2 <= 0.303.
template <class T> HD T tanh_near(T s, float) {
  return poly(s, -0.33333333294665974998f, 0.13333324129378875012f, -0.053964678823228391067f,
              0.021818221776028536048f, -0.0085253714198287616017f, 0.002524983524951487197f);
}
template <class T> HD T tanh_near(T s, double) {
  return poly(s, -0.33333333333333332547, 0.13333333333332705168, -0.053968253967422581327, 0.021869488493145248941,
              -0.0088632343857909069297, 0.0035921102202741967224, -0.0014556605646659859767,
              0.00058892981870982488814, -0.00023461624615437344334, 0.000085082842934151260321,
              -0.000020581731606012130273);
}

template <class T> HD T tanh(T x) {
  typedef typename num<T>::S S;
  const T a = abs(x), s = x * x;
  const T near = fma(s * tanh_near(s, S()), a, a);
  const T far = S(1) - S(2) / (exp(S(2) * a) + S(1));
  return copysign(a > all<T>(S(0.55)) ? far : near, x);
}

// erf(a) / a - 1 with s = a^2 <= 1, and log(1 - erf(1 + u)) with 0 <= u.
template <class T> HD T erf_near(T s, float) {
  return poly(s, 0.12837916706154341524f, -0.37612638468028710398f, 0.1128378249523684454f,
              -0.026865430727670242894f, 0.0052210318078580227973f, -0.00084840804055351062944f,
              0.00011265959025606608973f, -9.6670445714869964152e-6f);
}
template <class T> HD T erf_near(T s, double) {
  return poly(s, 0.12837916709551257377, -0.37612638903183748056, 0.11283791670954878666, -0.026866170645076793248,
              0.0052239776248180144673, -0.00085483269808337899052, 0.00012055331111642710923,
              -0.000014925595266831181565, 1.6461000484121368033e-6, -1.6350312701054695011e-7,
              1.4659775274047435814e-8, -1.137284885679167367e-9, 5.9571761477489114044e-11);
}
template <class T> HD T erf_far(T u, float) {
  return poly(u, -1.8496055100464813428f, -2.638967516039225208f, -0.84310706454650338883f,
              -0.041563552774949101662f, 0.010046591901010021099f, -0.0020121013105245292948f,
              0.00028959053676703505107f, -0.000021697827861195435338f);
}
template <class T> HD T erf_far(T u, double) {
  return poly(u, -1.8496055099332482845, -2.638967514234777529, -0.84310725635932436377, -0.041561098026802709862,
              0.010033825196343791849, -0.0019779013175673285453, 0.00023731682165319732839,
              0.000026295327972260178719, -0.000027197157377328192696, 9.6690013750819094277e-6,
              -2.1296709649494076531e-6, 2.0322279629529550711e-7, 5.8824762619556375403e-8,
              -3.3690970374119205238e-8, 8.5960626447850729552e-9, -1.3323097467635237699e-9,
              1.2066664968093530067e-10, -4.9261367865944217167e-12);
}

template <class T> HD T erf(T x) {
  typedef typename num<T>::S S;
  const T a = abs(x);
  const T near = fma(erf_near(x * x, S()), a, a);
  const T far = -expm1(erf_far(clamp(a, S(1), S(sizeof(S) == 4 ? 4 : 6)) - S(1), S()));
  return copysign(a > all<T>(S(1)) ? far : near, x);
}

}  // namespace gpunet
