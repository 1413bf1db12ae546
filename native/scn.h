// What every kernel source shares. SCN_ISA is the instruction set the file is being compiled for.
#ifndef SCN_H
#define SCN_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define INLINE static inline __attribute__((always_inline))
#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
// An exported function's name ends in the instruction set: scn_or_pool_avx2.
#define KERNEL(name) JOIN(scn_##name, SCN_ISA)

typedef int64_t i64;

#endif
