// The optimizers' rules, for the host and for CUDA: PyTorch's formulas, for one element or a vector of them.
//
// A rule holds the numbers of one step, as float64; step() does one lane of p, m and v with the gradient g.
#pragma once

#include "num.h"

namespace gpunet {

struct SgdRule { double lr, momentum, decay; bool nesterov; };
struct AdagradRule { double lr, eps, decay; };
struct RmspropRule { double lr, rho, eps, momentum, decay; };
struct LionRule { double lr, beta1, beta2, decay; };
// p -= (gradient g + moment m') / (sqrt(v') root + eps), with the bias corrections already in the factors.
struct AdamRule { double beta1, beta2, eps, root, moment, gradient, shrink, decay; };

// ---- one element

template <class V> HD V lerp(V from, V to, typename num<V>::S weight) { return fma(to - from, all<V>(weight), from); }

template <class V> HD void step(const SgdRule& r, V& p, V& m, V&, V g) {
  typedef typename num<V>::S S;
  g = fma(p, all<V>(S(r.decay)), g);
  m = fma(m, all<V>(S(r.momentum)), g);
  p = p - S(r.lr) * (r.nesterov ? fma(m, all<V>(S(r.momentum)), g) : m);
}

template <class V> HD void step(const AdagradRule& r, V& p, V&, V& v, V g) {
  typedef typename num<V>::S S;
  g = fma(p, all<V>(S(r.decay)), g);
  v = fma(g, g, v);
  p = p - S(r.lr) * g / (root(v) + S(r.eps));
}

template <class V> HD void step(const RmspropRule& r, V& p, V& m, V& v, V g) {
  typedef typename num<V>::S S;
  g = fma(p, all<V>(S(r.decay)), g);
  v = fma(g, S(1 - r.rho) * g, v * S(r.rho));
  m = fma(m, all<V>(S(r.momentum)), g / (root(v) + S(r.eps)));
  p = p - S(r.lr) * m;
}

// Adam, AdamW and NAdam: they differ in the factors that the rule carries.
template <class V> HD void step(const AdamRule& r, V& p, V& m, V& v, V g) {
  typedef typename num<V>::S S;
  p = p * S(r.shrink);
  g = fma(p, all<V>(S(r.decay)), g);
  m = lerp(m, g, S(1 - r.beta1));
  v = fma(g, S(1 - r.beta2) * g, v * S(r.beta2));
  const V change = r.gradient != 0 ? fma(g, all<V>(S(r.gradient)), m * S(r.moment)) : m * S(r.moment);
  p = p - quotient(change, fma(root(v), all<V>(S(r.root)), all<V>(S(r.eps))));
}

template <class V> HD void step(const LionRule& r, V& p, V& m, V&, V g) {
  typedef typename num<V>::S S;
  const V c = lerp(m, g, S(1 - r.beta1));
  const V sign = c > V{} ? all<V>(S(1)) : c < V{} ? all<V>(S(-1)) : c;  // NaN stays NaN
  p = p * S(1 - r.lr * r.decay) - S(r.lr) * sign;
  m = lerp(m, g, S(1 - r.beta2));
}

// m or v that an optimizer does not have are null, here known at compile time by the rule.
template <class Rule> constexpr bool kHasM = true;
template <> constexpr bool kHasM<AdagradRule> = false;
template <class Rule> constexpr bool kHasV = true;
template <> constexpr bool kHasV<SgdRule> = false;
template <> constexpr bool kHasV<LionRule> = false;

#if defined(__CUDACC__)
HD double power(double x, double y) { return ::pow(x, y); }
#else
HD double power(double x, double y) { return __builtin_pow(x, y); }
#endif

// x^n and y^n by squaring: off by n ulp, which for x = 1 - 1/n or less is no matter, and much faster than pow. Both in one
// loop and without a branch, which would be guessed wrong half the time.
struct Powers { double x = 1, y = 1; };
HD Powers whole_powers(double x, double y, long long n) {
  Powers made;
  for (; n > 0; n >>= 1, x *= x, y *= y) {
    const bool odd = n & 1;
    made.x *= odd ? x : 1, made.y *= odd ? y : 1;
  }
  return made;
}

// ---- the numbers of step t, from 1; powers in float64, where 1 - beta^t keeps its digits

HD AdamRule adam_rule(long long t, double lr, double beta1, double beta2, double eps, double decay, bool decoupled) {
  const Powers of = whole_powers(beta1, beta2, t);
  const double inverse_root = 1 / root(1 - of.y), moment = lr / (1 - of.x);
  return {beta1, beta2, eps, inverse_root, moment, 0, decoupled ? 1 - lr * decay : 1, decoupled ? 0 : decay};
}

// Dozat 2016, with PyTorch's schedule of momenta.
HD double nadam_momentum(long long t, double beta1, double momentum_decay) {
  return beta1 * (1 - 0.5 * power(0.96, double(t) * momentum_decay));
}

// mu is the product of the momenta up to this step's.
HD AdamRule nadam_rule(long long t, double lr, double beta1, double beta2, double eps, double decay,
                       double momentum_decay, bool decoupled, double mu) {
  const double next = nadam_momentum(t + 1, beta1, momentum_decay);
  AdamRule rule = adam_rule(t, lr, beta1, beta2, eps, decay, decoupled);
  rule.gradient = lr * (1 - nadam_momentum(t, beta1, momentum_decay)) / (1 - mu);
  rule.moment = lr * next / (1 - mu * next);
  return rule;
}

}  // namespace gpunet
