// The executor of recorded steps.
#include "program.h"

#include <chrono>

namespace gpunet {

// A part is worth a few microseconds, which it takes to hand it over and to wait for the last. What one thread does in
// less than about 20 is left to it: two hyperthreads of one core would gain nothing.
int parts_for(double work) {
  constexpr double kShared = 2.5e6, kPart = 3e5;
  if (work < kShared) return 1;
  return work / kPart < thread_count() ? int(work / kPart) : thread_count();
}

void Program::share_out() {
  for (Instruction& i : instructions_) i.parts = parts_for(i.work);
}

long Program::run(long steps) {
  std::lock_guard<std::mutex> mine(mutex_);
  return go(steps);
}

long Program::call(const std::vector<Move>& before, const std::vector<Move>& after) {
  std::lock_guard<std::mutex> mine(mutex_);
  for (const Move& move : before) move();
  const long done = go(1);
  for (const Move& move : after) move();
  return done;
}

long Program::go(long steps) try {
  FlushDenormals flush;
  share_out();
  for (done_ = 0; done_ < steps; ++done_)
    for (const Instruction& instruction : instructions_) instruction();
  return done_;
} catch (const EndOfRun&) {
  return done_;
}

std::vector<double> Program::profile(long steps) {
  using Clock = std::chrono::steady_clock;
  std::lock_guard<std::mutex> mine(mutex_);
  FlushDenormals flush;
  share_out();
  std::vector<double> seconds(size());
  for (long step = 0; step < steps; ++step)
    for (std::size_t i = 0; i < size(); ++i) {
      const auto began = Clock::now();
      instructions_[i]();
      seconds[i] += std::chrono::duration<double>(Clock::now() - began).count() / double(steps);
    }
  return seconds;
}

}  // namespace gpunet
