#include "kernels.h"

#include <algorithm>
#include <type_traits>

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

// The widest vectors that the machine has; picked when the program is loaded.
#if defined(__x86_64__) && defined(__GLIBC__)
#define WIDEST __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define WIDEST
#endif
#define INLINE inline __attribute__((always_inline))
// A source may be the output itself, element by element.
#if defined(__clang__)
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define INDEPENDENT _Pragma("GCC ivdep")
#endif

namespace shm {

namespace {

// Few enough to stay in the nearest cache.
constexpr size_t BLOCK = 1024;

template <typename T>
using Sum = std::conditional_t<std::is_same_v<T, c10::Half> || std::is_same_v<T, c10::BFloat16>, float, T>;

template <Op op, typename A>
INLINE A joined(A a, A b) {
  if constexpr (op == Op::PRODUCT) return static_cast<A>(a * b);
  else if constexpr (op == Op::MIN) return a < b || a != a ? a : b;
  else if constexpr (op == Op::MAX) return a > b || a != a ? a : b;
  else return static_cast<A>(a + b);
}

template <Op op, typename T>
INLINE void run(T* out, const T* const* sources, int ranks, size_t count) {
  using A = Sum<T>;
  A sums[BLOCK];
  for (size_t begin = 0; begin < count; begin += BLOCK) {
    const size_t n = std::min(BLOCK, count - begin);
    const T* const first = sources[0] + begin;
    if (ranks == 1) {
      for (size_t i = 0; i < n; ++i) sums[i] = static_cast<A>(first[i]);
    } else {
      const T* const second = sources[1] + begin;
      INDEPENDENT
      for (size_t i = 0; i < n; ++i) sums[i] = joined<op, A>(static_cast<A>(first[i]), static_cast<A>(second[i]));
    }
    for (int rank = 2; rank < ranks; ++rank) {
      const T* const next = sources[rank] + begin;
      INDEPENDENT
      for (size_t i = 0; i < n; ++i) sums[i] = joined<op, A>(sums[i], static_cast<A>(next[i]));
    }
    T* const to = out + begin;
    if constexpr (op == Op::AVG) {
      const A number = static_cast<A>(ranks);
      INDEPENDENT
      for (size_t i = 0; i < n; ++i) to[i] = static_cast<T>(sums[i] / number);
    } else {
      INDEPENDENT
      for (size_t i = 0; i < n; ++i) to[i] = static_cast<T>(sums[i]);
    }
  }
}

template <typename T>
INLINE void pick(Op op, void* out, const void* const* sources, int ranks, size_t count) {
  T* const to = static_cast<T*>(out);
  const T* const* const from = reinterpret_cast<const T* const*>(sources);
  switch (op) {
    case Op::SUM: return run<Op::SUM>(to, from, ranks, count);
    case Op::AVG: return run<Op::AVG>(to, from, ranks, count);
    case Op::PRODUCT: return run<Op::PRODUCT>(to, from, ranks, count);
    case Op::MIN: return run<Op::MIN>(to, from, ranks, count);
    case Op::MAX: return run<Op::MAX>(to, from, ranks, count);
  }
}

#define OF(T) \
  WIDEST void reduce_##T(Op op, void* out, const void* const* sources, int ranks, size_t count)
using Half = c10::Half;
using BFloat16 = c10::BFloat16;
OF(float) { pick<float>(op, out, sources, ranks, count); }
OF(double) { pick<double>(op, out, sources, ranks, count); }
OF(Half) { pick<Half>(op, out, sources, ranks, count); }
OF(BFloat16) { pick<BFloat16>(op, out, sources, ranks, count); }
OF(uint8_t) { pick<uint8_t>(op, out, sources, ranks, count); }
OF(int8_t) { pick<int8_t>(op, out, sources, ranks, count); }
OF(int16_t) { pick<int16_t>(op, out, sources, ranks, count); }
OF(int32_t) { pick<int32_t>(op, out, sources, ranks, count); }
OF(int64_t) { pick<int64_t>(op, out, sources, ranks, count); }
#undef OF

// A sum of truths is whether one holds, a product whether all do.
Op of_bools(Op op) { return op == Op::SUM || op == Op::MAX ? Op::MAX : Op::MIN; }

} // namespace

size_t width(Type type) {
  switch (type) {
    case Type::F64: case Type::I64: return 8;
    case Type::F32: case Type::I32: return 4;
    case Type::F16: case Type::BF16: case Type::I16: return 2;
    default: return 1;
  }
}

const char* name(Type type) {
  constexpr const char* names[] = {"Float", "Double", "Half", "BFloat16", "Byte", "Char", "Short", "Int", "Long", "Bool"};
  const auto at = static_cast<size_t>(type);
  return at < std::size(names) ? names[at] : "an unknown type";
}

const char* name(Op op) {
  constexpr const char* names[] = {"sum", "mean", "product", "min", "max"};
  const auto at = static_cast<size_t>(op);
  return at < std::size(names) ? names[at] : "an unknown reduction";
}

void reduce(Type type, Op op, void* out, const void* const* sources, int ranks, size_t count) {
  switch (type) {
    case Type::F32: return reduce_float(op, out, sources, ranks, count);
    case Type::F64: return reduce_double(op, out, sources, ranks, count);
    case Type::F16: return reduce_Half(op, out, sources, ranks, count);
    case Type::BF16: return reduce_BFloat16(op, out, sources, ranks, count);
    case Type::U8: return reduce_uint8_t(op, out, sources, ranks, count);
    case Type::I8: return reduce_int8_t(op, out, sources, ranks, count);
    case Type::I16: return reduce_int16_t(op, out, sources, ranks, count);
    case Type::I32: return reduce_int32_t(op, out, sources, ranks, count);
    case Type::I64: return reduce_int64_t(op, out, sources, ranks, count);
    case Type::BOOL: return reduce_uint8_t(of_bools(op), out, sources, ranks, count);
  }
}

} // namespace shm
