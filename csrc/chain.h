// A chain of elementwise formulas, one after the other over a tile that stays in the nearest cache: what goes from one
// formula to the next is never an array. Every row of formulas.h and activations.h is an instruction here.
#pragma once

#include "elementwise.h"

namespace gpunet {
namespace {

// ---- the instructions: a formula as a loop over a tile

template <class T, class F> HD void each_of_one(const Instruction<T>& i, F f) {
  T* out = i.out;
  const T* x = i.x;
  each_vector<T>(0, i.n, [=](auto lanes, long j) { lanes.store(out + j, f(lanes.load(x + j))); });
}
template <class T, class F> HD void each_of_two(const Instruction<T>& i, F f) {
  const T* y = i.y;
  T* out = i.out;
  const T* x = i.x;
  each_vector<T>(0, i.n, [=](auto lanes, long j) { lanes.store(out + j, f(lanes.load(x + j), lanes.load(y + j))); });
}

template <class T, Unary formula> void chain_unary(const Instruction<T>& i) {
  each_of_one(i, [low = i.a, high = i.b](Vec<T> x) { return unary_of<T, formula>::at(x, low, high); });
}
template <class T, Binary formula> void chain_binary(const Instruction<T>& i) {
  each_of_two(i, [](Vec<T> x, Vec<T> y) { return binary_of<Vec<T>, formula>::at(x, y); });
}
template <class T, Compare formula> void chain_compare(const Instruction<T>& i) {
  each_of_two(i, [](Vec<T> x, Vec<T> y) {
    return compare_of<Vec<T>, formula>::at(x, y) ? all<Vec<T>>(T(1)) : Vec<T>{};
  });
}
template <class T, class A> void chain_value(const Instruction<T>& i) {
  each_of_one(i, [alpha = i.a](Vec<T> x) { return A::value(x, alpha); });
}
template <class T, class A> void chain_slope_times(const Instruction<T>& i) {
  each_of_two(i, [alpha = i.a](Vec<T> g, Vec<T> saved) { return g * A::slope(saved, alpha); });
}
template <class T> void chain_copy(const Instruction<T>& i) {
  each_of_one(i, [](Vec<T> x) { return x; });
}
template <class T> void chain_where(const Instruction<T>& i) {
  T* out = i.out;
  const T *condition = i.x, *x = i.y, *y = i.z;
  each_vector<T>(0, i.n, [=](auto lanes, long j) {
    const Vec<T> a = lanes.load(x + j), b = lanes.load(y + j);
    lanes.store(out + j, lanes.load(condition + j) != Vec<T>{} ? a : b);
  });
}

// ---- the chain

// An operand's h rows of w columns from (i, j), in its register.
template <class T> void spread(T* to, const ChainOperand& o, long i, long j, long h, long w) {
  if (o.one && o.row == 0) w *= h, h = 1;
  for (long r = i; r < i + h; ++r, to += w)
    if (o.boolean) {  // read as bytes, which GCC does by vectors
      const std::uint8_t* from = static_cast<const std::uint8_t*>(o.data) + r * o.row;
      for (long k = 0; k < w; ++k) to[k] = T(o.one ? *from : from[j + k]);
    } else {
      const T* from = static_cast<const T*>(o.data) + r * o.row;
      if (o.one) each_vector<T>(0, w, [to, v = all<Vec<T>>(*from)](auto lanes, long k) { lanes.store(to + k, v); });
      else map(to, from + j, {0, w}, [](Vec<T> x) { return x; });
    }
}

template <class T> void chain(const Chain<T>& c, Part part) {
  T* const registers = static_cast<T*>(scratch((unsigned long)(c.registers * kChainTile<T>) * sizeof(T)));
  const auto place = [=](int k) { return registers + k * kChainTile<T>; };
  const T* value[kMostOperands + kMostSteps];
  for (int k = 0; k < c.operands; ++k) {
    const ChainOperand& o = c.operand[k];
    value[k] = place(o.place);
    if (o.spread == Spread::once) spread(place(o.place), o, 0, 0, c.height, c.width);
  }
  const Span tiles = share(c.tiles, 1, part);
  for (long t = tiles.begin; t < tiles.end; ++t) {
    const long i = c.across == 1 ? t * c.height : t / c.across, j = c.across == 1 ? 0 : t % c.across * c.width;
    const long h = c.rows - i < c.height ? c.rows - i : c.height, w = c.cols - j < c.width ? c.cols - j : c.width;
    for (int k = 0; k < c.operands; ++k) {
      const ChainOperand& o = c.operand[k];
      if (o.spread == Spread::never) value[k] = static_cast<const T*>(o.data) + i * o.row + j;
      if (o.spread == Spread::each_tile) spread(place(o.place), o, i, j, h, w);
    }
    const long at = i * c.cols + j, n = h * w;
    for (int k = 0; k < c.steps; ++k) {
      const ChainStep<T>& s = c.step[k];
      T* const out = s.out ? s.out + at : place(s.place);
      s.formula({out, value[s.source[0]], value[s.source[1]], value[s.source[2]], n, s.a, s.b});
      value[c.operands + k] = out;
    }
    for (int k = 0; k < c.results; ++k) {
      const T* from = value[c.result[k].value];
      if (T* const to = c.result[k].numbers) for (long e = 0; e < n; ++e) to[at + e] = from[e];
      if (bool* const to = c.result[k].booleans) for (long e = 0; e < n; ++e) to[at + e] = from[e] != T(0);
    }
  }
}

#define GPUNET_ROW(name, ...) chain_unary<T, Unary::name>,
template <class T> constexpr Formula<T> kChainUnary[] = {GPUNET_UNARY(GPUNET_ROW)};
#undef GPUNET_ROW
#define GPUNET_ROW(name, ...) chain_binary<T, Binary::name>,
template <class T> constexpr Formula<T> kChainBinary[] = {GPUNET_BINARY(GPUNET_ROW)};
#undef GPUNET_ROW
#define GPUNET_ROW(name, ...) chain_compare<T, Compare::name>,
template <class T> constexpr Formula<T> kChainCompare[] = {GPUNET_COMPARE(GPUNET_ROW)};
#undef GPUNET_ROW
#define GPUNET_ROW(name) chain_value<T, act::name>,
template <class T> constexpr Formula<T> kChainValue[] = {GPUNET_ACTIVATIONS(GPUNET_ROW)};
#undef GPUNET_ROW
#define GPUNET_ROW(name) chain_slope_times<T, act::name>,
template <class T> constexpr Formula<T> kChainSlopeTimes[] = {GPUNET_ACTIVATIONS(GPUNET_ROW)};
#undef GPUNET_ROW

template <class T> constexpr Chains<T> kChains = {
    chain<T>, kChainUnary<T>, kChainBinary<T>, kChainCompare<T>, kChainValue<T>, kChainSlopeTimes<T>,
    chain_where<T>, chain_copy<T>,
};

}  // namespace
}  // namespace gpunet
