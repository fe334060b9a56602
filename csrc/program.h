// A recorded step: calls of kernels on fixed memory, to be run many times. Nothing is allocated while it runs.
#pragma once

#include <cstring>
#include <memory>
#include <mutex>
#include <type_traits>
#include <vector>

#include "threads.h"

namespace gpunet {

struct Nothing {
  template <class Args> void operator()(Args&) const {}
};

// One call of a kernel. `prepare` goes before it, on one thread: it reads what may change from step to step into the
// arguments, and throws where the kernel must not run.
template <class Args, class Prepare = Nothing> struct Call {
  Kernel<Args> kernel;
  Args args;
  Prepare prepare;

  static void begin(void* self) {
    Call& call = *static_cast<Call*>(self);
    call.prepare(call.args);
  }
  static void run(const void* self, Part part) {
    const Call& call = *static_cast<const Call*>(self);
    call.kernel(call.args, part);
  }
};

// The threads that so much work (about: floating-point operations) is worth.
int parts_for(double work);

// Thrown by what a step is made of: the run ends, and this step does not count.
struct EndOfRun {};

// Bytes that move before or after a step.
struct Move {
  void* to;
  const void* from;
  std::size_t bytes;
  void operator()() const { std::memcpy(to, from, bytes); }
};

class Program {
 public:
  template <class Args, class Prepare> void add(const Call<Args, Prepare>& call, double work) {
    using C = Call<Args, Prepare>;
    constexpr bool prepared = !std::is_same_v<Prepare, Nothing>;
    instructions_.push_back({&C::run, prepared ? &C::begin : nullptr, std::make_shared<C>(call), work, 1});
  }
  std::size_t size() const { return instructions_.size(); }
  void shrink(std::size_t size) { instructions_.resize(size); }

  // How many whole steps were done, also when another exception than EndOfRun leaves it: see done().
  long run(long steps);

  // One step between the moves before and after it, all in one turn: threads that share a program do not meet in it.
  long call(const std::vector<Move>& before, const std::vector<Move>& after);
  long done() const { return done_; }

  // Seconds of each instruction in one step, a mean over `steps`.
  std::vector<double> profile(long steps);

 private:
  struct Instruction {
    Job job;
    void (*begin)(void*);
    std::shared_ptr<void> call;
    double work;
    int parts;

    void operator()() const {
      if (begin) begin(call.get());
      if (parts == 1) job(call.get(), {0, 1});
      else run_parts(job, call.get(), parts);
    }
  };
  long go(long steps);
  void share_out();  // among the threads that there are now

  std::vector<Instruction> instructions_;
  std::mutex mutex_;
  long done_ = 0;
};

}  // namespace gpunet
