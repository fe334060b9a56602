// Products of large float32 matrices on the tile unit of Intel's processors (AMX), which multiplies bfloat16.
//
// A float32 is the sum of three bfloat16 of 8 bits each, x = x1 + x2 + x3, and of the nine products in (a1 + a2 + a3)
// (b1 + b2 + b3) the six are added up that a float32 can hold: more exact than a chain of multiply-adds, at twice its
// speed (Henry, Tang and Heinecke, "Leveraging the bfloat16 artificial intelligence datatype for higher-precision
// computations", 2019). A number without such parts (infinite, NaN, the largest of all) makes NaN of all it meets; where
// C is not finite it is computed again, as a chain. Numbers below 2^-110 lose bits.
//
// Only if asked for: while the core's other hyperthread is busy, instructions on tiles no longer overlap, and a product
// takes longer than it does with AVX-512.
#pragma once

#include <immintrin.h>

#include "gemm.h"

namespace gpunet {
namespace {

// A tile of C is kSide x kSide and takes kDepth of k a turn. Rows of A and columns of B are cut into strips of kSide, these
// into cells of kDepth, one after the other, and a cell into parts. In a part k = j and k = j + kSide stand side by side.
constexpr long kSide = 16, kDepth = 32, kParts = 3;
constexpr long kPart = kSide * kDepth, kCell = kParts * kPart;
constexpr long kCutDepth = 512, kCutRows = 1024, kCutRun = 128, kCutCols = 256;  // of k, of A and of B at a time
constexpr long kFinish = 64;                                                      // rows of C
typedef unsigned short Half;                                                    // the bits of a bfloat16

inline long strip_of(long k) { return ceil_div(k, kDepth) * kCell; }

// Two vectors, cut into the parts of each. The first part is rounded, so that what is dropped has no sign of its own; the
// others are cut off, and leave nothing.
HD void cut(Half* to, VecF x, VecF y) {
  constexpr unsigned kHigh = 0xffff0000u;
#pragma GCC unroll 3
  for (int i = 0; i < kParts; ++i) {
    VecU32 u = (VecU32)x, v = (VecU32)y;
    if (i == 0) u += 0x8000u, v += 0x8000u;
    store(reinterpret_cast<float*>(to + i * kPart), (VecF)(u >> 16 | (v & kHigh)));
    x -= (VecF)(u & kHigh), y -= (VecF)(v & kHigh);
  }
}

// One cell. at(i, half): of row i the k from kSide half on; flipped: of k = i + kSide half all rows.
template <bool flip, class At> HD void cut_cell(Half* to, At at) {
  if (flip) {
    VecF square[2][kSide];
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
#pragma GCC unroll 16
      for (int i = 0; i < kSide; ++i) square[half][i] = at(i, half);
      transpose<float>(square[half]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kSide; ++i) cut(to + i * kDepth, square[0][i], square[1][i]);
  } else {
#pragma GCC unroll 16
    for (int i = 0; i < kSide; ++i) cut(to + i * kDepth, at(i, 0), at(i, 1));
  }
}

// Strips of vectors that run across k, `width` numbers from row(j) on where k = j: of B, or of a transposed A (flip).
template <bool flip, class Row> void cut_across(Half* to, long width, long k, Row row) {
  for (long top = 0; top < k; top += kDepth, to += kCell) {
    const long left = least(kDepth, k - top);
    const float *here[kDepth], *next[kDepth];
    for (long j = 0; j < kDepth; ++j) here[j] = row(least(top + j, k - 1)), next[j] = row(least(top + kDepth + j, k - 1));
    Half* cell = to;
    for (long first = 0; first < width; first += kSide, cell += strip_of(k)) {
      const int some = int(least(kSide, width - first));
      for (long j = 0; j < kDepth; ++j) __builtin_prefetch(next[j] + first);
      if (some == kSide && left == kDepth) {
        cut_cell<flip>(cell, [&](int i, int half) { return load(here[i + half * kSide] + first); });
      } else {
        cut_cell<flip>(cell, [&](int i, int half) {
          const long j = i + half * kSide;
          return j < left ? load_first(here[j] + first, some) : VecF{};
        });
      }
    }
  }
}

// Strips of vectors that run along k, `rows` of them, each from row(i) on: of A, or of a transposed B (flip).
template <bool flip, class Row> void cut_along(Half* to, long rows, long k, Row row) {
  for (long first = 0; first < rows; first += kSide) {
    const long some = least(kSide, rows - first);
    const float* from[kSide];
    for (long i = 0; i < kSide; ++i) from[i] = row(first + least(i, some - 1));
    for (long top = 0; top < k; top += kDepth, to += kCell) {
      if (some == kSide && top + kDepth <= k) {
        cut_cell<flip>(to, [&](int i, int half) { return load(from[i] + top + half * kSide); });
      } else {
        cut_cell<flip>(to, [&](int i, int half) {
          const long at = top + half * kSide, n = i < some ? least(kSide, k - at) : 0;
          return n == kSide ? load(from[i] + at) : n > 0 ? load_first(from[i] + at, int(n)) : VecF{};
        });
      }
    }
  }
}

// Whether vectors of A run across k: with `rows`, these are then rows of the table that k counts.
inline bool across(const Product<float>& p) { return p.a.row == 1 && p.a.col != 1; }
inline const float* row_of_a(const Product<float>& p, long matrix, long i) {
  return p.a.data + matrix * p.a.next + (p.rows.data ? p.rows[i] : i) * (across(p) ? p.a.col : p.a.row);
}

inline void cut_rows(const Product<float>& p, long matrix, Span rows, Span ks, Half* to) {
  if (across(p))
    cut_across<true>(to, length(rows), length(ks), [&](long j) { return row_of_a(p, matrix, ks.begin + j) + rows.begin; });
  else
    cut_along<false>(to, length(rows), length(ks), [&](long i) { return row_of_a(p, matrix, rows.begin + i) + ks.begin; });
}

inline void cut_columns(const Product<float>& p, long matrix, Span cols, Span ks, Half* to) {
  const float* from = p.b.data + matrix * p.b.next + ks.begin * p.b.row + cols.begin * p.b.col;
  if (p.b.col == 1) cut_across<false>(to, length(cols), length(ks), [&](long j) { return from + j * p.b.row; });
  else cut_along<true>(to, length(cols), length(ks), [&](long i) { return from + i * p.b.col; });
}

// The tiles of the calling thread: while this lives they are set up, after it the system has none to save.
class Tiles {
 public:
  Tiles() {
    const struct {
      unsigned char palette = 1, start = 0, reserved[14] = {};
      unsigned short row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      unsigned char rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } eight;
    _tile_loadconfig(&eight);
  }
  ~Tiles() { _tile_release(); }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;
};

// c [kSide tall][kSide wide], in rows so far apart, plus strips of A times strips of B; where k begins c counts as zero.
// Small products come first, and each operand is used until its next part is due.
template <int tall, int wide> void multiply_strips(const Half* a, const Half* b, long cells, float* c, long row, bool begins) {
  const long strip = cells * kCell, bytes = row * long(sizeof(float));
  float *right = c + kSide, *below = c + kSide * row;
#define GPUNET_EACH_TILE(DO) \
  DO(0, c) if (wide > 1) DO(1, right) if (tall > 1) DO(2, below) if (tall > 1 && wide > 1) DO(3, below + kSide)
#define GPUNET_ZERO(tile, from) { _tile_zero(tile); }
#define GPUNET_LOAD(tile, from) { _tile_loadd(tile, from, bytes); }
#define GPUNET_STORE(tile, to) { _tile_stored(tile, to, bytes); }
#define GPUNET_A(n) _tile_loadd(4, a + (n - 1) * kPart, 64); if (tall > 1) _tile_loadd(5, a + strip + (n - 1) * kPart, 64);
#define GPUNET_B(n) _tile_loadd(6, b + (n - 1) * kPart, 64); if (wide > 1) _tile_loadd(7, b + strip + (n - 1) * kPart, 64);
#define GPUNET_MULTIPLY \
  _tile_dpbf16ps(0, 4, 6); \
  if (wide > 1) _tile_dpbf16ps(1, 4, 7); \
  if (tall > 1) _tile_dpbf16ps(2, 5, 6); \
  if (tall > 1 && wide > 1) _tile_dpbf16ps(3, 5, 7);
  __asm__ volatile("" ::: "memory");  // what the tiles read and write is hidden from the compiler
  if (begins) { GPUNET_EACH_TILE(GPUNET_ZERO) } else { GPUNET_EACH_TILE(GPUNET_LOAD) }
  for (; cells > 0; --cells, a += kCell, b += kCell) {
    GPUNET_A(1) GPUNET_B(3) GPUNET_MULTIPLY
    GPUNET_B(2) GPUNET_MULTIPLY
    GPUNET_A(2) GPUNET_MULTIPLY
    GPUNET_B(1) GPUNET_MULTIPLY
    GPUNET_A(3) GPUNET_MULTIPLY
    GPUNET_A(1) GPUNET_MULTIPLY
  }
  GPUNET_EACH_TILE(GPUNET_STORE)
  __asm__ volatile("" ::: "memory");
#undef GPUNET_EACH_TILE
#undef GPUNET_ZERO
#undef GPUNET_LOAD
#undef GPUNET_STORE
#undef GPUNET_A
#undef GPUNET_B
#undef GPUNET_MULTIPLY
}

// Up to two tiles each way. At the edges of C they stand in a square of their own.
inline void multiply_tiles(const Product<float>& p, float* c, long rows, long cols, const Half* a, const Half* b, Span ks) {
  const bool tall = rows > kSide, wide = cols > kSide, begins = ks.begin == 0;
  const long cells = ceil_div(length(ks), kDepth);
  const auto multiply = tall ? wide ? multiply_strips<2, 2> : multiply_strips<2, 1>
                             : wide ? multiply_strips<1, 2> : multiply_strips<1, 1>;
  if (rows % kSide == 0 && cols % kSide == 0) {
    for (long i = 0; i < rows; ++i)  // C may come from far away: by the time it is written it is here
      for (long j = 0; j < cols; j += kSide) __builtin_prefetch(c + i * p.n + j, 1);
    return multiply(a, b, cells, c, p.n, begins);
  }
  alignas(64) float square[2 * kSide][2 * kSide] = {};
  const auto each = [&](auto move) {
    for (long i = 0; i < rows; ++i)
      each_vector<float>(0, cols, [&](auto lanes, long j) { move(lanes, square[i] + j, c + i * p.n + j); });
  };
  if (!begins) each([](auto lanes, float* in, const float* out) { store(in, lanes.load(out)); });
  multiply(a, b, cells, square[0], 2 * kSide, begins);
  each([](auto lanes, const float* in, float* out) { lanes.store(out, load(in)); });
}

// Some numbers of a row of C, as a chain.
inline VecF chain(const Product<float>& p, long matrix, long i, Span cols) {
  const float* b = p.b.data + matrix * p.b.next;
  VecF total{};
  for (long k = 0; k < p.k; ++k) {
    VecF y{};
    for (long j = cols.begin; j < cols.end; ++j) y[j - cols.begin] = b[k * p.b.row + j * p.b.col];
    total = fused(all<VecF>(across(p) ? row_of_a(p, matrix, k)[i] : row_of_a(p, matrix, i)[k]), y, total);
  }
  return total;
}

// What is left to do where k ends.
inline void finish_area(const Product<float>& p, long matrix, Area area) {
  const VecF floor = all<VecF>(floor_of(p));
  const float* bias = p.bias ? p.bias + matrix * p.n : nullptr;
  const long c = (matrix * p.m + area.rows.begin) * p.n;
  for (long i = area.rows.begin; i < area.rows.end; ++i) {
    float* row = p.z + (matrix * p.m + i) * p.n;
    each_vector<float>(area.cols.begin, area.cols.end, [&](auto lanes, long j) {
      VecF x = lanes.load(row + j);
      const auto lost = !(abs(x) < infinity<float>());
      if (__builtin_expect(any((VecU32)lost), 0)) x = lost ? chain(p, matrix, i, {j, least(j + kSide, area.cols.end)}) : x;
      if (bias) x += lanes.load(bias + j);
      lanes.store(row + j, x < floor ? floor : x);
    });
  }
  if (unfinished(p)) finish(p, c + area.cols.begin, length(area.rows), length(area.cols));
}

// A and B are cut once for each block of k; B again for every kCutRows rows if it does not fit in the cache at once. If it
// does, A goes in runs that fit in beside it.
inline void area_on_tiles(const Product<float>& p, long matrix, Area area, Half* a, Half* b) {
  const Tiles tiles;
  const bool at_once = length(area.cols) <= kCutCols;
  const auto each = [](Span s, long step, auto f) {
    for (long i = s.begin; i < s.end; i += step) f(Span{i, least(i + step, s.end)});
  };
  each({0, p.k}, kCutDepth, [&](Span ks) {
    const long strip = strip_of(length(ks));
    if (at_once) cut_columns(p, matrix, area.cols, ks, b);
    each(area.rows, at_once ? kCutRun : kCutRows, [&](Span run) {
      cut_rows(p, matrix, run, ks, a);
      each(area.cols, kCutCols, [&](Span cols) {
        if (!at_once) cut_columns(p, matrix, cols, ks, b);
        each(run, kFinish, [&](Span rows) {
          each(rows, 2 * kSide, [&](Span i) {
            each(cols, 2 * kSide, [&](Span j) {
              multiply_tiles(p, p.z + (matrix * p.m + i.begin) * p.n + j.begin, length(i), length(j),
                             a + (i.begin - run.begin) / kSide * strip, b + (j.begin - cols.begin) / kSide * strip, ks);
            });
          });
          if (ks.end == p.k) finish_area(p, matrix, {rows, cols});
        });
      });
    });
  });
}

// Tiles save half of the multiply-adds; to cut a number costs as much as 16 of them, to finish one of C as much as 32.
inline bool worth_cutting(const Product<float>& p) {
  return double(p.m) * p.n * p.k > 32.0 * p.k * (p.m + p.n) + 64.0 * p.m * p.n;
}

constexpr long kTileScratch = (kCutRows + kCutCols) * kCutDepth * kParts * long(sizeof(Half)) / long(sizeof(float));

void product_on_tiles(const Product<float>& p, Part part) {
  Half* rows = static_cast<Half*>(scratch(sizeof(float) * kTileScratch));
  each_share(p, 2 * kSide, 2 * kSide, part, [&](long matrix, Area area) {
    area_on_tiles(p, matrix, area, rows, rows + kCutRows * kCutDepth * kParts);
  });
}

Kernel<Product<float>> tiles_or_not(const Product<float>& p) { return worth_cutting(p) ? product_on_tiles : product<float>; }

}  // namespace
}  // namespace gpunet
