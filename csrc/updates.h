// Optimizer updates on flat vectors, one pass each, by the rules of rules.h; p, m, v, g are lanes of the vectors.
#pragma once

#include "loops.h"
#include "rules.h"

namespace gpunet {
namespace {

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
