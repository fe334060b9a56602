// Products of matrices: C in tiles, K in blocks of fixed length, B in panels as wide as a tile.
//
// A and B are read where they lie, but for what pays to be copied into the thread's scratch memory first: panels of B
// that are transposed, not whole vectors wide, or made of rows far apart; rows of a transposed A whose columns lie pages
// apart. Each element of C is one chain of multiply-adds over k, in blocks of kBlock whatever the tile, so neither tiles
// nor threads change the bits. (Goto and van de Geijn 2008; the tile reaches 95 % of the peak, copying costs 5 %.)
#pragma once

#include "loops.h"
#include "tile.h"

namespace gpunet {
namespace {

template <class T> constexpr long kBlock = 2048 / long(sizeof(T));

inline long least(long a, long b) { return a < b ? a : b; }
inline long ceil_div(long a, long b) { return (a + b - 1) / b; }

// Copy rows [0, k) and columns [0, width) of b into panel[k][padded], zeros in the padding.
template <class T> void pack_rows(const Matrix<T>& b, const T* from, long k, long width, long padded, T* panel) {
  for (long i = 0; i < k; ++i)
    each_vector<T>(0, width, [&](auto lanes, long j) {
      store(panel + i * padded + j, lanes.load(from + i * b.row + j));
    });
}

// The same for a transposed view, in square blocks of one vector.
template <class T> void pack_columns(const Matrix<T>& b, const T* from, long k, long width, long padded, T* panel) {
  constexpr int L = kLanes<T>;
  for (long j = 0; j < width; j += L)
    for (long i = 0; i < k; i += L) {
      Vec<T> square[L];
      const int columns = int(least(L, width - j)), rows = int(least(L, k - i));
#pragma GCC unroll 16
      for (int q = 0; q < L; ++q) {
        const T* p = from + (j + q) * b.col + i;
        square[q] = q >= columns ? Vec<T>{} : rows == L ? load(p) : load_first(p, rows);
      }
      transpose<T>(square);
#pragma GCC unroll 16
      for (int q = 0; q < L; ++q)
        if (q < rows) store(panel + (i + q) * padded + j, square[q]);
    }
}

struct Area { Span rows, cols; };  // of one matrix of C
inline long length(Span s) { return s.end - s.begin; }

// Where a block of rows of A and a group of panels of B are read from: their own place, or the thread's scratch memory.
template <class T> struct Rows { const T* data; long row, step, tile; };   // tile: from one tile's rows to the next's
template <class T> struct Panels { const T* data; long step, panel; };     // panel: from one panel to the next
// (tile and panel are 0 where all is read in place.)

template <class T> constexpr long kRowBlock = 256;
template <class T> constexpr long kColBlock = 22 * kTileCols<T>;
template <class T> constexpr long kScratchRows = (kRowBlock<T> + kTileRows) * kBlock<T>;  // the last tile is padded
template <class T> constexpr long kScratchPanels = kBlock<T> * kColBlock<T>;

inline Span tile_rows(Span rows, long i, long count) { return share(length(rows), 1, {int(i), int(count)}); }
template <class T> Span panel_cols(Span cols, long i, long count) {
  const Span s = share(length(cols), kLanes<T>, {int(i), int(count)});
  return {cols.begin + s.begin, cols.begin + s.end};
}

// A transposed A is copied, tile by tile, when several panels read it and its columns lie pages apart.
template <class T> Rows<T> rows_of(const Matrix<T>& a, const T* from, Span rows, long k, long panels, T* copy) {
  constexpr long kSome = 8;  // columns at a time: all of them stay in the cache, however far apart they are
  const bool near = a.row != 1 || a.col * long(sizeof(T)) < 2048 || panels < 3;
  const long count = ceil_div(length(rows), kTileRows);
  if (near) return {from, a.row, a.col, 0};
  for (long top = 0; top < k; top += kSome)
    for (long i = 0; i < count; ++i) {
      const Span tile = tile_rows(rows, i, count);
      const T* source = from + tile.begin;
      T* to = copy + i * k * kTileRows;
      for (long j = top; j < least(top + kSome, k); ++j)
        if (length(tile) == kTileRows) __builtin_memcpy(to + j * kTileRows, source + j * a.col, sizeof(T[kTileRows]));
        else for (long q = 0; q < length(tile); ++q) to[j * kTileRows + q] = source[j * a.col + q];
    }
  return {copy, 1, kTileRows, kTileRows * k};
}

// B is copied where it is transposed, not whole vectors wide, or made of rows far apart that many tiles will read.
template <class T> Panels<T> panels_of(const Matrix<T>& b, const T* from, long k, long width, long rows, T* copy) {
  constexpr long kSome = 16;  // rows at a time, so that each is read from end to end while the copies stay in the cache
  const bool near = rows <= 2 * kTileRows || b.row * long(sizeof(T)) <= 1024;
  if (b.col == 1 && width % kLanes<T> == 0 && near) return {from, b.row, 0};
  const long panel = k * kTileCols<T>, panels = ceil_div(width, kTileCols<T>), some = b.col == 1 ? kSome : k;
  for (long top = 0; top < k; top += some)
    for (long i = 0; i < panels; ++i) {
      const Span cols = panel_cols<T>({0, width}, i, panels);
      const T* source = from + top * b.row + cols.begin * b.col;
      const auto pack = b.col == 1 ? pack_rows<T> : pack_columns<T>;
      pack(b, source, least(some, k - top), length(cols), kTileCols<T>, copy + i * panel + top * kTileCols<T>);
    }
  return {copy, kTileCols<T>, panel};
}

// All tiles of one panel, for one block of rows and of k.
template <class T> void panel_product(const Product<T>& p, long matrix, Area area, Span ks, Rows<T> a, Panels<T> b) {
  const long width = length(area.cols), vectors = ceil_div(width, kLanes<T>);
  const long count = ceil_div(length(area.rows), kTileRows);
  const int last = int(width - (vectors - 1) * kLanes<T>);
  const bool begins = ks.begin == 0, ends = ks.end == p.k, relu = p.act == kRelu && p.out == p.z;
  const bool epilogue = ends && !relu && (p.act != kIdentity || p.out != p.z);
  const T floor = ends && relu ? T(0) : -infinity<T>();
  const T* bias = p.bias ? p.bias + matrix * p.n + area.cols.begin : nullptr;
  for (long i = 0; i < count; ++i) {
    const Span tile = tile_rows(area.rows, i, count);
    const long c = (matrix * p.m + area.rows.begin + tile.begin) * p.n + area.cols.begin;
    const T* from = a.tile ? a.data + i * a.tile : a.data + tile.begin * a.row;
    const T* start = begins ? bias : p.z + c;
    kTiles<T>.at[length(tile) - 1][vectors - 1](
        {from, a.row, a.step, b.data, b.step, start, begins ? 0 : p.n, p.z + c, p.n, length(ks), last, floor});
    if (epilogue) kActivate<T>[p.act]({p.out + c, p.z + c, p.n, length(tile), width, p.alpha});
  }
}

// One block of k for a group of columns: B is copied once, A once for each block of rows.
template <class T> void block_product(const Product<T>& p, long matrix, Area area, Span ks, T* copies) {
  const Matrix<T>&a = p.a, &b = p.b;
  const long width = length(area.cols), count = ceil_div(width, kTileCols<T>);
  const T* right = b.data + matrix * b.next + ks.begin * b.row + area.cols.begin * b.col;
  const Panels<T> panels = panels_of(b, right, length(ks), width, length(area.rows), copies + kScratchRows<T>);
  for (long top = area.rows.begin; top < area.rows.end; top += kRowBlock<T>) {
    const Span rows = {top, least(top + kRowBlock<T>, area.rows.end)};
    const T* left = a.data + matrix * a.next + top * a.row + ks.begin * a.col;
    const Rows<T> in_rows = rows_of(a, left, rows, length(ks), count, copies);
    for (long i = 0; i < count; ++i) {
      const Span cols = panel_cols<T>(area.cols, i, count);
      const long at = panels.panel ? i * panels.panel : cols.begin - area.cols.begin;
      panel_product(p, matrix, {rows, cols}, ks, in_rows, {panels.data + at, panels.step, panels.panel});
    }
  }
}

// Columns go in groups: as many as the scratch memory holds, so that rows of B are read in long runs; a transposed B
// is read in long runs in any case, and the copy of one panel stays closer if one block of rows is all that reads it.
template <class T> void area_product(const Product<T>& p, long matrix, Area area, T* copies) {
  const long blocks = p.k ? ceil_div(p.k, kBlock<T>) : 1;
  const long wide = p.b.col != 1 && length(area.rows) <= kRowBlock<T> ? kTileCols<T> : kColBlock<T>;
  for (long left = area.cols.begin; left < area.cols.end; left += wide)
    for (long block = 0; block < blocks; ++block) {
      const Span cols = {left, least(left + wide, area.cols.end)}, ks = share(p.k, 1, {int(block), int(blocks)});
      block_product(p, matrix, {area.rows, cols}, ks, copies);
    }
}

// Parts stand in a grid over C: the one whose largest cell is smallest; columns first, since they share no panel of B.
template <class T> Area area_of(long m, long n, Part part) {
  int best = 1;
  long least_cells = -1;
  for (int across = part.count; across >= 1; --across) {
    if (part.count % across) continue;
    const long cells = ceil_div(ceil_div(m, kTileRows), part.count / across) * ceil_div(ceil_div(n, kLanes<T>), across);
    if (least_cells < 0 || cells < least_cells) best = across, least_cells = cells;
  }
  return {share(m, kTileRows, {part.index / best, part.count / best}), share(n, kLanes<T>, {part.index % best, best})};
}

// A few columns of C fill no vector: where A is transposed, as in the gradient of the last layer's weights, C^T = B^T A^T
// has long rows. It is computed in the scratch memory and laid down column by column; the bits are the same.
template <class T> bool narrow(const Product<T>& p) {
  return p.n < kLanes<T> && p.m >= kLanes<T> && p.a.row == 1 && p.b.col == 1 && !p.bias && p.act == kIdentity;
}

// out [m][n] = the transpose of x [n][m], n <= kLanes.
template <class T> void lay_down(T* out, const T* x, long m, long n) {
  constexpr int L = kLanes<T>;
  for (long i = 0; i < m; i += L) {
    const int rows = int(least(L, m - i));
    Vec<T> square[L];
#pragma GCC unroll 16
    for (int j = 0; j < L; ++j) square[j] = j >= n ? Vec<T>{} : rows == L ? load(x + j * m + i) : load_first(x + j * m + i, rows);
    transpose<T>(square);
#pragma GCC unroll 16
    for (int q = 0; q < L; ++q)
      if (q < rows) store_first(out + (i + q) * n, square[q], int(n));
  }
}

template <class T> void narrow_product(const Product<T>& p, long matrix, Span rows, T* copies) {
  T* flipped = copies + kScratchRows<T> + kScratchPanels<T>;
  for (long top = rows.begin; top < rows.end; top += kColBlock<T>) {
    const long m = least(kColBlock<T>, rows.end - top);
    const T* a = p.a.data + matrix * p.a.next + top;
    const Matrix<T> left{p.b.data + matrix * p.b.next, 1, p.b.row, 0}, right{a, p.a.col, 1, 0};
    area_product<T>({flipped, flipped, left, right, nullptr, p.n, m, p.k, 1, kIdentity, T(0)}, 0, {{0, p.n}, {0, m}}, copies);
    lay_down(p.out + (matrix * p.m + top) * p.n, flipped, m, p.n);
  }
}

template <class T> void product(const Product<T>& p, Part part) {
  const bool by_matrix = p.count >= part.count, flip = narrow(p);
  const Span matrices = by_matrix ? share(p.count, 1, part) : Span{0, p.count};
  const Area area = by_matrix ? Area{{0, p.m}, {0, p.n}} : area_of<T>(p.m, p.n, part);
  T* copies = static_cast<T*>(scratch(sizeof(T) * (kScratchRows<T> + kScratchPanels<T> + kLanes<T> * kColBlock<T>)));
  for (long i = matrices.begin; i < matrices.end; ++i)
    if (flip) narrow_product(p, i, by_matrix ? area.rows : share(p.m, kLanes<T>, part), copies);
    else area_product(p, i, area, copies);
}

}  // namespace
}  // namespace gpunet
