// What a CSV file's text is looked at for, while another library parses it.
#include "bind.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace gpunet {
namespace {

using Bits = std::uint64_t;  // of 64 bytes, the first in the lowest

Bits equal(const unsigned char* text, unsigned char letter) {
  Bits bits = 0;
#if defined(__SSE2__)
  const __m128i all = _mm_set1_epi8(char(letter));
  for (int i = 0; i < 64; i += 16) {
    const __m128i some = _mm_loadu_si128(reinterpret_cast<const __m128i*>(text + i));
    bits |= Bits(unsigned(_mm_movemask_epi8(_mm_cmpeq_epi8(some, all)))) << i;
  }
#else
  for (int i = 0; i < 64; ++i) bits |= Bits(text[i] == letter) << i;
#endif
  return bits;
}

// The same as `_quotes` of gpunet/data/csv.py, which says what it is about; text has one byte more than is looked at.
py::tuple quotes(const py::bytes& text, unsigned char delimiter, bool inside, bool after_edge) {
  char* data;
  py::ssize_t size;
  if (PyBytes_AsStringAndSize(text.ptr(), &data, &size)) throw py::error_already_set();
  const auto* at = reinterpret_cast<const unsigned char*>(data);
  const auto is_edge = [=](unsigned char c) { return c == '"' || c == '\n' || c == '\r' || c == delimiter; };
  Bits odd = 0, ends = 0;
  {
    py::gil_scoped_release release;
    for (const auto* end = at + (size - 1) / 64 * 64; at < end; at += 64) {
      const Bits quote = equal(at, '"'), line = equal(at, '\n') | equal(at, '\r');
      const Bits edge = quote | line | equal(at, delimiter);
      Bits within = quote;  // after each byte, by the number of quotes so far: odd or even
      for (int step = 1; step < 64; step *= 2) within ^= within << step;
      if (inside) within = ~within;
      const Bits before = edge << 1 | Bits(after_edge), after = edge >> 1 | Bits(is_edge(at[64])) << 63;
      odd |= (quote & within & ~before) | (quote & ~within & ~after);
      ends |= line & within;
      inside = within >> 63, after_edge = edge >> 63;
    }
  }
  return py::make_tuple(inside, after_edge, odd != 0, ends != 0);
}

}  // namespace

void bind_text(py::module_& m) {
  using py::arg;
  m.def("quotes", &quotes, arg("text"), arg("delimiter"), arg("inside"), arg("after_edge"),
        "Of text, but its last bytes: whether it ends inside quotes, after an edge; whether a quote is odd, a line ends inside.");
}

}  // namespace gpunet
