// Products of matrices: C in tiles, K in blocks of fixed length, B in panels as wide as a tile.
//
// A and B are read where they lie, but for what pays to be copied into the thread's scratch memory first: panels of B
// that are transposed, not whole vectors wide, or made of rows far apart; rows of a transposed A whose columns lie pages
// apart; rows of a table. Each element of C is one chain of multiply-adds over k (in the last few columns, as many as a
// vector has lanes, in blocks of k), so neither tiles nor threads change the bits. (Goto and van de Geijn 2008; the tile
// reaches 97 % of the peak, copying costs 5 %.)
#pragma once

#include "reduce.h"
#include "tile.h"

namespace gpunet {
namespace {

template <class T> constexpr long kBlock = 2048 / long(sizeof(T));
template <class T> int blocks_of(long k) { return k ? int(ceil_div(k, kBlock<T>)) : 1; }
template <class T> Span block_of(long k, int block) { return share(k, 1, {block, blocks_of<T>(k)}); }

// Copy rows [0, k) and columns [0, width) of b into panel[k][padded], zeros in the padding.
template <class T> void pack_rows(const Matrix<T>& b, const T* from, long k, long width, long padded, T* panel) {
  for (long i = 0; i < k; ++i)
    each_vector<T>(0, width, [&](auto lanes, long j) {
      store(panel + i * padded + j, lanes.load(from + i * b.row + j));
    });
}

// The same for `count` panels of whole vectors side by side, each row from end to end: there it is read three times as fast.
template <int vectors, class T> void pack_panels(const T* from, long row, long k, long count, T* to, long padded) {
  constexpr int L = kLanes<T>;
  for (long i = 0; i < k; ++i, from += row, to += padded)
    for (long q = 0; q < count; ++q)
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) store(to + q * k * padded + v * L, load(from + (q * vectors + v) * L));
}

// The same for a transposed view.
template <class T> void pack_columns(const Matrix<T>& b, const T* from, long k, long width, long padded, T* panel) {
  constexpr int L = kLanes<T>;
  if (k * width > 4 * L) return flip<Padding::zeros>(panel, padded, from, b.col, k, width);
  for (long i = 0; i < k; ++i, panel += padded)  // not worth a block
    for (long j = 0; j < ceil_div(width, L) * L; ++j) panel[j] = j < width ? from[j * b.col + i] : T(0);
}

constexpr long kRowBlock = 128;
struct Area { Span rows, cols; };  // of one matrix of C

// Where a block of rows of A and a group of panels of B are read from: their own place, or the thread's scratch memory.
template <class T> struct Rows {
  const T* data;
  long row, step, tile;  // tile: from one tile's rows to the next's; 0: in place
  bool first;            // nobody has read it yet: it may be far away
};
template <class T> struct Panels { const T* data; long step, panel; };  // panel: from one to the next; 0: in place

constexpr int kMostPanels = 22;
template <class T> constexpr long kColBlock = kMostPanels * kTileCols<T>;
template <class T> constexpr long kScratchRows = (2 * kRowBlock + kLine<T>) * kBlock<T>;  // with a line between, or padding
template <class T> constexpr long kScratchPanels = kBlock<T> * kColBlock<T>;
template <class T> constexpr long kScratch = kScratchRows<T> + kScratchPanels<T> + kLanes<T> * kColBlock<T>;

// f(first, n) for panels of whole vectors, the last of which may be cut short.
template <class T, class F> HD void each_panel(long width, long most, F f) {
  constexpr int L = kLanes<T>;
  each_group(ceil_div(width, L), most, [&](long first, long n) { f(first * L, least(n * L, width - first * L)); });
}

// Rows of a table lie anywhere, so they are copied; no processor can guess which come next, so they are asked for. A line
// lies between the copies of a transposed A, which would else share few places in the nearest cache.
template <class T> Rows<T> picked_rows(const Product<T>& p, const T* data, Span rows, Span ks, T* copy) {
  constexpr long kAhead = 4;
  const bool across = p.a.row == 1;
  const Span picked = across ? ks : rows, run = across ? rows : ks;
  const long n = length(run), apart = across ? n + kLine<T> : n;
  const auto row = [&](long i) {
    return data + p.rows[least(i, picked.end - 1)] * (across ? p.a.col : p.a.row) + run.begin;
  };
  T* to = copy;
  for (long i = picked.begin; i < picked.end; ++i, to += apart) {
    const T *here = row(i), *next = row(i + kAhead);
    each_vector<T>(0, n, [&](auto lanes, long j) {
      lanes.store(to + j, lanes.load(here + j));
      __builtin_prefetch(next + j);
    });
  }
  return {copy, across ? 1 : n, across ? apart : 1, 0, false};
}

// A transposed A is copied, tile by tile, when several panels read it and its columns lie pages apart.
template <class T> Rows<T> rows_of(const Product<T>& p, long matrix, Span rows, Span ks, long width, T* copy) {
  constexpr long kSome = 8;  // columns at a time: all of them stay in the cache, however far apart they are
  const Matrix<T>& a = p.a;
  const T* data = a.data + matrix * a.next;
  if (p.rows.data) return picked_rows(p, data, rows, ks, copy);
  data += rows.begin * a.row + ks.begin * a.col;
  if (a.row != 1 || a.col * long(sizeof(T)) < 2048 || width <= 2 * kTileCols<T>) return {data, a.row, a.col, 0, true};
  const long k = length(ks);
  for (long top = 0; top < k; top += kSome) {
    const long some = least(kSome, k - top);
    T* to = copy + top * kTileRows;
    each_group(length(rows), kTileRows, [&](long first, long n) {
      for (long j = 0; j < some; ++j) {
        const T* from = data + (top + j) * a.col + first;
        __builtin_prefetch(from + least(kSome, k - 1 - top - j) * a.col);
        if (n == kTileRows) __builtin_memcpy(to + j * kTileRows, from, sizeof(T[kTileRows]));
        else for (long q = 0; q < n; ++q) to[j * kTileRows + q] = from[q];
      }
      to += k * kTileRows;
    });
  }
  return {copy, 1, kTileRows, kTileRows * k, false};
}

// B is copied where it is transposed, where its last vector cannot be read by a mask, or where it is made of rows far
// apart that many tiles will read.
template <class T> Panels<T> panels_of(const Matrix<T>& b, const T* from, long k, long width, long rows, T* copy) {
  constexpr int L = kLanes<T>;
  constexpr long padded = kTileCols<T>;
  const bool even = b.row % L == 0 && width % L == 0;  // else most vectors lie across two cache lines
  const bool near = rows <= 2 * kTileRows || (b.row * long(sizeof(T)) <= 1024 && (even || rows <= 16 * kTileRows));
  if (b.col == 1 && near && (even || kMasks)) return {from, b.row, 0};
  T* to = copy;
  each_run(ceil_div(width, L), kTileVectors, [&](long first, long vectors, long count) {
    const long whole = b.col == 1 ? (width / L - first) / vectors : 0, some = least(whole, count);
    const auto pack = vectors == 1 ? pack_panels<1, T> : vectors == 2 ? pack_panels<2, T> : pack_panels<3, T>;
    if (some) pack(from + first * L, b.row, k, some, to, padded);
    for (long q = some; q < count; ++q) {
      const long left = (first + q * vectors) * L, n = least(vectors * L, width - left);
      (b.col == 1 ? pack_rows<T> : pack_columns<T>)(b, from + left * b.col, k, n, padded, to + q * k * padded);
    }
    to += count * k * padded;
  });
  return {copy, padded, k * padded};
}

// What is left to do when a tile's k is done, while it is in the cache; ReLU was done in its registers.
template <class T> bool unfinished(const Product<T>& p) {
  return p.out != p.z || (p.act != kIdentity && (p.act != kRelu || p.saved));
}
template <class T> void finish(const Product<T>& p, long c, long rows, long width) {
  if (p.saved) kSlopeTimes<T>[p.act]({p.out + c, p.z + c, p.saved + c, p.n, rows, width, p.alpha});
  else kActivate<T>[p.act]({p.out + c, p.z + c, p.n, rows, width, p.alpha});
}

// The next tile's part of that, where all of it is more than the nearer caches hold.
constexpr long kNear = 1 << 20;
template <class T> void fetch(const T* from, long row, long rows, long width) {
  for (long i = 0; i < rows; ++i)
    for (long j = 0; j < width; j += kLine<T>) __builtin_prefetch(from + i * row + j);
}
template <class T> T floor_of(const Product<T>& p) {
  return p.act == kRelu && p.out == p.z && !p.saved ? T(0) : -infinity<T>();
}

// Of A, where it is read for the first time: the lines beside these columns, or the next tile's rows.
template <class T> HD Ahead<T> ahead_of(const Rows<T>& a, const T* from, long rows, long k) {
  constexpr long kSome = 64;  // a shorter run of k is over too soon
  if (!a.first || k < kSome) return {};
  if (a.row == 1) return {from + kLine<T>, a.step};
  return {from + rows * a.row, rows * a.row / k};
}

// All tiles of one panel, for one block of rows and of k. (Inlined, as the two below: handed over in memory, what they
// are told costs more than a small product.)
template <class T> HD void panel_product(const Product<T>& p, long matrix, Area area, Span ks, Rows<T> a, Panels<T> b) {
  const long width = length(area.cols), vectors = ceil_div(width, kLanes<T>);
  const int last = int(width - (vectors - 1) * kLanes<T>), readable = b.panel ? kLanes<T> : last;
  const bool begins = ks.begin == 0, ends = ks.end == p.k, left = ends && unfinished(p);
  const T floor = ends ? floor_of(p) : -infinity<T>();
  const T* bias = p.bias ? p.bias + matrix * p.n + area.cols.begin : nullptr;
  const bool far = left && p.m * p.n * long(sizeof(T)) > kNear;
  const auto& tiles = kTiles<T>.at;
  const long k = length(ks);
  const T* from = a.data;
  each_run(length(area.rows), kTileRows, [&](long first, long rows, long count) {
    long c = (matrix * p.m + area.rows.begin + first) * p.n + area.cols.begin;
    const long next = a.tile ? a.tile : rows * a.row, together = left ? 1 : count;
    for (; count > 0; count -= together, c += together * rows * p.n, from += together * next) {
      if (far) {
        fetch(p.z + c + rows * p.n, p.n, rows, width);
        if (p.saved) fetch(p.saved + c + rows * p.n, p.n, rows, width);
      }
      tiles[rows - 1][vectors - 1]({together, from, a.row, a.step, next, b.data, b.step, begins ? bias : p.z + c,
                                    begins ? 0 : p.n, p.z + c, p.n, k, last, readable, floor, ahead_of(a, from, rows, k)});
      if (left) finish(p, c, rows, width);
    }
  });
}

// Nothing but the product.
template <class T> bool bare(const Product<T>& p) { return !p.bias && p.act == kIdentity && !p.saved; }

// The last columns, if they would fill a vector to a quarter only: there the vectors run along k, or where A is transposed
// along its rows.
template <class T> constexpr long kFew = kLanes<T> / 4;
template <class T> long last_few(const Product<T>& p) {
  const long few = p.n % kLanes<T>;
  const bool along = p.a.col == 1 && p.a.row > 1 && p.k >= 8 * kLanes<T>;
  const bool across = p.a.row == 1 && p.b.col == 1 && p.m >= kRowBlock && p.n > kLanes<T> && p.k <= kBlock<T> && bare(p);
  return few <= kFew<T> && (along || across) ? few : 0;
}

// Those of a transposed A, for all k: C^T = B^T A^T, laid across, with the bits of tiles. A's copy serves if it is one of rows.
template <class T> void few_across(const Product<T>& p, long matrix, Area area, Rows<T> a, T* flipped) {
  const long few = length(area.cols), rows = length(area.rows), apart = 2 * kRowBlock;
  const T* b = p.b.data + matrix * p.b.next + area.cols.begin;
  if (!p.rows.data) a.data = p.a.data + matrix * p.a.next + area.rows.begin, a.step = p.a.col;
  each_panel<T>(rows, kTileVectors, [&](long first, long n) {
    const long vectors = ceil_div(n, kLanes<T>);
    const int last = int(n - (vectors - 1) * kLanes<T>);
    kTiles<T>.at[few - 1][vectors - 1]({1, b, 1, p.b.row, 0, a.data + first, a.step, nullptr, 0, flipped + first, apart, p.k,
                                        last, last, -infinity<T>(), {}});
  });
  flip(p.out + (matrix * p.m + area.rows.begin) * p.n + area.cols.begin, p.n, flipped, apart, rows, few);
}

// All rows of an area of few columns, for one block of k. b: those columns, one after the other.
template <class T, int few> void dot_products(const Product<T>& p, long matrix, Area area, Span ks, Rows<T> a, const T* b) {
  constexpr int kRows = 4;
  const long k = length(ks), rows = length(area.rows);
  const bool ends = ks.end == p.k;
  const T floor = ends ? floor_of(p) : -infinity<T>();
  const T* bias = p.bias ? p.bias + matrix * p.n + area.cols.begin : nullptr;
  T* z = p.z + (matrix * p.m + area.rows.begin) * p.n + area.cols.begin;
  for (long top = 0; top < rows; top += kRows) {
    const T* from[kRows];
    for (long q = 0; q < kRows; ++q) from[q] = a.data + least(top + q, rows - 1) * a.row;
    Vec<T> c[kRows][few] = {};
    each_vector<T>(0, k, [&](auto lanes, long j) {
#pragma GCC unroll 4
      for (int s = 0; s < few; ++s) {
        const Vec<T> y = lanes.load(b + s * k + j);
#pragma GCC unroll 4
        for (int q = 0; q < kRows; ++q) c[q][s] = fma(lanes.load(from[q] + j), y, c[q][s]);
      }
    });
    for (long q = top; q < least(top + kRows, rows); ++q)
      for (int s = 0; s < few; ++s) {
        T& out = z[q * p.n + s];
        const T so_far = ks.begin ? out : bias ? bias[s] : T(0), total = so_far + sum(c[q - top][s]);
        out = total < floor ? floor : total;
      }
  }
  if (ends && unfinished(p)) finish(p, z - p.z, rows, few);
}

template <class T> void few_along(const Product<T>& p, long matrix, Area area, Span ks, Rows<T> a, T* copy) {
  const long few = length(area.cols), k = length(ks);
  const T* b = p.b.data + matrix * p.b.next + ks.begin * p.b.row + area.cols.begin * p.b.col;
  for (long j = 0; j < k; ++j)
    for (long s = 0; s < few; ++s) copy[s * k + j] = b[j * p.b.row + s * p.b.col];
  static_assert(kFew<T> <= 4, "a case for each");
  if (few == 1) dot_products<T, 1>(p, matrix, area, ks, a, copy);
  else if (few == 2) dot_products<T, 2>(p, matrix, area, ks, a, copy);
  else if (few == 3) dot_products<T, 3>(p, matrix, area, ks, a, copy);
  else dot_products<T, 4>(p, matrix, area, ks, a, copy);
}

// Some blocks of k for a group of columns: B is copied once, A once for each block of rows.
template <class T> HD void block_product(const Product<T>& p, long matrix, Area area, int from, int to, T* copies) {
  const Matrix<T>& b = p.b;
  const Span ks = {block_of<T>(p.k, from).begin, block_of<T>(p.k, to - 1).end};
  const long few = area.cols.end == p.n ? last_few(p) : 0, width = length(area.cols) - few, k = length(ks);
  const T* right = b.data + matrix * b.next + ks.begin * b.row + area.cols.begin * b.col;
  const Panels<T> panels = panels_of(b, right, k, width, length(area.rows), copies + kScratchRows<T>);
  T* rest = copies + kScratchRows<T> + kScratchPanels<T>;
  const long block = p.a.row == 1 ? 2 * kRowBlock : kRowBlock / (to - from);  // a transposed A is read in longer runs
  for (long top = area.rows.begin; top < area.rows.end; top += block) {
    const Span rows = {top, least(top + block, area.rows.end)};
    Rows<T> in_rows = rows_of(p, matrix, rows, ks, width, copies);
    Panels<T> panel = panels;
    each_panel<T>(width, kTileVectors, [&](long first, long n) {
      const Span cols = {area.cols.begin + first, area.cols.begin + first + n};
      panel_product(p, matrix, {rows, cols}, ks, in_rows, panel);
      in_rows.first = false;
      panel.data += panels.panel ? panels.panel : n;
    });
    const Area last = {rows, {p.n - few, p.n}};
    if (few && p.a.row == 1) few_across(p, matrix, last, in_rows, rest);
    else for (int i = from; few && i < to; ++i) {
      const Span some = block_of<T>(p.k, i);
      Rows<T> here = in_rows;
      here.data += (some.begin - ks.begin) * here.step;
      few_along(p, matrix, last, some, here, rest);
    }
  }
}

// Columns go in groups. A transposed A, which may have to be copied for each, meets as many as the scratch memory holds;
// another half of them, whose panels stay in the cache. Where there are more, and A is read in place, they go in smaller
// ones that leave A its room; if k is long, in smaller ones still and two blocks of k at a time, so that C is read and
// written half as often. A transposed B is read in long runs in any case, and the copy of one panel stays closer if one
// block of rows is all that reads it.
template <class T> HD void area_product(const Product<T>& p, long matrix, Area area, T* copies) {
  const bool in_place = p.a.row != 1 && !p.rows.data, one_panel = p.b.col != 1 && length(area.rows) <= kRowBlock;
  const int blocks = blocks_of<T>(p.k), together = in_place && blocks > 1 ? 2 : 1;
  const bool smaller = in_place && length(area.cols) > kColBlock<T> / 2;
  const int panels = one_panel ? 1 : p.a.row == 1 ? kMostPanels : together > 1 ? 3 : smaller ? 5 : kMostPanels / 2;
  const long wide = panels * kTileCols<T>;
  for (long left = area.cols.begin; left < area.cols.end; left += wide)
    for (int i = 0; i < blocks; i += together) {
      const Span cols = {left, least(left + wide, area.cols.end)};
      block_product(p, matrix, {area.rows, cols}, i, int(least(i + together, blocks)), copies);
    }
}

// One row of C: B is read once, where it lies, and neither copied nor cut into blocks.
template <class T> void row_product(const Product<T>& p, long matrix, Span cols) {
  each_panel<T>(length(cols), kRowVectors, [&](long first, long width) {
    const long c = matrix * p.n + cols.begin + first, vectors = ceil_div(width, kLanes<T>);
    const int last = int(width - (vectors - 1) * kLanes<T>);
    kRowTiles<T>.at[0][vectors - 1]({1, p.a.data + matrix * p.a.next, p.a.row, p.a.col, 0,
                                     p.b.data + matrix * p.b.next + cols.begin + first, p.b.row,
                                     p.bias ? p.bias + c : nullptr, 0, p.z + c, p.n, p.k, last, last, floor_of(p)});
    if (unfinished(p)) finish(p, c, 1, width);
  });
}

// Parts stand in a grid over C, of cells of so many rows and columns: the one whose largest share takes least, also if it
// leaves a part without work. What a share needs of A and B comes from other cores' caches: a number of them takes as long
// as kFetch multiply-adds.
inline Area area_of(long m, long n, long rows, long cols, Part part) {
  constexpr long kFetch = 16;
  if (part.count == 1) return {{0, m}, {0, n}};
  int across = 1;
  long least_cost = -1;
  for (int i = 1; i <= part.count; ++i) {
    const long tall = ceil_div(ceil_div(m, rows), part.count / i) * rows, wide = ceil_div(ceil_div(n, cols), i) * cols;
    const long cost = tall * wide + kFetch * (tall + wide);
    if (least_cost < 0 || cost < least_cost) across = i, least_cost = cost;
  }
  const int down = part.count / across;
  if (part.index >= across * down) return {{m, m}, {n, n}};
  return {share(m, rows, {part.index / across, down}), share(n, cols, {part.index % across, across})};
}

// f(matrix, area) for what this part does of each matrix, and the sums of b's columns: matrices are shared out if there
// are enough of them, else their areas.
template <class T, class F> void each_share(const Product<T>& p, long rows, long cols, Part part, F f) {
  const bool by_matrix = p.count >= part.count;
  const Span matrices = by_matrix ? share(p.count, 1, part) : Span{0, p.count};
  const Area area = by_matrix ? Area{{0, p.m}, {0, p.n}} : area_of(p.m, p.n, rows, cols, part);
  const Span columns = by_matrix ? area.cols : share<T>(p.n, part);  // whose sums are this part's, whatever its area
  for (long i = matrices.begin; i < matrices.end; ++i) {
    if (p.db) fold_columns<T, Sum>(p.db + i * p.n, p.b.data + i * p.b.next, p.k, p.n, columns);
    f(i, area);
  }
}

// A few columns of C fill no vector: where A is transposed, as in the gradient of the last layer's weights, C^T = B^T A^T
// has long rows. It is computed in the scratch memory and laid down column by column; the bits are the same.
template <class T> bool narrow(const Product<T>& p) {
  return p.n < kLanes<T> && !p.rows.data && p.a.row == 1 && p.b.col == 1 && p.m * p.k >= 1024 && bare(p);
}

template <class T> void narrow_product(const Product<T>& p, long matrix, Span rows, T* copies) {
  T* flipped = copies + kScratchRows<T> + kScratchPanels<T>;
  for (long top = rows.begin; top < rows.end; top += kColBlock<T>) {
    const long m = least(kColBlock<T>, rows.end - top);
    const T* a = p.a.data + matrix * p.a.next + top;
    const Matrix<T> left{p.b.data + matrix * p.b.next, 1, p.b.row, 0}, right{a, p.a.col, 1, 0};
    area_product<T>({flipped, flipped, left, right, nullptr, p.n, m, p.k, 1, kIdentity, T(0), nullptr, nullptr, {}}, 0, {{0, p.n}, {0, m}}, copies);
    flip(p.out + (matrix * p.m + top) * p.n, p.n, flipped, m, m, p.n);
  }
}

// A few tiles, all in one panel: to work out blocks and areas would take longer than the product.
template <class T> bool is_small(const Product<T>& p) {
  return p.count == 1 && p.n && p.m <= 2 * kTileRows && p.n <= kTileCols<T> && p.k <= kBlock<T> && !p.rows.data && !last_few(p);
}

template <class T> void product(const Product<T>& p, Part part) {
  T* copies = static_cast<T*>(scratch(sizeof(T) * kScratch<T>));
  if (part.count == 1 && is_small(p)) {
    if (p.db) fold_columns<T, Sum>(p.db, p.b.data, p.k, p.n, {0, p.n});
    const Panels<T> panel = panels_of(p.b, p.b.data, p.k, p.n, p.m, copies);
    return panel_product(p, 0, {{0, p.m}, {0, p.n}}, {0, p.k}, Rows<T>{p.a.data, p.a.row, p.a.col, 0}, panel);
  }
  const bool flip = narrow(p), one_row = p.m == 1 && p.b.col == 1 && kMasks && !p.rows.data && !last_few(p);
  each_share(p, kTileRows, kLanes<T>, part, [&](long matrix, Area area) {
    if (one_row) row_product(p, matrix, length(area.rows) ? area.cols : Span{0, 0});
    else if (flip) narrow_product(p, matrix, p.count >= part.count ? area.rows : share(p.m, kLanes<T>, part), copies);
    else area_product(p, matrix, area, copies);
  });
}

// A block of rows goes through all layers while it is in the cache; parts own blocks and do not wait for each other.
// chosen(p): the kernel for a product; it may take `copies` numbers of scratch memory.
template <class T> using Choice = Kernel<Product<T>> (*)(const Product<T>&);
template <class T> Kernel<Product<T>> only_choice(const Product<T>&) { return product<T>; }

template <class T, Choice<T> chosen, long copies> void layers(const Layers<T>& l, Part part) {
  constexpr long kRows = 512;
  const long m = l.of[0].m, block = least(m, kRows);
  T* between = static_cast<T*>(scratch(sizeof(T) * (copies + 2 * block * l.width))) + copies;
  const Span blocks = share(ceil_div(m, kRows), 1, part);
  for (long top = blocks.begin * kRows; top < least(blocks.end * kRows, m); top += kRows) {
    const T* from = l.of[0].a.data + top * l.of[0].k;
    for (int i = 0; i < l.count; ++i) {
      Product<T> p = l.of[i];
      p.m = least(kRows, m - top);
      p.a.data = from;
      p.z = p.out = i + 1 < l.count ? between + i % 2 * block * l.width : p.out + top * p.n;
      chosen(l.of[i])(p, {0, 1});  // by all rows: the bits are those of layer after layer
      from = p.out;
    }
  }
}

}  // namespace
}  // namespace gpunet
