// The binding of chains: the little program that the compiler wrote becomes instructions, and its values get registers.
#include <pybind11/stl.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "bind.h"

namespace gpunet {
namespace {

template <class T> struct Found { Formula<T> formula = nullptr; double cost = 0; };

// The instruction for an op's kernel, and what an element costs.
template <class T> Found<T> find(std::string_view kernel, int act) {
  const Chains<T>& chains = table<T>().chains;
#define GPUNET_ROW(name, ...) \
  if (kernel == #name) return {chains.unary[int(Unary::name)], Unary::name < Unary::exp ? kCheap : kCostly};
  GPUNET_UNARY(GPUNET_ROW)
#undef GPUNET_ROW
#define GPUNET_ROW(name, ...) if (kernel == #name) return {chains.binary[int(Binary::name)], kCheap};
  GPUNET_BINARY(GPUNET_ROW)
#undef GPUNET_ROW
#define GPUNET_ROW(name, ...) if (kernel == #name) return {chains.compare[int(Compare::name)], kCheap};
  GPUNET_COMPARE(GPUNET_ROW)
#undef GPUNET_ROW
  if (kernel == "where") return {chains.where, kCheap};
  if (kernel == "cast" || kernel == "copy") return {chains.copy, kCheap};
  if (act >= 0 && kernel == "activation") return {chains.activation[act], kCostly};
  if (act >= 0 && kernel == "activation_vjp") return {chains.activation_vjp[act], kCostly};
  return {};
}

py::list chained() {
  py::list names;
#define GPUNET_ROW(name, ...) names.append(#name);
  GPUNET_UNARY(GPUNET_ROW) GPUNET_BINARY(GPUNET_ROW) GPUNET_COMPARE(GPUNET_ROW)
#undef GPUNET_ROW
  for (const char* name : {"where", "cast", "copy", "activation", "activation_vjp"}) names.append(name);
  return names;
}

// The step from one element to the next over the axes [first, last) of the output, 0: broadcast; nothing where the
// operand has no one step.
std::optional<long> step_over(const Array& a, const Array& out, int first, int last) {
  long step = 0, length = 1;
  for (int d = last - 1; d >= first; --d) {
    if (out.shape[d] == 1) continue;
    const int at = d - (out.rank - a.rank);
    const long own = at < 0 || a.shape[at] == 1 ? 0 : a.strides[at] / a.item;
    if (length == 1) step = own;
    else if (own != step * length) return std::nullopt;
    length *= out.shape[d];
  }
  return step;
}

std::optional<ChainOperand> operand(const Array& a, const Array& out, int split, long cols, int place) {
  const auto row = step_over(a, out, 0, split), col = step_over(a, out, split, out.rank);
  if (!row || !col || *col > 1 || *col < 0) return std::nullopt;
  return ChainOperand{a.data, *row, *col == 0 && (cols > 1 || *row == 0), a.type == Type::boolean, Spread::never, place};
}

// Rows that nothing tells apart are one.
template <class T> void join_rows(Chain<T>& c) {
  for (int k = 0; k < c.operands; ++k)
    if (c.operand[k].row != (c.operand[k].one ? 0 : c.cols)) return;
  for (int k = 0; k < c.operands; ++k) c.operand[k].row = 0;
  c.cols *= c.rows, c.rows = 1;
}

bool fits(const Array& a, const Array& out, Type type) {
  if (!a.plain || (a.type != type && a.type != Type::boolean) || a.rank > out.rank) return false;
  for (int d = 0; d < a.rank; ++d) {
    const auto wanted = out.shape[d + out.rank - a.rank];
    if ((a.shape[d] != 1 && a.shape[d] != wanted) || a.strides[d] % a.item) return false;
  }
  return true;
}

struct Settings {
  double a = 0, b = 0;
  int act = -1;

  explicit Settings(const py::dict& d) {
    constexpr double infinity = std::numeric_limits<double>::infinity();
    const auto number = [&](const char* name, double otherwise) {
      return !d.contains(name) || d[name].is_none() ? otherwise : d[name].cast<double>();
    };
    if (d.contains("act")) act = find_activation(d["act"].cast<std::string>()), a = number("alpha", 0);
    else a = number("low", -infinity), b = number("high", infinity);
  }
};

// Cuts rows x cols into tiles, and says which operands they read as they lie.
template <class T> void tile(Chain<T>& c) {
  join_rows(c);
  if (c.rows == 0 || c.cols == 0) return;
  c.width = std::min(c.cols, kChainTile<T>), c.height = std::min(c.rows, kChainTile<T> / c.width);
  c.across = (c.cols + c.width - 1) / c.width, c.tiles = (c.rows + c.height - 1) / c.height * c.across;
  for (int k = 0; k < c.operands; ++k) {
    ChainOperand& o = c.operand[k];
    const bool lies = !o.boolean && !o.one && (c.height == 1 || o.row == c.cols);
    const bool shared = o.row == 0 && (o.one || c.across == 1);
    o.spread = lies ? Spread::never : shared ? Spread::once : Spread::each_tile;
  }
}

// The last step that reads each value; results are read when the tile is done.
std::vector<int> last_reads(const py::sequence& steps, const std::vector<int>& results, int operands) {
  std::vector<int> last(std::size_t(operands) + steps.size(), -1);
  for (std::size_t s = 0; s < steps.size(); ++s)
    for (py::handle value : steps[s].attr("inputs")) last[value.cast<std::size_t>()] = int(s);
  for (int value : results) last[std::size_t(value)] = int(steps.size());
  return last;
}

// Whether what a step makes may go straight to its array: nobody reads afterwards what lay there.
bool straight(const Array& out, const std::vector<Array>& ins, const std::vector<int>& last, int step) {
  for (std::size_t k = 0; k < ins.size(); ++k)
    if (last[k] > step && !overlap_allowed({&out}, {&ins[k]})) return false;
  return true;
}

template <class T> bool compose(Chain<T>& c, double& work, const std::vector<Array>& outs, const std::vector<Array>& ins,
                                const py::sequence& steps, const std::vector<int>& results, int split) {
  std::vector<int> last = last_reads(steps, results, int(ins.size())), unused;  // unused registers
  for (const Array& a : ins) {
    const auto o = operand(a, outs[0], split, c.cols, c.registers++);  // never reused: it may be spread for all tiles
    if (!o) return false;
    c.operand[c.operands++] = *o;
  }
  tile(c);
  for (std::size_t k = 0; k < results.size(); ++k) {
    const bool boolean = outs[k].type == Type::boolean;
    c.result[c.results++] = {results[k], boolean ? nullptr : outs[k].as<T>(), boolean ? outs[k].as<bool>() : nullptr};
  }
  for (py::handle given : steps) {
    const Settings set(given.attr("settings"));
    const auto kernel = given.attr("op").attr("kernel").cast<std::string>();
    const Found<T> found = find<T>(kernel, set.act);
    if (!found.formula || (kernel == "activation_vjp" && !slope_known(set.act, set.a))) return false;
    ChainStep<T> step{found.formula, {}, T(set.a), T(set.b), 0, nullptr};
    int source = 0;
    for (py::handle input : given.attr("inputs")) {
      const int value = step.source[source++] = input.cast<int>();
      if (value >= c.operands && last[std::size_t(value)] == c.steps) {
        unused.push_back(c.step[value - c.operands].place);
        last[std::size_t(value)] = -1;  // freed once, also where it is read twice
      }
    }
    step.place = unused.empty() ? c.registers++ : unused.back();
    if (!unused.empty()) unused.pop_back();
    for (int k = 0; k < c.results; ++k)
      if (c.result[k].value == c.operands + c.steps && straight(outs[std::size_t(k)], ins, last, c.steps))
        std::swap(step.out, c.result[k].numbers);
    c.step[c.steps++] = step;
    work += found.cost;
  }
  return true;
}

py::object chain(const py::args& arrays, const py::sequence& steps, const std::vector<int>& results, int split) {
  std::vector<Array> outs, ins;
  for (std::size_t k = 0; k < arrays.size(); ++k) (k < results.size() ? outs : ins).emplace_back(arrays[k]);
  if (ins.size() > kMostOperands || steps.size() > kMostSteps || outs.empty()) return declined();
  Type type = Type::other;
  for (const auto* list : {&outs, &ins})
    for (const Array& a : *list)
      if (a.type == Type::float32 || a.type == Type::float64) type = a.type;
  if (type == Type::other) return declined();
  for (const Array& out : outs) {
    if (!out.contiguous || !out.writeable || !out.same_shape(outs[0])) return declined();
    for (const Array& in : ins) if (!overlap_allowed({&out}, {&in}, {&in})) return declined();
    for (const Array& other : outs) if (&out != &other && !overlap_allowed({&out, &other}, {})) return declined();
  }
  for (const auto* list : {&outs, &ins})
    for (const Array& a : *list)
      if (!fits(a, outs[0], type)) return declined();
  bool fit = false;
  by_type(type, [&](auto zero) {
    using T = decltype(zero);
    Chain<T> c{};
    c.rows = c.cols = 1;
    for (int d = 0; d < outs[0].rank; ++d) (d < split ? c.rows : c.cols) *= outs[0].shape[d];
    double work = 0;
    fit = compose(c, work, outs, ins, steps, results, split);
    if (fit) launch(table<T>().chains.run, c, work * outs[0].size);
  });
  return fit ? done() : declined();
}

}  // namespace

void bind_chain(py::module_& m) {
  using py::arg;
  m.def("chain",
        [](const py::args& arrays, const py::kwargs& set) {
          return chain(arrays, set["steps"], set["results"].cast<std::vector<int>>(), set["split"].cast<int>());
        },
        "Elementwise steps over outs and ins; values are the ins and then what each step makes.");
  m.def("chained", &chained, "Names of the kernels that can be a step of a chain.");
}

}  // namespace gpunet
