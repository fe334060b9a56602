// Bindings of the optimizer updates. Their rules are worked out once a step.
#include "bind.h"

namespace gpunet {
namespace {

// One flat vector that changes; an optimizer that lacks m or v passes none.
struct Pair { const Array *out, *in; };

// `make` gives the rule of a step, from numbers that may have changed since the last.
template <class Rule, class Make>
py::object update(const char* name, Kernel<Update<float, Rule>> Table<float>::*f32,
                  Kernel<Update<double, Rule>> Table<double>::*f64, Pair p, Pair m, Pair v, const Array& g, Make make) {
  const Pair pairs[] = {p, m, v};
  for (const Pair& a : pairs) {
    if (!a.out) continue;
    if (!usable({a.out, p.out}, {a.in, &g}) || !overlap_allowed({a.out}, {a.in, &g}, {a.in})) return declined();
    if (!a.out->same_shape(g) || !a.in->same_shape(g)) shape_error(name, {{"out", a.out}, {"in", a.in}, {"g", &g}});
    for (const Pair& b : pairs)
      if (b.out && b.out != a.out && !overlap_allowed({a.out}, {b.out, b.in})) return declined();
  }
  by_type(g.type, [&](auto zero) {
    using T = decltype(zero);
    const auto change = [](Pair a) {
      return a.out ? Change<T>{a.out->template as<T>(), a.in->template as<T>()} : Change<T>{};
    };
    const Update<T, Rule> u{change(p), change(m), change(v), g.as<T>(), g.size, Rule{}};
    const auto prepare = [make](Update<T, Rule>& each) { each.rule = make(); };
    if constexpr (std::is_same_v<T, float>) launch(table<T>().*f32, u, 2 * kCostly * g.size, prepare);
    else launch(table<T>().*f64, u, 2 * kCostly * g.size, prepare);
  });
  return done();
}

#define GPUNET_UPDATE(name, p, m, v, g, make) update(#name, &Table<float>::name, &Table<double>::name, p, m, v, g, make)

}  // namespace

void bind_updates(py::module_& m) {
  using py::arg, py::handle, py::kw_only;
  m.def("sgd",
        [](handle p1, handle m1, handle p, handle g, handle m, Real lr, Real momentum, Real decay, bool nesterov) {
          const Array out_p(p1), out_m(m1), in_p(p), in_g(g), in_m(m);
          return GPUNET_UPDATE(sgd, (Pair{&out_p, &in_p}), (Pair{&out_m, &in_m}), Pair{}, in_g,
                               ([=] { return SgdRule{lr, momentum, decay, nesterov}; }));
        },
        arg("p1"), arg("m1"), arg("p"), arg("g"), arg("m"), arg("lr"), arg("momentum"), arg("decay"), kw_only(),
        arg("nesterov"));
  m.def("adagrad",
        [](handle p1, handle v1, handle p, handle g, handle v, Real lr, Real eps, Real decay) {
          const Array out_p(p1), out_v(v1), in_p(p), in_g(g), in_v(v);
          return GPUNET_UPDATE(adagrad, (Pair{&out_p, &in_p}), Pair{}, (Pair{&out_v, &in_v}), in_g,
                               ([=] { return AdagradRule{lr, eps, decay}; }));
        },
        arg("p1"), arg("v1"), arg("p"), arg("g"), arg("v"), arg("lr"), arg("eps"), arg("decay"));
  m.def("rmsprop",
        [](handle p1, handle v1, handle m1, handle p, handle g, handle v, handle m, Real lr, Real rho, Real eps,
           Real momentum, Real decay) {
          const Array out_p(p1), out_v(v1), out_m(m1), in_p(p), in_g(g), in_v(v), in_m(m);
          return GPUNET_UPDATE(rmsprop, (Pair{&out_p, &in_p}), (Pair{&out_m, &in_m}), (Pair{&out_v, &in_v}), in_g,
                               ([=] { return RmspropRule{lr, rho, eps, momentum, decay}; }));
        },
        arg("p1"), arg("v1"), arg("m1"), arg("p"), arg("g"), arg("v"), arg("m"), arg("lr"), arg("rho"), arg("eps"),
        arg("momentum"), arg("decay"));
  m.def("adam",
        [](handle p1, handle m1, handle v1, handle p, handle g, handle m, handle v, Whole t, Real lr, Real beta1,
           Real beta2, Real eps, Real decay, bool decoupled) {
          const Array out_p(p1), out_m(m1), out_v(v1), in_p(p), in_g(g), in_m(m), in_v(v);
          return GPUNET_UPDATE(adam, (Pair{&out_p, &in_p}), (Pair{&out_m, &in_m}), (Pair{&out_v, &in_v}), in_g,
                               ([=] { return adam_rule(t, lr, beta1, beta2, eps, decay, decoupled); }));
        },
        arg("p1"), arg("m1"), arg("v1"), arg("p"), arg("g"), arg("m"), arg("v"), arg("t"), arg("lr"), arg("beta1"),
        arg("beta2"), arg("eps"), arg("decay"), kw_only(), arg("decoupled"));
  m.def("nadam",
        [](handle p1, handle m1, handle v1, handle mu1, handle p, handle g, handle m, handle v, Real mu, Whole t,
           Real lr, Real beta1, Real beta2, Real eps, Real decay, Real momentum_decay, bool decoupled) {
          const Array out_p(p1), out_m(m1), out_v(v1), out_mu(mu1), in_p(p), in_g(g), in_m(m), in_v(v);
          if (out_mu.rank != 0 || !out_mu.plain || !out_mu.writeable || out_mu.type != Type::float64)
            return declined();
          double* const product = out_mu.as<double>();
          return update("nadam", &Table<float>::adam, &Table<double>::adam, {&out_p, &in_p}, {&out_m, &in_m},
                        {&out_v, &in_v}, in_g, [=] {
                          *product = mu * nadam_momentum(t, beta1, momentum_decay);
                          return nadam_rule(t, lr, beta1, beta2, eps, decay, momentum_decay, decoupled, *product);
                        });
        },
        arg("p1"), arg("m1"), arg("v1"), arg("mu1"), arg("p"), arg("g"), arg("m"), arg("v"), arg("mu"), arg("t"),
        arg("lr"), arg("beta1"), arg("beta2"), arg("eps"), arg("decay"), arg("momentum_decay"),
        kw_only(), arg("decoupled"));
  m.def("lion",
        [](handle p1, handle m1, handle p, handle g, handle m, Real lr, Real beta1, Real beta2, Real decay) {
          const Array out_p(p1), out_m(m1), in_p(p), in_g(g), in_m(m);
          return GPUNET_UPDATE(lion, (Pair{&out_p, &in_p}), (Pair{&out_m, &in_m}), Pair{}, in_g,
                               ([=] { return LionRule{lr, beta1, beta2, decay}; }));
        },
        arg("p1"), arg("m1"), arg("p"), arg("g"), arg("m"), arg("lr"), arg("beta1"), arg("beta2"), arg("decay"));
}

}  // namespace gpunet
