// The module gpunet._cpu: the choice of instruction set, the threads, and what the bindings share.
#include "bind.h"

#include <cstdint>
#include <vector>

#include "activations.h"

#if defined(GPUNET_AMX)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#if !defined(GPUNET_VERSION)
#define GPUNET_VERSION "unknown"
#endif

namespace gpunet {
namespace {

#if defined(GPUNET_AMX)
// of Linux 5.16: ARCH_GET_XCOMP_SUPP, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
constexpr long kArchSupported = 0x1021, kArchRequest = 0x1023, kTileData = 18;
#endif

bool supported(const Kernels& k) {
#if defined(GPUNET_AMX)
  if (&k == &amx_kernels) {
    constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24;  // of edx
    unsigned a, b, c, d;
    unsigned long known = 0;  // to the system
    return supported(avx512_kernels) && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & kBf16) && (d & kTile) &&
           syscall(SYS_arch_prctl, kArchSupported, &known) == 0 && (known >> kTileData & 1);
  }
#endif
#if defined(GPUNET_X86)
  if (&k == &avx512_kernels)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
  if (&k == &avx2_kernels) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
  return &k == &portable_kernels;
}

// Linux wants to be asked for tiles, since they take 8 KB of the stack of each signal.
bool granted([[maybe_unused]] const Kernels& k) {
#if defined(GPUNET_AMX)
  if (&k == &amx_kernels) return syscall(SYS_arch_prctl, kArchRequest, kTileData) == 0;
#endif
  return true;
}

std::vector<const Kernels*> find_usable() {
  std::vector<const Kernels*> found;
#if defined(GPUNET_X86)
  for (const Kernels* k : {&avx512_kernels, &avx2_kernels})
    if (supported(*k)) found.push_back(k);
#endif
  if (supported(portable_kernels)) found.push_back(&portable_kernels);
#if defined(GPUNET_AMX)
  if (supported(amx_kernels)) found.push_back(&amx_kernels);  // only if asked for: see amx.h
#endif
  return found;
}

const std::vector<const Kernels*> usable_kernels = find_usable();
const Kernels* chosen = usable_kernels.front();

py::list isas() {
  py::list names;
  for (const Kernels* k : usable_kernels) names.append(k->name);
  return names;
}

void set_isa(const std::string& name) {
  std::string known;
  for (const Kernels* k : usable_kernels) {
    if (name == k->name) {
      if (!granted(*k)) throw py::value_error("set_isa: the system does not grant \"" + name + "\" to this process");
      chosen = k;
      return;
    }
    known += (known.empty() ? "" : ", ") + std::string(k->name);
  }
  throw py::value_error("set_isa: \"" + name + "\" cannot be had on this processor; usable: " + known);
}

void set_threads(int n) {
  if (n < 1 || n > kMostThreads)
    throw py::value_error("set_threads: expected 1.." + std::to_string(kMostThreads) + ", got " + std::to_string(n));
  set_thread_count(n);
}

struct ActivationName { std::string_view name; bool needs_input; };
#define GPUNET_ROW(name) {#name, act::name::needs_input},
constexpr ActivationName kActivations[] = {GPUNET_ACTIVATIONS(GPUNET_ROW)};
#undef GPUNET_ROW

bool among(const Array* a, Arrays list) {
  for (const Array* b : list)
    if (a == b) return true;
  return false;
}

}  // namespace

const Kernels& kernels() { return *chosen; }

int find_activation(std::string_view name) {
  for (int i = 0; i < int(std::size(kActivations)); ++i)
    if (kActivations[i].name == name) return i;
  return -1;
}
bool needs_input(int act) { return kActivations[act].needs_input; }

Array::Array(py::handle h) {
  if (!py::isinstance<py::array>(h)) return;
  const auto a = py::reinterpret_borrow<py::array>(h);
  const py::dtype dtype = a.dtype();
  const char kind = dtype.kind();
  data = const_cast<void*>(a.data());
  rank = int(a.ndim()), size = a.size(), item = a.itemsize();
  shape = a.shape(), strides = a.strides();
  contiguous = a.flags() & py::array::c_style;
  writeable = a.writeable();
  plain = (a.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_) && dtype.byteorder() != '>';
  if (kind == 'f') type = item == 4 ? Type::float32 : item == 8 ? Type::float64 : Type::other;
  if (kind == 'b') type = Type::boolean;
  if (kind == 'u' && item == 1) type = Type::uint8;
  if (kind == 'i') type = item == 4 ? Type::int32 : item == 8 ? Type::int64 : Type::other;
}

bool Array::same_shape(const Array& other) const {
  if (rank != other.rank) return false;
  for (int i = 0; i < rank; ++i)
    if (shape[i] != other.shape[i]) return false;
  return true;
}

bool Array::is(std::initializer_list<py::ssize_t> sizes) const {
  return rank == int(sizes.size()) && std::equal(sizes.begin(), sizes.end(), shape);
}

bool Array::indexes() const {
  return plain && contiguous && rank == 1 && (type == Type::int32 || type == Type::int64);
}

std::string Array::text() const {
  std::string s = "(";
  for (int i = 0; i < rank; ++i) s += (i ? ", " : "") + std::to_string(shape[i]);
  return s + (rank == 1 ? ",)" : ")");
}

py::object declined() { return py::reinterpret_borrow<py::object>(Py_NotImplemented); }

Program*& recording() {
  static thread_local Program* program = nullptr;
  return program;
}

namespace {

template <class To, class From> To read(const void* at) { return To(*static_cast<const From*>(at)); }

template <class To> auto reader(const Array& a) -> To (*)(const void*) {
  if (!a.data || a.rank != 0 || !a.plain) return nullptr;
  if (a.type == Type::int64) return read<To, std::int64_t>;
  if (a.type == Type::int32) return read<To, int>;
  if constexpr (std::is_floating_point_v<To>) {
    if (a.type == Type::float64) return read<To, double>;
    if (a.type == Type::float32) return read<To, float>;
  }
  return nullptr;
}

double value_of(py::handle h, double) { return PyFloat_AsDouble(h.ptr()); }
std::int64_t value_of(py::handle h, std::int64_t) {
  const auto index = py::reinterpret_steal<py::object>(PyNumber_Index(h.ptr()));
  return index ? PyLong_AsLongLong(index.ptr()) : -1;
}

}  // namespace

template <class T> Scalar<T>::Scalar(py::handle h) {
  const Array a(h);
  read_ = reader<T>(a), at_ = a.data;
  if (read_) return;
  if (a.data && recording()) {
    PyErr_SetString(PyExc_NotImplementedError, "an array of this kind cannot be read again in each step");
    throw py::error_already_set();
  }
  value_ = value_of(h, T());
  if (value_ == -1 && PyErr_Occurred()) throw py::error_already_set();
}
template class Scalar<double>;
template class Scalar<std::int64_t>;

void shape_error(const char* kernel, std::initializer_list<std::pair<const char*, const Array*>> arrays) {
  std::string message = std::string(kernel) + ": shapes do not fit:";
  for (const auto& [name, array] : arrays) message += std::string(" ") + name + " " + array->text();
  throw py::value_error(message);
}

std::pair<const char*, const char*> Array::extent() const {
  const char *first = as<char>(), *last = first + item;
  if (contiguous || size == 0) return {first, first + size * item};
  for (int i = 0; i < rank; ++i) (strides[i] < 0 ? first : last) += (shape[i] - 1) * strides[i];
  return {first, last};
}

bool overlap_allowed(Arrays outs, Arrays ins, Arrays in_place) {
  const auto apart = [&](const Array* a, const Array* b) {
    const auto p = a->extent(), q = b->extent();
    return p.second <= q.first || q.second <= p.first;
  };
  for (const Array* out : outs) {
    for (const Array* in : ins)
      if (!apart(out, in) && !(among(in, in_place) && out->data == in->data && out->size == in->size && in->contiguous))
        return false;
    for (const Array* other : outs)
      if (other != out && !apart(out, other)) return false;
  }
  return true;
}

bool usable(Arrays outs, Arrays ins, Arrays views) {
  const Type type = (*outs.begin())->type;
  if (type != Type::float32 && type != Type::float64) return false;
  for (const Array* a : outs)
    if (a->type != type || !a->plain || !a->contiguous || !a->writeable) return false;
  for (const Array* a : ins)
    if (a->type != type || !a->plain || !(a->contiguous || among(a, views))) return false;
  return true;
}

}  // namespace gpunet

PYBIND11_MODULE(_cpu, m) {
  using namespace gpunet;
  m.doc() = "The C++ kernels: kernel(*outs, *ins, **settings); NotImplemented where one declines.";
  m.def("isas", &isas, "Names of the usable instruction sets: the one taken by default, then the others.");
  m.def("isa", [] { return kernels().name; }, "The instruction set in use.");
  m.def("set_isa", &set_isa, py::arg("name"));
  m.def("set_threads", &set_threads, py::arg("n"));
  m.def("threads", &thread_count);
  m.def("version", [] { return GPUNET_VERSION; });
  bind_chain(m);
  bind_columns(m);
  bind_elementwise(m);
  bind_kernels(m);
  bind_normalize(m);
  bind_program(m);
  bind_rows(m);
  bind_scaling(m);
  bind_text(m);
  bind_updates(m);
}
