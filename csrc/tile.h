// The heart of a product: a tile of C, MR rows by NV vectors, that stays in registers while k runs.
#pragma once

#include "vec.h"

namespace gpunet {
namespace {

#if defined(__AVX512F__)
constexpr int kTileRows = 8, kTileVectors = 3;  // 24 of 32 registers
#else
constexpr int kTileRows = 6, kTileVectors = 2;  // 12 of 16
#endif
template <class T> constexpr int kTileCols = kTileVectors * kLanes<T>;

template <class T> struct Tile {
  const T* a;          // a[i * a_row + k * a_step]: read in place, transposed or not
  long a_row, a_step;
  const T* b;          // b[k * b_step + j]: the whole width can be read, the panel's padding included
  long b_step;
  const T* start;      // start[i * start_row + j]: C so far, or the bias (start_row 0); nullptr: zero
  long start_row;
  T* c;
  long c_row, k;
  int last;            // lanes of the last vector that exist
  T floor;             // what is less becomes this: 0 is ReLU; minus infinity leaves C, and NaN stays NaN in both
};

template <class T, int MR, int NV> void tile(const Tile<T>& t) {
  typedef Vec<T> V;
  constexpr int L = kLanes<T>;
  V c[MR][NV];
#pragma GCC unroll 8
  for (int i = 0; i < MR; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) {
      const T* p = t.start + i * t.start_row + j * L;
      c[i][j] = !t.start ? V{} : j + 1 < NV || t.last == L ? load(p) : load_first(p, t.last);
    }
  const T *a = t.a, *b = t.b;
  const long a_row = t.a_row, a_step = t.a_step, b_step = t.b_step;
  for (long k = t.k; k > 0; --k, a += a_step, b += b_step) {
    V row[NV];
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) row[j] = load(b + j * L);
#pragma GCC unroll 8
    for (int i = 0; i < MR; ++i) {
      const V x = all<V>(a[i * a_row]);
#pragma GCC unroll 4
      for (int j = 0; j < NV; ++j) c[i][j] = fma(x, row[j], c[i][j]);
    }
  }
  const V floor = all<V>(t.floor);
#pragma GCC unroll 8
  for (int i = 0; i < MR; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) {
      T* p = t.c + i * t.c_row + j * L;
      const V out = c[i][j] < floor ? floor : c[i][j];
      if (j + 1 < NV || t.last == L) store(p, out);
      else store_first(p, out, t.last);
    }
}

template <class T> using TileKernel = void (*)(const Tile<T>&);

// kTiles<T>.at[rows - 1][vectors - 1]
template <class T> struct TileTable {
  TileKernel<T> at[kTileRows][kTileVectors];
};
template <class T, int... I> constexpr TileTable<T> tile_table(std::integer_sequence<int, I...>) {
  TileTable<T> table{};
  ((table.at[I / kTileVectors][I % kTileVectors] = tile<T, I / kTileVectors + 1, I % kTileVectors + 1>), ...);
  return table;
}
template <class T> constexpr TileTable<T> kTiles =
    tile_table<T>(std::make_integer_sequence<int, kTileRows * kTileVectors>{});

}  // namespace
}  // namespace gpunet
