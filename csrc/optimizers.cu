// Optimizer updates on CUDA: one kernel for each rule of rules.h, over flat vectors.
//
// The scalars lie in the device's memory, so that a captured step reads the new ones. Each block works the rule out
// once. p1, m1 and v1 are the new vectors: each is the same array as the old one, or apart from it.
#include "device.h"
#include "rules.h"

namespace gpunet {

typedef const double* Real;
typedef const long long* Whole;

// The rule that make() gives, for every thread of the block.
template <class Rule, class Make> HD Rule agreed(Make make) {
  GPUNET_SHARED(Rule, rule, 1);
  if (threadIdx.x == 0) rule[0] = make();
  __syncthreads();
  return rule[0];
}

template <class T> struct Change { T* out; const T* in; };  // none: the rule has no such vector

template <class Rule, class T>
HD void update(const Rule& rule, Change<T> p, Change<T> m, Change<T> v, const T* g, long long size) {
  for (long long i = first_element<T>(); i < size; i += grid_stride<T>()) {
    Lanes<T> of_p = load(p.in, i, size), of_m{}, of_v{};
    const Lanes<T> of_g = load(g, i, size);
    if constexpr (kHasM<Rule>) of_m = load(m.in, i, size);
    if constexpr (kHasV<Rule>) of_v = load(v.in, i, size);
#pragma unroll
    for (int k = 0; k < kLanes<T>; ++k) step(rule, of_p.at[k], of_m.at[k], of_v.at[k], of_g.at[k]);
    store(p.out, i, size, of_p);
    if constexpr (kHasM<Rule>) store(m.out, i, size, of_m);
    if constexpr (kHasV<Rule>) store(v.out, i, size, of_v);
  }
}

template <class T>
GPUNET_RUN void sgd(T* p1, T* m1, const T* p, const T* g, const T* m, Real lr, Real momentum, Real decay, bool nesterov,
                    long long size, const Control* control) {
  if (stopped(control)) return;
  const SgdRule rule = agreed<SgdRule>([=] { return SgdRule{*lr, *momentum, *decay, nesterov}; });
  update<SgdRule, T>(rule, {p1, p}, {m1, m}, {}, g, size);
}

template <class T>
GPUNET_RUN void adagrad(T* p1, T* v1, const T* p, const T* g, const T* v, Real lr, Real eps, Real decay, long long size,
                        const Control* control) {
  if (stopped(control)) return;
  const AdagradRule rule = agreed<AdagradRule>([=] { return AdagradRule{*lr, *eps, *decay}; });
  update<AdagradRule, T>(rule, {p1, p}, {}, {v1, v}, g, size);
}

template <class T>
GPUNET_RUN void rmsprop(T* p1, T* v1, T* m1, const T* p, const T* g, const T* v, const T* m, Real lr, Real rho, Real eps,
                        Real momentum, Real decay, long long size, const Control* control) {
  if (stopped(control)) return;
  const RmspropRule rule = agreed<RmspropRule>([=] { return RmspropRule{*lr, *rho, *eps, *momentum, *decay}; });
  update<RmspropRule, T>(rule, {p1, p}, {m1, m}, {v1, v}, g, size);
}

template <class T>
GPUNET_RUN void adam(T* p1, T* m1, T* v1, const T* p, const T* g, const T* m, const T* v, Whole t, Real lr, Real beta1,
                     Real beta2, Real eps, Real decay, bool decoupled, long long size, const Control* control) {
  if (stopped(control)) return;
  const AdamRule rule =
      agreed<AdamRule>([=] { return adam_rule(*t, *lr, *beta1, *beta2, *eps, *decay, decoupled); });
  update<AdamRule, T>(rule, {p1, p}, {m1, m}, {v1, v}, g, size);
}

// mu, the product of the momenta before this step, is left for nadam_mu to move on: other blocks still read it.
template <class T>
GPUNET_RUN void nadam(T* p1, T* m1, T* v1, const T* p, const T* g, const T* m, const T* v, Real mu, Whole t, Real lr,
                      Real beta1, Real beta2, Real eps, Real decay, Real momentum_decay, bool decoupled, long long size,
                      const Control* control) {
  if (stopped(control)) return;
  const AdamRule rule = agreed<AdamRule>([=] {
    return nadam_rule(*t, *lr, *beta1, *beta2, *eps, *decay, *momentum_decay, decoupled,
                      *mu * nadam_momentum(*t, *beta1, *momentum_decay));
  });
  update<AdamRule, T>(rule, {p1, p}, {m1, m}, {v1, v}, g, size);
}

template <class T>
GPUNET_RUN void nadam_mu(T* mu1, const T* mu, Whole t, Real beta1, Real momentum_decay, const Control* control) {
  if (!stopped(control)) *mu1 = *mu * nadam_momentum(*t, *beta1, *momentum_decay);
}

template <class T>
GPUNET_RUN void lion(T* p1, T* m1, const T* p, const T* g, const T* m, Real lr, Real beta1, Real beta2, Real decay,
                     long long size, const Control* control) {
  if (stopped(control)) return;
  const LionRule rule = agreed<LionRule>([=] { return LionRule{*lr, *beta1, *beta2, *decay}; });
  update<LionRule, T>(rule, {p1, p}, {m1, m}, {}, g, size);
}

}  // namespace gpunet

#define GPUNET_ROW(name) GPUNET_KERNEL(gpunet::name<float>) GPUNET_KERNEL(gpunet::name<double>)
GPUNET_ROW(sgd) GPUNET_ROW(adagrad) GPUNET_ROW(rmsprop) GPUNET_ROW(adam) GPUNET_ROW(nadam) GPUNET_ROW(lion)
#undef GPUNET_ROW
GPUNET_KERNEL(gpunet::nadam_mu<double>)
