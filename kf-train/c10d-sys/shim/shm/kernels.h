// How values of several ranks become one.
#pragma once

#include <cstddef>
#include <cstdint>

namespace shm {

enum class Type : uint32_t { F32, F64, F16, BF16, U8, I8, I16, I32, I64, BOOL };
enum class Op : uint32_t { SUM, AVG, PRODUCT, MIN, MAX };

// Bytes of an element.
size_t width(Type type);
// As libtorch names it.
const char* name(Type type);
const char* name(Op op);

// Reduces each of `count` elements over the sources, in their order; `out` may be one of them. Half and bfloat16 are
// reduced as floats and rounded once. What is not a number stays so in every reduction.
void reduce(Type type, Op op, void* out, const void* const* sources, int ranks, size_t count);

} // namespace shm
