// Optimizer updates on flat vectors, one pass each. The formulas are PyTorch's; p, m, v, g are lanes of the vectors.
#pragma once

#include "loops.h"

namespace gpunet {
namespace {

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

template <class T, class Rule> void update(const Update<T, Rule>& u, Part part) {
  const Span s = share<T>(u.n, part);
  const Rule rule = u.rule;
  each_vector<T>(s.begin, s.end, [&](auto lanes, long i) {
    Vec<T> p = lanes.load(u.p.in + i), m{}, v{};
    if (kHasM<Rule>) m = lanes.load(u.m.in + i);
    if (kHasV<Rule>) v = lanes.load(u.v.in + i);
    step(rule, p, m, v, lanes.load(u.g + i));
    lanes.store(u.p.out + i, p);
    if (kHasM<Rule>) lanes.store(u.m.out + i, m);
    if (kHasV<Rule>) lanes.store(u.v.out + i, v);
  });
}

}  // namespace
}  // namespace gpunet
