// The pool of threads. Each worker has a mailbox of its own, so a job wakes only the workers it has parts for.
#include "threads.h"

#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace gpunet {
namespace {

constexpr auto kSpin = std::chrono::microseconds(50);
std::atomic<int> awake{0};  // how many StayAwake live

void relax() {
#if defined(__SSE2__)
  _mm_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// Wait for `ready` without sleeping, at most kSpin; the clock is read seldom because it costs more than a look.
template <class F> bool spin_until(F ready) {
  const auto end = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 64; ++i) {
      if (ready()) return true;
      relax();
    }
  } while (std::chrono::steady_clock::now() < end);
  return false;
}

struct Task {
  Job job;
  const void* args;
  Part part;
};

class Worker {
 public:
  Worker() { std::thread([this] { live(); }).detach(); }  // a worker never ends before the process does

  void give(const Task& task) {
    task_ = task;
    busy_.store(true);
    if (!asleep_.load()) return;
    std::lock_guard<std::mutex> lock(mutex_);
    awake_.notify_one();
  }

  void wait() const {
    const auto done = [this] { return !busy_.load(std::memory_order_acquire); };
    while (!spin_until(done)) sched_yield();
  }

 private:
  // Sleep is entered by: say so, look once more, wait. give() stores first and looks for sleepers after, and both are
  // sequentially consistent, so one of the two sees the other.
  void next() {
    const auto given = [this] { return busy_.load(); };
    do {
      if (spin_until(given)) return;
    } while (awake.load(std::memory_order_relaxed) > 0);
    std::unique_lock<std::mutex> lock(mutex_);
    asleep_.store(true);
    awake_.wait(lock, given);
    asleep_.store(false);
  }

  void live() {
    FlushDenormals flush;
    for (;;) {
      next();
      task_.job(task_.args, task_.part);
      busy_.store(false, std::memory_order_release);
    }
  }

  Task task_{};
  std::atomic<bool> busy_{false}, asleep_{false};
  std::mutex mutex_;
  std::condition_variable awake_;
};

class Pool {
 public:
  void run(Job job, const void* args, int parts) {
    std::unique_lock<std::mutex> mine(mutex_, std::try_to_lock);
    if (!mine.owns_lock() || !grow(parts - 1)) {
      for (int i = 0; i < parts; ++i) job(args, {i, parts});
      return;
    }
    for (int i = 1; i < parts; ++i) workers_[i - 1]->give({job, args, {i, parts}});
    job(args, {0, parts});
    for (int i = 1; i < parts; ++i) workers_[i - 1]->wait();
  }

 private:
  bool grow(int workers) try {
    while (int(workers_.size()) < workers) workers_.push_back(std::make_unique<Worker>());
    return true;
  } catch (const std::exception&) {  // no more threads to be had
    return false;
  }

  std::mutex mutex_;
  std::vector<std::unique_ptr<Worker>> workers_;
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

StayAwake::StayAwake(bool wanted) : wanted_(wanted) { awake += wanted_; }
StayAwake::~StayAwake() { awake -= wanted_; }

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
