// What each kernel is told, and the table in which one instruction set's kernels stand.
//
// A kernel does the share `part.index` of `part.count` of its work. Shares own what they write and a reduction is never
// split between them, so the bits do not depend on the count. Nothing here allocates, locks or knows Python.
#pragma once

#include <cstdint>

#include "formulas.h"
#include "rules.h"

namespace gpunet {

struct Part { int index, count; };

// Row numbers as they come from NumPy: int32 or int64.
struct Index {
  const void* data;
  bool wide;

  long long operator[](long i) const {
    return wide ? static_cast<const long long*>(data)[i] : static_cast<const int*>(data)[i];
  }
  Index from(long start) const {
    return {static_cast<const char*>(data) + start * long(wide ? sizeof(long long) : sizeof(int)), wide};
  }
  // Whether the first n are all within [0, length).
  bool within(long n, long length) const {
    return wide ? all_below(static_cast<const unsigned long long*>(data), n, length)
                : all_below(static_cast<const unsigned*>(data), n, length);
  }

 private:
  template <class U> static bool all_below(const U* rows, long n, long length) {
    bool below = true;  // without a branch, so that it is done by vectors; a negative number is a large one
    for (long i = 0; i < n; ++i) below &= rows[i] < static_cast<unsigned long long>(length);
    return below;
  }
};

// An operand of an elementwise kernel, as rows: (i, j) stands at data[i * row + j], or at data[i * row] if a row holds
// `one` number for all of its columns. The output is rows x cols without gaps.
template <class T> struct Operand { const T* data; long row; bool one; };
template <class T> struct UnaryArgs { T* out; Operand<T> x; long rows, cols; T low, high; };
template <class T> struct BinaryArgs { T* out; Operand<T> x, y; long rows, cols; };
template <class T> struct CompareArgs { bool* out; Operand<T> x, y; long rows, cols; };
template <class T> struct Where { T* out; Operand<bool> condition; Operand<T> x, y; long rows, cols; };
template <class To, class From> struct Cast { To* out; Operand<From> x; long rows, cols; };

// A chain: elementwise formulas over rows x cols, one after the other on each tile. A value is an operand, or what a step
// made; conditions are 1 or 0. A value's `place` is its register; a step that may write straight to its array has `out`.
// A tile is `height` whole rows, or one row's `width` columns, of which there are `across`.
constexpr int kMostOperands = 16, kMostSteps = 32;
template <class T> constexpr long kChainTile = 2048 / long(sizeof(T));
enum class Spread { never, once, each_tile };  // an operand to its register: it is read as it lies, all tiles share it
template <class T> struct Instruction { T* out; const T *x, *y, *z; long n; T a, b; };  // over one tile; a, b: settings
template <class T> using Formula = void (*)(const Instruction<T>&);
struct ChainOperand { const void* data; long row; bool one, boolean; Spread spread; int place; };  // else as Operand
template <class T> struct ChainStep { Formula<T> formula; int source[3]; T a, b; int place; T* out; };
template <class T> struct ChainResult { int value; T* numbers; bool* booleans; };  // copied when the tile is done
template <class T> struct Chain {
  long rows, cols, height, width, across, tiles;
  int operands, steps, results, registers;
  ChainOperand operand[kMostOperands];
  ChainStep<T> step[kMostSteps];
  ChainResult<T> result[kMostSteps];
};

// x [before][n][after] -> out [before][after], the sums divided by `divisor`.
template <class T> struct Reduce { T* out; const T* x; long before, n, after; T divisor; };

// The place of the largest along n, the first of several; NaN counts as larger than any number.
template <class T> struct ArgMax { std::int64_t* out; const T* x; long before, n, after; };

template <class T> struct Activation { T* out; const T* x; long n; int act; T alpha; };
template <class T> struct ActivationVjp { T* out; const T* g; const T* saved; long n; int act; T alpha; };

// A matrix that may be a transposed view: element (i, j) stands at data[i * row + j * col]; one of the two is 1.
// `next` leads to the next matrix of a stack; 0: all share this one.
template <class T> struct Matrix { const T* data; long row, col, next; };

// z = bias + a b, out = act(z), for `count` matrices (m, k) x (k, n); z and out may be one. No bias: nullptr.
// Two ways back: with `saved`, out = (a b) act'(saved); with `db`, the sums of b's columns go there.
// With `rows`, a is a table: its row (transposed: its column) i stands where row rows[i] would. In range: the caller looked.
template <class T> struct Product {
  T *out, *z;
  Matrix<T> a, b;
  const T* bias;
  long m, n, k, count;
  int act;
  T alpha;
  const T* saved;
  T* db;
  Index rows;
};

// Products one after the other, each of what the one before has made; only the last result is kept. The others need
// `width` numbers a row.
template <class T> struct Layers {
  static constexpr int kMost = 16;
  Product<T> of[kMost];
  int count;
  long width;
};

template <class T> struct Softmax { T* out; const T* z; long rows, cols; bool log; };

// Label smoothing e: the target distribution is (1 - e) at the target and e / cols everywhere.
template <class T> struct CrossEntropy {
  T* loss;       // [rows]
  T* slope;      // [rows, cols]
  Operand<T> g;  // of the slope: one for each row, or one for all of them
  const T* z;    // [rows, cols]
  Index target;  // [rows], in range: whoever calls has looked
  long rows, cols;
  double smoothing;
};

// x is rows x cols; of each row its mean and scale, 1 / sqrt(variance + eps), or of each column its mean and variance.
template <class T> struct LayerNorm { T *out, *mean, *scale; const T *x, *gamma, *beta; long rows, cols; double eps; };
template <class T> struct LayerNormDx { T* out; const T *g, *x, *mean, *scale, *gamma; long rows, cols; };
template <class T> struct LayerNormDw { T *dgamma, *dbeta; const T *g, *x, *mean, *scale; long rows, cols; };
template <class T> struct BatchNorm { T *out, *mean, *var; const T *x, *gamma, *beta; long rows, cols; double eps; };
template <class T> struct BatchNormVjp {
  T *dx, *dgamma, *dbeta;
  const T *g, *x, *mean, *var, *gamma;
  long rows, cols;
  double eps;
};

struct Draw {
  long n;
  double rate;
  unsigned long long seed;
  unsigned stream, step;
};
template <class T> struct Dropout { T* out; const T* x; Draw draw; };
struct DropoutKeep { bool* out; Draw draw; };  // only what is kept

struct Gather { char* out; const char* x; Index rows; long n, row_bytes; };
struct GatherTwo { Gather first, second; };
struct Pick { char* out; const char* x; Index columns; long rows, cols, item; };
template <class T> struct OneHot { T* out; Index columns; long rows, cols; };
struct Copy { char* out; const char* x; long rows, bytes, out_row, x_row; };  // rows of so many bytes, so far apart
// out in order from x [n0][n1][n2][n3], whose neighbours along axis d lie step[d] bytes apart: a transposed view, say.
struct Walk { char* out; const char* x; long n[4], step[4], item; };

// Each column of x [n][k] goes through a net of its own: m functions f(slope x + start) of it, of which w sums are taken,
// by weight [k][m][w] and bias [k][w]. out and g are [n][k * w], slope and start [k][m]; f is one of the two.
enum class ColumnAct { cos, ramp, count };
template <class T> struct ColumnNets { T* out; const T *x, *slope, *start, *weight, *bias; long n, k, m, w; };
template <class T> struct ColumnNetsVjp {
  T *dslope, *dstart, *dweight, *dbias;
  const T *g, *x, *slope, *start, *weight;
  long n, k, m, w;
};

template <class T> struct ScatterAdd { T* out; const T* g; Index rows; long n, length, width; };

// Whether all of x is finite; a part that finds otherwise says so in `fine`.
template <class T> struct Finite { const T* x; long n; bool* fine; };

// Optimizers: flat vectors in, the new ones out, each `new` the same memory as its `old` or apart from it.
template <class T> struct Change { T* out; const T* in; };

template <class T, class Rule> struct Update { Change<T> p, m, v; const T* g; long n; Rule rule; };

template <class T> using Kernel = void (*)(const T&, Part);

// One kernel for each row of a table of formulas.
template <class Args, class Name> struct Formulas {
  Kernel<Args> rows[int(Name::count)];
  constexpr Kernel<Args> operator[](Name name) const { return rows[int(name)]; }
};

template <class T> struct Both {  // of two operands
  Formulas<BinaryArgs<T>, Binary> binary;
  Formulas<CompareArgs<T>, Compare> compare;
  Kernel<Where<T>> where;
};

template <class To> struct Casts {
  Kernel<Cast<To, float>> f32;
  Kernel<Cast<To, double>> f64;
  Kernel<Cast<To, int>> i32;
  Kernel<Cast<To, std::int64_t>> i64;
  Kernel<Cast<To, bool>> boolean;
  Kernel<Cast<To, unsigned char>> u8;
};

template <class T> struct Chains {
  Kernel<Chain<T>> run;
  const Formula<T> *unary, *binary, *compare, *activation, *activation_vjp;
  Formula<T> where, copy;
};

template <class T> struct Table {
  Formulas<UnaryArgs<T>, Unary> unary;
  Both<T> both;
  Casts<T> casts;
  Chains<T> chains;
  Kernel<Reduce<T>> sum, max, min;
  Kernel<ArgMax<T>> argmax;
  Kernel<Finite<T>> finite;
  Kernel<OneHot<T>> one_hot;
  Kernel<Activation<T>> activation;
  Kernel<ActivationVjp<T>> activation_vjp;
  Kernel<Product<T>> product;
  Kernel<Layers<T>> layers;
  Kernel<Softmax<T>> softmax;
  Kernel<CrossEntropy<T>> cross_entropy, cross_entropy_vjp, cross_entropy_both;
  Kernel<LayerNorm<T>> layer_norm;
  Kernel<LayerNormDx<T>> layer_norm_dx;
  Kernel<LayerNormDw<T>> layer_norm_dw;
  Kernel<BatchNorm<T>> batch_norm;
  Kernel<BatchNormVjp<T>> batch_norm_vjp;
  Formulas<ColumnNets<T>, ColumnAct> column_nets;
  Formulas<ColumnNetsVjp<T>, ColumnAct> column_nets_vjp;
  Kernel<Dropout<T>> dropout;
  Kernel<ScatterAdd<T>> scatter_add;
  Kernel<Update<T, SgdRule>> sgd;
  Kernel<Update<T, AdagradRule>> adagrad;
  Kernel<Update<T, RmspropRule>> rmsprop;
  Kernel<Update<T, AdamRule>> adam;
  Kernel<Update<T, LionRule>> lion;
};

struct Kernels {
  const char* name;
  Kernel<Gather> gather;
  Kernel<GatherTwo> gather_two;
  Kernel<Pick> pick;
  Kernel<Copy> copy;
  Kernel<Walk> walk;
  Kernel<DropoutKeep> dropout_keep;
  Both<std::int64_t> i64;
  Casts<std::int64_t> i64_casts;
  Table<float> f32;
  Table<double> f64;
};

extern const Kernels portable_kernels, avx2_kernels, avx512_kernels, amx_kernels;

// Memory of the calling thread, 64-byte aligned, kept between calls; a second call may move it.
void* scratch(unsigned long bytes);

}  // namespace gpunet
