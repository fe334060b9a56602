// exp, expm1, log, tanh, erf, sin, cos and pow without a branch, for one number or a vector: at most 2 ulp, NaN and
// infinity right. mod is exact. What is too large for sin, cos and mod is left to the C library, number by number.
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
  T minus1, whole;  // whole: n as it is
  typename num<T>::U n;
};

template <class T> HD exp_parts<T> split_exp(T x) {
  typedef num<T> N;
  typedef exp_constants<typename N::S> C;
  const T shifted = fma(x, all<T>(C::log2e), all<T>(C::round));
  const T n = shifted - C::round;
  T r = fma(n, all<T>(-C::ln2_high), x);
  r = fma(n, all<T>(-C::ln2_low), r);
  return {fma(r * r, exp_series(r, typename N::S()), r), n, N::bits(shifted) - (C::round_bits - C::offset)};
}

// Two factors, so that neither 2^128 nor a denormal result needs a case of its own.
template <class T> HD T exp(T x) {
  typedef num<T> N;
  typedef exp_constants<typename N::S> C;
  typedef ieee<typename N::S> I;
  const exp_parts<T> e = split_exp(clamp(x, C::low, C::high));
  if constexpr (N::scales) return N::scaled(e.minus1 + typename N::S(1), e.whole);
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

// x = mantissa 2^exponent for finite x > 0, the mantissa between sqrt(1/2) and sqrt(2).
template <class T> struct log_parts { T mantissa, exponent; };

template <class T> HD log_parts<T> split_log(T x) {
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
  return {N::from_bits((shifted & I::mantissa) + sqrt_half), denormal ? exponent - S(I::digits) : exponent};
}

template <class T> HD T log(T x) {
  typedef typename num<T>::S S;
  const log_parts<T> parts = split_log(x);
  const T y = log_sum(parts.mantissa - S(1), parts.exponent);
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

// ---- sin and cos

// pi / 2 in pieces with so few bits that n times each but the last is exact, and 2 / pi; up to `limit` n is that small.
template <class S> struct angle_constants;
template <> struct angle_constants<float> {
  static constexpr float limit = 8192.0f, per_quadrant = 0.63661977236758138243f;
  static constexpr float p0 = 1.5703125f, p1 = 4.837512969970703125e-4f, p2 = 7.54953362047672271729e-8f,
                         p3 = 2.56334406825708960298e-12f;
};
template <> struct angle_constants<double> {
  static constexpr double limit = 1e6, per_quadrant = 0.63661977236758138243;
  static constexpr double p0 = 1.57079632673412561417, p1 = 6.0771005063039659766e-11,
                          p2 = 2.0222662487111664558e-21, p3 = 8.47842766036889956997e-32;
};

// (sin(r) / r - 1) / s and (cos(r) - 1 + s / 2) / s^2 with s = r^2, |r| <= pi / 4.
template <class T> HD T sin_series(T s, float) {
  return poly(s, -0.16666656732559204102f, 0.0083322273567318916321f, -0.00019522532238624989986f);
}
template <class T> HD T sin_series(T s, double) {
  return poly(s, -0.16666666666666646313, 0.0083333333333249649116, -0.00019841269831491489622,
              2.7557314192246126825e-6, -2.5050826926337059992e-8, 1.5900361802878676564e-10);
}
template <class T> HD T cos_series(T s, float) {
  return poly(s, 0.04166665300726890564f, -0.0013887586537748575211f, 2.4460232452838681638e-5f);
}
template <class T> HD T cos_series(T s, double) {
  return poly(s, 0.041666666666666657415, -0.0013888888888883305778, 2.4801587294814056813e-5,
              -2.7557315792079092437e-7, 2.0875907130989799324e-9, -1.1368632443916869344e-11);
}

// Sine and cosine of an angle in the first quadrant's place, and how many quadrants it is further on.
template <class T> struct Angle { T sine, cosine; typename num<T>::U quadrant; };

// a >= 0 is n pi / 2 + (r + low) as Cody and Waite (1980), with what the last subtractions round off kept for the sine, since
// r may be tiny.
template <class T> HD Angle<T> angle_of(T a) {
  typedef num<T> N;
  typedef typename N::S S;
  typedef angle_constants<S> C;
  const T shifted = fma(a, all<T>(C::per_quadrant), all<T>(exp_constants<S>::round));
  const T n = shifted - exp_constants<S>::round;
  const T r2 = fma(n, all<T>(-C::p1), fma(n, all<T>(-C::p0), a)), r = fma(n, all<T>(-C::p2), r2);
  const T low = fma(n, all<T>(-C::p3), fma(n, all<T>(-C::p2), r2 - r));
  const T s = r * r;
  const T sine = r + fma(r * s, sin_series(s, S()), low);
  const T cosine = fma(s, fma(s, cos_series(s, S()), all<T>(S(-0.5))), all<T>(S(1)));
  return {sine, cosine, N::bits(shifted)};
}

// The sine of an angle, a quarter turn further for each of `turns`.
template <class T> HD T sine_of(const Angle<T>& a, unsigned turns) {
  typedef num<T> N;
  const auto quadrant = a.quadrant + turns;
  const T y = (quadrant & 1) != 0 ? a.cosine : a.sine;
  return N::from_bits(N::bits(y) ^ (quadrant >> 1 << (8 * sizeof(typename N::S) - 1)));
}

// y, but f of each number of x, y where the mask says so; f is slow.
template <class T, class Mask, class F> HD T where_far(Mask far, T value, T x, T y, F f) {
  typedef typename num<T>::S S;
  if (!num<T>::any(far)) return value;
  if constexpr (sizeof(T) == sizeof(S)) {
    return f(x, y);
  } else {
    S out[sizeof(T) / sizeof(S)], xs[sizeof(T) / sizeof(S)], ys[sizeof(T) / sizeof(S)];
    const T nan = infinity<T>() - infinity<T>();
    value = far ? nan : value;
    __builtin_memcpy(out, &value, sizeof value);
    __builtin_memcpy(xs, &x, sizeof x);
    __builtin_memcpy(ys, &y, sizeof y);
    for (unsigned long i = 0; i < sizeof(T) / sizeof(S); ++i)
      if (out[i] != out[i]) out[i] = f(xs[i], ys[i]);
    __builtin_memcpy(&value, out, sizeof value);
    return value;
  }
}

template <class T> struct Wave { T sine, cosine; };

template <class T> HD T sine_there(T x, T there) {  // the sine of |x|, of which x has the sign; far away the C library's
  typedef num<T> N;
  typedef typename N::S S;
  const T odd = N::from_bits(N::bits(there) ^ (N::bits(x) & ieee<S>::sign));
  return where_far(abs(x) > all<T>(angle_constants<S>::limit), odd, x, x, [](S v, S) { return num<S>::libm_sin(v); });
}
template <class T> HD T cosine_there(T x, T there) {
  typedef typename num<T>::S S;
  return where_far(abs(x) > all<T>(angle_constants<S>::limit), there, x, x, [](S v, S) { return num<S>::libm_cos(v); });
}

template <class T> HD T sin(T x) { return sine_there(x, sine_of(angle_of(abs(x)), 0)); }
template <class T> HD T cos(T x) { return cosine_there(x, sine_of(angle_of(abs(x)), 1)); }

// Both, which share the most of it.
template <class T> HD Wave<T> wave(T x) {
  const Angle<T> a = angle_of(abs(x));
  return {sine_there(x, sine_of(a, 0)), cosine_there(x, sine_of(a, 1))};
}

// ---- mod: of the sign of y, as Python has it

template <class T> struct two { T high, low; };  // a number of twice the digits: their sum

template <class T> HD two<T> two_product(T a, T b) {  // exact (Dekker 1971): halves have products without rounding
  typedef num<T> N;
  constexpr int low_half = ieee<typename N::S>::digits / 2 + 1;
  const T a1 = N::from_bits(N::bits(a) >> low_half << low_half), a0 = a - a1;
  const T b1 = N::from_bits(N::bits(b) >> low_half << low_half), b0 = b - b1;
  const T p = a * b;
  return {p, (((a1 * b1 - p) + a1 * b0) + a0 * b1) + a0 * b0};
}
template <class T> HD two<T> quick_sum(T a, T b) {  // exact where |a| >= |b|
  const T s = a + b;
  return {s, b - (s - a)};
}

template <class T> HD T whole_part(T x) {  // of x >= 0
  typedef typename num<T>::S S;
  const S digits = num<S>::from_bits(ieee<S>::one + (typename num<S>::U(ieee<S>::digits) << ieee<S>::digits));
  const T near = (x + digits) - digits;
  return x >= all<T>(digits) ? x : near > x ? near - S(1) : near;
}

template <class T> HD T mod(T x, T y) {
  typedef typename num<T>::S S;
  const S most = S(sizeof(S) == 4 ? 1e6 : 1e15), tiny = S(sizeof(S) == 4 ? 1e-25 : 1e-280);
  const T a = abs(x), b = abs(y), q = whole_part(a / b);
  const two<T> p = two_product(q, b);
  T r = (a - p.high) - p.low;  // exact, and right but for a b where the quotient was rounded to the next whole number
  r = r < T{} ? r + b : r;
  r = r >= b ? r - b : r;
  const auto near = (q < all<T>(most)) & (b > all<T>(tiny)) & (b < infinity<T>());
  r = where_far(near == 0, r, a, b, [](S u, S v) { return num<S>::libm_fmod(u, v); });
  const auto apart = (x < T{}) != (y < T{});
  const T turned = apart ? b - r : r;
  return r == T{} ? copysign(T{}, y) : copysign(turned, y);
}

// ---- pow

// (log((1 + s) / (1 - s)) - 2 s - 2/3 s^3) / s^5 with z = s^2 <= 0.0295.
template <class T> HD T pow_series(T z, float) {
  return poly(z, 0.40000143647193908691f, 0.28547811508178710938f, 0.23404923081398010254f);
}
template <class T> HD T pow_series(T z, double) {
  return poly(z, 0.4000000000000039635, 0.28571428570903839583, 0.22222222388705553664, 0.18181794956329289104,
              0.15386304163617323115, 0.13266680097699365404, 0.13110348914227021311);
}

// log(x) with about ten digits more than x has, for finite x > 0: log_sum with the two leading terms of the series kept
// with what they round off.
template <class T> HD two<T> long_log(T x) {
  typedef typename num<T>::S S;
  typedef exp_constants<S> C;
  const S third = S(2.0 / 3.0), third_low = S(sizeof(S) == 4 ? -1.986821492513020723e-8 : 3.7007434154171882626e-17);
  const log_parts<T> parts = split_log(x);
  const T f = parts.mantissa - S(1);
  const two<T> d = quick_sum(all<T>(S(1)), parts.mantissa);
  const T s = f / d.high;
  const two<T> back = two_product(s, d.high);
  const T s_low = (((f - back.high) - back.low) - s * d.low) / d.high;
  two<T> z = two_product(s, s);
  z.low = fma(S(2) * s, s_low, z.low);
  two<T> u = two_product(z.high, all<T>(third));
  u.low += fma(z.high, all<T>(third_low), z.low * third) + z.high * z.high * pow_series(z.high, S());
  two<T> t = two_product(s, u.high);
  t.low += fma(s, u.low, s_low * u.high);
  const two<T> m = quick_sum(S(2) * s, t.high);
  const T k = parts.exponent * C::ln2_high;
  const two<T> total = quick_sum(k, m.high);
  const two<T> other = quick_sum(m.high, k);  // k is 0, or larger than any log of a mantissa
  const T low = k == T{} ? other.low : total.low;
  return quick_sum(total.high, low + (((m.low + t.low) + S(2) * s_low) + parts.exponent * C::ln2_low));
}

// As C and NumPy have it at 0, infinity, NaN and negative x.
template <class T> HD T pow(T x, T y) {
  typedef num<T> N;
  typedef typename N::S S;
  typedef exp_constants<S> C;
  typedef ieee<S> I;
  const T a = abs(x), one = all<T>(S(1)), nan = infinity<T>() - infinity<T>();
  two<T> l = long_log(a);
  const T end = a == T{} ? -infinity<T>() : a;
  l.high = (a > T{}) & (a < infinity<T>()) ? l.high : end;
  const T exponent = clamp(y, S(sizeof(S) == 4 ? -0x1p33 : -0x1p66), S(sizeof(S) == 4 ? 0x1p33 : 0x1p66));
  const two<T> product = two_product(exponent, l.high);
  const T power = clamp(product.high, C::low, C::high);
  const T low = power == product.high ? fma(exponent, l.low, product.low) : T{};
  const exp_parts<T> e = split_exp(power);
  const auto half = e.n >> 1, rest = e.n - half;
  const auto zero = C::offset / 2 - I::bias;
  const T p = S(1) + fma(low, e.minus1 + S(1), e.minus1);
  const T size = p * N::from_bits((half - zero) << I::digits) * N::from_bits((rest - zero) << I::digits);
  const T b = abs(y), b_half = b * S(0.5);
  const auto whole = (whole_part(b) == b) | (b == infinity<T>());
  const auto even = whole_part(b_half) == b_half;
  const T negative = whole ? (even ? size : -size) : (a < infinity<T>() ? nan : size);
  const T minus_zero = whole & (even == 0) ? copysign(size, x) : size;
  const T signed_size = x < T{} ? negative : x == T{} ? minus_zero : size;
  return (y == T{}) | (x == one) ? one : (x != x) | (y != y) ? nan : signed_size;
}

}  // namespace gpunet
