// One fiber for each CUDA thread: what stands in CUDA's place when the host's compiler builds csrc/*.cu. For tests only.
//
// A block's threads run one after another, each until a barrier or a warp operation, in an order that the test chooses.
// Caught, with block and thread named: reads and writes beside global arrays (guard pages, and exact bounds for 16-byte
// accesses), writes to read-only arrays, shared memory out of bounds, read before it is written or raced for, barriers
// and warp operations that part of a block or warp does not reach. Not caught: races between blocks whose order makes
// no difference, missing fences, what -ftz and contraction to FMA do, and speed.
//
// With FIBERS_APART the scheduler is left out, and is linked: a library of this header alone has it.
#pragma once

#include <csetjmp>
#include <csignal>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__

struct dim3 { unsigned x = 1, y = 1, z = 1; };

namespace fibers {

enum class State : unsigned char { ready, in_warp, in_block, done };
enum class Meeting : unsigned char { none, barrier, shuffle };

constexpr unsigned kWarp = 32, kMost = 1024;         // threads of a warp, of a block
constexpr size_t kStack = 64 << 10, kPage = 4096;    // bytes
constexpr size_t kShared = 48 << 10, kCell = 4;      // of shared memory, of what is watched as one

struct Thread {
  dim3 index;
  unsigned number = 0;
  State state = State::ready;
  char* stack = nullptr;
#if defined(__x86_64__)
  void* at = nullptr;
#else
  ucontext_t context;
#endif
  Meeting meeting = Meeting::none;  // what it waits for in its warp, and where
  int line = 0;
  unsigned mask = 0, meetings = 0;
};

struct Slot { unsigned char bytes[16]; };
struct Warp { unsigned lanes = 0, waiting = 0, gone = 0, epoch = 1; Slot slots[2][kWarp]; };

// Who last wrote and who read one cell of shared memory, and after which barrier.
struct Touch { unsigned short thread = 0; unsigned block = 0, warp = 0; };
struct Cell { Touch write, read; bool many = false; bool strangers = false; };  // readers: several, and of several warps

struct Variable { const void* key; size_t offset, bytes; };

struct Block {
  dim3 index, size, grid;
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  alignas(16) unsigned char shared[kShared];
  Cell cells[kShared / kCell];
  std::vector<Variable> variables;
  size_t used = 0;
  unsigned waiting = 0, gone = 0, epoch = 1;
  int line = 0;
  std::string error;
  void (*body)(void*) = nullptr;
  void* argument = nullptr;
#if defined(__x86_64__)
  void* scheduler = nullptr;
#else
  ucontext_t scheduler;
#endif
};

#if defined(FIBERS_APART)
extern Block block;
extern Thread* thread;
extern std::vector<std::pair<const char*, size_t>> guarded;
#else
inline Block block;
inline Thread* thread = nullptr;
inline std::vector<std::pair<const char*, size_t>> guarded;          // arrays whose exact extent is known
#endif
inline std::vector<char*> stacks;                                    // free ones

inline std::string where() {
  char text[96];
  std::snprintf(text, sizeof text, " [block %u,%u,%u thread %u,%u,%u]", block.index.x, block.index.y, block.index.z,
                thread->index.x, thread->index.y, thread->index.z);
  return text;
}
[[noreturn]] inline void fail(const std::string& what) { throw std::runtime_error(what + where()); }
inline std::string at_line(const char* what, int line) { return std::string(what) + " at line " + std::to_string(line); }

// ---- switching

inline char* take_stack() {
  if (stacks.empty()) {
    char* memory = static_cast<char*>(mmap(nullptr, kStack + kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(memory, kPage, PROT_NONE);  // one that grows too far is a fault
    stacks.push_back(memory + kPage);
  }
  char* stack = stacks.back();
  stacks.pop_back();
  return stack;
}
inline void give_back(Thread& t) {
  if (t.stack) stacks.push_back(t.stack);
  t.stack = nullptr;
}

void leave();
inline void enter() {
  try {
    block.body(block.argument);
  } catch (const std::exception& e) {
    if (block.error.empty()) block.error = e.what();
  }
  thread->state = State::done;
  leave();
  std::abort();
}

#if defined(__x86_64__)
extern "C" void fibers_switch(void** save, void* load);
asm(R"(.text
.weak fibers_switch
.type fibers_switch,@function
fibers_switch:
  push %rbp; push %rbx; push %r12; push %r13; push %r14; push %r15
  mov %rsp,(%rdi)
  mov %rsi,%rsp
  pop %r15; pop %r14; pop %r13; pop %r12; pop %rbx; pop %rbp
  ret
)");
inline void leave() { fibers_switch(&thread->at, block.scheduler); }
inline void resume(Thread& t) {
  thread = &t;
  if (!t.stack) {
    t.stack = take_stack();
    void** top = reinterpret_cast<void**>(t.stack + kStack) - 8;  // six registers, the address to return to, alignment
    std::memset(top, 0, 64);
    top[6] = reinterpret_cast<void*>(enter);
    t.at = top;
  }
  fibers_switch(&block.scheduler, t.at);
}
#else
inline void leave() { swapcontext(&thread->context, &block.scheduler); }
inline void resume(Thread& t) {
  thread = &t;
  if (!t.stack) {
    t.stack = take_stack();
    getcontext(&t.context);
    t.context.uc_stack.ss_sp = t.stack;
    t.context.uc_stack.ss_size = kStack;
    t.context.uc_link = nullptr;
    makecontext(&t.context, enter, 0);
  }
  swapcontext(&block.scheduler, &t.context);
}
#endif

inline void run(Thread& t) {
  resume(t);
  if (t.state != State::done) return;
  give_back(t);
  ++block.gone;
  block.warps[t.number / kWarp].gone |= 1u << t.number % kWarp;
}

// ---- meeting: the block's barrier, and what a warp does together

inline void barrier(int line) {
  if (block.waiting && block.line != line)
    fail(at_line("__syncthreads", line) + " while others wait at line " + std::to_string(block.line));
  block.line = thread->line = line;
  thread->state = State::in_block;
  ++block.waiting;
  leave();
}

// Waits until all lanes of the mask are here; what each of them brought. Two tables in turn: a fast lane that comes to
// the next meeting does not touch what a slow one still reads.
inline const Slot* meet(Meeting meeting, unsigned mask, int line, const Slot& mine) {
  Warp& warp = block.warps[thread->number / kWarp];
  const unsigned me = thread->number % kWarp, first = thread->number - me;
  Slot* slots = warp.slots[thread->meetings++ % 2];
  if (!(mask >> me & 1)) fail(at_line("warp operation", line) + ": the own lane is not in the mask");
  mask &= warp.lanes;
  if (warp.gone & mask) fail(at_line("warp operation", line) + ": a lane of the mask has exited");
  for (unsigned lane = 0; lane < kWarp; ++lane) {
    if (!(warp.waiting & mask & 1u << lane)) continue;
    const Thread& other = block.threads[first + lane];
    if (other.meeting != meeting || other.line != line || other.mask != mask)
      fail(at_line("divergent warp operation", line) + " while a lane waits at line " + std::to_string(other.line));
  }
  slots[me] = mine;
  thread->meeting = meeting, thread->line = line, thread->mask = mask;
  warp.waiting |= 1u << me;
  if ((warp.waiting & mask) == mask) {
    for (unsigned lane = 0; lane < kWarp; ++lane)
      if (mask >> lane & 1) block.threads[first + lane].state = State::ready;
    warp.waiting &= ~mask;
    if (meeting == Meeting::barrier) ++warp.epoch;
  } else {
    thread->state = State::in_warp;
    leave();
  }
  return slots;
}

inline void open_barrier() {
  block.waiting = 0;
  ++block.epoch;
  for (Thread& t : block.threads) t.state = State::ready;
}

inline std::string deadlock() {
  std::string text = "deadlock:";
  int shown = 0;
  for (const Thread& t : block.threads)
    if (t.state != State::done && shown++ < 3)
      text += " thread " + std::to_string(t.number) + " waits at line " + std::to_string(t.line) + ";";
  return text;
}

enum Order { kWarpsReversed = 1, kLanesReversed = 2, kBlocksReversed = 4 };

inline void run_block(unsigned order) {
  const unsigned n = unsigned(block.threads.size()), warps = unsigned(block.warps.size());
  while (block.gone < n && block.error.empty()) {
    bool moved = false;
    for (unsigned k = 0; k < warps; ++k) {
      const unsigned warp = order & kWarpsReversed ? warps - 1 - k : k;
      for (bool again = true; again && block.error.empty();) {
        again = false;
        for (unsigned j = 0; j < kWarp && block.error.empty(); ++j) {
          const unsigned i = warp * kWarp + (order & kLanesReversed ? kWarp - 1 - j : j);
          if (i < n && block.threads[i].state == State::ready) run(block.threads[i]), again = moved = true;
        }
      }
    }
    if (!block.error.empty() || block.gone == n) break;
    if (block.waiting && block.waiting + block.gone == n) {
      if (!block.gone) open_barrier();
      else block.error = at_line("__syncthreads", block.line) + ": " + std::to_string(block.gone) + " threads of the block have exited";
    } else if (!moved) {
      block.error = deadlock();
    }
  }
  for (Thread& t : block.threads) give_back(t);
}

// ---- shared memory

inline size_t cell_of(const void* p) { return size_t(static_cast<const unsigned char*>(p) - block.shared) / kCell; }

// Of this thread, or of a lane of its warp before the warp's last barrier, or before the block's.
inline bool settled(const Touch& t) {
  return t.block != block.epoch || t.thread == thread->number ||
         (t.thread / kWarp == thread->number / kWarp && t.warp < block.warps[thread->number / kWarp].epoch);
}
inline Touch touch() {
  return {static_cast<unsigned short>(thread->number), block.epoch, block.warps[thread->number / kWarp].epoch};
}

inline void check_read(const void* p, size_t bytes) {
  for (size_t i = cell_of(p); i < cell_of(p) + (bytes + kCell - 1) / kCell; ++i) {
    Cell& c = block.cells[i];
    const std::string offset = std::to_string(i * kCell);
    if (!c.write.block) fail("read of uninitialised shared memory at offset " + offset);
    if (!settled(c.write)) fail("shared memory race: read at offset " + offset + " of what thread " + std::to_string(c.write.thread) + " wrote, no barrier between");
    const bool others = c.read.block == block.epoch && c.read.thread != thread->number;
    c.many = others || (c.many && c.read.block == block.epoch);
    c.strangers = (c.strangers && c.read.block == block.epoch) || (others && c.read.thread / kWarp != thread->number / kWarp);
    c.read = touch();
  }
}
inline void check_write(const void* p, size_t bytes) {
  for (size_t i = cell_of(p); i < cell_of(p) + (bytes + kCell - 1) / kCell; ++i) {
    Cell& c = block.cells[i];
    const bool read = c.read.block == block.epoch &&
                      (c.strangers || (c.many ? c.read.warp >= block.warps[thread->number / kWarp].epoch : !settled(c.read)));
    if (read || !settled(c.write)) fail("shared memory race: write at offset " + std::to_string(i * kCell) + ", touched by another thread, no barrier between");
    c.write = touch();
  }
}

template <class T> struct Element {
  T* p;
  operator T() const { check_read(p, sizeof(T)); return *p; }
  T operator=(T v) const { check_write(p, sizeof(T)); return *p = v; }
  T operator=(const Element& other) const { return *this = T(other); }
};
template <class T> struct Shared {
  T* p;
  size_t n;
  Element<T> operator[](size_t i) const {
    if (i >= n) fail("shared index " + std::to_string(static_cast<long long>(i)) + " of " + std::to_string(n));
    return {p + i};
  }
};
template <class T> Shared<T> shared(const void* key, size_t n) {
  static_assert(sizeof(T) % kCell == 0);
  for (const Variable& v : block.variables)
    if (v.key == key) return {reinterpret_cast<T*>(block.shared + v.offset), n};
  const size_t offset = (block.used + 15) / 16 * 16;
  if (offset + n * sizeof(T) > kShared) fail("more than 48 KiB of shared memory");
  block.used = offset + n * sizeof(T);
  block.variables.push_back({key, offset, n * sizeof(T)});
  return {reinterpret_cast<T*>(block.shared + offset), n};
}

// ---- global memory, 16 bytes at once

inline void check_16(const void* p, const char* what) {
  if (reinterpret_cast<uintptr_t>(p) % 16) fail(std::string(what) + ": address not a multiple of 16");
  if (guarded.empty()) return;
  for (const auto& [begin, bytes] : guarded)
    if (p >= begin && static_cast<const char*>(p) + 16 <= begin + bytes) return;
  fail(std::string(what) + ": beside the array");
}

// ---- kernels by name, and their launch

template <class T> std::string code() {
  if constexpr (std::is_pointer_v<T>) {
    using E = std::remove_pointer_t<T>;
    return std::string(std::is_const_v<E> ? "c" : "m") + code<std::remove_const_t<E>>().back();
  } else if constexpr (std::is_void_v<T>) return "v*";
  else if constexpr (std::is_same_v<T, float>) return "vf";
  else if constexpr (std::is_same_v<T, double>) return "vd";
  else if constexpr (std::is_same_v<T, bool>) return "v?";
  else if constexpr (std::is_integral_v<T> && sizeof(T) == 1) return "vB";
  else if constexpr (std::is_integral_v<T> && sizeof(T) == 4) return "vi";
  else if constexpr (std::is_integral_v<T> && sizeof(T) == 8) return "vq";
  else return "v*";  // a struct: any array will do
}

struct Kernel { std::string name, signature; void (*call)(void*, void**); void* function; };
inline std::vector<Kernel>& kernels() {
  static std::vector<Kernel> all;
  return all;
}
template <class... A, size_t... I> void call(void (*f)(A...), void** p, std::index_sequence<I...>) {
  f(*static_cast<A*>(p[I])...);
}
struct Export {
  template <class... A> Export(const char* name, void (*f)(A...)) {
    std::string signature;
    ((signature += code<A>()), ...);
    kernels().push_back({name, signature, [](void* function, void** p) {
      call(reinterpret_cast<void (*)(A...)>(function), p, std::index_sequence_for<A...>{});
    }, reinterpret_cast<void*>(f)});
  }
};

#if defined(FIBERS_APART)
std::string launch(const Kernel& kernel, dim3 grid, dim3 size, void** arguments, unsigned order);
#else
inline void prepare(dim3 size) {
  const unsigned n = size.x * size.y * size.z;
  block.threads.resize(n);
  block.warps.assign((n + kWarp - 1) / kWarp, Warp());
  for (unsigned w = 0; w < block.warps.size(); ++w)
    block.warps[w].lanes = n - w * kWarp >= kWarp ? ~0u : (1u << n % kWarp) - 1;
  for (unsigned i = 0; i < n; ++i) {
    Thread& t = block.threads[i];
    t.index = {i % size.x, i / size.x % size.y, i / size.x / size.y};
    t.number = i, t.state = State::ready, t.meetings = 0;
  }
  std::memset(block.shared, 0xff, block.used);  // NaN
  for (size_t i = 0; i <= block.used / kCell && i < kShared / kCell; ++i) block.cells[i] = Cell();
  block.variables.clear();
  block.used = 0, block.waiting = block.gone = 0, block.epoch = 1, block.error.clear();
}

inline sigjmp_buf fault;
inline void on_fault(int, siginfo_t* info, void*) {
  char text[80];
  std::snprintf(text, sizeof text, "global memory fault at %p", info->si_addr);
  block.error = text + where();
  siglongjmp(fault, 1);
}

struct FaultHandler {  // for as long as it lives
  static constexpr size_t kBytes = 64 << 10;
  stack_t stack{}, old_stack{};
  struct sigaction segv{}, bus{};
  FaultHandler() {
    static char memory[kBytes];
    stack.ss_sp = memory, stack.ss_size = kBytes;
    sigaltstack(&stack, &old_stack);
    struct sigaction ours{};
    ours.sa_sigaction = on_fault, ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigaction(SIGSEGV, &ours, &segv);
    sigaction(SIGBUS, &ours, &bus);
  }
  ~FaultHandler() {
    sigaction(SIGSEGV, &segv, nullptr);
    sigaction(SIGBUS, &bus, nullptr);
    sigaltstack(&old_stack, nullptr);
  }
};

struct Launched { const Kernel& kernel; void** arguments; };

inline std::string launch(const Kernel& kernel, dim3 grid, dim3 size, void** arguments, unsigned order) {
  const unsigned long threads = 1ul * size.x * size.y * size.z, count = 1ul * grid.x * grid.y * grid.z;
  if (!threads || threads > kMost || size.z > 64 || !count || grid.y > 65535 || grid.z > 65535 || grid.x > 0x7fffffffu)
    return "no such launch: grid " + std::to_string(grid.x) + "," + std::to_string(grid.y) + "," + std::to_string(grid.z) + ", block of " + std::to_string(threads);
  const FaultHandler handler;
  Launched launched{kernel, arguments};
  block.size = size, block.grid = grid, block.argument = &launched;
  block.body = [](void* p) {
    const Launched& l = *static_cast<Launched*>(p);
    l.kernel.call(l.kernel.function, l.arguments);
  };
  block.error.clear();
  if (sigsetjmp(fault, 1)) {
    for (Thread& t : block.threads) give_back(t);
    return block.error;
  }
  for (unsigned long k = 0; k < count && block.error.empty(); ++k) {
    const unsigned long i = order & kBlocksReversed ? count - 1 - k : k;
    block.index = {unsigned(i % grid.x), unsigned(i / grid.x % grid.y), unsigned(i / grid.x / grid.y)};
    prepare(size);
    run_block(order);
  }
  return block.error;
}
#endif

}  // namespace fibers

// ---- CUDA's own names

#define threadIdx (fibers::thread->index)
#define blockIdx (fibers::block.index)
#define blockDim (fibers::block.size)
#define gridDim (fibers::block.grid)

inline void __syncthreads(int line = __builtin_LINE()) { fibers::barrier(line); }
inline void __syncwarp(unsigned mask = ~0u, int line = __builtin_LINE()) {
  fibers::meet(fibers::Meeting::barrier, mask, line, {});
}
template <class T> T __shfl_xor_sync(unsigned mask, T v, int other, int line = __builtin_LINE()) {
  fibers::Slot mine{};
  std::memcpy(mine.bytes, &v, sizeof v);
  const unsigned source = (fibers::thread->number % fibers::kWarp) ^ unsigned(other);
  if (!(mask >> source & 1)) fibers::fail("shuffle from a lane that is not in the mask");
  std::memcpy(&v, fibers::meet(fibers::Meeting::shuffle, mask, line, mine)[source].bytes, sizeof v);
  return v;
}

// ---- what device.h has for CUDA

#define GPUNET_SHARED(T, name, n)                                    \
  const auto name = [] {                                             \
    static const char key = 0;                                       \
    return fibers::shared<T>(&key, n);                               \
  }()
#define FIBERS_JOIN(a, b) a##b
#define FIBERS_NAME(prefix, line) FIBERS_JOIN(prefix, line)
#if defined(GPUNET_SEVERAL)
#define GPUNET_KERNEL(...) FIBERS_EXPORT("gpunet::several<" #__VA_ARGS__ ">", &gpunet::several<__VA_ARGS__>)
#else
#define GPUNET_KERNEL(...) FIBERS_EXPORT(#__VA_ARGS__, &__VA_ARGS__)
#endif
#define FIBERS_EXPORT(name, ...) static const fibers::Export FIBERS_NAME(fibers_export_, __COUNTER__)(name, __VA_ARGS__);

namespace gpunet {
template <class T> struct Lanes { T at[16 / sizeof(T)]; };
template <class T> inline Lanes<T> load_16(const T* p) {
  Lanes<T> v;
  fibers::check_16(p, "16-byte read");
  std::memcpy(&v, p, sizeof v);
  return v;
}
template <class T> inline void store_16(T* p, const Lanes<T>& v) {
  fibers::check_16(p, "16-byte write");
  std::memcpy(p, &v, sizeof v);
}
}  // namespace gpunet

extern "C" {
inline __attribute__((used)) int fibers_count() { return int(fibers::kernels().size()); }
inline __attribute__((used)) const char* fibers_name(int i) { return fibers::kernels()[size_t(i)].name.c_str(); }
inline __attribute__((used)) const char* fibers_signature(int i) { return fibers::kernels()[size_t(i)].signature.c_str(); }
inline __attribute__((used)) int fibers_launch(int i, const unsigned* grid, const unsigned* size, void** arguments,
                                               unsigned order, char* error, int room) {
  const std::string text = fibers::launch(fibers::kernels()[size_t(i)], {grid[0], grid[1], grid[2]},
                                          {size[0], size[1], size[2]}, arguments, order);
  std::snprintf(error, size_t(room), "%s", text.c_str());
  return !text.empty();
}
#if !defined(FIBERS_APART)
// n bytes that end, but for padding to 16, at a page that nobody may touch, or that begin after one; filled with `fill`.
inline __attribute__((used)) char* fibers_allocate(size_t n, int left, int fill) {
  const size_t room = (n + fibers::kPage) / fibers::kPage * fibers::kPage;
  char* memory = static_cast<char*>(mmap(nullptr, room + 2 * fibers::kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  mprotect(memory + fibers::kPage, room, PROT_READ | PROT_WRITE);
  std::memset(memory + fibers::kPage, fill, room);
  char* p = memory + fibers::kPage + (left ? 0 : room - (n + 15) / 16 * 16);
  fibers::guarded.push_back({p, n});
  return p;
}
inline __attribute__((used)) void fibers_protect(char* p, size_t n) {
  char* page = reinterpret_cast<char*>(reinterpret_cast<uintptr_t>(p) / fibers::kPage * fibers::kPage);
  mprotect(page, size_t(p + n - page), PROT_READ);
}
inline __attribute__((used)) void fibers_free(char* p, size_t n, int left) {
  const size_t room = (n + fibers::kPage) / fibers::kPage * fibers::kPage;
  munmap(p - (left ? 0 : room - (n + 15) / 16 * 16) - fibers::kPage, room + 2 * fibers::kPage);
  for (size_t i = fibers::guarded.size(); i--;)
    if (fibers::guarded[i].first == p) fibers::guarded.erase(fibers::guarded.begin() + long(i));
}
#endif
}
