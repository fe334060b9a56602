// Products of matrices: C in tiles, K in blocks of fixed length, B in panels as wide as a tile.
//
// A and B are read where they lie, but for what pays to be copied into the thread's scratch memory first: a panel of
// B that is transposed, not a whole number of vectors, or made of rows far apart; rows of a transposed A whose columns
// lie pages apart. Each element of C is one chain of multiply-adds over k, in blocks of kBlock whatever the tile, so
// neither tiles nor threads change the bits.
#pragma once

#include "loops.h"
#include "tile.h"

namespace gpunet {
namespace {

template <class T> constexpr long kBlock = 1024 / long(sizeof(T));

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

// Where a block of rows of A and a panel of B are read from: their own place, or the thread's scratch memory.
template <class T> struct Rows { const T* data; long row, step, tile; };  // tile: from one tile's rows to the next's
template <class T> struct Panel { const T* data; long step; };

template <class T> constexpr long kRowBlock = 256;
template <class T> constexpr long kScratchRows = (kRowBlock<T> + kTileRows) * kBlock<T>;  // the last tile is padded
template <class T> constexpr long kScratchPanel = kBlock<T> * kTileCols<T>;

inline Span tile_rows(Span rows, long i, long count) { return share(length(rows), 1, {int(i), int(count)}); }

// A transposed A is copied, tile by tile, when many panels read it and its columns lie pages apart.
template <class T> Rows<T> rows_of(const Matrix<T>& a, const T* from, Span rows, long k, long panels, T* copy) {
  const bool near = a.row != 1 || a.col * long(sizeof(T)) < 2048 || panels < 8;
  const long count = ceil_div(length(rows), kTileRows);
  if (near) return {from, a.row, a.col, 0};
  for (long i = 0; i < count; ++i) {
    const Span tile = tile_rows(rows, i, count);
    T* to = copy + i * kTileRows * k;
    for (long j = 0; j < k; ++j)
      each_vector<T>(0, length(tile), [&](auto lanes, long q) {
        lanes.store(to + j * kTileRows + q, lanes.load(from + j * a.col + tile.begin + q));
      });
  }
  return {copy, 1, kTileRows, kTileRows * k};
}

template <class T> Panel<T> panel_of(const Matrix<T>& b, const T* from, long k, long width, long rows, T* copy) {
  const bool near = rows <= 2 * kTileRows || b.row * long(sizeof(T)) <= 1024;
  if (b.col == 1 && width % kLanes<T> == 0 && near) return {from, b.row};
  const long padded = ceil_div(width, kLanes<T>) * kLanes<T>;
  if (b.col == 1) pack_rows(b, from, k, width, padded, copy);
  else pack_columns(b, from, k, width, padded, copy);
  return {copy, padded};
}

// All tiles of one panel, for one block of rows and of k.
template <class T> void panel_product(const Product<T>& p, long matrix, Area area, Span ks, Rows<T> a, Panel<T> b) {
  const long width = length(area.cols), vectors = ceil_div(width, kLanes<T>);
  const long count = ceil_div(length(area.rows), kTileRows);
  const bool first = ks.begin == 0;
  const bool epilogue = ks.end == p.k && (p.act != 0 || p.out != p.z);  // 0 is the identity
  const T* bias = p.bias ? p.bias + matrix * p.n + area.cols.begin : nullptr;
  for (long i = 0; i < count; ++i) {
    const Span tile = tile_rows(area.rows, i, count);
    const long c = (matrix * p.m + area.rows.begin + tile.begin) * p.n + area.cols.begin;
    const T* from = a.tile ? a.data + i * a.tile : a.data + tile.begin * a.row;
    const T* start = first ? bias : p.z + c;
    const int last = int(width - (vectors - 1) * kLanes<T>);
    kTiles<T>.at[length(tile) - 1][vectors - 1](
        {from, a.row, a.step, b.data, b.step, start, first ? 0 : p.n, p.z + c, p.n, length(ks), last});
    if (epilogue) kActivate<T>[p.act]({p.out + c, p.z + c, p.n, length(tile), width, p.alpha});
  }
}

template <class T> void area_product(const Product<T>& p, long matrix, Area area, T* copies) {
  const long panels = ceil_div(ceil_div(length(area.cols), kLanes<T>), kTileVectors);
  const long blocks = p.k ? ceil_div(p.k, kBlock<T>) : 1;
  const Matrix<T>&a = p.a, &b = p.b;
  for (long top = area.rows.begin; top < area.rows.end; top += kRowBlock<T>)
    for (long block = 0; block < blocks; ++block) {
      const Span rows = {top, least(top + kRowBlock<T>, area.rows.end)}, ks = share(p.k, 1, {int(block), int(blocks)});
      const T* left = a.data + matrix * a.next + top * a.row + ks.begin * a.col;
      const Rows<T> in_rows = rows_of(a, left, rows, length(ks), panels, copies);
      for (long i = 0; i < panels; ++i) {
        const Span s = share(length(area.cols), kLanes<T>, {int(i), int(panels)});
        const Span cols = {area.cols.begin + s.begin, area.cols.begin + s.end};
        const T* right = b.data + matrix * b.next + ks.begin * b.row + cols.begin * b.col;
        const Panel<T> panel = panel_of(b, right, length(ks), length(cols), length(rows), copies + kScratchRows<T>);
        panel_product(p, matrix, {rows, cols}, ks, in_rows, panel);
      }
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

template <class T> void product(const Product<T>& p, Part part) {
  const bool by_matrix = p.count >= part.count;
  const Span matrices = by_matrix ? share(p.count, 1, part) : Span{0, p.count};
  const Area area = by_matrix ? Area{{0, p.m}, {0, p.n}} : area_of<T>(p.m, p.n, part);
  T* copies = static_cast<T*>(scratch(sizeof(T) * (kScratchRows<T> + kScratchPanel<T>)));
  for (long i = matrices.begin; i < matrices.end; ++i) area_product(p, i, area, copies);
}

}  // namespace
}  // namespace gpunet
