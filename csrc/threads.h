// The pool of threads: they spin for a moment, then sleep. A forked child starts with a pool of its own.
#pragma once

#include "kernels.h"

namespace gpunet {

constexpr int kMostThreads = 256;

int thread_count();
void set_thread_count(int n);

using Job = void (*)(const void* args, Part part);

// job(args, {i, parts}) for each i, on the caller and on the pool; done when this returns. When the pool is busy with
// another caller, the caller does all parts itself: the bits are the same.
void run_parts(Job job, const void* args, int parts);

// Denormals count as zero (or not) while this lives; the caller's setting comes back after.
class FlushDenormals {
 public:
  explicit FlushDenormals(bool flush = true);
  ~FlushDenormals();
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;

 private:
  unsigned long saved_;
};

}  // namespace gpunet
