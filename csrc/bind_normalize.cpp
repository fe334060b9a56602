// Layer norm and batch norm, as gpunet/ops/normalize.py has them.
#include "bind.h"

namespace gpunet {
namespace {

py::object layer_norm(const Array& out, const Array& mean, const Array& scale, const Array& x, const Array& gamma,
                      const Array& beta, double eps) {
  if (!usable({&out, &mean, &scale}, {&x, &gamma, &beta}) || !overlap_allowed({&out, &mean, &scale}, {&x, &gamma, &beta}))
    return declined();
  const Extent of = rows_of_last_axis(x);
  if (!of.cols) return declined();
  if (!out.same_shape(x) || mean.size != of.rows || scale.size != of.rows || !gamma.is({of.cols}) || !beta.is({of.cols}))
    shape_error("layer_norm", {{"out", &out}, {"x", &x}, {"gamma", &gamma}, {"beta", &beta}});
  by_type(out.type, [&](auto zero) {
    using T = decltype(zero);
    launch(table<T>().layer_norm,
           {out.as<T>(), mean.as<T>(), scale.as<T>(), x.as<T>(), gamma.as<T>(), beta.as<T>(), of.rows, of.cols, eps},
           kCheap * x.size);
  });
  return done();
}

py::object layer_norm_dx(
    const Array& out, const Array& g, const Array& x, const Array& mean, const Array& scale, const Array& gamma) {
  if (!usable({&out}, {&g, &x, &mean, &scale, &gamma})) return declined();
  if (!overlap_allowed({&out}, {&g, &x, &mean, &scale, &gamma}, {&g})) return declined();
  const Extent of = rows_of_last_axis(x);
  if (!of.cols) return declined();
  if (!out.same_shape(x) || !g.same_shape(x) || mean.size != of.rows || scale.size != of.rows || !gamma.is({of.cols}))
    shape_error("layer_norm_dx", {{"out", &out}, {"g", &g}, {"x", &x}, {"mean", &mean}, {"gamma", &gamma}});
  by_type(out.type, [&](auto zero) {
    using T = decltype(zero);
    launch(table<T>().layer_norm_dx,
           {out.as<T>(), g.as<T>(), x.as<T>(), mean.as<T>(), scale.as<T>(), gamma.as<T>(), of.rows, of.cols}, kCheap * x.size);
  });
  return done();
}

py::object layer_norm_dw(
    const Array& dgamma, const Array& dbeta, const Array& g, const Array& x, const Array& mean, const Array& scale) {
  if (!usable({&dgamma, &dbeta}, {&g, &x, &mean, &scale})) return declined();
  if (!overlap_allowed({&dgamma, &dbeta}, {&g, &x, &mean, &scale})) return declined();
  const Extent of = rows_of_last_axis(x);
  if (!of.cols) return declined();
  if (!g.same_shape(x) || mean.size != of.rows || scale.size != of.rows || !dgamma.is({of.cols}) || !dbeta.is({of.cols}))
    shape_error("layer_norm_dw", {{"dgamma", &dgamma}, {"dbeta", &dbeta}, {"g", &g}, {"x", &x}, {"mean", &mean}});
  by_type(dgamma.type, [&](auto zero) {
    using T = decltype(zero);
    launch(table<T>().layer_norm_dw,
           {dgamma.as<T>(), dbeta.as<T>(), g.as<T>(), x.as<T>(), mean.as<T>(), scale.as<T>(), of.rows, of.cols},
           kCheap * x.size);
  });
  return done();
}

py::object batch_norm(const Array& out, const Array& mean, const Array& var, const Array& x, const Array& gamma,
                      const Array& beta, double eps) {
  if (!usable({&out, &mean, &var}, {&x, &gamma, &beta}) || !overlap_allowed({&out, &mean, &var}, {&x, &gamma, &beta}))
    return declined();
  if (x.rank != 2 || !x.size) return declined();
  const auto rows = x.shape[0], cols = x.shape[1];
  if (!out.same_shape(x) || !mean.is({cols}) || !var.is({cols}) || !gamma.is({cols}) || !beta.is({cols}))
    shape_error("batch_norm", {{"out", &out}, {"mean", &mean}, {"x", &x}, {"gamma", &gamma}, {"beta", &beta}});
  by_type(out.type, [&](auto zero) {
    using T = decltype(zero);
    launch(table<T>().batch_norm,
           {out.as<T>(), mean.as<T>(), var.as<T>(), x.as<T>(), gamma.as<T>(), beta.as<T>(), rows, cols, eps},
           kCheap * x.size);
  });
  return done();
}

py::object batch_norm_vjp(const Array& dx, const Array& dgamma, const Array& dbeta, const Array& g, const Array& x,
                          const Array& mean, const Array& var, const Array& gamma, double eps) {
  if (!usable({&dx, &dgamma, &dbeta}, {&g, &x, &mean, &var, &gamma})) return declined();
  if (!overlap_allowed({&dx, &dgamma, &dbeta}, {&g, &x, &mean, &var, &gamma}, {&g})) return declined();
  if (x.rank != 2 || !x.size) return declined();
  const auto rows = x.shape[0], cols = x.shape[1];
  const bool fits = g.same_shape(x) && dx.same_shape(x) && mean.is({cols}) && var.is({cols}) && gamma.is({cols});
  if (!fits || !dgamma.is({cols}) || !dbeta.is({cols}))
    shape_error("batch_norm_vjp", {{"dx", &dx}, {"dgamma", &dgamma}, {"g", &g}, {"x", &x}, {"mean", &mean}});
  by_type(dx.type, [&](auto zero) {
    using T = decltype(zero);
    launch(table<T>().batch_norm_vjp,
           {dx.as<T>(), dgamma.as<T>(), dbeta.as<T>(), g.as<T>(), x.as<T>(), mean.as<T>(), var.as<T>(), gamma.as<T>(),
            rows, cols, eps},
           kCheap * x.size);
  });
  return done();
}

}  // namespace

void bind_normalize(py::module_& m) {
  using py::arg, py::handle, py::kw_only;
  m.def("layer_norm",
        [](handle out, handle mean, handle scale, handle x, handle gamma, handle beta, double eps) {
          return layer_norm(out, mean, scale, x, gamma, beta, eps);
        },
        arg("out"), arg("mean"), arg("scale"), arg("x"), arg("gamma"), arg("beta"), kw_only(), arg("eps"));
  m.def("layer_norm_dx",
        [](handle out, handle g, handle x, handle mean, handle scale, handle gamma) {
          return layer_norm_dx(out, g, x, mean, scale, gamma);
        },
        arg("out"), arg("g"), arg("x"), arg("mean"), arg("scale"), arg("gamma"));
  m.def("layer_norm_dw",
        [](handle dgamma, handle dbeta, handle g, handle x, handle mean, handle scale) {
          return layer_norm_dw(dgamma, dbeta, g, x, mean, scale);
        },
        arg("dgamma"), arg("dbeta"), arg("g"), arg("x"), arg("mean"), arg("scale"));
  m.def("batch_norm",
        [](handle out, handle mean, handle var, handle x, handle gamma, handle beta, double eps) {
          return batch_norm(out, mean, var, x, gamma, beta, eps);
        },
        arg("out"), arg("mean"), arg("var"), arg("x"), arg("gamma"), arg("beta"), kw_only(), arg("eps"));
  m.def("batch_norm_vjp",
        [](handle dx, handle dgamma, handle dbeta, handle g, handle x, handle mean, handle var, handle gamma, double eps) {
          return batch_norm_vjp(dx, dgamma, dbeta, g, x, mean, var, gamma, eps);
        },
        arg("dx"), arg("dgamma"), arg("dbeta"), arg("g"), arg("x"), arg("mean"), arg("var"), arg("gamma"), kw_only(),
        arg("eps"));
}

}  // namespace gpunet
