// The heart of a product: a tile of C, MR rows by NV vectors, that stays in registers while k runs; then the one below.
#pragma once

#include "loops.h"

namespace gpunet {
namespace {

#if defined(__AVX512F__)
constexpr int kTileRows = 8, kTileVectors = 3;  // 24 of 32 registers
#else
constexpr int kTileRows = 6, kTileVectors = 2;  // 12 of 16
#endif
constexpr long kLongRun = 256;  // of k
template <class T> constexpr int kTileCols = kTileVectors * kLanes<T>;

// What later tiles will read, a line each k: it is fetched meanwhile. nullptr: nothing.
template <class T> struct Ahead { const T* data; long step; };

template <class T> struct Tile {
  long count;          // of tiles, one below the other
  const T* a;          // a[i * a_row + k * a_step]: read in place, transposed or not
  long a_row, a_step, a_tile;  // a_tile: to the rows of the next tile
  const T* b;          // b[k * b_step + j]
  long b_step;
  const T* start;      // start[i * start_row + j]: C so far, or the bias (start_row 0); nullptr: zero
  long start_row;
  T* c;
  long c_row, k;
  int last, readable;  // lanes of the last vector that exist in C, and that can be read in B (all: it has padding)
  T floor;             // what is less becomes this: 0 is ReLU; minus infinity leaves C, and NaN stays NaN in both
  Ahead<T> ahead;
};

// c += a b, in one chain over k for each element.
template <bool whole, bool fetches, class T, int MR, int NV> HD void multiply(Vec<T> (&c)[MR][NV], const Tile<T>& t) {
  constexpr int L = kLanes<T>;
  const First some{t.readable};
  const T *a = t.a, *b = t.b, *ahead = t.ahead.data;
  const long a_row = t.a_row, a_step = t.a_step, b_step = t.b_step, ahead_step = t.ahead.step;
#pragma GCC unroll 2
  for (long k = t.k; k > 0; --k, a += a_step, b += b_step) {
    if (fetches) __builtin_prefetch(ahead, 0, 2), ahead += ahead_step;
    Vec<T> row[NV];
#pragma GCC unroll 8
    for (int j = 0; j < NV; ++j) row[j] = whole || j + 1 < NV ? load(b + j * L) : some.load(b + j * L);
#pragma GCC unroll 8
    for (int i = 0; i < MR; ++i) {
      const Vec<T> x = all<Vec<T>>(a[i * a_row]);
#pragma GCC unroll 8
      for (int j = 0; j < NV; ++j) c[i][j] = fma(x, row[j], c[i][j]);
    }
  }
}

template <class T, int MR, int NV> HD void one_tile(const Tile<T>& t) {
  typedef Vec<T> V;
  constexpr int L = kLanes<T>;
  V c[MR][NV];
#pragma GCC unroll 8
  for (int i = 0; i < MR; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < NV; ++j) {
      const T* p = t.start + i * t.start_row + j * L;
      c[i][j] = !t.start ? V{} : j + 1 < NV || t.last == L ? load(p) : load_first(p, t.last);
    }
  if (t.k >= kLongRun)  // C may come from far away: by the time it is written it is here
#pragma GCC unroll 8
    for (int i = 0; i < MR; ++i)
#pragma GCC unroll 8
      for (int j = 0; j < NV; ++j) __builtin_prefetch(t.c + i * t.c_row + j * L, 1);
  if (t.readable < L) multiply<false, false>(c, t);
  else if (t.ahead.data) multiply<true, true>(c, t);
  else multiply<true, false>(c, t);
  const V floor = all<V>(t.floor);
#pragma GCC unroll 8
  for (int i = 0; i < MR; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < NV; ++j) {
      T* p = t.c + i * t.c_row + j * L;
      const V out = c[i][j] < floor ? floor : c[i][j];
      if (j + 1 < NV || t.last == L) store(p, out);
      else store_first(p, out, t.last);
    }
}

template <class T, int MR, int NV> void tile(const Tile<T>& first) {
  Tile<T> t = first;
  for (;;) {
    one_tile<T, MR, NV>(t);
    if (--t.count == 0) return;
    t.a += t.a_tile, t.c += MR * t.c_row;
    if (t.start) t.start += MR * t.start_row;
    if (t.ahead.data) t.ahead.data += t.a_tile;
  }
}

template <class T> using TileKernel = void (*)(const Tile<T>&);

// at[rows - 1][vectors - 1]
template <class T, int rows, int vectors> struct TileTable {
  TileKernel<T> at[rows][vectors];
};
template <class T, int rows, int vectors, int... I>
constexpr TileTable<T, rows, vectors> tile_table(std::integer_sequence<int, I...>) {
  TileTable<T, rows, vectors> table{};
  ((table.at[I / vectors][I % vectors] = tile<T, I / vectors + 1, I % vectors + 1>), ...);
  return table;
}
template <class T> constexpr auto kTiles =
    tile_table<T, kTileRows, kTileVectors>(std::make_integer_sequence<int, kTileRows * kTileVectors>{});

// A single row of A has no rows to hide the adder's latency behind: its tile is as wide as the registers allow.
constexpr int kRowVectors = 8;
template <class T> constexpr auto kRowTiles =
    tile_table<T, 1, kRowVectors>(std::make_integer_sequence<int, kRowVectors>{});

}  // namespace
}  // namespace gpunet
