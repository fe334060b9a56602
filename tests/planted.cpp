// The pool of threads under a sanitizer: a job as jobs should be, and faults that must be reported.
#include <sched.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <vector>

#include "threads.h"

using gpunet::Part;

struct Work {
  std::vector<long> each;
  long all = 0;
  std::atomic<int> begun{0};
};

// A part begins when another has, on another thread then. Relaxed: whatever else happens is in no order by this.
Work& begin(const void* args) {
  Work& work = *static_cast<Work*>(const_cast<void*>(args));
  work.begun.fetch_add(1, std::memory_order_relaxed);
  for (long tries = 1L << 24; tries && work.begun.load(std::memory_order_relaxed) < 2; --tries) sched_yield();
  return work;
}

void apart(const void* args, Part part) { begin(args).each[part.index] += part.index; }
void race(const void* args, Part part) { begin(args).all += part.index; }
void bounds(const void* args, Part part) { begin(args).each.data()[part.index + part.index / (part.count - 1)] += 1; }

int main(int, char** argv) {
  constexpr int parts = 4;
  const auto job = !std::strcmp(argv[1], "race") ? race : !std::strcmp(argv[1], "bounds") ? bounds : apart;
  for (int round = 0; round < 100; ++round) {
    Work work{std::vector<long>(parts)};
    gpunet::run_parts(job, &work, parts);
    for (int i = 0; i < parts && job == apart; ++i)
      if (work.each[i] != i) return std::puts("a part was not done once"), 1;
  }
  std::puts("done");
}
