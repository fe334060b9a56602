// Rows picked, copied, added up and dropped: gather, pick, one_hot, copy, scatter_add, dropout.
#pragma once

#include "loops.h"
#include "philox.h"

namespace gpunet {
namespace {

// A long row goes by whole vectors, the last of which lies over the one before: memcpy is slow where x is not aligned.
// Which row comes next no processor can guess, so it is asked for meanwhile.
HD void copy_row(char* out, const char* x, long bytes, const char* next) {
  if (bytes < kBytes) {
    __builtin_memcpy(out, x, static_cast<unsigned long>(bytes));
    return;
  }
  for (long i = 0; i < bytes - kBytes; i += kBytes) {
    __builtin_memcpy(out + i, x + i, kBytes);
    __builtin_prefetch(next + i);
  }
  __builtin_memcpy(out + bytes - kBytes, x + bytes - kBytes, kBytes);
}

// Rows of a length known to the compiler are copied without a call.
template <int known> HD void gather_rows(const Gather& g, Span s) {
  const long bytes = known ? known : g.row_bytes, ahead = 1 + 2048 / (bytes + 1);
  for (long i = s.begin; i < s.end; ++i)
    copy_row(g.out + i * bytes, g.x + g.rows[i] * bytes, bytes,
             g.x + g.rows[i + ahead < s.end ? i + ahead : i] * bytes);
}

inline void gather(const Gather& g, Part part) {
  const Span s = share(g.n, 1, part);
  if (g.row_bytes == 4) gather_rows<4>(g, s);
  else if (g.row_bytes == 8) gather_rows<8>(g, s);
  else gather_rows<0>(g, s);
}

inline void gather_two(const GatherTwo& g, Part part) { gather(g.first, part), gather(g.second, part); }

inline void pick(const Pick& p, Part part) {
  const Span s = share(p.rows, 64, part);
  for (long i = s.begin; i < s.end; ++i)
    __builtin_memcpy(p.out + i * p.item, p.x + (i * p.cols + p.columns[i]) * p.item,
                     static_cast<unsigned long>(p.item));
}

template <class T> void one_hot(const OneHot<T>& h, Part part) {
  const Span s = share(h.rows, 64, part);
  each_vector<T>(s.begin * h.cols, s.end * h.cols, [&](auto lanes, long j) { lanes.store(h.out + j, Vec<T>{}); });
  for (long i = s.begin; i < s.end; ++i) h.out[i * h.cols + h.columns[i]] = T(1);
}

inline void copy(const Copy& c, Part part) {
  const bool by_row = c.rows >= part.count;
  const Span rows = by_row ? share(c.rows, 1, part) : Span{0, c.rows};
  const Span bytes = by_row ? Span{0, c.bytes} : share(c.bytes, 64, part);
  for (long i = rows.begin; i < rows.end; ++i)
    __builtin_memcpy(c.out + i * c.out_row + bytes.begin, c.x + i * c.x_row + bytes.begin,
                     static_cast<unsigned long>(bytes.end - bytes.begin));
}

// Some rows of out at a time: turned as vectors go, or in squares, so that both sides stay in the nearest cache.
template <class T> void walk_items(const Walk& w, Part part) {
  constexpr long kSide = 16;
  const long rows = w.n[2], cols = w.n[3], groups = ceil_div(rows, kSide);
  const Span s = share(w.n[0] * w.n[1] * groups, 1, part);
  for (long g = s.begin; g < s.end; ++g) {
    const long k = g / groups, top = g % groups * kSide, n = least(kSide, rows - top);
    T* out = reinterpret_cast<T*>(w.out) + (k * rows + top) * cols;
    const char* x = w.x + k / w.n[1] * w.step[0] + k % w.n[1] * w.step[1] + top * w.step[2];
    if (w.step[2] == w.item && w.step[3] % w.item == 0) {
      flip(out, cols, reinterpret_cast<const T*>(x), w.step[3] / w.item, n, cols);
      continue;
    }
    for (long j = 0; j < cols; j += kSide)
      for (long a = 0; a < n; ++a)
        for (long b = j; b < least(j + kSide, cols); ++b)
          out[a * cols + b] = *reinterpret_cast<const T*>(x + a * w.step[2] + b * w.step[3]);
  }
}

inline void walk(const Walk& w, Part part) {
  if (w.item == 4) walk_items<float>(w, part);  // whatever they are: vectors move bits
  else walk_items<double>(w, part);
}

// Each part owns columns and adds the rows in their order, so there is nothing to race for.
template <class T> void scatter_add(const ScatterAdd<T>& a, Part part) {
  const Span s = share<T>(a.width, part);
  for (long i = 0; i < a.length; ++i)
    each_vector<T>(s.begin, s.end, [&](auto lanes, long j) { lanes.store(a.out + i * a.width + j, Vec<T>{}); });
  for (long i = 0; i < a.n; ++i) {
    T* out = a.out + a.rows[i] * a.width;
    const T* g = a.g + i * a.width;
    each_vector<T>(s.begin, s.end, [&](auto lanes, long j) {
      lanes.store(out + j, lanes.load(out + j) + lanes.load(g + j));
    });
  }
}

// The random words of kDrawn elements, in order: a vector of Philox blocks, whose words come one vector each and are laid
// side by side. An element is kept if (word >> 8) 2^-24, as in rng.py, is at least the rate.
constexpr int kBlocks = kBytes / 8, kDrawn = 4 * kBlocks;

// The next blocks, and the order in which their words lie: made once, for what is set lane by lane goes through memory.
struct Blocks {
  VecU64 number, left, right;
  HD explicit Blocks(long first) {
    for (int i = 0; i < kBlocks; ++i) {
      number[i] = static_cast<unsigned long long>(first / 4 + i);
      left[i] = static_cast<unsigned long long>(i % 2 * kBlocks + i / 2), right[i] = left[i] + kBlocks / 2;
    }
  }
};

HD void draw(Blocks& b, unsigned long long seed, unsigned stream, unsigned step, unsigned* words) {
  const Words<VecU64> w = philox(b.number, seed, stream, step);
  b.number += static_cast<unsigned long long>(kBlocks);
  const VecU64 even = w.w0 | w.w1 << 32, odd = w.w2 | w.w3 << 32;
#if defined(__clang__)
  for (int i = 0; i < kBlocks; ++i) {
    const unsigned long long pair[2] = {even[i], odd[i]};
    __builtin_memcpy(words + 4 * i, pair, 16);
  }
#else
  const VecU64 both[2] = {__builtin_shuffle(even, odd, b.left), __builtin_shuffle(even, odd, b.right)};
  __builtin_memcpy(words, both, sizeof both);
#endif
}

// A vector at a time, which is loaded before out is written: out may be x.
template <class T> HD void keep(T* out, const T* x, const unsigned* words, unsigned least_kept, T scale) {
  Vec<T> v, kept;
  __builtin_memcpy(&v, x, sizeof v);
  for (int i = 0; i < kLanes<T>; ++i) kept[i] = words[i] >> 8 >= least_kept ? v[i] * scale : T(0);
  __builtin_memcpy(out, &kept, sizeof kept);
}

// some(first, words, least_kept) for kDrawn elements at a time, then one(i, kept) for each that is left.
template <class Some, class One> HD void each_drawn(const Draw& d, Part part, Some some, One one) {
  const Span s = share(d.n, 256, part);
  const float level = float(d.rate) * 0x1p24f;  // of the 2^24 numbers so many are below the rate
  const unsigned least_kept = unsigned(level) + (float(unsigned(level)) < level);
  unsigned words[kDrawn];
  Blocks blocks(s.begin);
  long first = s.begin;
  for (; first + kDrawn <= s.end; first += kDrawn) {
    draw(blocks, d.seed, d.stream, d.step, words);
    some(first, words, least_kept);
  }
  if (first == s.end) return;
  draw(blocks, d.seed, d.stream, d.step, words);
  for (int i = 0; first + i < s.end; ++i) one(first + i, words[i] >> 8 >= least_kept);
}

template <class T> void dropout(const Dropout<T>& d, Part part) {
  const T scale = T(1 / (1 - d.draw.rate));
  each_drawn(
      d.draw, part,
      [&](long first, const unsigned* words, unsigned least_kept) {
        for (int i = 0; i < kDrawn; i += kLanes<T>)
          keep(d.out + first + i, d.x + first + i, words + i, least_kept, scale);
      },
      [&](long i, bool kept) { d.out[i] = kept ? d.x[i] * scale : T(0); });
}

inline void dropout_keep(const DropoutKeep& d, Part part) {
  each_drawn(
      d.draw, part,
      [&](long first, const unsigned* words, unsigned least_kept) {
        for (int i = 0; i < kDrawn; ++i) d.out[first + i] = words[i] >> 8 >= least_kept;
      },
      [&](long i, bool kept) { d.out[i] = kept; });
}

}  // namespace
}  // namespace gpunet
