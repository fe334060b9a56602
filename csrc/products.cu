// Small matrix products on CUDA with what goes before and after them in a layer: a launch takes longer than their
// arithmetic, so the point is to need one. Large ones are cuBLASLt's.
//
// A block makes one tile of the output. Its slices (whole or half warps) share the sum over k: each takes 8 k's in
// turn, brings them to shared memory and multiplies without waiting for the others; their sums are added in order.
#include "activations.h"
#include "device.h"

namespace gpunet {

using Four = Lanes<float>;

constexpr int kSliceThreads(int side) { return side == 32 ? 32 : 16; }
constexpr int kDepth = 8;  // k's that a slice has in shared memory; 16 were slower
constexpr int kProductThreads = 256;

HD bool aligned_16(const void* p) { return reinterpret_cast<unsigned long long>(p) % 16 == 0; }
HD Four take(const float* p, long long count, bool aligned) {
  if (aligned && count >= 4) return load_16(p);
  Four v;
#pragma unroll
  for (int i = 0; i < 4; ++i) v.at[i] = i < count ? p[i] : 0.0f;
  return v;
}
HD void give(float* p, long long count, const Four& v) {
  if (count >= 4 && aligned_16(p)) return store_16(p, v);
#pragma unroll
  for (int i = 0; i < 4; ++i)
    if (i < count) p[i] = v.at[i];
}

// A factor as lines: rows of x, columns of y. Element (line, k) lies at p[line ld + k] or, across, at p[k ld + line].
template <int side, bool along_k> struct Panel {
  static constexpr int depth = kDepth, kThreads = kSliceThreads(side), kFours = side * depth / 4 / kThreads;
  static constexpr int kRoom = side * depth / 4 + (along_k ? side / 4 : 0);  // Fours in shared memory

  const float* p;
  long long ld;
  int lines, k_end;
  bool aligned;
  Four held[kFours];

  HD Panel(const float* data, long long ld, int first, int lines, int k_end)
      : p(data + first * (along_k ? ld : 1)), ld(ld), lines(lines - first), k_end(k_end),
        aligned(aligned_16(p) && ld % 4 == 0) {}

  // The k's from `k` on, as far as they are there, to registers.
  HD void fetch(int k, int thread) {
#pragma unroll
    for (int i = 0; i < kFours; ++i) {
      const int n = thread + i * kThreads;
      const int line = along_k ? n / (depth / 4) : n % (side / 4) * 4;
      const int at = k + (along_k ? n % (depth / 4) * 4 : n / (side / 4));
      const bool there = line < lines && at < k_end;
      const int count = !there ? 0 : along_k ? k_end - at : lines - line;
      held[i] = take(along_k ? p + line * ld + at : p + at * ld + line, count, aligned);
    }
  }
  // To shared memory. Lines that follow k are shifted by 16 bytes after every fourth, out of each other's banks.
  template <class S> HD void put(S& room, int start, int thread) {
#pragma unroll
    for (int i = 0; i < kFours; ++i) {
      const int n = thread + i * kThreads;
      room[start + (along_k ? n + n / depth : n)] = held[i];
    }
  }
  // Lines 4 group.. and k's 4 part..: result[line][k].
  template <class S> static HD void get(float (&result)[4][4], S& room, int start, int group, int part) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int at = along_k ? group * (depth + 1) + i * (depth / 4) + part : (4 * part + i) * (side / 4) + group;
      const Four v = room[start + at];
#pragma unroll
      for (int j = 0; j < 4; ++j) (along_k ? result[i][j] : result[j][i]) = v.at[j];
    }
  }
};

// What becomes of a product: `v` holds `count` (or more) elements of a row, columns j.. of `cols`, and goes to `at`.
struct Plain {
  static constexpr bool sums = false;
  static HD void finish(Four&, float*, bool, const float*, long long, int, int, float) {}
};
// act(v + bias), which is `third`; v + bias goes to `second` if it is kept.
template <class A> struct Forward {
  static constexpr bool sums = false;
  static HD void finish(Four& v, float* second, bool keeps, const float* third, long long at, int j, int count,
                        float alpha) {
    const Four bias = take(third + j, count, aligned_16(third + j));
#pragma unroll
    for (int i = 0; i < 4; ++i) v.at[i] += bias.at[i];
    if (keeps) give(second + at, count, v);
#pragma unroll
    for (int i = 0; i < 4; ++i) v.at[i] = A::value(v.at[i], alpha);
  }
};
// v act'(saved), which is `third`.
template <class A> struct Backward {
  static constexpr bool sums = false;
  static HD void finish(Four& v, float*, bool, const float* third, long long at, int, int count, float alpha) {
    const Four saved = take(third + at, count, aligned_16(third + at));
#pragma unroll
    for (int i = 0; i < 4; ++i) v.at[i] *= A::slope(saved.at[i], alpha);
  }
};
// The sums of y's columns go to `second`.
struct ColumnSums : Plain { static constexpr bool sums = true; };

// What the slices have found, added up in order.
template <int slices, class S> HD Four added(S& room, int at, int step) {
  Four v = room[at];
#pragma unroll
  for (int slice = 1; slice < slices; ++slice) {
    const Four w = room[at + slice * step];
#pragma unroll
    for (int i = 0; i < 4; ++i) v.at[i] += w.at[i];
  }
  return v;
}

// out [m][n] = x @ y, finished by E; grid (tiles along n, along m, products in a stack).
template <int side, bool x_along_k, bool y_along_k, class E>
GPUNET_RUN void GPUNET_AT_MOST(kProductThreads)
    product(float* out, float* second, const float* x, const float* y, const float* third, int m, int n, int k,
            long long x_ld, long long y_ld, long long x_next, long long y_next, long long third_next, float alpha,
            const Control*) {
  using X = Panel<side, x_along_k>;
  using Y = Panel<side, y_along_k>;
  constexpr int threads = X::kThreads, slices = kProductThreads / threads, blocks = side / 16, fours = side / 4;
  constexpr int depth = kDepth;
  constexpr int both = X::kRoom + Y::kRoom, room_for = slices * (both > side * fours ? both : side * fours);
  GPUNET_SHARED(Four, room, room_for);
  const int slice = threadIdx.x / threads, thread = threadIdx.x % threads, row = thread / 4, column = thread % 4;
  const int first_row = block_index().y * side, first_column = block_index().x * side;
  const int at_x = slice * both, at_y = at_x + X::kRoom;
  const bool summing = E::sums && block_index().y == 0;
  third += block_index().z * third_next;  // a bias for each product of the stack
  X xs(x + block_index().z * x_next, x_ld, first_row, m, k);
  Y ys(y + block_index().z * y_next, y_ld, first_column, n, k);
  float total[blocks][4][4] = {}, sums[blocks][4] = {};

  xs.fetch(slice * depth, thread), ys.fetch(slice * depth, thread);
  for (int at = 0; at < k; at += slices * depth) {
    xs.put(room, at_x, thread), ys.put(room, at_y, thread);
    __syncwarp();
    const int next = at + (slices + slice) * depth;
    xs.fetch(next, thread), ys.fetch(next, thread);
#pragma unroll
    for (int part = 0; part < depth / 4; ++part) {
      float a[4][4], b[4][4];
      X::get(a, room, at_x, row, part);
#pragma unroll
      for (int block = 0; block < blocks; ++block) {
        Y::get(b, room, at_y, column + 4 * block, part);
#pragma unroll
        for (int l = 0; l < 4; ++l)
#pragma unroll
          for (int j = 0; j < 4; ++j) {
#pragma unroll
            for (int i = 0; i < 4; ++i) total[block][i][j] += a[i][l] * b[j][l];
            if (summing) sums[block][j] += b[j][l];
          }
      }
    }
    __syncwarp();
  }

  __syncthreads();
#pragma unroll
  for (int block = 0; block < blocks; ++block)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float* v = total[block][i];
      room[(slice * side + 4 * row + i) * fours + column + 4 * block] = Four{{v[0], v[1], v[2], v[3]}};
    }
  __syncthreads();
  const int t = threadIdx.x, j = first_column + t % fours * 4;
  if (t < side * fours && first_row + t / fours < m && j < n) {
    Four v = added<slices>(room, t, side * fours);
    const long long at = (static_cast<long long>(block_index().z) * m + first_row + t / fours) * n + j;
    E::finish(v, second, second != out, third, at, j, n - j, alpha);
    give(out + at, n - j, v);
  }
  if (!E::sums) return;
  __syncthreads();
  if (summing && row == 0) {
#pragma unroll
    for (int block = 0; block < blocks; ++block) {
      const float* v = sums[block];
      room[slice * fours + column + 4 * block] = Four{{v[0], v[1], v[2], v[3]}};
    }
  }
  __syncthreads();
  if (summing && t < fours && j < n)
    give(second + static_cast<long long>(block_index().z) * n + j, n - j, added<slices>(room, t, fours));
}

}  // namespace gpunet

// clang-format off
#define GPUNET_ROW(...)                                             \
  GPUNET_KERNEL(gpunet::product<16, __VA_ARGS__>)                   \
  GPUNET_KERNEL(gpunet::product<32, __VA_ARGS__>)
GPUNET_ROW(true, true, gpunet::Plain)
GPUNET_ROW(true, false, gpunet::Plain)
GPUNET_ROW(false, true, gpunet::Plain)
GPUNET_ROW(false, false, gpunet::Plain)
GPUNET_ROW(false, false, gpunet::ColumnSums)
#define GPUNET_LAYERS(name)                                         \
  GPUNET_ROW(true, false, gpunet::Forward<gpunet::act::name>)       \
  GPUNET_ROW(true, true, gpunet::Backward<gpunet::act::name>)
GPUNET_ACTIVATIONS(GPUNET_LAYERS)
#undef GPUNET_LAYERS
#undef GPUNET_ROW
// clang-format on
