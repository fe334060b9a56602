// The pool of threads. Workers and caller take the parts of a job, each its own first, until there are none.
#include "threads.h"

#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <new>
#include <thread>

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace gpunet {
namespace {

constexpr int kLine = 64;
// How long a thread that waits stays awake: at first it looks and looks, then it lets others on to its core in between.
// Long enough for what a step does on one thread between two shared products: to wake a thread takes 5 to 50 us.
constexpr auto kSpin = std::chrono::microseconds(50), kAwake = std::chrono::microseconds(3000);

void relax() {
#if defined(__SSE2__)
  _mm_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// Wait for `ready` without sleeping, at most kAwake; the clock is read seldom because it costs more than a look.
template <class F> bool awake_until(F ready) {
  const auto begun = std::chrono::steady_clock::now();
  for (auto waited = begun - begun; waited < kAwake; waited = std::chrono::steady_clock::now() - begun) {
    if (waited > kSpin) sched_yield();
    for (int i = 0; i < 64; ++i) {
      if (ready()) return true;
      relax();
    }
  }
  return false;
}

class Pool {
 public:
  void run(Job job, const void* args, int parts) {
    std::unique_lock<std::mutex> mine(running_, std::try_to_lock);
    if (!mine.owns_lock() || !grow(parts - 1)) {
      for (int i = 0; i < parts; ++i) job(args, {i, parts});
      return;
    }
    job_ = job, args_ = args;
    left_.store(parts, std::memory_order_relaxed);
    const std::uint64_t ticket = ((ticket_.load() >> 16) + 1) << 16 | std::uint64_t(parts);
    ticket_.store(ticket);
    wake(parts - 1);
    take(ticket, 0);
    const auto done = [this] { return left_.load(std::memory_order_acquire) == 0; };
    while (!awake_until(done)) {}
  }

 private:
  // Do parts of a job until none is left. First a thread's own, so that it finds in its cache what it left there before;
  // then others', for one that the system does not let run holds up nobody, and the bits do not depend on who does what.
  // Once a part is taken the job cannot end, so it can be read. Who comes late finds no part of its round.
  void take(std::uint64_t ticket, int thread) {
    const std::uint64_t round = ticket >> 16;
    const int parts = int(ticket & 0xffff);
    for (int i = 0; i < parts; ++i) {
      const int part = (thread + i) % parts;
      std::uint64_t last = taken_[part].load();
      if (last >= round || !taken_[part].compare_exchange_strong(last, round)) continue;
      job_(args_, {part, parts});
      left_.fetch_sub(1, std::memory_order_release);
    }
  }

  // Sleep is entered by: say so, look once more, wait. run() opens the ticket first and looks for sleepers after, and
  // both are sequentially consistent, so one of the two sees the other.
  void live(int thread) {
    FlushDenormals flush;
    std::uint64_t seen = 0;
    const auto given = [&] { return ticket_.load() != seen; };
    for (;;) {
      if (!awake_until(given)) {
        std::unique_lock<std::mutex> lock(sleeping_);
        ++sleepers_;
        bell_.wait(lock, given);
        --sleepers_;
      }
      seen = ticket_.load();
      take(seen, thread);
    }
  }

  void wake(int workers) {
    if (!sleepers_.load()) return;
    std::lock_guard<std::mutex> lock(sleeping_);
    while (workers--) bell_.notify_one();
  }

  bool grow(int workers) try {
    for (; workers_ < workers; ++workers_)
      std::thread([this, thread = workers_ + 1] { live(thread); }).detach();  // they end with the process
    return true;
  } catch (const std::exception&) {  // no more threads to be had
    return false;
  }

  Job job_ = nullptr;
  const void* args_ = nullptr;
  alignas(kLine) std::atomic<std::uint64_t> ticket_{0};  // round << 16 | parts
  alignas(kLine) std::atomic<int> left_{0};              // parts that are not done
  alignas(kLine) std::atomic<std::uint64_t> taken_[kMostThreads] = {};  // the last round in which each part was
  std::mutex running_, sleeping_;
  std::condition_variable bell_;
  std::atomic<int> sleepers_{0};
  int workers_ = 0;
};

std::atomic<int> count{1};
Pool* pool = nullptr;

// The threads of the parent do not exist in a forked child: its pool is forgotten, not freed, and a new one begun.
void begin_pool() { pool = new Pool; }

const int registered = (begin_pool(), pthread_atfork(nullptr, nullptr, begin_pool));

struct Scratch {
  void* data = nullptr;
  std::size_t bytes = 0;
  ~Scratch() { std::free(data); }
};
thread_local Scratch own_scratch;

}  // namespace

int thread_count() { return count.load(std::memory_order_relaxed); }
void set_thread_count(int n) { count.store(n, std::memory_order_relaxed); }

void run_parts(Job job, const void* args, int parts) {
  if (parts <= 1) return job(args, {0, 1});
  (void)registered;
  pool->run(job, args, parts);
}

void* scratch(unsigned long bytes) {
  Scratch& s = own_scratch;
  if (s.bytes < bytes) {
    std::free(s.data);
    s.bytes = (bytes + 4095) / 4096 * 4096;
    s.data = std::aligned_alloc(4096, s.bytes);
    if (!s.data) std::abort();
  }
  return s.data;
}

#if defined(__SSE2__)
constexpr unsigned kFlush = 0x8040;  // flush to zero, denormals are zero
FlushDenormals::FlushDenormals(bool flush) : saved_(_mm_getcsr()) {
  _mm_setcsr(flush ? unsigned(saved_) | kFlush : unsigned(saved_) & ~kFlush);
}
FlushDenormals::~FlushDenormals() { _mm_setcsr(unsigned(saved_)); }
#elif defined(__aarch64__)
constexpr unsigned long kFlush = 1ul << 24;
FlushDenormals::FlushDenormals(bool flush) {
  __asm__ volatile("mrs %0, fpcr" : "=r"(saved_));
  __asm__ volatile("msr fpcr, %0" ::"r"(flush ? saved_ | kFlush : saved_ & ~kFlush));
}
FlushDenormals::~FlushDenormals() { __asm__ volatile("msr fpcr, %0" ::"r"(saved_)); }
#else
FlushDenormals::FlushDenormals(bool) : saved_(0) {}
FlushDenormals::~FlushDenormals() { (void)saved_; }
#endif

}  // namespace gpunet
