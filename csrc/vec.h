// A vector of the widest kind that this file is compiled for, by the vector extensions of GCC and Clang.
//
// Everything here has internal linkage: the same source is compiled once for each instruction set, and nothing of one
// build may be linked into another. Intrinsics stand only where the extensions have no word for it.
#pragma once

#include <utility>

#include "num.h"

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

namespace gpunet {
namespace {

#if defined(__AVX512F__)
constexpr int kBytes = 64;
#elif defined(__AVX2__)
constexpr int kBytes = 32;
#else
constexpr int kBytes = 16;
#endif
constexpr bool kMasks = kBytes > 16;  // whether the first lanes can be loaded at the price of all of them

typedef float VecF __attribute__((vector_size(kBytes)));
typedef double VecD __attribute__((vector_size(kBytes)));
typedef unsigned short VecU16 __attribute__((vector_size(kBytes)));
typedef unsigned int VecU32 __attribute__((vector_size(kBytes)));
typedef unsigned long long VecU64 __attribute__((vector_size(kBytes)));

template <class T> struct vec_of;
template <> struct vec_of<float> { typedef VecF type; };
template <> struct vec_of<double> { typedef VecD type; };
template <class T> using Vec = typename vec_of<T>::type;
template <class T> constexpr int kLanes = kBytes / int(sizeof(T));

// ---- what differs between instruction sets: fused multiply-add, root, the first n lanes of memory, 32 x 32 -> 64 bits

#if defined(__AVX512F__)
HD VecF fused(VecF a, VecF b, VecF c) { return (VecF)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
HD VecD fused(VecD a, VecD b, VecD c) { return (VecD)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c); }
HD VecF rooted(VecF a) { return (VecF)_mm512_sqrt_ps((__m512)a); }
HD VecD rooted(VecD a) { return (VecD)_mm512_sqrt_pd((__m512d)a); }
HD VecF scale_by(VecF a, VecF n) { return (VecF)_mm512_scalef_ps((__m512)a, (__m512)n); }  // a 2^n for whole n
HD VecD scale_by(VecD a, VecD n) { return (VecD)_mm512_scalef_pd((__m512d)a, (__m512d)n); }
HD VecF load_first(const float* p, int n) { return (VecF)_mm512_maskz_loadu_ps(__mmask16((1u << n) - 1), p); }
HD VecD load_first(const double* p, int n) { return (VecD)_mm512_maskz_loadu_pd(__mmask8((1u << n) - 1), p); }
HD void store_first(float* p, VecF v, int n) { _mm512_mask_storeu_ps(p, __mmask16((1u << n) - 1), (__m512)v); }
HD void store_first(double* p, VecD v, int n) { _mm512_mask_storeu_pd(p, __mmask8((1u << n) - 1), (__m512d)v); }
HD VecU64 product32(VecU64 a, VecU64 b) { return (VecU64)_mm512_mul_epu32((__m512i)a, (__m512i)b); }
// by a shuffle: shifts go where the products go
HD VecU64 upper(VecU64 a) { return (VecU64)_mm512_shuffle_epi32((__m512i)a, (_MM_PERM_ENUM)0xF5); }

#elif defined(__AVX2__)
HD __m256i first32(int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
HD __m256i first64(int n) { return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3)); }
HD VecF fused(VecF a, VecF b, VecF c) { return (VecF)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
HD VecD fused(VecD a, VecD b, VecD c) { return (VecD)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c); }
HD VecF rooted(VecF a) { return (VecF)_mm256_sqrt_ps((__m256)a); }
HD VecD rooted(VecD a) { return (VecD)_mm256_sqrt_pd((__m256d)a); }
HD VecF load_first(const float* p, int n) { return (VecF)_mm256_maskload_ps(p, first32(n)); }
HD VecD load_first(const double* p, int n) { return (VecD)_mm256_maskload_pd(p, first64(n)); }
HD void store_first(float* p, VecF v, int n) { _mm256_maskstore_ps(p, first32(n), (__m256)v); }
HD void store_first(double* p, VecD v, int n) { _mm256_maskstore_pd(p, first64(n), (__m256d)v); }
HD VecU64 product32(VecU64 a, VecU64 b) { return (VecU64)_mm256_mul_epu32((__m256i)a, (__m256i)b); }

#else
template <class T> HD Vec<T> load_first(const T* p, int n) {
  Vec<T> v{};
  for (int i = 0; i < kLanes<T>; ++i) if (i < n) v[i] = p[i];
  return v;
}
template <class T, class V> HD void store_first(T* p, V v, int n) {
  for (int i = 0; i < kLanes<T>; ++i) if (i < n) p[i] = v[i];
}
#if defined(__SSE2__)
HD VecF fused(VecF a, VecF b, VecF c) { return a * b + c; }
HD VecD fused(VecD a, VecD b, VecD c) { return a * b + c; }
HD VecF rooted(VecF a) { return (VecF)_mm_sqrt_ps((__m128)a); }
HD VecD rooted(VecD a) { return (VecD)_mm_sqrt_pd((__m128d)a); }
HD VecU64 product32(VecU64 a, VecU64 b) { return (VecU64)_mm_mul_epu32((__m128i)a, (__m128i)b); }
#elif defined(__ARM_NEON) && defined(__aarch64__)
HD VecF fused(VecF a, VecF b, VecF c) { return (VecF)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
HD VecD fused(VecD a, VecD b, VecD c) { return (VecD)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b); }
HD VecF rooted(VecF a) { return (VecF)vsqrtq_f32((float32x4_t)a); }
HD VecD rooted(VecD a) { return (VecD)vsqrtq_f64((float64x2_t)a); }
HD VecU64 product32(VecU64 a, VecU64 b) { return (a & 0xffffffffull) * (b & 0xffffffffull); }
#else
HD VecF fused(VecF a, VecF b, VecF c) { return a * b + c; }
HD VecD fused(VecD a, VecD b, VecD c) { return a * b + c; }
HD VecF rooted(VecF a) { for (int i = 0; i < kLanes<float>; ++i) a[i] = __builtin_sqrtf(a[i]); return a; }
HD VecD rooted(VecD a) { for (int i = 0; i < kLanes<double>; ++i) a[i] = __builtin_sqrt(a[i]); return a; }
HD VecU64 product32(VecU64 a, VecU64 b) { return (a & 0xffffffffull) * (b & 0xffffffffull); }
#endif
#endif

// a / b in float by Newton's method, for loops that would wait for the divider (which the root already keeps busy): a
// first guess of 1 / b, steps that square its error, and the remainder that rights the last bit. Division where b is
// out of the ordinary.
#if defined(__AVX512F__)
HD bool any(VecU32 mask) { return _mm512_test_epi32_mask((__m512i)mask, (__m512i)mask); }
HD VecF reciprocal_guess(VecF b) { return (VecF)_mm512_rcp14_ps((__m512)b); }  // within 2^-14
constexpr int kNewtonSteps = 1;
#elif defined(__AVX2__)
HD bool any(VecU32 mask) { return _mm256_movemask_epi8((__m256i)mask); }
HD VecF reciprocal_guess(VecF b) { return (VecF)(0x7ef311c7u - (VecU32)b); }  // by its bits: within 12 %
constexpr int kNewtonSteps = 3;
#endif
#if defined(__AVX2__)
HD VecF divided(VecF a, VecF b) {
  if (any(VecU32(!(b > VecF{} + 1e-37f && b < VecF{} + 1e37f)))) return a / b;
  VecF r = reciprocal_guess(b);
  for (int i = 0; i < kNewtonSteps; ++i) r = fused(r, fused(-b, r, VecF{} + 1.0f), r);
  const VecF q = a * r;
  return fused(fused(-q, b, a), r, q);
}
#else
HD VecF divided(VecF a, VecF b) { return a / b; }
#endif
HD VecD divided(VecD a, VecD b) { return a / b; }

// ---- memory: the body of a loop is written once, for whole vectors and for what is left over at the end

template <class T> HD Vec<T> load(const T* p) {
  Vec<T> v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
template <class T> HD void store(T* p, Vec<T> v) { __builtin_memcpy(p, &v, sizeof v); }

template <class T> HD Vec<T> lane_numbers() {
  constexpr T n[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  return load(n);
}

struct Whole {
  template <class T> HD Vec<T> load(const T* p) const { return gpunet::load(p); }
  template <class T> HD Vec<T> load_or(T, const T* p) const { return gpunet::load(p); }
  template <class T, class V> HD void store(T* p, V v) const { gpunet::store(p, v); }
};

struct First {  // n lanes only; the others read 0, or what load_or is given, and are not written
  int n;
  template <class T> HD Vec<T> load(const T* p) const { return load_first(p, n); }
  template <class T> HD Vec<T> load_or(T other, const T* p) const {
    return lane_numbers<T>() < all<Vec<T>>(T(n)) ? load_first(p, n) : all<Vec<T>>(other);
  }
  template <class T, class V> HD void store(T* p, V v) const { store_first(p, v, n); }
};

// body(lanes, i) for i = begin, begin + one vector, ...
template <class T, class F> HD void each_vector(long begin, long end, F body) {
  long i = begin;
  for (; i + kLanes<T> <= end; i += kLanes<T>) body(Whole{}, i);
  if (i < end) body(First{int(end - i)}, i);
}

// ---- across lanes; the order is fixed: halves onto halves

HD bool any_lane(VecU64 mask) {
#if defined(__AVX512F__)
  return _mm512_test_epi64_mask((__m512i)mask, (__m512i)mask) != 0;
#elif defined(__AVX2__)
  return !_mm256_testz_si256((__m256i)mask, (__m256i)mask);
#endif
  unsigned long long lanes = 0;
  for (int i = 0; i < kBytes / 8; ++i) lanes |= mask[i];
  return lanes != 0;
}

template <class T, class F> HD T across(Vec<T> v, F combine) {
  T lane[kLanes<T>];
  __builtin_memcpy(lane, &v, sizeof v);
  for (int width = kLanes<T> / 2; width; width /= 2)
    for (int i = 0; i < width; ++i) lane[i] = combine(lane[i], lane[i + width]);
  return lane[0];
}
#if defined(__AVX512F__)
HD float sum(VecF v) { return _mm512_reduce_add_ps((__m512)v); }
HD double sum(VecD v) { return _mm512_reduce_add_pd((__m512d)v); }
HD float largest(VecF v) { return _mm512_reduce_max_ps((__m512)v); }
HD double largest(VecD v) { return _mm512_reduce_max_pd((__m512d)v); }
#else
HD float sum(VecF v) { return across<float>(v, [](float a, float b) { return a + b; }); }
HD double sum(VecD v) { return across<double>(v, [](double a, double b) { return a + b; }); }
HD float largest(VecF v) { return across<float>(v, [](float a, float b) { return a > b ? a : b; }); }
HD double largest(VecD v) { return across<double>(v, [](double a, double b) { return a > b ? a : b; }); }
#endif

#if defined(__clang__)
#define GPUNET_SHUFFLE(V, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define GPUNET_SHUFFLE(V, a, b, ...) __builtin_shuffle(a, b, typename num<V>::U{__VA_ARGS__})
#endif

template <class V, int... i> HD V zip_low(V a, V b, std::integer_sequence<int, i...>) {
  constexpr int n = sizeof...(i);
  return GPUNET_SHUFFLE(V, a, b, (i % 2 * n + i / 2)...);
}
template <class V, int... i> HD V zip_high(V a, V b, std::integer_sequence<int, i...>) {
  constexpr int n = sizeof...(i);
  return GPUNET_SHUFFLE(V, a, b, (i % 2 * n + n / 2 + i / 2)...);
}

// Rows of a square block become its columns: log2 n rounds of zipping row i with row i + n / 2.
template <class T> HD void transpose(Vec<T> (&rows)[kLanes<T>]) {
  constexpr int n = kLanes<T>;
  constexpr std::make_integer_sequence<int, n> lanes{};
#pragma GCC unroll 4
  for (int round = 1; round < n; round *= 2) {
    Vec<T> next[n];
#pragma GCC unroll 16
    for (int i = 0; i < n / 2; ++i) {
      next[2 * i] = zip_low(rows[i], rows[i + n / 2], lanes);
      next[2 * i + 1] = zip_high(rows[i], rows[i + n / 2], lanes);
    }
#pragma GCC unroll 16
    for (int i = 0; i < n; ++i) rows[i] = next[i];
  }
}

}  // namespace

template <class V, class Bits, class One> struct num_of_lanes {
  typedef One S;
  typedef Bits U;
  static HD U bits(V x) { return (U)x; }
  static HD V from_bits(U u) { return (V)u; }
  static HD V fma(V a, V b, V c) { return fused(a, b, c); }
  template <class Mask> static HD bool any(Mask mask) { return any_lane((VecU64)mask); }
  static HD V root(V a) { return rooted(a); }
  static HD V quotient(V a, V b) { return divided(a, b); }
#if defined(__AVX512F__)
  static constexpr bool scales = true;  // by powers of two, in one instruction
  static HD V scaled(V a, V n) { return scale_by(a, n); }
#else
  static constexpr bool scales = false;
#endif
};
template <> struct num<VecF> : num_of_lanes<VecF, VecU32, float> {};
template <> struct num<VecD> : num_of_lanes<VecD, VecU64, double> {};

}  // namespace gpunet
