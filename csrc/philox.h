// Philox4x32-10 (Salmon et al., SC 2011), for the host and for CUDA: the generator of gpunet/rng.py.
//
// Each of the four words of a block sits in the low half of a 64-bit number; U may be a vector of them. What is in the
// high halves on the way is read by nobody, so that they are cleared once, at the end.
#pragma once

#include "num.h"

namespace gpunet {

HD unsigned long long product32(unsigned long long a, unsigned long long b) {
  return (a & 0xffffffffu) * (b & 0xffffffffu);
}

// The upper half of each number, in its lower one.
template <class U> HD U upper(U x) { return x >> 32; }

template <class U> struct Words { U w0, w1, w2, w3; };

// The four words of block `block` of the draw (seed, stream, step).
template <class U> HD Words<U> philox(U block, unsigned long long seed, unsigned stream, unsigned step) {
  const unsigned long long low = 0xffffffffu;
  const U a = U{} + 0xD2511F53ull, b = U{} + 0xCD9E8D57ull;
  U c0 = block & low, c1 = block >> 32, c2 = U{} + (unsigned long long)step, c3 = U{} + (unsigned long long)stream;
  unsigned k0 = (unsigned)seed, k1 = (unsigned)(seed >> 32);
#if defined(__CUDACC__)
#pragma unroll
#endif
  for (int round = 0; round < 10; ++round) {
    const U p0 = product32(c0, a), p1 = product32(c2, b);
    c0 = upper(p1) ^ c1 ^ (unsigned long long)k0;
    c2 = upper(p0) ^ c3 ^ (unsigned long long)k1;
    c1 = p1;
    c3 = p0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {c0 & low, c1 & low, c2 & low, c3 & low};
}

// Of an element's 65,536 numbers, dropout keeps those from this one on.
HD unsigned short least_kept(double rate) {
  const unsigned least = (unsigned)(rate * 65536 + 0.5);
  return (unsigned short)(least < 65535 ? least : 65535);
}

}  // namespace gpunet
