// What every kernel source shares. SCN_ISA is the instruction set the file is being compiled for.
#ifndef SCN_H
#define SCN_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
// Always inlined, so that constant arguments make loops of known length and the compiler drops what they rule out. The
// sanitizers check every copy of a function: with one of each they compile in a fraction of the time.
#ifdef SCN_SANITIZE
#define INLINE static inline __attribute__((unused))
#else
#define INLINE static inline __attribute__((always_inline))
#endif
#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
// An exported function's name ends in the instruction set: scn_or_pool_avx2.
#define KERNEL(name) JOIN(scn_##name, SCN_ISA)

typedef int64_t i64;

#endif
